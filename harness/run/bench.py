"""The bench that plugins work at: a task's model, dictionaries, corpus, concepts and instructions, made when first asked for."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.contracts import ResidualMeans
from harness.data.concepts import choose_concepts, concepts_digest
from harness.data.corpora.axbench import hard_label, is_hard
from harness.data.corpora.on_the_hub import fetch_corpus, hub_name
from harness.errors import DataError, DictionaryError, OptionError, TaskError, UnknownNameError
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress, set_current_progress
from harness.interventions import Intervention, Positions, Site
from harness.plugin.inputs import replaced
from harness.plugin.source import core_digest, is_core
from harness.run.guard import DICTIONARIES, MODEL, Guard, handed_out, read_only
from harness.run.model_services import ModelServices, read_means
from harness.run.warnings import Warnings
from harness.store.manifest import DictionaryRef, ModelRef
from harness.tasks.find import is_elsewhere, resolve
from harness.tasks.schema import CorpusTable, Task
from harness.types import (
    Abstention,
    Aggregation,
    Concept,
    Decoding,
    Document,
    Example,
    Instruction,
    Json,
    Labeling,
    ProtocolName,
    digest,
    rng,
)

if TYPE_CHECKING:
    import torch

    from harness.data.corpora.corpus import Corpus
    from harness.data.corpora.labels import LabelTable
    from harness.data.split import Part, TextSplit
    from harness.data.texts import TextSet
    from harness.engine.base import Engine, Generated, GenerationRequest
    from harness.engine.spreading.choice import Spread
    from harness.model.activations import Row
    from harness.model.conversations import Turns
    from harness.model.loading import SubjectModel
    from harness.model.tokens import TokenTable
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.sae.dictionary import Dictionary
    from harness.sae.synthetic.source import Samples, SyntheticSource

EXAMPLES = 20
"""So many positive and negative texts at most travel with a concept; methods that want all read the corpus."""


@dataclass(frozen=True)
class Choices:
    """What the command line may replace in a task. All of it but the protocol is part of the run's digest."""

    corpus: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    label_separator: str | None = None
    instruction_field: str | None = None
    genre_field: str | None = None
    part_field: str | None = None
    instructions: str | None = None
    split: str | None = None
    limit: int | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int = 0
    concepts: tuple[str, ...] = ()
    """Ids, texts or labels of the concepts to use, each text one of them or several with commas between; all where it is empty."""
    protocol: ProtocolName | None = None
    """By which protocol the run is scored; no text depends on it."""
    aggregation: Aggregation | None = None
    """How three ratings become one score; no text depends on it."""
    engine: str | None = None
    """What generates (:data:`harness.engine.base.VERSIONS`); None stands for the torch loop."""
    executor: str | None = None
    """Who does the engine's work (:data:`harness.engine.spreading.choice.SUMMARIES`); None stands for this process. No text depends on it."""
    workers: str | None = None
    """Of that executor: how many, or their devices."""
    ray_address: str | None = None
    """Where the Ray cluster is."""

    @property
    def spread(self) -> Spread:
        """Return over which workers work is spread. Raises OptionError, UnknownNameError for what cannot be."""
        from harness.engine.spreading.choice import parse_spread

        return parse_spread(self.executor, self.workers, self.ray_address)


