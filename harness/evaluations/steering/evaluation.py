"""Steering: labeling × strength × instruction → text → rating. Rating is a second stage, done again for each judge.

A third, where it is asked for, measures the side effects of the strengths that the ratings have chosen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.evaluations.base import Stage
from harness.evaluations.steering.generate import texts, trials_of
from harness.evaluations.steering.judge_record import judge_record
from harness.evaluations.steering.meanwhile import rated_meanwhile
from harness.evaluations.steering.rate import ratings
from harness.evaluations.steering.score import steering_rows
from harness.evaluations.steering.side_effects import SIDE_EFFECTS
from harness.evaluations.steering.side_effects.texts import source
from harness.evaluations.steering.side_effects.work import side_effects
from harness.leaderboard.entry import Row
from harness.run.run import Run
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest
from harness.store.values import GENERATE, RATE, Item, Outcome, rating_outcome, text_outcome, trial_item
from harness.types import EvaluationKind


class Steering:
    """See the module. Implements :class:`harness.evaluations.base.Evaluation`."""

    kind: EvaluationKind = "steering"

    def wanted(self, manifest: Manifest) -> bool:
        return bool(manifest.methods_of("steering"))

    def stages(self, run: Run) -> Sequence[Stage]:
        """Return texts, then ratings by the run's judge; then, if they are asked for, side effects at the strengths that these choose."""
        judge = run.planned.judge
        assert judge is not None, "a plan that steers has a judge"
        further = [Stage(SIDE_EFFECTS, source(), again=True)] if run.planned.side_effects else []
        return Stage(GENERATE, "", spread=True), Stage(RATE, judge_record(run, judge).key, again=True), *further

    def items(self, run: Run, stage: Stage) -> Sequence[Item]:
        """Return the trials: each is generated, and rated. Side effects are kept with the first of those at the chosen strength."""
        return [trial_item(trial) for trial in trials_of(run.manifest, run.store)]

    def work(self, run: Run, stage: Stage, items: Sequence[Item]) -> Iterator[Outcome]:
        judge = run.planned.judge
        assert judge is not None, "a plan that steers has a judge"
        if stage.name == GENERATE:
            for text in rated_meanwhile(run, judge, texts(run, [item.id for item in items])):
                yield text_outcome(text)
            return
        if stage.name == SIDE_EFFECTS:
            yield from side_effects(run, judge_record(run, judge).key)
            return
        for rating in ratings(run, judge):
            yield rating_outcome(rating, stage.source)

    def score(self, manifest: Manifest, store: RunStore, judge: JudgeRecord | None) -> Sequence[Row]:
        return steering_rows(manifest, store, judge) if judge is not None else ()
