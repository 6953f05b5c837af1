"""``harness eval``: steering, detection and dictionaries, one command; scores them and writes the leaderboard entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import (
    assignments,
    choices_from,
    console,
    cost_options,
    echo,
    engine_option,
    executor_options,
    json_option,
    judge_assignments,
    keep_entry,
    load_host,
    make_bench,
    out_option,
    plugin_files_option,
    plugin_option,
    print_json,
    protocol_options,
    quiet_option,
    show_entry,
    show_published,
    task_options,
)
from harness.cli.evaluation import Evaluation
from harness.cli.proposals import stored_runs

if TYPE_CHECKING:
    from harness.run.bench import Choices


@click.command("eval")
@click.option("--labeler", "labelers", multiple=True, help="A labeler, NAME[:option=value,…], e.g. calibf1 (calibrated F1); repeatable.")
@click.option("--steerer", "steerers", multiple=True, help="A steerer, NAME[:option=value,…], or several joined by +; repeatable.")
@click.option("--detector", "detectors", multiple=True, help="A detector, NAME[:option=value,…]; repeatable.")
@click.option("--metric", "metrics", multiple=True, help="A metric of the task's dictionaries, NAME[:option=value,…]; repeatable.")
@click.option(
    "--strengths",
    multiple=True,
    metavar="[STEERER=]0.1,0.2",
    help="Strengths to try in place of the task's, for all steerers that have a strength or for the one named; repeatable.",
)
@click.option("--suppress", is_flag=True, help="Methods work against concepts that a prompt asks for: strengths × -1, 2 - concept rating.")
@click.option("--side-effects", is_flag=True, help="Also measure KL, perplexity and accuracy at the strengths chosen; a stored run keeps its texts.")
@click.option("--seeds", metavar="0,1,2", help="Run each of these seeds as a run of its own, then show them pooled, with the spread between seeds.")
@click.option(
    "--cell",
    "cells",
    multiple=True,
    metavar="AXIS=VALUE,…",
    help="Of a task with a matrix only these cells, with all values of the axes that are not named; repeatable.",
)
@click.option("--judge", help="A judge, NAME[:option=value,…] (default: the task's).")
@plugin_option("-L", "labeler")
@plugin_option("-S", "steerer", "[steerer:]name=value")
@plugin_option("-D", "detector", "[detector:]name=value")
@plugin_option("-M", "metric", "[metric:]name=value")
@plugin_option("-J", "judge")
@plugin_files_option
@task_options
@engine_option
@executor_options
@protocol_options
@click.option(
    "--controls",
    type=click.Choice(["task", "full", "none"]),
    is_flag=False,
    flag_value="task",
    default="task",
    show_default=True,
    help="Controls beside what is asked for: the task's; full: also random and other concepts' features for each steerer, and a random direction.",
)
@click.option("--no-controls", is_flag=True, help="The same as --controls none.")
@cost_options
@click.option("--fresh", is_flag=True, help="Make the run anew, with what the cache holds (fits, statistics); the stored run is kept beside it.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and what it would cost.")
@out_option
@json_option
@quiet_option
def command(
    labelers: tuple[str, ...],
    steerers: tuple[str, ...],
    detectors: tuple[str, ...],
    metrics: tuple[str, ...],
    strengths: tuple[str, ...],
    suppress: bool,
    side_effects: bool,
    seeds: str | None,
    cells: tuple[str, ...],
    judge: str | None,
    labeler_options: tuple[str, ...],
    steerer_options: tuple[str, ...],
    detector_options: tuple[str, ...],
    metric_options: tuple[str, ...],
    judge_options: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    task_name: str,
    corpus: str | None,
    text_field: str | None,
    label_field: str | None,
    label_separator: str | None,
    instruction_field: str | None,
    genre_field: str | None,
    part_field: str | None,
    instructions: str | None,
    split: str | None,
    limit: int | None,
    concepts: tuple[str, ...],
    seed: int,
    device: str | None,
    dtype: str | None,
    engine: str | None,
    executor: str | None,
    workers: str | None,
    ray_address: str | None,
    protocol: str | None,
    aggregation: str | None,
    controls: str,
    no_controls: bool,
    judge_mode: str | None,
    max_cost: float,
    yes: bool,
    fresh: bool,
    dry_run: bool,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Evaluate labelers, steerers, detectors and dictionaries on a task; with none named, what the task lists.

    The same command again goes on where it stopped. Results: a table for each kind, a few texts, and a JSON entry below --out. Of a task with a
    matrix every cell is a run of its own, and the result is one table of all.
    """
    from harness.cli.spending import Purse
    from harness.engine.spreading.choice import check_executor
    from harness.errors import OptionError
    from harness.run.plan import Asked, make_plan
    from harness.run.strengths import parse_strengths
    from harness.tasks.find import find_task, task_address

    if no_controls and controls == "full":
        raise OptionError("--controls full and --no-controls are given", given=controls, hint="leave one of the two out")
    host = load_host(plugin_files)
    task = find_task(host, task_name)
    asked = Asked(
        labelers,
        steerers,
        judge,
        assignments(labeler_options, "-L"),
        assignments(steerer_options, "-S"),
        judge_assignments(judge_options, judge_mode),
        controls != "none" and not no_controls,
        detectors,
        metrics,
        assignments(detector_options, "-D"),
        assignments(metric_options, "-M"),
        strengths=parse_strengths(strengths),
        full_controls=controls == "full",
        suppress=suppress,
        side_effects=side_effects,
    )
    choices = choices_from(click.get_current_context().params)
    check_executor(choices.spread)
    wanted = _seeds(seeds)
    once = Evaluation(host, task, task_address(host, task_name), asked, out, fresh, quiet or as_json, Purse(max_cost, yes, quiet or as_json))
    if task.file.matrix or cells:
        from harness.cli.matrix import check_overrides, run_matrix, show_matrix_plan
        from harness.tasks.matrix import chosen_cells

        chosen = chosen_cells(task.name, task.file.cells, cells)
        check_overrides(task, asked, choices)
        if wanted:
            hint = "run the matrix once for each --seed, or give one cell as the task"
            raise OptionError("--seeds is given for a task with a matrix", given=seeds, hint=hint)
        (show_matrix_plan if dry_run else run_matrix)(once, choices, chosen, as_json)
        return
    if dry_run:
        from harness.cli.dry_run import show_plan

        bench = make_bench(task, replace(choices, seed=wanted[0]) if wanted else choices, quiet or as_json)
        show_plan(make_plan(host, task, asked), bench, as_json, len(wanted) or 1)
        return
    if not wanted:
        show_entry(*once.run(choices), as_json, once.where)
        show_published(task.file.published, as_json)
        return
    _run_seeds(once, choices, wanted, as_json)


