"""What a run is going to do, settled before anything is computed: methods, options, strengths, judge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.contracts import Steerer
from harness.errors import OptionError, PluginError, TaskError, UnknownNameError
from harness.plugin.grammar import JOIN, PluginRequest, parse_request, parse_steerer
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.run.composed import PlannedComposition, strength_part
from harness.run.controls import Controls, Rivals, is_chance_of, stands_for, with_defaults
from harness.run.planned import (
    Asked,
    ControlLabeler,
    Plan,
    PlannedDetection,
    PlannedMethod,
    PlannedMetric,
    PlannedPlugin,
    draws_of,
    method_label,
)
from harness.run.protocol import check_instructions, protocol_of
from harness.run.requested import Requests, as_request, check_reached, distribute, plan_plugin, requests_of
from harness.run.retiring import retiring_notices
from harness.run.strengths import AskedGrids, grids_for
from harness.run.suppression import able_to_suppress, against, controls_for, goal_of, left_out, strengths_against, suppresses
from harness.store.manifest import Manifest
from harness.tasks.dictionaries import MetricTable
from harness.tasks.find import options_of
from harness.tasks.schema import ControlTable, Task
from harness.types import DetectionMethod, Method, Role

__all__ = [
    "Asked", "Plan", "PlannedDetection", "PlannedMethod", "PlannedMetric", "PlannedPlugin",
    "draws_of", "grid_of", "judges_asked", "make_plan", "plan_judge", "plan_one", "plan_plugin", "plan_stored_judge",
]  # fmt: skip


@dataclass(frozen=True)
class _Row:
    """A steerer, detector or metric that is run, and the labelers that it is run with if it needs features."""

    plugin: PluginRequest
    labelers: tuple[PluginRequest, ...] = ()
    table: MetricTable | None = None


@dataclass(frozen=True)
class _PlannedRow:
    """A steerer or detector, and the labelers that it is run with; None stands for none."""

    plugin: PlannedPlugin
    ways: Sequence[ControlLabeler | None]


@dataclass(frozen=True)
class _Wanted:
    """What is run: that which the user asked for, or the task's own rows."""

    labelers: tuple[PluginRequest, ...]
    steerers: tuple[_Row, ...]
    detectors: tuple[_Row, ...]
    metrics: tuple[_Row, ...]
    of_task: bool


def make_plan(host: PluginHost, task: Task, asked: Asked) -> Plan:
    """Settle what a run does.

    Raises:
        UnknownNameError, OptionError: a plugin or option that does not exist, or a value that is not allowed.
        PluginError: a steerer's grid of strengths does not ascend.
        TaskError: the task cannot serve what was asked for.
    """
    check_tables(host, task)
    return _Planner(host, task, asked).plan()


def check_tables(host: PluginHost, task: Task) -> None:
    """Raise UnknownNameError where the task has options or strengths for a plugin that does not exist: they would be taken for nothing."""
    file = task.file
    tables: tuple[tuple[str, Kind, Iterable[str]], ...] = (
        ("labelers", "labeler", file.labelers),
        ("steerers", "steerer", file.steerers),
        ("steering.grids", "steerer", [name for joined in file.steering.grids for name in joined.split(JOIN)]),
        ("judges", "judge", file.judges),
    )
    for table, kind, names in tables:
        for name in names:
            try:
                host.get(kind, name)
            except PluginError:  # it is broken, which stops nothing unless it is asked for
                continue
            except UnknownNameError as error:
                raise UnknownNameError(f"{kind} in [{table}] of task {task.name!r}:", name, error.known, error.hint) from None


