"""PluginHost: a typed face over pluggy. It finds plugins through entry points, and knows which broke and why."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pluggy
from pydantic import BaseModel

from harness import hookspecs
from harness.errors import PluginError, UnknownNameError
from harness.options import Options, build

ENTRY_POINT_GROUP = "harness"
Kind = Literal["labeler", "steerer", "judge"]
Observer = Literal["harness_run_started", "harness_trial_done", "harness_run_finished"]
KINDS: tuple[Kind, ...] = ("labeler", "steerer", "judge")
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_METHODS: Mapping[Kind, tuple[str, ...]] = {
    "labeler": ("label",),
    "steerer": ("strength_unit", "default_grid", "neutral", "needs_features", "prepare", "intervene"),
    "judge": ("rubric", "offline", "prepare", "submit", "collect"),
}


class NoOptions(Options):
    """The options of a plugin that has none."""


@dataclass(frozen=True)
class Registered:
    """A labeler, steerer or judge as it was registered, and where it comes from."""

    kind: Kind
    name: str
    factory: Callable[[Any], Any]
    options: type[BaseModel]
    summary: str
    distribution: str
    version: str
    module: str

    def create(self, given: Mapping[str, Any] | None = None) -> Any:
        """The plugin with options ``given`` (text or typed values). Raises OptionError/UnknownNameError; a plugin's own errors pass through."""
        instance = self.factory(self.build_options(given or {}))
        missing = [name for name in _METHODS[self.kind] if not hasattr(instance, name)]
        if missing:
            raise PluginError(
                f"{self.kind} {self.name!r} of {self.distribution} lacks {', '.join(missing)}; see harness.contracts.{self.kind.title()}"
            )
        return instance

    def build_options(self, given: Mapping[str, Any]) -> BaseModel:
        """Its options model filled with ``given``, everything else at its default."""
        return build(self.options, given, f"{self.kind} {self.name}")

    @property
    def source(self) -> str:
        """The file that it is defined in."""
        try:
            return inspect.getsourcefile(self.factory) or self.module
        except TypeError:
            return self.module


class _NameTaken(PluginError):
    """Two plugins with one name: nobody could say which of them was meant, so this alone stops everything."""


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be loaded or registered."""

    entry_point: str
    target: str
    distribution: str
    error: BaseException

    @property
    def reason(self) -> str:
        """The error as one line: its class and message."""
        return _one_line(self.error)


class PluginRegistry:
    """What a registering hook is handed for one kind of plugin."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.entries: dict[str, Registered] = {}
        self._owner = ("unknown", "")

    @contextmanager
    def owned_by(self, distribution: str, version: str) -> Iterator[None]:
        """Within the context, what is added belongs to this distribution."""
        self._owner = (distribution, version)
        yield

    def add(
        self, name: str, factory: Callable[[Any], Any], *, options: type[BaseModel] | None = None, summary: str = ""
    ) -> None:
        """Register ``factory`` under ``name``; it is called with one argument, an instance of ``options``.

        Raises:
            PluginError: a name that is taken (names both distributions) or malformed, a factory that cannot be called, options that are
                no pydantic model.
        """
        distribution, version = self._owner
        if not _NAME.match(name):
            raise PluginError(f"{self.kind} name {name!r} of {distribution}: use lower-case letters, digits, '.', '_' and '-'")
        if name in self.entries:
            raise _NameTaken(
                f"two {self.kind}s are named {name!r}: one of {self.entries[name].distribution}, one of {distribution}; "
                "uninstall one of them or rename it"
            )
        if not callable(factory):
            raise PluginError(f"{self.kind} {name!r} of {distribution}: the factory is {type(factory).__name__}, which cannot be called")
        if options is not None and not (isinstance(options, type) and issubclass(options, BaseModel)):
            raise PluginError(f"{self.kind} {name!r} of {distribution}: options must be a subclass of harness.options.Options")
        module = getattr(factory, "__module__", "")
        self.entries[name] = Registered(self.kind, name, factory, options or NoOptions, summary, distribution, version, module)


