"""Where a run's time went: noted in its store by each command that works on it, and added up again for people."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.engine.timing import STEPS
from harness.errors import StoreError
from harness.files.timing import CLOCK

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel
    from harness.store import RunStore

PROFILE, MODEL = "profile", "profile: model"
"""Kinds of the notes that hold what a stage took in one command, and what each step of decoding reads."""

LOADING, CORPUS = "loading the model", "corpus"
"""The model's weights are opened; the corpus is indexed, its tokens are written, and it is split."""
LABELERS, STEERERS, DETECTORS, METRICS = "labelers", "steerers", "detectors", "metrics"
"""What plugins compute themselves: the model's passes, tokens and dictionaries are parts of their own."""
JUDGE, STORE, OTHER = "judge", "store", "other"
"""The judge is waited for; values are written."""


@dataclass(frozen=True)
class StageTime:
    """What a stage took, over all commands.

    Attributes:
        stage: ``label``, or kind and stage of an evaluation.
        wall: seconds from its beginning to its end.
        seconds: by part; they add up to ``wall``, with what no part covers as ``other``.
        calls: how often each part was entered.
        rows: rows of the forward passes of a part.
        commands: how many commands worked on it.
    """

    stage: str
    wall: float
    seconds: Mapping[str, float]
    calls: Mapping[str, int]
    rows: Mapping[str, int]
    commands: int


@dataclass(frozen=True)
class Decoded:
    """How a run's tokens were decoded, one for each open row at each step.

    Attributes:
        steps: forward passes.
        rows: of a step, on average.
        seconds: of a step, edits within it included where they are no part of their own.
    """

    steps: int
    rows: float
    seconds: float


@contextlib.contextmanager
def timed(store: RunStore, stage: str, worked: Callable[[], bool] | None = None) -> Iterator[dict[str, int]]:
    """Within the context a stage is at work; what its parts took is noted at the end, whatever ends it. Nothing is noted of a stage without work.

    Args:
        store: the run's.
        stage: its name.
        worked: whether anything was done; None goes by the parts of the clock.

    Yields:
        What is noted, too: ``items``, how many the stage has done.
    """
    before, began = CLOCK.spent.copy(), time.perf_counter()
    further: dict[str, int] = {}
    try:
        yield further
    finally:
        wall, spent = time.perf_counter() - began, CLOCK.spent.less(before)
        if spent.seconds if worked is None else worked():
            seconds = {part: round(took, 6) for part, took in spent.seconds.items()}
            with contextlib.suppress(StoreError):  # a full disk: what matters has been refused before
                noted = {"stage": stage, "wall": round(wall, 6), "seconds": seconds, "calls": spent.calls, "rows": spent.rows}
                store.note(PROFILE, {**noted, **further})


def note_model(store: RunStore, model: SubjectModel, prompts: Sequence[int]) -> None:
    """Note what each step of decoding reads, and computes: what :mod:`harness.run.roofline` goes by; ``prompts`` are lengths in tokens."""
    from harness.model.footprint import footprint

    facts: dict[str, Any] = {"device": str(model.device), "prompt": round(sum(prompts) / max(len(prompts), 1), 1), **footprint(model)}
    if facts not in [note.value for note in store.notes(MODEL)]:
        store.note(MODEL, facts)


def stages_of(store: RunStore) -> list[StageTime]:
    """Return what each stage took, in the order in which they were first at work; empty for a run of an older harness."""
    noted: dict[str, list[Any]] = {}
    for note in store.notes(PROFILE):
        value: Any = note.value
        noted.setdefault(value["stage"], []).append(value)
    return [_stage(stage, values) for stage, values in noted.items()]


def unnoted(store: RunStore) -> dict[str, tuple[int, int]]:
    """Return of each kind of evaluation how many items were done without a note of the time, by commands that were killed, and how many in all.

    Kinds of which all was noted are left out, and those of a run that an older harness has worked on, whose notes do not say what they are of.
    """
    noted: dict[str, dict[str, list[int | None]]] = {}
    for note in store.notes(PROFILE):
        value: Any = note.value
        noted.setdefault(value["stage"].partition(": ")[0], {}).setdefault(value["stage"], []).append(value.get("items"))
    found = {}
    for kind, (_, done) in store.item_counts().items():
        numbers = next(iter(noted.get(kind, {}).values()), [])  # of its first stage, which does the items
        known = [number for number in numbers if number is not None]
        if len(known) == len(numbers) and sum(known) < done:
            found[str(kind)] = done - sum(known), done
    return found


def _stage(stage: str, values: Sequence[Any]) -> StageTime:
    wall = sum(value["wall"] for value in values)
    seconds, calls, rows = (_added(value[name] for value in values) for name in ("seconds", "calls", "rows"))
    left = max(0.0, wall - sum(seconds.values()))
    ranked = dict(sorted(seconds.items(), key=lambda item: -item[1]))
    return StageTime(stage, wall, {**ranked, OTHER: left}, calls, rows, len(values))


def _added(values: Any) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for value in values:
        for name, number in value.items():
            total[name] = total.get(name, 0) + number
    return total


def decoded(stages: Sequence[StageTime]) -> Decoded | None:
    """Return how tokens were decoded while texts were generated; None where no step was measured."""
    for stage in stages:
        if stage.stage == "steering: generate" and (steps := stage.calls.get(STEPS, 0)):
            return Decoded(steps, stage.rows.get(STEPS, 0) / steps, stage.seconds[STEPS] / steps)
    return None


def model_facts(store: RunStore) -> dict[str, Any] | None:
    """Return what :func:`note_model` noted last, or None."""
    found: Any = store.notes(MODEL)
    return dict(found[-1].value) if found else None
