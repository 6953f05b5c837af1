"""``harness judge aspects JUDGE``: does a judge's concept rating see the concept, or what comes with it?"""

from __future__ import annotations

import click

from harness.cli.common import echo, print_json, print_table
from harness.cli.judge_trial import JudgeTrial, trial_options


@click.command("aspects")
@trial_options("aspects", "A task with a set of aspect texts (docs/aspects.md).")
def aspects_command(trial: JudgeTrial) -> None:
    """Have JUDGE, NAME[:option=value,…], rate texts with several concepts, and their variants without the target, without the others, with more.

    A concept rating from 1 on says that the concept is there.
    """
    from harness.contracts import Work
    from harness.data.aspects import aspects_digest, open_aspects
    from harness.errors import TaskError
    from harness.evaluations.judge_aspects import judge_items, judged
    from harness.evaluations.steering.rate import rate_texts
    from harness.leaderboard.columns import number
    from harness.types import judge_title

    task = trial.task
    file = task.file.evaluation.aspects
    if file is None:
        hint = "give --task aspects, or set evaluation.aspects in the task"
        raise TaskError(f"task {task.name!r} has no set of aspect texts", given=task.name, hint=hint)
    planned, bench = trial.planned, trial.bench()
    texts = open_aspects(task.path(file))
    items = judge_items(bench, texts)
    trial.approve(Work(items=items))
    ratings = rate_texts(planned, items, bench)
    found = judged(aspects_digest(task.path(file)), texts, ratings, bench.seed)
    unrated = [rating for rating in ratings if rating.status != "rated"]
    if trial.as_json:
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
