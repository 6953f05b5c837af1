"""The main job: label, steer, generate, judge, score. It reads like the diagram in docs/architecture.md.

Each value is in the run store as soon as it exists; a run that was stopped goes on where it stopped, since every step asks the store first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import harness
from harness.bench import TaskBench
from harness.contracts import Intervention, Judge, PricedJudge, Steerer
from harness.errors import PluginError
from harness.plan import Answers, Plan, PlannedPlugin, labelings_of, plan_json
from harness.plugins import Observer, PluginHost
from harness.speed import remember
from harness.store import JudgeRecord, RunStore
from harness.types import Abstention, Generation, JudgeItem, Labeling, Rating, Trial, digest

if TYPE_CHECKING:
    from harness.leaderboard.entry import Entry
    from harness.llm.cost import Estimate
    from harness.lm.generation import Generated, GenerationRequest

RATE_AT_ONCE = 256
"""Items handed to a judge together, where it does not say ``at_once`` itself."""
Approve = Callable[["Estimate"], None]
"""Told what rating will cost at most, before anything is sent; raises to refuse."""
_T = TypeVar("_T")


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
        approve: told what rating will cost at most, before anything is sent; it raises to refuse.
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
    generate(plan, labelings, bench, store)
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


# --------------------------------------------------------------------------------------------------- what is said along the way


def recall_warnings(bench: TaskBench, store: RunStore, kind: str = "warning") -> None:
    """Say again what earlier parts of the run had to say, and keep what is to come: a resumed run's entry is that of an undisturbed one."""
    bench.on_warning = None
    for note in store.notes(kind):
        bench.warn(str(note.value))
    bench.on_warning = lambda message: store.note(kind, message)


def tell(host: PluginHost, bench: TaskBench, store: RunStore, observer: Observer, **values: Any) -> None:
    """Tell the observers; one that fails is reported, and noted in the run, but stops nothing."""
    for failure in host.notify(observer, **values):
        if failure not in (note.value for note in store.notes("observer-failed")):
            store.note("observer-failed", failure)
            bench.progress.step(failure)


def note_versions(bench: TaskBench, store: RunStore, part: str, plugins: Iterable[PlannedPlugin]) -> None:
    """Keep which versions make a part of the run; warn where an earlier version has made some of it."""
    versions = {plugin.registered.distribution: plugin.registered.version for plugin in plugins}
    versions["harness"] = harness.__version__
    notes = [note.value for note in store.notes(f"versions: {part}")]
    if versions not in notes:
        store.note(f"versions: {part}", versions)
        notes.append(versions)
    for distribution in sorted(versions):
        seen = list(dict.fromkeys(note[distribution] for note in notes if distribution in note))
        if len(seen) > 1:
            bench.warn(f"{part}: made by several versions of {distribution}: {', '.join(seen)}")


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


def generate(plan: Plan, labelings: dict[str, list[Labeling]], bench: TaskBench, store: RunStore) -> None:
    """Generate the trials that have no text yet. One batch mixes methods, concepts and strengths.

    Batches are those of the whole run, whatever is missing of them: in bfloat16 a row's rounding depends on its neighbours, so a batch that
    was interrupted is generated again as it was, and a resumed run has the texts of an undisturbed one.
    """
    missing = {trial.id: trial for trial in store.missing_trials()}
    if not missing:
        return
    wanted = {trial.method_id for trial in missing.values()}
    note_versions(bench, store, "texts", [method.steerer for method in plan.methods if method.method.id in wanted])
    requests = _requests(store.trials(), _prepare(plan, labelings, bench), labelings, bench)
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
    for batch in _batches(sorted(requests, key=lambda request: len(request.prompt_ids)), DEFAULT_BATCH):
        if any(request.id in missing for request in batch):
            yield from (done for done in run(bench.model, batch, decoding) if done.id in missing)


def _prepare(plan: Plan, labelings: dict[str, list[Labeling]], bench: TaskBench) -> dict[str, Steerer]:
    """The steerers by method. Methods with one steerer share it, so it is prepared once, for the labelings of all of them."""
    for steerer in {id(method.steerer): method.steerer for method in plan.methods}.values():
        theirs = [method for method in plan.methods if method.steerer is steerer]
        bench.progress.step(f"preparing {', '.join(method.method.name for method in theirs)}")
        steerer.instance.prepare(bench, list({x.id: x for method in theirs for x in labelings[method.method.id]}.values()))
    return {method.method.id: method.steerer.instance for method in plan.methods}


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


# --------------------------------------------------------------------------------------------------------------------- judging


