"""``harness eval --dry-run``: what would be done, what would end it, and what it would take."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from harness.cli.common import console, print_json, print_table
from harness.cli.dry_run_dictionaries import dictionary_json, dictionary_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness.errors import HarnessError
    from harness.evaluations.begun import Begun
    from harness.evaluations.dictionary.foresee import Foreseen
    from harness.run.bench import TaskBench
    from harness.run.estimate import Estimate
    from harness.run.plan import Plan


def show_plan(plan: Plan, bench: TaskBench, as_json: bool, n_seeds: int = 1, stored: Sequence[Begun | None] = ()) -> None:
    """Print the plan of a run: methods, detectors, metrics, what would end it, texts, time and cost.

    Args:
        plan, bench: of the run.
        as_json: print JSON.
        n_seeds: of so many runs alike.
        stored: what there is already of each of these.

    Raises:
        HarnessError: what a run would be refused for before it computes, after the plan is shown.
    """
    refused = refused_for(plan, bench)
    table = bench.task.file
    title = f"task {table.name} (version {table.version}), model {bench.task.subject}" + (", suppression" if plan.goal == "suppress" else "")
    methods = [(m.name, m.role, m.strength_unit, " ".join(f"{s:g}" for s in m.grid)) for m in plan.methods]
    detections = [(d.name, d.role) for d in plan.detections]
    metrics = [(m.metric.label, m.dictionary) for m in plan.metrics]
    n_concepts, exact, why = concept_count(plan, bench)
    cost = estimate_of(plan, bench, n_concepts, exact)
    problems = _problems(plan, bench, [] if refused is None else [str(refused)])
    trained = foreseen_dictionaries(plan, bench, problems)
    if as_json:
        rows = [dict(zip(("method", "role", "strength_unit", "grid"), row, strict=True)) for row in methods]
        further = {
            "detections": [{"method": name, "role": role} for name, role in detections],
            "metrics": [{"metric": name, "dictionary": dictionary} for name, dictionary in metrics],
        }
        judge = None if plan.judge is None else plan.judge.label
        extra = {"goal": plan.goal, "notices": list(plan.notices), "problems": problems, "runs": n_seeds}
        taken = {"estimate": asdict(cost), "trainings_and_measurements": dictionary_json(trained)}
        kept = [{**asdict(one), "folder": str(one.folder)} for one in stored if one is not None]
        print_json({"task": table.name, "judge": judge, "methods": rows, **further, **taken, "concepts": why, **extra, "stored": kept})
        if refused is not None:
            raise refused
        return
    if methods:
        print_table(title, ("method", "role", "strength", "grid"), methods)
    if detections:
        print_table(title if not methods else "", ("detector", "role"), detections)
    if metrics:
        print_table(title if not methods and not detections else "", ("metric", "dictionary"), metrics)
    if n_seeds > 1:
        console().print(f"{n_seeds} runs, one for each seed; the figures are of one of them", highlight=False, markup=False)
    for line in (*plan.notices, *(f"this would end the run: {problem}" for problem in problems)):
        console().print(line, highlight=False, markup=False)
    if trained is not None:
        for line in ("", *dictionary_lines(trained)):
            console().print(line, highlight=False, markup=False)
    if methods:
        _show_cost(plan, bench, cost, why, n_concepts)
    elif plan.metrics:
        _show_spending(plan, bench, cost, n_concepts)
    for line in stored_lines(stored):
        console().print(line, highlight=False, markup=False)
    if refused is not None:
        raise refused


def stored_lines(stored: Sequence[Begun | None]) -> list[str]:
    """Return a line for each run that there is something of already."""
    there = [str(one) for one in stored if one is not None]
    return ["", "the figures are those of a whole run, from the beginning; of what is stored nothing is made again", *there] if there else []


def foreseen_dictionaries(plan: Plan, bench: TaskBench, problems: list[str]) -> Foreseen | None:
    """Return what trainings and measurements take; what lies in the way of saying so is added to ``problems``."""
    from harness.errors import HarnessError
    from harness.evaluations.dictionary.foresee import foresee_dictionaries

    try:
        return foresee_dictionaries(plan, bench)
    except HarnessError as error:
        problems += [str(error)] if str(error) not in problems else []
        return None


def refused_for(plan: Plan, bench: TaskBench) -> HarnessError | None:
    """Return what a run would be refused for before it computes."""
    from harness.errors import HarnessError
    from harness.run.preflight import check_values

    try:
        check_values(plan, bench)
    except HarnessError as error:
        return error
    return None


def _problems(plan: Plan, bench: TaskBench, known: list[str]) -> list[str]:
    """What would end the run before it begins: what is known already, what the hub cannot give, a corpus that a labeler lacks."""
    from harness.run.sources import source_problems

    problems = [*known, *source_problems(bench)]
    return problems + plan_problems(plan, bench, problems)


def plan_problems(plan: Plan, bench: TaskBench, known: list[str], instructions: bool = True) -> list[str]:
    """What would end the run before it begins, whatever the hub has: a judge that is gone, no instructions, no corpus.

    Args:
        plan, bench: of the run.
        known: problems that are not named again.
        instructions: look at the instructions, which may have to be fetched.
    """
    from harness.errors import HarnessError
    from harness.run.retiring import judge_is_gone

    problems: list[str] = []
    if plan.judge is not None and (gone := judge_is_gone(plan.judge)) is not None:
        problems.append(f"{gone} (unless the run has all its texts, and the cache all replies)")
    try:
        _ = bench.instructions if plan.judge is not None and instructions else ()
    except HarnessError as error:
        problems += [str(error)] if str(error) not in known else []
    readers = [labeler.label for labeler in plan.labelers if labeler.instance.traits.needs_corpus]
    if readers and not bench.has_corpus:
        problems.append(f"labeler {readers[0]} reads a corpus, and task {bench.task.name} ships none; give one with --corpus")
    return problems


def _show_cost(plan: Plan, bench: TaskBench, cost: Estimate, why: str, n_concepts: int) -> None:
    """What generating and rating will take."""
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
    if cost.rating_seconds is not None and plan.judge is not None:
        from harness.evaluations.steering.meanwhile import rates_meanwhile

        when = "while texts are generated" if rates_meanwhile(plan.judge) else "after generation"
        line = f"rating takes about {cost.rating_seconds / 60:.1f} min, {when}, at the judge's pace of the last time"
        screen.print(line, highlight=False, markup=False)
    _show_spending(plan, bench, cost, n_concepts)


def _show_spending(plan: Plan, bench: TaskBench, cost: Estimate, n_concepts: int) -> None:
    """What plugins that ask an API may cost."""
    from harness.cli.spending import foresee
    from harness.errors import HarnessError

    screen = console()
    try:
        foreseen = foresee(plan, bench, cost.ratings, n_concepts)
    except HarnessError as error:  # no key yet: the rest of the plan is worth seeing all the same
        screen.print(f"cost not estimated: {error}", highlight=False, markup=False)
        return
    for who, bound in foreseen.items():
        screen.print(f"{who}: {bound}", highlight=False, markup=False)


def concept_count(plan: Plan, bench: TaskBench) -> tuple[int, bool, str]:
    """Return how many labelings a method has: exact where the task lists its concepts, else at most what the labeler may choose."""
    from harness.errors import HarnessError

    if bench.concept_mode == "fixed":
        try:
            return len(bench.list_concepts()), True, f"split {bench.split_name or 'all'}"
        except HarnessError as error:  # a list on the hub that cannot be had; any other is refused before
            return bench.choices.limit or 1, False, str(error)
    choosing = [labeler for labeler in plan.labelers if labeler.follows is None]  # a control that follows answers what another chose
    chosen = [[most for name in ("top_k", "count") if isinstance(most := labeler.options.get(name), int)] for labeler in choosing]
    most = max((number for numbers in chosen for number in numbers), default=1)
    if all(chosen):
        return min(most, bench.choices.limit or most), False, "chosen by the labeler"
    if bench.choices.limit is not None:
        return bench.choices.limit, False, "chosen by the labeler, as many as --limit allows"
    return most, False, "chosen by a labeler that does not say how many; more of them cost more"


def estimate_of(plan: Plan, bench: TaskBench, n_concepts: int, exact: bool, instructions: bool = True) -> Estimate:
    """Return what a run would take; the length of prompts is that of the instructions where these may be looked at."""
    from harness.errors import HarnessError
    from harness.model.devices import choose_device
    from harness.run.estimate import PROMPT_TOKENS, device_flops, estimate
    from harness.run.throughput import recall, recall_ratings

    device = choose_device(bench.choices.device)
    measured = recall(bench.artifacts.root, bench.task.subject, device.type)
    try:
        words = [len(instruction.text.split()) for instruction in bench.instructions] if instructions else [PROMPT_TOKENS // 3]
        prompt = round(1.4 * sum(words) / len(words)) + PROMPT_TOKENS // 2  # a third more tokens than words, and the chat template's own
    except HarnessError:
        prompt = PROMPT_TOKENS
    judged = None if plan.judge is None else recall_ratings(plan.judge.label)
    return estimate(
        plan, bench.task, n_concepts, exact, flops=device_flops(bench.choices.device), measured=measured, prompt=prompt, judged=judged
    )
