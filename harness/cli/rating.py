"""What the commands that have stored texts rated share: who rates with which options, what it may cost, where the runs are, and what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.common import (
    cost_options,
    json_option,
    judge_assignments,
    load_host,
    out_option,
    plugin_files_option,
    plugin_option,
    quiet_option,
)

if TYPE_CHECKING:
    from harness.cli.spending import Purse
    from harness.plugin.host import PluginHost


@dataclass(frozen=True)
class RatingOptions:
    """The values of :func:`rating_options`, each as the command line has it."""

    judge_options: tuple[str, ...]
    plugin_files: tuple[Path, ...]
    judge_mode: str | None
    max_cost: float
    yes: bool
    out: Path
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
    def given(self) -> dict[str, str]:
        """Return the options of the judges, ``--judge-mode`` among them. Raises OptionError for what is not ``name=value``."""
        return judge_assignments(self.judge_options, self.judge_mode)

    @cached_property
    def purse(self) -> Purse:
        """Return who approves what it costs."""
        from harness.cli.spending import Purse

        return Purse(self.max_cost, self.yes, self.silent)


def rating_options(form: str = "name=value") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of :class:`RatingOptions`, and hand it these as ``options``; it stands below the command's other options.

    Args:
        form: of ``-J``, for the help.
    """
    parts: tuple[Callable[[Any], Any], ...] = (
        plugin_option("-J", "judge", form), plugin_files_option, cost_options, out_option, json_option, quiet_option,
    )  # fmt: skip

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def command(**values: Any) -> None:
            options = RatingOptions(**{field.name: values.pop(field.name) for field in fields(RatingOptions)})
            function(options=options, **values)

        for part in reversed(parts):
            command = part(command)
        return command

    return decorate
