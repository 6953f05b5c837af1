"""``harness runs``: the runs that are stored, and their texts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from harness.cli.common import echo, json_option, out_option, print_json, print_table
from harness.cli.runs_score import score_command
from harness.cli.runs_verify import verify_command
from harness.types import EvaluationKind


@click.group("runs", invoke_without_command=True)
@out_option
@json_option
@click.pass_context
def command(ctx: click.Context, out: Path, as_json: bool) -> None:
    """List the runs below --out, export one, or check whether they are as they were written."""
    if ctx.invoked_subcommand is not None:
        return
    from harness.store import list_runs

    runs = list_runs(out / "runs")
    if as_json:
        print_json([{**asdict(run), "folder": str(run.folder)} for run in runs])
        return
    if not runs:
        echo(f"no runs below {out / 'runs'}; make one with `harness eval`")
        return
    rows = []
    for run in runs:
        ratings = "; ".join(f"{j.title} ({j.key}): {j.rated} rated, {j.unrated} unrated, {j.pending} pending" for j in run.judges)
        done = "; ".join(f"{kind.kind} {kind.done}/{kind.items}" for kind in run.kinds)
        rows.append((run.id, run.problem or run.status, run.task, str(len(run.methods)), done, ratings))
    print_table("", ("run", "status", "task", "methods", "done", "ratings"), rows)


@command.command("export")
@click.argument("run")
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--judge", "judge_key", help="Key of the judge whose ratings are exported (default: the run's own).")
@click.option("--kind", type=click.Choice(get_args(EvaluationKind)), default="steering", show_default=True, help="The kind of evaluation.")
@out_option
def export_run(run: str, output: Path, judge_key: str | None, kind: EvaluationKind, out: Path) -> None:
    """Write RUN to OUTPUT (.jsonl or .parquet): one row per trial (concept, features, strength, instruction, text, ratings).

    Detection and dictionary metrics get one row per item and outcome.
    """
    from harness.store import RunStore, export
    from harness.store.listing import find_run

    with RunStore.open(find_run(run, out), read_only=True) as store:
        count = export(store, output, judge_key, kind)
    echo(f"{count} rows: {output}")


command.add_command(verify_command)
command.add_command(score_command)
