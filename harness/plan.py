"""What a run is going to do, settled before anything is computed: methods, options, strengths, judge; and an estimate of its cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.bench import TaskBench
from harness.contracts import Steerer
from harness.errors import OptionError, TaskError
from harness.options import as_json, filter_names
from harness.plugins import PluginHost, Registered
from harness.tasks import Task, options_of, path_digest
from harness.types import Json, Method, StrengthUnit, digest

Role = Literal["method", "control"]


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
        TaskError: the task cannot serve what was asked for.
    """
    if not asked.steerers:
        raise OptionError("no steerer was given; give at least one with --steerer (see `harness plugins`)")
    labelers = [_planned(host, task, "labeler", name, _addressed(asked.labeler_options, name, asked.labelers)) for name in asked.labelers]
    known_by: dict[str, bool] = dict.fromkeys(asked.steerer_options, False)
    methods: dict[str, PlannedMethod] = {}
    for name in asked.steerers:
        values = _shared(host, asked.steerer_options, name, asked.steerers, known_by)
        _add(methods, task, labelers, _planned(host, task, "steerer", name, values), "method")
    for option, known in known_by.items():
        if not known:
            _reject_option(host, asked.steerers, option)
    if asked.controls:
        _add_controls(methods, host, task, asked, labelers)
    judge_name = asked.judge or task.file.judge
    judge = _planned(host, task, "judge", judge_name, dict(asked.judge_options or {}))
    plan = Plan(tuple(methods.values()), judge)
    _check_folds(task, plan)
    return plan


def _add_controls(
    methods: dict[str, PlannedMethod], host: PluginHost, task: Task, asked: Asked, labelers: Sequence[PlannedPlugin]
) -> None:
    """The task's controls; a control's labeler passes the same filters as the labelers asked for."""
    for control in task.file.controls:
        values = _known_options(host, asked.steerer_options, control.steerer, asked.steerers)
        steerer = _planned(host, task, "steerer", control.steerer, values)
        if control.labeler is None:
            _add(methods, task, [], steerer, "control")
            continue
        filters: dict[str, Json] = {}
        for labeler in labelers:
            filters.update({name: labeler.options[name] for name in filter_names(labeler.registered.options)})
        theirs = filter_names(host.get("labeler", control.labeler).options)
        shared = {name: value for name, value in filters.items() if name in theirs}
        _add(methods, task, [_planned(host, task, "labeler", control.labeler, shared)], steerer, "control")


def _add(
    methods: dict[str, PlannedMethod], task: Task, labelers: Sequence[PlannedPlugin], steerer: PlannedPlugin, role: Role
) -> None:
    """The steerer with each labeler, or once alone if it uses no features; what is there already stays as it is."""
    instance: Steerer = steerer.instance
    name = steerer.registered.name
    if instance.needs_features and not labelers:
        raise OptionError(f"steerer {name!r} steers through features, so it needs a labeler; give one with --labeler (see `harness plugins`)")
    if instance.needs_features and not task.file.dictionaries:
        raise TaskError(f"steerer {name!r} needs features, and task {task.name!r} has no dictionary; choose another task or steerer")
    grid = task.file.steering.grids.get(name, instance.default_grid)
    for labeler in labelers if instance.needs_features else [None]:
        method = Method(
            labeler.registered.name if labeler else None, name, dict(labeler.options) if labeler else {}, dict(steerer.options)
        )
        methods.setdefault(method.id, PlannedMethod(method, role, labeler, steerer, instance.strength_unit, tuple(grid)))


def _planned(host: PluginHost, task: Task, kind: Literal["labeler", "steerer", "judge"], name: str, values: Mapping[str, Any]) -> PlannedPlugin:
    registered = host.get(kind, name)
    given = {**options_of(task, kind).get(name, {}), **values}
    options = registered.build_options(given)
    everything = as_json(options)
    return PlannedPlugin(registered, {option: everything[option] for option in given}, everything, registered.create(given))


def _addressed(options: Mapping[str, Any], name: str, names: Sequence[str]) -> dict[str, Any]:
    """The options meant for one plugin: ``option`` for all, ``plugin:option`` for one of several."""
    found: dict[str, Any] = {}
    for option, value in dict(options or {}).items():
        plugin, colon, rest = option.partition(":")
        if not colon:
            found.setdefault(option, value)
        elif plugin == name:
            found[rest] = value
        elif plugin not in names:
            raise OptionError(f"option {option!r} addresses {plugin!r}, which is not part of this run; part of it: {', '.join(names)}")
    return found


