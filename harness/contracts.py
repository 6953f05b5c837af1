"""What labelers, steerers, judges and edits must offer, and the bench that the core hands them (typing.Protocol: nothing to inherit).

torch appears in annotations only, so importing this module stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.interventions import Intervention, Positions, Site
from harness.types import Abstention, Concept, Document, Instruction, Json, JudgeItem, Labeling, Rating, StrengthUnit

if TYPE_CHECKING:
    import numpy as np

    from harness.chat.cost import Estimate
    from harness.chat.values import Usage
    from harness.data.corpora.labels import LabelTable
    from harness.model.loading import SubjectModel
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.sae.dictionary import Dictionary


# --------------------------------------------------------------------------------------------------------------- interventions














# ----------------------------------------------------------------------------------------------------------------------- bench


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


class Bench(Protocol):
    """What the core hands to plugins. Everything expensive is made when first asked for, and shared."""

    @property
    def seed(self) -> int:
        """The run's seed; draw with :meth:`rng`, not with a generator of one's own."""
        ...

    @property
    def concept_mode(self) -> str:
        """``fixed``: the task lists the concepts; ``chosen``: the labeler picks its own from the corpus' labels."""
        ...

    @property
    def model(self) -> SubjectModel:
        """The subject model, loaded when first asked for."""
        ...

    @property
    def dictionaries(self) -> Mapping[str, Dictionary]:
        """The task's dictionaries by name (none for a task without)."""
        ...

    def dictionary_name(self, name: str | None = None) -> str:
        """The name of a dictionary, None meaning the task's first. Raises one clear error where there is none, or none of this name."""
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
        """Each text of the corpus as token ids of the subject model ``[tokens]``, cut to the task's ``corpus.max_tokens``; on disk."""
        ...

    @property
    def instructions(self) -> Sequence[Instruction]:
        """The instructions of the run's split."""
        ...

    def statistics(self, dictionary: str | None = None) -> CorpusStatistics:
        """What one pass over the corpus found at a dictionary's site (None: the task's first). See :class:`CorpusStatistics`."""
        ...

    def residual_means(self) -> ResidualMeans:
        """The mean residual of each text at :attr:`site`, first token and padding excluded."""
        ...

    def artifact(self, key: Json, compute: Callable[[Path], None]) -> Path:
        """A content-addressed folder: ``compute(folder)`` fills it once; later calls, runs and processes with the same key share it.

        ``key`` is JSON and must hold everything that the content depends on; model, corpus and dtype are added by the bench.
        ``compute`` finds in the folder what an interrupted earlier call left, and may go on from there.
        """
        ...

    @property
    def min_support(self) -> int:
        """Labels with fewer positive texts than this are not labelled."""
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


# --------------------------------------------------------------------------------------------------------------------- plugins


@runtime_checkable
class Labeler(Protocol):
    """Says which features carry which concept."""

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> Sequence[Labeling | Abstention]:
        """One answer a concept in fixed mode; in chosen mode ``concepts`` are the candidates, and only the chosen come back, best first."""
        ...


@runtime_checkable
class Steerer(Protocol):
    """Makes the model express a concept at a strength."""

    @property
    def strength_unit(self) -> StrengthUnit:
        """What a strength of 1 is: ``max-activation``, ``residual-norm`` or ``none``; kept in the entry."""
        ...

    @property
    def default_grid(self) -> tuple[float, ...]:
        """Strengths to try, ascending; a single point for a method without a strength. A task may override it."""
        ...

    @property
    def neutral(self) -> float | None:
        """The strength at which nothing changes, or None where there is none (a clamp to 0 ablates the feature)."""
        ...

    @property
    def needs_features(self) -> bool:
        """Whether it steers through a labeling's features. If not, it is run once for all labelers, on every concept."""
        ...

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Fit or look up what ``intervene`` needs; resumable through ``bench.artifact``."""
        ...

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        """The intervention for a labeling at a strength: a value, not a closure over the model."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Rates texts. Results come back in any order, as rated, unrated or pending, so that people and batch APIs fit."""

    @property
    def rubric(self) -> str:
        """Name and version of the rubric; part of what a ranking is keyed by."""
        ...

    @property
    def offline(self) -> bool:
        """True for a judge that no person or strong model stands behind; shown wherever its numbers are."""
        ...

    def prepare(self, bench: Bench) -> None:
        """Load what rating needs."""
        ...

    def submit(self, items: Sequence[JudgeItem]) -> Iterable[Rating]:
        """Ratings of ``items`` as they come; an item that is not answered at once comes back ``pending`` with a ticket.

        It is handed 256 items at a time, or as many as an attribute ``at_once`` of the judge says. A judge whose ratings come later may say so
        by an attribute ``waits_for`` (a text: for what) or ``batch`` (true): the self-test then refuses it before anything is asked.
        One that costs seconds and no money may set ``selftest_first``: it is tested before it rates for the first time.
        """
        ...

    def collect(self, tickets: Sequence[str]) -> Iterable[Rating]:
        """Ratings of tickets handed out earlier; one that is still open comes back ``pending`` again."""
        ...


@runtime_checkable
class Priced(Protocol):
    """What costs money says afterwards how much it was."""

    @property
    def usage(self) -> Usage:
        """Tokens that were paid for so far; replies from a cache are not among them."""
        ...

    @property
    def cost(self) -> float | None:
        """Dollars so far; None where a price is not known."""
        ...

    @property
    def hits(self) -> int:
        """Replies that came from a cache."""
        ...


@runtime_checkable
class PricedJudge(Judge, Priced, Protocol):
    """A judge whose ratings cost money: it says before how much at most, and afterwards how much it was."""

    def estimate(self, items: Iterable[JudgeItem]) -> Estimate:
        """An upper bound of calls, tokens and dollars for rating ``items``; sends nothing."""
        ...


@runtime_checkable
class PricedSteerer(Steerer, Priced, Protocol):
    """A steerer whose preparation costs money (a model behind an API writes its prompts). It is asked before ``prepare``."""

    def estimate(self, concepts: Sequence[Concept]) -> Estimate:
        """An upper bound of calls, tokens and dollars for preparing ``concepts``; sends nothing. No calls for what it has already."""
        ...


@runtime_checkable
class RecordedSteerer(Steerer, Protocol):
    """A steerer whose preparation might come out otherwise another time. The run keeps the record, and hands it back when it goes on."""

    @property
    def record(self) -> Json:
        """What ``prepare`` found, as JSON: all that ``intervene`` needs, and who made it."""
        ...

    def restore(self, record: Json) -> None:
        """Take over what an earlier part of the run has found; called before ``estimate`` and ``prepare``."""
        ...