@dataclass
class TaskBench:
    """Implements :class:`harness.contracts.Bench` for one task.

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
    _statistics: dict[str, CorpusStatistics] = field(default_factory=dict, init=False, repr=False)

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
        layer = self.task.file.steering.layer
        if layer is None:
            layers = [table.layer for table in self.task.file.dictionaries] + [table.layer for table in self.task.file.train]
            if not layers:
                message = f"task {self.task.name!r} has no dictionary and no steering.layer"
                raise TaskError(message, given=self.task.name, hint=f"set steering.layer in {self.task.folder}")
            layer = layers[0]
        return Site(layer)

    # ------------------------------------------------------------------------------------------------ model and dictionaries

    @cached_property
    def synthetic(self) -> SyntheticSource | None:
        """Return the source of the task's activations where it has no language model."""
        table = self.task.file.synthetic
        if table is None:
            return None
        from harness.model.devices import choose_device
        from harness.sae.synthetic.source import SyntheticSource

        return SyntheticSource(table.config, table.samples, choose_device(self.choices.device))

    @handed_out(MODEL)
    def model(self) -> SubjectModel:
        from harness.model.loading import load_model

        table = self.task.file.language_model
        local = self.task.path(table.name)
        name = str(local) if table.name.startswith((".", "/", "~")) else table.name
        model = load_model(
            name,
            device=self.choices.device,
            dtype=self.choices.dtype,
            revision=table.revision,
            progress=self.progress.step,
            downloads=self.progress,
        )
        self.guard.watch("the subject model", model.hf, self._forget_model, [model.tokenizer, model.format, model], MODEL)
        return model

    def _forget_model(self) -> None:
        """Have the model loaded anew when it is next asked for: a plugin has changed this one."""
        for name in ("model", "services", "engine"):
            self.__dict__.pop(name, None)

    @cached_property
    def model_ref(self) -> ModelRef:
        """Return the subject model as the run's identity and the entry say it; its weights are loaded only where nothing else tells."""
        from harness.run.facts import model_ref

        if "model" not in self.__dict__ and (found := model_ref(self.task, self.choices.device, self.choices.dtype)) is not None:
            return found
        model = self.model
        return ModelRef(name=model.name, digest=model.digest, dtype=str(model.dtype).removeprefix("torch."), device=str(model.device))

    @cached_property
    def dictionary_refs(self) -> tuple[DictionaryRef, ...]:
        """Return the task's dictionaries, as the run's identity and the entry say them."""
        from harness.run.facts import dictionary_ref

        name = self.model_ref.name
        return tuple(
            dictionary_ref(self.task, table, self.artifacts, name, lambda table=table: self.dictionaries[table.name])  # type: ignore[misc]
            for table in self.task.file.dictionaries
        )

    @handed_out(DICTIONARIES)
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """Return those of files, loaded together; those of ``[[train]]``, each trained when it is first asked for."""
        from harness.run.ensembled import ensemblers
        from harness.run.trained import TaskDictionaries, trainers

        loaded = self._loaded_dictionaries()
        files = {name: (lambda dictionary=dictionary: dictionary) for name, dictionary in loaded.items()}
        made = trainers(self, self.task.file.train, self.progress)
        made |= ensemblers(self, lambda name: found[name], self.progress)
        found = TaskDictionaries({**files, **{name: self._trained(name, make) for name, make in made.items()}})
        return found

    def _trained(self, name: str, train: Callable[[], Dictionary]) -> Callable[[], Dictionary]:
        """Return ``train``, with its dictionary watched."""

        def make() -> Dictionary:
            with self.guard.own():
                dictionary = train()
            self._watch_dictionary(name, dictionary)
            return dictionary

        return make

    def _loaded_dictionaries(self) -> dict[str, Dictionary]:
        import harness.sae
        from harness.sae.checks import weight_notes

        loaded: dict[str, Dictionary] = {}
        for table in self.task.file.dictionaries:
            # Layer and model fill in what the format does not say (Gemma Scope's files name neither), and contradict nothing.
            source = self.task.local_source(table)
            dictionary = harness.sae.load(
                source,
                device=str(self.model.device if self.synthetic is None else self.synthetic.device),
                layer=table.layer,
                model_name=table.trained_on,
                revision=table.revision,
                progress=self.progress,
            )
            if table.width is not None and table.width != dictionary.d_sae:
                raise DictionaryError(
                    f"dictionary {table.name!r} has {dictionary.d_sae} features, but the task says width {table.width}",
                    given=table.width,
                    allowed=dictionary.d_sae,
                    hint="correct the task file",
                )
            if self.synthetic is not None:
                if dictionary.d_in != self.synthetic.config.dims:
                    message = f"dictionary {table.name!r} reads vectors of {dictionary.d_in} numbers"
                    raise DictionaryError(message, given=dictionary.d_in, allowed=self.synthetic.config.dims, hint="give one of the task's dims")
                note = ""
            else:
                note = harness.sae.check_fits(dictionary, self.model, allow_other_model=table.trained_on is not None)
            if note and (table.trained_on is not None or not dictionary.model_name):
                self.warn(f"dictionary {table.name}: {note}")
            if dictionary.signed:
                self.warn(
                    f"dictionary {table.name} is signed: a feature is active on either side of 0, and a strength of 1 moves to the side on which "
                    "it is strongest on the corpus, whichever side a concept was found on"
                )
            for line in weight_notes(dictionary.sae):
                self.warn(f"dictionary {table.name}: {line}")
            loaded[table.name] = dictionary
            self._watch_dictionary(table.name, dictionary)
        return loaded

    def _watch_dictionary(self, name: str, dictionary: Dictionary) -> None:
        forget = lambda: self.__dict__.pop("dictionaries", None)  # noqa: E731
        self.guard.watch(f"dictionary {name}", dictionary.sae, forget, [dictionary], DICTIONARIES)

    def dictionary_name(self, name: str | None = None) -> str:
        """Return a dictionary's name, None meaning the task's first. Raises where the task has none or not this one."""
        names = self.task.file.dictionary_names
        if not names:
            message = f"task {self.task.name!r} has no dictionary, which this method needs"
            raise TaskError(message, given=self.task.name, hint="add a [[dictionaries]] table to the task")
        if name is not None and name not in names:
            raise UnknownNameError(f"dictionary of task {self.task.name}", name, names)
        return name or names[0]

    # ------------------------------------------------------------------------------------------------ corpus and instructions

    @property
    def has_corpus(self) -> bool:
        """Return whether task or command line name a corpus."""
        return self.choices.corpus is not None or self.task.file.corpus.source is not None

    @cached_property
    def corpus_path(self) -> Path:
        """Return where the corpus is: a file, a folder, or the name of a dataset (``hf:…``)."""
        given = self.choices.corpus
        if given is None:
            table = self.task.file.corpus
            return resolve(self.task, table.source, "--corpus", "corpus", table.revision, self.progress)
        if is_elsewhere(given):
            return resolve(self.task, given, "--corpus", "corpus", None, self.progress)
        path = Path(given).expanduser()
        if not path.exists():
            hint = "give a file or folder that `harness data stats` reads"
            raise DataError(f"--corpus {path} does not exist", given=path, hint=hint)
        return path

    @cached_property
    def corpus_digest(self) -> str:
        """Names the texts, their labels, and how many of their tokens are used; the same wherever the corpus lies.

        What the texts answer belongs to it where they are read as answers; their genres and parts where the corpus states any.
        """
        read = [self.corpus.digest, self.task.file.corpus.max_tokens]
        if self.conversations:
            from harness.model.prompts import RENDERING

            read += [{"conversations": RENDERING, "instructions": self.corpus.instructions_digest}]
        if self.corpus.stated_digest:
            read += [{"stated": self.corpus.stated_digest}]
        return digest(read)

    @property
    def conversations(self) -> bool:
        """Return whether texts are read as answers to their instructions."""
        return self.task.file.corpus.conversations

    @cached_property
    def corpus(self) -> Corpus:
        with self.progress.gauge("indexing the corpus") as gauge:
            corpus = self.open_corpus(gauge)
            skipped = corpus.n_skipped
        if skipped:
            self.warn(f"corpus: {skipped} rows skipped (first: {corpus.skipped[0]}); see `harness data stats {self.corpus_path}`")
        for line in corpus.label_warnings:
            self.warn(f"corpus: {line}")
        return corpus

    def open_corpus(self, progress: Callable[[int, int], None] | None = None) -> Corpus:
        """Return the corpus, of which no more than the beginning has been looked at; ``progress`` is called while it is read later."""
        import harness.data

        table, given = self.task.file.corpus, self.choices
        # how the task's own file is to be read says nothing of another file
        own = table if given.corpus is None or table.source is None else CorpusTable()
        corpus = harness.data.open_corpus(
            self.corpus_path,
            format=own.format,
            text_field=given.text_field or own.text_field,
            label_field=given.label_field or own.label_field,
            label_separator=given.label_separator or own.label_separator,
            instruction_field=given.instruction_field or own.instruction_field,
            genre_field=given.genre_field or own.genre_field,
            part_field=given.part_field or own.part_field,
            comments=table.comments,
            code_blocks=table.code_blocks,
            progress=progress,
            revision=table.revision if given.corpus is None else None,
            downloads=self.progress,
        )
        return corpus if table.max_documents is None else corpus.head(table.max_documents)

    @property
    def labels(self) -> LabelTable:
        labels = self.corpus.labels
        labels.support.setflags(write=False)
        return labels

    @cached_property
    def split(self) -> TextSplit:
        from harness.data.split import FORMAT, TextSplit, split_texts

        def compute(folder: Path) -> None:
            self.progress.step("splitting the corpus")
            order = self.rng("held-out-texts").permutation(len(self.corpus))
            split_texts(self.corpus_tokens, (document.text for document in self.corpus), order, self.corpus.parts).save(folder)

        found = TextSplit.load(self._own_artifact({"kind": "text-split", "version": FORMAT, "seed": self.seed}, compute))
        read_only(found)
        if found.n_copies:
            self.warn(
                f"corpus: {found.n_copies} of {len(self.corpus)} texts are copies or near-copies of others; such texts are in one part of the "
                "split into train, threshold and report"
            )
        return found

    def examples(self, concept: Concept, part: Part = "train") -> Sequence[Example]:
        from harness.data.examples import CorpusExamples

        if concept.label is None:
            return ()
        return CorpusExamples(self.corpus, self.split.part(part), self.labels.of(concept.label))

    @cached_property
    def instructions_path(self) -> Path:
        if self.choices.instructions is not None:
            path = Path(self.choices.instructions).expanduser()
            if not path.exists():
                hint = "give JSONL rows {id, text} or an AlpacaEval JSON list"
                raise DataError(f"--instructions {path} does not exist", given=path, hint=hint)
            return path
        table = self.task.file.instructions
        return resolve(self.task, table.source, "--instructions", "set of instructions", table.revision, self.progress)

    @cached_property
    def instructions(self) -> Sequence[Instruction]:
        import harness.data

        found = harness.data.open_instructions(self.instructions_path, split=self.split_name)
        wanted = self.task.file.instructions.per_concept
        if len(found) < wanted:
            raise DataError(
                f"{self.instructions_path} has {len(found)} instructions{f' of split {self.split_name!r}' if self.split_name else ''}",
                given=len(found),
                allowed=f"at least the {wanted} that the task draws for each concept",
                hint="add instructions or lower instructions.per_concept",
            )
        return tuple(found)

    def instructions_for(self, concept: Concept) -> list[Instruction]:
        """Return the instructions of one concept: drawn without replacement, the same for every method of a run with this seed."""
        pool = self.instructions
        order = self.rng("instructions", concept.id).permutation(len(pool))
        return [pool[int(i)] for i in order[: self.task.file.instructions.per_concept]]

    # ------------------------------------------------------------------------------------------------ concepts

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """Return, in fixed mode, the task's concepts of the split. Chosen mode: a candidate for each label with enough support."""
        return tuple(self._with_examples(concept) for concept in self.list_concepts())

    def list_concepts(self) -> list[Concept]:
        """Return the concepts without their example texts: in fixed mode this reads no corpus."""
        if self.concept_mode == "chosen":
            return self._candidates()
        return self._fixed()[: self.choices.limit]

    @cached_property
    def concepts_path(self) -> Path:
        """Return where the task's list of concepts is, fetched where it lies on the hub."""
        table = self.task.file.concepts
        assert table.file is not None  # the task file's validator holds this, in fixed mode
        if (name := hub_name(table.file)) is not None:
            return fetch_corpus(name, table.revision, self.progress, "list of concepts")
        return self.task.path(table.file)

    @property
    def hub_concepts_digest(self) -> str | None:
        """Return the identity of a list of concepts that lies on the hub; None for any other, which belongs to the task's own digest."""
        table = self.task.file.concepts
        if table.mode != "fixed" or table.file is None or hub_name(table.file) is None:
            return None
        return concepts_digest(self.concepts_path)

    def _every_listed(self) -> list[Concept]:
        import harness.data

        return harness.data.open_concepts(self.concepts_path)

    def _fixed(self) -> list[Concept]:
        import harness.data

        name = self.task.file.concepts.file
        found = harness.data.open_concepts(self.concepts_path, split=self.split_name)
        if not found:
            split = f" of split {self.split_name!r}" if self.split_name else ""
            message = f"{name} of task {self.task.name!r} has no concept{split}"
            raise DataError(message, given=self.split_name, hint="add concepts, or correct evaluation.split")
        return choose_concepts(found, self.choices.concepts)

    @cached_property
    def hard_labels(self) -> tuple[str, ...]:
        """Return the labels of the corpus that mark hard negatives of some concept: of the task's list, or by their names."""
        listed = [] if self.concept_mode == "chosen" else self._every_listed()
        named = {concept.hard_negatives for concept in listed if concept.hard_negatives is not None}
        return tuple(label for label in self.labels.names if label in named or is_hard(label))

    def _candidates(self) -> list[Concept]:
        support = {name: n for name, n in zip(self.labels.names, self.labels.support.tolist(), strict=True) if not is_hard(name)}
        labels = [label for label, count in support.items() if count >= self.min_support]
        if not labels:
            most = max(support.items(), key=lambda item: item[1], default=("none", 0))
            raise DataError(
                f"no label of {self.corpus_path} has the {self.min_support} texts that concepts.min_support asks for",
                given=self.min_support,
                allowed=f"at most {most[1]}, which the largest label, {most[0]!r}, has",
                hint="lower min_support or give a larger corpus",
            )
        if self.choices.concepts:  # a label with too few texts is named as such, not as one that does not exist
            labels = [str(concept.label) for concept in choose_concepts([_candidate(label) for label in support], self.choices.concepts)]
            if few := [label for label in labels if support[label] < self.min_support]:
                message = f"label {few[0]!r} has {support[few[0]]} of the {self.min_support} texts that concepts.min_support asks for"
                raise DataError(message, given=few[0], hint="leave it out of --concepts, or lower min_support")
        return [self._candidate(label) for label in labels]

    def _candidate(self, label: str) -> Concept:
        hard = hard_label(label)
        return replace(_candidate(label), hard_negatives=hard if hard in self.labels.names else None)

    def _with_examples(self, concept: Concept) -> Concept:
        if concept.label is None or concept.positives or not self.has_corpus:
            return concept
        positives = self.labels.of(concept.label)
        negatives = np.setdiff1d(np.arange(len(self.corpus)), positives, assume_unique=True)
        generator = random.Random(int(self.rng("examples", concept.id).integers(2**62)))
        drawn = [generator.sample(range(len(texts)), min(EXAMPLES, len(texts))) for texts in (positives, negatives)]
        wanted = [[int(texts[place]) for place in places] for texts, places in zip((positives, negatives), drawn, strict=True)]
        read = {number: self.corpus[number].text for number in sorted({number for part in wanted for number in part})}
        examples = [tuple(read[number] for number in part) for part in wanted]
        return replace(concept, positives=examples[0], negatives=examples[1])

    # ------------------------------------------------------------------------------------------------ services to plugins

    @property
    def token_limit(self) -> int:
        """Return tokens at which texts are cut: the task's ``corpus.max_tokens``, or fewer where the model reads no more."""
        limit, most = self.task.file.corpus.max_tokens, self.model.max_tokens
        if most is None or limit <= most:
            return limit
        self.warn(f"corpus.max_tokens is {limit}, and {self.model.name} reads {most} tokens: texts are cut there")
        return most

    @handed_out(MODEL)
    def services(self) -> ModelServices:
        """Return what is computed with the subject model."""
        return ModelServices(self.model, self.task.file.decoding.decoding(), self.choices.engine, self.choices.spread)

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

    def activations(self, site: Site | None = None, texts: TextSet | Samples | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        self.guard.settle()
        if self.synthetic is not None:
            from harness.sae.synthetic.source import Samples

            return self.synthetic.vectors(texts if isinstance(texts, Samples) else Samples("train", 0, self.synthetic.n_samples))
        if texts is not None and not hasattr(texts, "tokens"):
            raise TaskError(f"task {self.task.name!r} has texts, not samples", given=self.task.name, hint="name a task of synthetic activations")
        return self.services.activations(site or self.site, self.corpus_tokens if texts is None else texts.tokens, self.skip)

    @cached_property
    def corpus_tokens(self) -> TokenTable:
        from harness.model.conversations import encoded_turns
        from harness.model.tokens import TokenTable, write_tokens

        limit = self.token_limit

        def compute(folder: Path) -> None:
            with self.progress.gauge("tokenising the corpus") as gauge:
                texts = (document.text for document in self.corpus)
                try:
                    if self.conversations:
                        write_tokens(self.model, map(_turns, self.corpus), len(self.corpus), limit, folder, gauge, encoded_turns)
                    else:
                        write_tokens(self.model, texts, len(self.corpus), limit, folder, gauge)
                except DataError:  # the corpus was changed meanwhile: what is written is not its tokens
                    shutil.rmtree(folder, ignore_errors=True)
                    raise

        return TokenTable.load(self._own_artifact({"kind": "corpus-tokens"}, compute))

    @property
    def skip(self) -> int:
        return max(1, self.model.chat_prefix_length) if self.conversations else 1

    def answer_start(self, place: int) -> int:
        return len(self.model.prompt(self.corpus[place].instruction)) if self.conversations else self.skip

    def statistics(self, dictionary: str | None = None) -> CorpusStatistics:
        name = self.dictionary_name(dictionary)
        if name not in self._statistics:
            from harness.sae.corpus.collect import CorpusStatistics

            self._statistics[name] = CorpusStatistics.load(self._statistics_folder(name))
            read_only(self._statistics[name])
        return self._statistics[name]

    @property
    def known_statistics(self) -> frozenset[str]:
        """Return the dictionaries whose statistics were asked for: what needs them costs no further pass over the corpus."""
        return frozenset(self._statistics)

    def _statistics_folder(self, name: str) -> Path:
        from harness.sae.corpus.collect import FORMAT, measure

        target = self.dictionaries[name]

        def compute(folder: Path) -> None:
            with self.progress.gauge("reading the corpus") as gauge:
                measure(self.model, target, self.corpus_tokens, folder, skip=self.skip, progress=gauge, spread=self.services.spread_out)

        return self._own_artifact({"kind": "corpus-statistics", "version": FORMAT, "dictionary": target.digest}, compute)

    def residual_means(self) -> ResidualMeans:
        for table in self.task.file.dictionaries:
            if table.layer == self.site.layer:
                statistics = self.statistics(table.name)  # the same pass over the corpus has found them already
                return ResidualMeans(statistics.document_means, statistics.n_tokens, statistics.mean_norm)

        def compute(folder: Path) -> None:
            if not (self.corpus_tokens.lengths > self.skip).any():
                message = f"no text of {self.corpus_path} has a token that counts, beyond the first {self.skip}"
                raise DataError(message, given=self.corpus_path, hint="give longer texts")
            self.services.write_means(self.site, self.corpus_tokens, folder, self.progress, self.skip)

        return read_means(self._own_artifact({"kind": "residual-means", "version": 2, "layer": self.site.layer}, compute))

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
        source = self.synthetic
        full = {
            "key": replaced(key, self._paths_of_plugin()),
            "model": self.model.digest if source is None else source.digest,
            "dtype": str(self.model.dtype if source is None else "float32"),
            "corpus": corpus,
            **self._code_of(compute),
        }
        return self.artifacts.get(full, self.guard.filled(compute, "an artifact"))

    def _code_of(self, compute: Callable[[Path], None]) -> dict[str, Json]:
        """Return by which code an artifact is made: what the core makes has a version in its key, and is shared by all plugins."""
        who = self.guard.at_work
        if who is None or is_core(compute):
            return {}
        inputs = sorted(set(self._paths_of_plugin().values()))
        code = [who.code or f"{who.distribution} {who.module}", core_digest()]
        return {"code": code, **({"inputs": inputs} if inputs else {})}

    def _paths_of_plugin(self) -> Mapping[str, str]:
        """Return the digests of the files that the options of the plugin at work name, by the text of their paths."""
        who = self.guard.at_work
        return {} if who is None or who.inputs is None else who.inputs()

    def _own_artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
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


def _turns(document: Document) -> Turns:
    from harness.model.conversations import Turns

    return Turns(document.instruction, document.text)


def _candidate(label: str) -> Concept:
    return Concept(id=label, text=label.replace("-", " "), label=label)


def open_bench(task: Task, choices: Choices, quiet: bool = False, warnings: Warnings | None = None) -> TaskBench:
    """Return the bench of a task, with the artifact cache of this user; nothing is loaded yet."""
    from harness.files.cache_dir import cache_root

    return TaskBench(task, choices, ArtifactCache(cache_root() / "artifacts"), set_current_progress(Progress(quiet)), warnings or Warnings())
