"""What a registering hook is handed, and what a registered plugin is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from harness.errors import PluginError
from harness.options import Options, build
from harness.plugin.source import source_digest

Kind = Literal["labeler", "steerer", "detector", "metric", "judge"]
KINDS: tuple[Kind, ...] = ("labeler", "steerer", "detector", "metric", "judge")

_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")
_METHODS: Mapping[Kind, tuple[str, ...]] = {
    "labeler": ("traits", "label"),
    "steerer": ("traits", "prepare", "intervene"),
    "detector": ("traits", "prepare", "scores"),
    "metric": ("traits", "measure"),
    "judge": ("traits", "prepare", "submit", "collect"),
}


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

    def create(self, given: Mapping[str, Any] | None = None) -> Any:
        """The plugin with options ``given`` (text or typed values). Raises OptionError/UnknownNameError; a plugin's own errors pass through."""
        instance = self.factory(self.build_options(given or {}))
        missing = [name for name in _METHODS[self.kind] if not hasattr(instance, name)]
        if missing:
            message = f"{self.kind} {self.name!r} of {self.distribution} lacks {', '.join(missing)}"
            raise PluginError(message, given=missing, hint=f"see harness.contracts.{self.kind.title()}")
        return instance

    def build_options(self, given: Mapping[str, Any]) -> BaseModel:
        """Its options model filled with ``given``, everything else at its default."""
        return build(self.options, given, f"{self.kind} {self.name}")

    @property
    def made_by(self) -> tuple[str, str]:
        """Name and version of the distribution that it belongs to."""
        return self.distribution, self.version

    @property
    def code(self) -> str:
        """Digest of its source, see :func:`harness.plugin.source.source_digest`."""
        return source_digest(self.factory, self.distribution)

    @property
    def source(self) -> str:
        """The file that it is defined in."""
        try:
            return inspect.getsourcefile(self.factory) or self.module
        except TypeError:
            return self.module


class NameTaken(PluginError):
    """Two plugins with one name: nobody could say which of them was meant, so this alone stops everything."""


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
                not a pydantic model.
        """
        distribution, version = self._owner
        if not _NAME.match(name):
            allowed = "lower-case letters, digits, '.', '_' and '-'"
            raise PluginError(f"{self.kind} name {name!r} of {distribution} is not valid", given=name, allowed=allowed)
        if name in self.entries:
            raise NameTaken(
                f"two {self.kind}s are named {name!r}: one of {self.entries[name].distribution}, one of {distribution}",
                given=name,
                hint="uninstall one of them or rename it",
            )
        if not callable(factory):
            message = f"{self.kind} {name!r} of {distribution}: the factory is {type(factory).__name__}, which cannot be called"
            raise PluginError(message, given=factory, hint="give a class or a function of the options")
        if options is not None and not (isinstance(options, type) and issubclass(options, BaseModel)):
            message = f"{self.kind} {name!r} of {distribution}: the options are {options!r}"
            raise PluginError(message, given=options, allowed="a subclass of harness.options.Options")
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
            message = f"two tasks are named {name!r}: one of {self.entries[name][1]}, one of {self.owner}"
            raise NameTaken(message, given=name, hint="rename one of them")
        self.entries[name] = (Path(folder), self.owner)
