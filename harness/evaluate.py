"""The main job: label, steer, generate, judge, score. It reads like the diagram in docs/architecture.md.

Each value is in the run store as soon as it exists; a run that was stopped goes on where it stopped, since every step asks the store first.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bench import TaskBench
from harness.contracts import Intervention, Steerer
from harness.errors import PluginError
from harness.plan import Answers, Plan, PlannedPlugin, labelings_of, plan_json
from harness.plugins import PluginHost
from harness.preparing import Approve, prepare_steerers
from harness.rating import in_batches, rate
from harness.speed import remember
from harness.store import JudgeRecord, RunStore
from harness.telling import note_versions, recall_warnings, tell
from harness.types import Abstention, Generation, Labeling, Trial, digest

if TYPE_CHECKING:
    from harness.leaderboard.entry import Entry
    from harness.lm.generation import Generated, GenerationRequest


def run_id(plan: Plan, bench: TaskBench) -> str:
    """The run's name: the task's, and a digest of everything that its values depend on."""
    return f"{bench.task.name}-{digest(plan_json(plan, bench), 12)}"


def evaluate(plan: Plan, bench: TaskBench, host: PluginHost, store: RunStore, approve: Approve | None = None) -> Entry:
    """Do all of a run that is not in ``store`` yet, and make its entry.

    Args:
        plan: what to do.
        bench: the task's model, dictionaries, corpus and instructions.
        host: whose observers are told.
        store: the run's store, opened with ``plan_json(plan, bench)``.
        approve: told what steerers and judge will cost at most, before anything is sent to them; it raises to refuse.
    """
    recall_warnings(bench, store)
    tell(host, bench, store, "harness_run_started", run=store.plan, folder=store.folder)
    store.add_concepts(bench.concepts)
    answers = {labeler.key: label(labeler, bench, store) for labeler in plan.labelers}
    labelings = {method.method.id: labelings_of(plan, method, answers, bench) for method in plan.methods}
    trials = grid(plan, labelings, bench)
    store.add_methods(method.method for method in plan.methods)
    store.add_instructions(list({i.id: i for ls in labelings.values() for x in ls for i in bench.instructions_for(x.concept)}.values()))
    store.add_trials(trials)
    generate(plan, labelings, bench, store, approve)
    record = rate(plan.judge, bench, host, store, approve)
    return conclude(plan, answers, bench, store, record, host)


def conclude(plan: Plan, answers: Answers, bench: TaskBench, store: RunStore, judge: JudgeRecord, host: PluginHost) -> Entry:
    """Score what the store holds, write the entry beside it, and tell the observers."""
    from harness.results import make_entry

    entry = make_entry(plan, answers, bench, store, judge)
    own = store.plan["judge"] == {"name": judge.name, "options": dict(judge.options)}
    store.finish(entry.as_json(), "entry.json" if own else f"entry-{judge.key}.json")
    tell(host, bench, store, "harness_run_finished", entry=entry.as_json(), folder=store.folder)
    return entry


# ------------------------------------------------------------------------------------------------------------------- labelling


def label(labeler: PlannedPlugin, bench: TaskBench, store: RunStore) -> Sequence[Labeling | Abstention]:
    """A labeler's answers: from the store, or made now. In fixed mode there is one for each concept, in the task's order."""
    stored = store.labelings(labeler.key)
    if stored is not None:
        return stored
    bench.progress.step(f"labelling with {labeler.registered.name}")
    note_versions(bench, store, "labels", [labeler])
    answers = list(labeler.instance.label(bench, bench.concepts))
    check_answers(labeler.registered.name, answers, bench)
    store.add_labelings(labeler.key, answers)
    return answers


def check_answers(name: str, answers: Sequence[Labeling | Abstention], bench: TaskBench) -> None:
    """Raise PluginError for answers that break the contract."""
    asked = {concept.id: concept for concept in bench.concepts}
    seen: set[str] = set()
    for answer in answers:
        if not isinstance(answer, Labeling | Abstention):
            raise PluginError(f"labeler {name!r} answered with {type(answer).__name__}; it must give Labeling or Abstention values")
        if bench.concept_mode == "fixed" and asked.get(answer.concept.id) != answer.concept:
            raise PluginError(f"labeler {name!r} answered concept {answer.concept.id!r}, which is none of those that it was asked for")
        if isinstance(answer, Labeling):
            _check_features(name, answer, bench)
            if answer.id in seen:
                raise PluginError(f"labeler {name!r} gave concept {answer.concept.id!r} the same features twice")
            seen.add(answer.id)
    if bench.concept_mode == "fixed" and sorted(a.concept.id for a in answers) != sorted(asked):
        raise PluginError(f"labeler {name!r} gave {len(answers)} answers for {len(asked)} concepts; answer or abstain from each once")


def _check_features(name: str, answer: Labeling, bench: TaskBench) -> None:
    for feature in answer.features:
        dictionary = bench.dictionaries.get(feature.dictionary)
        if dictionary is None or not 0 <= feature.index < dictionary.d_sae:
            raise PluginError(f"labeler {name!r} named feature {feature}, which does not exist in the task's dictionaries")
    if len(set(answer.features)) != len(answer.features):
        raise PluginError(f"labeler {name!r} named a feature of concept {answer.concept.id!r} twice")


# ------------------------------------------------------------------------------------------------------------------ generating


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
    from harness.lm.generation import DEFAULT_BATCH
    from harness.lm.generation import generate as run

    decoding = bench.task.file.decoding.decoding()
    for batch in in_batches(sorted(requests, key=lambda request: len(request.prompt_ids)), DEFAULT_BATCH):
        if any(request.id in missing for request in batch):
            yield from (done for done in run(bench.model, batch, decoding) if done.id in missing)


def _requests(
    trials: Sequence[Trial], steerers: dict[str, Steerer], labelings: dict[str, list[Labeling]], bench: TaskBench
) -> list[GenerationRequest]:
    """What the engine is to generate. The trials of one labeling and strength share an intervention, those of one prefix a prompt."""
    from harness.lm.generation import GenerationRequest

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


def run_folder(out: Path, identity: str) -> Path:
    """Where a run is kept below ``out``."""
    return out / "runs" / identity
