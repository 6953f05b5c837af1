"""The command line. One short file a command; nothing heavy is imported before a command needs it."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import nullcontext

import click

from harness.cli import signals, standard_streams
from harness.cli.quiet import hide_warnings, quiet_libraries
from harness.cli.streams import result_stream
from harness.cli.threads import end as end_process
from harness.errors import HarnessError, PluginError, PluginFault
from harness.files.progress_lines import say
from harness.files.version import VERSION

TRACEBACK = "HARNESS_TRACEBACK"
"""Environment variable: if set, the traceback of what a plugin raised is shown."""

COMMANDS = {
    "eval": "harness.cli.evaluate",
    "label": "harness.cli.label",
    "steer": "harness.cli.steer",
    "judge": "harness.cli.judge",
    "runs": "harness.cli.runs",
    "profile": "harness.cli.profile",
    "view": "harness.cli.view",
    "power": "harness.cli.power",
    "report": "harness.cli.report",
    "leaderboard": "harness.cli.leaderboard",
    "plugins": "harness.cli.plugins",
    "tasks": "harness.cli.tasks",
    "models": "harness.cli.models",
    "engines": "harness.cli.engines",
    "sae": "harness.cli.sae",
    "data": "harness.cli.data",
    "doctor": "harness.cli.doctor",
}


class LazyGroup(click.Group):
    """Imports a command's file when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        import importlib

        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        from harness.errors import UnknownNameError

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UnknownNameError("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(VERSION, message="harness %(version)s")
def cli() -> None:
    """Compare labelers, steerers, detectors, metrics and judges of sparse-autoencoder features on equal terms.

    \b
    harness eval --labeler calibf1 --steerer sae-clamp     the main job, on the built-in task 'demo': find features
                                                           by calibrated F1, hold each at an activation
    harness steer "PROMPT" --feature 7 --strength 0.5,1    what the model says with and without a feature
    harness plugins                                        what can be combined
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs a command, and turns a user's mistake into one line and exit code 2.

    Defects keep their traceback, and so does a plugin that was asked for and cannot be loaded, above its line. What a plugin raises while it works
    is one line; ``HARNESS_TRACEBACK=1`` shows its traceback, too.
    """
    quiet_libraries()
    if arguments is None:  # the process is ours
        standard_streams.prepare()
        signals.end_gently()
        hide_warnings()
        sys.excepthook = lambda _, error, __: _print_trace(error)
    try:
        with result_stream() if arguments is None else nullcontext():
            code = cli.main(args=None if arguments is None else list(arguments), prog_name="harness", standalone_mode=False)
            sys.stdout.flush()
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except HarnessError as error:
        if isinstance(error, PluginError) and error.__cause__ is not None and (not isinstance(error, PluginFault) or os.environ.get(TRACEBACK)):
            _print_trace(error.__cause__)  # the plugin's own error: its author needs to know where
        code = _fail(str(error))
    except click.exceptions.NoSuchOption as error:
        where = f"`{_path(error)} --help`"
        what_next = f"did you mean {error.possibilities[0]}? See {where}." if error.possibilities else f"see {where}"
        code = _fail(f"no such option: {error.option_name}; {what_next}")
    except click.UsageError as error:
        code = _fail(f"{error.format_message().rstrip('.')}; see `{_path(error)} --help`")
    except click.ClickException as error:
        code = _fail(error.format_message())
    except (KeyboardInterrupt, click.Abort) as stop:
        code = _interrupted(stop)
    except BrokenPipeError:  # the reader (head, less) has gone; nothing is left to say
        standard_streams.discard("stdout")
        code = 0
    except RuntimeError as error:
        if "home directory" not in str(error):  # pathlib's, for a ~ of a user who has none
            raise
        code = _fail("this user has no home folder; give paths without ~, and name a folder for the cache in HARNESS_CACHE")
    except OSError as error:
        if signals.received() is not None:  # the terminal has gone, and took the standard streams along
            sys.exit(_interrupted(error))
        if error.errno not in (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EPERM, errno.EFBIG, errno.ENOTDIR):
            raise
        code = _fail(f"{error.filename or 'the disk'}: {error.strerror}; what was computed before is kept; make room or choose another --out")
    code = code if isinstance(code, int) else 0
    if code == 0 and standard_streams.output_is_lost():
        code = _fail("standard output is closed, so the result could not be shown; what was computed is kept")
    if arguments is None:
        end_process(code)
    sys.exit(code)


def _interrupted(stop: BaseException) -> int:
    """Say so, and return the exit code: 130 after Ctrl-C, 128 and the signal's number after another."""
    signal = signals.received()
    why = "" if signal is None else f" by {signal.name}"
    told = next((error for error in (stop, stop.__cause__) if isinstance(error, signals.Kept)), None)
    say(f"harness: interrupted{why}; {told or 'what was computed is kept, and the same command goes on from there'}")
    return 130 if signal is None else 128 + signal


def _path(error: click.UsageError) -> str:
    return error.ctx.command_path if error.ctx else "harness"


def _print_trace(error: BaseException) -> None:
    """A traceback without keys."""
    from harness.chat.providers.keys import redact

    say(redact("".join(traceback.format_exception(error))).rstrip("\n"))


def _fail(message: str) -> int:
    from harness.chat.providers.keys import redact

    say(f"harness: error: {redact(' '.join(message.split()))}")
    return 2
