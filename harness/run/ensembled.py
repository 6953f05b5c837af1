"""Ensembles of a task: its dictionaries taken together, or members trained one after the other on what is left over."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files.progress import Progress
from harness.run.known_trainings import note_trained
from harness.run.trained import fitted
from harness.run.training_data import VERSION, TrainingBench, training_data
from harness.tasks.dictionaries import EnsembleTable, TrainTable

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary


def ensemblers(bench: TrainingBench, member: Callable[[str], Dictionary], progress: Progress) -> dict[str, Callable[[], Dictionary]]:
    """Return what makes each ensemble of the task, by name; nothing is loaded or trained yet.

    Args:
        bench: the task's bench.
        member: opens a dictionary of the task by its name.
        progress: where the progress is shown.
    """
    recipes = {table.name: table for table in bench.task.file.train}

    def maker(table: EnsembleTable) -> Callable[[], Dictionary]:
        return lambda: _ensemble(bench, table, recipes, member, progress)

    return {table.name: maker(table) for table in bench.task.file.ensembles}


def _ensemble(
    bench: TrainingBench, table: EnsembleTable, recipes: dict[str, TrainTable], member: Callable[[str], Dictionary], progress: Progress
) -> Dictionary:
    from harness.sae.ensembles import bagged, boosted

    if table.kind == "bagging":
        names = table.members or tuple(recipes[table.of or ""].seed_names)
        return bagged([member(name) for name in names], f"{table.name} (bagging of {', '.join(names)})")
    assert table.of is not None
    assert table.n is not None
    stages = [member(table.of)]
    for _ in range(1, table.n):
        stages.append(_next_stage(bench, recipes[table.of], stages, progress))
    return boosted(stages, f"{table.name} ({table.n} boosted members of {table.of})")


def boosted_name(table: TrainTable, stage: int) -> str:
    """Return what a member of a boosted ensemble is called, by its place from 1 up; the first of all is the table's own dictionary."""
    return f"{table.name}, boosted member {stage + 1}"


def _next_stage(bench: TrainingBench, table: TrainTable, before: list[Dictionary], progress: Progress) -> Dictionary:
    """Return a dictionary that is trained on what those ``before`` leave over, from the cache or trained now.

    Its seed is the table's first plus its place.

    Raises the errors of :func:`harness.run.trained.trained`.
    """
    import harness.sae
    from harness.sae.ensembles import left_over

    stage, data = len(before), training_data(bench, table)
    name = boosted_name(table, stage)
    config = data.config(table, table.seeds[0] + stage)

    def compute(folder: Path) -> None:
        left = data.collect(config, progress)
        for place, dictionary in enumerate(before):
            left = left_over(left, dictionary, folder / f"left-{place}")
        fitted(data, name, config, left, folder, progress)
        for place in range(stage):
            shutil.rmtree(folder / f"left-{place}")

    key = {
        "kind": "boosting-member", "version": VERSION, "layer": table.layer, "config": config.identity,
        "before": [dictionary.digest for dictionary in before], **data.key,
    }  # fmt: skip
    folder = data.artifact(key, compute)
    dictionary = harness.sae.load(folder, device=str(data.device))
    note_trained(bench.task, bench.choices, table, name, folder, dictionary)
    dictionary.source = f"{name} (seed {config.seed})"
    return dictionary
