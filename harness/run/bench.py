"""The bench that plugins work at: a task's model, dictionaries, corpus, concepts and instructions, made when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.contracts import ResidualMeans, Workers
from harness.errors import OptionError
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress, set_current_progress
from harness.files.timing import CLOCK
from harness.interventions import Intervention, Positions, Site
from harness.run import bench_concepts, bench_corpus, bench_dictionaries, bench_instructions, bench_model, facts
from harness.run.bench_artifacts import artifact_key
from harness.run.bench_statistics import Statistics
from harness.run.choices import Choices
from harness.run.guard import DICTIONARIES, MODEL, Guard, handed_out
from harness.run.model_services import ModelServices, end
from harness.run.profile import LOADING
from harness.run.warnings import Warnings
from harness.store.manifest import DictionaryRef, ModelRef
from harness.tasks.schema import Task
from harness.types import Abstention, Concept, Decoding, Example, Instruction, Json, Labeling, ProtocolName, rng

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.data.corpora.corpus import Corpus
    from harness.data.corpora.labels import LabelTable
    from harness.data.split import Part
    from harness.data.texts import TextSet
    from harness.engine.base import Engine, Generated, GenerationRequest
    from harness.model.activations import Row
    from harness.model.loading import SubjectModel
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.sae.dictionary import Dictionary
    from harness.sae.synthetic.source import Samples

__all__ = ["Choices", "TaskBench", "open_bench"]


@dataclass
class TaskBench:
    """Implements :class:`harness.contracts.Bench` for one task, and keeps what the files beside this one make of it (``bench_*.py``).

    Attributes:
        task: the task.
        choices: what the command line replaced.
        artifacts: the cache of what ``prepare`` makes.
        progress: where progress is shown.
        warnings: collects what plugins and core find worth saying; a run keeps them, and its entry shows them.
        guard: sees to it that plugins leave model and dictionaries as they found them.
    """

    task: Task
    choices: Choices
    artifacts: ArtifactCache
    progress: Progress
    warnings: Warnings = field(default_factory=Warnings)
    guard: Guard = field(default_factory=Guard, repr=False)
    answered: Mapping[str, Sequence[Labeling | Abstention]] = field(default_factory=dict, init=False, repr=False)
    """What the run's labelers have answered, by their ``identity_key``; see :meth:`answers`."""
    rows: int | None = field(default=None, init=False, repr=False)
    """How many rows the engine decodes together, where that is settled; see :meth:`settle_rows`."""

    # ------------------------------------------------------------------------------------------------ what the task fixes

    @property
    def seed(self) -> int:
        return self.choices.seed

    @property
    def concept_mode(self) -> str:
        return self.task.file.concepts.mode

    @property
    def min_support(self) -> int:
        return self.task.file.concepts.min_support

    @property
    def split_name(self) -> str | None:
        """Return the split of concepts and instructions in use; ``all`` on the command line means no split."""
        asked = self.choices.split or self.task.file.evaluation.split
        return None if asked == "all" else asked

    @property
    def positions(self) -> Positions:
        steering = self.task.file.steering
        return Positions(prompt=steering.prompt, generated=steering.generated, first_token=steering.first_token)

    @property
    def protocol(self) -> ProtocolName:
        return self.choices.protocol or self.task.file.evaluation.protocol

    @property
    def site(self) -> Site:
        return bench_dictionaries.site_of(self.task)

    # ------------------------------------------------------------------------------------------------ model and dictionaries

    synthetic = cached_property(bench_model.synthetic_source)
    _workers_without_model = cached_property(bench_model.workers_without_model)

    @handed_out(MODEL)
    def model(self) -> SubjectModel:
        with CLOCK.part(LOADING):
            model = bench_model.load_subject(self)
            self.guard.watch("the subject model", model.hf, self._forget_model, [model.tokenizer, model.format, model], MODEL)
        return model

    def _forget_model(self) -> None:
        """Have the model loaded anew when it is next asked for: a plugin has changed this one."""
        for name in ("model", "services", "engine"):
            self.__dict__.pop(name, None)

    @cached_property
    def model_ref(self) -> ModelRef:
        """Return the subject model as the run's identity and the entry say it; its weights are loaded only where nothing else tells."""
        known = None if "model" in self.__dict__ else facts.model_ref(self.task, self.choices.device, self.choices.dtype)
        return bench_model.ref_of(self.model) if known is None else known

    @cached_property
    def dictionary_refs(self) -> tuple[DictionaryRef, ...]:
        """Return the task's dictionaries, as the run's identity and the entry say them."""
        name = self.model_ref.name
        return tuple(
            facts.dictionary_ref(self.task, table, self.artifacts, name, lambda table=table: self.dictionaries[table.name])  # type: ignore[misc]
            for table in self.task.file.dictionaries
        )

    @handed_out(DICTIONARIES)
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """Return those of files, loaded together; those of ``[[train]]``, each trained when it is first asked for."""
        return bench_dictionaries.open_dictionaries(self, self._forget_dictionaries)

    def _forget_dictionaries(self) -> None:
        self.__dict__.pop("dictionaries", None)

    def dictionary_name(self, name: str | None = None) -> str:
        """Return a dictionary's name, None meaning the task's first. Raises where the task has none or not this one."""
        return bench_dictionaries.dictionary_name(self.task, name)

    # ------------------------------------------------------------------------------------------------ corpus and instructions

    @property
    def has_corpus(self) -> bool:
        """Return whether task or command line name a corpus."""
        return self.choices.corpus is not None or self.task.file.corpus.source is not None

    corpus_path = cached_property(bench_corpus.corpus_path)
    corpus_digest = cached_property(bench_corpus.corpus_digest)
    corpus = cached_property(bench_corpus.read_corpus)
    corpus_tokens = cached_property(bench_corpus.tokens)
    split = cached_property(bench_corpus.split)

    @property
    def conversations(self) -> bool:
        """Return whether texts are read as answers to their instructions."""
        return self.task.file.corpus.conversations

    def open_corpus(self, progress: Callable[[int, int], None] | None = None) -> Corpus:
        """Return the corpus, of which no more than the beginning has been looked at; ``progress`` is called while it is read later."""
        return bench_corpus.open_corpus(self, progress)

    @property
    def labels(self) -> LabelTable:
        labels = self.corpus.labels
        labels.support.setflags(write=False)
        return labels

    def examples(self, concept: Concept, part: Part = "train") -> Sequence[Example]:
        from harness.data.examples import CorpusExamples

        if concept.label is None:
            return ()
        return CorpusExamples(self.corpus, self.split.part(part), self.labels.of(concept.label))

    instructions_path = cached_property(bench_instructions.instructions_path)
    instructions = cached_property(bench_instructions.read_instructions)

    def instructions_for(self, concept: Concept) -> list[Instruction]:
        """Return the instructions of one concept: drawn without replacement, the same for every method of a run with this seed."""
        return bench_instructions.instructions_for(self, concept)

    # ------------------------------------------------------------------------------------------------ concepts

    concepts_path = cached_property(bench_concepts.concepts_path)
    concepts = cached_property(bench_concepts.concepts)
    hard_labels = cached_property(bench_concepts.hard_labels)

    def list_concepts(self) -> list[Concept]:
        """Return the concepts without their example texts: in fixed mode this reads no corpus."""
        return bench_concepts.list_concepts(self)

    @property
    def hub_concepts_digest(self) -> str | None:
        """Return the identity of a list of concepts that lies on the hub; None for any other, which belongs to the task's own digest."""
        return bench_concepts.hub_concepts_digest(self)

    # ------------------------------------------------------------------------------------------------ services to plugins

    @property
    def token_limit(self) -> int:
        """Return tokens at which texts are cut: the task's ``corpus.max_tokens``, or fewer where the model reads no more."""
        return bench_model.token_limit(self)

    @handed_out(MODEL)
    def services(self) -> ModelServices:
        """Return what is computed with the subject model."""
        return ModelServices(self.model, self.task.file.decoding.decoding(), self.choices.engine, self.choices.spread, self.rows)

    def settle_rows(self, rows: int) -> None:
        """Have the engine decode so many rows together; said before workers begin, they begin with that."""
        from harness.engine.base import Batching

        self.rows = rows
        services = self.__dict__.get("services")
        if services is not None and isinstance(services.engine, Batching):
            services.engine.batch_size = rows

    def end_workers(self) -> Mapping[str, Json]:
        """As :meth:`harness.run.model_services.ModelServices.end_workers`; nothing is loaded for it."""
        services, others = self.__dict__.get("services"), self.__dict__.pop("_workers_without_model", None)
        if others is not None:
            return end(others.executor)
        return {} if services is None else services.end_workers()

    @handed_out(MODEL)
    def engine(self) -> Engine:
        return self.services.engine

    def generate(
        self, requests: Sequence[GenerationRequest], decoding: Decoding | None = None, *, only: Container[str] | None = None
    ) -> Iterator[Generated]:
        """Return texts of the subject model, in any order.

        With ``only``, the texts with these ids, from the batches that ``requests`` always make.
        """
        self.guard.settle()
        return self.services.generate(requests, decoding, only)

    def logits(self, texts: Sequence[Row], intervention: Intervention | None = None) -> Iterator[torch.Tensor]:
        self.guard.settle()
        return self.services.logits(texts, intervention)

    @property
    def workers(self) -> Workers | None:
        from harness.engine.spreading.choice import SINGLE

        if self.choices.spread.executor == SINGLE:
            return None  # no model is loaded to say that
        self.guard.settle()
        return self.services.workers if self.synthetic is None else self._workers_without_model

    def activations(self, site: Site | None = None, texts: TextSet | Samples | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        self.guard.settle()
        return bench_model.activations(self, site, texts)

    @property
    def skip(self) -> int:
        return max(1, self.model.chat_prefix_length) if self.conversations else 1

    def answer_start(self, place: int) -> int:
        return len(self.model.prompt(self.corpus[place].instruction)) if self.conversations else self.skip

    _statistics = cached_property(Statistics)

    def statistics(self, dictionary: str | None = None) -> CorpusStatistics:
        return self._statistics.of(self.dictionary_name(dictionary))

    @property
    def known_statistics(self) -> frozenset[str]:
        """Return the dictionaries whose statistics were asked for: what needs them costs no further pass over the corpus."""
        return self._statistics.known

    def residual_means(self) -> ResidualMeans:
        return self._statistics.residual_means()

    def answers(self, labeler: str) -> Sequence[Labeling | Abstention]:
        """See :meth:`harness.contracts.Bench.answers`."""
        if labeler not in self.answered:
            hint = "only a control of `harness eval` follows a labeler"
            raise OptionError(f"labeler {labeler!r} has not answered in this run", given=labeler, allowed=tuple(self.answered), hint=hint)
        return self.answered[labeler]

    def artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        from harness.model.tokens import FORMAT

        return self._artifact(key, compute, [self.corpus_digest, FORMAT] if self.has_corpus else None)

    def model_artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """As :meth:`artifact`, for what does not depend on the task's corpus: another corpus finds it, too."""
        return self._artifact(key, compute, None)

    def _artifact(self, key: Json, compute: Callable[[Path], None], corpus: Json) -> Path:
        return self.artifacts.get(artifact_key(self, key, compute, corpus), self.guard.filled(compute, "an artifact"))

    def own_artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """Return an artifact that the core makes, whatever settings the plugin at work has left by then."""
        with self.guard.own():
            return self.artifact(key, compute)

    def rng(self, purpose: str, item: str = "") -> np.random.Generator:
        return rng(self.seed, purpose, item)

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        return self.progress.track(items, description, total)

    def warn(self, message: str) -> None:
        """Say something that a reader of the result must know; shown at the end, kept in the entry."""
        self.warnings(message)


def open_bench(task: Task, choices: Choices, quiet: bool = False, warnings: Warnings | None = None) -> TaskBench:
    """Return the bench of a task, with the artifact cache of this user; nothing is loaded yet."""
    from harness.files.cache_dir import cache_root

    return TaskBench(task, choices, ArtifactCache(cache_root() / "artifacts"), set_current_progress(Progress(quiet)), warnings or Warnings())
