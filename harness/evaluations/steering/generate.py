"""The texts of a run: every labeling × strength × instruction, generated in batches that a restart repeats."""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from typing import TYPE_CHECKING

from harness.contracts import Steerer
from harness.evaluations.steering.rate import in_batches
from harness.interventions import Intervention
from harness.run.bench import TaskBench
from harness.run.notes import note_versions
from harness.run.plan import Plan
from harness.run.prepare import Approve, prepare_steerers
from harness.run.throughput import remember
from harness.store import RunStore
from harness.types import Generation, Labeling, Trial

if TYPE_CHECKING:
    from harness.engine.base import Generated, GenerationRequest


def grid(plan: Plan, labelings: dict[str, list[Labeling]], bench: TaskBench) -> list[Trial]:
    """Every labeling × strength × instruction of every method."""
    return [
        Trial(method.method.id, labeling.id, labeling.concept.id, strength, instruction.id, bench.seed)
        for method in plan.methods
        for labeling in labelings[method.method.id]
        for strength in method.grid
        for instruction in bench.instructions_for(labeling.concept)
    ]


def generate(
    plan: Plan, labelings: dict[str, list[Labeling]], bench: TaskBench, store: RunStore, approve: Approve | None = None
) -> None:
    """Generate the trials that have no text yet. One batch mixes methods, concepts and strengths.

    Batches are those of the whole run, whatever is missing of them: in bfloat16 a row's rounding depends on its neighbours, so a batch that
    was interrupted is generated again as it was, and a resumed run has the texts of an undisturbed one.
    """
    missing = {trial.id: trial for trial in store.missing_trials()}
    if not missing:
        return
    wanted = {trial.method_id for trial in missing.values()}
    note_versions(bench, store, "texts", [method.steerer for method in plan.methods if method.method.id in wanted])
    requests = _requests(store.trials(), prepare_steerers(plan, labelings, bench, store, approve), labelings, bench)
    prompts = {request.id: request.prompt_ids for request in requests}
    started, tokens = time.monotonic(), 0
    for done in bench.track(_texts(requests, missing, bench), "generating", len(missing)):
        tokens += done.n_tokens
        prompt_text = bench.model.tokenizer.decode(list(prompts[done.id]))
        store.add_generation(Generation(done.id, prompt_text, done.text, done.n_tokens, done.finish))
    seconds = time.monotonic() - started
    store.note("generated", {"texts": len(missing), "tokens": tokens, "seconds": round(seconds, 1)})
    remember(bench.artifacts.root, bench.task.file.model.name, bench.model.device.type, tokens / max(seconds, 1e-9))


def _texts(requests: Sequence[GenerationRequest], missing: Container[str], bench: TaskBench) -> Iterator[Generated]:
    """The texts that are missing, from the batches that hold one; prompts of one length share batches."""
    from harness.engine.torch_loop import DEFAULT_BATCH
    from harness.engine.torch_loop import generate as run

    decoding = bench.task.file.decoding.decoding()
    for batch in in_batches(sorted(requests, key=lambda request: len(request.prompt_ids)), DEFAULT_BATCH):
        if any(request.id in missing for request in batch):
            yield from (done for done in run(bench.model, batch, decoding) if done.id in missing)


def _requests(
    trials: Sequence[Trial], steerers: dict[str, Steerer], labelings: dict[str, list[Labeling]], bench: TaskBench
) -> list[GenerationRequest]:
    """What the engine is to generate. The trials of one labeling and strength share an intervention, those of one prefix a prompt."""
    from harness.engine.base import GenerationRequest

    by_id = {(method_id, labeling.id): labeling for method_id, found in labelings.items() for labeling in found}
    texts = {instruction.id: instruction.text for instruction in bench.instructions}
    interventions: dict[tuple[str, str, float], Intervention] = {}
    prompts: dict[tuple[str, str], list[int]] = {}
    requests = []
    for trial in trials:
        place = trial.method_id, trial.labeling_id, trial.strength
        if place not in interventions:
            labeling = by_id[trial.method_id, trial.labeling_id]
            interventions[place] = steerers[trial.method_id].intervene(labeling, trial.strength)
        intervention = interventions[place]
        asked = intervention.prompt_prefix, trial.instruction_id
        if asked not in prompts:
            prompts[asked] = bench.model.prompt(texts[trial.instruction_id], prefix=intervention.prompt_prefix)
        requests.append(GenerationRequest(trial.id, prompts[asked], trial.seed, intervention.edits))
    return requests
