"""Methods that train a vector for each concept by the language model's loss, and use it as a direction with two faces."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.errors import DataError
from harness.fitting.directions import DirectionMethod, Fit, FitOptions, TokensOf
from harness.fitting.loop import Trained, train_concepts
from harness.fitting.schedule import Decay, Schedule
from harness.fitting.texts import ConceptTexts
from harness.fitting.training_set import Kind, TrainingSet, answers_of
from harness.fitting.vectors import VECTOR, VectorLearner
from harness.interventions import Site
from harness.types import Json

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.model.loading import SubjectModel

LENGTH = "length"
"""Name of the trained vectors' lengths among the extras of a fit."""


class TrainingOptions(FitOptions):
    """What all trainings have in common. A method has its own values of the first three."""

    epochs: int = Field(3, ge=1)
    """Times that each example is seen."""
    batch: int = Field(6, ge=1)
    """Examples of a concept in one step."""
    lr: float = Field(0.01, gt=0, le=100)
    """AdamW's learning rate in the first step."""
    decay: Decay = "linear"
    """What becomes of the learning rate: it falls on a line to 0 at the end, or stays."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    clip: float | None = Field(1.0, gt=0)
    """The longest gradient; a longer one is cut to that. None cuts none."""
    held_out: float = Field(0.125, ge=0, lt=1)
    """Share of the examples that are not trained on and show how the training goes; 0 trains on all, as AxBench does."""

    def schedule(self) -> Schedule:
        """Return how a concept is trained."""
        return Schedule(self.epochs, self.batch, self.lr, self.weight_decay, self.clip, self.decay, self.held_out)


class TrainedDirection(DirectionMethod):
    """Base of such methods. A subclass says in :meth:`learner` what is trained, and in ``fit_options`` which options the training has.

    Directions have unit norm and the sign that was trained. The vectors' lengths are among the fit's extras, and in the curves as ``norm``.
    """

    answers = True
    kinds: ClassVar[tuple[Kind, ...]] = ("positive", "negative")
    """Which of a concept's texts are trained on."""
    fit_options: ClassVar[type[TrainingOptions]]
    options: TrainingOptions

    @abstractmethod
    def learner(self, model: SubjectModel, site: Site) -> VectorLearner:
        """Return what is trained."""

    def training_set(self, bench: Bench, texts: Sequence[ConceptTexts]) -> TrainingSet:
        """Return what it is trained on: by default one answer an example."""
        return answers_of(bench, texts, self.kinds)

    def remarks(self, texts: Sequence[ConceptTexts], training: TrainingSet) -> tuple[str, ...]:
        """Return what a reader of the result must know of the training set."""
        return ()

    def extras(self, trained: Trained) -> dict[str, NDArray[np.float64]]:
        """Return what else was learnt than the vector, by name."""
        return {}

    def identity(self) -> Json:
        values = self.options.model_dump(mode="json")
        return {name: values[name] for name in self.fit_options.model_fields}

    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        learner = self.learner(bench.model, site)
        training = self.training_set(bench, texts)
        options = {"options": self.identity(), "site": str(site)}
        trained = train_concepts(bench, learner, training, self.options.schedule(), who=self.name, options=options)
        vectors = trained.parameter(VECTOR).astype(np.float64)
        lengths = np.linalg.norm(vectors, axis=1)
        if not (lengths > 0).all():
            none = trained.concepts[int(lengths.argmin())]
            raise DataError(f"{self.name}: the vector of concept {none!r} has no length", given=none, hint="try a smaller learning rate")
        directions = vectors / lengths[:, None]
        tokens = TokensOf(bench, site, texts)
        largest = [
            max(float((side.double().cpu().numpy() @ direction).max()) for side in tokens(one))
            for one, direction in zip(texts, directions, strict=True)
        ]
        curves = {name: {**trained.curves[name], "norm": float(length)} for name, length in zip(trained.concepts, lengths, strict=True)}
        extras = {LENGTH: lengths, **self.extras(trained)}
        notes = (*self.remarks(texts, training), *trained.notes)
        return Fit(trained.concepts, directions, np.zeros(len(texts)), np.array(largest), notes, curves, extras)