def _shared(host: PluginHost, options: Mapping[str, Any], name: str, names: Sequence[str], known_by: dict[str, bool]) -> dict[str, Any]:
    """Steerer options for one of several steerers: an option without an address goes to those that have it, and one at least must."""
    known = _known_options(host, options, name, names)
    for option in known_by:
        plugin, colon, rest = option.partition(":")
        if (rest if colon else option) in known and (not colon or plugin == name):
            known_by[option] = True
    return known


def _known_options(host: PluginHost, options: Mapping[str, Any], name: str, names: Sequence[str]) -> dict[str, Any]:
    fields = host.get("steerer", name).options.model_fields
    return {option: value for option, value in _addressed(options, name, names).items() if option in fields}


def _reject_option(host: PluginHost, names: Sequence[str], option: str) -> None:
    plugin, colon, rest = option.partition(":")
    host.get("steerer", plugin if colon else names[0]).build_options({rest if colon else option: None})
    raise OptionError(f"option {option!r} is known to none of the steerers {', '.join(names)}; see `harness plugins show NAME`")


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
        "judge": {"name": plan.judge.registered.name, "options": dict(plan.judge.options)},
    }


# ------------------------------------------------------------------------------------------------------------------- estimates

BYTES_PER_TRIAL = 1500
"""What a trial with its text and rating takes in the store, roughly."""
PROMPT_TOKENS = 60
"""Tokens of a prompt where the instructions are not at hand to be counted."""
UTILISATION = 0.15
"""Share of the peak arithmetic rate that batched decoding reaches, roughly."""


@dataclass(frozen=True)
class Estimate:
    """What a run costs, before it is run: counts are exact in fixed mode and upper bounds in chosen mode; seconds are a rough guess."""

    concepts: int
    generations: int
    prompt_tokens: int
    new_tokens: int
    ratings: int
    disk_bytes: int
    seconds: float | None
    exact: bool
    note: str


def estimate(
    plan: Plan, task: Task, n_concepts: int, exact: bool, *, flops: float | None = None, measured: float | None = None, prompt: int = PROMPT_TOKENS
) -> Estimate:
    """Count generations, tokens and ratings of a plan.

    Args:
        plan: the plan.
        task: its task.
        n_concepts: labelings of each method.
        exact: whether that number is exact, or an upper bound.
        flops: the device's arithmetic rate, for a guess at the time.
        measured: new tokens a second that this machine reached before; goes before ``flops``.
        prompt: tokens of a prompt.
    """
    per_concept = task.file.instructions.per_concept
    generations = sum(n_concepts * len(m.grid) * per_concept for m in plan.methods)
    new_tokens = generations * task.file.decoding.max_new_tokens
    prompt_tokens = generations * prompt
    parameters = task.file.model.parameters
    seconds, note = None, "time unknown: the task does not state model.parameters, and this machine has not run it yet"
    if measured:
        seconds = new_tokens / measured
        note = f"generation only, at the {measured:.0f} new tokens a second of this machine's last run"
    elif parameters and flops:
        seconds = 2.0 * parameters * (new_tokens + prompt_tokens) / (flops * UTILISATION)
        note = f"generation only, from {parameters / 1e9:.3g}e9 parameters and {flops * UTILISATION / 1e12:.3g} TFLOP/s; rough"
    return Estimate(n_concepts, generations, prompt_tokens, new_tokens, generations, generations * BYTES_PER_TRIAL, seconds, exact, note)


def device_flops(device: str | None) -> float:
    """A rough arithmetic rate (FLOP/s) of the device that a run would use, for estimates only."""
    import os

    import torch

    from harness.lm.devices import choose_device, choose_dtype

    where = choose_device(device)
    if where.type == "cuda":
        properties = torch.cuda.get_device_properties(where)
        return properties.multi_processor_count * 2.5e12 if properties.major >= 8 else properties.multi_processor_count * 0.5e12
    per_core = 2.5e11 if choose_dtype(None, where) == torch.bfloat16 else 8e10
    return per_core * (os.cpu_count() or 1)


__all__ = ["Asked", "Estimate", "Plan", "PlannedMethod", "PlannedPlugin", "device_flops", "estimate", "make_plan", "plan_json"]
