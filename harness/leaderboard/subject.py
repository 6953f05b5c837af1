"""What a row of an entry is about: a labeler with a steerer, a labeler with a detector, or a dictionary under a metric."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.store.manifest import OptionValues, Part, Text
from harness.types import DetectionMethod, Method, StrengthUnit, digest

TRAINED = "trained"
"""The arm of a dictionary that is not a control."""


class _Labelled(Part):
    """Base of subjects: with what people call them, where that is more than the names of the plugins."""

    label: str = ""
    """Names of the plugins, with those of their options that differ from the plugins' and the task's defaults; left out where none does."""

    @property
    @abstractmethod
    def plain(self) -> str:
        """Names of the plugins alone."""

    @model_validator(mode="after")
    def _says_more_than_the_names(self) -> _Labelled:
        if self.label == self.plain:
            self.__dict__["label"] = ""
        return self


class _WithLabeler(_Labelled):
    """Base of a labeler together with the plugin that its features go through, which stands alone where it uses no features."""

    @property
    @abstractmethod
    def method(self) -> Method | DetectionMethod:
        """As a value of :mod:`harness.types`, with all options, of files their content."""

    @property
    def plain(self) -> str:
        return self.method.name

    @property
    def name(self) -> str:
        """``labeler × plugin``, or the plugin alone, each with the options that tell it apart."""
        return self.label or self.plain

    @property
    def id(self) -> str:
        """Return the digest of names and options."""
        return self.method.id


class SteeringSubject(_WithLabeler):
    """A labeler and a steerer; ``labeler`` is null for a steerer that uses no features."""

    kind: Literal["steering"] = "steering"
    labeler: str | None
    steerer: Text
    labeler_options: OptionValues = OptionValues()
    steerer_options: OptionValues = OptionValues()
    strength_unit: StrengthUnit
    grid: tuple[float, ...]
    """The strengths that were tried, ascending."""

    @property
    def method(self) -> Method:
        """As a value of :mod:`harness.types`, with all options, of files their content."""
        return Method(self.labeler, self.steerer, self.labeler_options.identity, self.steerer_options.identity)


class DetectionSubject(_WithLabeler):
    """A labeler and a detector; ``labeler`` is null for a detector that uses no features."""

    kind: Literal["detection"] = "detection"
    labeler: str | None
    detector: Text
    labeler_options: OptionValues = OptionValues()
    detector_options: OptionValues = OptionValues()

    @property
    def method(self) -> DetectionMethod:
        """As a value of :mod:`harness.types`, with all options, of files their content."""
        return DetectionMethod(self.labeler, self.detector, self.labeler_options.identity, self.detector_options.identity)


class DictionarySubjectRef(_Labelled):
    """A dictionary of the run, or one of its controls, under a metric."""

    kind: Literal["dictionary"] = "dictionary"
    dictionary: Text
    digest: str
    arm: Text = TRAINED
    """``trained``, or the control's name."""
    training_seed: int | None = None
    metric: Text
    metric_options: OptionValues = OptionValues()

    @property
    def plain(self) -> str:
        return self.metric

    @property
    def name(self) -> str:
        """``metric × dictionary``, with the options that tell the metric apart, the control's name and the training seed where there is one."""
        extra = [self.arm] if self.arm != TRAINED else []
        extra += [] if self.training_seed is None else [f"training seed {self.training_seed}"]
        return f"{self.label or self.metric} × {self.dictionary}" + (f" ({', '.join(extra)})" if extra else "")

    @property
    def id(self) -> str:
        """Return the digest of the dictionary, its arm and training seed, and the metric with its options."""
        return digest([self.kind, self.dictionary, self.digest, self.arm, self.training_seed, self.metric, self.metric_options.identity])


Subject = Annotated[SteeringSubject | DetectionSubject | DictionarySubjectRef, Field(discriminator="kind")]
