"""What a registering hook is handed, and what a registered plugin is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from harness.errors import PluginError
from harness.options import Options, as_json, build, describe
from harness.plugin.calls import PluginName, calling
from harness.plugin.files import PluginFile
from harness.plugin.guarded import guarded
from harness.plugin.inputs import path_contents
from harness.plugin.source import source_digest, unwrapped
from harness.types import canonical_json, digest

Kind = Literal["labeler", "steerer", "detector", "metric", "judge"]
KINDS: tuple[Kind, ...] = ("labeler", "steerer", "detector", "metric", "judge")

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
"""What a plugin may be called. The command line needs : , + = and / for itself: ``NAME:option=value,…``, ``a+b``, places of runs."""
METHODS: Mapping[Kind, tuple[str, ...]] = {
    "labeler": ("traits", "label"),
    "steerer": ("traits", "prepare", "intervene"),
    "detector": ("traits", "prepare", "scores"),
    "metric": ("traits", "measure"),
    "judge": ("traits", "prepare", "submit", "collect"),
}
"""What a plugin of each kind must have."""
_BEFORE_TRAITS: Mapping[Kind, tuple[str, ...]] = {"judge": ("rubric", "offline")}
"""What stands for traits in a plugin of the first contracts, by kind."""


class NoOptions(Options):
    """The options of a plugin that has none."""


@dataclass(frozen=True)
class Registered:
    """A plugin as it was registered, and where it comes from."""

    kind: Kind
    name: str
    factory: Callable[[Any], Any]
    options: type[BaseModel]
    summary: str
    distribution: str
    version: str
    module: str
    registered_in: str = ""
    """The module whose hook registered it; empty where that is not known."""
    file: PluginFile | None = None
    """The file that it comes from, where it is none of an installed distribution (``--plugin``)."""

    def create(self, given: Mapping[str, Any] | None = None) -> Any:
        """Return the plugin with options ``given`` (text or typed values), each of its calls guarded (:mod:`harness.plugin.guarded`).

        Raises:
            OptionError, UnknownNameError: an option that is wrong or does not exist.
            PluginError: its factory or its options raise anything else, or it lacks members of its contract.
        """
        options = self.build_options(given or {})
        with calling(self.who, "its factory"):
            instance = self.factory(options)
            missing = [name for name in METHODS[self.kind] if not hasattr(instance, name)]
            older = _BEFORE_TRAITS.get(self.kind, ())
            if "traits" in missing and older and all(hasattr(instance, name) for name in older):
                missing.remove("traits")
        if missing:
            message = f"{self.who} lacks {', '.join(missing)}"
            raise PluginError(message, given=missing, hint=f"see harness.contracts.{self.kind.title()}")
        return guarded(replace(self.who, inputs=cache(lambda: path_contents(self.options, self.options_json(options)))), instance)

    @cached_property
    def who(self) -> PluginName:
        """Return what it is called in messages."""
        return PluginName(self.kind, self.name, self.distribution, self.module, self.code)

    def build_options(self, given: Mapping[str, Any]) -> BaseModel:
        """Return its options model filled with ``given``, everything else at its default."""
        with calling(self.who, "its options"):
            return build(self.options, given, f"{self.kind} {self.name}")

    def options_json(self, options: BaseModel) -> dict[str, Any]:
        """Return all options with their values as JSON. Raises PluginError for an options model that cannot be written so."""
        with calling(self.who, "its options"):
            found = as_json(options)
            canonical_json(found)
        return found

    @property
    def made_by(self) -> tuple[str, str]:
        """Name and version of the distribution that it belongs to."""
        return self.distribution, self.version

    @cached_property
    def code(self) -> str:
        """Return the digest of its source, see :func:`harness.plugin.source.source_digest`; of a plugin file, that of its content."""
        if self.file is None:
            return source_digest(self.factory, self.distribution, self.registered_in)
        own = self.file.digest[:16]
        if self.module == self.registered_in:
            return own
        return digest([own, source_digest(self.factory, "", self.module)], 16)  # a class of a library that the file registers

    @property
    def source(self) -> str:
        """Return the file that it is defined in."""
        if self.file is not None:
            return str(self.file.path)
        try:
            return inspect.getsourcefile(unwrapped(self.factory)) or self.module
        except TypeError:
            return self.module


class NameTaken(PluginError):
    """Two plugins with one name: nobody could say which of them was meant, so this alone stops everything."""


class PluginRegistry:
    """What a registering hook is handed for one kind of plugin."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.entries: dict[str, Registered] = {}
        self._owner: tuple[str, str, str, PluginFile | None] = ("unknown", "", "", None)

    @contextmanager
    def owned_by(self, distribution: str, version: str, module: str = "", file: PluginFile | None = None) -> Iterator[None]:
        """Within the context, what is added belongs to this distribution (or file), and is registered by this module."""
        self._owner = (distribution, version, module, file)
        yield

    def add(
        self, name: str, factory: Callable[[Any], Any], *, options: type[BaseModel] | None = None, summary: str = ""
    ) -> None:
        """Register ``factory`` under ``name``; it is called with one argument, an instance of ``options``.

        Raises:
            PluginError: a name that is taken (names both distributions) or malformed, a factory that cannot be called, options that are
                not a pydantic model.
        """
        distribution, version, registered_in, file = self._owner
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            allowed = "lower-case letters, digits, '.', '_' and '-'"
            raise PluginError(f"{self.kind} name {name!r} of {distribution} is not valid", given=name, allowed=allowed)
        if name in self.entries:
            raise NameTaken(
                f"two {self.kind}s are named {name!r}: one of {self.entries[name].distribution}, one of {distribution}",
                given=name,
                hint="uninstall one of them or rename it" if file is None else "rename it in the file, or leave --plugin out",
            )
        if not callable(factory):
            message = f"{self.kind} {name!r} of {distribution}: the factory is {type(factory).__name__}, which cannot be called"
            raise PluginError(message, given=factory, hint="give a class or a function of the options")
        if options is not None and not (isinstance(options, type) and issubclass(options, BaseModel)):
            message = f"{self.kind} {name!r} of {distribution}: the options are {options!r}"
            raise PluginError(message, given=options, allowed="a subclass of harness.options.Options")
        describe(options or NoOptions)  # one that raises must not take a listing of all plugins down
        if not isinstance(summary, str):
            message = f"{self.kind} {name!r} of {distribution}: the summary is a value of class {type(summary).__name__}"
            raise PluginError(message, given=summary, allowed="a text of one line")
        module = getattr(unwrapped(factory), "__module__", None) or ""
        about = (summary, distribution, version, module, registered_in, file)
        self.entries[name] = Registered(self.kind, name, factory, options or NoOptions, *about)


class TaskRegistry:
    """What ``harness_register_tasks`` is handed."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[Path, str]] = {}
        self.owner = "unknown"

    def add(self, name: str, folder: Path) -> None:
        """Register the task in ``folder`` (which holds ``task.toml``). Raises PluginError for a name that is taken."""
        if name in self.entries:
            message = f"two tasks are named {name!r}: one of {self.entries[name][1]}, one of {self.owner}"
            raise NameTaken(message, given=name, hint="rename one of them")
        self.entries[name] = (Path(folder), self.owner)
