"""The bench that plugins work at: a task's model, dictionaries, corpus, concepts and instructions, made when first asked for."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.contracts import ResidualMeans
from harness.errors import DataError, DictionaryError, TaskError, UnknownNameError
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.interventions import Positions, Site
from harness.tasks.find import resolve
from harness.tasks.schema import CorpusTable, Task
from harness.types import Concept, Instruction, Json, digest, rng

if TYPE_CHECKING:
    from harness.data.corpora.corpus import Corpus
    from harness.data.corpora.labels import LabelTable
    from harness.model.loading import SubjectModel
    from harness.model.tokens import TokenTable
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.sae.dictionary import Dictionary

EXAMPLES = 20
"""So many positive and negative texts at most travel with a concept; methods that want all read the corpus."""


@dataclass(frozen=True)
class Choices:
    """What the command line may replace in a task. All of it is part of the run's digest."""

    corpus: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    label_separator: str | None = None
    instructions: str | None = None
    split: str | None = None
    limit: int | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int = 0


@dataclass
class TaskBench:
    """Implements :class:`harness.contracts.Bench` for one task.

    Attributes:
        task: the task.
        choices: what the command line replaced.
        artifacts: the cache of what ``prepare`` makes.
        progress: where progress is shown.
        warnings: what plugins and core found worth saying; they end up in the entry.
        on_warning: told of each warning when it is first given.
    """

    task: Task
    choices: Choices
    artifacts: ArtifactCache
    progress: Progress
    warnings: list[str] = field(default_factory=list)
    _statistics: dict[str, CorpusStatistics] = field(default_factory=dict, init=False, repr=False)
    on_warning: Callable[[str], None] | None = None

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
    def split(self) -> str | None:
        """The split of concepts and instructions in use; ``all`` on the command line means no split."""
        asked = self.choices.split or self.task.file.evaluation.split
        return None if asked == "all" else asked

    @property
    def positions(self) -> Positions:
        steering = self.task.file.steering
        return Positions(prompt=steering.prompt, generated=steering.generated, first_token=steering.first_token)

    @property
    def site(self) -> Site:
        layer = self.task.file.steering.layer
        if layer is None:
            if not self.task.file.dictionaries:
                raise TaskError(f"task {self.task.name!r} has no dictionary and no steering.layer; set steering.layer in its {self.task.folder}")
            layer = self.task.file.dictionaries[0].layer
        return Site(layer)

    # ------------------------------------------------------------------------------------------------ model and dictionaries

    @cached_property
    def model(self) -> SubjectModel:
        from harness.model.loading import load_model

        table = self.task.file.model
        local = self.task.path(table.name)
        name = str(local) if table.name.startswith((".", "/", "~")) else table.name
        return load_model(name, device=self.choices.device, dtype=self.choices.dtype, revision=table.revision, progress=self.progress.step)

    @cached_property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        import harness.sae

        loaded: dict[str, Dictionary] = {}
        for table in self.task.file.dictionaries:
            # Layer and model fill in what the format does not say (Gemma Scope's files name neither), and contradict nothing.
            source = self.task.local_source(table)
            dictionary = harness.sae.load(source, device=str(self.model.device), layer=table.layer, model_name=table.trained_on)
            if table.width is not None and table.width != dictionary.d_sae:
                raise DictionaryError(
                    f"dictionary {table.name!r} has {dictionary.d_sae} features, but the task says width {table.width}; correct the task file"
                )
            note = harness.sae.check_fits(dictionary, self.model, allow_other_model=table.trained_on is not None)
            if table.trained_on is not None:
                self.warn(f"dictionary {table.name}: {note}")
            loaded[table.name] = dictionary
        return loaded

    def dictionary_name(self, name: str | None = None) -> str:
        """A dictionary's name, None meaning the task's first. Raises where the task has none or not this one."""
        names = [table.name for table in self.task.file.dictionaries]
        if not names:
            raise TaskError(f"task {self.task.name!r} has no dictionary, which this method needs; add a [[dictionaries]] table to the task")
        if name is not None and name not in names:
            raise UnknownNameError(f"dictionary of task {self.task.name}", name, names)
        return name or names[0]

    # ------------------------------------------------------------------------------------------------ corpus and instructions

    @property
    def has_corpus(self) -> bool:
        """Whether task or command line name a corpus."""
        return self.choices.corpus is not None or self.task.file.corpus.source is not None

    @cached_property
    def corpus_path(self) -> Path:
        """Where the corpus is: a file, a folder, or the name of a dataset (``hf:…``)."""
        given = self.choices.corpus
        if given is None:
            return resolve(self.task, self.task.file.corpus.source, "--corpus", "corpus")
        path = Path(given) if given.startswith("hf:") else Path(given).expanduser()
        if not given.startswith("hf:") and not path.exists():
            raise DataError(f"--corpus {path} does not exist; give a file or folder that `harness data stats` reads")
        return path

    @cached_property
    def corpus_digest(self) -> str:
        """Names the texts, their labels, and how many of their tokens are used; the same wherever the corpus lies."""
        return digest([self.corpus.digest, self.task.file.corpus.max_tokens])

    @cached_property
    def corpus(self) -> Corpus:
        import harness.data

        table = self.task.file.corpus
        # how the task's own file is to be read says nothing of another file
        own = table if self.choices.corpus is None or table.source is None else CorpusTable()
        given = self.choices
        with self.progress.gauge("indexing the corpus") as gauge:
            corpus = harness.data.open_corpus(
                self.corpus_path,
                format=own.format,
                text_field=given.text_field or own.text_field,
                label_field=given.label_field or own.label_field,
                label_separator=given.label_separator or own.label_separator,
                comments=table.comments,
                code_blocks=table.code_blocks,
                progress=gauge,
            )
            if table.max_documents is not None:
                corpus = corpus.head(table.max_documents)
            skipped = corpus.n_skipped
        if skipped:
            self.warn(f"corpus: {skipped} rows skipped (first: {corpus.skipped[0]}); see `harness data stats {self.corpus_path}`")
        return corpus

    @property
    def labels(self) -> LabelTable:
        return self.corpus.labels

    @cached_property
    def instructions_path(self) -> Path:
        if self.choices.instructions is not None:
            path = Path(self.choices.instructions).expanduser()
            if not path.exists():
                raise DataError(f"--instructions {path} does not exist; give JSONL rows {{id, text}} or an AlpacaEval JSON list")
            return path
        return resolve(self.task, self.task.file.instructions.source, "--instructions", "set of instructions")

    @cached_property
    def instructions(self) -> Sequence[Instruction]:
        import harness.data

        found = harness.data.open_instructions(self.instructions_path, split=self.split)
        wanted = self.task.file.instructions.per_concept
        if len(found) < wanted:
            raise DataError(
                f"{self.instructions_path} has {len(found)} instructions{f' of split {self.split!r}' if self.split else ''}, "
                f"the task draws {wanted} for each concept; add instructions or lower instructions.per_concept"
            )
        return found

    def instructions_for(self, concept: Concept) -> list[Instruction]:
        """The instructions of one concept: drawn without replacement, the same for every method of a run with this seed."""
        pool = self.instructions
        order = self.rng("instructions", concept.id).permutation(len(pool))
        return [pool[int(i)] for i in order[: self.task.file.instructions.per_concept]]

    # ------------------------------------------------------------------------------------------------ concepts

    @cached_property
    def concepts(self) -> tuple[Concept, ...]:
        """Fixed mode: the task's concepts of the split. Chosen mode: a candidate for each label with enough support."""
        return tuple(self._with_examples(concept) for concept in self.list_concepts())

    def list_concepts(self) -> list[Concept]:
        """The concepts without their example texts: in fixed mode this reads no corpus."""
        if self.concept_mode == "chosen":
            return self._candidates()
        return self._fixed()[: self.choices.limit]

    def _fixed(self) -> list[Concept]:
        import harness.data

        name = self.task.file.concepts.file
        assert name is not None  # the task file's validator holds this
        found = harness.data.open_concepts(self.task.path(name), split=self.split)
        if not found:
            raise DataError(f"{name} of task {self.task.name!r} has no concept{f' of split {self.split!r}' if self.split else ''}")
        return found

    def _candidates(self) -> list[Concept]:
        support = dict(zip(self.labels.names, self.labels.support.tolist(), strict=True))
        labels = [label for label, count in support.items() if count >= self.min_support]
        if not labels:
            most = max(support.items(), key=lambda item: item[1], default=("none", 0))
            raise DataError(
                f"no label of {self.corpus_path} has the {self.min_support} texts that concepts.min_support asks for; "
                f"the largest is {most[0]!r} with {most[1]}; lower min_support or give a larger corpus"
            )
        return [Concept(id=label, text=label.replace("-", " "), label=label) for label in labels]

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
        return Concept(concept.id, concept.text, concept.label, examples[0], examples[1])

    # ------------------------------------------------------------------------------------------------ services to plugins

    @cached_property
    def corpus_tokens(self) -> TokenTable:
        from harness.model.tokens import FORMAT, TokenTable, write_tokens

        limit, most = self.task.file.corpus.max_tokens, self.model.max_tokens
        if most is not None and limit > most:
            self.warn(f"corpus.max_tokens is {limit}, and {self.model.name} reads {most} tokens: texts are cut there")
            limit = most

        def compute(folder: Path) -> None:
            with self.progress.gauge("tokenising the corpus") as gauge:
                texts = (document.text for document in self.corpus)
                try:
                    write_tokens(self.model, texts, len(self.corpus), limit, folder, gauge)
                except DataError:  # the corpus was changed meanwhile: what is written is not its tokens
                    shutil.rmtree(folder, ignore_errors=True)
                    raise

        return TokenTable.load(self.artifact({"kind": "corpus-tokens", "version": FORMAT}, compute))

    def statistics(self, dictionary: str | None = None) -> CorpusStatistics:
        name = self.dictionary_name(dictionary)
        if name not in self._statistics:
            from harness.sae.corpus.collect import CorpusStatistics

            self._statistics[name] = CorpusStatistics.load(self._statistics_folder(name))
        return self._statistics[name]

    def _statistics_folder(self, name: str) -> Path:
        from harness.sae.corpus.collect import FORMAT, measure

        target = self.dictionaries[name]

        def compute(folder: Path) -> None:
            with self.progress.gauge("reading the corpus") as gauge:
                measure(self.model, target, self.corpus_tokens, folder, progress=gauge)

        return self.artifact({"kind": "corpus-statistics", "version": FORMAT, "dictionary": target.digest}, compute)

    def residual_means(self) -> ResidualMeans:
        for table in self.task.file.dictionaries:
            if table.layer == self.site.layer:
                statistics = self.statistics(table.name)  # the same pass over the corpus has found them already
                return ResidualMeans(statistics.document_means, statistics.n_tokens, statistics.mean_norm)

        def compute(folder: Path) -> None:
            means, tokens, norm = self._read_residuals()
            with (folder / "means.npz").open("wb") as file:
                np.savez(file, means=means, tokens=tokens, norm=norm)

        folder = self.artifact({"kind": "residual-means", "version": 2, "layer": self.site.layer}, compute)
        with np.load(folder / "means.npz", allow_pickle=False) as saved:
            return ResidualMeans(saved["means"], saved["tokens"], float(saved["norm"]))

    def _read_residuals(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], float]:
        """Each text's mean residual (zeros without a counted token), its number of counted tokens, and the mean norm: what statistics count."""
        from harness.model.activations import check_finite, residuals
        from harness.sae.corpus.collect import SHARD_TEXTS
        from harness.sae.corpus.outliers import usual_tokens

        tokens = self.corpus_tokens
        kept = np.flatnonzero(tokens.lengths > 1)
        if not len(kept):
            raise DataError(f"no text of {self.corpus_path} has more than one token; give longer texts")
        means = np.zeros((len(tokens), self.model.d_model), dtype=np.float32)
        counted, norm = np.zeros(len(tokens), dtype=np.int64), 0.0
        with self.progress.task("reading the corpus", len(kept)) as advance:
            for start in range(0, len(kept), SHARD_TEXTS):
                texts = kept[start : start + SHARD_TEXTS]
                for batch in residuals(self.model, [tokens[int(text)] for text in texts], self.site):
                    check_finite(batch, self.model, texts)
                    for row, x, usual in zip(batch.rows, batch.x, usual_tokens(batch.x, batch.counted), strict=True):
                        vectors = x[usual].float()
                        means[texts[row]], counted[texts[row]] = vectors.mean(dim=0).cpu().numpy(), len(vectors)
                        norm += float(vectors.norm(dim=-1).sum())
                    advance(len(batch.rows))
        return means, counted, norm / int(counted.sum())

    def artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        full = {"key": key, "model": self.model.digest, "dtype": str(self.model.dtype), "corpus": self.corpus_digest if self.has_corpus else None}
        return self.artifacts.get(full, compute)

    def rng(self, purpose: str, item: str = "") -> np.random.Generator:
        return rng(self.seed, purpose, item)

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        return self.progress.track(items, description, total)

    def warn(self, message: str) -> None:
        """Say something that a reader of the result must know; shown at the end, kept in the entry."""
        if message not in self.warnings:
            self.warnings.append(message)
            if self.on_warning is not None:
                self.on_warning(message)


def open_bench(task: Task, choices: Choices, quiet: bool = False) -> TaskBench:
    """The bench of a task, with the artifact cache of this user; nothing is loaded yet."""
    from harness.files.cache_dir import cache_root

    return TaskBench(task, choices, ArtifactCache(cache_root() / "artifacts"), Progress(quiet))
