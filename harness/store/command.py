"""The command line that repeats a run, or goes on with it, from what its manifest says was asked for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.types import Json

_PLUGINS = {"labelers": "--labeler", "steerers": "--steerer", "detectors": "--detector", "metrics": "--metric"}
_OPTIONS = {"labeler_options": "-L", "steerer_options": "-S", "detector_options": "-D", "metric_options": "-M", "judge_options": "-J"}


def eval_command(command: Mapping[str, Json], out: Path = Path(".")) -> list[str]:
    """Return the words of the ``harness eval`` that repeats a run.

    Args:
        command: of the manifest (:func:`harness.run.manifest.command_of`).
        out: where ``runs/`` lies, as it is to be given.

    Returns:
        The words; none where the manifest does not say what was asked for, as that of an older harness.
    """
    if not command.get("task"):
        return []
    asked, choices = dict(command.get("asked") or {}), dict(command.get("choices") or {})
    files = [word for path in command.get("plugins") or () for word in ("--plugin", str(path))]
    words = ["harness", "eval", "--task", str(command["task"]), *files, *_asked(asked)]
    for name, value in choices.items():
        if value not in (None, (), [], "") and not (name == "seed" and value == 0):
            for one in value if isinstance(value, list | tuple) else (value,):
                words += [f"--{name.replace('_', '-')}", _text(one)]
    words += ["--suppress"] if asked.get("suppress") else []
    words += ["--side-effects"] if asked.get("side_effects") else []
    words += ["--controls", "full"] if asked.get("full_controls") else []
    words += [] if asked.get("controls", True) else ["--no-controls"]
    return words if out == Path(".") else [*words, "--out", str(out)]


def judge_command(run: str, judge: str, options: Mapping[str, Json], out: Path = Path(".")) -> list[str]:
    """Return the words of the ``harness judge`` that goes on with a judge's ratings of a stored run, or collects them."""
    words = ["harness", "judge", run, "--judge", judge]
    for option, value in options.items():
        words += ["-J", f"{option}={_text(value)}"]
    return words if out == Path(".") else [*words, "--out", str(out)]


def _asked(asked: Mapping[str, Json]) -> Iterator[str]:
    """Yield what is said of plugins: their names, options for all of a kind, strengths, the judge."""
    for name, flag in _PLUGINS.items():
        for plugin in asked.get(name) or ():
            yield from (flag, str(plugin))
    if asked.get("judge"):
        yield from ("--judge", str(asked["judge"]))
    for name, flag in _OPTIONS.items():
        for option, value in dict(asked.get(name) or {}).items():
            yield from (flag, f"{option}={_text(value)}")
    for steerer, grid in dict(asked.get("strengths") or {}).items():
        numbers = ",".join(_text(strength) for strength in grid)
        yield from ("--strengths", f"{steerer}={numbers}" if steerer else numbers)


def _text(value: Json) -> str:
    """Return a value as it is written on a command line; a script may have given one that is no text."""
    if isinstance(value, str):
        return value
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def shell_lines(words: Sequence[str], width: int) -> list[str]:
    r"""Return a command in lines of at most ``width`` characters that a shell takes as one: all but the last end in ``\``.

    An option stays with its value, and a word that is longer than a line has one to itself.
    """
    parts: list[str] = []
    for word in words:
        quoted = shlex.quote(word)
        if parts and parts[-1].startswith("-") and " " not in parts[-1] and not word.startswith("-"):
            parts[-1] += f" {quoted}"
        else:
            parts.append(quoted)
    lines = [""]
    for part in parts:
        joined = f"{lines[-1]} {part}".strip() if len(lines) == 1 else f"{lines[-1]} {part}"
        if len(joined) <= width - 2 or not lines[-1].strip():
            lines[-1] = joined
        else:
            lines.append(f"  {part}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
