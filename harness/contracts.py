"""What labelers, steerers, detectors, metrics and judges must offer, and the bench that the core hands them (typing.Protocol: nothing to inherit).

torch appears in annotations only, so importing this module stays cheap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from harness.interventions import Intervention, Positions, Site
from harness.types import (
    Abstention,
    Concept,
    ControlKind,
    Decoding,
    Document,
    Example,
    Instruction,
    Json,
    JudgeItem,
    Labeling,
    Measurement,
    ProtocolName,
    Rating,
    StrengthUnit,
)

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.chat.cost import Estimate
    from harness.chat.values import APIModel, Usage
    from harness.data.corpora.labels import LabelTable
    from harness.data.split import Part, TextSplit
    from harness.data.texts import TextSet
    from harness.engine.base import Generated, GenerationRequest
    from harness.model.activations import Row
    from harness.model.loading import SubjectModel
    from harness.sae.corpus.collect import CorpusStatistics
    from harness.sae.dictionary import Dictionary
    from harness.sae.subject import DictionarySubject
    from harness.sae.synthetic.source import Samples, SyntheticSource


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

# ---------------------------------------------------------------------------------------------------------------------- traits

SelectsOn = Literal["nothing", "train", "all"]
"""Which texts of the corpus a labeler chooses by: none, those of the split's train part, or all (its detection results are in-sample)."""


@dataclass(frozen=True)
class LabelerTraits:
    """What the core must know of a labeler before it runs.

    Attributes:
        selects_on: which texts of the corpus it chooses by.
        needs_corpus: whether it reads the corpus at all.
        filters: names of its options that filter features; a control draws its features under the same values.
        control: as which control it may be run: ``random features`` (drawn under the filters of the labeler that it stands for) or
            ``permuted labels`` (another concept's; its option ``follows`` names the labeler), or ``permuted fits`` (what a method learnt for
            another concept, :attr:`Labeling.fit`). ``--controls full`` runs the task's random features, or else every such labeler, and every one
            of the others. None: no control.
    """

    selects_on: SelectsOn = "all"
    needs_corpus: bool = True
    filters: tuple[str, ...] = ()
    control: ControlKind | None = None


Suppresses = Literal["negate", "ablate"]
"""How a steerer works against a concept.

``negate``: by its strengths × −1, as AxBench does. ``ablate``: by these and by strength 0, which removes what stands for the concept (a clamp).
"""


@dataclass(frozen=True)
class SteererTraits:
    """What the core must know of a steerer before it runs.

    Attributes:
        unit: what a strength of 1 is; kept in the entry.
        grid: strengths to try, ascending; a single point for a method without a strength. A task may override it.
        neutral: the strength at which nothing changes, or None where there is none (a clamp to 0 ablates the feature).
        needs_features: whether it steers through a labeling's features. If not, it is run once for all labelers, on every concept.
        control: ``random direction`` for one that pushes as hard as a labeling's features, along nothing; it needs features. ``--controls full`` runs
            every such steerer at the strengths of each method through features, with the options that both have. None: no control.
        suppresses: how it works against a concept where that is asked for: ``intervene`` then gets strengths of 0 and below. None: it
            cannot, and is left out of such runs.
        fitted: whether it learns from a concept's texts. ``--controls full`` then also steers each concept by what was learnt for another one.
        adapter: whether its interventions bring an adapter. The model wears one at a time, so of joined steerers one may.
    """

    unit: StrengthUnit
    grid: tuple[float, ...]
    neutral: float | None = None
    needs_features: bool = False
    control: ControlKind | None = None
    suppresses: Suppresses | None = None
    fitted: bool = False
    adapter: bool = False


@dataclass(frozen=True)
class DetectorTraits:
    """What the core must know of a detector before it runs.

    Attributes:
        needs_features: whether it scores through a labeling's features. If not, it is run once for all labelers, on every concept.
        trivial: whether it stands for what one gets for free (the majority, a bag of words): shown among the controls.
    """

    needs_features: bool = False
    trivial: bool = False


Need = Literal["model", "corpus", "siblings", "neighbours", "truth", "recipe"]
"""What a metric needs of its subject: subject model, corpus, other seeds, dictionaries of other layers, the true features, its recipe."""