class _Planner:
    """Makes the plan of one task and command."""

    def __init__(self, host: PluginHost, task: Task, asked: Asked) -> None:
        self.host, self.task, self.asked = host, task, asked
        self.notices: list[str] = []
        self.wanted = wanted = _wanted(task, asked)
        self.goal = goal_of(task, asked.suppress)
        self.controls = controls_for(self.goal, host, task) if asked.controls else ()
        ours = [part.name for c in self.controls for part in parse_steerer(c.steerer).each] if wanted.steerers else []
        others = [parse_request(c.labeler).name for c in self.controls if c.labeler]

        def requests(kind: Kind, of: Sequence[PluginRequest], given: Mapping[str, Any], own: bool, controls: Sequence[str] = ()) -> Requests:
            return requests_of(host, task, kind, of, given, controls=controls, of_task=own)

        own = wanted.of_task
        self.for_labelers = requests("labeler", wanted.labelers, asked.labeler_options, own and not asked.labelers, others)
        self.for_steerers = requests("steerer", [row.plugin for row in wanted.steerers], asked.steerer_options, own, ours)
        self.for_detectors = requests("detector", [row.plugin for row in wanted.detectors], asked.detector_options, own)
        self.for_metrics = requests("metric", [row.plugin for row in wanted.metrics], asked.metric_options, own)
        self.labelers: dict[str, PlannedPlugin] = {}
        self.grids = AskedGrids({}, {})
        self.beside = Controls(host, task, self.controls, self.for_labelers, self.for_steerers, self.labelers, self.notices)

    def plan(self) -> Plan:
        """See :func:`make_plan`."""
        self._labelers()
        steered = self._rows(self.for_steerers, self.wanted.steerers)
        if self.goal == "suppress":
            steered = able_to_suppress(steered, self.asked, self.notices)
        detected = self._rows(self.for_detectors, self.wanted.detectors)
        used = {way.labeler.same: way.labeler for row in (*steered, *detected) for way in row.ways if way is not None}
        rivals = self.beside.rivals(list(used.values()))
        chance = self.beside.chance(rivals, list(used.values())) if self.asked.full_controls and used else []
        self.grids = self._asked_grids(steered)
        methods = self._methods(steered, rivals, chance)
        detections = self._detections(detected, [*(labeler for _, theirs in rivals for labeler in theirs), *chance])
        judge = self._judge() if methods else None
        plan = Plan(methods, judge, detections, self._metrics(), goal=self.goal if methods else "express", side_effects=self.asked.side_effects)
        if plan.side_effects and not methods:
            raise OptionError("--side-effects is given, and nothing is steered", given="--side-effects", hint="name a steerer, or leave it out")
        self._note_unused(plan)
        check_instructions(self.task, protocol_of(self.task), plan.chooses)
        self.notices += retiring_notices(plan.plugins)
        return replace(plan, notices=tuple(dict.fromkeys(self.notices)))

    def _labelers(self) -> None:
        """Plan every labeler that is asked for, each once."""
        repeated = self.asked.labelers or not self.wanted.of_task  # several rows of a task may name one labeler
        for request in self.wanted.labelers:
            planned = self.for_labelers.plan(request)
            if planned.same in self.labelers and repeated:
                self._note_twice(planned)
            self.labelers.setdefault(planned.same, planned)

    def _note_twice(self, plugin: PlannedPlugin, name: str = "") -> None:
        self.notices.append(f"{plugin.registered.kind} {name or plugin.label} was asked for twice with the same options; it is run once")

    def _rows(self, requests: Requests, rows: Sequence[_Row]) -> list[_PlannedRow]:
        """Rows as planned: what is asked for twice is one plugin, and a row has the labelers that it is run with, none where it needs none."""
        made: dict[str, PlannedPlugin] = {}
        found = []
        for row in rows:
            planned = requests.plan(row.plugin)
            plugin = made.setdefault(planned.same, planned)
            through = {labeler.same: self.labelers[labeler.same] for labeler in map(self.for_labelers.plan, row.labelers)}
            ways = [ControlLabeler(labeler) for labeler in through.values()]
            found.append(_PlannedRow(plugin, ways if self._needs_features(plugin, ways) else [None]))
        return found

    def _asked_grids(self, steered: Sequence[_PlannedRow]) -> AskedGrids:
        if not self.asked.strengths:
            return self.grids
        controls = [self.for_steerers.plan_control(parse_steerer(c.steerer), {}, {}) for c in self.controls] if steered else []
        return grids_for(self.asked.strengths, [row.plugin for row in steered], controls)

    def _methods(self, rows: Sequence[_PlannedRow], rivals: Rivals, chance: Sequence[ControlLabeler]) -> tuple[PlannedMethod, ...]:
        found: dict[str, PlannedMethod] = {}
        for row in rows:
            self._add(found, row.plugin, row.ways, "method")
        for control, theirs in rivals if rows else ():
            self._add_control(found, control, theirs, [row.plugin for row in rows])
        if self.asked.full_controls:
            self._add_full_controls(found, rows, chance)
        return tuple(found.values())

    def _add_control(
        self, methods: dict[str, PlannedMethod], control: ControlTable, theirs: list[ControlLabeler], asked: Sequence[PlannedPlugin]
    ) -> None:
        """A control of the task. One for a labeler steers as each asked for: with other options it would control for nothing.

        Of joined steerers with its steerer among them it is run with the others, too: their control differs in the features alone.
        """
        request = parse_steerer(control.steerer)
        alike = {s.same: s for s in asked if s.registered.name == request.name and control.labeler and request.plain}
        holding = {s.same: s for s in asked if control.labeler and request.plain and _through(s, request.name)}
        for steerer in (*(list(alike.values()) or [self.for_steerers.plan_control(request, {}, {})]), *holding.values()):
            self._add(methods, steerer, theirs if self._needs_features(steerer, theirs) else [None], "control")

    def _add_full_controls(self, methods: dict[str, PlannedMethod], rows: Sequence[_PlannedRow], chance: Sequence[ControlLabeler]) -> None:
        """Of each method that steers by features: random ones, those of other concepts, and a random direction of their rows' length.

        Of one that learns: other concepts' fits.
        """
        for row in rows:
            if row.ways == [None]:
                self._add(methods, row.plugin, self.beside.fits(row.plugin), "control")
            for way in row.ways:
                if way is not None:
                    if not any(is_chance_of(method, row.plugin, way.labeler) for method in methods.values()):
                        self._add(methods, row.plugin, [one for one in chance if stands_for(one.controls, way.labeler)], "control")
                    self._add(methods, row.plugin, self.beside.permuted(way.labeler), "control")
                    for drawn in self.beside.directions(row.plugin):
                        self._add(methods, drawn, [ControlLabeler(way.labeler, (way.labeler,))], "control", self._grid(row.plugin))

    def _grid(self, steerer: PlannedPlugin) -> tuple[float, ...]:
        return tuple(self.grids.of(steerer) or grid_of(self.task, steerer))

    def _needs_features(self, plugin: PlannedPlugin, labelers: Sequence[object]) -> bool:
        """Whether a steerer or detector is run through a labeling's features.

        Raises OptionError where it is, and there is no labeler; TaskError where the task has no dictionary.
        """
        kind, name = plugin.registered.kind, plugin.registered.name
        if not plugin.instance.traits.needs_features:
            return False
        if not labelers:
            does = "steers" if kind == "steerer" else "scores"
            message = f"{kind} {name!r} {does} through features, so it needs a labeler"
            raise OptionError(message, given=name, hint="give one with --labeler (see `harness plugins`)")
        if not self.task.file.dictionary_names:
            message = f"{kind} {name!r} needs features, and task {self.task.name!r} has no dictionary"
            raise TaskError(message, given=name, hint=f"choose another task or {kind}")
        return True

    def _add(
        self,
        methods: dict[str, PlannedMethod],
        steerer: PlannedPlugin,
        ways: Sequence[ControlLabeler | None],
        role: Role,
        grid: tuple[float, ...] = (),
    ) -> None:
        """The steerer with each labeler, or once alone; what is there already stays as it is. ``grid``: its strengths, where they are another's."""
        exact = bool(grid or self.grids.of(steerer))
        name, grid = steerer.registered.name, grid or self._grid(steerer)
        if not grid or list(grid) != sorted(set(grid)) or not all(map(math.isfinite, grid)):
            message = f"steerer {name!r} of {steerer.registered.distribution} has the grid {list(grid)}"
            raise PluginError(message, given=grid, allowed="finite strengths that ascend")
        if self.goal == "suppress":
            if not suppresses(steerer):
                self.notices += left_out([steerer])
                return
            steerer, grid = against(steerer), strengths_against(steerer.instance.traits, grid, exact, f"steerer {name!r}")
        instance: Steerer = steerer.instance
        for way in ways:
            labeler = way.labeler if way is not None else None
            method = Method(labeler.registered.name if labeler else None, name, labeler.identity if labeler else {}, steerer.identity)
            if method.id in methods and role == "method":
                self._note_twice(steerer, method_label(labeler, steerer))
            planned = PlannedMethod(method, role, labeler, steerer, instance.traits.unit, grid, *_as_control(self.task, way))
            methods.setdefault(method.id, planned)

    def _detections(self, rows: Sequence[_PlannedRow], rivals: Sequence[ControlLabeler]) -> tuple[PlannedDetection, ...]:
        """The detectors asked for, and beside them: control labelers through the same detectors, and what one gets for free."""
        found: dict[str, PlannedDetection] = {}

        def add(detector: PlannedPlugin, ways: Sequence[ControlLabeler | None], role: Role) -> None:
            for way in ways:
                labeler = way.labeler if way is not None else None
                method = DetectionMethod(
                    labeler.registered.name if labeler else None,
                    detector.registered.name,
                    labeler.identity if labeler else {},
                    detector.identity,
                )
                if method.id in found and role == "method":
                    self._note_twice(detector, method_label(labeler, detector))
                found.setdefault(method.id, PlannedDetection(method, role, labeler, detector, *_as_control(self.task, way)))

        for row in rows:
            add(row.plugin, row.ways, "method")
        if rows and self.asked.controls:
            detectors = {row.plugin.same: row.plugin for row in rows}
            for detector in detectors.values():
                if detector.instance.traits.needs_features:
                    add(detector, rivals, "control")
            for row in rows if self.asked.full_controls else ():
                add(row.plugin, [one for way in row.ways if way is not None for one in self.beside.permuted(way.labeler)], "control")
            asked = {detector.registered.name for detector in detectors.values()}
            for name, registered in self.host.all("detector").items():
                if name not in asked and (trivial := _trivial(self.task, registered)) is not None:
                    add(trivial, [None], "control")
        return tuple(found.values())

    def _metrics(self) -> tuple[PlannedMetric, ...]:
        if not self.wanted.metrics:
            return ()
        names = list(self.task.file.table_names)
        if not names:
            message = f"metrics measure dictionaries, and task {self.task.name!r} has none"
            raise TaskError(message, given=self.task.name, hint="add a [[dictionaries]] or [[train]] table to it")
        tables = {table.request.name: table for table in reversed(self.task.file.metrics)}
        found: dict[tuple[str, str], PlannedMetric] = {}
        made: dict[str, PlannedPlugin] = {}
        for row in self.wanted.metrics:
            table = row.table or tables.get(row.plugin.name) or MetricTable(metric=row.plugin.name)
            planned = self.for_metrics.plan(row.plugin)
            metric = made.setdefault(planned.same, planned)
            for name in table.dictionaries or names:
                controls = tuple(self.task.file.controls_of(table, name)) if self.asked.controls else ()
                if (metric.same, name) in found:
                    self._note_twice(metric, f"{metric.label} × {name}")
                found.setdefault((metric.same, name), PlannedMetric(metric, name, controls, table.control_seeds, table.seeds))
        return tuple(found.values())

    def _judge(self) -> PlannedPlugin:
        name = self.asked.judge or self.task.file.judge
        if name is None:
            message = f"task {self.task.name!r} names no judge"
            raise OptionError(message, given=self.task.name, hint="give one with --judge (see `harness plugins`)")
        return plan_judge(self.host, self.task, name, self.asked.judge_options)

    def _note_unused(self, plan: Plan) -> None:
        """Note what was asked for and is not used: no mistake that must stop a run, and one that a reader of the result must know."""
        run_with = [(m.labeler, m.role) for m in plan.methods] + [(d.labeler, d.role) for d in plan.detections]
        used = {labeler.same for labeler, role in run_with if labeler is not None and role == "method"}
        run = [*dict.fromkeys(m.steerer.label for m in plan.methods if m.role == "method")]
        run += dict.fromkeys(d.detector.label for d in plan.detections if d.role == "method")
        run += dict.fromkeys(m.metric.label for m in plan.metrics)
        for labeler in self.labelers.values():
            if labeler.same not in used:
                needs = f"{', '.join(run)} need{'s' * (len(run) == 1)} no features"
                self.notices.append(f"labeler {labeler.label} was asked for and is not used: {needs}")
        if not plan.methods and (self.asked.judge or self.asked.judge_options):
            judge = self.asked.judge or f"(-J {', '.join(self.asked.judge_options)})"
            self.notices.append(f"judge {judge} was asked for and is not used: nothing is steered, so there is nothing to rate")


