"""A leaderboard entry: what one run measured, with everything that is needed to know what was measured, as a frozen, validated value.

An entry is a JSON file. Its ``id`` is a digest of its content without ``created``, so a file that was edited afterwards is found out.
A number that does not exist is null with the reason beside it; NaN and infinity are refused. Files of an older schema are read through
:mod:`harness.leaderboard.migrations`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from harness.leaderboard.against_arm import AgainstArm
from harness.leaderboard.aspects import Aspects
from harness.leaderboard.side_effects import SideEffects
from harness.leaderboard.subject import TRAINED, DetectionSubject, DictionarySubjectRef, SteeringSubject, Subject
from harness.leaderboard.values import (
    TOLERANCE,
    Bounds,
    ItemResult,
    MetricValue,
    Reading,
    Sample,
    inside,
    is_empty,
    metric_value,
)
from harness.store.manifest import Count, DictionaryRef, GitState, ModelRef, OptionValues, Part, Protocol, SourceRef, TaskRef, Text
from harness.types import ASPECTS, ControlKind, Decoding, EvaluationKind, Json, Role, digest

__all__ = [
    "ENTRY_SCHEMA_VERSION", "IN_SAMPLE", "STEERING_METRICS", "Bounds", "DetectionSubject", "DictionaryRef", "DictionarySubjectRef",
    "EngineRef", "EngineVerdict", "Entry",
    "GitState", "ItemResult", "JudgeRef", "MetricValue", "ModelRef", "OptionValues", "Protocol", "Reading", "Row", "Sample", "SourceRef",
    "SteeringSubject", "Subject", "TaskRef", "full_name", "metric_value",
]  # fmt: skip

ENTRY_SCHEMA_VERSION = 2

STEERING_METRICS = ("overall", *ASPECTS)
"""AxBench's scores, which every steering row has. ``overall`` is the harmonic mean of the three ratings of a text."""

IN_SAMPLE = "in-sample"
"""A reason that begins with this word says that the method was made on the texts that it is reported on."""


class JudgeRef(Part):
    """Who rated."""

    name: Text
    rubric: Text
    """Name and version of the rubric."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    content: dict[str, JsonValue] = Field(default_factory=dict, exclude_if=lambda content: not content)
    """Of options that name files: their values with the digest of the content in place of each path; left out where there are none."""
    offline: bool
    """No person or strong model stands behind the ratings."""
    key: Text
    """Digest of name, rubric and options, of files their content: ratings of different keys never share a ranking."""
    code: str = ""
    """Digest of the version and source of its plugin; left out where an older harness did not keep it."""


class EngineVerdict(Part):
    """What ``harness engines verify`` found of an engine with the run's model: the engine against a float64 reference."""

    passed: bool
    """Every check passed, and every planted fault was found."""
    date: Text
    harness_version: Text
    """That verified it."""
    dtype: Text
    """In which it was verified."""
    tolerance: float
    """How far a logit may be from the reference's, as a share of the logits' spread."""
    largest: dict[Text, float]
    """The largest such difference, by check."""
    faults_found: Count
    """Of the faults that were planted, those that the checks found."""
    faults: Count


class EngineRef(Part):
    """What generated the texts."""

    name: Text
    version: Text
    """With that of the library that it goes through."""
    verified: EngineVerdict | None = None
    """Null where nobody has verified it with this model where the run was made."""


