"""``harness eval --dry-run`` of a task with a matrix: what each cell would take, their sum, and what would end them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from harness.cli.common import echo, make_bench, print_json, print_table
from harness.cli.dry_run_dictionaries import dictionary_json, dictionary_lines, duration
from harness.cli.evaluation import Evaluation
from harness.cli.matrix import added, is_priced
from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.chat.cost import Estimate as Cost
    from harness.evaluations.begun import Begun
    from harness.evaluations.dictionary.foresee import Foreseen as Dictionaries
    from harness.run.bench import Choices, TaskBench
    from harness.run.estimate import Estimate
    from harness.run.plan import Plan
    from harness.run.sources import HubInput
    from harness.tasks.matrix import Cell

_SHOWN = 40


@dataclass
class _Foreseen:
    """What one cell would take.

    Attributes:
        cell: which.
        plan, bench: of its run; None where there can be none.
        estimate: None where nothing can be said.
        trained: of trainings and measurements; None where there are none, or nothing can be said.
        costs: by who spends it.
        problems: what would end the run.
        inputs: what lies on the hub.
        stored: what there is already of its run.
    """

    cell: Cell
    plan: Plan | None = None
    bench: TaskBench | None = None
    estimate: Estimate | None = None
    trained: Dictionaries | None = None
    costs: dict[str, Cost] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    inputs: list[HubInput] = field(default_factory=list)
    stored: Begun | None = None

    @property
    def methods(self) -> int:
        """Return how many methods, detectors and metrics are run."""
        return 0 if self.plan is None else len(self.plan.methods) + len(self.plan.detections) + len(self.plan.metrics)

    @property
    def seconds(self) -> float | None:
        """Return the time of generation, trainings and measurements together; None where a part is not known."""
        if self.estimate is None:
            return None
        generating = self.estimate.seconds if self.estimate.generations else 0.0
        if self.trained is None:
            return generating if self.estimate.generations else None
        return None if generating is None or self.trained.seconds is None else generating + self.trained.seconds

    @property
    def note(self) -> str:
        """Return what the time goes by, or why it is not known."""
        if self.estimate is None:
            return ""
        if self.trained is None:
            return self.estimate.note
        unknown = ", ".join(self.trained.unknown)
        return f"not done on this machine yet: {unknown}" if unknown else "trainings and measurements at this machine's earlier pace"


def show_matrix_plan(once: Evaluation, choices: Choices, cells: Sequence[Cell], as_json: bool) -> None:
    """Print the cells with what each would take, their sum, and what would end them."""
    from harness.run.sources import input_problems

    found = [_planned(once, choices, cell) for cell in cells]
    inputs = {(item.what, item.source, item.where.revision): item for one in found for item in one.inputs}
    problems = input_problems(inputs.values())  # each is asked about once, however many cells have it
    for one in found:
        _foresee(one, fetch=not problems)
        one.stored = _stored(once, one)
    problems += _together([(problem, one.cell.name) for one in found for problem in one.problems if problem not in problems])
    total = _sums(found)
    costs: dict[str, Cost] = {}
    for one in found:
        costs = added(costs, one.costs)
    if as_json:
        rows = [
            {
                "cell": dict(one.cell.values), "methods": one.methods, "estimate": one.estimate and asdict(one.estimate),
                "trainings_and_measurements": dictionary_json(one.trained), "seconds": one.seconds, "problems": one.problems,
                "stored": None if one.stored is None else {**asdict(one.stored), "folder": str(one.stored.folder)},
            }
            for one in found
        ]  # fmt: skip
        prices = {who: str(cost) for who, cost in costs.items()}
        print_json({"task": once.task.name, "cells": rows, "of": cells[0].of, "total": total, "costs": prices, "problems": problems})
        return
    axes = [axis for axis, _ in cells[0].values]
    table = [(*(value for _, value in one.cell.values), *_figures(one)) for one in found[:_SHOWN]]
    title = f"task {once.task.name} (version {once.task.file.version}): {len(cells)} of {cells[0].of} cells, each a run of its own"
    print_table(title, (*axes, "methods", "concepts", "texts", "time"), table)
    if len(found) > _SHOWN:
        echo(f"… and {len(found) - _SHOWN} more cells; --json has all")
    seconds, note = total["seconds"], next((one.note for one in found if one.note), "nothing can be estimated")
    time = "time unknown" if seconds is None else f"about {duration(seconds)}"
    echo(
        f"\nall cells together, at most: {total['generations']:,} generations, {total['new_tokens']:,} new tokens, {total['ratings']:,} ratings, "
        f"{(total['disk_bytes'] or 0) / 1e6:,.1f} MB on disk, {time} ({note})"
    )
    _show_dictionaries(found)
    for who, cost in costs.items():
        echo(f"{who}: {cost}")
    _show_stored(found)
    for line in problems:
        echo(f"this would end the run: {line}")


def _show_dictionaries(found: Sequence[_Foreseen]) -> None:
    """Print what trainings and measurements take, once for all cells that are alike in that."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        if one.trained is not None:
            alike.setdefault(tuple(dictionary_lines(one.trained)), []).append(one.cell.name)
    for lines, cells in alike.items():
        echo("\neach cell:" if len(cells) == len(found) else f"\n{', '.join(cells)}:")
        for line in lines:
            echo(f"  {line}")


def _show_stored(found: Sequence[_Foreseen]) -> None:
    """Print how many cells are done, and what is left of those that were begun."""
    there = [one for one in found if one.stored is not None]
    if not there:
        return
    done = sum(not one.stored.left for one in there if one.stored is not None)
    echo(f"\nstored are {len(there)} of these {len(found)} cells, {done} of them finished; the figures are those of whole runs, from the beginning")
    for one in there:
        if one.stored is not None and one.stored.left:
            echo(f"  {one.cell.name}: {one.stored}")


def _stored(once: Evaluation, one: _Foreseen) -> Begun | None:
    from harness.evaluations.begun import begun

    return None if once.fresh or one.plan is None or one.bench is None else begun(one.plan, one.bench, once.out)


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
    from harness.cli.dry_run import concept_count, estimate_of, foreseen_dictionaries, plan_problems
    from harness.cli.spending import foresee

    if one.plan is None or one.bench is None:
        return
    try:
        one.problems += plan_problems(one.plan, one.bench, one.problems, fetch)
        n_concepts, exact, _ = concept_count(one.plan, one.bench)
        one.estimate = estimate_of(one.plan, one.bench, n_concepts, exact, fetch)
        one.trained = foreseen_dictionaries(one.plan, one.bench, one.problems)
        if fetch and is_priced(one.plan):
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
    seconds = [one.seconds for one in found if one.seconds is not None]
    total["seconds"] = sum(seconds) if len(seconds) == len(estimates) and estimates else None
    return total


def _figures(one: _Foreseen) -> Iterator[str]:
    if one.estimate is None:
        yield from (str(one.methods), "–", "–", "cannot run")
        return
    yield from (str(one.methods), f"{one.estimate.concepts:,}", f"{one.estimate.generations:,}")
    yield "unknown" if one.seconds is None else duration(one.seconds)
