"""Rating: a run's texts, or texts of no run, shown to a judge; what it answers, and what it took."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from harness.contracts import Judge, Priced, Work
from harness.errors import JudgeError, PluginError
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.run.notes import llm_news, note_versions, recall_warnings, tell
from harness.run.plan import PlannedPlugin
from harness.run.prepare import Approve, note_lap, note_usage
from harness.run.spending import NOTE_EVERY, Meter, line
from harness.store import JudgeRecord, RunStore
from harness.types import Generation, JudgeItem, Rating, Trial

_LATER = (
    "{} leaves ratings pending, and texts of a file belong to no run that could wait for them; rate them in a run, or take another judge"
)
_PARTS = re.compile(r"(?:^|; )(?:concept|instruction|fluency): ")
_ABOUT = re.compile(r"'[^']*'|\"[^\"]*\"|“[^”]*”|\d+(?:\.\d+)?")
_T = TypeVar("_T")


def rate(
    judge: PlannedPlugin,
    bench: TaskBench,
    host: PluginHost,
    store: RunStore,
    approve: Approve | None = None,
    only: Collection[str] | None = None,
) -> JudgeRecord:
    """Have a judge rate what it has not rated yet (of the trials ``only``, where they are given), and collect what it still owed; answers under

    which judge the ratings are stored."""
    instance: Judge = judge.instance
    record = record_of(judge)
    key = record.key
    recall_warnings(bench, store, f"warning: {key}")

    def missing() -> list[Generation]:
        return [text for text in store.missing_ratings(key, retry_unrated=True) if only is None or text.trial_id in only]

    owed = sorted({rating.ticket for rating in store.pending(key)})
    if not missing() and not owed:
        warn_untrusted(judge, bench)
        store.add_judge(record)
        return record
    bench.progress.step(f"preparing judge {judge.registered.name}")
    _test_first(judge, bench)
    instance.prepare(bench)
    store.add_judge(record)  # one that cannot begin, for want of a key, leaves nothing
    note_versions(bench, store, f"ratings by {judge.registered.name}", [judge])
    warn_untrusted(judge, bench)
    trials = {trial.id: trial for trial in store.trials()}
    generations = store.generations()

    def keep(rating: Rating) -> None:
        store.add_ratings(key, [rating])
        note_lap(meter, key, store, NOTE_EVERY)
        if rating.status != "pending":
            trial, generation = trials[rating.item_id], generations[rating.item_id]
            tell(host, bench, store, "harness_trial_done", trial=trial, generation=generation, rating=rating)

    meter = Meter(instance)
    try:
        for rating in instance.collect(owed) if owed else ():
            keep(_checked(judge, rating))
        # again from the store: what a batch left out, or a person skipped, is asked for once more in the same call
        items = _items(missing(), trials, store)
        if items and approve is not None and isinstance(instance, Priced):
            approve(instance.estimate(Work(items=items)))
        _submit(judge, items, bench, keep, meter)
    finally:
        note_usage(meter, key, bench, store)  # also of what was paid for before an interrupt, a refusal or an error
    return record


def rate_texts(judge: PlannedPlugin, items: Sequence[JudgeItem], bench: TaskBench) -> list[Rating]:
    """A judge's ratings of texts that belong to no run; the caller has approved what it may cost.

    Raises:
        JudgeError: the judge leaves ratings pending, and nothing waits for them.
    """
    instance: Judge = judge.instance
    check_answers_at_once(judge)
    bench.progress.step(f"preparing judge {judge.registered.name}")
    _test_first(judge, bench)
    instance.prepare(bench)
    warn_untrusted(judge, bench)
    meter, ratings = Meter(instance), list[Rating]()
    try:
        _submit(judge, items, bench, ratings.append, meter)
    finally:
        if (taken := meter.taken) is not None:
            bench.progress.step(line(taken, []))
    if any(rating.status == "pending" for rating in ratings):
        raise JudgeError(_LATER.format(judge.registered.name))
    return ratings


def check_answers_at_once(judge: PlannedPlugin) -> None:
    """Raise JudgeError for a judge that says that its ratings come later; nothing is sent."""
    if judge.instance.traits.answers_later:
        raise JudgeError(_LATER.format(judge.registered.name))


def record_of(judge: PlannedPlugin) -> JudgeRecord:
    """Under which judge its ratings are stored."""
    return JudgeRecord(judge.registered.name, judge.instance.traits.rubric, judge.identity, judge.instance.traits.offline)


def _test_first(judge: PlannedPlugin, bench: TaskBench) -> None:
    """Run the self-test of a judge that asks for it (``selftest_first``), once. Not of one that costs money: nobody has approved that."""
    from harness.judging.selftest import keep_result, known, selftest

    instance, record = judge.instance, record_of(judge)
    if not instance.traits.selftest_first or isinstance(instance, Priced):
        return
    if not known(record.name, record.rubric, record.options):
        bench.progress.step(f"testing judge {record.name} on texts with obvious ratings, once")
        keep_result(record.name, record.options, selftest(instance, bench))


def warn_untrusted(judge: PlannedPlugin, bench: TaskBench) -> None:
    """Warn of a judge that has failed the self-test."""
    from harness.judging.selftest import stored_warning

    record = record_of(judge)
    if warning := stored_warning(record.name, record.rubric, record.options):
        bench.warn(warning)


def _submit(judge: PlannedPlugin, items: Sequence[JudgeItem], bench: TaskBench, keep: Callable[[Rating], None], meter: Meter) -> None:
    title = f"rating with {judge.registered.name}"
    with llm_news(bench), bench.progress.task(title, total=len(items)) as advance:
        describe: Callable[[str], None] | None = getattr(advance, "describe", None)  # where a bar is shown
        for batch in in_batches(items, judge.instance.traits.at_once):
            open_items = {item.id for item in batch}
            for rating in judge.instance.submit(batch):
                if _checked(judge, rating).item_id in open_items:
                    open_items.remove(rating.item_id)
                    keep(rating)
                    advance(1)
                meter.show(title, describe)
            for item_id in sorted(open_items):
                keep(Rating(item_id, "unrated", reason="the judge gave no answer for this item"))
                advance(1)


def _checked(judge: PlannedPlugin, rating: Rating) -> Rating:
    if not isinstance(rating, Rating):
        raise PluginError(f"judge {judge.registered.name!r} answered with {type(rating).__name__}; it must give Rating values")
    return rating


def why_unrated(ratings: Iterable[Rating], most: int = 3) -> str:
    """Why texts are unrated, for people: the most frequent reasons with how many texts they are given for; empty where none is.

    A reason that names the rating, numbers or parts of a reply counts with those that differ in these alone.
    """
    found: dict[str, tuple[str, int]] = {}
    for rating in ratings:
        if rating.status == "unrated":
            parts = {_ABOUT.sub("#", part): part for part in _PARTS.split(rating.reason) if part}
            for kind, part in parts.items():
                found[kind] = found.get(kind, (part, 0))[0], found.get(kind, (part, 0))[1] + 1
    ranked = sorted(found.values(), key=lambda one: -one[1])
    told = [f"{' '.join(part.split())[:160]} ({n} text{'s' if n > 1 else ''})" for part, n in ranked[:most]]
    return "; ".join(told) + (f"; and {len(ranked) - most} other reasons" if len(ranked) > most else "")


def judge_items(store: RunStore) -> list[JudgeItem]:
    """All texts of a run as a judge is shown them."""
    return _items(store.generations().values(), {trial.id: trial for trial in store.trials()}, store)


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


def in_batches(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
