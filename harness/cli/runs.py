"""``harness runs``: the runs that are stored: listed, shown, compared, gathered into a matrix, exported, scored, verified, deleted."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import json_option, out_option
from harness.cli.runs_compare import compare_command
from harness.cli.runs_delete import delete_command
from harness.cli.runs_export import export_command
from harness.cli.runs_list import show_list
from harness.cli.runs_matrix import matrix_command
from harness.cli.runs_score import score_command
from harness.cli.runs_show import show_command
from harness.cli.runs_verify import verify_command


@click.group("runs", invoke_without_command=True)
@out_option
@json_option
@click.pass_context
def command(ctx: click.Context, out: Path, as_json: bool) -> None:
    """List the runs below --out; show, compare, export, score, verify or delete them.

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


command.add_command(show_command)
command.add_command(compare_command)
command.add_command(matrix_command)
command.add_command(export_command)
command.add_command(score_command)
command.add_command(verify_command)
command.add_command(delete_command)
