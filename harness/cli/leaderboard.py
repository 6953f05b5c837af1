"""``harness leaderboard``: entries, ranked where they may be."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import console, echo, json_option, out_option, print_json
from harness.cli.leaderboard_build import build_command
from harness.cli.leaderboard_correlate import correlate_command
from harness.cli.leaderboard_entries import add_command, check_command
from harness.cli.proposals import stored_runs


@click.group("leaderboard", invoke_without_command=True)
@out_option
@click.option("--published/--no-published", default=False, help="Show published results below, too (never ranked against runs).")
@click.option("--win-rate-against", metavar="NAME", help="Show on how many concepts each method is above this one, as the board calls it.")
@json_option
@click.pass_context
def command(ctx: click.Context, out: Path, published: bool, win_rate_against: str | None, as_json: bool) -> None:
    """Show the entries below --out, ranked within one task version, kind of evaluation, metric, judge and set of concepts.

    Methods that cannot be told apart share ranks (2–4); each is compared with its controls.
    """
    if ctx.invoked_subcommand is not None:
        return
    from harness.leaderboard.board_json import board_json
    from harness.leaderboard.bridge import load_bridges
    from harness.leaderboard.files import load_entries
    from harness.leaderboard.published import load_published
    from harness.leaderboard.table import build_board, render_board

    entries, problems = load_entries(out / "leaderboard" / "entries")
    bridges, faulty = load_bridges(out)
    board = build_board(entries, load_published() if published else (), [*problems, *faulty], win_rate_against, bridges)
    if as_json:
        print_json(board_json(board))
        return
    if not entries:
        echo(f"no entries below {out / 'leaderboard' / 'entries'}; make one with `harness eval`")
    console().print(render_board(board, stored_runs(out)), crop=False)


command.add_command(add_command)
command.add_command(check_command)
command.add_command(build_command)
command.add_command(correlate_command)
