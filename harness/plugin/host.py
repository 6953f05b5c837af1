"""PluginHost: a typed face over pluggy. It finds plugins through entry points and in files, and knows which broke and why."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pluggy

from harness.errors import HarnessError, PluginError, UnknownNameError
from harness.plugin import spec as hookspecs
from harness.plugin.calls import PluginName, calling, one_line
from harness.plugin.files import PluginFile, import_file, located
from harness.plugin.imports import ImportWatch
from harness.plugin.process_state import ProcessState
from harness.plugin.registry import KINDS, METHODS, Kind, NameTaken, PluginRegistry, Registered, TaskRegistry

ENTRY_POINT_GROUP = "harness"
Observer = Literal["harness_run_started", "harness_trial_done", "harness_run_finished"]


@dataclass(frozen=True)
class Broken:
    """A plugin that could not be loaded or registered."""

    entry_point: str
    target: str
    distribution: str
    error: BaseException

    @property
    def reason(self) -> str:
        """Return the error as one line: its class and message."""
        return one_line(self.error)


class _Manager(pluggy.PluginManager):
    """pluggy's, which looks at every name of a plugin as a class could hide it; in a module a name has its value."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if isinstance(plugin, types.ModuleType) and name in vars(plugin) and not inspect.isroutine(vars(plugin)[name]):
            return None
        return super().parse_hookimpl_opts(plugin, name)