def _seeds(text: str | None) -> list[int]:
    """The seeds of ``--seeds``; none where it is not given. Raises OptionError for anything but several whole numbers, and beside --seed."""
    from harness.errors import OptionError

    if text is None:
        return []
    form = "two or more whole numbers, each once, e.g. 0,1,2"
    if click.get_current_context().get_parameter_source("seed") is not click.core.ParameterSource.DEFAULT:
        raise OptionError("--seed and --seeds are given", given=text, hint="leave one of the two out")
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"--seeds was given {text!r}", given=text, allowed=form) from None
    if len(found) < 2 or len(set(found)) < len(found):
        raise OptionError(f"--seeds was given {text!r}", given=text, allowed=form)
    return found


def _run_seeds(once: Evaluation, choices: Choices, seeds: list[int], as_json: bool) -> None:
    """Run each seed as a run of its own, then show them pooled."""
    import gc

    from harness.leaderboard.pooled import pool_seeds, render_pooled

    entries, places = [], []
    for place, seed in enumerate(seeds):
        if not once.quiet:
            echo(f"seed {seed} ({place + 1} of {len(seeds)})", err=True)
        entry, out, folder = once.run(replace(choices, seed=seed), len(seeds) - place)
        entries.append(entry)
        places.append((seed, keep_entry(entry, out), folder))
        gc.collect()  # the model of this seed goes before that of the next one comes: bench and plugins refer to each other
    pooled = pool_seeds(entries)
    if as_json:
        print_json(pooled.as_json())
        return
    console().print(render_pooled(pooled, stored_runs(once.out, once.where)), crop=False)
    for seed, path, folder in places:
        echo(f"seed {seed}: entry {path}, run {folder}")
