"""What a run is going to do, settled before anything is computed: methods, options, strengths, judge; and an estimate of its cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.contracts import Steerer
from harness.errors import OptionError, PluginError, TaskError, UnknownNameError
from harness.files.hashing import path_digest
from harness.options import as_json, filter_names, input_names, parse_assignment, transport_names
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.run.bench import TaskBench
from harness.tasks.find import options_of
from harness.tasks.schema import Task
from harness.types import Abstention, Json, Labeling, Method, StrengthUnit, digest

Role = Literal["method", "control"]
Answers = Mapping[str, Sequence[Labeling | Abstention]]
"""Labelers' answers by :attr:`PlannedPlugin.key`."""


@dataclass(frozen=True)
class Asked:
    """What the user asked for: plugin names, and option values (text or typed) by kind and plugin."""

    labelers: tuple[str, ...]
    steerers: tuple[str, ...]
    judge: str | None = None
    labeler_options: Mapping[str, Any] = field(default_factory=dict)
    steerer_options: Mapping[str, Any] = field(default_factory=dict)
    judge_options: Mapping[str, Any] = field(default_factory=dict)
    controls: bool = True


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


@dataclass(frozen=True)
class PlannedMethod:
    """A method of the run, its role, and the strengths that it tries."""

    method: Method
    role: Role
    labeler: PlannedPlugin | None
    steerer: PlannedPlugin
    strength_unit: StrengthUnit
    grid: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """A run, settled: its methods in order, those asked for first, and its judge."""

    methods: tuple[PlannedMethod, ...]
    judge: PlannedPlugin

    @property
    def labelers(self) -> tuple[PlannedPlugin, ...]:
        """The labelers in use, once each."""
        return tuple({m.labeler.key: m.labeler for m in self.methods if m.labeler is not None}.values())


def make_plan(host: PluginHost, task: Task, asked: Asked) -> Plan:
    """Settle what a run does.

    Raises:
        UnknownNameError, OptionError: a plugin or option that does not exist, or a value that is not allowed.
        PluginError: a steerer's grid of strengths is none.
        TaskError: the task cannot serve what was asked for.
    """
    if not asked.steerers:
        raise OptionError("no steerer was given; give at least one with --steerer (see `harness plugins`)")
    controls = task.file.controls if asked.controls else ()
    for_labelers = _distribute(host, "labeler", asked.labeler_options, asked.labelers, [c.labeler for c in controls if c.labeler])
    for_steerers = _distribute(host, "steerer", asked.steerer_options, asked.steerers, [c.steerer for c in controls])
    labelers = [_planned(host, task, "labeler", name, for_labelers[name]) for name in dict.fromkeys(asked.labelers)]
    methods: dict[str, PlannedMethod] = {}
    for name in asked.steerers:
        _add(methods, task, labelers, _planned(host, task, "steerer", name, for_steerers[name]), "method")
    for control in controls:
        steerer = _planned(host, task, "steerer", control.steerer, for_steerers[control.steerer])
        theirs: list[PlannedPlugin] = []
        if control.labeler is not None:
            theirs = _control_labelers(host, task, control.labeler, for_labelers[control.labeler], labelers)
        _add(methods, task, theirs, steerer, "control")
    judge_name = asked.judge or task.file.judge
    if judge_name is None:
        raise OptionError(f"task {task.name!r} names no judge; give one with --judge (see `harness plugins`)")
    judge = plan_judge(host, task, judge_name, asked.judge_options)
    plan = Plan(tuple(methods.values()), judge)
    _check_folds(task, plan)
    return plan


def plan_judge(host: PluginHost, task: Task, name: str, given: Mapping[str, Any]) -> PlannedPlugin:
    """A judge with the options that the task and the user give. Raises UnknownNameError, OptionError."""
    return _planned(host, task, "judge", name, given)


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
    host: PluginHost, task: Task, name: str, values: Mapping[str, Any], labelers: Sequence[PlannedPlugin]
) -> list[PlannedPlugin]:
    """A control's labeler, drawing from the same features as each labeler asked for: once for each way in which these filter."""
    own = filter_names(host.get("labeler", name).options)
    filters = [
        {option: labeler.options[option] for option in filter_names(labeler.registered.options) if option in own} for labeler in labelers
    ]
    planned = [_planned(host, task, "labeler", name, {**values, **shared}) for shared in filters or [{}]]
    return list({labeler.key: labeler for labeler in planned}.values())


def _add(
    methods: dict[str, PlannedMethod], task: Task, labelers: Sequence[PlannedPlugin], steerer: PlannedPlugin, role: Role
) -> None:
    """The steerer with each labeler, or once alone if it uses no features; what is there already stays as it is."""
    instance: Steerer = steerer.instance
    name = steerer.registered.name
    if instance.traits.needs_features and not labelers:
        raise OptionError(f"steerer {name!r} steers through features, so it needs a labeler; give one with --labeler (see `harness plugins`)")
    if instance.traits.needs_features and not task.file.dictionaries:
        raise TaskError(f"steerer {name!r} needs features, and task {task.name!r} has no dictionary; choose another task or steerer")
    grid = _grid(task, steerer)
    if not grid or list(grid) != sorted(set(grid)) or not all(map(math.isfinite, grid)):
        raise PluginError(f"steerer {name!r} of {steerer.registered.distribution} has the grid {list(grid)}; strengths must ascend")
    for labeler in labelers if instance.traits.needs_features else [None]:
        method = Method(
            labeler.registered.name if labeler else None, name, labeler.identity if labeler else {}, steerer.identity
        )
        methods.setdefault(method.id, PlannedMethod(method, role, labeler, steerer, instance.traits.unit, grid))


