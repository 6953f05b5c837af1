"""What the commands share that have one judge rate texts with known ratings: which judge, what it may cost, and whose subject model it may need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import assignments, json_option, make_bench, plugin_files_option, plugin_option, quiet_option
from harness.cli.option_groups import SpendingOptions, grouped

if TYPE_CHECKING:
    from harness.contracts import Work
    from harness.run.bench import TaskBench
    from harness.run.planned import PlannedPlugin
    from harness.tasks.schema import Task


@dataclass(frozen=True)
class JudgeTrial(SpendingOptions):
    """The values of :func:`trial_options`, each as the command line has it."""

    judge: str
    judge_options: tuple[str, ...]
    task_name: str

    @cached_property
    def task(self) -> Task:
        """Return the task of ``--task``."""
        from harness.tasks.find import find_task

        return find_task(self.host, self.task_name)

    @cached_property
    def planned(self) -> PlannedPlugin:
        """Return the judge, with its options."""
        from harness.run.plan import plan_judge

        return plan_judge(self.host, self.task, self.judge, assignments(self.judge_options, "-J"))

    def approve(self, work: Work) -> None:
        """Have it approved what the judge may cost for ``work``. Raises OptionError where it is not."""
        from harness.contracts import Priced

        if isinstance(self.planned.instance, Priced):
            self.purse.approve(self.planned.instance.estimate(work))

    def bench(self) -> TaskBench:
        """Return a bench of the task, as its file has it."""
        from harness.run.choices import Choices

        return make_bench(self.task, Choices(), self.silent)


def trial_options(task: str, task_help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the argument and options of :class:`JudgeTrial`, and hand it these as ``trial``; it stands below the command's other options.

    Args:
        task: the usual one.
        task_help: what it is for.
    """
    parts: tuple[Callable[[Any], Any], ...] = (
        click.argument("judge"),
        plugin_option("-J", "judge"),
        plugin_files_option,
        click.option("--task", "task_name", default=task, show_default=True, help=task_help),
        click.option("--max-cost", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Ask before the judge may cost more dollars."),
        click.option("--yes", is_flag=True, help="Do not ask."),
        json_option,
        quiet_option,
    )

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        command = grouped(trial=JudgeTrial)(function)
        for part in reversed(parts):
            command = part(command)
        return command

    return decorate