@dataclass(frozen=True)
class NumberTraits:
    """What a number means that a metric finds.

    Attributes:
        title: what it is, for the table's head, e.g. ``explained variance``; empty: its own name says it.
        unit: e.g. ``features``, ``share``, ``nats``; empty for a plain number.
        bounds: lowest and highest possible value; None where there is none.
        higher_is_better: the direction; None where neither is (a density).
        trivial: the value of the empty answer, e.g. of a dictionary that reconstructs the mean; None where there is none, or where it depends
            on the data (:attr:`Measurement.trivial`).
    """

    title: str = ""
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    higher_is_better: bool | None = True
    trivial: float | None = None


@dataclass(frozen=True)
class MetricTraits(NumberTraits):
    """What the core must know of a metric before it runs: what its value means, and what stands beside it.

    Attributes:
        needs: what it needs of its subject.
        parts: further numbers of one measurement by name, each with its own meaning; :attr:`Measurement.parts` holds exactly these. The
            value is what a ranking goes by, parts are shown beside it.
        item: what one entry of :attr:`Measurement.per_item` is, e.g. ``data set``, ``pair``, ``latent``; empty where there are none.
        items_shared: whether one id names the same thing for every dictionary (a data set does, a latent does not), so that two dictionaries
            are compared item by item.
    """

    needs: tuple[Need, ...] = ("model", "corpus")
    parts: Mapping[str, NumberTraits] = field(default_factory=dict)
    item: str = ""
    items_shared: bool = True


@dataclass(frozen=True)
class JudgeTraits:
    """What the core must know of a judge before it rates.

    Attributes:
        rubric: name and version of the rubric; part of what a ranking is keyed by.
        offline: no person or strong model stands behind it; shown wherever its numbers are.
        at_once: items that it is handed together.
        answers_later: for whom or what its ratings wait (``people, who rate its sheets by hand``); empty for one that answers at once.
        needs_model: it needs the subject model, so a stored run cannot be rated without it.
        selftest_first: it costs seconds and no money, so it is tested before it rates for the first time.
        reference: published results were rated by it. Where an offline judge rated, it is the one that is proposed.
    """

    rubric: str
    offline: bool
    at_once: int = 256
    answers_later: str = ""
    needs_model: bool = False
    selftest_first: bool = False
    reference: bool = False


# --------------------------------------------------------------------------------------------------------------------- plugins


@runtime_checkable
class Labeler(Protocol):
    """Says which features carry which concept."""

    @property
    def traits(self) -> LabelerTraits:
        """What it chooses by, and by which filters."""
        ...

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> Sequence[Labeling | Abstention]:
        """One answer for each concept in fixed mode; in chosen mode ``concepts`` are the candidates, and only the chosen come back, best first.

        A labeler that is run as a control may offer to answer each concept several times, and those that another labeler chose
        (:data:`harness.options.CONTROL_OPTIONS`).
        """
        ...


@runtime_checkable
class Steerer(Protocol):
    """Makes the model express a concept at a strength."""

    @property
    def traits(self) -> SteererTraits:
        """Its strengths and their unit, and whether it needs features."""
        ...

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Fit or look up what ``intervene`` needs; resumable through ``bench.artifact``."""
        ...

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        """The intervention for a labeling at a strength: a value, not a closure over the model."""
        ...


@runtime_checkable
class Detector(Protocol):
    """Tells texts with a concept from texts without. One class may be a steerer, too: the fit is one ``bench.artifact``, made once."""

    @property
    def traits(self) -> DetectorTraits:
        """Whether it needs features, and whether it is a trivial rival."""
        ...

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Fit what ``scores`` needs, on the texts of ``bench.split.train`` alone."""
        ...

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> np.ndarray[Any, np.dtype[np.float64]]:
        """How much each text shows each concept: float64 ``[labelings, texts]``, higher is more, finite. One pass serves all labelings."""
        ...


@runtime_checkable
class Metric(Protocol):
    """Measures a dictionary."""

    @property
    def traits(self) -> MetricTraits:
        """Unit, bounds, direction and trivial value of each of its numbers, and what it needs."""
        ...

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        """One measurement; ``seed`` is the metric's own (of its draws), not the dictionary's.

        Metrics that draw texts by one seed read the same texts for every subject, so that their numbers can be compared.
        """
        ...


