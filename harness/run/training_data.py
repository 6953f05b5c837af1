"""What a ``[[train]]`` table trains on: texts of the corpus, a file of token ids, or samples of a synthetic source."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from harness.contracts import Bench
from harness.errors import DataError
from harness.files.progress import Progress
from harness.files.timing import CLOCK
from harness.files.version import own_version
from harness.interventions import Site
from harness.run.choices import Choices
from harness.run.throughput import COLLECTING, collecting_name, remember_rate
from harness.tasks.dictionaries import TrainTable
from harness.tasks.schema import Task
from harness.types import Json, rng

if TYPE_CHECKING:
    import torch

    from harness.sae.synthetic.source import SyntheticSource
    from harness.sae.training.activations import Harvest
    from harness.sae.training.config import TrainConfig

VERSION = 1
"""Part of the artifacts' keys; raised when training makes something else of the same settings."""

Row = np.ndarray[tuple[int], np.dtype[np.int64]]
Places = np.ndarray[tuple[int], np.dtype[np.int64]]
Keep = Callable[[Json, Callable[[Path], None]], Path]


class TrainingBench(Bench, Protocol):
    """What a task's bench offers to training beyond the contract."""

    task: Task
    choices: Choices

    def model_artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """As ``artifact``, for what does not depend on the task's corpus."""


