"""From what was asked for to plugins with their options: the task's, those given for several plugins (``-S``), those behind a plugin's own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError, OptionError, UnknownNameError
from harness.options import CONTROL_OPTIONS, filter_names, transport_names
from harness.plugin.grammar import PluginRequest, format_request, parse_request
from harness.plugin.host import PluginHost
from harness.plugin.registry import Kind, Registered
from harness.run.planned import PlannedPlugin
from harness.run.traits import check_traits
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
    """

    host: PluginHost
    task: Task
    kind: Kind
    asked: tuple[PluginRequest, ...]
    of_task: bool
    given: Mapping[str, Mapping[str, Any]]

    def plan(self, request: PluginRequest) -> PlannedPlugin:
        """A plugin with its options. Raises UnknownNameError, OptionError."""
        given = self.given.get(request.name, {})
        if self.of_task:
            base = option_tables(self.task, self.kind).get(request.name, {})
            values = {**base, **request.options, **given}
        else:
            values = {**options_of(self.task, self.kind).get(request.name, {}), **given, **request.options}
        planned = plan_plugin(self.host.get(self.kind, request.name), values, options_of(self.task, self.kind).get(request.name, {}))
        check_dictionary_option(planned, self.task)
        return planned

    def plan_control(self, request: PluginRequest, own: Mapping[str, Any], shared: Mapping[str, Any], alone: bool = True) -> PlannedPlugin:
        """A control of the task.

        Args:
            request: the plugin, with the options of the task's row.
            own: further options of the row, which those of the user go before.
            shared: values that it shares with what it controls; part of its label where it is not ``alone``, so that each has its own name.
            alone: whether there is one such control.
        """
        base = {**options_of(self.task, self.kind).get(request.name, {}), **own}
        values = {**base, **self.given.get(request.name, {}), **shared, **request.options}
        # rows say whom a control stands for; one that is told to go its own way (follows=none) is called by its other options
        unsaid = {
            name: value
            for name, value in shared.items()
            if (name in CONTROL_OPTIONS and name not in request.options) or (alone and name not in CONTROL_OPTIONS)
        }
        return plan_plugin(self.host.get(self.kind, request.name), values, {**base, **unsaid})


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
    given = distribute(host, kind, options, [request.name for request in asked], controls)
    if not of_task:
        check_reached(kind, options, asked)
    return Requests(host, task, kind, tuple(asked), of_task, given)


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


def check_reached(kind: Kind, options: Mapping[str, Any], asked: Sequence[PluginRequest]) -> None:
    """Raise OptionError for an option that every plugin asked for states behind its own name, so that it would change nothing."""
    for given in options:
        plugin, _, option = given.rpartition(":")
        holders = [request for request in asked if plugin in ("", request.name)]
        stating = [request for request in holders if option in request.options]
        if stating and len(stating) == len(holders):
            named = " and ".join(format_request(request.name, request.options) for request in stating)
            message = f"option {given!r} reaches no {kind}: {named} states it"
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


def as_request(asked: str | PluginRequest, where: str) -> PluginRequest:
    """What was asked for, parsed if it is text. Raises OptionError for text that does not follow the grammar."""
    return asked if isinstance(asked, PluginRequest) else parse_request(asked, where)
