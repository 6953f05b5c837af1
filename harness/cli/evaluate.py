"""``harness eval``: steering, detection and dictionaries, one command; scores them and writes the leaderboard entry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import (
    assignments,
    choices_from,
    console,
    cost_options,
    echo,
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
    show_pending,
    task_options,
)
from harness.cli.proposals import stored_runs

if TYPE_CHECKING:
    from harness.cli.spending import Purse
    from harness.leaderboard.entry import Entry
    from harness.plugin.host import PluginHost
    from harness.run.bench import Choices
    from harness.run.plan import Asked
    from harness.tasks.schema import Task


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
@click.option("--seeds", metavar="0,1,2", help="Run each of these seeds as a run of its own, then show them pooled, with the spread between seeds.")
@click.option("--judge", help="A judge, NAME[:option=value,…] (default: the task's).")
@plugin_option("-L", "labeler")
@plugin_option("-S", "steerer", "[steerer:]name=value")
@plugin_option("-D", "detector", "[detector:]name=value")
@plugin_option("-M", "metric", "[metric:]name=value")
@plugin_option("-J", "judge")
@plugin_files_option
@task_options
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
    seeds: str | None,
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

    The same command again goes on where it stopped. Results: a table for each kind, a few texts, and a JSON entry below --out.
    """
    from harness.errors import OptionError
    from harness.run.plan import Asked, make_plan
    from harness.run.strengths import parse_strengths
    from harness.tasks.find import find_task

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
    )
    choices = choices_from(click.get_current_context().params)
    wanted = _seeds(seeds)
    if dry_run:
        from harness.cli.dry_run import show_plan

        bench = make_bench(task, replace(choices, seed=wanted[0]) if wanted else choices, quiet or as_json)
        show_plan(make_plan(host, task, asked), bench, as_json, len(wanted) or 1)
        return
    from harness.cli.spending import Purse

    where = task_name if task_name in host.tasks.entries else str(Path(task_name).expanduser().resolve())
    once = _Evaluation(host, task, where, asked, out, fresh, quiet or as_json, Purse(max_cost, yes, quiet or as_json))
    if not wanted:
        show_entry(*once.run(choices), as_json, where)
        return
    _run_seeds(once, choices, wanted, as_json)


@dataclass(frozen=True)
class _Evaluation:
    """What is evaluated, and where it is kept; run once for each seed."""

    host: PluginHost
    task: Task
    where: str
    asked: Asked
    out: Path
    fresh: bool
    quiet: bool
    purse: Purse

    def run(self, choices: Choices, left: int = 1) -> tuple[Entry, Path, Path]:
        """Do one run, or go on with it. Returns its entry, ``out`` and the run's folder.

        Args:
            choices: what is replaced in the task.
            left: so many runs alike are still to be done, this one among them: what they all may cost is asked about at once.
        """
        from harness.cli.dry_run import concept_count, estimate_of
        from harness.cli.spending import foresee
        from harness.evaluations.evaluate import changed_code, evaluate, run_folder, set_aside, settle
        from harness.evaluations.steering.retired import check_judge_answers
        from harness.run.manifest import command_of
        from harness.run.plan import make_plan
        from harness.run.run import Run

        plan = make_plan(self.host, self.task, self.asked)
        bench = make_bench(self.task, choices, self.quiet)
        manifest = settle(plan, bench, command_of(self.where, bench, self.asked, self.host.files))
        folder = run_folder(self.out, manifest)
        check_judge_answers(plan, folder, self.fresh)
        if why := changed_code(folder, manifest):
            bench.progress.step(why)
        if self.fresh or not _generated(folder):  # else the judge's own estimate of what is left is exact, and asked about before anything is sent
            n_concepts, exact, _ = concept_count(plan, bench)
            foreseen = foresee(plan, bench, estimate_of(plan, bench, n_concepts, exact).ratings, n_concepts)
            self.purse.approve_all({who: estimate.times(left) for who, estimate in foreseen.items()}, self.purse.given)
        if self.fresh and (kept := set_aside(folder)) is not None:  # not before the cost is approved
            bench.progress.step(f"the stored run is kept in {kept}")
        bench.progress.step(f"run {folder}")
        with Run.begin(folder, manifest, plan, bench, self.host, self.purse.approve) as run:
            entry = evaluate(run)
            show_pending(run.store, [record.key for record in run.judge_records.values()])
        return entry, self.out, folder


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


def _run_seeds(once: _Evaluation, choices: Choices, seeds: list[int], as_json: bool) -> None:
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


def _generated(folder: Path) -> bool:
    """Return whether a run has all its texts already."""
    from harness.errors import StoreError
    from harness.store import RunStore

    if not folder.is_dir():
        return False
    try:
        with RunStore.open(folder, read_only=True, check=False) as store:
            counts = store.counts()
            return counts["trials"] > 0 and counts["generations"] == counts["trials"]
    except StoreError:  # stopped before it began, or damaged: whoever opens it to write mends it, or says what is wrong
        return False
