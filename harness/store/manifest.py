"""The manifest: the first record of a run's file. All that a stored run needs to be judged, scored, shown and ranked without its task.

It holds facts, not objects: no model, no dictionary, no corpus and no plugin is needed to read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from harness.errors import UnknownNameError
from harness.types import (
    CONCEPT_PROMPT,
    Aggregation,
    ConceptMode,
    ControlKind,
    Decoding,
    DetectionNegatives,
    EvaluationKind,
    Goal,
    Json,
    ProtocolName,
    Role,
    StrengthUnit,
    digest,
    rng,
)

MANIFEST_VERSION = 1

Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


def _is_empty(value: object) -> bool:
    return not value


def _is_all(value: object) -> bool:
    return value == "all"


def _is_expressed(goal: Goal) -> bool:
    return goal == "express"


class Part(BaseModel):
    """Base of what is kept as validated JSON: frozen, no unknown fields, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class CellRef(Part):
    """Which cell of a task's matrix a run is of."""

    matrix: Text
    """Name of the task that has the matrix."""
    values: tuple[tuple[Text, Text], ...]
    """(axis, value), in the order of the axes."""
    place: Count
    """Its number in the matrix, from 0."""
    of: Annotated[int, Field(ge=1)]
    """Cells of the matrix."""


class TaskRef(Part):
    """The task, its version and split."""

    name: Text
    version: Text
    digest: Text
    """Digest of the task file and its data."""
    split: Text
    """Which concepts and instructions: ``report``, ``dev``, …"""
    mode: ConceptMode
    """``fixed``: the task lists the concepts; ``chosen``: the labeler picks its own."""
    cell: CellRef | None = Field(None, exclude_if=_is_empty)
    """Of a task with a matrix: which cell of it; left out for any other."""


class ModelRef(Part):
    """The subject model as it ran."""

    name: Text
    digest: str
    """Digest of its weights, where it is known."""
    dtype: Text
    device: Text


class DictionaryRef(Part):
    """A sparse autoencoder of the task."""

    name: Text
    source: Text
    """Folder or registry name."""
    digest: str
    layer: Count
    d_sae: Annotated[int, Field(ge=1)]
    note: str = ""
    """What a reader must know, e.g. that it was trained on another model."""


class SourceRef(Part):
    """Something of the run that came from the Hugging Face hub: what was asked for, and what was served."""

    what: Literal["model", "dictionary", "instructions", "concepts", "corpus"]
    name: Text
    """As the task names it: of a dictionary its own name, else as ``source``."""
    source: Text
    """As the task, or the command line, names where it is."""
    revision: str | None = None
    """The branch, tag or commit that was asked for; null for the hub's default."""
    commit: str = ""
    """The commit that was served; empty where the hub's cache does not tell."""
    pinned: bool = False
    """A commit was asked for, in full: whoever runs the task again gets the same."""


class GitState(Part):
    """The state of the checkout that ran."""

    commit: Text
    dirty: bool
    """There were changes that were not committed."""


class OptionValues(Part):
    """A plugin's options: those that were given, and the defaults of the others."""

    given: dict[str, JsonValue] = {}
    default: dict[str, JsonValue] = {}
    content: dict[str, JsonValue] = Field({}, exclude_if=_is_empty)
    """Of options that name files: their values with the digest of the content in place of each path; left out where there are none."""

    @model_validator(mode="after")
    def _disjoint(self) -> OptionValues:
        both = sorted(self.given.keys() & self.default.keys())
        if both:
            raise ValueError(f"an option is either given or default, got both for {', '.join(both)}")
        return self

    @property
    def all(self) -> dict[str, JsonValue]:
        """Return every option with the value it had."""
        return {**self.default, **self.given}

    @property
    def identity(self) -> dict[str, JsonValue]:
        """Return every option with the value that a result depends on: of files their content."""
        return {**self.all, **self.content}


class PluginRef(Part):
    """A plugin with its options, and where it came from."""

    kind: Text
    name: Text
    key: Text
    """Identifies plugin and options; what it made is stored under it."""
    label: str = ""
    """What people call it: its name, with the options that differ from its own and the task's defaults; empty in a run of an older harness."""
    options: OptionValues = OptionValues()
    """Those that a result depends on."""
    distribution: str
    """Empty where it is not known; the name of a file that was given with ``--plugin``."""
    version: str = ""
    """Of such a file, ``sha256:`` and the digest of its content."""
    file: str = ""
    """Where such a file was."""
    parts: tuple[PluginRef, ...] = Field((), exclude_if=_is_empty)
    """Of steerers that are joined, each by itself, in their order; left out of any other plugin, whose distribution is its own."""

    @property
    def each(self) -> tuple[PluginRef, ...]:
        """Return the plugins that are joined, or this one alone."""
        return self.parts or (self,)

    @property
    def title(self) -> str:
        """The label, or the name where there is none."""
        return self.label or self.name


