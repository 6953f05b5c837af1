"""Dictionaries that a task trains on its own corpus: made when they are first used, kept in the artifact cache, found there by every later run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from harness.contracts import Bench
from harness.errors import DataError
from harness.files.progress import Progress
from harness.files.version import own_version
from harness.interventions import Site
from harness.tasks.dictionaries import TrainTable
from harness.tasks.schema import Task
from harness.types import Json, rng

if TYPE_CHECKING:
    from harness.model.token_file import TokenFile
    from harness.sae.dictionary import Dictionary
    from harness.sae.synthetic.source import SyntheticSource
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

    def trainer(table: TrainTable, name: str, seed: int, snapshot: int | None, control: str) -> Callable[[], Dictionary]:
        return lambda: trained(bench, table, name, seed, progress, snapshot, control)

    found = {
        name: trainer(table, name, seed, snapshot, "none")
        for table in tables
        for snapshot, seeds in zip((*table.snapshots, None), table.members.values(), strict=True)
        for name, seed in seeds.items()
    }
    controls = ((table, name, seed, control) for table in tables for control, names in table.control_names.items() for name, seed in names.items())
    return found | {name: trainer(table, name, seed, None, control) for table, name, seed, control in controls}


def trained(
    bench: TrainingBench, table: TrainTable, name: str, seed: int, progress: Progress, snapshot: int | None = None, control: str = "none"
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
        snapshot: as it was after so many tokens; None for the whole training.
        control: one of the table's, or ``none``.

    Raises:
        DataError: the corpus has too few tokens to train on.
        DictionaryError: the training diverged, or missed its sparsity.
        StoreError: the disk is full or cannot be written.
    """
    import harness.sae
    from harness.sae.training.train import snapshot_folder

    config = training_config(bench, table, seed, control)
    data = training_vectors(bench, table, config, progress)

    def compute(folder: Path) -> None:
        fitted(bench, table, name, config, data.vectors(), data.source, folder, progress)

    kept: Json = {"snapshots": list(table.snapshots)} if table.snapshots else {}
    key = {"kind": "trained-dictionary", "version": VERSION, "layer": table.layer, "config": config.identity, **data.key, **kept}
    folder, source = data.artifact(key, compute), bench.synthetic
    folder = folder if snapshot is None else snapshot_folder(folder, snapshot)
    dictionary = harness.sae.load(folder, device=str(bench.model.device if source is None else source.device))
    after = "" if snapshot is None else f", after {snapshot} tokens"
    how = "trained by the task" if control == "none" else f"{control}, trained by the task"
    dictionary.source = f"{name} ({how}, seed {seed}{after})"  # the cache's folder says nothing to a reader
    if source is None:
        harness.sae.check_fits(dictionary, bench.model)
    return dictionary


def training_config(bench: TrainingBench, table: TrainTable, seed: int, control: str = "none") -> TrainConfig:
    """Return the settings of a table's training. Raises ModelError for a layer that the model lacks."""
    from harness.sae.training.config import TrainConfig

    if bench.synthetic is not None:
        return TrainConfig(**table.settings, skip=0, outlier=0.0, seed=seed, control=control)  # type: ignore[arg-type]
    bench.model.check_layer(table.layer)
    skip = bench.skip if table.tokens is None else _token_file(bench, table).skip
    return TrainConfig(**table.settings, skip=skip, seed=seed, control=control)  # type: ignore[arg-type]


class TrainingData(NamedTuple):
    """What a table trains on.

    Attributes:
        key: what identifies the vectors, for the keys of what is made of them.
        vectors: collects or draws them where the cache lacks them.
        artifact: keeps what is made of them.
        source: what the texts are, for people.
    """

    key: dict[str, Json]
    vectors: Callable[[], Harvest]
    artifact: Callable[[Json, Callable[[Path], None]], Path]
    source: str


def training_vectors(bench: TrainingBench, table: TrainTable, config: TrainConfig, progress: Progress) -> TrainingData:
    """Return the vectors that a table trains on: of the corpus' texts, of its file of token ids, or of a synthetic source.

    Raises DataError where there is no text, or the file does not fit.
    """
    source = bench.synthetic
    if source is not None:
        n = min(table.max_tokens or source.n_samples, source.n_samples)
        return TrainingData({"samples": [source.digest, n]}, lambda: _samples(bench, source, n, progress), bench.artifact, f"{n} samples")
    key: dict[str, Json] = {"max_tokens": table.max_tokens, "seed": table.seeds[0] if table.max_tokens else None}
    if table.tokens is not None:
        file = _token_file(bench, table)
        places = _drawn(table, file.lengths.astype(np.int64), np.arange(len(file.lengths)), file.skip)
        rows, artifact, what = _Rows(file.rows, places), bench.model_artifact, file.source or Path(table.tokens).name
        key["tokens"] = file.digest
    else:
        rows, artifact = _Rows(bench.corpus_tokens, training_texts(bench, table)), bench.artifact
        what = f"the {table.texts} texts of the task's corpus"
        key["texts"] = table.texts
        if table.texts != "all":
            key["split"] = bench.split.digest
    return TrainingData(key, lambda: _activations(bench, table, config, rows, key, artifact, progress), artifact, what)


def _token_file(bench: TrainingBench, table: TrainTable) -> TokenFile:
    from harness.model.token_file import read_token_file

    assert table.tokens is not None
    file = read_token_file(bench.task.path(table.tokens))
    file.check_fits(bench.model)
    return file


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


def _activations(
    bench: TrainingBench, table: TrainTable, config: TrainConfig, rows: _Rows, texts: Json, artifact: Callable[..., Path], progress: Progress
) -> Harvest:
    """Return the residual stream of the training texts, collected once for all seeds, controls and architectures."""
    from harness.sae.training.activations import harvest

    site = Site(table.layer)

    def collect(folder: Path, advance: Callable[[int, int], None] | None = None) -> Harvest:
        budget = config.token_budget
        return harvest(bench.model, rows, site, folder, skip=config.skip, outlier=config.outlier, token_budget=budget, advance=advance)

    def compute(folder: Path) -> None:
        with progress.gauge("collecting activations") as gauge:
            collect(folder, gauge)

    budget = {"skip": config.skip, "outlier": config.outlier, "token_budget": config.token_budget}
    return collect(artifact({"kind": "training-activations", "version": VERSION, "layer": table.layer, **budget, **texts}, compute))


def fitted(
    bench: TrainingBench, table: TrainTable, name: str, config: TrainConfig, activations: Harvest, what: str, folder: Path, progress: Progress
) -> None:
    """Train a dictionary on collected activations and export it to ``folder``."""
    import torch

    from harness.sae.training.train import describe_training, train_on

    source = bench.synthetic
    device = torch.device("cuda" if (bench.model if source is None else source).device.type == "cuda" else "cpu")
    if source is None:
        metadata = describe_training(bench.model, Site(table.layer), config, activations, what)
    else:
        metadata = _describe_synthetic(source, config, activations)
    with progress.gauge(f"training dictionary {name}") as gauge:

        def report(state: TrainProgress) -> None:
            if state.stage == "train":
                gauge(state.done, state.total)

        train_on(activations, config, folder, metadata, device, report, snapshots=table.snapshots)


def _samples(bench: TrainingBench, source: SyntheticSource, n: int, progress: Progress) -> Harvest:
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
