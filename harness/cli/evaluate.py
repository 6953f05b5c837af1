"""``harness eval``: steering, detection and dictionaries, one command; scores them and writes the leaderboard entry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import (
    assignments,
    choices_from,
    console,
    cost_options,
    json_option,
    judge_assignments,
    load_host,
    make_bench,
    out_option,
    plugin_option,
    print_json,
    quiet_option,
    show_entry,
    show_pending,
    task_options,
)

if TYPE_CHECKING:
    from harness.run.bench import TaskBench
    from harness.run.estimate import Estimate
    from harness.run.plan import Plan


@click.command("eval")
@click.option("--labeler", "labelers", multiple=True, help="A labeler, NAME[:option=value,…]; repeatable.")
@click.option("--steerer", "steerers", multiple=True, help="A steerer, NAME[:option=value,…]; repeatable: all share concepts and instructions.")
@click.option("--detector", "detectors", multiple=True, help="A detector, NAME[:option=value,…]; repeatable.")
@click.option("--metric", "metrics", multiple=True, help="A metric of the task's dictionaries, NAME[:option=value,…]; repeatable.")
@click.option("--judge", help="A judge, NAME[:option=value,…] (default: the task's).")
@plugin_option("-L", "labeler")
@plugin_option("-S", "steerer", "[steerer:]name=value")
@plugin_option("-D", "detector", "[detector:]name=value")
@plugin_option("-M", "metric", "[metric:]name=value")
@plugin_option("-J", "judge")
@task_options
@click.option("--controls/--no-controls", default=True, help="Run the task's controls beside what is asked for.")
@cost_options
@click.option("--fresh", is_flag=True, help="Compute anew what is stored already; the stored run is kept beside it.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and what it would cost.")
@out_option
@json_option
@quiet_option
def command(
    labelers: tuple[str, ...],
    steerers: tuple[str, ...],
    detectors: tuple[str, ...],
    metrics: tuple[str, ...],
    judge: str | None,
    labeler_options: tuple[str, ...],
    steerer_options: tuple[str, ...],
    detector_options: tuple[str, ...],
    metric_options: tuple[str, ...],
    judge_options: tuple[str, ...],
    task_name: str,
    corpus: str | None,
    text_field: str | None,
    label_field: str | None,
    label_separator: str | None,
    instructions: str | None,
    split: str | None,
    limit: int | None,
    seed: int,
    device: str | None,
    dtype: str | None,
    controls: bool,
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
    from harness.run.plan import Asked, make_plan
    from harness.tasks.find import find_task

    host = load_host()
    task = find_task(host, task_name)
    asked = Asked(
        labelers,
        steerers,
        judge,
        assignments(labeler_options, "-L"),
        assignments(steerer_options, "-S"),
        judge_assignments(judge_options, judge_mode),
        controls,
        detectors,
        metrics,
        assignments(detector_options, "-D"),
        assignments(metric_options, "-M"),
    )
    plan = make_plan(host, task, asked)
    bench = make_bench(task, choices_from(click.get_current_context().params), quiet or as_json)
    if dry_run:
        _show_plan(plan, bench, as_json)
        return
    from harness.cli.spending import Purse, foresee
    from harness.evaluations.evaluate import changed_code, evaluate, run_folder, set_aside, settle
    from harness.run.manifest import command_of
    from harness.run.run import Run

    where = task_name if task_name in host.tasks.entries else str(Path(task_name).expanduser().resolve())
    manifest = settle(plan, bench, command_of(where, bench, asked))
    purse = Purse(max_cost, yes, quiet or as_json)
    folder = run_folder(out, manifest)
    if fresh and (kept := set_aside(folder)) is not None:
        bench.progress.step(f"the stored run is kept in {kept}")
    if why := changed_code(folder, manifest):
        bench.progress.step(why)
    if not _generated(folder):  # else the judge's own estimate of what is left is exact, and asked about before anything is sent
        n_concepts, exact, _ = _concept_count(plan, bench)
        purse.approve_all(foresee(plan, bench, _estimate(plan, bench, n_concepts, exact).ratings, n_concepts))
    bench.progress.step(f"run {folder}")
    with Run.begin(folder, manifest, plan, bench, host, purse.approve) as run:
        entry = evaluate(run)
        show_pending(run.store, [record.key for record in run.judge_records.values()])
    show_entry(entry, out, folder, as_json)


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


def _show_plan(plan: Plan, bench: TaskBench, as_json: bool) -> None:
    from harness.cli.common import print_table

    table = bench.task.file
    title = f"task {table.name} (version {table.version}), model {table.model.name}"
    methods = [(m.name, m.role, m.strength_unit, " ".join(f"{s:g}" for s in m.grid)) for m in plan.methods]
    detections = [(d.name, d.role) for d in plan.detections]
    metrics = [(m.metric.label, m.dictionary) for m in plan.metrics]
    n_concepts, exact, why = _concept_count(plan, bench)
    cost, problems = _estimate(plan, bench, n_concepts, exact), _problems(plan, bench)
    if as_json:
        rows = [dict(zip(("method", "role", "strength_unit", "grid"), row, strict=True)) for row in methods]
        further = {
            "detections": [{"method": name, "role": role} for name, role in detections],
            "metrics": [{"metric": name, "dictionary": dictionary} for name, dictionary in metrics],
        }
        judge = None if plan.judge is None else plan.judge.label
        extra = {"notices": list(plan.notices), "problems": problems}
        print_json({"task": table.name, "judge": judge, "methods": rows, **further, "estimate": asdict(cost), "concepts": why, **extra})
        return
    if methods:
        print_table(title, ("method", "role", "strength", "grid"), methods)
    if detections:
        print_table(title if not methods else "", ("detector", "role"), detections)
    if metrics:
        print_table(title if not methods and not detections else "", ("metric", "dictionary"), metrics)
    for line in (*plan.notices, *(f"this would end the run: {problem}" for problem in problems)):
        console().print(line, highlight=False, markup=False)
    if methods:
        _show_cost(plan, bench, cost, why, n_concepts)


def _problems(plan: Plan, bench: TaskBench) -> list[str]:
    """What would end the run before it begins: what the hub cannot give; instructions that are missing, or too few."""
    from harness.errors import HarnessError
    from harness.run.sources import source_problems

    problems = source_problems(bench)
    try:
        _ = bench.instructions if plan.judge is not None else ()
    except HarnessError as error:
        problems += [str(error)] if str(error) not in problems else []
    return problems


def _show_cost(plan: Plan, bench: TaskBench, cost: Estimate, why: str, n_concepts: int) -> None:
    """What generating and rating will take."""
    from harness.cli.spending import foresee
    from harness.errors import HarnessError

    time = "unknown" if cost.seconds is None else f"about {cost.seconds / 60:.1f} min"
    most = "" if cost.exact else "at most "
    judge = "nobody" if plan.judge is None else plan.judge.label
    screen = console()
    screen.print(
        f"\n{most}{cost.concepts} concepts ({why}) × {bench.task.file.instructions.per_concept} instructions: {most}{cost.generations} "
        f"generations, {cost.new_tokens} new tokens, {cost.prompt_tokens} prompt tokens, {cost.ratings} ratings by {judge}, "
        f"{cost.disk_bytes / 1e6:.1f} MB on disk, {time} ({cost.note})",
        highlight=False,
        markup=False,
    )
    try:
        foreseen = foresee(plan, bench, cost.ratings, n_concepts)
    except HarnessError as error:  # no key yet: the rest of the plan is worth seeing all the same
        screen.print(f"cost not estimated: {error}", highlight=False, markup=False)
        return
    for who, bound in foreseen.items():
        screen.print(f"{who}: {bound}", highlight=False, markup=False)


def _concept_count(plan: Plan, bench: TaskBench) -> tuple[int, bool, str]:
    """Return how many labelings a method has: exact where the task lists its concepts, else at most what the labeler may choose."""
    if bench.concept_mode == "fixed":
        return len(bench.list_concepts()), True, f"split {bench.split_name or 'all'}"
    chosen = [[most for name in ("top_k", "count") if isinstance(most := labeler.options.get(name), int)] for labeler in plan.labelers]
    most = max((number for numbers in chosen for number in numbers), default=1)
    if all(chosen):
        return min(most, bench.choices.limit or most), False, "chosen by the labeler"
    if bench.choices.limit is not None:
        return bench.choices.limit, False, "chosen by the labeler, as many as --limit allows"
    return most, False, "chosen by a labeler that does not say how many; more of them cost more"


def _estimate(plan: Plan, bench: TaskBench, n_concepts: int, exact: bool) -> Estimate:
    from harness.errors import HarnessError
    from harness.model.devices import choose_device
    from harness.run.estimate import PROMPT_TOKENS, device_flops, estimate
    from harness.run.throughput import recall

    device = choose_device(bench.choices.device)
    measured = recall(bench.artifacts.root, bench.task.file.model.name, device.type)
    try:
        words = [len(instruction.text.split()) for instruction in bench.instructions]
        prompt = round(1.4 * sum(words) / len(words)) + PROMPT_TOKENS // 2  # a third more tokens than words, and the chat template's own
    except HarnessError:
        prompt = PROMPT_TOKENS
    return estimate(plan, bench.task, n_concepts, exact, flops=device_flops(bench.choices.device), measured=measured, prompt=prompt)