class MethodRecord(Part):
    """A labeler and a steerer or detector of the run. ``labeler`` is null for one that uses no features."""

    kind: EvaluationKind
    id: Text
    name: Text
    """What people call it: the labels of labeler and plugin."""
    role: Role
    labeler: PluginRef | None = None
    plugin: PluginRef
    """The steerer or the detector."""
    strength_unit: StrengthUnit = "none"
    grid: tuple[float, ...] = ()
    """Steering: the strengths that are tried, ascending; where a concept is to be suppressed, from the weakest, each below the one before."""
    selects_on: Literal["nothing", "train", "all"] = "nothing"
    """Which texts of the corpus its labeler chose by."""
    draws: Annotated[int, Field(ge=1)] = 1
    """So many answers of its labeler in turn belong together: draws of one concept, whose score is the mean over them."""
    controls: tuple[Text, ...] = ()
    """Of a control with a labeler: keys of the labelers that it stands for."""
    control: ControlKind | None = None
    """As which control its plugins may be run; null for any other, and in a run of an older harness, which did not ask."""


class NumberRecord(Part):
    """What a number of a metric means."""

    title: str = ""
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    higher_is_better: bool | None = None
    trivial: float | None = None
    """The value of the empty answer; null where there is none, or where it depends on the data."""


class MetricRecord(Part):
    """A metric on one dictionary of the run: trained with one seed, or one draw of a control."""

    id: Text
    role: Role
    plugin: PluginRef
    dictionary: Text
    """Its name in the task, or that of the ``[[train]]`` table whose seeds belong together."""
    digest: str = ""
    """Of its weights, where they are known before the run: those of a file."""
    arm: Text = "trained"
    """``trained``, or the control's name."""
    training_seed: int | None = None
    metric_seed: int = 0
    """The metric's own, of its draws."""
    numbers: dict[Text, NumberRecord] = {}
    """The metric's value (``value``) and its parts."""
    item: str = Field("", exclude_if=_is_empty)
    """What one of the values is that the metric's value is made of, e.g. ``data set``; left out where there are none, as in older runs."""
    items_shared: bool = Field(True, exclude_if=bool)
    """Whether one id of them means the same thing for every dictionary; left out where it does."""


class Protocol(Part):
    """How scores are made of what is stored."""

    name: ProtocolName = "cv"
    """Who chooses the strength and who reports on it.

    ``cv``: repeated cross-validation. ``axbench``: the first half of the instructions chooses, the second half reports.
    """
    aggregation: Aggregation = "mean-of-harmonic-means"
    """How three ratings become one score: the mean of the texts' harmonic means, or the harmonic mean of the concept's three means."""
    repeats: Annotated[int, Field(ge=1)] = 10
    """``cv``: repeats of the cross-validation that chooses the strength."""
    splits: Annotated[int, Field(ge=2)] = 4
    """``cv``: folds of the cross-validation."""
    max_unrated: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of unrated texts above which a result is not ranked."""
    pi0: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Detection: reference prior of calibrated F1."""
    negatives: DetectionNegatives = Field("all", exclude_if=_is_all)
    """Detection: which texts the AUROC that ranks holds a concept's positives against; left out where it is all of them."""
    goal: Goal = Field("express", exclude_if=_is_expressed)
    """What steering is for; left out where it is to express a concept, as in all older files.

    ``suppress``: each instruction stands behind ``concept_prompt``, methods work against it, and the concept rating counts as 2 − rating.
    """
    concept_prompt: str = Field("", exclude_if=_is_empty)
    """``suppress``: what asks for the concept, the same for every method; {concept} is replaced by the concept's text."""

    @model_validator(mode="after")
    def _asks_to_suppress(self) -> Protocol:
        if (self.goal == "suppress") != bool(self.concept_prompt):
            raise ValueError("a concept prompt belongs to the goal suppress, and to no other")
        return self

    @property
    def title(self) -> str:
        """Return the protocol, its aggregation and another goal than usual in words: scores of two titles are never ranked together."""
        found = f"{self.name}, {self.aggregation.replace('-', ' ')}"
        if self.goal == "express":
            return found
        return f"{found}, suppression" + ("" if self.concept_prompt == CONCEPT_PROMPT else f" of prompt {digest(self.concept_prompt, 6)}")

    def asking(self, concept: str, prefix: str = "") -> str:
        """Return what stands before an instruction: what asks for the concept where it is to be suppressed, and a method's own words."""
        asked = self.concept_prompt.replace("{concept}", concept)
        return "\n\n".join(part for part in (asked, prefix) if part)

    def named(self, name: ProtocolName | None = None, aggregation: Aggregation | None = None) -> Protocol:
        """Return this protocol with another name or aggregation, and the same limits; None keeps what it is.

        Raises UnknownNameError for one that does not exist.
        """
        for what, given, known in (("protocol", name, get_args(ProtocolName)), ("aggregation", aggregation, get_args(Aggregation))):
            if given is not None and given not in known:
                raise UnknownNameError(what, str(given), known)
        return self.model_copy(update={"name": name or self.name, "aggregation": aggregation or self.aggregation})