class PluginHost:
    """All plugins of this installation. Made by :meth:`load`; there is no module-level instance."""

    def __init__(self) -> None:
        self._manager = _Manager("harness")
        self._manager.add_hookspecs(hookspecs)
        self._registries: dict[Kind, PluginRegistry] = {kind: PluginRegistry(kind) for kind in KINDS}
        self.tasks = TaskRegistry()
        self.broken: list[Broken] = []
        self.files: list[PluginFile] = []
        self._distributions: dict[importlib.metadata.Distribution, tuple[str, str]] = {}
        self._ours: ProcessState | None = None
        """The process' state while installed plugins are loaded: each of them puts it back, so that it is looked at once."""

    @classmethod
    def load(cls, files: Iterable[str | Path] = ()) -> PluginHost:
        """Return the host with every plugin that an installed distribution names in the entry-point group ``harness``.

        Args:
            files: Python files whose plugins are added (``--plugin``); a file that is named twice is read once.

        Raises:
            PluginError: two plugins with one name, or a file that cannot be used, since it was asked for. An installed plugin that breaks in any
                other way is kept in ``broken``.
        """
        host = cls()
        host._ours = ProcessState.capture()
        with ImportWatch() as watch:
            for entry_point in sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda e: (e.name, e.value)):
                host._load(entry_point, watch)
            host._ours = None
            for path in files:
                host._load_file(path, watch)
        return host

    def add_file(self, path: str | Path) -> None:
        """Register a plugin file. Raises PluginError for one that cannot be used, or has a plugin of a name that is taken."""
        with ImportWatch() as watch:
            self._load_file(path, watch)

    def _load_file(self, given: str | Path, watch: ImportWatch) -> None:
        """Import a plugin file, and register what it has; nothing is done for one that is here already."""
        path = Path(given).expanduser().resolve()
        if path in [file.path for file in self.files]:
            return
        for other in self.files:
            if path.name == other.name:
                message = f"two plugin files are called {path.name}: {other.path} and {path}"
                raise PluginError(message, given=path, hint="rename one of them: a run keeps them by their names")
        file, module = import_file(path, watch)
        who = PluginName("plugin", file.name, str(file.path), module.__name__)
        with located(file.path, module):
            self._register(module, file.name, who, file.name, file.version, file)
        self.files.append(file)

    def _load(self, entry_point: importlib.metadata.EntryPoint, watch: ImportWatch) -> None:
        """Import what an entry point names, and register it; where that fails, or ends the program, it is broken."""
        distribution, version = self._distribution(entry_point.dist) if entry_point.dist else ("unknown", "")
        who = PluginName("plugin", entry_point.name, distribution, entry_point.value)
        try:
            with watch.importing(f"{entry_point.name} ({entry_point.value}) of {distribution}"), calling(who, "its import", ours=self._ours):
                plugin = entry_point.load()
        except (HarnessError, OSError) as error:
            self.broken.append(Broken(entry_point.name, entry_point.value, distribution, error.__cause__ or error))
            return
        self.add(plugin, name=entry_point.name, target=entry_point.value, distribution=distribution, version=version)

    def _distribution(self, found: importlib.metadata.Distribution) -> tuple[str, str]:
        """Return name and version of a distribution; read once, since each look at either parses all that its maker wrote of it."""
        if found not in self._distributions:
            metadata = found.metadata
            self._distributions[found] = metadata["Name"], metadata["Version"]
        return self._distributions[found]

    def add(self, plugin: object, *, name: str, target: str = "", distribution: str = "local", version: str = "") -> None:
        """Register one plugin (a module or object with hook implementations); what breaks is recorded, except two plugins of one name."""
        if self._manager.is_registered(plugin):
            return  # two entry points name one module: all that it has is there already
        try:
            self._register(plugin, name, PluginName("plugin", name, distribution, target), distribution, version)
        except (HarnessError, OSError) as error:
            if isinstance(error, NameTaken):
                raise
            self.broken.append(Broken(name, target, distribution, error.__cause__ or error))

    def _register(
        self, plugin: object, name: str, who: PluginName, distribution: str, version: str, file: PluginFile | None = None
    ) -> None:
        """Register one plugin; where it breaks, nothing of it stays."""
        before = {kind: dict(registry.entries) for kind, registry in self._registries.items()}
        tasks_before = dict(self.tasks.entries)
        try:
            with calling(who, "its hooks", ours=self._ours):
                self._manager.register(plugin, name=f"{distribution}:{name}")
                self._check_hooks(plugin)
                self._collect(plugin, distribution, version, file)
        except BaseException:
            for kind, registry in self._registries.items():
                registry.entries = before[kind]
            self.tasks.entries = tasks_before
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            raise

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
                raise PluginError(f"{name} is not marked as a hook", given=name, hint="put @harness.hookimpl above it")
        if not marked:
            raise PluginError("it has no hook, so it does nothing", allowed=known, hint=_missing_hook(plugin) or "define one of these functions")

    def _collect(self, plugin: object, distribution: str, version: str, file: PluginFile | None = None) -> None:
        """Call this plugin's registering hooks alone, so that what it adds is known to be its own."""
        others = [other for other in self._manager.get_plugins() if other is not plugin]
        module = getattr(plugin, "__name__", None) or type(plugin).__module__
        for kind, registry in self._registries.items():
            with registry.owned_by(distribution, version, module, file):
                caller = self._manager.subset_hook_caller(f"harness_register_{kind}s", others)
                caller(registry=registry)
        self.tasks.owner = distribution
        self._manager.subset_hook_caller("harness_register_tasks", others)(registry=self.tasks)

    def notify(self, observer: Observer, **values: Any) -> list[str]:
        """Call every observer; returns a line for each that raised.

        Nobody asked for an observer, so one that breaks stops neither the run nor the other observers.
        """
        failures = []
        everybody = self._manager.get_plugins()
        for implementation in reversed(getattr(self._manager.hook, observer).get_hookimpls()):
            others = [plugin for plugin in everybody if plugin is not implementation.plugin]
            distribution, _, name = implementation.plugin_name.partition(":")
            try:
                with calling(PluginName("plugin", name, distribution), observer):
                    self._manager.subset_hook_caller(observer, others)(**values)
            except (HarnessError, OSError) as error:
                failures.append(f"observer {observer} of {distribution} failed: {one_line(error.__cause__ or error)}")
        return failures

    def all(self, kind: Kind) -> Mapping[str, Registered]:
        """Return everything registered of one kind, by name, in alphabetical order."""
        return dict(sorted(self._registries[kind].entries.items()))

    def get(self, kind: Kind, name: str) -> Registered:
        """Return the plugin that was asked for.

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
        """Return every plugin of any kind with this name. Raises as :meth:`get` where there is none."""
        found = [registry.entries[name] for registry in self._registries.values() if name in registry.entries]
        if not found:
            self._raise_if_broken(name)
            known = [n for registry in self._registries.values() for n in registry.entries]
            raise UnknownNameError("plugin", name, known, "See `harness plugins`.")
        return found

    def _raise_if_broken(self, name: str) -> None:
        for broken in self.broken:
            if broken.entry_point == name:
                message = f"plugin {name!r} ({broken.target}) of {broken.distribution} is broken: {broken.reason}"
                raise PluginError(message, given=name, hint="mend or uninstall it") from broken.error


def _missing_hook(plugin: object) -> str:
    """Return what would register the first class of a plugin that keeps the contract of a kind; empty where there is none."""
    if not isinstance(plugin, types.ModuleType):
        return ""
    for name, item in vars(plugin).items():
        if inspect.isclass(item) and item.__module__ == plugin.__name__:
            for kind, members in METHODS.items():
                if all(hasattr(item, member) for member in members):
                    hook = f"@harness.hookimpl def harness_register_{kind}s(registry): registry.add('name', {name}, summary='…')"
                    return f"{name} looks like a {kind}: register it by {hook}"
    return ""


def _hook_names() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("harness_")]

