"""The five kinds of plugins: labelers, steerers, detectors, metrics, judges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from harness.contracts.bench import Bench, JudgeBench
from harness.contracts.traits import DetectorTraits, JudgeTraits, LabelerTraits, MetricTraits, SteererTraits
from harness.interventions import Intervention
from harness.types import Abstention, Concept, JudgeItem, Labeling, Measurement, Rating

if TYPE_CHECKING:
    import numpy as np

    from harness.data.texts import TextSet
    from harness.sae.subject import DictionarySubject


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
