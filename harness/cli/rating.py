"""What the commands that have stored texts rated share: who rates with which options, what it may cost, where the runs are, and what is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.cli.common import cost_options, json_option, judge_assignments, out_option, plugin_files_option, plugin_option, quiet_option
from harness.cli.option_groups import SpendingOptions, grouped


@dataclass(frozen=True)
class RatingOptions(SpendingOptions):
    """The values of :func:`rating_options`, each as the command line has it."""

    judge_options: tuple[str, ...]
    judge_mode: str | None
    out: Path

    @cached_property
    def given(self) -> dict[str, str]:
        """Return the options of the judges, ``--judge-mode`` among them. Raises OptionError for what is not ``name=value``."""
        return judge_assignments(self.judge_options, self.judge_mode)


def rating_options(form: str = "name=value") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of :class:`RatingOptions`, and hand it these as ``options``; it stands below the command's other options.

    Args:
        form: of ``-J``, for the help.
    """
    parts: tuple[Callable[[Any], Any], ...] = (
        plugin_option("-J", "judge", form), plugin_files_option, cost_options, out_option, json_option, quiet_option,
    )  # fmt: skip

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        command = grouped(options=RatingOptions)(function)
        for part in reversed(parts):
            command = part(command)
        return command

    return decorate
