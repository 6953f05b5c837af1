"""The values of a plan: plugins with their options, methods, detections, metrics; and what the user asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import BaseModel

from harness.options import control_names, transport_names
from harness.plugin.inputs import contents
from harness.plugin.registry import Registered
from harness.types import ControlKind, DetectionMethod, Goal, Json, Method, Role, StrengthUnit, digest


@dataclass(frozen=True)
class Asked:
    """What the user asked for: plugins as ``NAME[:option=value,…]``, and option values (text or typed) by kind, for one plugin or for all."""

    labelers: tuple[str, ...] = ()
    steerers: tuple[str, ...] = ()
    judge: str | None = None
    labeler_options: Mapping[str, Any] = field(default_factory=dict)
    steerer_options: Mapping[str, Any] = field(default_factory=dict)
    judge_options: Mapping[str, Any] = field(default_factory=dict)
    controls: bool = True
    detectors: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    detector_options: Mapping[str, Any] = field(default_factory=dict)
    metric_options: Mapping[str, Any] = field(default_factory=dict)
    full_controls: bool = False
    """Beside the task's: random features, another concept's, and a random direction of equal norm, for each method that steers by features."""
    strengths: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Grids in place of the task's, by a steerer's name; that of no name is for all steerers asked for (:mod:`harness.run.strengths`)."""
    suppress: bool = False
    """Methods are to suppress concepts, whatever the task says."""
    side_effects: bool = False
    """What steering costs beside is measured at the strengths that were chosen; no text and no identity depends on it."""

    @property
    def nothing(self) -> bool:
        """Whether no steerer, detector or metric is named: then the task's own are run."""
        return not (self.steerers or self.detectors or self.metrics)


@dataclass(frozen=True)
class PlannedPlugin:
    """A plugin with its options.

    Attributes:
        registered: the plugin.
        given: the options that task or user give, as JSON.
        options: all of them, as JSON.
        instance: the plugin, made with them.
        label: what people call it: its name, with the options that differ from those that it has by default, or by default in the task.
    """

    registered: Registered
    given: Mapping[str, Json]
    options: Mapping[str, Json]
    instance: Any
    label: str

    @property
    def parts(self) -> tuple[PlannedPlugin, ...]:
        """The plugins that are joined in it (:mod:`harness.run.composed`), or this one alone: what is prepared, paid for and recorded."""
        return (self,)

    @property
    def shown(self) -> dict[str, Json]:
        """The options that a result depends on, as people read them: all but those that say how something is fetched."""
        left_out = transport_names(self.registered.options)
        return {name: value for name, value in self.options.items() if name not in left_out}

    @cached_property
    def content(self) -> dict[str, Json]:
        """What a result depends on in place of the options that name files: their content, see :func:`harness.plugin.inputs.contents`."""
        return contents(self.registered.options, self.options)

    @property
    def identity(self) -> dict[str, Json]:
        """The options that a result depends on, with the content of files in place of their paths."""
        return {**self.shown, **self.content}

    @property
    def same(self) -> str:
        """Digest of the plugin and the options that a result depends on: two with one digest do the same."""
        return digest([self.registered.kind, self.registered.name, self.identity])

    @property
    def key(self) -> str:
        """Identifies plugin and options."""
        return f"{self.registered.name}-{digest([self.registered.name, {**self.options, **self.content}], 12)}"

    @property
    def identity_key(self) -> str:
        """Identifies plugin and the options that a result depends on."""
        return f"{self.registered.name}-{digest([self.registered.name, self.identity], 12)}"

    @property
    def follows(self) -> str | None:
        """Of a control in chosen mode: the :attr:`identity_key` of the labeler whose concepts it answers."""
        value = self.options.get("follows") if "follows" in control_names(self.registered.options) else None
        return None if value is None else str(value)

    def draws(self, mode: str) -> int:
        """As :func:`draws_of` of its options."""
        return draws_of(self.registered.options, self.options, mode)


def draws_of(model: type[BaseModel], options: Mapping[str, Json], mode: str) -> int:
    """How many answers in turn a labeler with these options gives to each concept that it is asked for; 1 where it chooses its own."""
    asked = mode == "fixed" or options.get("follows") is not None
    return int(options["draws"]) if asked and "draws" in control_names(model) else 1


