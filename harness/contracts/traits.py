"""What the core must know of a plugin before it runs, each kind's as one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.types import ControlKind, StrengthUnit

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
