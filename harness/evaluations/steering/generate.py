"""The texts of a run: every labeling × strength × instruction, generated in chunks that a restart repeats."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from harness.engine.base import GenerationRequest
from harness.engine.spreading.schedule import QuarantinedError
from harness.engine.timing import CLOCK, TOKENIZER
from harness.evaluations.steering.decoding import note_decoding
from harness.evaluations.steering.interventions import Asked, edited_texts, intervene, try_edits
from harness.run.label import labelings_of
from harness.run.notes import note_versions
from harness.run.prepare import prepare_shared
from harness.run.profile import STEERERS, note_model
from harness.run.run import Run
from harness.run.throughput import remember
from harness.store import RunStore
from harness.store.manifest import Manifest
from harness.types import Concept, Generation, Labeling, Trial


def trials_of(manifest: Manifest, store: RunStore) -> list[Trial]:
    """Return every labeling × strength × instruction of every method. The labelers have answered."""
    return [
        Trial(method.id, labeling.id, labeling.concept.id, strength, instruction, manifest.seed)
        for method in manifest.methods_of("steering")
        for labeling in labelings_of(method, manifest, store)
        for strength in method.grid
        for instruction in manifest.instructions_for(labeling.concept.id)
    ]


def texts(run: Run, missing: Sequence[str]) -> Iterator[Generation]:
    """Yield the texts of the trials ``missing`` (ids). One batch mixes methods, concepts and strengths.

    The engine is given all trials, so that what it generates together is the same whatever is missing: a resumed run has the texts of an
    undisturbed one.
    """
    wanted = set(missing)
    trials = run.store.trials()
    asked = {trial.method_id for trial in trials if trial.id in wanted}
    steerers = [part for m in run.planned.methods if m.method.id in asked for part in m.steerer.parts]
    note_versions(run.store, run.warnings, "texts", [steerer.registered.made_by for steerer in steerers])
    model = run.bench.model
    with CLOCK.part(STEERERS):
        requests = _requests(run, trials)
    prompts = {request.id: request.prompt_ids for request in requests}
    note_model(run.store, model, [len(ids) for ids in prompts.values()])
    started, tokens = time.monotonic(), 0
    edited = {trial.method_id for trial, request in zip(trials, requests, strict=True) if request.edits}
    names = [part.registered.who for m in run.planned.methods if m.method.id in edited for part in m.steerer.parts]
    executor = run.bench.services.executor
    try:
        generated = run.bench.generate(requests, only=wanted)
        note_decoding(run)
        for done in run.progress.track(edited_texts(run.bench, names, generated), "generating", len(wanted)):
            tokens += done.n_tokens
            with CLOCK.part(TOKENIZER):
                prompt = model.tokenizer.decode(list(prompts[done.id]))
            yield Generation(done.id, prompt, done.text, done.n_tokens, done.finish)
    except QuarantinedError as error:
        raise error.naming(_called(run, trials)) from error.__cause__
    seconds = time.monotonic() - started
    note_decoding(run)  # fewer rows, where memory ran out
    run.store.note("generated", {"texts": len(wanted), "tokens": tokens, "seconds": round(seconds, 1)})
    if not executor.facts():  # a rate of this process alone
        remember(run.bench.artifacts.root, run.bench.task.subject, model.device.type, tokens / max(seconds, 1e-9))


def _called(run: Run, trials: Sequence[Trial]) -> dict[str, str]:
    """Return what people call trials: by what was done, and not by the instruction."""
    names = {method.id: method.name for method in run.manifest.methods}
    return {trial.id: f"{names[trial.method_id]} at strength {trial.strength:g} for concept {trial.concept_id!r}" for trial in trials}


def _requests(run: Run, trials: Sequence[Trial]) -> list[GenerationRequest]:
    """Return what the engine is to generate. The trials of one labeling and strength share an intervention, those of one prefix a prompt."""
    instructions = {instruction.id: instruction.text for instruction in run.store.instructions()}
    asked = interventions_at(run, [(trial.method_id, trial.labeling_id, trial.strength) for trial in trials])
    _warn_of_nothing(run, asked.values())
    prompts: dict[tuple[str, str], list[int]] = {}
    requests = []
    for trial in trials:
        intervention = asked[trial.method_id, trial.labeling_id, trial.strength].intervention
        concept = asked[trial.method_id, trial.labeling_id, trial.strength].labeling.concept.text
        words = run.manifest.protocol.asking(concept, intervention.prompt_prefix), trial.instruction_id
        if words not in prompts:
            prompts[words] = run.bench.model.prompt(instructions[trial.instruction_id], prefix=words[0])
        requests.append(GenerationRequest(trial.id, prompts[words], trial.seed, tuple(intervention.edits), intervention.adapter))
    return requests


def interventions_at(run: Run, places: Iterable[tuple[str, str, float]]) -> dict[tuple[str, str, float], Asked]:
    """Return the interventions at some (method id, labeling id, strength), tried; their steerers are prepared for all labelings of these methods."""
    wanted = list(dict.fromkeys(places))
    methods = [m for m in run.manifest.methods_of("steering") if m.id in {method for method, _, _ in wanted}]
    concepts = {concept.id: concept for concept in run.store.concepts()}
    labelings = {m.id: labelings_of(m, run.manifest, run.store) for m in methods}
    own = {name: {labeling.id: _by_its_fit(labeling, concepts) for labeling in found} for name, found in labelings.items()}
    steerers = {m.method.id: m.steerer for m in run.planned.methods}
    prepare_shared(run, [(m.name, steerers[m.id], list(own[m.id].values())) for m in methods])
    asked = {place: intervene(steerers[place[0]], own[place[0]][place[1]], place[2]) for place in wanted}
    run.guard.settle()
    try_edits(run.bench, asked.values())
    return asked


def _by_its_fit(labeling: Labeling, concepts: Mapping[str, Concept]) -> Labeling:
    """Return what a steerer is handed: of a control that goes by another concept's fit, the labeling of that concept."""
    return labeling if labeling.fit is None else replace(labeling, concept=concepts[labeling.fit], fit=None)


def _warn_of_nothing(run: Run, asked: Iterable[Asked]) -> None:
    """Have the entry say which steerers do nothing at a strength at which they should."""
    traits = {part.registered.who: part.instance.traits for m in run.planned.methods for part in m.steerer.parts}
    steering = [one for whole in asked for one in whole.each if traits[one.who].unit != "none" and one.strength != traits[one.who].neutral]
    for who in dict.fromkeys(one.who for one in steering):
        own = [one for one in steering if one.who == who]
        empty = [one for one in own if not (one.intervention.edits or one.intervention.prompt_prefix or one.intervention.adapter)]
        if empty:
            run.warnings(f"{who} does nothing {empty[0].where}: {len(empty)} of its {len(own)} interventions have no edit, no prefix and no adapter")
