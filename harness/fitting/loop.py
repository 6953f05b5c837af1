"""Training all concepts of a run: in chunks that fit into memory, each kept when it is finished; an interrupted call goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DataError
from harness.files.json_output import json_text
from harness.files.progress import current_progress
from harness.files.shards import map_file, replace_file
from harness.fitting.checkpoint import Checkpoint
from harness.fitting.chunk_files import LOSSES, VALUES, ChunkFiles, folder_of
from harness.fitting.frozen import FrozenModel
from harness.fitting.spread import Learnt, SharedTexts, TrainWork, by_workers, numbers_of
from harness.fitting.training import Pupil, Training
from harness.plugin.source import depends_on_plugin
from harness.types import Json, digest

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench, Workers
    from harness.fitting.learner import Learner
    from harness.fitting.schedule import Schedule
    from harness.fitting.training_set import ConceptExamples, TrainingSet
    from harness.model.memory import TokenBudget

VERSION = 1
"""Part of the key of a training; raised when its results change."""

PASSES = 8
"""A step of a chunk takes about so many forward passes: enough for rows of like length to share one."""
STREAMS = 1 << 31
"""Bytes of streams that are kept in memory on a CPU; on a GPU it is a quarter of its memory."""
TRAINED = 1 << 29
"""Bytes of parameters of one chunk (gradients and AdamW's two moments come on top)."""

_RECORD, _CHECKPOINT = "trained.json", "checkpoint.safetensors"

Array = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True, eq=False)
class Trained:
    """What concepts have learnt, on disk.

    Attributes:
        concepts: their ids.
        folder: where it is.
        shapes: shape of each parameter by name; none where concepts have folders of their own (:meth:`Learner.keep`).
        curves: how each concept's training went, by its id (:meth:`Curve.as_json`).
        notes: what a reader of the result must know.
    """

    folder: Path
    concepts: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    curves: Mapping[str, Json]
    notes: tuple[str, ...]
    _flat: Array
    _losses: Array
    _steps: tuple[int, ...]

    def parameter(self, name: str) -> Array:
        """Return a parameter of all concepts, float32 ``[concepts, …]``, a view of the file."""
        start = 0
        for other, shape in self.shapes.items():
            if other == name:
                return self._flat[:, start : start + prod(shape)].reshape(len(self.concepts), *shape)
            start += prod(shape)
        raise KeyError(name)

    def folder_of(self, concept: str) -> Path:
        """Return the folder of what a concept has learnt, where its learner has kept it in one (:meth:`Learner.keep`)."""
        return folder_of(self.folder, self.concepts.index(concept))

    def losses(self, concept: str) -> Array:
        """Return the loss of each step of a concept, ``[steps]``: of its batch, before the step."""
        place = self.concepts.index(concept)
        start = sum(self._steps[:place])
        return self._losses[start : start + self._steps[place]]

    @classmethod
    def load(cls, folder: Path) -> Trained:
        """Read what :func:`train_concepts` has kept."""
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        shapes = {name: tuple(shape) for name, shape in record["shapes"].items()}
        concepts, steps = tuple(record["concepts"]), tuple(record["steps"])
        flat = map_file(folder / VALUES, np.float32, (len(concepts), sum(prod(shape) for shape in shapes.values())))
        losses = map_file(folder / LOSSES, np.float32, (sum(steps),))
        return cls(folder, concepts, shapes, record["curves"], tuple(record["notes"]), flat, losses, steps)


