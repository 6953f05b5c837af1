"""The main job: label, steer, generate, judge, score. It reads like the diagram in docs/architecture.md.

Each value is in the run store as soon as it exists; a run that was stopped goes on where it stopped, since every step asks the store first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.bench import TaskBench
from harness.contracts import Judge
from harness.plan import Plan, PlannedMethod, PlannedPlugin, plan_json
from harness.plugins import PluginHost
from harness.speed import remember
from harness.store import JudgeRecord, RunStore
from harness.types import Abstention, Concept, Generation, JudgeItem, Labeling, Rating, Trial, digest

if TYPE_CHECKING:
    from harness.leaderboard.entry import Entry

RATE_AT_ONCE = 256
_T = TypeVar("_T")


def run_id(plan: Plan, bench: TaskBench) -> str:
    """The run's name: the task's, and a digest of everything that its values depend on."""
    return f"{bench.task.name}-{digest(plan_json(plan, bench), 12)}"


def evaluate(plan: Plan, bench: TaskBench, host: PluginHost, store: RunStore) -> Entry:
    """Do all of a run that is not in ``store`` yet, and make its entry.

    Args:
        plan: what to do.
        bench: the task's model, dictionaries, corpus and instructions.
        host: whose observers are told.
        store: the run's store, opened with ``plan_json(plan, bench)``.
    """
    host.hook.harness_run_started(run=store.plan, folder=store.folder)
    answers = {labeler.key: label(labeler, bench, store) for labeler in plan.labelers}
    labelings = {method.method.id: labelings_of(method, answers, bench) for method in plan.methods}
    trials = grid(plan, labelings, bench)
    store.add_methods(method.method for method in plan.methods)
    store.add_instructions(list({i.id: i for ls in labelings.values() for x in ls for i in bench.instructions_for(x.concept)}.values()))
    store.add_trials(trials)
    generate(plan, labelings, bench, store)
    record = rate(plan.judge, bench, host, store)
    return conclude(plan, answers, bench, store, record, host)


def conclude(
    plan: Plan, answers: dict[str, Sequence[Labeling | Abstention]], bench: TaskBench, store: RunStore, judge: JudgeRecord, host: PluginHost
) -> Entry:
    """Score what the store holds, write the entry beside it, and tell the observers."""
    from harness.results import make_entry

    entry = make_entry(plan, answers, bench, store, judge)
    first = store.judges()[0].key == judge.key
    store.finish(entry.as_json(), "entry.json" if first else f"entry-{judge.key}.json")
    host.hook.harness_run_finished(entry=entry.as_json(), folder=store.folder)
    return entry


# ------------------------------------------------------------------------------------------------------------------- labelling


def label(labeler: PlannedPlugin, bench: TaskBench, store: RunStore) -> Sequence[Labeling | Abstention]:
    """A labeler's answers: from the store, or made now. In fixed mode there is one for each concept, in the task's order."""
    stored = store.labelings(labeler.key)
    if stored is not None:
        for note in store.notes("labeling-warning"):
            bench.warn(str(note.value))
        return stored
    bench.progress.step(f"labelling with {labeler.registered.name}")
    before = len(bench.warnings)
    answers = list(labeler.instance.label(bench, bench.concepts))
    check_answers(labeler.registered.name, answers, bench)
    for warning in bench.warnings[before:]:
        store.note("labeling-warning", warning)
    store.add_labelings(labeler.key, answers)
    return answers


def check_answers(name: str, answers: Sequence[Labeling | Abstention], bench: TaskBench) -> None:
    """Raise PluginError for answers that break the contract."""
    from harness.errors import PluginError

    asked = {concept.id: concept for concept in bench.concepts}
    for answer in answers:
        if not isinstance(answer, Labeling | Abstention):
            raise PluginError(f"labeler {name!r} answered with {type(answer).__name__}; it must give Labeling or Abstention values")
        if bench.concept_mode == "fixed" and answer.concept.id not in asked:
            raise PluginError(f"labeler {name!r} answered concept {answer.concept.id!r}, which the task does not list")
        for feature in answer.features if isinstance(answer, Labeling) else ():
            dictionary = bench.dictionaries.get(feature.dictionary)
            if dictionary is None or not 0 <= feature.index < dictionary.d_sae:
                raise PluginError(f"labeler {name!r} named feature {feature}, which does not exist in the task's dictionaries")
    if bench.concept_mode == "fixed" and sorted(a.concept.id for a in answers) != sorted(asked):
        raise PluginError(f"labeler {name!r} gave {len(answers)} answers for {len(asked)} concepts; it must answer or abstain from each once")


def labelings_of(method: PlannedMethod, answers: dict[str, Sequence[Labeling | Abstention]], bench: TaskBench) -> list[Labeling]:
    """The labelings that a method is run on: its labeler's, or (for a steerer without features) every concept that is in play."""
    if method.labeler is not None:
        chosen = [answer for answer in answers[method.labeler.key] if isinstance(answer, Labeling)]
        return chosen[: bench.choices.limit] if bench.concept_mode == "chosen" and bench.choices.limit is not None else chosen
    if bench.concept_mode == "fixed":
        return [Labeling(concept) for concept in bench.concepts]
    limited = [answer for given in answers.values() for answer in list(given)[: bench.choices.limit]]
    concepts: dict[str, Concept] = {answer.concept.id: answer.concept for answer in limited if isinstance(answer, Labeling)}
    return [Labeling(concept) for concept in (concepts.values() or bench.concepts[: bench.choices.limit])]


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


