"""Dictionaries of a task that workers train, one each: all that a run will need, before the first is used. The driver alone keeps them."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.spreading.work import Underway, device_of
from harness.errors import HarnessError
from harness.files.atomic import disk_error
from harness.files.folders import own_folder
from harness.run.core_bench import CoreBench
from harness.run.trained import TableTraining, training_of
from harness.types import Json

if TYPE_CHECKING:
    from harness.contracts import Workers
    from harness.sae.training.activations import Harvest
    from harness.sae.training.config import TrainConfig

SECONDS = 2.0
"""A worker says no more often how far its training is."""
_READY = "ready-"


@dataclass(frozen=True, eq=False)
class DictionaryWork:
    """A dictionary that a worker trains (:class:`harness.engine.spreading.work.Work`); its one part is the name of the folder that it is in.

    Before it comes, the part tells how many tokens were gone through.

    Attributes:
        name: of the dictionary.
        activations: what it is trained on, in a folder that the worker sees, too.
        config: how.
        metadata: of the dictionary, see :func:`harness.sae.training.train.training_on`, as the last.
        snapshots: the same.
        scratch: where it is trained, in a folder of the worker's own. One that a worker leaves unfinished the next one goes on with.
    """

    name: str
    activations: Harvest
    config: TrainConfig
    metadata: Mapping[str, Json]
    snapshots: Sequence[int]
    scratch: Path

    @property
    def names(self) -> Sequence[str]:
        return (self.name,)

    def do(self, engine: Any) -> Iterator[tuple[str, Underway | str]]:
        try:
            with own_folder(self.scratch) as folder:
                for done in self._trained(folder, engine):
                    yield self.name, Underway(done)
                    if not folder.is_dir():
                        return  # another worker was ready before, and the driver has cleared up
                ready = self.scratch / f"{_READY}{uuid.uuid4().hex[:8]}"  # a name that nobody goes on with
                os.replace(folder, ready)
        except HarnessError:
            raise
        except Exception as error:
            if not self.scratch.is_dir():
                return
            if isinstance(error, OSError):
                raise disk_error(error, f"train {self.name} in {self.scratch}", "what was made so far is kept there") from error
            raise
        yield self.name, ready.name

    def _trained(self, folder: Path, engine: Any) -> Iterator[int]:
        """Train in a folder; yields the tokens that were gone through, now and then."""
        import torch

        from harness.sae.training.train import training_on

        device = torch.device("cuda" if device_of(engine).type == "cuda" else "cpu")
        told = time.monotonic()
        for state in training_on(self.activations, self.config, folder, self.metadata, device, snapshots=self.snapshots):
            if state.stage == "train" and time.monotonic() - told >= SECONDS:
                told = time.monotonic()
                yield state.done


class _MissingError(Exception):
    """An artifact is not there."""


def train_ahead(bench: CoreBench, names: Iterable[str], workers: Workers | None) -> None:
    """Have workers train those of a task's dictionaries that ``[[train]]`` tables make and the cache lacks; one alone is left to who opens it.

    Args:
        bench: the task's bench.
        names: of dictionaries within the task, of any kind; of an ensemble its members are.
        workers: who trains; None for nobody.

    Raises:
        QuarantinedError: at the end, for trainings that failed on several workers.
        HarnessError: those of :func:`harness.run.trained.trained`.
    """
    missing = {} if workers is None else _missing(bench, names)
    if workers is None or len(missing) < 2:
        return
    works = []
    ready: dict[str, Path] = {}
    for name, (training, scratch) in missing.items():
        if (found := next(iter(sorted(scratch.glob(f"{_READY}*"))), None)) is not None:  # of a driver that ended before it could keep it
            ready[name] = found
            continue
        activations = training.data.collect(training.config, bench.progress)
        metadata = training.data.describe(training.config, activations)
        works.append(DictionaryWork(name, activations, training.config, metadata, training.snapshots, scratch))
    for name, folder in ready.items():
        _keep(*missing[name], folder)
    _train(bench, workers, works, missing)


def _train(bench: CoreBench, workers: Workers, works: Sequence[DictionaryWork], missing: Mapping[str, tuple[TableTraining, Path]]) -> None:
    from harness.sae.training.fit import tokens_of_training

    tokens = {work.name: tokens_of_training(work.config, work.activations.n) for work in works}
    seen = dict.fromkeys(tokens, 0)
    with bench.progress.task(f"training {len(works)} dictionaries by workers", sum(tokens.values())) as bar:
        for name, part in workers.do(works):
            done = part.value if isinstance(part, Underway) else tokens[name]
            bar(max(0, done - seen[name]))
            seen[name] = max(done, seen[name])  # what is done again is shown when it is further than before
            if not isinstance(part, Underway):
                training, scratch = missing[name]
                _keep(training, scratch, scratch / part)
                bench.progress.step(f"dictionary {name} is trained")


def _missing(bench: CoreBench, names: Iterable[str]) -> dict[str, tuple[TableTraining, Path]]:
    """Return the trainings that have to be done, by the dictionary's name, and where workers do them; snapshots of one training are one."""
    found: dict[str, tuple[TableTraining, Path]] = {}
    tables = {name: (table, seed, control) for table in bench.task.file.train for name, (seed, control, _) in table.all_names.items()}
    places: set[Path] = set()
    for name in _with_members(bench, names):
        if name in tables:
            training = training_of(bench, *tables[name])
            scratch = _scratch(training)
            if scratch is not None and scratch not in places:
                places.add(scratch)
                found[name] = training, scratch
    return found


def _with_members(bench: CoreBench, names: Iterable[str]) -> Iterator[str]:
    """Yield names of dictionaries, in place of an ensemble those of its members that are no ensemble's own."""
    ensembles = {table.name: table for table in bench.task.file.ensembles}
    seeds = {table.name: tuple(table.seed_names) for table in bench.task.file.train}
    for name in names:
        table = ensembles.get(name)
        if table is None:
            yield name
        elif table.kind == "boosting":
            yield table.of or ""
        else:
            yield from table.members or seeds[table.of or ""]


def _scratch(training: TableTraining) -> Path | None:
    """Return where workers do a training: beside its artifact; None where that is there."""
    unfinished: list[Path] = []

    def missing(folder: Path) -> None:
        unfinished.append(folder)
        raise _MissingError

    try:
        training.data.artifact(training.key, missing)
    except _MissingError:
        return unfinished[0].with_suffix(".workers")
    return None


def _keep(training: TableTraining, scratch: Path, ready: Path) -> None:
    """Make an artifact of what a worker has trained."""

    def compute(folder: Path) -> None:
        for path in folder.iterdir():  # of a training in this process that was broken off
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for path in ready.iterdir():
            os.replace(path, folder / path.name)

    training.data.artifact(training.key, compute)
    shutil.rmtree(scratch, ignore_errors=True)
