"""``harness judge RUN --judge X``: rate the stored texts of a run again; and whether a judge is to be trusted: compare, selftest, cache, bridge."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, print_json, print_table, show_entry, show_pending
from harness.cli.judge_aspects import aspects_command
from harness.cli.judge_bridge import bridge_command
from harness.cli.judge_compare import compare_command
from harness.cli.judge_trial import JudgeTrial, trial_options
from harness.cli.rating import RatingOptions, rating_options

if TYPE_CHECKING:
    from harness.chat.client.cache import ReplyCache

MOST_DAYS = 36_500


class JudgeGroup(click.Group):
    """``harness judge RUN …`` is ``harness judge rate RUN …``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["rate", *args]
        return super().parse_args(ctx, args)


@click.group("judge", cls=JudgeGroup)
def command() -> None:
    """Rate the texts of a run again (RUN --judge X), compare judges, test one, look into the cache of paid replies."""


@command.command("rate")
@click.argument("run")
@click.option("--judge", required=True, help="A judge (see `harness plugins`), NAME[:option=value,…].")
@rating_options()
def rate_command(run: str, judge: str, options: RatingOptions) -> None:
    """Rate the stored texts of RUN (an id that `harness runs` shows, or a folder) with another judge; makes an entry of its own.

    Given again, it collects what was pending: people's sheets, batches.
    """
    from harness.evaluations.evaluate import conclude
    from harness.evaluations.steering.rate import rate
    from harness.evaluations.steering.stored import check_generated
    from harness.run.plan import plan_stored_judge
    from harness.run.run import Run
    from harness.store.listing import find_run

    host, folder = options.host, find_run(run, options.out)
    with Run.reopen(folder, host, options.silent, options.purse.approve) as stored:
        check_generated(stored.manifest, stored.store)
        planned = plan_stored_judge(host, stored.manifest, judge, options.given)
        record = rate(stored, planned)
        entry = conclude(stored, record)
        show_pending(stored.store, [record.key])
    show_entry(entry, options.out, folder, options.as_json)


# -------------------------------------------------------------------------------------------------------------------- self-test


@command.command("selftest")
@trial_options("demo", "Task whose subject model a judge may need (the offline judge does).")
def selftest_command(trial: JudgeTrial) -> None:
    """Have JUDGE, NAME[:option=value,…], rate texts with obvious ratings. A judge that fails is warned of in every entry that it makes.

    Exit code 1 if it fails.
    """
    from harness.contracts import Work
    from harness.evaluations.steering.judge_record import examined_as
    from harness.judging.selftest import cases, check_at_once, keep_result, selftest
    from harness.run.spending import Meter, line
    from harness.types import judge_title

    planned = trial.planned
    instance = planned.instance
    check_at_once(instance)
    trial.approve(Work(items=[case.item for case in cases()]))
    bench, meter = trial.bench(), Meter(instance)
    try:
        result = selftest(instance, bench, planned.registered.who)
    finally:
        if (taken := meter.taken) is not None:
            bench.progress.step(line(taken, []))
    keep_result(examined_as(planned, bench.model_ref if instance.traits.needs_model else None), result)
    if trial.as_json:
        print_json({"judge": planned.registered.name, "label": planned.label, **result.as_json()})
        click.get_current_context().exit(0 if result.passed else 1)
    rows = [(aspect, f"{right:.0%}", *("/".join(map(str, row)) for row in result.confusion[aspect])) for aspect, right in result.accuracy.items()]
    outcome = f"{result.overall:.0%} of the obvious ratings right, {'passed' if result.passed else 'FAILED'}"
    title = f"{judge_title(planned.registered.name, planned.options)} ({result.rubric}): {outcome}"
    print_table(title, ("rating", "right", "0 given 0/1/2/none", "1 given …", "2 given …"), rows)
    if result.n_unrated:
        reason = next((miss.reason for miss in result.misses if miss.given is None), "none given")
        echo(f"{result.n_unrated} of {result.n_texts} texts were not rated, which counts as wrong; the first reason: {reason}")
    click.get_current_context().exit(0 if result.passed else 1)


# ------------------------------------------------------------------------------------------------------------------------ cache


@command.group("cache")
def cache_group() -> None:
    """Replies of language models that were paid for."""


@cache_group.command("stats")
@json_option
def cache_stats(as_json: bool) -> None:
    """What the cache holds, by model."""
    with _cache() as cache:
        found = cache.stats()
    if as_json:
        print_json(asdict(found))
        return
    echo(f"{found.path}: {found.entries:,} replies, {found.size / 1e6:.1f} MB")
    rows = [
        (f"{m.provider}/{m.model}", f"{m.entries:,}", f"{m.usage.input:,}", f"{m.usage.output:,}", m.first[:10], m.last[:10]) for m in found.models
    ]
    print_table("", ("model", "replies", "input tokens", "output tokens", "first", "last"), rows)


@cache_group.command("prune")
@click.option("--days", type=click.FloatRange(min=0), help="Remove replies older than so many days.")
@click.option("--model", help="Remove replies of this model.")
def cache_prune(days: float | None, model: str | None) -> None:
    """Remove replies: they are paid for again when they are needed again."""
    from harness.errors import OptionError

    if days is None and model is None:
        raise OptionError("nothing says what is to go", hint="give --days N (older ones), --model NAME, or both")
    if days is not None and not 0 <= days <= MOST_DAYS:  # the option's own bound lets nan through
        raise OptionError(f"--days is {days:g}", given=days, allowed=f"0 to {MOST_DAYS:,}")
    with _cache() as cache:
        echo(f"{cache.prune(days=days, model=model):,} replies removed")


@cache_group.command("export")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="JSONL file (default: standard output).")
def cache_export(output: Path | None) -> None:
    """Write every reply as a JSON line."""
    from harness.files.atomic import disk_error

    with _cache() as cache:
        if output is None:
            for line in cache.export():
                click.echo(line.rstrip("\n"))  # JSON, in which nothing acts on a terminal
            return
        try:
            with output.open("w", encoding="utf-8") as file:
                count = sum(bool(file.write(line.rstrip("\n") + "\n")) for line in cache.export())
        except OSError as error:
            raise disk_error(error, f"write the replies to {output}", "the cache is as it was") from error
    echo(f"{output}: {count:,} replies")


def _cache() -> ReplyCache:
    from harness.chat.client.cache import FILE_NAME, ReplyCache
    from harness.files.cache_dir import cache_root

    return ReplyCache(cache_root() / FILE_NAME)


command.add_command(compare_command)
command.add_command(bridge_command)
command.add_command(aspects_command)
