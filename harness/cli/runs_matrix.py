"""``harness runs matrix``: the table of a task's matrix from stored runs alone."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, json_option, out_option


@click.command("matrix")
@click.argument("task", required=False)
@click.option("--command", "key", help="Digest of the command whose cells are shown, or its beginning (default: the command of the newest run).")
@click.option("--judge", help="Key or name of the judge whose ratings are shown (default: each run's own).")
@out_option
@json_option
def matrix_command(task: str | None, key: str | None, judge: str | None, out: Path, as_json: bool) -> None:
    """Show the matrix of TASK (default: that of the newest run) from its stored cells, and write its page and figures anew.

    No model, task or plugin is needed. Of each cell the newest run counts; runs of commands with other options or another seed are named.
    """
    from harness.cli.matrix import show_matrix
    from harness.evaluations.matrix import stored_cells, stored_matrix, write_matrix

    matrix, command = stored_matrix(out, task, key, judge)
    show_matrix(matrix, write_matrix(matrix, out, command), as_json)
    others = {one.command for one in stored_cells(out, matrix.name)} - {command}
    if others:
        echo(f"left out: cells of {len(others)} other commands (--command {', '.join(sorted(others))})", err=True)