def _wanted(task: Task, asked: Asked) -> _Wanted:
    """What was asked for; where nothing was, the task's rows, each with its own labeler.

    Raises OptionError where neither names a steerer, a detector or a metric, and for text that names no plugin.
    """
    named = tuple(parse_request(text, "--labeler") for text in asked.labelers)
    if not asked.nothing:
        steerers = tuple(_Row(parse_steerer(text, "--steerer"), named) for text in asked.steerers)
        detectors = tuple(_Row(parse_request(text, "--detector"), named) for text in asked.detectors)
        metrics = tuple(_Row(parse_request(text, "--metric")) for text in asked.metrics)
        return _Wanted(named, steerers, detectors, metrics, of_task=False)
    file = task.file
    if not (file.methods or file.detectors or file.metrics):
        raise OptionError(
            f"there is nothing to evaluate: task {task.name!r} lists nothing of its own",
            given=task.name,
            hint="name a --steerer, a --detector or a --metric (see `harness plugins`)",
        )
    labelers = named or tuple(table.labeler_request for table in (*file.methods, *file.detectors) if table.labeler_request is not None)

    def through(own: PluginRequest | None) -> tuple[PluginRequest, ...]:
        return labelers if named or own is None else (own,)

    return _Wanted(
        labelers,
        tuple(_Row(table.request, through(table.labeler_request)) for table in file.methods),
        tuple(_Row(table.request, through(table.labeler_request)) for table in file.detectors),
        tuple(_Row(measured.request, table=measured) for measured in file.metrics),
        of_task=True,
    )


