"""A task with a matrix: every cell a run of its own, then one table."""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.cli.common import console, echo, keep_entry, make_bench, print_json, show_published
from harness.cli.evaluation import Evaluation, foreseen
from harness.errors import HarnessError, OptionError, TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.chat.cost import Estimate as Cost
    from harness.leaderboard.matrix import Matrix
    from harness.run.bench import Choices
    from harness.run.plan import Asked, Plan
    from harness.tasks.matrix import Cell
    from harness.tasks.schema import Task

_REPLACED = {"corpus": "corpus.source", "instructions": "instructions.source", "split": "evaluation.split"}
"""Choices of the command line that take the place of a key of the task file."""
_TABLES = {"labeler": "labelers", "steerer": "steerers", "judge": "judges"}


def check_overrides(task: Task, asked: Asked, choices: Choices) -> None:
    """Raise OptionError where the command line replaces what an axis sets: the cells would differ in their names alone."""
    sets = {path: axis.name for axis in task.file.matrix for row in axis.values for path in row.sets}
    for choice, key in _REPLACED.items():
        if getattr(choices, choice) is not None and key in sets:
            flag = f"--{choice}"
            raise OptionError(f"{flag} takes the place of what axis {sets[key]!r} sets", given=flag, hint="leave it out, or run one cell as a task")
    options: dict[str, Mapping[str, object]] = {
        "labeler": asked.labeler_options, "steerer": asked.steerer_options, "judge": asked.judge_options,
    }  # fmt: skip
    for kind, given in options.items():
        for name in given:
            plugin, _, option = name.rpartition(":")
            for path, axis in sets.items():
                table, _, rest = path.partition(".")
                if table == _TABLES[kind] and rest.rpartition(".")[2] == option and plugin in ("", rest.rpartition(".")[0]):
                    message = f"option {name!r} of the command line takes the place of what axis {axis!r} sets"
                    raise OptionError(message, given=name, hint="leave it out, or run one cell as a task")


def run_matrix(once: Evaluation, choices: Choices, cells: Sequence[Cell], as_json: bool) -> None:
    """Run every cell that is not finished yet, then show all of them in one table, and write figure and page.

    A cell that fails is reported, and the others still run. Raises TaskError at the end where one has failed, after all that there is is shown.
    """
    from harness.evaluations.matrix import finished, stored_cells, write_matrix
    from harness.leaderboard.matrix import matrix_of

    command = _command(once, choices, cells[0])
    ended = finished(stored_cells(once.out, once.task.name), command) if not once.fresh else set()
    _approve(once, choices, [cell for cell in cells if cell.place not in ended])
    entries, problems = [], []
    for number, cell in enumerate(cells, 1):
        if not once.quiet:
            echo(f"cell {number} of {len(cells)}: {cell.name}", err=True)
        try:
            entry, out, _ = once.at(cell).run(choices)
        except HarnessError as error:
            problems.append((cell.name, str(error)))
            echo(f"cell {cell.name} failed: {error}", err=True)
            continue
        finally:
            gc.collect()  # the model of this cell goes before that of the next one comes: bench and plugins refer to each other
        keep_entry(entry, out)
        entries.append(entry)
    if entries:
        matrix = matrix_of(entries, problems)
        page = write_matrix(matrix, once.out, command)
        show_matrix(matrix, page, as_json)
        show_published(once.task.file.published, as_json)
    if problems:
        message = f"{len(problems)} of {len(cells)} cells of {once.task.name} failed; the first, {problems[0][0]}: {problems[0][1]}"
        raise TaskError(message, given=problems[0][0], hint="the same command tries them again, and computes nothing else anew")


def show_matrix(matrix: Matrix, page: Path, as_json: bool) -> None:
    """Print a matrix, as JSON or as tables with the place of its page."""
    from harness.leaderboard.matrix_table import render_matrix

    if as_json:
        print_json({**matrix.as_json(), "page": str(page)})
        return
    if matrix.kinds == ("dictionary",):
        from harness.leaderboard.dictionaries import side_by_side

        console().print(side_by_side(matrix.entries), crop=False)
    else:
        console().print(render_matrix(matrix))
    echo(f"page: {page}")


def _command(once: Evaluation, choices: Choices, cell: Cell) -> str:
    """Return the digest of what is asked for, as it is kept with the runs of all cells."""
    from harness.evaluations.matrix import command_digest
    from harness.run.manifest import command_of

    task = once.at(cell)
    return command_digest(command_of(task.where, make_bench(task.task, choices, True), once.asked, once.host.files))


def _approve(once: Evaluation, choices: Choices, cells: Sequence[Cell]) -> None:
    """Ask once for what all cells that are left may cost together. Of a cell that cannot be foreseen nothing is counted: it is asked about later."""
    from harness.run.plan import make_plan

    together: dict[str, Cost] = {}
    for cell in cells:
        try:
            task = once.task.at(cell)
            plan = make_plan(once.host, task, once.asked)
            if not is_priced(plan):
                continue
            parts = foreseen(plan, make_bench(task, choices, True))
        except HarnessError:
            continue
        together = added(together, parts)
    once.purse.approve_all(together, once.purse.given)


def added(costs: Mapping[str, Cost], more: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return two tables of costs together."""
    from harness.chat.cost import Estimate

    return {who: costs.get(who, Estimate()) + more.get(who, Estimate()) for who in {**costs, **more}}


def is_priced(plan: Plan) -> bool:
    """Return whether a plugin of a plan may cost money."""
    from harness.contracts import Priced

    return any(isinstance(plugin.instance, Priced) for plugin in plan.plugins)
