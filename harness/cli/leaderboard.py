"""``harness leaderboard``: entries, ranked where they may be."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import console, echo, json_option, out_option, print_json
from harness.cli.leaderboard_entries import add_command, check_command


@click.group("leaderboard", invoke_without_command=True)
@out_option
@click.option("--published/--no-published", default=False, help="Show published results below, too (never ranked against runs).")
@json_option
@click.pass_context
def command(ctx: click.Context, out: Path, published: bool, as_json: bool) -> None:
    """Show the entries below --out, ranked within one task version, kind of evaluation, metric, judge and set of concepts."""
    if ctx.invoked_subcommand is not None:
        return
    from harness.leaderboard.files import load_entries
    from harness.leaderboard.published import load_published
    from harness.leaderboard.table import board_json, build_board, render_board

    entries, problems = load_entries(out / "leaderboard" / "entries")
    board = build_board(entries, load_published() if published else (), problems)
    if as_json:
        print_json(board_json(board))
        return
    if not entries:
        echo(f"no entries below {out / 'leaderboard' / 'entries'}; make one with `harness eval`")
    console().print(render_board(board))


command.add_command(add_command)
command.add_command(check_command)
