"""Options of a command as values with names: a dataclass has the values of those options that its fields are called by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import load_host

if TYPE_CHECKING:
    from harness.cli.spending import Purse
    from harness.plugin.host import PluginHost


def grouped(**kinds: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Hand a command the values of its options as dataclasses; it stands below all of the options.

    Args:
        kinds: by the name of the command's parameter, the dataclass that it is; it gets what its fields are called by, and has defaults for
            what is no option of the command. Options that no dataclass has stay parameters of their own.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**values: Any) -> None:
            groups: dict[str, Any] = {}
            for name, kind in kinds.items():
                groups[name] = kind(**{field.name: values.pop(field.name) for field in fields(kind) if field.name in values})
            function(**groups, **values)

        return command

    return decorate


@dataclass(frozen=True)
class SpendingOptions:
    """Base of the options of commands that ask plugins which may cost money, each as the command line has it."""

    plugin_files: tuple[Path, ...]
    max_cost: float
    yes: bool
    as_json: bool
    quiet: bool

    @property
    def silent(self) -> bool:
        """Return whether no progress is shown."""
        return self.quiet or self.as_json

    @cached_property
    def host(self) -> PluginHost:
        """Return the plugins, those of ``--plugin`` among them."""
        return load_host(self.plugin_files)

    @cached_property
    def purse(self) -> Purse:
        """Return who approves what it costs."""
        from harness.cli.spending import Purse

        return Purse(self.max_cost, self.yes, self.silent)
