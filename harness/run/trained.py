"""Dictionaries that a task trains on its own corpus: made when they are first used, kept in the artifact cache, found there by every later run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from harness.contracts import Bench
from harness.errors import DataError
from harness.files.progress import Progress
from harness.interventions import Site
from harness.tasks.dictionaries import TrainTable
from harness.tasks.schema import Task
from harness.types import Json, rng

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary
    from harness.sae.training.activations import Harvest
    from harness.sae.training.config import TrainConfig, TrainProgress

VERSION = 1
"""Part of the artifacts' keys; raised when training makes something else of the same settings."""


class TrainingBench(Bench, Protocol):
    """What a task's bench offers to training beyond the contract."""

    task: Task

    def model_artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """As ``artifact``, for what does not depend on the task's corpus."""


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


def trainers(bench: TrainingBench, tables: Sequence[TrainTable], progress: Progress) -> dict[str, Callable[[], Dictionary]]:
    """Return what trains each dictionary of the ``[[train]]`` tables, controls among them, by name; nothing is trained yet."""

    def trainer(table: TrainTable, name: str, seed: int, control: str) -> Callable[[], Dictionary]:
        return lambda: trained(bench, table, name, seed, progress, control)

    return {name: trainer(table, name, *which) for table in tables for name, which in table.all_names.items()}


def trained(bench: TrainingBench, table: TrainTable, name: str, seed: int, progress: Progress, control: str = "none") -> Dictionary:
    """Return one dictionary of a ``[[train]]`` table, from the cache or trained now.

    The seeds of a table and their controls share one pass of the model, whose activations are an artifact, too (2 bytes × d_model × tokens).

    Args:
        bench: the task's bench.
        table: the recipe.
        name: the dictionary's name within the task.
        seed: one of the table's.
        progress: where the progress is shown.
        control: one of the table's, or ``none``.

    Raises:
        DataError: the corpus has too few tokens to train on.
        DictionaryError: the training diverged, or missed its sparsity.
        StoreError: the disk is full or cannot be written.
    """
    import harness.sae
    from harness.sae.training.config import TrainConfig

    bench.model.check_layer(table.layer)
    texts = texts_of(bench, table)
    config = TrainConfig(**table.settings, skip=texts.skip, seed=seed, control=control)  # type: ignore[arg-type]

    def compute(folder: Path) -> None:
        fitted(bench, table, name, config, collected(bench, table, config, texts, progress), texts.source, folder, progress)

    key = {"kind": "trained-dictionary", "version": VERSION, "layer": table.layer, "config": config.identity, **texts.key}
    dictionary = harness.sae.load(texts.artifact(key, compute), device=str(bench.model.device))
    how = "trained by the task" if control == "none" else f"{control}, trained by the task"
    dictionary.source = f"{name} ({how}, seed {seed})"  # the cache's folder says nothing to a reader
    harness.sae.check_fits(dictionary, bench.model)
    return dictionary


@dataclass(frozen=True)
class TrainingTexts:
    """What a table trains on.

    Attributes:
        rows: token ids of the texts.
        skip: leading tokens of each that do not count.
        key: what they are, for the keys of what is made of them.
        artifact: keeps it.
        source: what they are, for people.
    """

    rows: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]
    skip: int
    key: dict[str, Json]
    artifact: Callable[[Json, Callable[[Path], None]], Path]
    source: str


def texts_of(bench: TrainingBench, table: TrainTable) -> TrainingTexts:
    """Return what a table trains on: texts of the corpus, or of its file of token ids. Raises DataError where there is none, or it does not fit."""
    from harness.model.token_file import read_token_file

    key: dict[str, Json] = {"max_tokens": table.max_tokens, "seed": table.seeds[0] if table.max_tokens else None}
    if table.tokens is None:
        key["texts"] = table.texts
        if table.texts != "all":
            key["split"] = bench.split.digest
        rows = _Rows(bench.corpus_tokens, training_texts(bench, table))
        return TrainingTexts(rows, bench.skip, key, bench.artifact, f"the {table.texts} texts of the task's corpus")
    file = read_token_file(bench.task.path(table.tokens))
    file.check_fits(bench.model)
    places = _drawn(table, file.lengths.astype(np.int64), np.arange(len(file.lengths)), file.skip)
    key["tokens"] = file.digest
    return TrainingTexts(_Rows(file.rows, places), file.skip, key, bench.model_artifact, file.source or Path(table.tokens).name)


def training_texts(bench: TrainingBench, table: TrainTable) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return places in the corpus of the texts that a table trains on, ascending. Raises DataError where there is none."""
    from harness.model.activations import row_lengths

    lengths = row_lengths(bench.corpus_tokens)
    places = np.arange(len(lengths), dtype=np.int64) if table.texts == "all" else np.asarray(bench.split.part(table.texts))
    return _drawn(table, lengths, places, bench.skip)


_Places = np.ndarray[tuple[int], np.dtype[np.int64]]


def _drawn(table: TrainTable, lengths: _Places, places: _Places, skip: int) -> _Places:
    """Return those of the texts ``places`` that a table trains on: with a token that counts, and within its ``max_tokens``."""
    places = places[lengths[places] > skip]
    if table.max_tokens is not None:
        order = rng(table.seeds[0], "training-texts").permutation(len(places))
        fits = np.cumsum(lengths[places[order]] - skip) <= table.max_tokens
        places = np.sort(places[order[: int(fits.sum())]])
    if not len(places):
        hint = "give a corpus with longer texts, or a larger max_tokens"
        raise DataError(f"[[train]] {table.name!r} has no text to train on", given=table.name, hint=hint)
    return places


class _Rows(Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]]):
    """Some texts' token ids, read from the disk when they are asked for."""

    def __init__(self, rows: Sequence[np.ndarray[tuple[int], np.dtype[np.int64]]], places: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
        self._rows, self._places = rows, places

    def __getitem__(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:  # type: ignore[override]
        return self._rows[int(self._places[index])]

    def __len__(self) -> int:
        return len(self._places)


def collected(bench: TrainingBench, table: TrainTable, config: TrainConfig, texts: TrainingTexts, progress: Progress) -> Harvest:
    """Return the residual stream of the training texts, collected once for all seeds, controls and architectures."""
    from harness.sae.training.activations import harvest

    rows, site = texts.rows, Site(table.layer)

    def collect(folder: Path, advance: Callable[[int, int], None] | None = None) -> Harvest:
        budget = config.token_budget
        return harvest(bench.model, rows, site, folder, skip=config.skip, outlier=config.outlier, token_budget=budget, advance=advance)

    def compute(folder: Path) -> None:
        with progress.gauge("collecting activations") as gauge:
            collect(folder, gauge)

    budget = {"skip": config.skip, "outlier": config.outlier, "token_budget": config.token_budget}
    return collect(texts.artifact({"kind": "training-activations", "version": VERSION, "layer": table.layer, **budget, **texts.key}, compute))


def fitted(
    bench: TrainingBench, table: TrainTable, name: str, config: TrainConfig, activations: Harvest, source: str, folder: Path, progress: Progress
) -> None:
    """Train a dictionary on collected activations and export it to ``folder``."""
    import torch

    from harness.sae.training.train import describe_training, train_on

    device = torch.device("cuda" if bench.model.device.type == "cuda" else "cpu")
    metadata = describe_training(bench.model, Site(table.layer), config, activations, source)
    with progress.gauge(f"training dictionary {name}") as gauge:

        def report(state: TrainProgress) -> None:
            if state.stage == "train":
                gauge(state.done, state.total)

        train_on(activations, config, folder, metadata, device, report)
