"""A task with a matrix: every cell a run of its own, then one table; and what all of them would take."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from harness.cli.common import console, echo, keep_entry, make_bench, print_json, print_table, show_published
from harness.cli.evaluation import Evaluation, foreseen
from harness.errors import HarnessError, OptionError, TaskError

if TYPE_CHECKING:
    from pathlib import Path

    from harness.chat.cost import Estimate as Cost
    from harness.leaderboard.matrix import Matrix
    from harness.run.bench import Choices, TaskBench
    from harness.run.estimate import Estimate
    from harness.run.plan import Asked, Plan
    from harness.run.sources import HubInput
    from harness.tasks.matrix import Cell
    from harness.tasks.schema import Task

_REPLACED = {"corpus": "corpus.source", "instructions": "instructions.source", "split": "evaluation.split"}
"""Choices of the command line that take the place of a key of the task file."""
_TABLES = {"labeler": "labelers", "steerer": "steerers", "judge": "judges"}
_SHOWN = 40


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
            if not _priced(plan):
                continue
            parts = foreseen(plan, make_bench(task, choices, True))
        except HarnessError:
            continue
        together = _added(together, parts)
    once.purse.approve_all(together, once.purse.given)


def _added(costs: Mapping[str, Cost], more: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return two tables of costs together."""
    from harness.chat.cost import Estimate

    return {who: costs.get(who, Estimate()) + more.get(who, Estimate()) for who in {**costs, **more}}


def _priced(plan: Plan) -> bool:
    from harness.contracts import Priced

    return any(isinstance(plugin.instance, Priced) for plugin in plan.plugins)


# ------------------------------------------------------------------------------------------------------------------------------- dry run


@dataclass
class _Foreseen:
    """What one cell would take.

    Attributes:
        cell: which.
        plan, bench: of its run; None where there can be none.
        estimate: None where nothing can be said.
        costs: by who spends it.
        problems: what would end the run.
        inputs: what lies on the hub.
    """

    cell: Cell
    plan: Plan | None = None
    bench: TaskBench | None = None
    estimate: Estimate | None = None
    costs: dict[str, Cost] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    inputs: list[HubInput] = field(default_factory=list)

    @property
    def methods(self) -> int:
        """Return how many methods, detectors and metrics are run."""
        return 0 if self.plan is None else len(self.plan.methods) + len(self.plan.detections) + len(self.plan.metrics)


def show_matrix_plan(once: Evaluation, choices: Choices, cells: Sequence[Cell], as_json: bool) -> None:
    """Print the cells with what each would take, their sum, and what would end them."""
    from harness.run.sources import input_problems

    found = [_planned(once, choices, cell) for cell in cells]
    inputs = {(item.what, item.source, item.where.revision): item for one in found for item in one.inputs}
    problems = input_problems(inputs.values())  # each is asked about once, however many cells have it
    for one in found:
        _foresee(one, fetch=not problems)
    problems += _together([(problem, one.cell.name) for one in found for problem in one.problems if problem not in problems])
    total = _sums(found)
    costs: dict[str, Cost] = {}
    for one in found:
        costs = _added(costs, one.costs)
    if as_json:
        rows = [
            {"cell": dict(one.cell.values), "methods": one.methods, "estimate": one.estimate and asdict(one.estimate), "problems": one.problems}
            for one in found
        ]
        prices = {who: str(cost) for who, cost in costs.items()}
        print_json({"task": once.task.name, "cells": rows, "of": cells[0].of, "total": total, "costs": prices, "problems": problems})
        return
    axes = [axis for axis, _ in cells[0].values]
    table = [(*(value for _, value in one.cell.values), *_figures(one)) for one in found[:_SHOWN]]
    title = f"task {once.task.name} (version {once.task.file.version}): {len(cells)} of {cells[0].of} cells, each a run of its own"
    print_table(title, (*axes, "methods", "concepts", "texts", "time"), table)
    if len(found) > _SHOWN:
        echo(f"… and {len(found) - _SHOWN} more cells; --json has all")
    seconds, note = total["seconds"], next((one.estimate.note for one in found if one.estimate), "nothing can be estimated")
    time = "time unknown" if seconds is None else f"about {_hours(seconds)}"
    echo(
        f"\nall cells together, at most: {total['generations']:,} generations, {total['new_tokens']:,} new tokens, {total['ratings']:,} ratings, "
        f"{(total['disk_bytes'] or 0) / 1e6:,.1f} MB on disk, {time} ({note})"
    )
    for who, cost in costs.items():
        echo(f"{who}: {cost}")
    for line in problems:
        echo(f"this would end the run: {line}")


def _planned(once: Evaluation, choices: Choices, cell: Cell) -> _Foreseen:
    """Return a cell with its plan; nothing is fetched."""
    from harness.cli.dry_run import refused_for
    from harness.run.plan import make_plan
    from harness.run.sources import hub_inputs

    found = _Foreseen(cell)
    try:
        task = once.task.at(cell)
        found.plan, found.bench = make_plan(once.host, task, once.asked), make_bench(task, choices, True)
        refused = refused_for(found.plan, found.bench)
        found.problems += [] if refused is None else [str(refused)]
        found.inputs = hub_inputs(found.bench)
    except HarnessError as error:
        found.problems.append(str(error))
    return found


def _foresee(one: _Foreseen, fetch: bool) -> None:
    """Fill in what a cell would take; ``fetch``: what is needed for that may be fetched."""
    from harness.cli.dry_run import concept_count, estimate_of, plan_problems
    from harness.cli.spending import foresee

    if one.plan is None or one.bench is None:
        return
    try:
        one.problems += plan_problems(one.plan, one.bench, one.problems, fetch)
        n_concepts, exact, _ = concept_count(one.plan, one.bench)
        one.estimate = estimate_of(one.plan, one.bench, n_concepts, exact, fetch)
        if fetch and _priced(one.plan):
            one.costs = foresee(one.plan, one.bench, one.estimate.ratings, n_concepts)
    except HarnessError as error:
        one.problems += [str(error)] if str(error) not in one.problems else []


def _together(problems: Sequence[tuple[str, str]]) -> list[str]:
    """Return each problem once, with the cells that have it."""
    cells: dict[str, list[str]] = {}
    for problem, cell in problems:
        cells.setdefault(problem, []).append(cell)
    return [f"{problem} ({names[0]}{f' and {len(names) - 1} more cells' if len(names) > 1 else ''})" for problem, names in cells.items()]


def _sums(found: Sequence[_Foreseen]) -> dict[str, float | None]:
    estimates = [one.estimate for one in found if one.estimate is not None]
    names = ("generations", "prompt_tokens", "new_tokens", "ratings", "disk_bytes")
    total: dict[str, float | None] = {name: sum(getattr(estimate, name) for estimate in estimates) for name in names}
    seconds = [estimate.seconds for estimate in estimates if estimate.seconds is not None]
    total["seconds"] = sum(seconds) if len(seconds) == len(estimates) and estimates else None
    return total


def _figures(one: _Foreseen) -> Iterator[str]:
    if one.estimate is None:
        yield from (str(one.methods), "–", "–", "cannot run")
        return
    yield from (str(one.methods), f"{one.estimate.concepts:,}", f"{one.estimate.generations:,}")
    yield "unknown" if one.estimate.seconds is None else _hours(one.estimate.seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"
