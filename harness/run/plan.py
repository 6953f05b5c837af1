"""What a run is going to do, settled before anything is computed: methods, options, strengths, judge; and an estimate of its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from harness.contracts import Steerer
from harness.errors import OptionError, PluginError, TaskError, UnknownNameError
from harness.options import as_json, control_names, filter_names, parse_assignment, transport_names
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.store.manifest import Manifest
from harness.tasks.dictionaries import MetricTable
from harness.tasks.find import options_of
from harness.tasks.schema import ControlTable, Task
from harness.types import DetectionMethod, Json, Method, Role, StrengthUnit, digest


@dataclass(frozen=True)
class Asked:
    """What the user asked for: plugin names, and option values (text or typed) by kind and plugin."""

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

    @property
    def nothing(self) -> bool:
        """Whether no steerer, detector or metric is named: then the task's own are run."""
        return not (self.steerers or self.detectors or self.metrics)


@dataclass(frozen=True)
class PlannedPlugin:
    """A plugin with its options: ``given`` by task or user, ``options`` all of them as JSON."""

    registered: Registered
    given: Mapping[str, Json]
    options: Mapping[str, Json]
    instance: Any

    @property
    def identity(self) -> dict[str, Json]:
        """The options that a result depends on: all but those that say how something is fetched."""
        left_out = transport_names(self.registered.options)
        return {name: value for name, value in self.options.items() if name not in left_out}

    @property
    def key(self) -> str:
        """Identifies plugin and options."""
        return f"{self.registered.name}-{digest([self.registered.name, dict(self.options)], 12)}"

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


