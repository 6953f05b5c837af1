"""One evaluation of a task as a command does it: the plan, what it may cost, the run, its entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.common import make_bench, show_pending

if TYPE_CHECKING:
    from harness.chat.cost import Estimate
    from harness.cli.spending import Purse
    from harness.leaderboard.entry import Entry
    from harness.plugin.host import PluginHost
    from harness.run.bench import Choices, TaskBench
    from harness.run.plan import Asked, Plan
    from harness.tasks.matrix import Cell
    from harness.tasks.schema import Task


@dataclass(frozen=True)
class Evaluation:
    """What is evaluated, and where it is kept; run once for each seed, and for each cell of a matrix."""

    host: PluginHost
    task: Task
    where: str
    asked: Asked
    out: Path
    fresh: bool
    quiet: bool
    purse: Purse

    def run(self, choices: Choices, left: int = 1) -> tuple[Entry, Path, Path]:
        """Do one run, or go on with it. Returns its entry, ``out`` and the run's folder.

        Args:
            choices: what is replaced in the task.
            left: so many runs alike are still to be done, this one among them: what they all may cost is asked about at once.
        """
        from harness.evaluations.evaluate import changed_code, evaluate, run_folder, set_aside, settle
        from harness.evaluations.steering.retired import check_judge_answers
        from harness.run.manifest import command_of
        from harness.run.plan import make_plan
        from harness.run.run import Run

        plan, bench = make_plan(self.host, self.task, self.asked), make_bench(self.task, choices, self.quiet)
        manifest = settle(plan, bench, command_of(self.where, bench, self.asked, self.host.files))
        folder = run_folder(self.out, manifest)
        check_judge_answers(plan, folder, self.fresh)
        if why := changed_code(folder, manifest):
            bench.progress.step(why)
        if self.fresh or not _generated(folder):  # else the judge's own estimate of what is left is exact, and asked about before anything is sent
            known = None if self.fresh else folder
            parts = {who: estimate.times(left) for who, estimate in foreseen(plan, bench, known).items()}
            self.purse.approve_all(parts, self.purse.given)
        if self.fresh and (kept := set_aside(folder)) is not None:  # not before the cost is approved
            bench.progress.step(f"the stored run is kept in {kept}")
        bench.progress.step(f"run {folder}")
        with Run.begin(folder, manifest, plan, bench, self.host, self.purse.approve) as run:
            entry = evaluate(run)
            show_pending(run.store, [record.key for record in run.judge_records.values()])
        return entry, self.out, folder


    def at(self, cell: Cell) -> Evaluation:
        """Return the evaluation of one cell of the task's matrix."""
        from harness.tasks.matrix import MARK

        return replace(self, task=self.task.at(cell), where=f"{self.where}{MARK}{cell.name}")


def foreseen(plan: Plan, bench: TaskBench, folder: Path | None = None) -> dict[str, Estimate]:
    """Return what a run may cost at most, by who spends it; ``folder``: where it may have been begun, and measurements lie that cost no more."""
    from harness.cli.dry_run import concept_count, estimate_of
    from harness.cli.spending import foresee

    n_concepts, exact, _ = concept_count(plan, bench)
    return foresee(plan, bench, estimate_of(plan, bench, n_concepts, exact).ratings, n_concepts, _measured(folder))


def _measured(folder: Path | None) -> set[str]:
    """Return the ids of the measurements that a run has."""
    from harness.errors import StoreError
    from harness.evaluations.dictionary.rows import MEASURE
    from harness.store import RunStore

    if folder is None or not folder.is_dir():
        return set()
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            return {outcome.item_id for outcome in store.outcomes(MEASURE, kind="dictionary")}
    except StoreError:
        return set()


def _generated(folder: Path) -> bool:
    """Return whether a run has all its texts already."""
    from harness.errors import StoreError
    from harness.store import RunStore

    if not folder.is_dir():
        return False
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            counts = store.counts()
            return counts["trials"] > 0 and counts["generations"] == counts["trials"]
    except StoreError:  # stopped before it began, or damaged: whoever opens it to write mends it, or says what is wrong
        return False
