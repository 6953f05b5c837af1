"""Rating: a run's texts, or texts of no run, shown to a judge; what it answers, and what it took."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from harness.contracts import Judge, Priced, Work
from harness.errors import JudgeError
from harness.evaluations.steering.judge_record import examine_first, judge_record, warn_untrusted
from harness.files.progress import Progress
from harness.files.timing import CLOCK
from harness.judging.ratings import check_rating
from harness.run.bench import TaskBench
from harness.run.notes import chat_news, note_versions
from harness.run.plan import PlannedPlugin
from harness.run.prepare import note_lap, note_usage
from harness.run.profile import JUDGE
from harness.run.retiring import check_can_rate, judge_is_gone, retiring_notices
from harness.run.run import Run, StoredBench
from harness.run.spending import NOTE_EVERY, Meter, line
from harness.run.throughput import remember_ratings
from harness.store import JudgeRecord, RunStore
from harness.types import Generation, JudgeItem, Rating, Trial

_PARTS = re.compile(r"(?:^|; )(?:concept|instruction|fluency): ")
_ABOUT = re.compile(r"'[^']*'|\"[^\"]*\"|“[^”]*”|\d+(?:\.\d+)?")
_T = TypeVar("_T")


def rate(run: Run, judge: PlannedPlugin, only: Collection[str] | None = None) -> JudgeRecord:
    """Have a judge rate what it has not rated yet (of the trials ``only``, where they are given), and collect what it still owed.

    Returns:
        Under which judge the ratings are stored.
    """
    record = judge_record(run, judge)
    for rating in ratings(run, judge, only):
        run.store.add_ratings(record.key, [rating])
    return record


def ratings(run: Run, judge: PlannedPlugin, only: Collection[str] | None = None) -> Iterator[Rating]:
    """Return a judge's ratings of what it has not rated yet, and of what it still owed, as they come; the caller stores each before it asks on."""
    instance: Judge = judge.instance
    record = judge_record(run, judge)
    key = record.key
    run.warnings.keep_in(run.store, key)

    answers = judge_is_gone(judge) is None

    def missing() -> list[Generation]:  # what a judge that is gone could not rate stays so, and what it could not rate a moment ago, too
        found = run.store.missing_ratings(key, retry_unrated=answers)
        return [text for text in found if (only is None or text.trial_id in only) and (key, text.trial_id) not in run.rated_meanwhile]

    for notice in retiring_notices([judge]):
        run.judge_bench.warn(notice)
    owed = sorted({rating.ticket for rating in run.store.pending(key)})
    if not missing() and not owed:
        warn_untrusted(judge, run.judge_bench, run.manifest.model)
        run.store.add_judge(record)
        return
    trials = {trial.id: trial for trial in run.store.trials()}
    check_can_rate(judge, items_of(missing(), trials, run.store) if not answers else [])
    prepare_judge(run, judge, run.judge_bench)
    generations = run.store.generations()
    meter = Meter(instance)

    def noted(given: Iterable[Rating]) -> Iterator[Rating]:
        for rating in given:
            yield rating  # it is stored when this goes on
            note_lap(run, meter, key, NOTE_EVERY)
            if rating.status != "pending":
                trial, generation = trials[rating.item_id], generations[rating.item_id]
                run.notify("harness_trial_done", trial=trial, generation=generation, rating=rating)

    try:
        yield from noted(check_rating(judge.registered.who, rating, trials) for rating in (instance.collect(owed) if owed else ()))
        # again from the store: what a batch left out, or a person skipped, is asked for once more in the same call
        items = items_of(missing(), trials, run.store)
        new = [item for item in items if (key, item.id) not in run.approved_ratings]
        if new and run.approve is not None and isinstance(instance, Priced):
            run.approve(instance.estimate(Work(items=new)))
        began = time.monotonic()
        yield from noted(_submit(judge, items, run.progress, meter))
        remember_ratings(judge.label, len(items), time.monotonic() - began, meter.taken)
    finally:
        note_usage(run, meter, key)  # also of what was paid for before an interrupt, a refusal or an error


def prepare_judge(run: Run, judge: PlannedPlugin, bench: StoredBench) -> None:
    """Have a judge prepare itself to rate a run's texts; the store knows it from then on. ``bench``: what it is handed, and where it warns."""
    record = judge_record(run, judge)
    run.progress.step(f"preparing judge {judge.registered.name}")
    examine_first(judge, bench)
    judge.instance.prepare(bench)
    run.store.add_judge(record)  # one that cannot begin, for want of a key, leaves nothing
    note_versions(run.store, bench.warn, ratings_by(record), [judge.registered.made_by])
    warn_untrusted(judge, bench)


def rate_texts(judge: PlannedPlugin, items: Sequence[JudgeItem], bench: TaskBench) -> list[Rating]:
    """Return a judge's ratings of texts that belong to no run; the caller has approved what it may cost.

    Raises:
        JudgeError: the judge leaves ratings pending, and nothing waits for them.
    """
    instance: Judge = judge.instance
    check_answers_at_once(judge)
    check_can_rate(judge, items)
    bench.progress.step(f"preparing judge {judge.registered.name}")
    examine_first(judge, bench)
    instance.prepare(bench)
    warn_untrusted(judge, bench)
    for notice in retiring_notices([judge]):
        bench.warn(notice)
    meter = Meter(instance)
    try:
        found = list(_submit(judge, items, bench.progress, meter))
    finally:
        if (taken := meter.taken) is not None:
            bench.progress.step(line(taken, []))
    if any(rating.status == "pending" for rating in found):
        raise _rates_later(judge)
    return found


