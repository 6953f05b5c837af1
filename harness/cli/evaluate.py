"""``harness eval``: steering, detection and dictionaries, one command; scores them and writes the leaderboard entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import click

from harness.cli.common import (
    console,
    cost_options,
    echo,
    engine_option,
    executor_options,
    json_option,
    keep_entry,
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
from harness.cli.evaluate_options import EvalOptions, Wanted
from harness.cli.evaluation import Evaluation
from harness.cli.option_groups import grouped
from harness.cli.proposals import stored_runs
from harness.run.choices import Choices


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
@click.option("--dry-run", is_flag=True, help="Show what would be done, what it would cost, and what is left of a stored run.")
@out_option
@json_option
@quiet_option
@grouped(wanted=Wanted, choices=Choices, options=EvalOptions)
def command(wanted: Wanted, choices: Choices, options: EvalOptions) -> None:
    """Evaluate labelers, steerers, detectors and dictionaries on a task; with none named, what the task lists.

    The same command again goes on where it stopped. Results: a table for each kind, a few texts, and a JSON entry below --out. Of a task with a
    matrix every cell is a run of its own, and the result is one table of all.
    """
    once = _evaluation(wanted, options)
    seeds = options.several_seeds()
    if once.task.file.matrix or options.cells:
        _matrix(once, choices, options)
    elif options.dry_run:
        _show_plan(once, choices, seeds, options.as_json)
    elif seeds:
        _run_seeds(once, choices, seeds, options.as_json)
    else:
        show_entry(*once.run(choices), options.as_json, once.where)
        show_published(once.task.file.published, options.as_json)


def _evaluation(wanted: Wanted, options: EvalOptions) -> Evaluation:
    """Return what is evaluated, and where it is kept."""
    from harness.tasks.find import find_task, task_address

    task = find_task(options.host, options.task_name)
    asked = wanted.asked()
    where = task_address(options.host, options.task_name)
    return Evaluation(options.host, task, where, asked, options.out, options.fresh, options.silent, options.purse)


def _matrix(once: Evaluation, choices: Choices, options: EvalOptions) -> None:
    """Run the cells that are asked for, or show what that would take. Raises OptionError for what a matrix does not go with."""
    from harness.cli.matrix import check_overrides, run_matrix
    from harness.cli.matrix_dry_run import show_matrix_plan
    from harness.errors import OptionError
    from harness.tasks.matrix import chosen_cells

    cells = chosen_cells(once.task.name, once.task.file.cells, options.cells)
    check_overrides(once.task, once.asked, choices)
    if options.seeds is not None:
        hint = "run the matrix once for each --seed, or give one cell as the task"
        raise OptionError("--seeds is given for a task with a matrix", given=options.seeds, hint=hint)
    (show_matrix_plan if options.dry_run else run_matrix)(once, choices, cells, options.as_json)


def _show_plan(once: Evaluation, choices: Choices, seeds: Sequence[int], as_json: bool) -> None:
    """Show what would be done for a run, and for all of them together."""
    from harness.cli.dry_run import show_plan
    from harness.evaluations.begun import begun
    from harness.run.plan import make_plan

    each = [replace(choices, seed=seed) for seed in seeds] or [choices]
    benches, plan = [make_bench(once.task, own, once.quiet) for own in each], make_plan(once.host, once.task, once.asked)
    stored = [] if once.fresh else [begun(plan, bench, once.out) for bench in benches]
    show_plan(plan, benches[0], as_json, len(benches), stored)


def _run_seeds(once: Evaluation, choices: Choices, seeds: Sequence[int], as_json: bool) -> None:
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
