"""Preparing a run's steerers: with what the run has kept of them, no dearer than approved, and what it took noted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from harness.contracts import Priced, Recorded, Steerer, Work
from harness.run.bench import TaskBench
from harness.run.notes import llm_news
from harness.run.plan import Plan, PlannedPlugin
from harness.run.spending import Meter, line
from harness.store import RunStore
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.chat.cost import Estimate


class Approve(Protocol):
    """Told what something will cost at most, before anything is sent; raises to refuse."""

    def __call__(self, estimate: Estimate, who: str = "judge") -> None: ...


def prepare_steerers(
    plan: Plan, labelings: dict[str, list[Labeling]], bench: TaskBench, store: RunStore, approve: Approve | None = None
) -> dict[str, Steerer]:
    """The steerers by method. Methods with one steerer share it, so it is prepared once, for the labelings of all of them."""
    for steerer in {id(method.steerer): method.steerer for method in plan.methods}.values():
        theirs = [method for method in plan.methods if method.steerer is steerer]
        bench.progress.step(f"preparing {', '.join(method.method.name for method in theirs)}")
        _prepare(steerer, list({x.id: x for method in theirs for x in labelings[method.method.id]}.values()), bench, store, approve)
    return {method.method.id: method.steerer.instance for method in plan.methods}


def _prepare(steerer: PlannedPlugin, labelings: Sequence[Labeling], bench: TaskBench, store: RunStore, approve: Approve | None) -> None:
    instance: Steerer = steerer.instance
    name = f"steerer {steerer.registered.name}"
    kept = [note.value for note in store.notes(name)]
    if isinstance(instance, Recorded) and kept:
        instance.restore(kept[-1])
    meter = Meter(instance)
    try:
        if approve is not None and isinstance(instance, Priced):
            approve(instance.estimate(Work(concepts=[labeling.concept for labeling in labelings])), name)
        with llm_news(bench):
            instance.prepare(bench, labelings)
    finally:
        note_usage(meter, name, bench, store)  # also of what was paid for before an interrupt or an error
    if isinstance(instance, Recorded) and (record := instance.record) not in kept:
        store.note(name, record)


def note_usage(meter: Meter, who: str, bench: TaskBench, store: RunStore) -> None:
    """Keep what a judge or steerer that costs money took, in notes that add up to what the run took, and say it."""
    note_lap(meter, who, store)
    if (taken := meter.taken) is not None:
        bench.progress.step(line(taken, [note.value for note in store.notes(f"usage: {who}")]))


def note_lap(meter: Meter, who: str, store: RunStore, every: float = 0.0) -> None:
    """Keep what was taken since this was last done, no more often than ``every`` seconds."""
    if (taken := meter.lap(every)) is not None:
        store.note(f"usage: {who}", dict(taken))
