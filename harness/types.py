"""The values that flow through an evaluation: frozen, comparable, serialisable, and free of torch.

Every value that crosses a line of the diagram in ``docs/architecture.md`` is defined here and lands in the run store.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Json = Any
"""A value that ``json.dumps`` accepts."""

StrengthUnit = Literal["max-activation", "max-detection", "max-evaluation", "residual-norm", "trained-vector", "none"]
"""What a strength of 1 means: the feature's largest activation on the corpus, the largest score of a token as the method detects (on its training
texts, or as AxBench on those that are evaluated), the corpus' mean residual norm, the vector as long as it was trained, or nothing."""

RatingStatus = Literal["rated", "unrated", "pending"]
Aspect = Literal["concept", "instruction", "fluency"]
ASPECTS: tuple[Aspect, ...] = ("concept", "instruction", "fluency")
"""What a text is rated for, in the order of :class:`Rating`."""
EvaluationKind = Literal["steering", "detection", "dictionary"]
"""What is asked: whether a method makes the model express a concept, whether it tells texts apart, whether a dictionary is more than a random one."""
Role = Literal["method", "control"]
"""A control is shown among the methods, and not ranked."""
ControlKind = Literal["random features", "permuted labels", "permuted fits", "random direction"]
"""What a control takes away from a method that steers or detects through features: the choice of the feature, the label under which it was chosen,
or the feature's direction."""
FinishReason = Literal["eos", "length"]
ConceptMode = Literal["fixed", "chosen"]

ProtocolName = Literal["cv", "axbench"]
DetectionNegatives = Literal["all", "plain", "others"]
"""Which texts a concept's positives are held against: all without it, those without any label, or those of other concepts. Hard negatives never."""
Goal = Literal["express", "suppress"]
"""What steering is for: that the model expresses a concept, or that it does not although it is asked to."""
CONCEPT_PROMPT = "Bring this subject into your answer, mention it by name, and keep to it throughout: {concept}."
"""What stands before every instruction where methods are to suppress a concept: without it there would be nothing to suppress. Our words."""
Aggregation = Literal["mean-of-harmonic-means", "harmonic-mean-of-means"]