@dataclass(frozen=True)
class TrainingData(ABC):
    """What a table trains on.

    Attributes:
        bench: the task's bench.
        layer: whose output is reconstructed.
        key: what it is, for the keys of what is made of it.
        artifact: keeps what is made of it.
    """

    bench: TrainingBench
    layer: int
    key: dict[str, Json]
    artifact: Keep

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Return where dictionaries are trained and used."""

    @abstractmethod
    def config(self, table: TrainTable, seed: int, control: str = "none") -> TrainConfig:
        """Return the settings of a training by a table."""

    @abstractmethod
    def collect(self, config: TrainConfig, progress: Progress) -> Harvest:
        """Return the vectors, collected or drawn once for all seeds, controls and architectures."""

    @abstractmethod
    def describe(self, config: TrainConfig, activations: Harvest) -> dict[str, Json]:
        """Return how a dictionary is made of them, as its metadata."""


def training_data(bench: TrainingBench, table: TrainTable) -> TrainingData:
    """Return what a table trains on. Nothing is read from the model or drawn yet.

    Raises:
        DataError: there is none, or it does not fit the model.
        ModelError: the model lacks the table's layer.
    """
    if bench.synthetic is not None:
        n = min(table.max_tokens or bench.synthetic.n_samples, bench.synthetic.n_samples)
        return _Samples(bench, table.layer, {"samples": [bench.synthetic.digest, n]}, bench.artifact, bench.synthetic, n)
    bench.model.check_layer(table.layer)
    key: dict[str, Json] = {"max_tokens": table.max_tokens, "seed": table.seeds[0] if table.max_tokens else None}
    if table.tokens is not None:
        return _of_token_file(bench, table, bench.task.path(table.tokens), key)
    key["texts"] = table.texts
    if table.texts != "all":
        key["split"] = bench.split.digest
    rows = _Rows(bench.corpus_tokens, training_texts(bench, table))
    return _Texts(bench, table.layer, key, bench.artifact, rows, bench.skip, f"the {table.texts} texts of the task's corpus")


def training_texts(bench: Bench, table: TrainTable) -> Places:
    """Return places in the corpus of the texts that a table trains on, ascending. Raises DataError where there is none."""
    from harness.model.activations import row_lengths

    lengths = row_lengths(bench.corpus_tokens)
    places = np.arange(len(lengths), dtype=np.int64) if table.texts == "all" else np.asarray(bench.split.part(table.texts))
    return _drawn(table, lengths, places, bench.skip)


# ------------------------------------------------------------------------------------------------------------------------- inside


@dataclass(frozen=True)
class _Texts(TrainingData):
    """Texts as token ids, of which ``skip`` leading tokens do not count; ``source`` says for people what they are."""

    rows: Sequence[Row]
    skip: int
    source: str

    @property
    def device(self) -> torch.device:
        return self.bench.model.device

    def config(self, table: TrainTable, seed: int, control: str = "none") -> TrainConfig:
        from harness.sae.training.config import TrainConfig

        return TrainConfig(**table.settings, skip=self.skip, seed=seed, control=control)  # type: ignore[arg-type]

    def collect(self, config: TrainConfig, progress: Progress) -> Harvest:
        """Return the residual stream: 2 bytes × d_model × tokens in the cache."""
        from harness.sae.training.activations import harvest

        workers = self.bench.workers

        def found(folder: Path, advance: Callable[[int, int], None] | None = None) -> Harvest:
            return harvest(
                self.bench.model, self.rows, Site(self.layer), folder,
                skip=config.skip, outlier=config.outlier, token_budget=config.token_budget, advance=advance,
                spread=None if workers is None else workers.do,
            )  # fmt: skip

        def compute(folder: Path) -> None:
            with progress.gauge("collecting activations") as gauge, _collecting(self, folder) as took:
                took(found(folder, gauge).n)

        budget = {"skip": config.skip, "outlier": config.outlier, "token_budget": config.token_budget}
        return found(self.artifact({"kind": "training-activations", "version": VERSION, "layer": self.layer, **budget, **self.key}, compute))

    def describe(self, config: TrainConfig, activations: Harvest) -> dict[str, Json]:
        from harness.sae.training.train import describe_training

        return describe_training(self.bench.model, Site(self.layer), config, activations, self.source)


@dataclass(frozen=True)
class _Samples(TrainingData):
    """The first ``n`` samples of a synthetic source, and some more that are held out."""

    source: SyntheticSource
    n: int

    @property
    def device(self) -> torch.device:
        return self.source.device

    def config(self, table: TrainTable, seed: int, control: str = "none") -> TrainConfig:
        from harness.sae.training.config import TrainConfig

        return TrainConfig(**table.settings, skip=0, outlier=0.0, seed=seed, control=control)  # type: ignore[arg-type]

    def collect(self, config: TrainConfig, progress: Progress) -> Harvest:
        from harness.sae.synthetic.harvest import harvest_samples
        from harness.sae.training.activations import open_harvest
        from harness.sae.training.fit import with_held_out

        total = with_held_out(self.n)

        def compute(folder: Path) -> None:
            with progress.gauge("drawing samples") as gauge, _collecting(self, folder) as took:
                took(harvest_samples(self.source, total, folder, gauge).n)

        return open_harvest(self.artifact({"kind": "synthetic-samples", "version": VERSION, "source": self.source.digest, "n": total}, compute))

    def describe(self, config: TrainConfig, activations: Harvest) -> dict[str, Json]:
        """Return the same as for texts; the hook's name is that of a layer's output, as loading wants one."""
        recipe: dict[str, Any] = {"layer": 0, "distinct_tokens": activations.n, "source": asdict(self.source.config), **asdict(config)}
        return {
            "model_name": self.source.title,
            "hook_name": "blocks.0.hook_resid_post",
            "context_size": 1,
            "dataset_path": f"{activations.n} samples",
            "harness_version": own_version(),
            "harness_training": recipe,
        }


@contextlib.contextmanager
def _collecting(data: TrainingData, folder: Path) -> Iterator[Callable[[int], None]]:
    """Within the context vectors are collected into ``folder``; yields what is told how many: a later ``--dry-run`` goes by that."""
    begun, before = any(folder.iterdir()), time.monotonic()

    def took(n: int) -> None:
        if not begun and data.bench.workers is None:  # else others have collected some of them
            remember_rate(collecting_name(data.bench.task, data.device.type), n, time.monotonic() - before)

    with CLOCK.part(COLLECTING, whole=True):
        yield took


def _of_token_file(bench: TrainingBench, table: TrainTable, path: Path, key: dict[str, Json]) -> TrainingData:
    from harness.model.token_file import read_token_file

    file = read_token_file(path)
    file.check_fits(bench.model)
    places = _drawn(table, file.lengths.astype(np.int64), np.arange(len(file.lengths)), file.skip)
    rows, source = _Rows(file.rows, places), file.source or path.name
    return _Texts(bench, table.layer, {**key, "tokens": file.digest}, bench.model_artifact, rows, file.skip, source)


def _drawn(table: TrainTable, lengths: Places, places: Places, skip: int) -> Places:
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


class _Rows(Sequence[Row]):
    """Some texts' token ids, read from the disk when they are asked for."""

    def __init__(self, rows: Sequence[Row], places: Places) -> None:
        self._rows, self._places = rows, places

    def __getitem__(self, index: int) -> Row:  # type: ignore[override]
        return self._rows[int(self._places[index])]

    def __len__(self) -> int:
        return len(self._places)