def ratings_by(record: JudgeRecord) -> str:
    """The part of a run that a judge's ratings are, of which the versions that made it are noted."""
    return f"ratings by {record.name}" if record.key == record.ranking_key else f"ratings by {record.name} ({record.key[-6:]})"


def check_answers_at_once(judge: PlannedPlugin) -> None:
    """Raise JudgeError for a judge that says that its ratings come later; nothing is sent."""
    if judge.instance.traits.answers_later:
        raise _rates_later(judge)


def _rates_later(judge: PlannedPlugin) -> JudgeError:
    name = judge.registered.name
    message = f"{name} leaves ratings pending, and texts of a file belong to no run that could wait for them"
    return JudgeError(message, given=name, hint="rate them in a run, or take another judge")


def _submit(judge: PlannedPlugin, items: Sequence[JudgeItem], progress: Progress, meter: Meter) -> Iterator[Rating]:
    """Yields a judge's ratings of ``items``, one for each; one that it left out is unrated."""
    title = f"rating with {judge.registered.name}"
    with chat_news(progress), progress.task(title, total=len(items)) as advance:
        for batch in in_batches(items, judge.instance.traits.at_once):
            open_items = {item.id for item in batch}
            for rating in _clocked(judge.instance.submit(batch)):
                open_items.remove(check_rating(judge.registered.who, rating, open_items).item_id)
                yield rating
                advance(1)
                meter.show(title, advance.describe)
            for item_id in sorted(open_items):
                yield Rating(item_id, "unrated", reason="the judge gave no answer for this item")
                advance(1)


def _clocked(ratings: Iterable[Rating]) -> Iterator[Rating]:
    """Yield ratings; until each has come, time counts as the judge's."""
    iterator = iter(ratings)
    while True:
        try:
            with CLOCK.part(JUDGE, whole=True):
                found = next(iterator)
        except StopIteration:
            return
        yield found


def why_unrated(ratings: Iterable[Rating], most: int = 3) -> str:
    """Returns why texts are unrated, for people: the most frequent reasons with how many texts they are given for; empty where none is.

    A reason that names the rating, numbers or parts of a reply counts with those that differ in these alone.
    """
    found: dict[str, tuple[str, int]] = {}
    for rating in ratings:
        if rating.status == "unrated":
            parts = {_ABOUT.sub("#", part): part for part in _PARTS.split(rating.reason) if part}
            for kind, part in parts.items():
                found[kind] = found.get(kind, (part, 0))[0], found.get(kind, (part, 0))[1] + 1
    ranked = sorted(found.values(), key=lambda one: -one[1])
    reasons = [f"{' '.join(part.split())[:160]} ({n} text{'s' if n > 1 else ''})" for part, n in ranked[:most]]
    return "; ".join(reasons) + (f"; and {len(ranked) - most} other reasons" if len(ranked) > most else "")


def judge_items(store: RunStore) -> list[JudgeItem]:
    """Return all texts of a run as a judge is shown them."""
    return items_of(store.generations().values(), {trial.id: trial for trial in store.trials()}, store)


def items_of(missing: Iterable[Generation], trials: dict[str, Trial], store: RunStore) -> list[JudgeItem]:
    """Return what the judge is shown, in the order of the digests: it sees nothing of method or strength, not even through the order."""
    shown = shown_of(trials, store)
    return [shown(generation) for generation in sorted(missing, key=lambda generation: generation.trial_id)]


def shown_of(trials: dict[str, Trial], store: RunStore) -> Callable[[Generation], JudgeItem]:
    """Return what makes of a text of these trials what the judge is shown of it."""
    concepts = dict(_concept_texts(store, trials.values()))
    instructions = {instruction.id: instruction.text for instruction in store.instructions()}

    def shown(text: Generation) -> JudgeItem:
        trial = trials[text.trial_id]
        return JudgeItem(trial.id, concepts[trial.labeling_id], instructions[trial.instruction_id], text.text)

    return shown


def _concept_texts(store: RunStore, trials: Iterable[Trial]) -> Iterator[tuple[str, str]]:
    """Yield the concept's text of every labeling among the trials.

    Labelings without features are not stored, since they are just concepts: of the task, or (chosen mode) such as a labeler named by itself.
    """
    answers = (answer for labeler in sorted(store.labeled_by()) for answer in store.labelings(labeler) or ())
    concepts = {answer.concept.id: answer.concept for answer in answers} | {concept.id: concept for concept in store.concepts()}
    for labeling_id, concept_id in {trial.labeling_id: trial.concept_id for trial in trials}.items():
        stored = store.labeling(labeling_id)
        yield labeling_id, stored.concept.text if stored is not None else concepts[concept_id].text


def in_batches(items: Sequence[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
