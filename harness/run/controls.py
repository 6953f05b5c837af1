"""Which controls are run beside methods: the labelers of the task's, and those plugins that serve as one by their traits, whoever wrote them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.errors import HarnessError, OptionError
from harness.options import control_names, filter_names
from harness.plugin.grammar import PluginRequest, parse_request
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.run.composed import PlannedComposition, PlannedPart, compose
from harness.run.planned import ControlLabeler, PlannedMethod, PlannedPlugin
from harness.run.requested import Requests, plan_plugin
from harness.tasks.find import options_of
from harness.tasks.schema import ControlTable, Task
from harness.types import ControlKind, Json

Rivals = Sequence[tuple[ControlTable, list[ControlLabeler]]]
"""The controls of a task, each with its labelers."""


class Controls:
    """Plans the controls of one task and command.

    Args:
        host: the plugins.
        task: whose controls and defaults hold.
        tables: the task's controls; none where none are to be run.
        labelers, steerers: what was asked for, by which controls get their options.
        asked: the labelers asked for, by what they do; filled in before anything is planned.
        notices: what could not be run is added to them.
    """

    def __init__(
        self,
        host: PluginHost,
        task: Task,
        tables: Sequence[ControlTable],
        labelers: Requests,
        steerers: Requests,
        asked: Mapping[str, PlannedPlugin],
        notices: list[str],
    ) -> None:
        self.host, self.task, self.tables = host, task, tables
        self.for_labelers, self.for_steerers = labelers, steerers
        self.asked, self.notices = asked, notices
        self.draws = max((control.draws for control in tables if control.labeler is not None), default=1)

    def rivals(self, used: Sequence[PlannedPlugin]) -> Rivals:
        """Return the task's controls, each with its labelers beside those that are ``used``."""
        return [(control, self.labelers_of(control, used)) for control in self.tables]

    def labelers_of(self, control: ControlTable, used: Sequence[PlannedPlugin]) -> list[ControlLabeler]:
        """The labelers of a control of the task; none of one without. Raises OptionError where it asks for draws and its labeler has none."""
        if control.labeler is None:
            return []
        request = parse_request(control.labeler)
        if control.draws > 1 and "draws" not in control_names(self.host.get("labeler", request.name).options):
            which = f"{control.labeler} × {control.steerer} of task {self.task.name!r}"
            message = f"control {which} has draws = {control.draws}, and labeler {request.name!r} draws nothing"
            raise OptionError(message, given=control.draws, allowed=1, hint="leave out draws, or take a labeler that draws at random")
        return self._control_labelers(request, used, {"draws": control.draws} if control.draws > 1 else {})

    def chance(self, rivals: Rivals, used: Sequence[PlannedPlugin]) -> list[ControlLabeler]:
        """The controls that draw features: the task's, or where it lists none every labeler that serves as one."""
        listed = [one for _, theirs in rivals for one in theirs if one.labeler.instance.traits.control == "random features"]
        others = [] if listed else serving(self.host, self.task, "labeler", "random features")
        return listed + [one for request in others for one in self._control_labelers(request, used)]

    def permuted(self, labeler: PlannedPlugin) -> list[ControlLabeler]:
        """The controls that answer each concept with other concepts' features of ``labeler``, in as many draws as the task's random control has."""
        found = []
        for request in serving(self.host, self.task, "labeler", "permuted labels"):
            planned = self.for_labelers.plan_control(request, self._drawn(request), {"follows": labeler.identity_key})
            found.append(ControlLabeler(planned, (labeler,)))
        return found

    def fits(self, steerer: PlannedPlugin) -> list[ControlLabeler]:
        """The controls that steer each concept by what ``steerer`` learnt for others; none of one that learns nothing.

        They answer the task's concepts, so there is none where a labeler chooses its own; that is noted.
        """
        if not steerer.instance.traits.fitted:
            return []
        if self.task.file.concepts.mode == "chosen":
            self.notices.append(f"{steerer.label} was not run by other concepts' fits: the task lists no concepts")
            return []
        requests = serving(self.host, self.task, "labeler", "permuted fits")
        return [ControlLabeler(self.for_labelers.plan_control(request, self._drawn(request), {})) for request in requests]

    def directions(self, steerer: PlannedPlugin) -> list[PlannedPlugin]:
        """The controls that push as hard as ``steerer`` and along nothing, with the options that both have; noted is one that cannot.

        Of joined steerers, such a one stands in the place of each that goes by features.
        """
        found = []
        for request in serving(self.host, self.task, "steerer", "random direction"):
            drawn = self._undirected(request, steerer)
            if drawn is not None:
                found.append(drawn)
            else:
                self.notices.append(f"control {request.name} was not run beside {steerer.label}, which steers in a unit of its own")
        return found

    def _undirected(self, request: PluginRequest, steerer: PlannedPlugin) -> PlannedPlugin | None:
        """A control in the place of a steerer; None where it steers in another unit, or has an option of the same name that means something else."""
        if isinstance(steerer, PlannedComposition):
            parts = [(self._undirected(request, m.plugin) if m.plugin.instance.traits.needs_features else m.plugin, m) for m in steerer.members]
            pushed = [PlannedPart(plugin, member.strength) for plugin, member in parts if plugin is not None]
            return compose(pushed) if len(pushed) == len(parts) else None
        offered = self.host.get("steerer", request.name).options.model_fields
        shared = {name: value for name, value in steerer.options.items() if name in offered}
        try:
            planned = self.for_steerers.plan_control(request, {}, shared)
        except HarnessError:
            return None
        return planned if planned.instance.traits.unit == steerer.instance.traits.unit else None

    def _control_labelers(
        self, request: PluginRequest, used: Sequence[PlannedPlugin], draws: Mapping[str, Json] | None = None
    ) -> list[ControlLabeler]:
        """A control's labeler, drawing from the same features as each labeler asked for: once for each way in which these filter.

        In chosen mode it answers the concepts that a labeler chose, so there is one for each. Without labelers that are ``used`` it is on its own.
        ``draws``: of each concept; None: as many as the task's random control has.
        """
        options = self.host.get("labeler", request.name).options
        own, offered = filter_names(options), control_names(options)
        draws = self._drawn(request) if draws is None else draws
        shared: list[tuple[PlannedPlugin | None, dict[str, Json]]] = []
        for labeler in used or list(self.asked.values()):
            values = {option: labeler.options[option] for option in labeler.instance.traits.filters if option in own}
            if used and self.task.file.concepts.mode == "chosen" and "follows" in offered:
                values["follows"] = labeler.identity_key
            shared.append((labeler, values))
        shared = shared or [(None, {})]
        alone = len({self.for_labelers.plan_control(request, draws, values).same for _, values in shared}) == 1
        found: dict[str, ControlLabeler] = {}
        for controlled, values in shared:
            planned = self.for_labelers.plan_control(request, draws, values, alone)
            before = found[planned.key].controls if planned.key in found else ()
            found[planned.key] = ControlLabeler(planned, before if controlled is None else (*before, controlled))
        return list(found.values())

    def _drawn(self, request: PluginRequest) -> dict[str, Json]:
        """So many draws as the task's random control has, for a labeler that offers them."""
        return {"draws": self.draws} if "draws" in control_names(self.host.get("labeler", request.name).options) else {}


