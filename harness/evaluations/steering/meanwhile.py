"""Rating while texts are generated, by a judge that waits on a network: each text is stored before the judge gets it, each rating as it comes.

All of it happens between two texts, in the thread that generates, which alone writes the store; what waits for replies is the judge's own affair
(:class:`harness.contracts.RatesMeanwhile`). The stage that rates comes afterwards as always: it finds nothing missing, or what is left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from harness.contracts import Priced, RatesMeanwhile, Work
from harness.errors import HarnessError
from harness.evaluations.steering.judge_record import judge_record
from harness.evaluations.steering.rate import prepare_judge, shown_of
from harness.files.timing import CLOCK
from harness.judging.ratings import check_rating
from harness.run.notes import chat_news
from harness.run.plan import PlannedPlugin
from harness.run.prepare import note_lap, note_usage
from harness.run.profile import JUDGE, STORE
from harness.run.retiring import judge_is_gone, retiring_notices
from harness.run.run import Run, StoredBench
from harness.run.spending import NOTE_EVERY, Meter
from harness.run.throughput import remember_ratings
from harness.run.warnings import Warnings
from harness.types import Generation, JudgeItem, Rating

AGAIN_AFTER = 60.0
"""Seconds after which a judge that has failed is asked once more in the same command."""

WAITED = 0.3
"""Where a judge is waited for longer than this share of its time, after the last text, its rate was its own."""


def rates_meanwhile(judge: PlannedPlugin) -> bool:
    """Return whether a judge may rate texts while others are generated: it says so, answers at once, needs no subject model, and is not gone."""
    traits = judge.instance.traits
    return (
        isinstance(judge.instance, RatesMeanwhile) and not traits.answers_later and not traits.needs_model and judge_is_gone(judge) is None
    )


def rated_meanwhile(run: Run, judge: PlannedPlugin, texts: Iterator[Generation]) -> Iterator[Generation]:
    """Yield the texts, each to be stored by the caller before it asks on; from then on the judge may be shown it.

    What fails on the judge's side is said, and generation goes on: what has no rating in the end is left to the stage that rates. An error of a
    moment ago is raised then instead, when all texts are stored: it would come again.

    Args:
        run: the run.
        judge: its judge; one that can't rate meanwhile is left alone.
        texts: as they are generated.

    Raises:
        HarnessError: the judge's, after the last text.
    """
    if not rates_meanwhile(judge):
        yield from texts
        return
    with run.progress.together(), contextlib.ExitStack() as stack:
        rating: _Rating | None = None
        for text in texts:
            yield text
            if rating is None:
                rating = stack.enter_context(_Rating(run, judge))
            rating.take(text)
        if rating is not None:
            rating.wait()


class _Rating(contextlib.AbstractContextManager["_Rating"]):
    """The judge at work. Made when the first text is stored; leaving the context stops it, and keeps what has come."""

    def __init__(self, run: Run, judge: PlannedPlugin) -> None:
        self._run, self._judge = run, judge
        self._key = judge_record(run, judge).key
        self._instance: Any = judge.instance
        self._meter = Meter(self._instance)
        self._title = f"rating with {judge.registered.name}"
        self._trials = {trial.id: trial for trial in run.store.trials()}
        self._shown = shown_of(self._trials, run.store)
        self._open: dict[str, Generation] = {}
        self._at_work = self._began = False
        self._since, self._n = time.monotonic(), 0
        self._error: HarnessError | None = None
        self._failed_at = 0.0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Rating:
        run, judge = self._run, self._judge
        warnings = Warnings()  # of this judge's ratings; what generation warns of is the whole run's
        warnings.keep_in(run.store, self._key)
        bench = StoredBench(run, warnings)
        for notice in retiring_notices([judge]):
            bench.warn(notice)
        waiting = run.store.missing_ratings(self._key)
        planned = {text.trial_id for text in waiting} | (self._trials.keys() - run.store.generations().keys())
        try:
            prepare_judge(run, judge, bench)
            self._approve(planned)
        except HarnessError as error:
            run.progress.step(f"{judge.label} rates after generation: {error}")
            return self
        self._at_work = self._began = True
        self._since = time.monotonic()
        self._stack.enter_context(chat_news(run.progress))
        self._advance = self._stack.enter_context(run.progress.task(self._title, total=len(planned)))
        self._send(waiting)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        with self._stack:
            try:
                if self._at_work:
                    self._end()
            finally:
                if self._began:
                    note_usage(self._run, self._meter, self._key)

    def take(self, text: Generation) -> None:
        """Hand a text to the judge that is stored by now, and store the ratings that have come."""
        if self._at_work and text.trial_id not in self._open:
            self._send([text])
            self._store(wait=False)

    def wait(self) -> None:
        """Store the ratings that are still to come, as they come. Raises the error that has ended rating a moment ago."""
        if self._at_work:
            before = time.monotonic()
            self._store(wait=True)
            now = time.monotonic()
            if self._at_work and now - before > WAITED * (now - self._since):  # else generation set the pace
                remember_ratings(self._judge.label, self._n, now - self._since, self._meter.taken)
        if self._error is not None and time.monotonic() - self._failed_at < AGAIN_AFTER:
            raise self._error

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _approve(self, planned: Collection[str]) -> None:
        """Have what rating these trials will cost at most approved, before anything is sent: each text is as long as decoding allows.

        Raises what refuses it.
        """
        run = self._run
        if run.approve is not None and isinstance(self._instance, Priced) and planned:
            words = "words" * run.manifest.decoding.max_new_tokens
            items = [self._shown(Generation(trial, "", words, 0, "length")) for trial in planned]
            longest = JudgeItem("estimate", *(max((getattr(item, part) for item in items), key=_size) for part in ("concept", "instruction", "text")))
            run.approve(self._instance.estimate(Work(items=[longest])).times(len(planned)))
        run.approved_ratings |= {(self._key, trial) for trial in planned}

    def _send(self, texts: Sequence[Generation]) -> None:
        self._open.update({text.trial_id: text for text in texts})
        try:
            with CLOCK.part(JUDGE, whole=True):
                self._instance.send([self._shown(text) for text in texts])
        except HarnessError as error:
            self._failed(error)

    def _store(self, wait: bool) -> None:
        """Store the ratings that have come; with ``wait`` until none is owed. An error of the judge is said, and ends its work."""
        run = self._run
        try:
            for found in self._arrived(wait):
                with CLOCK.part(STORE):
                    run.store.add_ratings(self._key, [found])
                run.rated_meanwhile.add((self._key, found.item_id))
                text = self._open.pop(found.item_id)
                self._n += 1
                self._advance(1)
                self._meter.show(self._title, self._advance.describe)
                note_lap(run, self._meter, self._key, NOTE_EVERY)
                run.notify("harness_trial_done", trial=self._trials[found.item_id], generation=text, rating=found)
        except _JudgeFailed as failed:
            self._failed(failed.error)

    def _arrived(self, wait: bool) -> Iterator[Rating]:
        """Yield the judge's ratings, checked. Raises _JudgeFailed for what the judge raises, so that errors of the store are told from it."""
        try:
            ratings = iter(self._instance.arrived(wait))
        except HarnessError as error:
            raise _JudgeFailed(error) from error
        while True:
            try:
                with CLOCK.part(JUDGE, whole=True):
                    given = next(ratings)
                found = check_rating(self._judge.registered.who, given, self._open)
            except StopIteration:
                return
            except HarnessError as error:
                raise _JudgeFailed(error) from error
            yield found

    def _failed(self, error: HarnessError) -> None:
        """Say why the judge rates no more for now; whatever it says when it stops says nothing more."""
        run, self._at_work = self._run, False
        self._error, self._failed_at = error, time.monotonic()
        run.progress.step(f"{self._judge.label} stopped rating: {error}; texts are generated on, and what has no rating is rated after that")
        with contextlib.suppress(HarnessError):
            self._instance.stop()
        note_lap(run, self._meter, self._key)

    def _end(self) -> None:
        """Stop the judge, and store what has come by then."""
        try:
            self._instance.stop()
        except HarnessError as error:
            self._failed(error)
            return
        self._store(wait=False)


class _JudgeFailed(Exception):
    def __init__(self, error: HarnessError) -> None:
        self.error = error


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