def train_concepts(bench: Bench, learner: Learner, training: TrainingSet, schedule: Schedule, *, who: str, options: Json) -> Trained:
    """Train a method's parameters for all concepts of a training set, and keep them: made once, and found by all that ask for the same.

    A concept's result is the one that it has by itself (rounding aside): orders and draws depend on (seed, concept, step) alone. Where the run has
    workers, and there are several chunks, they train them (:mod:`harness.fitting.spread`), each as it is trained here.

    Args:
        bench: whose model, seed and artifacts.
        learner: what is trained.
        training: the examples.
        schedule: how.
        who: e.g. ``reft-r1``, for messages and progress.
        options: all that the result depends on beside the other arguments, as JSON: options of the method, where it acts.

    Raises:
        DataError: no concept; a text that is longer than the model's context.
        ModelError: a layer that does not exist.
        EngineError: an example that does not fit into memory.
        StoreError: the disk is full or cannot be written; the finished chunks are kept, and the next call goes on behind them.
    """
    if not training.concepts:
        raise DataError(f"{who} has no concept to be trained on", hint="ask for at least one concept")
    key: Json = {
        "kind": f"training of {who}", "version": VERSION, "seed": bench.seed, "schedule": asdict(schedule), "options": options,
        "examples": training.identity,
    }  # fmt: skip
    name = digest(key)

    @depends_on_plugin
    def compute(folder: Path) -> None:
        _train(bench, learner, training, schedule, who, name, folder)

    found = Trained.load(bench.artifact(key, compute))
    for note in found.notes:
        bench.warn(f"{who}: {note}")
    return found


def _train(bench: Bench, learner: Learner, training: TrainingSet, schedule: Schedule, who: str, name: str, folder: Path) -> None:
    from harness.model.activations import check_lengths
    from harness.model.memory import TokenBudget

    model = bench.model
    if learner.after >= 0:
        model.check_layer(learner.after)
    check_lengths(model, np.array([len(text.ids) for text in training.texts], dtype=np.int64))
    budget = TokenBudget.usual(model.device)
    frozen = FrozenModel(model, training.texts, learner.after, bench.skip)
    shapes = {parameter: tuple(value.shape) for parameter, value in learner.start(training.concepts[0].concept, bench.rng(name)).items()}
    chunks = list(chunked(training, schedule, learner, frozen, budget.size, sum(prod(shape) for shape in shapes.values())))
    files = ChunkFiles(folder, name, VERSION, [len(chunk) for chunk in chunks])
    titles = {number: f"training {who}, {_which(chunks, number)}" for number in files.left}
    found: Generator[tuple[int, list[Learnt]], None, None]
    workers = bench.workers if len(titles) > 1 else None
    works = {} if workers is None else _works(bench, workers, learner, training, schedule, who, budget, {place: chunks[place] for place in titles})
    if workers is not None and works:
        n = sum(len(work.concepts) for work in works.values())
        found = by_workers(workers, works, titles, f"training {who}, {n} concepts by workers")
    else:
        found = _here(bench, learner, frozen, chunks, schedule, budget, titles, folder, name)
    with closing(found):  # whatever happens here, nobody goes on in the background
        for number, learnt in found:
            files.add(number, [one.concept for one in chunks[number]], learnt, learner, model)
            del learnt  # its memory, before the next is made
    files.tidy()
    (folder / _CHECKPOINT).unlink(missing_ok=True)
    pairs = files.pairs
    record = {
        "concepts": [concept for concept, _, _ in pairs], "shapes": shapes if files.holds_values else {}, "steps": [steps for _, steps, _ in pairs],
        "curves": {concept: curve for concept, _, curve in pairs}, "notes": list(_notes(pairs, schedule)),
    }  # fmt: skip
    replace_file(folder / _RECORD, json_text(record).encode())


def _which(chunks: Sequence[Sequence[ConceptExamples]], number: int) -> str:
    """Return for people which concepts a chunk has."""
    done = sum(map(len, chunks[:number]))
    last = done + len(chunks[number])
    return f"concepts {done + 1} to {last} of {sum(map(len, chunks))}" if len(chunks) > 1 else f"{last} concepts"


def _works(
    bench: Bench,
    workers: Workers,
    learner: Learner,
    training: TrainingSet,
    schedule: Schedule,
    who: str,
    budget: TokenBudget,
    chunks: Mapping[int, Sequence[ConceptExamples]],
) -> dict[int, TrainWork]:
    """Return chunks as work for workers; none where the learner cannot be sent to them, which is said."""
    texts = SharedTexts.of(training.texts)
    works = {
        number: TrainWork(who, learner, texts, chunk, schedule, bench.seed, bench.skip, budget.size) for number, chunk in chunks.items()
    }
    if reason := workers.refuses(next(iter(works.values()))):
        current_progress().step(f"{who} is trained in this process: {reason}")
        return {}
    return works


