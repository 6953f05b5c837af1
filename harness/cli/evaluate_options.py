"""The options of ``harness eval``, by what they are about: what is run, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import assignments, judge_assignments
from harness.cli.option_groups import SpendingOptions
from harness.errors import OptionError

if TYPE_CHECKING:
    from harness.run.plan import Asked


@dataclass(frozen=True)
class Wanted:
    """What is to be run, each as the command line has it."""

    labelers: tuple[str, ...]
    steerers: tuple[str, ...]
    detectors: tuple[str, ...]
    metrics: tuple[str, ...]
    strengths: tuple[str, ...]
    suppress: bool
    side_effects: bool
    judge: str | None
    judge_mode: str | None
    labeler_options: tuple[str, ...]
    steerer_options: tuple[str, ...]
    detector_options: tuple[str, ...]
    metric_options: tuple[str, ...]
    judge_options: tuple[str, ...]
    controls: str
    no_controls: bool

    def __post_init__(self) -> None:
        if self.no_controls and self.controls == "full":
            raise OptionError("--controls full and --no-controls are given", given=self.controls, hint="leave one of the two out")

    def asked(self) -> Asked:
        """Return it as a plan takes it. Raises OptionError for what is not ``name=value``, or no list of strengths."""
        from harness.run.plan import Asked
        from harness.run.strengths import parse_strengths

        return Asked(
            self.labelers,
            self.steerers,
            self.judge,
            assignments(self.labeler_options, "-L"),
            assignments(self.steerer_options, "-S"),
            judge_assignments(self.judge_options, self.judge_mode),
            self.controls != "none" and not self.no_controls,
            self.detectors,
            self.metrics,
            assignments(self.detector_options, "-D"),
            assignments(self.metric_options, "-M"),
            strengths=parse_strengths(self.strengths),
            full_controls=self.controls == "full",
            suppress=self.suppress,
            side_effects=self.side_effects,
        )


@dataclass(frozen=True)
class EvalOptions(SpendingOptions):
    """How it is run, each as the command line has it."""

    task_name: str
    seeds: str | None
    cells: tuple[str, ...]
    fresh: bool
    dry_run: bool
    out: Path

    def several_seeds(self) -> list[int]:
        """Return the seeds of ``--seeds``; none where it is not given. Raises OptionError for anything but whole numbers, and beside --seed."""
        if self.seeds is None:
            return []
        form = "two or more whole numbers, each once, e.g. 0,1,2"
        if click.get_current_context().get_parameter_source("seed") is not click.core.ParameterSource.DEFAULT:
            raise OptionError("--seed and --seeds are given", given=self.seeds, hint="leave one of the two out")
        try:
            found = [int(part) for part in self.seeds.split(",")]
        except ValueError:
            raise OptionError(f"--seeds was given {self.seeds!r}", given=self.seeds, allowed=form) from None
        if len(found) < 2 or len(set(found)) < len(found):
            raise OptionError(f"--seeds was given {self.seeds!r}", given=self.seeds, allowed=form)
        return found