def generate(plan: Plan, labelings: dict[str, list[Labeling]], bench: TaskBench, store: RunStore) -> None:
    """Generate the trials that have no text yet. One batch mixes methods, concepts and strengths."""
    missing = store.missing_trials()
    if not missing:
        return
    from harness.lm.generation import GenerationRequest
    from harness.lm.generation import generate as run

    wanted = {trial.method_id for trial in missing}
    steerers = {}
    for method in plan.methods:
        if method.method.id in wanted:
            bench.progress.step(f"preparing {method.method.name}")
            method.steerer.instance.prepare(bench, labelings[method.method.id])
            steerers[method.method.id] = method.steerer.instance
    by_id = {(method_id, labeling.id): labeling for method_id, found in labelings.items() for labeling in found}
    instructions = {instruction.id: instruction.text for instruction in bench.instructions}
    requests = []
    for trial in missing:
        intervention = steerers[trial.method_id].intervene(by_id[trial.method_id, trial.labeling_id], trial.strength)
        prompt = bench.model.prompt(instructions[trial.instruction_id], prefix=intervention.prompt_prefix)
        requests.append(GenerationRequest(trial.id, prompt, trial.seed, intervention.edits))
    prompts = {request.id: request.prompt_ids for request in requests}
    started, tokens = time.monotonic(), 0
    for done in bench.track(run(bench.model, requests, bench.task.file.decoding.decoding()), "generating", len(requests)):
        tokens += done.n_tokens
        prompt_text = bench.model.tokenizer.decode(list(prompts[done.id]))
        store.add_generation(Generation(done.id, prompt_text, done.text, done.n_tokens, done.finish))
    seconds = time.monotonic() - started
    store.note("generated", {"texts": len(requests), "tokens": tokens, "seconds": round(seconds, 1)})
    remember(bench.artifacts.root, bench.task.file.model.name, bench.model.device.type, tokens / max(seconds, 1e-9))


# --------------------------------------------------------------------------------------------------------------------- judging


def rate(judge: PlannedPlugin, bench: TaskBench, host: PluginHost, store: RunStore) -> JudgeRecord:
    """Have a judge rate what it has not rated yet, and collect what it still owed; answers under which judge the ratings are stored."""
    instance: Judge = judge.instance
    record = JudgeRecord(judge.registered.name, instance.rubric, dict(judge.options), instance.offline)
    key = store.add_judge(record)
    missing = store.missing_ratings(key, retry_unrated=True)
    owed = {rating.ticket: rating.item_id for rating in store.pending(key)}
    if not missing and not owed:
        return record
    bench.progress.step(f"preparing judge {judge.registered.name}")
    instance.prepare(bench)
    trials = {trial.id: trial for trial in store.trials()}
    generations = store.generations()

    def keep(rating: Rating) -> None:
        store.add_ratings(key, [rating])
        if rating.status != "pending":
            host.hook.harness_trial_done(trial=trials[rating.item_id], generation=generations[rating.item_id], rating=rating)

    for rating in instance.collect(sorted(owed)) if owed else ():
        keep(rating)
    concepts = {labeling_id: concept for labeling_id, concept in _concept_texts(store, bench, trials.values())}
    instructions = {instruction.id: instruction.text for instruction in store.instructions()}
    # In the order of the digests: a judge sees nothing of method or strength, not even through the order.
    items = [
        JudgeItem(g.trial_id, concepts[trials[g.trial_id].labeling_id], instructions[trials[g.trial_id].instruction_id], g.text)
        for g in sorted(missing, key=lambda generation: generation.trial_id)
    ]
    with bench.progress.task(f"rating with {judge.registered.name}", total=len(items)) as advance:
        for batch in _batches(items, RATE_AT_ONCE):
            open_items = {item.id for item in batch}
            for rating in instance.submit(batch):
                if rating.item_id in open_items:
                    open_items.remove(rating.item_id)
                    keep(rating)
                    advance(1)
            for item_id in sorted(open_items):
                keep(Rating(item_id, "unrated", reason="the judge gave no answer for this item"))
                advance(1)
    return record


def _concept_texts(store: RunStore, bench: TaskBench, trials: Iterable[Trial]) -> Iterator[tuple[str, str]]:
    """The concept's text of every labeling among the trials; labelings without features are not stored, since they are just concepts."""
    concepts = {concept.id: concept for concept in bench.concepts}
    for labeling_id, concept_id in {trial.labeling_id: trial.concept_id for trial in trials}.items():
        stored = store.labeling(labeling_id)
        yield labeling_id, stored.concept.text if stored is not None else concepts[concept_id].text


def _batches(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def run_folder(out: Path, identity: str) -> Path:
    """Where a run is kept below ``out``."""
    return out / "runs" / identity