def _here(
    bench: Bench,
    learner: Learner,
    frozen: FrozenModel,
    chunks: Sequence[Sequence[ConceptExamples]],
    schedule: Schedule,
    budget: TokenBudget,
    titles: Mapping[int, str],
    folder: Path,
    name: str,
) -> Generator[tuple[int, list[Learnt]], None, None]:
    """Yield the number of each chunk that has a title and what its concepts have learnt, trained in this process, one after the other."""
    for number, title in titles.items():
        checkpoint = Checkpoint(folder / _CHECKPOINT, f"{name} {number}")
        yield number, _learnt(_train_chunk(bench, learner, frozen, chunks[number], schedule, budget, title, checkpoint))


def _learnt(pupils: Sequence[Pupil]) -> list[Learnt]:
    return [Learnt(pupil.parameters, pupil.curve) for pupil in pupils]


def _train_chunk(
    bench: Bench,
    learner: Learner,
    frozen: FrozenModel,
    chunk: Sequence[ConceptExamples],
    schedule: Schedule,
    budget: TokenBudget,
    title: str,
    checkpoint: Checkpoint,
) -> list[Pupil]:
    progress = current_progress()
    progress.step(f"{title}: reading the texts")
    frozen.read(numbers_of(chunk), budget)
    training = Training(frozen, learner, chunk, schedule, bench.seed, budget)
    checkpoint.read(training.pupils)
    pupils = training.pupils
    seen, shown = max(pupil.step for pupil in pupils), ""
    with progress.task(title, max(pupil.curve.steps for pupil in pupils)) as bar:
        bar(seen)

        def report(done: int, steps: int, losses: str) -> None:
            nonlocal seen, shown
            bar(done - seen)
            seen, shown = done, losses
            if bar.describe is not None:
                bar.describe(f"{title}, {losses}")

        def marked() -> None:
            checkpoint.write(pupils)
            if bar.describe is None and shown:
                progress.step(f"{title}: step {seen}, {shown}")

        training.run(report, marked)
    frozen.forget()
    return pupils


def chunked(
    training: TrainingSet, schedule: Schedule, learner: Learner, frozen: FrozenModel, tokens: int, parameters: int
) -> Iterator[list[ConceptExamples]]:
    """Yield the concepts in chunks that are trained together, in their order. Chunks depend on sizes alone, so that an interrupted call has the same.

    Args:
        training: all of them.
        schedule: how they are trained.
        learner: what is trained.
        frozen: the model.
        tokens: of one forward pass.
        parameters: numbers that one concept learns.
    """
    kept = _streams_kept(frozen.model.device)
    chunk: list[ConceptExamples] = []
    texts: set[int] = set()
    step = 0.0
    for one in training.concepts:
        own = {number for example in one.examples for number in example.texts}
        examples = min(schedule.batch, len(one.examples))
        cost = examples * sum(len(training.texts[number].ids) for example in one.examples for number in example.texts) / len(one.examples)
        full = (
            step + cost > PASSES * tokens
            or frozen.bytes_of(texts | own) > kept
            or 4 * parameters * (len(chunk) + 1) > TRAINED
            or len(chunk) == learner.most
        )
        if chunk and full:
            yield chunk
            chunk, texts, step = [], set(), 0.0
        chunk.append(one)
        texts |= own
        step += cost
    if chunk:
        yield chunk


def _streams_kept(device: torch.device) -> int:
    """Return how many bytes of streams may be kept on a device."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory // 4 if device.type == "cuda" else STREAMS


def _notes(curves: Sequence[tuple[str, int, Json]], schedule: Schedule) -> Iterator[str]:
    """Yield what must be said of some trainings: those that diverged, and those that hold nothing out."""
    for concept, _, curve in curves:
        if "stopped" in curve:
            kept = curve["kept"]
            yield (
                f"the training of concept {concept!r} diverged: {curve['reason']} after {curve['stopped']} of {curve['steps']} steps; what it was "
                f"after {kept} steps is kept (try a learning rate below {schedule.lr:g})"
            )
    bare = [concept for concept, _, curve in curves if schedule.held_out and not curve["examples"][1]]
    if bare:
        yield f"{len(bare)} of {len(curves)} concepts have too few examples to hold one out, the first {bare[0]!r}; their curves show no such loss"
