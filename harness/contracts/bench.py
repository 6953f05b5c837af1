"""What the core hands to plugins: the bench, made when first asked for, and the part of it that a judge sees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.interventions import Intervention, Positions, Site
from harness.types import Abstention, Concept, Decoding, Document, Example, Instruction, Json, Labeling, ProtocolName

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.data.corpora.labels import LabelTable
    from harness.data.split import Part, TextSplit
    from harness.data.texts import TextSet
    from harness.engine.base import Generated, GenerationRequest
    from harness.engine.spreading.work import Work
    from harness.model.activations import Row
    from harness.model.loading import SubjectModel
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.sae.dictionary import Dictionary
    from harness.sae.synthetic.source import Samples, SyntheticSource


@dataclass(frozen=True, eq=False)
class ResidualMeans:
    """Residuals of the corpus at one site, first token and padding excluded.

    Attributes:
        means: float32 ``[texts, d_model]``, mean over each text's tokens.
        n_tokens: ``[texts]``, tokens that were counted.
        mean_norm: mean Euclidean norm over all counted tokens.
    """

    means: np.ndarray[Any, Any]
    n_tokens: np.ndarray[Any, Any]
    mean_norm: float


class Workers(Protocol):
    """Processes of this machine or of others, each with the subject model, that do pieces of work for this one."""

    def refuses(self, work: Work) -> str | None:
        """Why this work cannot be sent to them, one line; None where it can. Nothing is sent."""
        ...

    def do(self, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
        """The parts of all works by name, as they come, each once.

        Before it, a part may say how it is coming on (:class:`~harness.engine.spreading.work.Underway`). A worker that dies loses nothing: its work
        is done again by another. Raises QuarantinedError at the end, for work that failed three times.
        """
        ...


class JudgeBench(Protocol):
    """What a judge gets: the run's seed, a place for remarks, and the subject model for the one that says that it needs it."""

    @property
    def seed(self) -> int:
        """The run's seed; draw with :meth:`rng`, not with a generator of one's own."""
        ...

    @property
    def model(self) -> SubjectModel:
        """The subject model, loaded when first asked for; ``JudgeTraits.needs_model`` says that a judge asks."""
        ...

    @property
    def concept_mode(self) -> str:
        """``fixed``: the task lists the concepts; ``chosen``: the labeler picks its own from the corpus' labels."""
        ...

    @property
    def instructions(self) -> Sequence[Instruction]:
        """The instructions of the run's split."""
        ...

    def warn(self, message: str) -> None:
        """Say something that a reader of the result must know; it is kept in the entry."""
        ...

    def rng(self, purpose: str, item: str = "") -> np.random.Generator:
        """Random numbers that depend on (seed, purpose, item) only."""
        ...

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        """``items``, with progress shown while they are consumed (nothing on non-terminals and with ``--quiet``)."""
        ...