@dataclass(frozen=True)
class PlannedDetection:
    """A detector of the run, with the labeler whose features it scores through (None: it needs none), its role, draws and controls as above."""

    method: DetectionMethod
    role: Role
    labeler: PlannedPlugin | None
    detector: PlannedPlugin
    draws: int = 1
    controls: tuple[str, ...] = ()


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
    """

    methods: tuple[PlannedMethod, ...]
    judge: PlannedPlugin | None = None
    detections: tuple[PlannedDetection, ...] = ()
    metrics: tuple[PlannedMetric, ...] = ()

    @property
    def labelers(self) -> tuple[PlannedPlugin, ...]:
        """The labelers in use, once each, in the order of the methods."""
        used = [m.labeler for m in self.methods] + [d.labeler for d in self.detections]
        return tuple({labeler.key: labeler for labeler in used if labeler is not None}.values())

    @property
    def plugins(self) -> tuple[PlannedPlugin, ...]:
        """Every plugin in use, once each."""
        used = [*self.labelers, *(m.steerer for m in self.methods), *(d.detector for d in self.detections), *(m.metric for m in self.metrics)]
        used += [self.judge] if self.judge is not None else []
        return tuple({(plugin.registered.kind, plugin.key): plugin for plugin in used}.values())


def make_plan(host: PluginHost, task: Task, asked: Asked) -> Plan:
    """Settle what a run does.

    Raises:
        UnknownNameError, OptionError: a plugin or option that does not exist, or a value that is not allowed.
        PluginError: a steerer's grid of strengths does not ascend.
        TaskError: the task cannot serve what was asked for.
    """
    asked = _with_the_tasks_own(task, asked)
    controls = task.file.controls if asked.controls else ()
    ours = list(controls) if asked.steerers else []
    others = [c.labeler for c in controls if c.labeler]
    for_labelers = _distribute(host, "labeler", asked.labeler_options, asked.labelers, others)
    for_steerers = _distribute(host, "steerer", asked.steerer_options, asked.steerers, [c.steerer for c in ours])
    labelers = [_planned(host, task, "labeler", name, for_labelers[name]) for name in dict.fromkeys(asked.labelers)]
    through = [ControlLabeler(labeler) for labeler in labelers]
    steerers = [_planned(host, task, "steerer", name, for_steerers[name]) for name in asked.steerers]
    for_detectors = _distribute(host, "detector", asked.detector_options, asked.detectors, [])
    detectors = [_planned(host, task, "detector", name, for_detectors[name]) for name in dict.fromkeys(asked.detectors)]
    used = any(plugin.instance.traits.needs_features for plugin in (*steerers, *detectors))
    methods: dict[str, PlannedMethod] = {}
    for steerer in steerers:
        _add(methods, task, through, steerer, "method")
    rivals = [(control, _control_labelers(host, task, control, for_labelers, labelers, used)) for control in controls]
    for control, theirs in rivals if asked.steerers else ():
        _add(methods, task, theirs, _planned(host, task, "steerer", control.steerer, for_steerers[control.steerer]), "control")
    plan = Plan(
        tuple(methods.values()),
        _judge(host, task, asked) if methods else None,
        _detections(host, task, asked, detectors, through, [labeler for _, theirs in rivals for labeler in theirs]),
        _metrics(host, task, asked),
    )
    _check_folds(task, plan)
    return plan


def _with_the_tasks_own(task: Task, asked: Asked) -> Asked:
    """What was asked for; where nothing was, what the task lists.

    Raises OptionError where neither names a steerer, a detector or a metric.
    """
    if not asked.nothing:
        return asked
    file = task.file
    named = [table.labeler for table in file.methods] + [table.labeler for table in file.detectors]
    labelers = [name for name in named if name is not None]
    own = replace(
        asked,
        labelers=asked.labelers or tuple(dict.fromkeys(labelers)),
        steerers=tuple(dict.fromkeys(table.steerer for table in file.methods)),
        detectors=tuple(dict.fromkeys(table.detector for table in file.detectors)),
        metrics=tuple(dict.fromkeys(table.metric for table in file.metrics)),
    )
    if own.nothing:
        raise OptionError(
            f"there is nothing to evaluate: task {task.name!r} lists nothing of its own",
            given=task.name,
            hint="name a --steerer, a --detector or a --metric (see `harness plugins`)",
        )
    return own


def _judge(host: PluginHost, task: Task, asked: Asked) -> PlannedPlugin:
    name = asked.judge or task.file.judge
    if name is None:
        raise OptionError(f"task {task.name!r} names no judge", given=task.name, hint="give one with --judge (see `harness plugins`)")
    return plan_judge(host, task, name, asked.judge_options)


def _detections(
    host: PluginHost,
    task: Task,
    asked: Asked,
    detectors: Sequence[PlannedPlugin],
    labelers: Sequence[ControlLabeler],
    rivals: Sequence[ControlLabeler],
) -> tuple[PlannedDetection, ...]:
    """The detectors asked for, and beside them: control labelers through the same detectors, and what one gets for free."""
    if not detectors:
        return ()
    found: dict[str, PlannedDetection] = {}

    def add(detector: PlannedPlugin, through: Sequence[ControlLabeler | None], role: Role) -> None:
        for way in through:
            labeler = way.labeler if way is not None else None
            method = DetectionMethod(
                labeler.registered.name if labeler else None,
                detector.registered.name,
                labeler.identity if labeler else {},
                detector.identity,
            )
            found.setdefault(method.id, PlannedDetection(method, role, labeler, detector, *_as_control(task, way)))

    for detector in detectors:
        needs = detector.instance.traits.needs_features
        if needs and not labelers:
            name = detector.registered.name
            message = f"detector {name!r} scores through features, so it needs a labeler"
            raise OptionError(message, given=name, hint="give one with --labeler (see `harness plugins`)")
        if needs and not task.file.dictionaries:
            name = detector.registered.name
            message = f"detector {name!r} needs features, and task {task.name!r} has no dictionary"
            raise TaskError(message, given=name, hint="choose another task or detector")
        add(detector, labelers if needs else [None], "method")
    if asked.controls:
        for detector in detectors:
            if detector.instance.traits.needs_features:
                add(detector, rivals, "control")
        for name, registered in host.all("detector").items():
            if name not in asked.detectors and (trivial := _trivial(host, task, registered)) is not None:
                add(trivial, [None], "control")
    return tuple(found.values())


def _trivial(host: PluginHost, task: Task, registered: Registered) -> PlannedPlugin | None:
    """A detector that stands for what one gets for free; None for any other, and for one that cannot be made with its defaults."""
    try:
        planned = _planned(host, task, "detector", registered.name, {})
    except Exception:  # nobody asked for it
        return None
    traits = planned.instance.traits
    return planned if traits.trivial and not traits.needs_features else None


def _metrics(host: PluginHost, task: Task, asked: Asked) -> tuple[PlannedMetric, ...]:
    if not asked.metrics:
        return ()
    names = [table.name for table in task.file.dictionaries] + [table.name for table in task.file.train]
    if not names:
        message = f"metrics measure dictionaries, and task {task.name!r} has none"
        raise TaskError(message, given=task.name, hint="add a [[dictionaries]] or [[train]] table to it")
    values = _distribute(host, "metric", asked.metric_options, asked.metrics, [])
    tables = {table.metric: table for table in task.file.metrics}
    found = []
    for wanted in dict.fromkeys(asked.metrics):
        table = tables.get(wanted) or MetricTable(metric=wanted)
        metric = _planned(host, task, "metric", wanted, values[wanted])
        controls = table.controls if asked.controls else ()
        found += [PlannedMetric(metric, name, controls, table.control_seeds, table.seeds) for name in table.dictionaries or names]
    return tuple(found)


def plan_judge(host: PluginHost, task: Task, name: str, given: Mapping[str, Any]) -> PlannedPlugin:
    """A judge with the options that the task and the user give. Raises UnknownNameError, OptionError."""
    return _planned(host, task, "judge", name, given)


def plan_stored_judge(host: PluginHost, manifest: Manifest, name: str, given: Mapping[str, Any]) -> PlannedPlugin:
    """A judge for a stored run, with the options that the run's task had and the user gives. Raises UnknownNameError, OptionError."""
    return _with_options(host.get("judge", name), {**manifest.judge_defaults.get(name, {}), **given})