def _through(steerer: PlannedPlugin, name: str) -> bool:
    """Whether a steerer of this name, one that needs features, is joined to others."""
    joined = isinstance(steerer, PlannedComposition)
    return joined and any(part.registered.name == name and part.instance.traits.needs_features for part in steerer.parts)


def _as_control(task: Task, way: ControlLabeler | None) -> tuple[int, tuple[str, ...]]:
    """Return how many draws of a concept a method has, and the keys of the labelers that it is a control of."""
    if way is None:
        return 1, ()
    return way.labeler.draws(task.file.concepts.mode), tuple(labeler.key for labeler in way.controls)


def _trivial(task: Task, registered: Registered) -> PlannedPlugin | None:
    """A detector that stands for what one gets for free; None for any other, and for one that cannot be made with its defaults."""
    planned = with_defaults(task, registered)
    return planned if planned is not None and planned.instance.traits.trivial and not planned.instance.traits.needs_features else None


def grid_of(task: Task, steerer: PlannedPlugin) -> tuple[float, ...]:
    """Return the task's strengths, or the steerer's own where the task states none, or in another unit than the user asked for.

    Of joined steerers: the task's for them together, or else for the one whose strength is tried.
    """
    grid, unit = steerer.instance.traits.grid, steerer.instance.traits.unit
    tried = strength_part(steerer)
    if tried is not None:
        grids, name = task.file.steering.grids, tried.registered.name
        stated = grids.get(steerer.registered.name, grids.get(name))
        if stated is not None and tried.registered.create(options_of(task, "steerer").get(name, {})).traits.unit == unit:
            grid = stated
    return tuple(float(strength) for strength in grid)


