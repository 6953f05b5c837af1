"""Preparing steerers and detectors: with what the run has kept of them, no dearer than approved, and what it took noted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.contracts import Fitted, Priced, Recorded, Work
from harness.run.notes import chat_news
from harness.run.plan import PlannedPlugin
from harness.run.run import Run
from harness.run.spending import Meter, line
from harness.types import Labeling

CURVES = "curves"
"""Kind of the notes that keep how the training of a plugin went, with its name behind: ``curves: steerer NAME``."""


def prepare_shared(run: Run, methods: Iterable[tuple[str, PlannedPlugin, Sequence[Labeling]]]) -> None:
    """Prepare plugins that several methods may share, each once, for the labelings of all of its methods; of joined ones, each by itself.

    Args:
        run: the run.
        methods: a method's name, its steerer or detector, and what it is run on.
    """
    shared: dict[int, tuple[PlannedPlugin, list[str], dict[str, Labeling]]] = {}
    for name, whole, labelings in methods:
        for plugin in {id(part.instance): part for part in whole.parts}.values():
            _, names, found = shared.setdefault(id(plugin.instance), (plugin, [], {}))
            names.append(name)
            found.update({labeling.id: labeling for labeling in labelings if labeling.id not in found})
    for plugin, names, found in shared.values():
        run.progress.step(f"preparing {', '.join(names)}")
        _prepare(run, plugin, list(found.values()))


def _prepare(run: Run, plugin: PlannedPlugin, labelings: Sequence[Labeling]) -> None:
    instance: Any = plugin.instance
    name = run.planned.called(plugin)
    kept = [note.value for note in run.store.notes(name)]
    if isinstance(instance, Recorded) and kept:
        instance.restore(kept[-1])
    meter = Meter(instance)
    try:
        if run.approve is not None and isinstance(instance, Priced):
            run.approve(instance.estimate(Work(concepts=[labeling.concept for labeling in labelings])), name)
        with chat_news(run.progress):
            instance.prepare(run.bench, labelings)
    finally:
        note_usage(run, meter, name)  # also of what was paid for before an interrupt or an error
    if isinstance(instance, Recorded) and (record := instance.record) not in kept:
        run.store.note(name, record)
    if isinstance(instance, Fitted) and (curves := dict(instance.curves)):
        kind = f"{CURVES}: {name}"
        if curves not in [note.value for note in run.store.notes(kind)]:
            run.store.note(kind, curves)


def note_usage(run: Run, meter: Meter, who: str) -> None:
    """Keep what a plugin that costs money took, in notes that add up to what the run took, and say it."""
    note_lap(run, meter, who)
    if (taken := meter.taken) is not None:
        run.progress.step(line(taken, [note.value for note in run.store.notes(f"usage: {who}")]))


def note_lap(run: Run, meter: Meter, who: str, every: float = 0.0) -> None:
    """Keep what was taken since this was last done, no more often than ``every`` seconds."""
    if (taken := meter.lap(every)) is not None:
        run.store.note(f"usage: {who}", dict(taken))