class Row(Part):
    """What one method got on the run's concepts, or one dictionary under one metric."""

    kind: EvaluationKind
    role: Role
    """A control is shown among the methods, and not ranked."""
    subject: Subject
    primary: Text
    """The metric that ranks: ``overall`` of steering, ``auroc`` of detection, a dictionary metric's own name."""
    metrics: dict[Text, MetricValue]
    """By name, over the items that were answered, in the order in which they are shown."""
    ranked: MetricValue | None = None
    """Steering and detection in fixed mode: the primary metric over all concepts of the task, an abstention counting as the trivial value."""
    bounds: Bounds | None = None
    """Steering: what the texts without a rating could have changed in the score that the row is judged by."""
    n_items: Count
    """In fixed mode the task's concepts, in chosen mode those that the labeler chose; of a dictionary the seeds that were asked for."""
    n_answered: Count
    coverage: Annotated[float, Field(ge=0, le=1)] | None
    """``n_answered / n_items``; null without items."""
    n_texts: Count = 0
    """Trials of a steering method, texts that a detector scored."""
    n_unrated: Count = 0
    n_pending: Count = 0
    eligible: bool
    """May be ranked."""
    reasons: tuple[str, ...] = ()
    """Why it may not."""
    items: tuple[ItemResult, ...] = ()
    warnings: tuple[str, ...] = ()
    samples: tuple[Sample, ...] = ()
    controls: tuple[Text, ...] = Field((), exclude_if=is_empty)
    """Of a control with a labeler: the labelers asked for that it stands for."""
    control: ControlKind | None = Field(None, exclude_if=lambda control: control is None)
    """As which control its plugins may be run, by what they say of themselves; left out where they are none, as in older entries."""
    readings: tuple[Reading, ...] = Field((), exclude_if=is_empty)
    """Of a control: its texts at the strengths of methods that it stands for."""
    item: str = Field("", exclude_if=is_empty)
    """Of a dictionary: what the metric's value is made of (``data set``), the items below its measurements; left out where it says nothing."""
    items_shared: bool = Field(True, exclude_if=bool)
    """Whether one of these means the same for every dictionary; left out where it does."""
    against: tuple[AgainstArm, ...] = Field((), exclude_if=is_empty)
    """Of a trained dictionary: how it stands against each of its controls; left out in older entries."""
    side_effects: SideEffects | None = Field(None, exclude_if=lambda found: found is None)
    """Of steering: what it costs beside the concept; left out where it was not measured, as in older entries."""

    aspects: Aspects | None = Field(None, exclude_if=lambda found: found is None)
    """Of detection, where the task has such texts: how robust it is against other concepts in a text; left out elsewhere."""

    @model_validator(mode="after")
    def _consistent(self) -> Row:
        self._check_kind()
        self._check_counts()
        self._check_items()
        if self.eligible == bool(self.reasons):
            raise ValueError("reasons say why a row is not eligible: an eligible row has none, another at least one")
        if self.eligible and self.metrics[self.primary].value is None:
            raise ValueError(f"an eligible row needs its primary metric {self.primary!r}")
        if self.ranked is not None and self.ranked.value is not None:
            derived = self._ranked_value()
            if derived is not None and abs(derived - self.ranked.value) > TOLERANCE:
                raise ValueError(f"ranked is {self.ranked.value}, but the items with abstentions as the trivial value average to {derived}")
        return self

    def _check_kind(self) -> None:
        if self.kind != self.subject.kind:
            raise ValueError(f"the row is of kind {self.kind}, its subject of kind {self.subject.kind}")
        if self.primary not in self.metrics:
            raise ValueError(f"the primary metric {self.primary!r} is not among the row's metrics: {', '.join(self.metrics) or 'none'}")
        if self.kind == "steering" and (lacking := [name for name in STEERING_METRICS if name not in self.metrics]):
            raise ValueError(f"a steering row needs the metrics {', '.join(STEERING_METRICS)}; it lacks {', '.join(lacking)}")
        if self.against and (not isinstance(self.subject, DictionarySubjectRef) or self.subject.arm != TRAINED):
            raise ValueError("a trained dictionary, and no other row, is held against its controls")
        if self.readings and (self.kind != "steering" or self.role != "control"):
            raise ValueError("a control of steering, and no other row, is read at the strengths of a method")
        if self.aspects is not None and self.kind != "detection":
            raise ValueError("a row of detection, and no other, has aspects")
        if self.side_effects is not None and self.kind != "steering":
            raise ValueError("a row of steering, and no other, has side effects")
        if (self.kind == "steering") != (self.bounds is not None):
            raise ValueError("a steering row, and no other, has bounds for its unrated texts")
        if isinstance(self.subject, DictionarySubjectRef):
            if self.primary != self.subject.metric:
                raise ValueError(f"the primary metric is {self.primary!r}, but the subject's is {self.subject.metric!r}")
            if self.subject.arm != TRAINED and self.role != "control":
                raise ValueError(f"the arm {self.subject.arm!r} is a control; its role is {self.role!r}")
            if self.ranked is not None:
                raise ValueError("a dictionary abstains from nothing: its primary metric ranks, and ranked must be null")

    def _check_counts(self) -> None:
        if self.n_answered > self.n_items:
            raise ValueError(f"n_answered is {self.n_answered} of {self.n_items} items")
        expected = self.n_answered / self.n_items if self.n_items else None
        if (self.coverage is None) != (expected is None) or (expected is not None and abs((self.coverage or 0) - expected) > TOLERANCE):
            raise ValueError(f"coverage is {self.coverage}, but n_answered / n_items is {expected}")
        if self.n_unrated + self.n_pending > self.n_texts:
            raise ValueError(f"n_unrated + n_pending is {self.n_unrated + self.n_pending} of {self.n_texts} texts")
        answered = len({item.id for item in self.items if item.answered})
        if self.kind != "dictionary" and self.items and answered != self.n_answered:
            raise ValueError(f"n_answered is {self.n_answered}, but {answered} of the items are answered")

    def _check_items(self) -> None:
        for item in self.items:
            for name, value in (*item.values.items(), *item.trivial.items()):
                if name not in self.metrics:
                    raise ValueError(f"item {item.id!r} has a value of {name!r}, which is not among the row's metrics: {', '.join(self.metrics)}")
                if not inside(value, self.metrics[name].bounds):
                    raise ValueError(f"item {item.id!r}: {name} is {value}, outside of the metric's bounds {self.metrics[name].bounds}")
            absent = item.answered and self.kind != "dictionary" and self.primary not in item.values
            if absent or (item.answered and self.kind == "steering" and item.strength is None and not item.reason):
                raise ValueError(f"item {item.id!r} was answered: it needs a value of {self.primary!r} and a strength, or the reason why not")

    def _ranked_value(self) -> float | None:
        """Return the ranked score by the items, or None if they do not tell."""
        values = [self._value(item, trivial=True) for item in self.items]
        if None in values or not values or len({item.id for item in self.items}) != self.n_items:
            return None
        return sum(value for value in values if value is not None) / len(values)

    def _value(self, item: ItemResult, trivial: bool) -> float | None:
        if item.answered:
            return item.values.get(self.primary)
        return item.trivial.get(self.primary, self.metrics[self.primary].trivial) if trivial else None

    @property
    def score(self) -> MetricValue:
        """Return what the row is judged by: ``ranked`` where there is one, else the primary metric."""
        return self.metrics[self.primary] if self.ranked is None else self.ranked

    @property
    def in_sample(self) -> bool:
        """Return whether the method was made on the texts that it is reported on."""
        return any(reason.startswith(IN_SAMPLE) for reason in self.reasons)

    def values(self, trivial: bool) -> dict[tuple[str, str], float]:
        """Return the primary metric by item (id, text), the mean where it has several results.

        Args:
            trivial: an abstention counts as the trivial value; else it is left out.
        """
        lists: dict[tuple[str, str], list[float]] = {}
        for item in self.items:
            value = self._value(item, trivial)
            if value is not None:
                lists.setdefault((item.id, item.text), []).append(value)
        return {item: sum(values) / len(values) for item, values in lists.items()}


