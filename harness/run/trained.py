"""Dictionaries that a task trains itself: made when they are first used, kept in the artifact cache, found there by every later run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files.progress import Progress
from harness.files.timing import CLOCK
from harness.run.known_trainings import note_trained
from harness.run.throughput import TRAINING, remember_rate, training_name
from harness.run.training_data import VERSION, TrainingBench, TrainingData, training_data
from harness.tasks.dictionaries import TrainTable
from harness.types import Json

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary
    from harness.sae.training.activations import Harvest
    from harness.sae.training.config import TrainConfig, TrainProgress


class TaskDictionaries(Mapping[str, "Dictionary"]):
    """A task's dictionaries by name; each is loaded or trained when it is first asked for.

    Args:
        makers: by name, what loads or trains it.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Dictionary]]) -> None:
        self._makers = dict(makers)
        self._made: dict[str, Dictionary] = {}

    def __getitem__(self, name: str) -> Dictionary:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __contains__(self, name: object) -> bool:
        return name in self._makers  # Mapping's own would train it to find out


@dataclass(frozen=True, eq=False)
class TableTraining:
    """One training of a ``[[train]]`` table.

    Attributes:
        data: what is trained on.
        config: how.
        snapshots: numbers of tokens after which the dictionary is kept as it is, too.
        key: under which all that comes of it is kept as one artifact of ``data``.
    """

    data: TrainingData
    config: TrainConfig
    snapshots: tuple[int, ...]
    key: Json


def training_of(bench: TrainingBench, table: TrainTable, seed: int, control: str = "none") -> TableTraining:
    """Return a training of a table; nothing is collected or trained. Raises DataError, ModelError as :func:`training_data`."""
    data = training_data(bench, table)
    config, snapshots = data.config(table, seed, control), table.snapshots if control == "none" else ()
    kept: dict[str, Json] = {"snapshots": list(snapshots)} if snapshots else {}
    key: Json = {"kind": "trained-dictionary", "version": VERSION, "layer": table.layer, "config": config.identity, **data.key, **kept}
    return TableTraining(data, config, snapshots, key)


def trainers(bench: TrainingBench, tables: Sequence[TrainTable], progress: Progress) -> dict[str, Callable[[], Dictionary]]:
    """Return what trains each dictionary of the ``[[train]]`` tables, snapshots and controls among them, by name; nothing is trained yet."""

    def trainer(table: TrainTable, name: str, seed: int, control: str, snapshot: int | None) -> Callable[[], Dictionary]:
        return lambda: trained(bench, table, name, seed, progress, control, snapshot)

    return {name: trainer(table, name, *which) for table in tables for name, which in table.all_names.items()}


def trained(
    bench: TrainingBench, table: TrainTable, name: str, seed: int, progress: Progress, control: str = "none", snapshot: int | None = None
) -> Dictionary:
    """Return one dictionary of a ``[[train]]`` table, from the cache or trained now.

    The seeds of a table and their controls share one pass of the model, whose activations are an artifact, too (2 bytes × d_model × tokens). On a
    task of synthetic activations these are the source's samples.

    Args:
        bench: the task's bench.
        table: the recipe.
        name: the dictionary's name within the task.
        seed: one of the table's.
        progress: where the progress is shown.
        control: one of the table's, or ``none``.
        snapshot: one of the table's: the dictionary as it was after so many tokens; None for the whole training.

    Raises:
        DataError: there are too few tokens to train on.
        DictionaryError: the training diverged, or missed its sparsity.
        StoreError: the disk is full or cannot be written.
    """
    import harness.sae
    from harness.sae.training.train import snapshot_folder

    training = training_of(bench, table, seed, control)
    data, config = training.data, training.config

    def compute(folder: Path) -> None:
        fitted(data, name, config, data.collect(config, progress), folder, progress, training.snapshots)

    folder = data.artifact(training.key, compute)
    dictionary = harness.sae.load(folder if snapshot is None else snapshot_folder(folder, snapshot), device=str(data.device))
    note_trained(bench.task, bench.choices, table, name, folder, dictionary)
    how = "trained by the task" if control == "none" else f"{control}, trained by the task"
    after = "" if snapshot is None else f", after {snapshot} tokens"
    dictionary.source = f"{name} ({how}, seed {seed}{after})"  # the cache's folder says nothing to a reader
    if bench.synthetic is None:
        harness.sae.check_fits(dictionary, bench.model)
    return dictionary


def fitted(
    data: TrainingData, name: str, config: TrainConfig, activations: Harvest, folder: Path, progress: Progress, snapshots: Sequence[int] = ()
) -> None:
    """Train a dictionary on collected activations and export it to ``folder``; how fast that went is kept for a later ``--dry-run``."""
    import torch

    from harness.sae.training.checkpoint import CHECKPOINT_FILE
    from harness.sae.training.train import train_on

    device = torch.device("cuda" if data.device.type == "cuda" else "cpu")
    begun, before, tokens = (folder / CHECKPOINT_FILE).exists(), time.monotonic(), 0
    with progress.gauge(f"training dictionary {name}") as gauge, CLOCK.part(TRAINING, whole=True):

        def report(state: TrainProgress) -> None:
            nonlocal tokens
            if state.stage == "train":
                gauge(state.done, state.total)
                tokens = state.done

        train_on(activations, config, folder, data.describe(config, activations), device, report, snapshots=snapshots)
    if not begun:  # else an earlier process has done some of it
        remember_rate(training_name(data.bench.task, config, config.control, data.device.type), tokens, time.monotonic() - before)