class Manifest(Part):
    """What a run is, settled before anything is computed."""

    manifest_version: Literal[1] = 1
    identity: dict[str, JsonValue]
    """All that the run's values depend on; the run is named by its digest."""
    harness_version: Text
    libraries: dict[str, str] = {}
    """Versions of the libraries that the numbers depend on."""
    git: GitState | None = None
    hardware: dict[str, str] = {}
    """Processor, memory, accelerator, for people."""
    task: TaskRef
    model: ModelRef
    dictionaries: tuple[DictionaryRef, ...] = ()
    sources: tuple[SourceRef, ...] = ()
    """What came from the hub, by commit."""
    corpus: str | None = None
    """Digest of the corpus and of how it is cut into tokens; null for a task without one."""
    corpus_split: dict[str, JsonValue] | None = None
    """Sizes and digest of the corpus' train, threshold and report parts, where detection needs them."""
    instruction_set_digest: Text
    instructions: tuple[str, ...] = ()
    """Ids of the split's instructions, in their order; their texts are in the store."""
    per_concept: Count = 0
    """Instructions that each concept gets."""
    concept_instructions: dict[str, tuple[str, ...]] = {}
    """Ids of the instructions of concepts for which they are not drawn from ``instructions``: in a run of an older harness."""
    decoding: Decoding
    protocol: Protocol = Protocol()
    seed: int
    limit: int | None = None
    concepts: tuple[str, ...] = ()
    """Ids of the task's concepts (fixed mode) or candidates (chosen mode), in their order; the concepts are in the store."""
    methods: tuple[MethodRecord, ...] = ()
    metrics: tuple[MetricRecord, ...] = ()
    judge: PluginRef | None = None
    """The judge that the run was started with."""
    judge_defaults: dict[str, dict[str, JsonValue]] = {}
    """The task's options of judges, by name."""
    command: dict[str, JsonValue] = {}
    """What was asked for, for people: task, choices, plugins."""
    unknown: tuple[str, ...] = ()
    """Names of fields that an older harness did not keep; they hold no more than their defaults. Empty for a run of this harness."""

    @property
    def run_digest(self) -> str:
        """Return the digest of the identity."""
        return digest(self.identity)

    def completed(self, by: Manifest) -> Manifest:
        """This manifest with what it does not know taken from another one of the same run, which knows it."""
        return self.model_copy(update={**{name: getattr(by, name) for name in self.unknown}, "unknown": by.unknown})

    def instructions_for(self, concept_id: str) -> list[str]:
        """Return ids of the instructions of one concept: drawn without replacement, the same for every method of a run with this seed."""
        if concept_id in self.concept_instructions:
            return list(self.concept_instructions[concept_id])
        order = rng(self.seed, "instructions", concept_id).permutation(len(self.instructions))
        return [self.instructions[int(place)] for place in order[: self.per_concept]]

    def methods_of(self, kind: EvaluationKind) -> tuple[MethodRecord, ...]:
        """Return the methods of one kind of evaluation."""
        return tuple(method for method in self.methods if method.kind == kind)

    @property
    def labelers(self) -> tuple[PluginRef, ...]:
        """Return the labelers in use, once each, in the order of the methods."""
        return tuple({m.labeler.key: m.labeler for m in self.methods if m.labeler is not None}.values())


def incomplete(identity: Mapping[str, Json]) -> dict[str, Json]:
    """Return what stands in a manifest's place where no more than the identity is known; :class:`Manifest` refuses it."""
    return {"manifest_version": MANIFEST_VERSION, "incomplete": True, "identity": identity}
