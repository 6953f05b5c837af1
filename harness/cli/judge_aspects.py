"""``harness judge aspects JUDGE``: does a judge's concept rating see the concept, or what comes with it?"""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import (
    assignments,
    echo,
    json_option,
    load_host,
    make_bench,
    plugin_files_option,
    plugin_option,
    print_json,
    print_table,
    quiet_option,
)


@click.command("aspects")
@click.argument("judge")
@plugin_option("-J", "judge")
@plugin_files_option
@click.option("--task", "task_name", default="aspects", show_default=True, help="A task with a set of aspect texts (docs/aspects.md).")
@click.option("--max-cost", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Ask before the judge may cost more dollars.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@quiet_option
def aspects_command(
    judge: str,
    judge_options: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    task_name: str,
    max_cost: float,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Have JUDGE, NAME[:option=value,…], rate texts with several concepts, and their variants without the target, without the others, with more.

    A concept rating from 1 on says that the concept is there.
    """
    from harness.cli.spending import Purse
    from harness.contracts import Priced, Work
    from harness.data.aspects import aspects_digest, open_aspects
    from harness.errors import TaskError
    from harness.evaluations.judge_aspects import judge_items, judged
    from harness.evaluations.steering.rate import rate_texts
    from harness.leaderboard.columns import number
    from harness.run.bench import Choices
    from harness.run.plan import plan_judge
    from harness.tasks.find import find_task
    from harness.types import judge_title

    host = load_host(plugin_files)
    task = find_task(host, task_name)
    file = task.file.evaluation.aspects
    if file is None:
        hint = "give --task aspects, or set evaluation.aspects in the task"
        raise TaskError(f"task {task.name!r} has no set of aspect texts", given=task.name, hint=hint)
    planned = plan_judge(host, task, judge, assignments(judge_options, "-J"))
    bench = make_bench(task, Choices(), quiet or as_json)
    texts = open_aspects(task.path(file))
    items = judge_items(bench, texts)
    if isinstance(planned.instance, Priced):
        Purse(max_cost, yes, quiet or as_json).approve(planned.instance.estimate(Work(items=items)))
    ratings = rate_texts(planned, items, bench)
    found = judged(aspects_digest(task.path(file)), texts, ratings, bench.seed)
    unrated = [rating for rating in ratings if rating.status != "rated"]
    if as_json:
        about = {"judge": planned.registered.name, "label": planned.label, "rubric": planned.instance.traits.rubric, "task": task.name}
        print_json({**about, "n_unrated": len(unrated), **found.model_dump(mode="json")})
        return
    rows = [
        (metric.title, number(metric.value), "–" if metric.low is None else f"[{number(metric.low)}, {number(metric.high)}]", number(metric.trivial))
        for metric in found.metrics.values()
    ]
    title = f"{judge_title(planned.registered.name, planned.options)} ({planned.instance.traits.rubric}) : {len(texts)} base texts"
    print_table(title, ("", "value", "95 % interval over base texts", "trivial"), rows)
    if unrated:
        echo(f"{len(unrated)} of {len(items)} texts were not rated; their base texts are left out. The first reason: {unrated[0].reason}")