@dataclass(frozen=True)
class ControlLabeler:
    """A labeler that is run as a control, and the labelers asked for that it stands for."""

    labeler: PlannedPlugin
    controls: tuple[PlannedPlugin, ...] = ()


@dataclass(frozen=True)
class PlannedMethod:
    """A method of the run, its role, the strengths that it tries, draws of a concept, and keys of the labelers that it is a control of."""

    method: Method
    role: Role
    labeler: PlannedPlugin | None
    steerer: PlannedPlugin
    strength_unit: StrengthUnit
    grid: tuple[float, ...]
    draws: int = 1
    controls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return method_label(self.labeler, self.steerer)


@dataclass(frozen=True)
class PlannedDetection:
    """A detector of the run, with the labeler whose features it scores through (None: it needs none), its role, draws and controls as above."""

    method: DetectionMethod
    role: Role
    labeler: PlannedPlugin | None
    detector: PlannedPlugin
    draws: int = 1
    controls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What people call it."""
        return method_label(self.labeler, self.detector)


def control_kind(labeler: PlannedPlugin | None, plugin: PlannedPlugin) -> ControlKind | None:
    """Return as which control a labeler with a steerer or detector may stand, by the traits of labeler or steerer (of joined ones: of any)."""
    by_labeler: ControlKind | None = None if labeler is None else labeler.instance.traits.control
    steerers = plugin.parts if plugin.registered.kind == "steerer" else ()
    return by_labeler or next((part.instance.traits.control for part in steerers if part.instance.traits.control is not None), None)


def method_label(labeler: PlannedPlugin | None, plugin: PlannedPlugin) -> str:
    """What people call a labeler with a steerer or detector."""
    return plugin.label if labeler is None else f"{labeler.label} × {plugin.label}"


@dataclass(frozen=True)
class PlannedMetric:
    """A metric on one of the task's dictionaries.

    Attributes:
        metric: the plugin.
        dictionary: the dictionary's name, or that of a ``[[train]]`` table.
        controls: names of the controls that are measured beside it.
        control_seeds: draws of each control.
        seeds: measurements of each dictionary, by the metric's own seeds from the run's seed up.
    """

    metric: PlannedPlugin
    dictionary: str
    controls: tuple[str, ...] = ()
    control_seeds: int = 1
    seeds: int = 1


@dataclass(frozen=True)
class Plan:
    """A run, settled: its methods in order, those asked for first, and its judge.

    Attributes:
        methods: what is steered with.
        judge: who rates; None where nothing is steered.
        detections: what is detected with.
        metrics: what is measured.
        notices: what was asked for and is not done (a labeler that nothing uses, one thing twice); kept with the run.
        goal: what its methods are for.
        side_effects: whether what steering costs beside is measured, too; no part of the run's identity.
    """

    methods: tuple[PlannedMethod, ...]
    judge: PlannedPlugin | None = None
    detections: tuple[PlannedDetection, ...] = ()
    metrics: tuple[PlannedMetric, ...] = ()
    notices: tuple[str, ...] = ()
    goal: Goal = "express"
    side_effects: bool = False

    @property
    def chooses(self) -> bool:
        """Return whether a method has several strengths, of which its score needs one."""
        return any(len(method.grid) > 1 for method in self.methods)

    @property
    def labelers(self) -> tuple[PlannedPlugin, ...]:
        """The labelers in use, once each, in the order of the methods."""
        used = [m.labeler for m in self.methods] + [d.labeler for d in self.detections]
        return tuple({labeler.key: labeler for labeler in used if labeler is not None}.values())

    @property
    def plugins(self) -> tuple[PlannedPlugin, ...]:
        """Every plugin in use, once each; of steerers that are joined, each by itself."""
        steerers = (part for method in self.methods for part in method.steerer.parts)
        used = [*self.labelers, *steerers, *(d.detector for d in self.detections), *(m.metric for m in self.metrics)]
        used += [self.judge] if self.judge is not None else []
        return tuple({(plugin.registered.kind, plugin.key): plugin for plugin in used}.values())

    def called(self, plugin: PlannedPlugin) -> str:
        """Kind and name of a plugin of the plan, under which a run keeps what it took and found; with options where the plan has it with others."""
        kind, name = plugin.registered.kind, plugin.registered.name
        alike = {other.same for other in self.plugins if (other.registered.kind, other.registered.name) == (kind, name)}
        return f"{kind} {plugin.label if len(alike) > 1 else name}"
