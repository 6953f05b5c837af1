"""A run whose judge is gone: refused before anything is generated, unless everything that the judge would be asked is known already."""

from __future__ import annotations

from pathlib import Path

from harness.errors import StoreError
from harness.evaluations.steering.judge_record import record_of
from harness.evaluations.steering.rate import items_of
from harness.run.plan import Plan, PlannedPlugin
from harness.run.retiring import check_can_rate, judge_is_gone
from harness.store import RunStore
from harness.store.values import of_judge
from harness.types import JudgeItem


def check_judge_answers(plan: Plan, folder: Path, fresh: bool = False) -> None:
    """Refuse a plan whose judge is gone where that judge would have to be asked.

    Args:
        plan: what is to be done.
        folder: of the run, which may not exist yet.
        fresh: the run is made anew, whatever is stored.

    Raises:
        JudgeError: the judge's model was shut down, and texts of the run, or replies about them, are missing.
    """
    judge = plan.judge
    error = judge_is_gone(judge) if judge is not None else None
    if judge is None or error is None:
        return
    items = None if fresh else _unrated(judge, folder)
    if items is None:
        raise error
    check_can_rate(judge, items)


def _unrated(judge: PlannedPlugin, folder: Path) -> list[JudgeItem] | None:
    """Return a run's texts that a judge was never shown; None for a run that lacks texts, or that is not there."""
    if not folder.is_dir():
        return None
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            counts = store.counts()
            if not counts["trials"] or counts["generations"] < counts["trials"]:
                return None
            now = record_of(judge)
            missing = min((store.missing_ratings(record.key) for record in (now, *of_judge(now, store.judges()))), key=len)
            return items_of(missing, {trial.id: trial for trial in store.trials()}, store)
    except StoreError:  # stopped before it began, or damaged: whoever opens it to write says what is wrong
        return None
