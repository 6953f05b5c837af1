"""``harness leaderboard correlate``: do two numbers of dictionaries, or of their features, rise together?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import console, echo, json_option, print_json

if TYPE_CHECKING:
    from harness.leaderboard.joined import Per

_MOST = 20
"""So many points are listed; ``--json`` has all."""


@click.command("correlate")
@click.argument("first", metavar="X")
@click.argument("second", metavar="Y")
@click.option("--per", type=click.Choice(["dictionary", "feature"]), default="dictionary", show_default=True, help="What the points are.")
@click.option(
    "--from", "source", type=click.Path(path_type=Path, file_okay=False), help="Folder with leaderboard/entries/ (default: here, or --out)."
)
@json_option
@click.pass_context
def correlate_command(ctx: click.Context, first: str, second: str, per: Per, source: Path | None, as_json: bool) -> None:
    """Show the rank correlation of X and Y over stored entries, joined by the dictionary's digest (and the feature).

    X and Y are columns: a metric of dictionaries (reconstruction, or a part of it: reconstruction.l0), detection.auroc and others of detection (of
    each concept the best feature's), steering.overall and others of steering. A name that is not there lists those that are.
    """
    from harness.leaderboard.files import load_entries
    from harness.leaderboard.joined import join
    from harness.leaderboard.joined_table import correlated, points_grid

    assert ctx.parent is not None
    folder = source if source is not None else Path(ctx.parent.params["out"])
    entries, problems = load_entries(folder / "leaderboard" / "entries")
    board = join(entries)
    found = correlated(board, first, second, per)
    if as_json:
        print_json(found.as_json(board))
        return
    for line in found.lines():
        echo(line)
    for problem in problems:
        echo(f"not read: {problem}", err=True)
    if found.found.tau.value is not None:
        echo("")
        console().print(points_grid(board, found, _MOST), crop=False)
        if len(found.points) > _MOST:
            echo(f"{len(found.points) - _MOST} more; --json has all")