@runtime_checkable
class Judge(Protocol):
    """Rates texts. Results come back in any order, as rated, unrated or pending, so that people and batch APIs fit."""

    @property
    def traits(self) -> JudgeTraits:
        """Its rubric, what stands behind it, and how it answers."""
        ...

    def prepare(self, bench: JudgeBench) -> None:
        """Load what rating needs."""
        ...

    def submit(self, items: Sequence[JudgeItem]) -> Iterable[Rating]:
        """Ratings of ``items`` as they come; an item that is not answered at once comes back ``pending`` with a ticket."""
        ...

    def collect(self, tickets: Sequence[str]) -> Iterable[Rating]:
        """Ratings of tickets handed out earlier; one that is still open comes back ``pending`` again."""
        ...


# ----------------------------------------------------------------------------------------------------------------------- costs


@dataclass(frozen=True)
class Work:
    """What a plugin that costs money would be asked to do.

    Attributes:
        items: texts to rate (a judge).
        concepts: concepts to prepare (a labeler, a steerer, a detector).
        measurements: dictionaries to measure, times the metric's own seeds (a metric).
    """

    items: Sequence[JudgeItem] = ()
    concepts: Sequence[Concept] = ()
    measurements: int = 0


@runtime_checkable
class Metered(Protocol):
    """What may cost money says afterwards how much it was."""

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

    @property
    def unanswered(self) -> int:
        """Requests that were given up unanswered, which a server may bill, too."""
        ...


@runtime_checkable
class Priced(Metered, Protocol):
    """A plugin that may cost money: it says before how much at most, and afterwards how much it was."""

    def estimate(self, work: Work) -> Estimate:
        """An upper bound of calls, tokens and dollars for ``work``; sends nothing. No calls for what it has already."""
        ...


@runtime_checkable
class AsksAPI(Protocol):
    """A plugin that asks a model behind an API, which may be shut down one day: plans warn of that, and refuse it afterwards."""

    @property
    def api_model(self) -> APIModel | None:
        """Who is asked; None where nobody is. Sends nothing and needs no key."""
        ...


@runtime_checkable
class RunsModel(Protocol):
    """A judge that runs a model of its own on this machine. Its ratings depend on what lies in the model's files, not on their name alone."""

    @property
    def model_identity(self) -> str:
        """Digest, number format and kind of device of the model that rates; loads its weights only where nothing else tells."""
        ...


@runtime_checkable
class RatesMeanwhile(Protocol):
    """A judge that waits on a network, and needs neither the processor nor the subject model: it rates texts while others are generated.

    It rates each text by itself, since texts come in the order in which they are generated. Its members are called between two texts.
    """

    def send(self, items: Sequence[JudgeItem]) -> None:
        """Begin to rate items, and return at once; ``prepare`` has been called. It is called many times, with few items."""
        ...

    def arrived(self, wait: bool) -> Iterable[Rating]:
        """Return the ratings that have come of what was sent; with ``wait`` those of all that was sent, as they come.

        Raises what ends the rating: a wrong key, a server that refuses. What came before is handed out first.
        """
        ...

    def stop(self) -> None:
        """Send nothing more, keep what is under way and paid for, and return when all is done. Idempotent; it may be sent items again."""
        ...


@runtime_checkable
class Abstains(Protocol):
    """A steerer or detector that has no answer for some concepts: nothing is steered or scored for these, and the entry says why."""

    def abstains(self, concepts: Sequence[Concept]) -> Mapping[str, str]:
        """For each concept without an answer, by its id, the reason; asked once, before ``prepare``, which then gets the others alone.

        ``concepts`` are the run's, in its order; where a labeler chooses them, those that the method is run on. Depends on nothing else.
        """
        ...


@runtime_checkable
class Fitted(Protocol):
    """A plugin that trains something by steps. The run keeps how that went."""

    @property
    def curves(self) -> Mapping[str, Json]:
        """For each concept that was trained, by its id, its curve: ``step``, ``loss`` (of training) and ``held_out``, lists of one length.

        A loss is None where there is none. Further members are kept, too; ``stopped``, where it is there, is the step at which the training was given
        up. Read after ``prepare``; empty where nothing was trained.
        """
        ...


@runtime_checkable
class Recorded(Protocol):
    """A plugin whose preparation might come out otherwise another time. The run keeps the record, and hands it back when it goes on."""

    @property
    def record(self) -> Json:
        """What ``prepare`` found, as JSON: all that the work after it needs, and who made it."""
        ...

    def restore(self, record: Json) -> None:
        """Take over what an earlier part of the run has found; called before ``estimate`` and ``prepare``."""
        ...