class Bench(JudgeBench, Protocol):
    """What the core hands to plugins. Everything expensive is made when first asked for, and shared."""

    @property
    def synthetic(self) -> SyntheticSource | None:
        """The source of the task's activations, with its true features, where they are synthetic: then there is no model and no corpus."""
        ...

    @property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """The task's dictionaries by name (none for a task without)."""
        ...

    def dictionary_name(self, name: str | None = None) -> str:
        """The name of a dictionary, None meaning the task's first. Raises one clear error where there is none, or none of this name."""
        ...

    @property
    def protocol(self) -> ProtocolName:
        """By which protocol the run is scored (``cv``, ``axbench``)."""
        ...

    @property
    def site(self) -> Site:
        """Where methods that need no dictionary (difference of means) read and write: the task's site, by default its dictionary's."""
        ...

    @property
    def positions(self) -> Positions:
        """The tokens that the task lets edits touch."""
        ...

    @property
    def corpus(self) -> Sequence[Document]:
        """The labelled corpus; documents are read from disk as they are asked for."""
        ...

    @property
    def labels(self) -> LabelTable:
        """Which texts of the corpus have which labels: names, support, a sparse matrix, and the texts of one label."""
        ...

    @property
    def corpus_tokens(self) -> Sequence[np.ndarray[Any, np.dtype[np.int64]]]:
        """Each text of the corpus as token ids of the subject model ``[tokens]``, cut to the task's ``corpus.max_tokens``; on disk.

        In a corpus of conversations (the task's ``corpus.conversations``) the templated instruction stands before the text.
        """
        ...

    @property
    def conversations(self) -> bool:
        """Whether texts of the corpus are read as answers to their instructions, under the chat template."""
        ...

    @property
    def skip(self) -> int:
        """Leading tokens of each text that never count: 1; in a corpus of conversations those that all templated prompts share."""
        ...

    @property
    def token_limit(self) -> int:
        """Tokens at which texts are cut: the task's ``corpus.max_tokens``, or fewer where the model reads no more."""
        ...

    def answer_start(self, place: int) -> int:
        """Where in ``corpus_tokens[place]`` the text's own tokens begin: behind the templated instruction, in a corpus of conversations."""
        ...

    def statistics(self, dictionary: str | None = None) -> CorpusStatistics:
        """What one pass over the corpus found at a dictionary's site (None: the task's first). See :class:`CorpusStatistics`."""
        ...

    def residual_means(self) -> ResidualMeans:
        """The mean residual of each text at :attr:`site`, first token and padding excluded."""
        ...

    @property
    def split(self) -> TextSplit:
        """The task's one split of the corpus' texts: what chooses and fits, what sets thresholds, what is reported on."""
        ...

    def examples(self, concept: Concept, part: Part = "train") -> Sequence[Example]:
        """(instruction, answer) pairs with and without the concept, from one part of :attr:`split`; a text without an instruction has none.

        Methods are fitted on ``train`` alone. Empty for a concept that names no label of the corpus.
        """
        ...

    def generate(self, requests: Sequence[GenerationRequest], decoding: Decoding | None = None) -> Iterator[Generated]:
        """Texts of the subject model, by the run's engine, in any order; ``decoding`` is the task's unless another is given."""
        ...

    def logits(self, texts: Sequence[Row], intervention: Intervention | None = None) -> Iterator[torch.Tensor]:
        """For each text (token ids), in order, the logits at each of its tokens: float32 ``[tokens, vocabulary]``, edited where asked."""
        ...

    @property
    def workers(self) -> Workers | None:
        """Who does pieces of work beside this process (``--executor``); None where this process does everything."""
        ...

    def activations(self, site: Site | None = None, texts: TextSet | Samples | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """Each text's place in ``texts`` (None: the corpus) and its activations at a site (None: the task's): float32 ``[tokens, d_model]``.

        Texts come in any order, and those without a counted token do not come. The first token, padding and outliers are left out, as everywhere
        in statistics (:mod:`harness.sae.corpus.sweep`). On a task of synthetic activations: the number of a first sample and vectors
        ``[n, dims]``, of some :class:`~harness.sae.synthetic.source.Samples` (None: those that are trained on), some at a time.
        """
        ...

    def answers(self, labeler: str) -> Sequence[Labeling | Abstention]:
        """What a labeler of this run answered, for a control that answers by it (its option ``follows`` names the labeler).

        Raises OptionError for one that is not part of the run, or has not answered yet.
        """
        ...

    def artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """A content-addressed folder: ``compute(folder)`` fills it once; later calls, runs and processes with the same key share it.

        ``key`` is JSON and must hold everything that the content depends on; model, corpus, dtype, and the code of the plugin and of the core
        are added by the bench, so an edited plugin makes its artifacts anew.
        ``compute`` finds in the folder what an interrupted earlier call left, and may go on from there.
        """
        ...

    @property
    def min_support(self) -> int:
        """Labels with fewer positive texts than this are not labelled."""
        ...
