"""A worker's own part, the same in a process and in a Ray actor: it opens the engine, does pieces of work, and says what went wrong."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import EngineError, HarnessError

if TYPE_CHECKING:
    from torch import Tensor

    from harness.engine.spreading.packing import Packed
    from harness.engine.spreading.recipe import Opener, Recipe


@dataclass(frozen=True)
class Facts:
    """What a worker is, for people and for the driver's comparison.

    Attributes:
        host: the machine's name.
        device: where it computes.
        threads: of its arithmetic on the CPU.
        code: digest of the code that makes texts (:func:`harness.plugin.source.core_digest`).
        pid: its process.
    """

    host: str
    device: str
    threads: int
    code: str
    pid: int


@dataclass(frozen=True)
class Failure:
    """What a worker raised.

    Attributes:
        text: its class and message, one line.
        trace: its traceback.
        spoilt: whether its device may be unusable from now on, as a GPU is after some errors; another worker takes its place.
        module: of one of our errors, where its class is defined; empty for any other.
        kind: the class' name.
        message: see :class:`harness.errors.HarnessError`, as the others.
        given: a plain value, or its text.
        allowed: the same.
        hint: the same.
    """

    text: str
    trace: str
    spoilt: bool = False
    module: str = ""
    kind: str = ""
    message: str = ""
    given: object = None
    allowed: object = None
    hint: str = ""

    @classmethod
    def of(cls, error: BaseException, spoilt: bool = False) -> Failure:
        """Return an error as a value that can be sent."""
        trace = "".join(traceback.format_exception(error))
        text = " ".join("".join(traceback.format_exception_only(error)).split())[:400]
        if not isinstance(error, HarnessError):
            return cls(text, trace, spoilt)
        kind = type(error)
        return cls(text, trace, spoilt, kind.__module__, kind.__qualname__, error.message, _plain(error.given), _plain(error.allowed), error.hint)

    def error(self) -> HarnessError | None:
        """Return the user's error as it was raised; None where it is none."""
        if not self.module:
            return None
        found: Any = importlib.import_module(self.module)
        for part in self.kind.split("."):
            found = getattr(found, part, None)
        kind = found if isinstance(found, type) and issubclass(found, HarnessError) else EngineError
        error = kind.__new__(kind)
        HarnessError.__init__(error, self.message, given=self.given, allowed=self.allowed, hint=self.hint)
        return error


def _plain(value: object) -> object:
    """Return a value that any process can read: itself, or its text."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, tuple | list | frozenset | set):
        return tuple(map(_plain, value))
    return str(value)


class Station:
    """A worker with its engine.

    Args:
        recipe: of the engine.
        opener: opens it.
        device: where.
        threads: of arithmetic on the CPU.
        fetch: see :class:`harness.engine.spreading.packing.Unpacker`.

    Raises:
        HarnessError: the engine cannot be opened.
    """

    def __init__(self, recipe: Recipe, opener: Opener, device: str, threads: int, fetch: Any) -> None:
        import torch

        from harness.engine.spreading.packing import Unpacker
        from harness.files.allocator import keep_freed_memory
        from harness.model.devices import choose_device
        from harness.plugin.source import core_digest

        keep_freed_memory()
        torch.set_num_threads(threads)
        where = choose_device(device)
        if where.type == "cuda":
            torch.cuda.set_device(where)
        self._engine: Any = opener(recipe, device)
        self._unpacker, self._on_cpu = Unpacker(where, fetch, lambda: self._engine.model), where.type == "cpu"
        self.facts = Facts(platform.node(), device, threads, core_digest(), os.getpid())

    def do(self, packed: Packed) -> Iterator[tuple[str, Any]]:
        """Yield the parts of a piece of work."""
        yield from self._unpacker.unpack(packed).do(self._engine)

    def failure(self, error: BaseException) -> Failure:
        """Return what a piece of work has raised."""
        return Failure.of(error, spoilt=not self._on_cpu)


def from_file(path: str) -> Tensor:
    """Return the bytes of a file, mapped into memory: workers of one machine share them until one writes there."""
    import torch

    return torch.from_file(path, shared=False, size=os.path.getsize(path), dtype=torch.uint8)


def ending(code: int) -> str:
    """Return how a process ended, for people: ``killed by SIGKILL``, ``ended with exit code 1``."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