# -------------------------------------------------------------------------------------------------------------- one plugin by itself


def plan_one(host: PluginHost, task: Task, kind: Kind, asked: str | PluginRequest, given: Mapping[str, Any]) -> PlannedPlugin:
    """One plugin by itself, with the options that the task and the user give.

    Args:
        host: the plugins.
        task: the task.
        kind: of the plugin.
        asked: ``NAME[:option=value,…]``.
        given: further options of the user; ``asked`` comes before them.

    Raises:
        UnknownNameError, OptionError: a plugin or option that does not exist, or a value that is not allowed.
    """
    request = as_request(asked, kind)
    return requests_of(host, task, kind, [request], given).plan(request)


def plan_judge(host: PluginHost, task: Task, asked: str | PluginRequest, given: Mapping[str, Any]) -> PlannedPlugin:
    """A judge with the options that the task and the user give; see :func:`plan_one`."""
    return plan_one(host, task, "judge", asked, given)


def plan_stored_judge(host: PluginHost, manifest: Manifest, asked: str | PluginRequest, given: Mapping[str, Any]) -> PlannedPlugin:
    """A judge for a stored run, with the options that the run's task had and the user gives. Raises UnknownNameError, OptionError."""
    request = as_request(asked, "judge")
    own = manifest.judge
    if own is not None and own.file and own.name == request.name and own.name not in host.all("judge"):
        raise UnknownNameError("judge", own.name, host.all("judge"), f"The run's own came from a file: give --plugin {own.file}.")
    base = manifest.judge_defaults.get(request.name, {})
    shared = distribute(host, "judge", given, [request.name], ())[request.name]
    check_reached(host, "judge", given, [request])
    return plan_plugin(host.get("judge", request.name), {**base, **shared, **request.options}, base)


def judges_asked(host: PluginHost, asked: Sequence[str], options: Mapping[str, Any]) -> dict[str, PluginRequest]:
    """Each judge with its options, by how it was asked for.

    Args:
        host: the plugins.
        asked: each ``NAME[:option=value,…]``, so that one judge can be asked for twice.
        options: ``option`` goes to every judge that has it, ``judge:option`` to that one; what stands in ``asked`` comes before both.

    Raises:
        UnknownNameError, OptionError: a judge or option that does not exist.
    """
    requests = {text: parse_request(text, "a judge") for text in dict.fromkeys(asked)}
    shared = distribute(host, "judge", options, [request.name for request in requests.values()], ())
    check_reached(host, "judge", options, list(requests.values()))
    return {text: PluginRequest(request.name, {**shared[request.name], **request.options}) for text, request in requests.items()}
