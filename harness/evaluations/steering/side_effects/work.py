"""The stage: which interventions are measured, by the strengths that a judge's ratings have chosen, and what comes of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.errors import EngineError
from harness.evaluations.steering.choices import choices_of
from harness.evaluations.steering.generate import interventions_at
from harness.evaluations.steering.interventions import Asked
from harness.evaluations.steering.side_effects import SIDE_EFFECTS
from harness.evaluations.steering.side_effects.texts import source
from harness.plugin.calls import blamed
from harness.run.guard import EDIT
from harness.run.notes import note_versions
from harness.run.run import Run
from harness.store import RunStore
from harness.store.manifest import Manifest
from harness.store.values import Outcome

if TYPE_CHECKING:
    from harness.evaluations.steering.side_effects.measure import SideEffectsMeter

UNSTEERED = f"{SIDE_EFFECTS}: unsteered"
"""Under which name a run keeps what the model does by itself, with the name of the texts behind it."""


@dataclass(frozen=True)
class Place:
    """One intervention that is to be measured; ``item`` is the trial with which its outcome is kept."""

    item: str
    method: str
    labeling: str
    strength: float


def chosen_places(manifest: Manifest, store: RunStore, judge_key: str) -> list[Place]:
    """Return what is measured, in the order of the methods and their labelings: each labeling at the strength chosen on all instructions that choose.

    A labeling without a choice (nothing rated, or all strengths score alike) is left out. Of one trial at that strength, the first, the id is
    taken: what is measured depends on no instruction.
    """
    found = []
    for method in manifest.methods_of("steering"):
        chosen = choices_of(method, manifest, store, judge_key)
        seen = set()
        for trial in store.trials(method.id):
            choice = chosen.get(trial.labeling_id)
            if choice is not None and trial.strength == choice.on_all and trial.labeling_id not in seen:
                seen.add(trial.labeling_id)
                found.append(Place(trial.id, method.id, trial.labeling_id, trial.strength))
    return found


def side_effects(run: Run, judge_key: str) -> Iterator[Outcome]:
    """Yield the outcomes that are missing, each as it comes; the unsteered model is read once a run and kept beside them."""
    manifest = run.manifest if run.protocol is None else run.manifest.model_copy(update={"protocol": run.protocol})
    done = {outcome.item_id for outcome in run.store.outcomes(SIDE_EFFECTS, source(), status="done")}
    missing = [place for place in chosen_places(manifest, run.store, judge_key) if place.item not in done]
    if run.store.pending(judge_key):
        run.progress.step("side effects are measured of what is rated so far; the same command measures the rest once the ratings are there")
    if not missing:
        return
    from harness.evaluations.steering.side_effects.measure import SideEffectsMeter

    methods = {place.method for place in missing}
    steerers = [part for m in run.planned.methods if m.method.id in methods for part in m.steerer.parts]
    note_versions(run.store, run.warnings, SIDE_EFFECTS, [steerer.registered.made_by for steerer in steerers])
    asked = interventions_at(run, [(place.method, place.labeling, place.strength) for place in missing])
    edited = {place.method for place in missing if asked[place.method, place.labeling, place.strength].intervention.edits}
    names = [part.registered.who for m in run.planned.methods if m.method.id in edited for part in m.steerer.parts]
    meter = SideEffectsMeter(run.bench.model)
    if run.store.record(f"{UNSTEERED} {source()}") is None:
        run.store.set_record(f"{UNSTEERED} {source()}", meter.unsteered.as_json())
    work = [(place, asked[place.method, place.labeling, place.strength]) for place in missing]
    outcomes = run.bench.guard.compared(names, blamed(names, EDIT, _outcomes(meter, work)))
    yield from run.progress.track(outcomes, "measuring side effects", len(work))


def _outcomes(meter: SideEffectsMeter, work: Sequence[tuple[Place, Asked]]) -> Iterator[Outcome]:
    for place, asked in work:
        try:
            found = meter.measure(asked.intervention)
        except EngineError as error:
            yield Outcome(place.item, source(), "failed", reason=str(error))
            continue
        yield Outcome(place.item, source(), "done", found.as_json())
