"""A leaderboard entry: what one run measured, with everything that is needed to know what was measured, as a frozen, validated value.

An entry is a JSON file. Its ``id`` is a digest of its content without ``created``, so a file that was edited afterwards is found out.
A number that does not exist is null with the reason beside it; NaN and infinity are refused.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from harness.store.manifest import Count, DictionaryRef, GitState, ModelRef, OptionValues, Part, TaskRef, Text
from harness.types import Decoding, Json, Method, StrengthUnit, digest

if TYPE_CHECKING:
    from harness.scoring import Interval

ENTRY_SCHEMA_VERSION = 1
_TOLERANCE = 1e-6

Points = Annotated[float, Field(ge=0, le=2)]
"""A rating, or a mean of ratings: 0 to 2."""


class JudgeRef(Part):
    """Who rated."""

    name: Text
    rubric: Text
    """Name and version of the rubric."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    offline: bool
    """No person or strong model stands behind the ratings."""
    key: Text
    """Ratings of different keys never share a ranking."""


class MethodRef(Part):
    """A labeler and a steerer; ``labeler`` is null for a steerer that uses no features."""

    labeler: str | None
    steerer: Text
    labeler_options: OptionValues = OptionValues()
    steerer_options: OptionValues = OptionValues()
    strength_unit: StrengthUnit
    grid: tuple[float, ...]
    """The strengths that were tried, ascending."""

    @property
    def method(self) -> Method:
        """As a value of :mod:`harness.types`, with all options."""
        return Method(self.labeler, self.steerer, self.labeler_options.all, self.steerer_options.all)

    @property
    def name(self) -> str:
        """``labeler × steerer``, or the steerer alone."""
        return self.method.name


class Score(Part):
    """A mean over concepts with its interval; null where there is none, and then the reason."""

    mean: Points | None
    low: float | None = None
    high: float | None = None
    interval_method: str = ""
    """How the interval was made, with its level, e.g. ``t, 95 %``."""
    reason: str = ""
    """Why a number is missing."""

    @model_validator(mode="after")
    def _complete(self) -> Score:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has both ends or none")
        if self.low is not None and self.high is not None:
            if self.mean is None:
                raise ValueError("an interval needs a mean")
            if self.low > self.high:
                raise ValueError(f"the interval's ends are out of order: {self.low} > {self.high}")
            if not self.interval_method:
                raise ValueError("an interval needs its interval_method")
        elif not self.reason:
            raise ValueError("a missing mean or interval needs a reason")
        return self

    @classmethod
    def of(cls, interval: Interval) -> Score:
        """An interval of :mod:`harness.scoring` as a score; its warning becomes the reason where a number is missing."""
        missing = interval.estimate is None or interval.low is None
        method = "" if interval.low is None else f"{interval.method}, {100 * interval.level:g} %"
        reason = (interval.warning or "no interval can be had") if missing else ""
        return cls(mean=interval.estimate, low=interval.low, high=interval.high, interval_method=method, reason=reason)


class Scores(Part):
    """AxBench's scores, means over the concepts that were answered. ``overall`` is the harmonic mean of the three ratings of a text."""

    overall: Score
    concept: Score
    instruction: Score
    fluency: Score


class Bounds(Part):
    """The overall mean if every text without a rating had got 0, and if it had got 2."""

    low: Points | None
    high: Points | None
    reason: str = ""

    @model_validator(mode="after")
    def _complete(self) -> Bounds:
        if (self.low is None or self.high is None) and not self.reason:
            raise ValueError("a missing bound needs a reason")
        if self.low is not None and self.high is not None and self.low > self.high + _TOLERANCE:
            raise ValueError(f"the bounds are out of order: {self.low} > {self.high}")
        return self


class ConceptResult(Part):
    """What one concept got: means over its instructions at strengths that were chosen on other instructions."""

    concept_id: Text
    concept_text: str
    features: tuple[str, ...] = ()
    """``dictionary/index``; several for a method that combines."""
    answered: bool = True
    """False: the labeler abstained; the reason says why."""
    overall: Points | None
    concept: Points | None
    instruction: Points | None
    fluency: Points | None
    chosen_strength: float | None
    n_trials: Count
    n_unrated: Count = 0
    reason: str = ""
    """Why a number is missing."""

    @model_validator(mode="after")
    def _explained(self) -> ConceptResult:
        values = (self.overall, self.concept, self.instruction, self.fluency, self.chosen_strength)
        if None in values and not self.reason:
            raise ValueError("a missing number needs a reason")
        if not self.answered and any(value is not None for value in values):
            raise ValueError("a concept that was not answered has no numbers")
        return self


class Sample(Part):
    """A text to look at."""

    concept_text: str
    instruction: str
    strength: float
    text: str
    overall: Points | None = None


