"""A stored run's plan and bench, made again from what the run remembers of its command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.errors import StoreError
from harness.evaluations.steering.generate import grid
from harness.plugin.host import PluginHost
from harness.run.bench import Choices, TaskBench, open_bench
from harness.run.notes import recall_warnings
from harness.run.plan import Asked, Plan, labelings_of, make_plan, plan_json
from harness.store import RunStore
from harness.tasks.find import find_task
from harness.types import Abstention, Json, Labeling, canonical_json


def reopen(
    store: RunStore, host: PluginHost, quiet: bool, judge: str, judge_options: Mapping[str, Any]
) -> tuple[Plan, TaskBench, dict[str, Sequence[Labeling | Abstention]]]:
    """The plan of a stored run with another judge, its bench, and its labelers' answers.

    Raises:
        StoreError: the run does not say how it was made, has not finished labelling and generating, or task, model, corpus or plugins
            have changed since, so that a new entry would describe something else.
    """
    asked_notes = store.notes("asked")
    if not asked_notes:
        raise StoreError(f"the run in {store.folder} does not say how it was made; run its `harness eval` again first")
    value = asked_notes[0].value
    given: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value["asked"].items()}
    asked = Asked(**given)
    task = find_task(host, value["task"])
    bench = open_bench(task, Choices(**value["choices"]), quiet)
    original = make_plan(host, task, asked)
    if _texts(plan_json(original, bench)) != _texts(store.plan):
        raise StoreError(
            f"the task, model, corpus or plugins of the run in {store.folder} have changed since it was made; run `harness eval` again"
        )
    plan = make_plan(host, task, replace(asked, judge=judge, judge_options=dict(judge_options)))
    answers: dict[str, Sequence[Labeling | Abstention]] = {}
    for labeler in plan.labelers:
        found = store.labelings(labeler.key)
        if found is None:
            raise StoreError(f"the run in {store.folder} stopped before labelling was done; run its `harness eval` again first")
        answers[labeler.key] = found
    labelings = {method.method.id: labelings_of(plan, method, answers, bench) for method in plan.methods}
    if store.counts()["generations"] < len({trial.id for trial in grid(plan, labelings, bench)}):
        raise StoreError(f"the run in {store.folder} stopped before all its texts were generated; run its `harness eval` again first")
    recall_warnings(bench, store)
    return plan, bench, answers


def _texts(plan: Mapping[str, Json]) -> str:
    """What the texts of a run depend on: all of its plan but who judges, which the environment may say (OPENAI_BASE_URL)."""
    return canonical_json({name: value for name, value in plan.items() if name != "judge"})