def _grid(task: Task, steerer: PlannedPlugin) -> tuple[float, ...]:
    """The task's strengths, or the steerer's own where the task states none, or in another unit than the user asked for."""
    name = steerer.registered.name
    grid, unit = steerer.instance.traits.grid, steerer.instance.traits.unit
    stated = task.file.steering.grids.get(name)
    if stated is not None and steerer.registered.create(options_of(task, "steerer").get(name, {})).traits.unit == unit:
        grid = stated
    return tuple(float(strength) for strength in grid)


def _planned(host: PluginHost, task: Task, kind: Kind, name: str, values: Mapping[str, Any]) -> PlannedPlugin:
    registered = host.get(kind, name)
    given = {**options_of(task, kind).get(name, {}), **values}
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
            part = ", ".join(fields) or "none"
            raise OptionError(f"option {given!r} addresses {kind} {plugin!r}, which is not part of this run; part of it: {part}")
        if not plugin and not asked:
            raise OptionError(f"option {given!r} is for a {kind}, and none was asked for; give one with --{kind}")
        holders = [plugin] if plugin else list(dict.fromkeys(asked))
        if not any(option in fields[name] for name in holders):
            known = {name for holder in holders for name in fields[holder]}
            raise UnknownNameError(f"option of {kind} {' and '.join(holders)}", option, known)
        for name in [plugin] if plugin else [name for name in fields if option in fields[name]]:
            found[name][option] = options[given]
    return found


def labelings_of(plan: Plan, method: PlannedMethod, answers: Answers, bench: TaskBench) -> list[Labeling]:
    """The labelings that a method is run on: its labeler's, or (for a steerer without features) every concept that is in play.

    In chosen mode these are the concepts that the labelers asked for chose; without such a labeler, the task's candidates.
    """
    limit = bench.choices.limit
    if method.labeler is not None:
        chosen = [answer for answer in answers[method.labeler.key] if isinstance(answer, Labeling)]
        return chosen[:limit] if bench.concept_mode == "chosen" else chosen
    if bench.concept_mode == "fixed":
        return [Labeling(concept) for concept in bench.concepts]
    asked = dict.fromkeys(m.labeler.key for m in plan.methods if m.labeler is not None and m.role == "method")
    limited = [answer for key in asked for answer in [a for a in answers[key] if isinstance(a, Labeling)][:limit]]
    concepts = {answer.concept.id: answer.concept for answer in limited}
    return [Labeling(concept) for concept in (concepts.values() if asked else bench.concepts[:limit])]


def _check_folds(task: Task, plan: Plan) -> None:
    count, splits = task.file.instructions.per_concept, task.file.evaluation.splits
    if count < splits and any(len(m.grid) > 1 for m in plan.methods):
        raise TaskError(
            f"task {task.name!r} draws {count} instructions a concept, but cross-validation over strengths makes {splits} folds; "
            "raise instructions.per_concept or lower evaluation.splits"
        )


def plan_json(plan: Plan, bench: TaskBench) -> dict[str, Json]:
    """Everything that the run's values depend on, as JSON. Its digest is the run's identity."""
    choices, task = bench.choices, bench.task
    methods = [
        {"method": m.method.name, "id": m.method.id, "role": m.role, "unit": m.strength_unit, "grid": list(m.grid),
         "labeler_options": dict(m.method.labeler_options), "steerer_options": dict(m.method.steerer_options)}
        for m in plan.methods
    ]  # fmt: skip
    return {
        "task": {"name": task.name, "version": task.file.version, "digest": task.digest()},
        "split": bench.split or "all",
        "limit": choices.limit,
        "seed": choices.seed,
        "model": {"name": bench.model.name, "digest": bench.model.digest, "dtype": str(bench.model.dtype), "device": bench.model.device.type},
        "dictionaries": {name: dictionary.digest for name, dictionary in bench.dictionaries.items()},
        "corpus": bench.corpus_digest if bench.has_corpus else None,
        "instructions": path_digest(bench.instructions_path),
        "methods": methods,
        "judge": {"name": plan.judge.registered.name, "options": plan.judge.identity},
        "files": _named_files(plan),
    }


def _named_files(plan: Plan) -> dict[str, str]:
    """Digests of the files and folders that options name as input (labels, exports), by plugin and option."""
    planned = [m.labeler for m in plan.methods if m.labeler is not None] + [m.steerer for m in plan.methods] + [plan.judge]
    named = {
        f"{plugin.registered.name}: {name} = {value}": Path(str(value)).expanduser()
        for plugin in planned
        for name in input_names(plugin.registered.options)
        if (value := plugin.options[name]) is not None
    }
    return {where: path_digest(path) for where, path in sorted(named.items()) if path.exists()}
