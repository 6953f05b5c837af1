"""Dictionaries that a task trains on its own corpus: made when they are first used, kept in the artifact cache, found there by every later run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DataError
from harness.files.progress import Progress
from harness.files.version import own_version
from harness.interventions import Site
from harness.tasks.dictionaries import TrainTable
from harness.types import Json, rng

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.sae.synthetic.source import SyntheticSource
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

    def trainer(table: TrainTable, name: str, seed: int, snapshot: int | None) -> Callable[[], Dictionary]:
        return lambda: trained(bench, table, name, seed, progress, snapshot)

    return {
        name: trainer(table, name, seed, snapshot)
        for table in tables
        for snapshot, seeds in zip((*table.snapshots, None), table.members.values(), strict=True)
        for name, seed in seeds.items()
    }


def trained(bench: Bench, table: TrainTable, name: str, seed: int, progress: Progress, snapshot: int | None = None) -> Dictionary:
    """Return one dictionary of a ``[[train]]`` table, from the cache or trained now; with ``snapshot``, as it was after so many tokens.

    The seeds of a table share one pass of the model, whose activations are an artifact, too (2 bytes × d_model × tokens). On a task of synthetic
    activations these are the source's samples.

    Raises:
        DataError: the corpus has too few tokens to train on.
        DictionaryError: the training diverged, or missed its sparsity.
        StoreError: the disk is full or cannot be written.
    """
    import harness.sae
    from harness.sae.training.train import snapshot_folder

    config = training_config(bench, table, seed)
    key, vectors = training_vectors(bench, table, config, progress)

    def compute(folder: Path) -> None:
        _train(bench, table, name, config, vectors(), folder, progress)

    kept: Json = {"snapshots": list(table.snapshots)} if table.snapshots else {}
    full = {"kind": "trained-dictionary", "version": VERSION, "layer": table.layer, "config": asdict(config), **key, **kept}
    folder = bench.artifact(full, compute)
    source = bench.synthetic
    folder = folder if snapshot is None else snapshot_folder(folder, snapshot)
    dictionary = harness.sae.load(folder, device=str(bench.model.device if source is None else source.device))
    after = "" if snapshot is None else f", after {snapshot} tokens"
    dictionary.source = f"{name} (trained by the task, seed {seed}{after})"  # the cache's folder says nothing to a reader
    if source is None:
        harness.sae.check_fits(dictionary, bench.model)
    return dictionary


def training_config(bench: Bench, table: TrainTable, seed: int) -> TrainConfig:
    """Return the settings of a table's training. Raises ModelError for a layer that the model lacks."""
    from harness.sae.training.config import TrainConfig

    if bench.synthetic is not None:
        return TrainConfig(**table.settings, skip=0, outlier=0.0, seed=seed)
    bench.model.check_layer(table.layer)
    return TrainConfig(**table.settings, skip=bench.skip, seed=seed)


def training_vectors(bench: Bench, table: TrainTable, config: TrainConfig, progress: Progress) -> tuple[dict[str, Json], Callable[[], Harvest]]:
    """Return what identifies the vectors that a table trains on, and what collects or draws them where the cache lacks them."""
    source = bench.synthetic
    if source is not None:
        n = min(table.max_tokens or source.n_samples, source.n_samples)
        return {"samples": [source.digest, n]}, lambda: _drawn(bench, source, n, progress)
    places = training_texts(bench, table)
    texts: dict[str, Json] = {"texts": table.texts, "max_tokens": table.max_tokens, "seed": table.seeds[0] if table.max_tokens else None}
    if table.texts != "all":
        texts["split"] = bench.split.digest
    return texts, lambda: _activations(bench, table, config, places, texts, progress)


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

    source = bench.synthetic
    device = torch.device("cuda" if (bench.model if source is None else source).device.type == "cuda" else "cpu")
    if source is None:
        metadata = describe_training(bench.model, Site(table.layer), config, activations, f"the {table.texts} texts of the task's corpus")
    else:
        metadata = _describe_synthetic(source, config, activations)
    with progress.gauge(f"training dictionary {name}") as gauge:

        def report(state: TrainProgress) -> None:
            if state.stage == "train":
                gauge(state.done, state.total)

        train_on(activations, config, folder, metadata, device, report, snapshots=table.snapshots)


def _drawn(bench: Bench, source: SyntheticSource, n: int, progress: Progress) -> Harvest:
    """Return the samples that ``n`` are trained on of, some held out; drawn once for all trainings on them."""
    from harness.sae.synthetic.harvest import harvest_samples
    from harness.sae.training.activations import open_harvest
    from harness.sae.training.fit import with_held_out

    total = with_held_out(n)

    def compute(folder: Path) -> None:
        with progress.gauge("drawing samples") as gauge:
            harvest_samples(source, total, folder, gauge)

    return open_harvest(bench.artifact({"kind": "synthetic-samples", "version": VERSION, "source": source.digest, "n": total}, compute))


def _describe_synthetic(source: SyntheticSource, config: TrainConfig, activations: Harvest) -> dict[str, Json]:
    """Return how a dictionary of synthetic activations was made; the hook's name is that of a layer's output, as loading wants one."""
    return {
        "model_name": source.title,
        "hook_name": "blocks.0.hook_resid_post",
        "context_size": 1,
        "dataset_path": f"{activations.n} samples",
        "harness_version": own_version(),
        "harness_training": {"layer": 0, "distinct_tokens": activations.n, "source": asdict(source.config), **asdict(config)},
    }
