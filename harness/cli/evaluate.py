"""``harness eval``: label, steer, generate, judge, score; write the leaderboard entry."""

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
    show_pending,
    task_options,
)

if TYPE_CHECKING:
    from harness.run.bench import TaskBench
    from harness.run.estimate import Estimate
    from harness.run.plan import Asked, Plan


@click.command("eval")
@click.option("--labeler", "labelers", multiple=True, help="A labeler; repeatable.")
@click.option("--steerer", "steerers", multiple=True, required=True, help="A steerer; repeatable: all share concepts and instructions.")
@click.option("--judge", help="A judge (default: the task's).")
@plugin_option("-L", "labeler")
@plugin_option("-S", "steerer", "[steerer:]name=value")
@plugin_option("-J", "judge")
@task_options
@click.option("--controls/--no-controls", default=True, help="Run the task's controls beside what is asked for.")
@cost_options
@click.option("--dry-run", is_flag=True, help="Show what would be done, and what it would cost.")
@out_option
@json_option
@quiet_option
def command(
    labelers: tuple[str, ...],
    steerers: tuple[str, ...],
    judge: str | None,
    labeler_options: tuple[str, ...],
    steerer_options: tuple[str, ...],
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
    dry_run: bool,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Evaluate labelers and steerers on a task.

    The same command again goes on where it stopped. Results: a table, a few texts, and a JSON entry below --out.
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
    )
    plan = make_plan(host, task, asked)
    bench = make_bench(task, choices_from(click.get_current_context().params), quiet or as_json)
    if dry_run:
        _show_plan(plan, bench, as_json)
        return
    from harness.cli.spending import Purse, foresee
    from harness.evaluations.steering.run import evaluate, run_folder, run_id
    from harness.leaderboard.files import save_entry
    from harness.run.plan import plan_json
    from harness.store import RunStore

    purse = Purse(max_cost, yes, quiet or as_json)
    n_concepts, exact, _ = _concept_count(plan, bench)
    folder = run_folder(out, run_id(plan, bench))
    if not _generated(folder):  # else the judge's own estimate of what is left is exact, and asked about before anything is sent
        purse.approve_all(foresee(plan, bench, _estimate(plan, bench, n_concepts, exact).ratings, n_concepts))
    bench.progress.step(f"run {folder}")
    with RunStore.create_or_open(folder, plan_json(plan, bench)) as store:
        if not store.notes("asked"):
            where = task_name if task_name in host.tasks.entries else _absolute(task_name)
            choices = {**asdict(bench.choices), "corpus": _absolute(corpus), "instructions": _absolute(instructions)}
            store.note("asked", {"task": where, "choices": choices, "asked": _plain(asked)})
        entry = evaluate(plan, bench, host, store, purse.approve)
        show_pending(store, [entry.judge.key])
    path = save_entry(entry, out / "leaderboard" / "entries" / entry.file_name)
    if as_json:
        print_json(entry.as_json())
        return
    from harness.leaderboard.table import render_entry

    screen = console()
    screen.print(render_entry(entry))
    screen.print(f"entry: {path}\nrun:   {folder}", highlight=False, markup=False, soft_wrap=True)


def _generated(folder: Path) -> bool:
    """Whether a run has all its texts already."""
    from harness.errors import StoreError
    from harness.store import RunStore

    if not folder.is_dir():
        return False
    try:
        with RunStore.open(folder, read_only=True) as store:
            return bool(store.trials()) and not store.missing_trials()
    except StoreError:  # stopped before it began, or damaged: whoever opens it to write mends it, or says what is wrong
        return False


def _absolute(path: str | None) -> str | None:
    """A path that holds from any folder, for whoever rates the run again; the name of a dataset (hf:…) as it is."""
    return path if path is None or path.startswith("hf:") else str(Path(path).expanduser().resolve())


def _plain(asked: Asked) -> dict[str, object]:
    values = asdict(asked)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _show_plan(plan: Plan, bench: TaskBench, as_json: bool) -> None:
    from harness.cli.common import print_table
    from harness.cli.spending import foresee
    from harness.errors import HarnessError

    table = bench.task.file
    n_concepts, exact, why = _concept_count(plan, bench)
    cost = _estimate(plan, bench, n_concepts, exact)
    methods = [(m.method.name, m.role, m.strength_unit, " ".join(f"{s:g}" for s in m.grid)) for m in plan.methods]
    if as_json:
        rows = [dict(zip(("method", "role", "strength_unit", "grid"), row, strict=True)) for row in methods]
        print_json({"task": table.name, "judge": plan.judge.registered.name, "methods": rows, "estimate": asdict(cost), "concepts": why})
        return
    print_table(f"task {table.name} (version {table.version}), model {table.model.name}", ("method", "role", "strength", "grid"), methods)
    time = "unknown" if cost.seconds is None else f"about {cost.seconds / 60:.1f} min"
    most = "" if exact else "at most "
    screen = console()
    screen.print(
        f"\n{most}{cost.concepts} concepts ({why}) × {table.instructions.per_concept} instructions: {most}{cost.generations} generations, "
        f"{cost.new_tokens} new tokens, {cost.prompt_tokens} prompt tokens, {cost.ratings} ratings by {plan.judge.registered.name}, "
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
    """How many labelings a method has: exact where the task lists its concepts, else at most what the labeler may choose."""
    if bench.concept_mode == "fixed":
        return len(bench.list_concepts()), True, f"split {bench.split or 'all'}"
    tops = [int(labeler.options[name]) for labeler in plan.labelers for name in ("top_k", "count") if name in labeler.options]
    most = max(tops, default=1)
    return min(most, bench.choices.limit or most), False, "chosen by the labeler"


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