def rate(
    judge: PlannedPlugin, bench: TaskBench, host: PluginHost, store: RunStore, approve: Approve | None = None
) -> JudgeRecord:
    """Have a judge rate what it has not rated yet, and collect what it still owed; answers under which judge the ratings are stored."""
    instance: Judge = judge.instance
    record = JudgeRecord(judge.registered.name, instance.rubric, judge.identity, instance.offline)
    key = store.add_judge(record)
    recall_warnings(bench, store, f"warning: {key}")
    missing = store.missing_ratings(key, retry_unrated=True)
    owed = sorted({rating.ticket for rating in store.pending(key)})
    if not missing and not owed:
        return record
    bench.progress.step(f"preparing judge {judge.registered.name}")
    note_versions(bench, store, f"ratings by {judge.registered.name}", [judge])
    instance.prepare(bench)
    warn_untrusted(record, bench)
    trials = {trial.id: trial for trial in store.trials()}
    generations = store.generations()

    def keep(rating: Rating) -> None:
        store.add_ratings(key, [rating])
        if rating.status != "pending":
            trial, generation = trials[rating.item_id], generations[rating.item_id]
            tell(host, bench, store, "harness_trial_done", trial=trial, generation=generation, rating=rating)

    for rating in instance.collect(owed) if owed else ():
        keep(_checked(judge, rating))
    # again from the store: what a batch left out, or a person skipped, is asked for once more in the same call
    items = _items(store.missing_ratings(key, retry_unrated=True), trials, store)
    if items and approve is not None and isinstance(instance, PricedJudge):
        approve(instance.estimate(items))
    try:
        _submit(judge, items, bench, keep)
    finally:
        _note_usage(instance, key, bench, store)  # also of what was paid for before an interrupt
    return record


def warn_untrusted(record: JudgeRecord, bench: TaskBench) -> None:
    """Warn of a judge that has failed the self-test."""
    from harness.judging.selftest import stored_warning

    if warning := stored_warning(record.name, record.rubric, record.options):
        bench.warn(warning)


def _submit(judge: PlannedPlugin, items: Sequence[JudgeItem], bench: TaskBench, keep: Callable[[Rating], None]) -> None:
    with bench.progress.task(f"rating with {judge.registered.name}", total=len(items)) as advance:
        for batch in _batches(items, getattr(judge.instance, "at_once", RATE_AT_ONCE)):
            open_items = {item.id for item in batch}
            for rating in judge.instance.submit(batch):
                if _checked(judge, rating).item_id in open_items:
                    open_items.remove(rating.item_id)
                    keep(rating)
                    advance(1)
            for item_id in sorted(open_items):
                keep(Rating(item_id, "unrated", reason="the judge gave no answer for this item"))
                advance(1)


def _note_usage(instance: Judge, key: str, bench: TaskBench, store: RunStore) -> None:
    """Keep what rating took, of a judge that costs money."""
    if not isinstance(instance, PricedJudge) or not (instance.hits or instance.usage.input or instance.usage.output):
        return
    used, dollars = instance.usage, instance.cost
    tokens = {"input": used.input, "cached_input": used.cached_input, "output": used.output}
    store.note(f"usage: {key}", {**tokens, "dollars": dollars, "from_cache": instance.hits})
    paid = "an unknown amount (no price for the model)" if dollars is None else f"${dollars:.4f}"
    bench.progress.step(
        f"paid {paid}: {used.input:,} input tokens ({used.cached_input:,} cached by the server), {used.output:,} output tokens; "
        f"{instance.hits:,} replies from our cache"
    )


def _checked(judge: PlannedPlugin, rating: Rating) -> Rating:
    if not isinstance(rating, Rating):
        raise PluginError(f"judge {judge.registered.name!r} answered with {type(rating).__name__}; it must give Rating values")
    return rating


def _items(missing: Iterable[Generation], trials: dict[str, Trial], store: RunStore) -> list[JudgeItem]:
    """What the judge is shown, in the order of the digests: it sees nothing of method or strength, not even through the order."""
    concepts = dict(_concept_texts(store, trials.values()))
    instructions = {instruction.id: instruction.text for instruction in store.instructions()}
    return [
        JudgeItem(g.trial_id, concepts[trials[g.trial_id].labeling_id], instructions[trials[g.trial_id].instruction_id], g.text)
        for g in sorted(missing, key=lambda generation: generation.trial_id)
    ]


def _concept_texts(store: RunStore, trials: Iterable[Trial]) -> Iterator[tuple[str, str]]:
    """The concept's text of every labeling among the trials; labelings without features are not stored, since they are just concepts."""
    concepts = {concept.id: concept for concept in store.concepts()}
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