def digest(value: Json, length: int = 16) -> str:
    """Return the hex digest (SHA-256, first ``length`` digits) of a JSON value in canonical form: sorted keys, no spaces.

    Dataclasses are digested as their fields. Raises TypeError for a value that JSON cannot hold, so that nothing is digested by its ``repr``.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]


def canonical_json(value: Json) -> str:
    """Return ``value`` as JSON with sorted keys and no spaces; dataclasses as objects, tuples as lists. NaN is refused (ValueError)."""

    def default(item: object) -> object:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return dataclasses.asdict(item)
        raise TypeError(f"{type(item).__name__} is not a JSON value")

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=default)


def rng(seed: int, purpose: str, item: str = "") -> np.random.Generator:
    """Return a random generator that depends on (seed, purpose, item) and nothing else.

    Batch size, order and restarts therefore never change who draws what.
    """
    key = hashlib.sha256(f"{seed}\x1f{purpose}\x1f{item}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(key[:16], "little")))


@dataclass(frozen=True)
class Document:
    """A text of a corpus with the set of its labels.

    Attributes:
        id: unique within its corpus.
        instruction: what the text answers, if anything.
        genre: what kind of text it is (``text``, ``math``, ``code``), where the corpus says so: a concept's negatives are of its positives' genres.
        part: ``train`` or ``evaluation``, where the corpus itself says for what a text is; empty leaves that to the split.
    """

    id: str
    text: str
    labels: frozenset[str] = frozenset()
    instruction: str = ""
    genre: str = ""
    part: str = ""


@dataclass(frozen=True)
class Instruction:
    """An instruction for the subject model, e.g. a row of AlpacaEval."""

    id: str
    text: str


@dataclass(frozen=True)
class Concept:
    """What is to be expressed. ``text`` is what a judge and a prompt see; example texts may be empty for a bare name.

    ``label`` is the label of the corpus whose documents are the positives (None for a bare name). The last three are no part of what is compared,
    digested or stored; the two for detection alone are no part of a task's digest either, so that a task may gain them without becoming another one.

    Attributes:
        keywords: lower-case words by which its positives could be told (``cook*``: words that begin so). Detection also reports on texts
            without them.
        hard_negatives: the label of the corpus whose documents look like the concept and are not (other senses of its words). They count apart
            from other negatives.
        feature: the feature that the concept was worded for, as Neuronpedia names it (``gemma-2-2b/10-gemmascope-res-16k/14874``), for labelers
            that take it as it is.
    """

    id: str
    text: str
    label: str | None = None
    positives: tuple[str, ...] = field(default=(), repr=False)
    negatives: tuple[str, ...] = field(default=(), repr=False)
    keywords: tuple[str, ...] = field(default=(), repr=False, compare=False)
    hard_negatives: str | None = field(default=None, repr=False, compare=False)
    feature: str | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, order=True)
class FeatureRef:
    """One feature of one dictionary: the dictionary's name in the task, and the feature's index."""

    dictionary: str
    index: int

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.index}"


@dataclass(frozen=True)
class Labeling:
    """A labeler's answer: these features carry this concept.

    No feature for a method that needs none, several for one that combines. ``score`` is in the labeler's own unit (higher is better);
    ``evidence`` is JSON, shown to people and kept in the store. ``fit``: the id of another concept, by whose fit a method that learns is to
    steer in place of this one's; None for the concept's own, as everywhere but in a control.
    """

    concept: Concept
    features: tuple[FeatureRef, ...] = ()
    score: float | None = None
    evidence: Mapping[str, Json] = field(default_factory=dict)
    fit: str | None = None

    @property
    def id(self) -> str:
        """Identifies the (concept, features) pair, and whose fit is used, whatever its score."""
        named = [self.concept.id, self.concept.text, [str(feature) for feature in self.features]]
        return digest(named if self.fit is None else [*named, self.fit])


@dataclass(frozen=True)
class Abstention:
    """A labeler's answer where it has none, with the reason. In fixed mode it counts as 0 in the ranked score."""

    concept: Concept
    reason: str


@dataclass(frozen=True)
class Example:
    """A text with or without a concept, for methods that are fitted.

    Attributes:
        instruction: what it answers; empty for a text that answers none.
        answer: the text.
        positive: it has the concept.
        plain: it has no concept of the corpus at all.
        genre: its genre, where the corpus says so.
    """

    instruction: str
    answer: str
    positive: bool
    plain: bool = False
    genre: str = ""


@dataclass(frozen=True)
class Measurement:
    """What a metric found for one dictionary.

    Attributes:
        value: the number that is compared; None where there is none, and then the reason.
        per_item: what the value is made of (a concept, a class, a layer), by name, in the value's unit; None where one is missing. The value lies
            between the smallest and the largest of them.
        details: anything else worth keeping, as JSON.
        reason: why ``value`` is missing.
        parts: further numbers, by the names of the metric's traits, each with a meaning and unit of its own.
        part_reasons: for each part that is None, why.
        trivial: the empty answer's value or part, by name (``value`` is the value's), where it depends on the data: the majority's accuracy, …
    """

    value: float | None
    per_item: Mapping[str, float | None] = field(default_factory=dict)
    details: Mapping[str, Json] = field(default_factory=dict)
    reason: str = ""
    parts: Mapping[str, float | None] = field(default_factory=dict)
    part_reasons: Mapping[str, str] = field(default_factory=dict)
    trivial: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.value is None and not self.reason:
            raise ValueError("a measurement without a value needs a reason")
        for name, number in (("value", self.value), *self.parts.items(), *self.per_item.items(), *self.trivial.items()):
            if number is not None and not np.isfinite(number):
                raise ValueError(f"a measurement is {number} ({name}); give None with the reason where there is no number")
        for name, part in self.parts.items():
            if part is None and not self.part_reasons.get(name):
                raise ValueError(f"part {name!r} of a measurement is missing without a reason; give it in part_reasons")

    def as_json(self) -> dict[str, Json]:
        """Return all of it as JSON; :meth:`of_json` is the way back."""
        return {item.name: dict(found) if isinstance(found := getattr(self, item.name), Mapping) else found for item in dataclasses.fields(self)}

    @classmethod
    def of_json(cls, stored: Mapping[str, Json]) -> Measurement:
        """Return what :meth:`as_json` gave; fields that came later have their defaults."""
        return cls(**stored)


