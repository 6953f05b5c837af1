"""Calls into plugins: what one prints goes to standard error, what it raises is one error that names it, and what it sets is put back.

Standard output belongs to the command's result. An error of :mod:`harness.errors` is the plugin's own word to the user and passes; so do Ctrl-C
and a full disk. Anything else that comes out of a plugin, an attempt to end the program among it, is a :class:`PluginFault`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from harness.errors import HarnessError, PluginError, PluginFault
from harness.plugin.process_state import ProcessState, restore_signals

_T = TypeVar("_T")
_LONGEST = 400
"""Letters of a plugin's own message that are shown."""
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
_HINT = "leave it out, or tell its author (HARNESS_TRACEBACK=1 shows where it happened)"


@dataclass(frozen=True)
class PluginName:
    """Which plugin is called, for messages.

    Attributes:
        kind: ``labeler``, ``judge``, …; ``plugin`` for a whole module.
        name: the name that it registered.
        distribution: to which it belongs.
        module: in which it is defined; tells its own lines of a traceback from others.
        code: the digest of its source, see :func:`harness.plugin.source.source_digest`; empty where that is not known.
        inputs: returns the digests of the files that its options name, by the text of their paths; None where it has no options.
    """

    kind: str
    name: str
    distribution: str
    module: str = ""
    code: str = ""
    inputs: Callable[[], Mapping[str, str]] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} of {self.distribution}"


class Kept:
    """The process' state as a plugin left it between two steps of what it returned: given back to it before the next one."""

    def __init__(self) -> None:
        self.state: ProcessState | None = None


_OURS: list[ProcessState] = []
"""The state from before each call that is going on, the outermost first."""


@contextmanager
def calling(who: PluginName, call: str, kept: Kept | None = None, ours: ProcessState | None = None) -> Iterator[None]:
    """Within the context a plugin is at work; not to be held open over a ``yield``.

    Args:
        who: the plugin.
        call: what it is asked for, e.g. ``label``.
        kept: where its own state is kept until the next step; None: the call is a whole.
        ours: the process' state, where the caller knows it: of many calls in a row, each of which puts it back.

    Raises:
        PluginFault: from whatever it raises.
    """
    if ours is None:
        ours = ProcessState.capture(signals=kept is None)  # a handler may stay while results come one by one: Ctrl-C waits for what is under way
    _OURS.append(ours)
    try:
        if kept is not None and kept.state is not None:
            kept.state.restore()
        with faults(who, call):
            try:
                yield
            finally:  # before anything else is called: the plugin may have left hardly any
                sys.setrecursionlimit(ours.recursion_limit)
    finally:
        if kept is not None:
            kept.state = ProcessState.capture(signals=False)
        _OURS.pop()
        ours.restore()


@contextmanager
def faults(who: PluginName, call: str) -> Iterator[None]:
    """Within the context, what a plugin raises becomes one error that names it, and what it prints goes to standard error.

    The process' state is left alone: for calls that cost next to nothing.
    """
    parent = os.getpid()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
            _end_child(parent)
    except (HarnessError, KeyboardInterrupt):
        _end_child(parent)
        raise
    except OSError as error:
        _end_child(parent)
        if error.errno in _FULL_DISK:  # says what to do already
            raise
        raise fault(who, call, error) from error
    except BaseException as error:  # sys.exit() and its like among them
        _end_child(parent)
        raise fault(who, call, error) from error


def _end_child(parent: int) -> None:
    """End a copy of the process that a plugin has made and that comes out of its call: it would write the same run once more."""
    if os.getpid() != parent:
        os._exit(1)


@contextmanager
def own_state() -> Iterator[None]:
    """Within the context the process is as it was before the plugin that is at work was called: for what the core computes and keeps meanwhile."""
    if not _OURS:
        yield
        return
    theirs = ProcessState.capture()
    _OURS[0].restore()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        theirs.restore()


def steps(
    who: PluginName,
    call: str,
    make: Callable[[], Iterable[_T]],
    check: Callable[[], None] = lambda: None,
    kept_as: Callable[[_T], _T] = lambda item: item,
) -> Iterator[_T]:
    """Yield what a plugin returns one by one; each step is a call of its own, since a generator does its work when it is asked on.

    Args:
        who: the plugin.
        call: what it is asked for.
        make: asks it.
        check: called after each step, before its item is handed on.
        kept_as: makes of each item what is handed on.

    Raises:
        PluginFault: from what it raises.
        PluginError: for a value that cannot be iterated.
    """
    kept, handlers = Kept(), ProcessState.capture().signals
    with calling(who, call, kept):
        iterator = iter(iterable(who, call, make()))
    try:
        while True:
            with calling(who, call, kept):
                try:
                    item = kept_as(next(iterator))
                except StopIteration:
                    break
            check()
            yield item
        check()
    except GeneratorExit:
        # given up; where nobody closes it, this comes whenever memory is tidied, perhaps in the middle of something else
        if isinstance(iterator, Generator):
            with calling(who, call, kept):
                iterator.close()
        raise
    except BaseException:
        restore_signals(handlers)
        raise
    restore_signals(handlers)


def blamed(names: Sequence[PluginName], call: str, items: Iterator[_T]) -> Iterator[_T]:
    """Yield ``items`` of the core's own work, in which values that plugins made are at work: what one of these raises is its plugin's.

    Args:
        names: the plugins whose values are at work.
        call: which values, e.g. ``an edit``.
        items: what is made with them.

    Settings of the process are put back after each item.

    Raises:
        PluginFault: from an error that comes out of the code of one of the plugins; any other passes.
    """
    while True:
        ours = ProcessState.capture(signals=False)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                item = next(items)
        except (StopIteration, HarnessError, KeyboardInterrupt) as error:
            if isinstance(error, StopIteration):
                return
            raise
        except BaseException as error:
            who = next((who for who in names if _place(who, error.__traceback__)), None)
            if who is None:
                raise
            raise fault(who, call, error) from error
        finally:
            ours.restore()
        yield item


def iterable(who: PluginName, call: str, found: Any) -> Iterable[Any]:
    """Return what a plugin returned, where it can be iterated. Raises PluginError for None and its like."""
    if not isinstance(found, Iterable) or isinstance(found, str | bytes):
        message = f"{who}: {call} returned {'None' if found is None else f'a value of class {type(found).__name__}'}"
        raise PluginError(message, given=found, allowed="a sequence of answers", hint="see docs/plugins.md")
    return found


def fault(who: PluginName, call: str, error: BaseException) -> PluginFault:
    """Return the one error for what a plugin raised: names plugin, call, what was wrong and where in the plugin."""
    said = one_line(error)
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]}…"
    what = f"tried to end the program in {call} ({said})" if isinstance(error, SystemExit) else f"failed in {call}: {said}"
    return PluginFault(f"{who} {what}{_place(who, error.__traceback__)}", given=error, hint=_HINT)


def _place(who: PluginName, trace: TracebackType | None) -> str:
    """Return the innermost of the plugin's own lines, as ``(file.py, line 7)``; empty where there is none."""
    found, top = "", who.module.partition(".")[0]
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__") or "")
        if top and name.partition(".")[0] == top:
            found = f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return found


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its class and message."""
    return " ".join("".join(traceback.format_exception_only(error)).split())
