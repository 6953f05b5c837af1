"""From what was asked for to plugins with their options: the task's, those given for several plugins (``-S``), those behind a plugin's own name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.errors import HarnessError, OptionError, UnknownNameError
from harness.options import CONTROL_OPTIONS, filter_names, transport_names
from harness.plugin.grammar import PluginRequest, format_request, parse_request, parse_steerer
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.run.composed import PlannedPart, compose, fixed_strength
from harness.run.planned import PlannedPlugin
from harness.run.traits import check_traits
from harness.steering.composition import STRENGTH
from harness.tasks.find import option_tables, options_of
from harness.tasks.schema import Task


@dataclass(frozen=True)
class Requests:
    """Plugins of one kind that are asked for, and the options that reach them. Made by :func:`requests_of`.

    An option is taken from the first of these that has it: the plugin's name on the command line (``caa:unit_norm=false``), options given for
    one plugin or for all (``-S``), the row of the task that names the plugin, the task's defaults, the plugin's own.

    Attributes:
        host: the plugins.
        task: whose defaults hold.
        kind: of the plugins.
        asked: what is asked for, in order.
        of_task: the task's rows ask, not the user.
        given: option values of the user, by plugin.
        made: the steerers that were made so far, by what they do (:attr:`PlannedPlugin.same`): those that do the same are one instance, which is
            prepared and paid for once, alone and as a part of others.
    """

    host: PluginHost
    task: Task
    kind: Kind
    asked: tuple[PluginRequest, ...]
    of_task: bool
    given: Mapping[str, Mapping[str, Any]]
    made: dict[str, Any] = field(default_factory=dict, compare=False)

    def plan(self, request: PluginRequest) -> PlannedPlugin:
        """A plugin with its options, or several that are joined. Raises UnknownNameError, OptionError."""
        if request.parts:
            return self._joined(request, self.plan)
        given = self.given.get(request.name, {})
        if self.of_task:
            base = option_tables(self.task, self.kind).get(request.name, {})
            values = {**base, **request.options, **given}
        else:
            values = {**options_of(self.task, self.kind).get(request.name, {}), **given, **request.options}
        registered = self.host.get(self.kind, request.name)
        if self.kind == "steerer" and STRENGTH in request.options and STRENGTH not in registered.options.model_fields:
            message = f"steerer {request.name!r} stands alone, so its strengths are tried, and none is fixed"
            raise OptionError(message, given=request.options[STRENGTH], hint=f"give --strengths {request.name}=0.1,0.2, or join it to another by +")
        planned = plan_plugin(registered, values, options_of(self.task, self.kind).get(request.name, {}))
        check_dictionary_option(planned, self.task)
        return self._shared(planned)

    def _joined(self, request: PluginRequest, plan: Callable[[PluginRequest], PlannedPlugin]) -> PlannedPlugin:
        """Steerers as one, each planned by ``plan``."""
        members = []
        for part in request.parts:
            strength, options = fixed_strength(part.options, self.host.get(self.kind, part.name), request.name)
            members.append(PlannedPart(plan(PluginRequest(part.name, options)), strength))
        return compose(members)

    def _shared(self, planned: PlannedPlugin) -> PlannedPlugin:
        if self.kind != "steerer":
            return planned
        return replace(planned, instance=self.made.setdefault(planned.same, planned.instance))

    def plan_control(self, request: PluginRequest, own: Mapping[str, Any], shared: Mapping[str, Any], alone: bool = True) -> PlannedPlugin:
        """A control of the task.

        Args:
            request: the plugin, with the options of the task's row.
            own: further options of the row, which those of the user go before.
            shared: values that it shares with what it controls; part of its label where it is not ``alone``, so that each has its own name.
            alone: whether there is one such control.
        """
        if request.parts:
            return self._joined(request, lambda part: self.plan_control(part, own, shared, alone))
        base = {**options_of(self.task, self.kind).get(request.name, {}), **own}
        values = {**base, **self.given.get(request.name, {}), **shared, **request.options}
        # rows say whom a control stands for; one that is told to go its own way (follows=none) is called by its other options
        unsaid = {
            name: value
            for name, value in shared.items()
            if (name in CONTROL_OPTIONS and name not in request.options) or (alone and name not in CONTROL_OPTIONS)
        }
        return self._shared(plan_plugin(self.host.get(self.kind, request.name), values, {**base, **unsaid}))


def requests_of(
    host: PluginHost,
    task: Task,
    kind: Kind,
    asked: Sequence[PluginRequest],
    options: Mapping[str, Any],
    *,
    controls: Sequence[str] = (),
    of_task: bool = False,
) -> Requests:
    """What is asked for of one kind.

    Args:
        host: the plugins.
        task: the task.
        kind: of the plugins.
        asked: what is asked for.
        options: ``option`` for all that have it, ``plugin:option`` for one.
        controls: names of the task's controls of this kind, which such options reach, too.
        of_task: the task's rows ask, not the user.

    Raises:
        UnknownNameError, OptionError: a plugin or option that does not exist, or an option that reaches nothing.
    """
    for request in asked:
        _check_joined(host, kind, request)
    given = distribute(host, kind, options, [part.name for request in asked for part in request.each], controls)
    if not of_task:
        check_reached(host, kind, options, asked)
    return Requests(host, task, kind, tuple(asked), of_task, given)


def _check_joined(host: PluginHost, kind: Kind, request: PluginRequest) -> None:
    """Raise UnknownNameError for a part that does not exist: what stands behind a + may have been meant as a part of a value."""
    for part in request.parts:
        try:
            host.get(kind, part.name)
        except UnknownNameError as error:
            hint = f"{error.hint} A value that holds a + is written as JSON."
            raise UnknownNameError(f"{kind} in {request.name!r}:", part.name, error.known, hint) from None


def distribute(
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


def check_reached(host: PluginHost, kind: Kind, options: Mapping[str, Any], asked: Sequence[PluginRequest]) -> None:
    """Raise OptionError for an option that every plugin asked for that has it states behind its own name, so that it would change nothing."""
    for given in options:
        plugin, _, option = given.rpartition(":")
        named = [part for request in asked for part in request.each if plugin in ("", part.name)]
        holders = [part for part in named if option in host.get(kind, part.name).options.model_fields]
        stating = [request for request in holders if option in request.options]
        if stating and len(stating) == len(holders):
            texts = " and ".join(format_request(request.name, request.options) for request in stating)
            message = f"option {given!r} reaches no {kind}: {texts} states it"
            raise OptionError(message, given=given, hint="leave one of the two out")


def plan_plugin(registered: Registered, given: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> PlannedPlugin:
    """A plugin with options.

    Args:
        registered: the plugin.
        given: values by option, typed or text.
        base: what the task gives by default; options that say the same are not part of the plugin's label.
    """
    everything = registered.options_json(registered.build_options(given))
    instance = registered.create(given)
    check_traits(registered, instance)
    label = format_request(registered.name, _differing(registered, everything, base or {}))
    return PlannedPlugin(registered, {option: everything[option] for option in given}, everything, instance, label)


def check_dictionary_option(plugin: PlannedPlugin, task: Task) -> None:
    """Raise UnknownNameError for an option ``dictionary`` (a :func:`harness.options.filter_field`) that names none of the task's dictionaries."""
    named = plugin.options.get("dictionary") if "dictionary" in filter_names(plugin.registered.options) else None
    if isinstance(named, str) and task.file.dictionary_names and named not in task.file.dictionary_names:
        raise UnknownNameError(f"dictionary of task {task.name}", named, task.file.dictionary_names)


def _differing(registered: Registered, options: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are other than by default, those left out that say how something is fetched."""
    fetched = transport_names(registered.options)
    needed = {name: value for name, value in options.items() if registered.options.model_fields[name].is_required() and name not in base}
    try:
        default = registered.options_json(registered.build_options({**needed, **base}))
    except HarnessError:  # the task gives a value that is not allowed, and the user another one
        default = registered.options_json(registered.build_options(needed))
    return {
        name: value for name, value in options.items() if name not in fetched and (name in needed or value != default[name])
    }


def as_request(asked: str | PluginRequest, kind: Kind) -> PluginRequest:
    """What was asked for, parsed if it is text. Raises OptionError for text that does not follow the grammar."""
    if isinstance(asked, PluginRequest):
        return asked
    return parse_steerer(asked, "--steerer") if kind == "steerer" else parse_request(asked, f"--{kind}")