class TaskRegistry:
    """What ``harness_register_tasks`` is handed."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Path, str]] = {}
        self.owner = "unknown"

    def add(self, name: str, folder: Path) -> None:
        """Register the task in ``folder`` (which holds ``task.toml``). Raises PluginError for a name that is taken."""
        if name in self.entries:
            raise _NameTaken(f"two tasks are named {name!r}: one of {self.entries[name][1]}, one of {self.owner}; rename one of them")
        self.entries[name] = (Path(folder), self.owner)


class PluginHost:
    """All plugins of this installation. Made by :meth:`load`; there is no module-level instance."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager("harness")
        self._manager.add_hookspecs(hookspecs)
        self._registries: dict[Kind, PluginRegistry] = {kind: PluginRegistry(kind) for kind in KINDS}
        self.tasks = TaskRegistry()
        self.broken: list[Broken] = []

    @classmethod
    def load(cls) -> PluginHost:
        """The host with every plugin that an installed distribution names in the entry-point group ``harness``.

        Raises:
            PluginError: two plugins with one name. A plugin that breaks in any other way is kept in ``broken``.
        """
        host = cls()
        for entry_point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name, e.value)):
            distribution = entry_point.dist.name if entry_point.dist else "unknown"
            version = entry_point.dist.version if entry_point.dist else ""
            try:
                plugin = entry_point.load()
            except (Exception, SystemExit) as error:  # a module that ends the program when imported is broken, too
                host.broken.append(Broken(entry_point.name, entry_point.value, distribution, error))
                continue
            host.add(plugin, name=entry_point.name, target=entry_point.value, distribution=distribution, version=version)
        return host

    def add(self, plugin: object, *, name: str, target: str = "", distribution: str = "local", version: str = "") -> None:
        """Register one plugin (a module or object with hook implementations); what breaks is recorded, except two plugins of one name."""
        if self._manager.is_registered(plugin):
            return  # two entry points name one module: all that it has is there already
        before = {kind: dict(registry.entries) for kind, registry in self._registries.items()}
        tasks_before = dict(self.tasks.entries)
        try:
            self._manager.register(plugin, name=f"{distribution}:{name}")
            self._check_hooks(plugin)
            self._collect(plugin, distribution, version)
        except (Exception, SystemExit) as error:
            for kind, registry in self._registries.items():
                registry.entries = before[kind]
            self.tasks.entries = tasks_before
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if isinstance(error, _NameTaken):
                raise
            self.broken.append(Broken(name, target, distribution, error))

    def _check_hooks(self, plugin: object) -> None:
        """A misspelt, unmarked or missing hook is an error, not silence."""
        known = _hook_names()
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            unknown = re.search(r"unknown hook '([^']+)'", str(error))
            if unknown is None:
                raise
            raise UnknownNameError("hook", unknown.group(1), known) from None
        marked = {caller.name for caller in self._manager.get_hookcallers(plugin) or ()}
        for name in dir(plugin):
            if name.startswith("harness_") and inspect.isroutine(getattr(plugin, name)) and name not in marked:
                if name not in known:
                    raise UnknownNameError("hook", name, known)
                raise PluginError(f"{name} is not marked as a hook; put @harness.hookimpl above it")
        if not marked:
            raise PluginError(f"it has no hook, so it does nothing; hooks: {', '.join(known)}")

    def _collect(self, plugin: object, distribution: str, version: str) -> None:
        """Call this plugin's registering hooks alone, so that what it adds is known to be its own."""
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        for kind, registry in self._registries.items():
            with registry.owned_by(distribution, version):
                caller = self._manager.subset_hook_caller(f"harness_register_{kind}s", others)
                caller(registry=registry)
        self.tasks.owner = distribution
        self._manager.subset_hook_caller("harness_register_tasks", others)(registry=self.tasks)

    def notify(self, observer: Observer, **values: Any) -> list[str]:
        """Tell every observer; answers a line for each that raised.

        Nobody asked for an observer, so one that breaks stops neither the run nor the other observers.
        """
        failures = []
        everybody = self._manager.get_plugins()
        for implementation in reversed(getattr(self._manager.hook, observer).get_hookimpls()):
            others = [plugin for plugin in everybody if plugin is not implementation.plugin]
            try:
                self._manager.subset_hook_caller(observer, others)(**values)
            except Exception as error:
                failures.append(f"observer {observer} of {implementation.plugin_name.partition(':')[0]} failed: {_one_line(error)}")
        return failures

    def all(self, kind: Kind) -> Mapping[str, Registered]:
        """Everything registered of one kind, by name, in alphabetical order."""
        return dict(sorted(self._registries[kind].entries.items()))

    def get(self, kind: Kind, name: str) -> Registered:
        """The plugin that was asked for.

        Raises:
            UnknownNameError: no such plugin.
            PluginError: the plugin asked for is broken; its own error, with its own traceback, is the ``__cause__``.
        """
        entries = self._registries[kind].entries
        if name in entries:
            return entries[name]
        self._raise_if_broken(name)
        hint = ""
        if self.broken:
            hint = f"(broken plugins: {', '.join(b.entry_point for b in self.broken)}; see `harness plugins`)"
        raise UnknownNameError(kind, name, entries, hint or "See `harness plugins`.")

    def find(self, name: str) -> list[Registered]:
        """Every plugin of any kind with this name. Raises as :meth:`get` where there is none."""
        found = [registry.entries[name] for registry in self._registries.values() if name in registry.entries]
        if not found:
            self._raise_if_broken(name)
            known = [n for registry in self._registries.values() for n in registry.entries]
            raise UnknownNameError("plugin", name, known, "See `harness plugins`.")
        return found

    def _raise_if_broken(self, name: str) -> None:
        for broken in self.broken:
            if broken.entry_point == name:
                raise PluginError(
                    f"plugin {name!r} ({broken.target}) of {broken.distribution} is broken: {broken.reason}; mend or uninstall it"
                ) from broken.error


def _hook_names() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("harness_")]


def _one_line(error: BaseException) -> str:
    """An exception as one line: its class and message."""
    return " ".join("".join(traceback.format_exception_only(error)).split())