@dataclass(frozen=True)
class Method:
    """What is compared: a labeler and a steerer with their full options. ``labeler`` is None for a steerer that uses no feature."""

    labeler: str | None
    steerer: str
    labeler_options: Mapping[str, Json] = field(default_factory=dict)
    steerer_options: Mapping[str, Json] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return digest([self.labeler, self.steerer, dict(self.labeler_options), dict(self.steerer_options)])

    @property
    def name(self) -> str:
        """Return ``labeler × steerer``, or the steerer alone."""
        return f"{self.labeler} × {self.steerer}" if self.labeler else self.steerer


@dataclass(frozen=True)
class DetectionMethod:
    """A labeler and a detector with their full options. ``labeler`` is None for a detector that uses no feature."""

    labeler: str | None
    detector: str
    labeler_options: Mapping[str, Json] = field(default_factory=dict)
    detector_options: Mapping[str, Json] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return digest(["detection", self.labeler, self.detector, dict(self.labeler_options), dict(self.detector_options)])

    @property
    def name(self) -> str:
        """Return ``labeler × detector``, or the detector alone."""
        return f"{self.labeler} × {self.detector}" if self.labeler else self.detector


@dataclass(frozen=True)
class Trial:
    """One text to be generated: a method's labeling at a strength, on an instruction. ``draw`` numbers repeated draws."""

    method_id: str
    labeling_id: str
    concept_id: str
    strength: float
    instruction_id: str
    seed: int
    draw: int = 0

    @property
    def id(self) -> str:
        return digest([self.method_id, self.labeling_id, self.strength, self.instruction_id, self.seed, self.draw], 24)


@dataclass(frozen=True)
class Decoding:
    """How the subject model decodes; the same for every method of a run.

    Temperature 0 is greedy. ``repetition_penalty`` divides positive and multiplies negative logits of tokens seen before (Keskar et al. 2019);
    ``penalty_scope`` says which tokens count as seen: ``all`` (prompt and generated text, as transformers does) or ``generated`` alone.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    penalty_scope: Literal["all", "generated"] = "all"
    min_new_tokens: int = 0


@dataclass(frozen=True)
class Generation:
    """A generated text: ``prompt`` is the decoded prompt as the model saw it, ``text`` the reply without special tokens."""

    trial_id: str
    prompt: str
    text: str
    n_tokens: int
    finish: FinishReason


@dataclass(frozen=True)
class JudgeItem:
    """What a judge is shown: never the method, the feature or the strength. ``id`` is an opaque ticket of the caller."""

    id: str
    concept: str
    instruction: str
    text: str


def judge_title(name: str, options: Mapping[str, Json]) -> str:
    """Return a judge for people: its name, and the model and server that its options name."""
    model, server = options.get("model"), options.get("base_url")
    return name + (f" {model}" if model and model != name else "") + (f" at {server}" if server else "")


@dataclass(frozen=True)
class Rating:
    """A judge's answer to one item: three ratings in 0..2, or ``unrated`` with the reason, or ``pending`` with a ticket. Never a made-up 0."""

    item_id: str
    status: RatingStatus
    concept: float | None = None
    instruction: float | None = None
    fluency: float | None = None
    reason: str = ""
    ticket: str = ""
    details: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = (self.concept, self.instruction, self.fluency)
        if self.status == "rated":
            if any(value is None or not 0 <= value <= 2 for value in values):
                raise ValueError(f"a rated item needs three ratings from 0 to 2, got {values} for item {self.item_id}")
        elif any(value is not None for value in values):
            raise ValueError(f"an item that is {self.status} carries no rating, got {values} for item {self.item_id}")
        elif self.status == "unrated" and not self.reason:
            raise ValueError(f"an unrated item needs a reason (item {self.item_id})")
        elif self.status == "pending" and not self.ticket:
            raise ValueError(f"a pending item needs a ticket (item {self.item_id})")
