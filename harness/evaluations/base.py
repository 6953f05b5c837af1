"""What an evaluation is: stages of items that are worked on, outcomes that land in the store, and rows that are made of the store alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.leaderboard.entry import Row
from harness.run.run import Run
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.store.values import Item, Outcome
from harness.types import EvaluationKind


@dataclass(frozen=True)
class Stage:
    """One step of an evaluation.

    Attributes:
        name: ``generate``, ``rate``, ``detect`` or ``measure``.
        source: under which its outcomes are kept. A stage that is done again (by another judge) has another source.
        again: whether its work is asked for in each run of the program, also where nothing is missing: it tries again what failed, and collects
            what is pending.
        spread: whether workers may do some of its work (``--executor``). Then such stages come before all others, and the workers end after them:
            they hold memory that a judge may need.
    """

    name: str
    source: str
    again: bool = False
    spread: bool = False


class Evaluation(Protocol):
    """A kind of evaluation. It belongs to the core; what it compares are plugins."""

    @property
    def kind(self) -> EvaluationKind:
        """Return its name."""
        ...

    def wanted(self, manifest: Manifest) -> bool:
        """Return whether the run asks for it."""
        ...

    def stages(self, run: Run) -> Sequence[Stage]:
        """Return its steps, in order."""
        ...

    def items(self, run: Run, stage: Stage) -> Sequence[Item]:
        """Return what a stage works on, in an order that depends on the run alone. It may read what earlier stages have stored."""
        ...

    def work(self, run: Run, stage: Stage, items: Sequence[Item]) -> Iterator[Outcome]:
        """Return outcomes of ``items``, those that are missing, each as soon as it exists and in any order.

        The driver stores each before it asks on.
        """
        ...

    def score(self, manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> Sequence[Row]:
        """Return the rows of the entry, from the store alone."""
        ...