class MethodResult(Part):
    """One row: a method on the run's concepts."""

    role: Literal["method", "control"]
    """A control is shown among the methods, and not ranked."""
    method: MethodRef
    scores: Scores
    ranked: Score | None = None
    """In fixed mode the score that ranks: the mean of ``overall`` over all concepts of the task, an abstention counting 0. Else null."""
    bounds: Bounds
    n_concepts: Count
    """In fixed mode the task's concepts, in chosen mode those that the labeler chose."""
    n_answered: Count
    coverage: Annotated[float, Field(ge=0, le=1)] | None
    """``n_answered / n_concepts``; null without concepts."""
    n_trials: Count
    n_unrated: Count
    n_pending: Count
    eligible: bool
    """May be ranked."""
    reasons: tuple[str, ...] = ()
    """Why it may not."""
    per_concept: tuple[ConceptResult, ...] = ()
    warnings: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> MethodResult:
        if self.n_answered > self.n_concepts:
            raise ValueError(f"n_answered is {self.n_answered} of {self.n_concepts} concepts")
        expected = self.n_answered / self.n_concepts if self.n_concepts else None
        if (self.coverage is None) != (expected is None) or (expected is not None and abs((self.coverage or 0) - expected) > _TOLERANCE):
            raise ValueError(f"coverage is {self.coverage}, but n_answered / n_concepts is {expected}")
        if self.n_unrated + self.n_pending > self.n_trials:
            raise ValueError(f"n_unrated + n_pending is {self.n_unrated + self.n_pending} of {self.n_trials} trials")
        if self.eligible == bool(self.reasons):
            raise ValueError("reasons say why a row is not eligible: an eligible row has none, another at least one")
        if self.eligible and self.scores.overall.mean is None:
            raise ValueError("an eligible row needs an overall score")
        if self.ranked is not None and self.ranked.mean is not None:
            derived = self._ranked_mean()
            if derived is not None and abs(derived - self.ranked.mean) > _TOLERANCE:
                raise ValueError(f"ranked is {self.ranked.mean}, but per_concept with abstentions as 0 averages to {derived}")
        return self

    def _ranked_mean(self) -> float | None:
        """The ranked score by the rows of ``per_concept``, or None if they do not tell."""
        values = self.values(abstention=0.0)
        return sum(values.values()) / self.n_concepts if self.n_concepts and len(values) == self.n_concepts else None

    def values(self, abstention: float | None) -> dict[tuple[str, str], float]:
        """``overall`` by concept (id, text), the mean where it has several rows; ``abstention`` (None: nothing) where unanswered."""
        lists: dict[tuple[str, str], list[float]] = {}
        for row in self.per_concept:
            value = row.overall if row.answered else abstention
            if value is not None:
                lists.setdefault((row.concept_id, row.concept_text), []).append(value)
        return {concept: sum(values) / len(values) for concept, values in lists.items()}


class Entry(Part):
    """What one run measured with one judge."""

    schema_version: Literal[1] = 1
    id: str = ""
    """Digest of everything but ``created``; filled in where it is not given, checked where it is."""
    created: Text
    """When the entry was made, ISO 8601 with the time zone: the only field in which repeating a run differs."""
    harness_version: Text
    libraries: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that the numbers depend on."""
    plugins: dict[str, str] = Field(default_factory=dict)
    """Versions of the distributions whose plugins took part."""
    git: GitState | None = None
    task: TaskRef
    model: ModelRef
    dictionaries: tuple[DictionaryRef, ...] = ()
    judge: JudgeRef
    concept_set_digest: Text
    instruction_set_digest: Text
    decoding: Decoding
    seed: int
    run_digest: Text
    """Digest of the run's plan."""
    results: tuple[MethodResult, ...]
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sealed(self) -> Entry:
        try:
            zone = datetime.fromisoformat(self.created.replace("Z", "+00:00")).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            raise ValueError(f"created is {self.created!r}; it must be ISO 8601 with a time zone, e.g. 2026-01-31T12:00:00+00:00")
        for row in self.results:
            fixed = self.task.mode == "fixed"
            if row.ranked is not None and not fixed:
                raise ValueError(f"{row.method.name} has a ranked score, which exists in fixed mode only")
            if fixed and row.eligible and (row.ranked is None or row.ranked.mean is None):
                raise ValueError(f"{row.method.name} is eligible in fixed mode and needs a ranked score")
        names = [row.method.method.id for row in self.results]
        if len(set(names)) < len(names):
            raise ValueError("results hold one method twice")
        expected = self.content_digest()
        if self.id not in ("", expected):
            raise ValueError(f"the id is {self.id}, but the content's is {expected}: the entry was changed after it was written")
        self.__dict__["id"] = expected
        return self

    def content_digest(self) -> str:
        """Digest of everything but ``id`` and ``created``."""
        return digest({name: value for name, value in self.as_json().items() if name not in ("id", "created")})

    def as_json(self) -> dict[str, Json]:
        """The entry as JSON, in the order of the file."""
        return self.model_dump(mode="json")

    @property
    def file_name(self) -> str:
        """The file's name in a folder of entries: the same run rated by the same judge takes the same place."""
        task = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self.task.name)
        return f"{task}-{digest([self.run_digest, self.judge.key])}.json"