def judges_asked(host: PluginHost, asked: Sequence[str], options: Mapping[str, str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Name and options of each judge by how it was asked for.

    Args:
        host: the plugins.
        asked: each ``judge``, or ``judge:option=value,option=value``, so that one judge can be asked for twice.
        options: ``option`` goes to every judge that has it, ``judge:option`` to that one; what stands in ``asked`` comes before both.

    Raises:
        UnknownNameError, OptionError: a judge or option that does not exist.
    """
    parts = {spec: spec.partition(":") for spec in dict.fromkeys(asked)}
    shared = _distribute(host, "judge", options, [name for name, _, _ in parts.values()], ())
    own = {spec: dict(parse_assignment(one, spec) for one in rest.split(",") if one) for spec, (_, _, rest) in parts.items()}
    return {spec: (name, {**shared[name], **own[spec]}) for spec, (name, _, _) in parts.items()}


def _control_labelers(
    host: PluginHost, task: Task, control: ControlTable, given: Mapping[str, Mapping[str, Any]], labelers: Sequence[PlannedPlugin], used: bool
) -> list[ControlLabeler]:
    """A control's labeler, drawing from the same features as each labeler asked for: once for each way in which these filter.

    In chosen mode it answers the concepts that a labeler chose, so there is one for each. Without labelers that are ``used`` it is on its own.

    Raises OptionError where the control asks for draws and its labeler has none.
    """
    name = control.labeler
    if name is None:
        return []
    options = host.get("labeler", name).options
    own, offered, values = filter_names(options), control_names(options), dict(given[name])
    if control.draws > 1:
        if "draws" not in offered:
            message = f"control {name} × {control.steerer} of task {task.name!r} has draws = {control.draws}, and labeler {name!r} draws nothing"
            raise OptionError(message, given=control.draws, allowed=1, hint="leave out draws, or take a labeler that draws at random")
        values = {"draws": control.draws, **values}
    found: dict[str, ControlLabeler] = {}
    leaders: Sequence[PlannedPlugin | None] = labelers or [None]
    for labeler in leaders:
        shared: dict[str, Json] = {}
        if labeler is not None:
            shared = {option: labeler.options[option] for option in labeler.instance.traits.filters if option in own}
            if used and task.file.concepts.mode == "chosen" and "follows" in offered:
                shared["follows"] = labeler.identity_key
        planned = _planned(host, task, "labeler", name, {**values, **shared})
        before = found[planned.key].controls if planned.key in found else ()
        found[planned.key] = ControlLabeler(planned, before if labeler is None else (*before, labeler))
    return list(found.values())


def _as_control(task: Task, way: ControlLabeler | None) -> tuple[int, tuple[str, ...]]:
    """How many draws of a concept a method has, and the keys of the labelers that it is a control of."""
    if way is None:
        return 1, ()
    return way.labeler.draws(task.file.concepts.mode), tuple(labeler.key for labeler in way.controls)


def _add(
    methods: dict[str, PlannedMethod], task: Task, labelers: Sequence[ControlLabeler], steerer: PlannedPlugin, role: Role
) -> None:
    """The steerer with each labeler, or once alone if it uses no features; what is there already stays as it is."""
    instance: Steerer = steerer.instance
    name = steerer.registered.name
    if instance.traits.needs_features and not labelers:
        message = f"steerer {name!r} steers through features, so it needs a labeler"
        raise OptionError(message, given=name, hint="give one with --labeler (see `harness plugins`)")
    if instance.traits.needs_features and not task.file.dictionary_names:
        message = f"steerer {name!r} needs features, and task {task.name!r} has no dictionary"
        raise TaskError(message, given=name, hint="choose another task or steerer")
    grid = _grid(task, steerer)
    if not grid or list(grid) != sorted(set(grid)) or not all(map(math.isfinite, grid)):
        message = f"steerer {name!r} of {steerer.registered.distribution} has the grid {list(grid)}"
        raise PluginError(message, given=grid, allowed="finite strengths that ascend")
    for way in labelers if instance.traits.needs_features else [None]:
        labeler = way.labeler if way is not None else None
        method = Method(
            labeler.registered.name if labeler else None, name, labeler.identity if labeler else {}, steerer.identity
        )
        planned = PlannedMethod(method, role, labeler, steerer, instance.traits.unit, grid, *_as_control(task, way))
        methods.setdefault(method.id, planned)


def _grid(task: Task, steerer: PlannedPlugin) -> tuple[float, ...]:
    """The task's strengths, or the steerer's own where the task states none, or in another unit than the user asked for."""
    name = steerer.registered.name
    grid, unit = steerer.instance.traits.grid, steerer.instance.traits.unit
    stated = task.file.steering.grids.get(name)
    if stated is not None and steerer.registered.create(options_of(task, "steerer").get(name, {})).traits.unit == unit:
        grid = stated
    return tuple(float(strength) for strength in grid)


def _planned(host: PluginHost, task: Task, kind: Kind, name: str, values: Mapping[str, Any]) -> PlannedPlugin:
    return _with_options(host.get(kind, name), {**options_of(task, kind).get(name, {}), **values})


def _with_options(registered: Registered, given: Mapping[str, Any]) -> PlannedPlugin:
    options = registered.build_options(given)
    everything = as_json(options)
    return PlannedPlugin(registered, {option: everything[option] for option in given}, everything, registered.create(given))


def _distribute(
    host: PluginHost, kind: Kind, options: Mapping[str, Any], asked: Sequence[str], controls: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Option values by plugin.

    ``option`` goes to all plugins that have it, controls included (a control that steered in another unit would be none), and one that was
    asked for must have it; ``plugin:option`` goes to that one, before the other.
    """
    fields = {name: host.get(kind, name).options.model_fields for name in (*asked, *controls)}
    found: dict[str, dict[str, Any]] = {name: {} for name in fields}
    for given in sorted(options, key=lambda name: ":" in name):
        plugin, _, option = given.rpartition(":")
        if plugin and plugin not in fields:
            message = f"option {given!r} addresses {kind} {plugin!r}, which is not part of this run"
            raise OptionError(message, given=plugin, allowed=tuple(fields) or "none")
        if not plugin and not asked:
            raise OptionError(f"option {given!r} is for a {kind}, and none was asked for", given=given, hint=f"give one with --{kind}")
        holders = [plugin] if plugin else list(dict.fromkeys(asked))
        if not any(option in fields[name] for name in holders):
            known = {name for holder in holders for name in fields[holder]}
            raise UnknownNameError(f"option of {kind} {' and '.join(holders)}", option, known)
        for name in [plugin] if plugin else [name for name in fields if option in fields[name]]:
            found[name][option] = options[given]
    return found


def _check_folds(task: Task, plan: Plan) -> None:
    count, splits = task.file.instructions.per_concept, task.file.evaluation.splits
    if count < splits and any(len(m.grid) > 1 for m in plan.methods):
        raise TaskError(
            f"task {task.name!r} draws {count} instructions per concept, but cross-validation over strengths makes {splits} folds",
            given=count,
            allowed=f"at least {splits}",
            hint="raise instructions.per_concept or lower evaluation.splits",
        )
