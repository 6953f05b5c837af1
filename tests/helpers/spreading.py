"""What tests hand to workers, and the workers: edits that kill or fail their process, work that takes long, requests, two workers of a kind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from harness.engine.base import Generated, GenerationRequest
from harness.engine.spreading.choice import Spread
from harness.engine.spreading.executor import SpreadExecutor
from harness.engine.spreading.opening import open_executor
from harness.engine.spreading.packing import Packer, Unpacker, refusal
from harness.engine.spreading.work import Work
from harness.errors import EngineError
from harness.interventions import Edit, EditContext, Positions, Site
from harness.model.loading import SubjectModel
from harness.run.bench import TaskBench

WORDS = ("Once upon a time", "Tom and his dog went to the park", "The", "One day a girl", "Lily was sad", "A big cat")


@dataclass(frozen=True, eq=False)
class Fatal:
    """An edit that does what ``how`` says where it is stacked: ``kill`` the process, ``raise``, or ``refuse`` with an error of the user's.

    Attributes:
        how: see above.
        once: a file that is made the first time; from then on nothing happens. None: each time.
    """

    how: str
    once: Path | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        return (Site(1),)

    @property
    def positions(self) -> Positions:
        return Positions()

    @property
    def batch_key(self) -> str:
        return f"fatal {self.how} {self.once}"

    def stack(self, rows: Sequence[Any], device: torch.device) -> Fatal:
        if self.once is not None:
            if self.once.exists():
                return self
            self.once.touch()
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "refuse":
            raise EngineError("the edit is not for this model", given=(1, torch.device("cpu")), allowed="another", hint="take another")
        raise ZeroDivisionError("a defect of the edit")

    def apply(self, x: torch.Tensor, ctx: EditContext) -> torch.Tensor:
        return x


@dataclass(frozen=True)
class Endless:
    """Work that says one thing and then takes forever."""

    names: Sequence[str] = ("begun", "ended")

    def do(self, engine: Any) -> Iterator[tuple[str, Any]]:
        yield "begun", os.getpid()
        time.sleep(600)


def no_engine(recipe: Any, device: str) -> Any:
    """Open nothing: for work that needs no engine."""
    return None


def alive(pid: int) -> bool:
    """Return whether a process is there, and is not one that ended and was not waited for."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" if Path("/proc").is_dir() else True
    except (ProcessLookupError, FileNotFoundError):
        return False


def gone(pids: Sequence[int], seconds: float = 60.0) -> bool:
    """Return whether processes end within so many seconds."""
    until = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


class Loopback:
    """Workers in this process, with a model of their own, which are given work packed; the last piece is ready first."""

    def __init__(self, model: SubjectModel, other: SubjectModel) -> None:
        self.model, self.given = model, 0
        kept: list[torch.Tensor] = []

        def keep(data: torch.Tensor) -> int:
            kept.append(data.clone())
            return len(kept) - 1

        self.packer = Packer(torch.device("cpu"), keep, model)
        self.unpacker = Unpacker(torch.device("cpu"), kept.__getitem__, lambda: other)
        self.engine = SimpleNamespace(model=other)

    def refuses(self, work: Work) -> str | None:
        return refusal(work, torch.device("cpu"), self.model)

    def do(self, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
        for work in reversed(works):
            self.given += 1
            yield from self.unpacker.unpack(self.packer.pack(work)).do(self.engine)


class SpreadBench(TaskBench):
    """A bench with workers of a test's own."""

    workers: Any = None


def two_workers(kind: str) -> Iterator[SpreadExecutor]:
    """Yield an executor of two workers, which are ended afterwards; each takes seconds to begin, so a file of tests has one."""
    executor = open_executor(Spread(kind, 2))
    assert isinstance(executor, SpreadExecutor)
    yield executor
    executor.close()


def requests_of(model: SubjectModel, edits: Sequence[Edit] = ()) -> list[GenerationRequest]:
    """Requests in pairs, of which the second has the edits."""
    return [GenerationRequest(f"{text} {n}", model.encode(text), 0, tuple(edits) if n else ()) for text in WORDS for n in range(2)]


def by_id(texts: Iterator[Generated]) -> dict[str, Generated]:
    return {text.id: text for text in texts}
