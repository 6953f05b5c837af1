"""What a run's file holds beyond its entry, as plain values that a page shows. :mod:`harness.evaluations.details` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.types import Json

Ratings = tuple[float | None, float | None, float | None, float | None]
"""Means of the overall score and of the ratings of concept, instruction and fluency; None where nothing is rated."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """How a steering method's texts were rated, strength by strength.

    Attributes:
        method: id of the row's subject.
        strengths: that were tried, ascending.
        unit: of the strengths.
        mean: by strength, the mean over concepts of their means over texts.
        concepts: by the concept's id, by strength, the mean over its texts.
        counts: for each of overall, concept, instruction and fluency, how many texts lie in each of :data:`BINS`.
        n_unrated, n_pending: texts without a rating.
    """

    method: str
    strengths: tuple[float, ...]
    unit: str
    mean: tuple[Ratings, ...]
    concepts: Mapping[str, tuple[Ratings, ...]]
    counts: Mapping[str, tuple[int, ...]]
    n_unrated: int = 0
    n_pending: int = 0


BINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
"""Middles of the bins of ratings, which are 0, 1 and 2 of a model and anything between of several raters."""


@dataclass(frozen=True)
class Text:
    """A generated text with what the judge said of it. ``ratings`` are concept, instruction and fluency."""

    strength: float
    text: str
    overall: float | None = None
    ratings: tuple[float, float, float] | None = None
    said: str = ""
    """The judge's own words or figures; the reason where there is no rating."""


@dataclass(frozen=True)
class ConceptTexts:
    """The texts of one concept on one instruction: unsteered, and of each method at each strength."""

    concept: str
    """The concept's id."""
    text: str
    """The concept in words."""
    instruction: str
    unsteered: Text | None
    methods: Mapping[str, tuple[Text, ...]]
    """By the id of the row's subject, by strength."""


@dataclass(frozen=True)
class Snippet:
    """A passage on which a feature fires: tokens with the feature's activation on each, where it is known."""

    text_id: str
    labels: tuple[str, ...]
    maximum: float
    tokens: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True)
class LabelFeature:
    """A feature of a label, and what stands behind it. Numbers are None where the run does not hold them."""

    feature: str
    """``dictionary/index``."""
    measure: str = ""
    """What its labeler chose by."""
    chosen_on: Mapping[str, Json] = field(default_factory=dict)
    """Counts and scores on the texts that chose it."""
    held_out: Mapping[str, Json] = field(default_factory=dict)
    """The same on the texts that chose nothing."""
    other_half: str = ""
    """The feature that the same rule chooses on the texts that chose nothing here; empty where that was not asked."""
    density: float | None = None
    maximum: float | None = None
    promotes: tuple[str, ...] = ()
    snippets: tuple[Snippet, ...] = ()


@dataclass(frozen=True)
class Label:
    """A labeler's answer for a concept; without features it abstained, for the ``reason``."""

    concept: str
    text: str
    score: float | None = None
    features: tuple[LabelFeature, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Labels:
    """What a labeler answered. ``agreement``: of the concepts for which each half of the corpus chose, the share with one feature on both."""

    labeler: str
    labels: tuple[Label, ...]
    agreement: float | None = None
    n_compared: int = 0


@dataclass(frozen=True)
class ConceptScores:
    """A detector's scores of a concept: the ROC curve, and how many texts with and without the concept lie in each bin."""

    roc: tuple[Point, ...]
    edges: tuple[float, ...]
    """Ends of the bins, one more than counts."""
    positives: tuple[int, ...]
    negatives: tuple[int, ...]


@dataclass(frozen=True)
class Detected:
    """A detection method's curves. ``roc`` is the mean over concepts of the true positive rate at each false positive rate."""

    method: str
    roc: tuple[Point, ...]
    concepts: Mapping[str, ConceptScores]


@dataclass(frozen=True)
class RunDetails:
    """All that a run's page shows beyond its entry."""

    run: str
    started: str
    status: str
    command: str
    """The command that repeats it."""
    hardware: Mapping[str, str]
    curves: tuple[Curve, ...] = ()
    texts: tuple[ConceptTexts, ...] = ()
    labels: tuple[Labels, ...] = ()
    detected: tuple[Detected, ...] = ()
    n_texts: int = 0
    """Texts that the run holds."""
    n_concepts_with_texts: int = 0
    """Concepts that the run has texts of."""
    unfinished: tuple[str, ...] = ()
    """How far a run is that is not finished, or not rated to its end by the page's judge: phrases, ``30 of 72 ratings by words``; else empty."""

    @property
    def what_is_unfinished(self) -> str:
        """Return in words what stands before :attr:`unfinished`; empty where nothing does."""
        state = "this run is not rated to its end" if self.status == "finished" else f"this run is not finished ({self.status})"
        return state if self.unfinished else ""