def full_name(row: Row, rows: Iterable[Row]) -> str:
    """A row's name, and which labelers it is a control of where another of ``rows`` of its name is one of others."""
    name = row.subject.name
    if not row.controls:
        return name
    twins = {other.controls for other in rows if other.subject.name == name}
    return f"{name} for {', '.join(row.controls)}" if len(twins) > 1 else name


class Entry(Part):
    """What one run measured; its texts, where it has any, rated by one judge."""

    schema_version: Literal[2] = 2
    id: str = ""
    """Digest of everything but ``created``; filled in where it is not given, checked where it is."""
    migrated_from: str = ""
    """The id that the entry had in the older schema that it was written in; else empty."""
    created: Text
    """When the entry was made, ISO 8601 with the time zone: the only field in which repeating a run differs."""
    seal: str = ""
    """Digest of ``id`` and ``created``; filled in where it is not given, as in older entries, and checked where it is."""
    harness_version: Text
    libraries: dict[str, str] = Field(default_factory=dict)
    """Versions of the libraries that the numbers depend on."""
    plugins: dict[str, str] = Field(default_factory=dict)
    """Versions of the distributions whose plugins took part; of a single file, by its name, ``sha256:`` and the digest of its content."""
    git: GitState | None = None
    task: TaskRef
    model: ModelRef
    dictionaries: tuple[DictionaryRef, ...] = ()
    sources: tuple[SourceRef, ...] = ()
    """What came from the Hugging Face hub, and the commit that was served; left out where nothing did, as in older entries."""
    judge: JudgeRef | None = None
    """Null where nothing was judged."""
    protocol: Protocol = Protocol()
    """How scores were made of what the run holds. Left out in older entries, which knew ``cv`` with the mean of harmonic means alone."""
    concept_set_digest: Text
    instruction_set_digest: Text
    decoding: Decoding
    seed: int
    run_digest: Text
    """Digest of the run's plan."""
    engine: EngineRef | None = None
    """Left out where nothing was generated, and in older entries."""
    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sealed(self) -> Entry:
        try:
            zone = datetime.fromisoformat(self.created.replace("Z", "+00:00")).tzinfo
        except ValueError:
            zone = None
        if zone is None:
            raise ValueError(f"created is {self.created!r}; it must be ISO 8601 with a time zone, e.g. 2026-01-31T12:00:00+00:00")
        for row in self.rows:
            self._check_row(row)
        names = [(row.kind, row.subject.id) for row in self.rows]
        if len(set(names)) < len(names):
            twice = next(row.subject.name for row, name in zip(self.rows, names, strict=True) if names.count(name) > 1)
            raise ValueError(f"rows hold one subject twice: {twice}")
        expected = self.content_digest()
        if self.id not in ("", expected):
            raise ValueError(f"the id is {self.id}, but the content's is {expected}: the entry was changed after it was written")
        given, self.__dict__["id"] = self.id, expected
        seal = digest([expected, self.created])
        if given and self.seal not in ("", seal):
            raise ValueError(f"created is {self.created}, which does not fit the seal: the entry was changed after it was written")
        self.__dict__["seal"] = seal
        return self

    def _check_row(self, row: Row) -> None:
        fixed = self.task.mode == "fixed"
        if row.ranked is not None and not fixed:
            raise ValueError(f"{row.subject.name} has a ranked score, which exists in fixed mode only")
        if fixed and row.eligible and row.kind != "dictionary" and (row.ranked is None or row.ranked.value is None):
            raise ValueError(f"{row.subject.name} is eligible in fixed mode and needs a ranked score")
        if row.kind == "steering" and self.judge is None:
            raise ValueError(f"{row.subject.name} is a steering row; the entry needs the judge that rated its texts")

    def content_digest(self) -> str:
        """Return the digest of everything but ``id``, ``created`` and ``seal``."""
        return digest({name: value for name, value in self.as_json().items() if name not in ("id", "created", "seal")})

    def as_json(self) -> dict[str, Json]:
        """The entry as JSON, in the order of the file.

        What came after the first entries of this schema is left out where it says nothing, so that theirs keep their content, and so their ids.
        """
        found: dict[str, Json] = self.model_dump(mode="json")
        late = [(row["subject"], "label") for row in found["rows"]] + ([(found["judge"], "code")] if self.judge is not None else [])
        for part, name in late:
            if not part[name]:
                del part[name]
        if not self.sources:
            del found["sources"]
        if self.engine is None:
            del found["engine"]
        if "protocol" not in self.model_fields_set:
            del found["protocol"]
        for sample in (sample for row in found["rows"] for sample in row["samples"]):
            for name in ("place", "ratings"):
                if sample[name] is None:
                    del sample[name]
        return found

    def rows_of(self, kind: EvaluationKind) -> tuple[Row, ...]:
        """Return the rows of one kind of evaluation, in their order."""
        return tuple(row for row in self.rows if row.kind == kind)

    @property
    def compares_arms(self) -> bool:
        """Return whether a dictionary of the entry stands beside two controls or more."""
        return any(len(row.against) > 1 for row in self.rows)

    @property
    def file_name(self) -> str:
        """Return the file's name in a folder of entries: the same run, rated by one judge and scored by one protocol, takes one place."""
        task = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in self.task.name)
        protocol = [] if self.protocol.title == Protocol().title else [self.protocol.title]
        return f"{task}-{digest([self.run_digest, self.judge.key if self.judge else None, *protocol])}.json"
