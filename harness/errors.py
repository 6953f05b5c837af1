"""One tree of errors. Each message is one line: what was given, what is allowed, what to do next.

The command line prints the message of a :class:`HarnessError` after ``harness: error:`` and exits with code 2; any other exception is a
defect of ours and keeps its traceback. What a plugin raises comes out as a :class:`PluginFault`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """A mistake that the user can mend, or a resource that failed. It is shown as one line, without a traceback.

    The line is ``message; allowed: …; hint``. Programs and tests look at the fields, people read the line.

    Args:
        message: what is wrong, with what was given in it.
        given: the value that was given, as it was given; None where there is no single one.
        allowed: what may be given instead: a text, or the values; shown behind ``allowed:``.
        hint: what to do next, shown last.
    """

    def __init__(self, message: str, *, given: object = None, allowed: object = None, hint: str = "") -> None:
        self.message, self.given, self.allowed, self.hint = message, given, allowed, hint
        super().__init__(message)

    def __str__(self) -> str:
        parts = [self.message]
        if self.allowed is not None:
            several = isinstance(self.allowed, Iterable) and not isinstance(self.allowed, str)
            parts.append(f"allowed: {', '.join(map(str, self.allowed)) if several else self.allowed}")  # type: ignore[call-overload]
        return "; ".join([*parts, self.hint] if self.hint else parts)


class UnknownNameError(HarnessError):
    """A name (plugin, task, option, label, …) that does not exist.

    Args:
        kind: what the name should have been, e.g. ``"labeler"``.
        name: what was given.
        known: the names that exist.
        hint: what to do next, appended to the message.

    Attributes:
        near: the known name that was probably meant, or None.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        self.near = next(iter(difflib.get_close_matches(name, self.known, n=1, cutoff=0.5)), None)
        message = f"unknown {kind} {name!r:.200}"
        if self.near:
            message += f"; did you mean {self.near!r}?"
        message += f" Known: {', '.join(sorted(self.known)) or 'none'}." if self.near else f"; known: {', '.join(sorted(self.known)) or 'none'}."
        super().__init__(message + (f" {hint}" if hint else ""), given=name)
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class OptionError(HarnessError):
    """An option of a plugin, task or command that is unknown, out of bounds or of the wrong type."""


class PluginError(HarnessError):
    """A plugin that cannot be registered: a duplicate name, a misspelt hook, an object that breaks the contract."""


class PluginFault(PluginError):
    """What a plugin raised while it was called, or its attempt to end the program; its own error is the ``__cause__``."""


class TaskError(HarnessError):
    """A task file that does not validate, or that asks for something that is not there."""


class ModelError(HarnessError):
    """A subject model that cannot be found, fetched, verified or loaded."""


class DictionaryError(HarnessError):
    """A sparse autoencoder that cannot be loaded, or that does not belong to the model or layer it is used with."""


class DataError(HarnessError):
    """A corpus or instruction set that is missing, empty or malformed."""


class JudgeError(HarnessError):
    """A judge that cannot work: a missing key, an unknown rubric."""


class StoreError(HarnessError):
    """The run store or the artifact cache cannot be read or written (full or read-only disk, foreign file)."""


class EngineError(HarnessError):
    """The generation engine was given an edit, decoding option or prompt that it cannot run."""