def is_chance_of(method: PlannedMethod, steerer: PlannedPlugin, labeler: PlannedPlugin) -> bool:
    """Whether a method steers as ``steerer`` by random features in place of ``labeler``'s."""
    by, alike = method.labeler, method.steerer.same == steerer.same
    is_control = method.role == "control" and by is not None and by.instance.traits.control == "random features"
    return alike and is_control and (not method.controls or labeler.key in method.controls)


def stands_for(controlled: Sequence[PlannedPlugin], labeler: PlannedPlugin) -> bool:
    """Whether a control stands for a labeler; one that names none stands for all."""
    return not controlled or any(one.key == labeler.key for one in controlled)


def serving(host: PluginHost, task: Task, kind: Kind, control: ControlKind) -> list[PluginRequest]:
    """Return the labelers or steerers that serve as a control, by name in alphabetical order; one that is broken serves as none."""
    return [PluginRequest(name, {}) for name, registered in host.all(kind).items() if kind_of_control(task, registered) == control]


def kind_of_control(task: Task, registered: Registered) -> ControlKind | None:
    """Return as which control a labeler or steerer may be run; None for any other, and for one that cannot be made with its defaults."""
    planned = with_defaults(task, registered)
    return None if planned is None else planned.instance.traits.control


def with_defaults(task: Task, registered: Registered) -> PlannedPlugin | None:
    """Return a plugin that nobody asked for, with its own and the task's defaults; None where it cannot be made with them."""
    base = options_of(task, registered.kind).get(registered.name, {})
    try:
        return plan_plugin(registered, base, base)
    except Exception:  # nobody asked for it
        return None
