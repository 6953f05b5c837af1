"""``harness runs``: the runs that are stored: listed, shown, compared, exported, verified, deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.common import echo, json_option, out_option, print_json
from harness.cli.runs_compare import compare_command
from harness.cli.runs_delete import delete_command
from harness.cli.runs_export import export_command
from harness.cli.runs_list import show_list
from harness.cli.runs_show import show_command


@click.group("runs", invoke_without_command=True)
@out_option
@json_option
@click.pass_context
def command(ctx: click.Context, out: Path, as_json: bool) -> None:
    """List the runs below --out; show, compare, export, verify or delete them.

    RUN is a run's id below --out, the beginning of one, a folder, or 'last': the one that was begun last.
    """
    if ctx.invoked_subcommand is None:
        show_list(out, as_json)
    elif as_json or ctx.get_parameter_source("out") is not click.core.ParameterSource.DEFAULT:
        given = "--json" if as_json else "--out"
        raise click.UsageError(f"{given} stands behind the subcommand: harness runs {ctx.invoked_subcommand} … {given}", ctx)


@command.command("list")
@out_option
@json_option
def list_command(out: Path, as_json: bool) -> None:
    """List the runs below --out: when each was begun, its methods, how far it is, and the command that goes on with one that has stopped."""
    show_list(out, as_json)


@command.command("verify")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@out_option
@json_option
def verify_runs(names: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Check every record of RUNs (default: all below --out) against the digests that were stored with it, and their entries.

    Exit code 2 if one is damaged. A run that an older harness wrote has no digests; it gets them when it is next written to.
    """
    from harness.errors import StoreError
    from harness.leaderboard.files import load_entry
    from harness.store import list_runs, verify
    from harness.store.listing import find_run

    folders = [find_run(name, out) for name in names] or [run.folder for run in list_runs(out / "runs")]
    reports: list[dict[str, Any]] = []
    for folder in folders:
        found = verify(folder)
        problems = [found.problem] if found.problem else []
        for path in sorted(folder.glob("entry*.json")):
            try:
                load_entry(path)
            except StoreError as error:
                problems.append(str(error))
        verdict = "damaged" if problems else found.verdict
        reports.append({"run": found.id, "folder": str(folder), "verdict": verdict, "groups": list(found.groups), "problems": problems})
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            echo(f"{report['run']}: {report['verdict']}")
            for problem in report["problems"]:
                echo(f"  {problem}")
        if not reports:
            echo(f"no runs below {out / 'runs'}")
    if broken := [str(report["run"]) for report in reports if report["verdict"] == "damaged"]:
        message = f"{len(broken)} of {len(reports)} runs are damaged: {', '.join(broken)}"
        raise StoreError(message, given=tuple(broken), hint="put copies back, or make them again")


command.add_command(show_command)
command.add_command(compare_command)
command.add_command(export_command)
command.add_command(delete_command)
