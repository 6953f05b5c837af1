"""The main job: label, steer, generate, judge, score. It reads like the diagram in docs/architecture.md.

Each value is in the run store as soon as it exists; a run that was stopped goes on where it stopped, since every step asks the store first.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.evaluations.steering.generate import generate, grid
from harness.evaluations.steering.label import label
from harness.evaluations.steering.rate import rate
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.run.notes import recall_warnings, tell
from harness.run.plan import Answers, Plan, labelings_of, plan_json
from harness.run.prepare import Approve
from harness.store import JudgeRecord, RunStore
from harness.types import digest

if TYPE_CHECKING:
    from harness.leaderboard.entry import Entry


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
    from harness.evaluations.steering.score import make_entry

    entry = make_entry(plan, answers, bench, store, judge)
    own = store.plan["judge"] == {"name": judge.name, "options": dict(judge.options)}
    store.finish(entry.as_json(), "entry.json" if own else f"entry-{judge.key}.json")
    tell(host, bench, store, "harness_run_finished", entry=entry.as_json(), folder=store.folder)
    return entry


# ------------------------------------------------------------------------------------------------------------------- labelling








# ------------------------------------------------------------------------------------------------------------------ generating










def run_folder(out: Path, identity: str) -> Path:
    """Where a run is kept below ``out``."""
    return out / "runs" / identity
