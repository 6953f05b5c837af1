"""Dictionaries that a task trains on its own corpus: made when they are first used, kept in the artifact cache, found there by every later run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.files.progress import Progress
from harness.interventions import Site
from harness.tasks.dictionaries import TrainTable
from harness.types import Json, rng

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.sae.training.activations import Harvest
    from harness.sae.training.config import TrainConfig, TrainProgress

VERSION = 1
"""Part of the artifacts' keys; raised when training makes something else of the same settings."""


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


def trainers(bench: Bench, tables: Sequence[TrainTable], progress: Progress) -> dict[str, Callable[[], Dictionary]]:
    """Return what trains each dictionary of the ``[[train]]`` tables, by name; nothing is trained yet."""

    def trainer(table: TrainTable, name: str, seed: int) -> Callable[[], Dictionary]:
        return lambda: trained(bench, table, name, seed, progress)

    return {name: trainer(table, name, seed) for table in tables for name, seed in table.seed_names.items()}


def trained(bench: Bench, table: TrainTable, name: str, seed: int, progress: Progress) -> Dictionary:
    """Return one dictionary of a ``[[train]]`` table, from the cache or trained now.

    The seeds of a table share one pass of the model, whose activations are an artifact, too (2 bytes × d_model × tokens).

    Raises:
        DataError: the corpus has too few tokens to train on.
        DictionaryError: the training diverged, or missed its sparsity.
        StoreError: the disk is full or cannot be written.
    """
    import harness.sae
    from harness.sae.training.config import TrainConfig

    bench.model.check_layer(table.layer)
    places = training_texts(bench, table)
    config = TrainConfig(**table.settings, skip=bench.skip, seed=seed)
    texts: Json = {"texts": table.texts, "max_tokens": table.max_tokens, "seed": table.seeds[0] if table.max_tokens else None}
    if table.texts != "all":
        texts["split"] = bench.split.digest

    def compute(folder: Path) -> None:
        _train(bench, table, name, config, _activations(bench, table, config, places, texts, progress), folder, progress)

    key = {"kind": "trained-dictionary", "version": VERSION, "layer": table.layer, "config": config.identity, **texts}
    dictionary = harness.sae.load(bench.artifact(key, compute), device=str(bench.model.device))
    dictionary.source = f"{name} (trained by the task, seed {seed})"  # the cache's folder says nothing to a reader
    harness.sae.check_fits(dictionary, bench.model)
    return dictionary


def training_texts(bench: Bench, table: TrainTable) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return places in the corpus of the texts that a table trains on, ascending. Raises DataError where there is none."""
    from harness.model.activations import row_lengths

    lengths, skip = row_lengths(bench.corpus_tokens), bench.skip
    places = np.arange(len(lengths), dtype=np.int64) if table.texts == "all" else np.asarray(bench.split.part(table.texts))
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


def _activations(
    bench: Bench, table: TrainTable, config: TrainConfig, places: np.ndarray[tuple[int], np.dtype[np.int64]], texts: Json, progress: Progress
) -> Harvest:
    """Return the residual stream of the training texts, collected once for all seeds and architectures."""
    from harness.sae.training.activations import harvest

    rows, site = _Rows(bench.corpus_tokens, places), Site(table.layer)

    def collect(folder: Path, advance: Callable[[int, int], None] | None = None) -> Harvest:
        budget = config.token_budget
        return harvest(bench.model, rows, site, folder, skip=config.skip, outlier=config.outlier, token_budget=budget, advance=advance)

    def compute(folder: Path) -> None:
        with progress.gauge("collecting activations") as gauge:
            collect(folder, gauge)

    budget = {"skip": config.skip, "outlier": config.outlier, "token_budget": config.token_budget}
    return collect(bench.artifact({"kind": "training-activations", "version": VERSION, "layer": table.layer, **budget, **texts}, compute))


def _train(
    bench: Bench, table: TrainTable, name: str, config: TrainConfig, activations: Harvest, folder: Path, progress: Progress
) -> None:
    import torch

    from harness.sae.training.train import describe_training, train_on

    device = torch.device("cuda" if bench.model.device.type == "cuda" else "cpu")
    metadata = describe_training(bench.model, Site(table.layer), config, activations, f"the {table.texts} texts of the task's corpus")
    with progress.gauge(f"training dictionary {name}") as gauge:

        def report(state: TrainProgress) -> None:
            if state.stage == "train":
                gauge(state.done, state.total)

        train_on(activations, config, folder, metadata, device, report)
