"""``harness runs delete``: stored runs, after a question that says what is lost."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, out_option
from harness.cli.runs_list import counts, moment
from harness.cli.runs_show import size

if TYPE_CHECKING:
    from harness.store.delete import Doomed


@click.command("delete")
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--entry", "with_entries", is_flag=True, help="Delete their entries below leaderboard/entries, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@out_option
def delete_command(names: tuple[str, ...], with_entries: bool, yes: bool, out: Path) -> None:
    """Delete RUNs below --out: their texts, ratings and labels. Asks first; their entries stay on the leaderboard, unless --entry is given.

    All are looked at before one is deleted. Nothing but a run's own folder directly in runs/ is touched, and no run that is being written.
    """
    from harness.store import list_runs
    from harness.store.delete import check_deletable, delete_run, entry_digests
    from harness.store.listing import find_run

    folders = {folder.absolute(): folder for folder in (find_run(name, out) for name in names)}
    doomed = [check_deletable(folder, out / "runs") for folder in folders.values()]
    entries = _entries(out, entry_digests(doomed, list_runs(out / "runs")))
    for one in doomed:
        echo(f"{one.folder.name}: {_lost(one)}", err=True)
    for path in entries:
        echo(f"entry {path}: {'deleted, too' if with_entries else 'stays'}", err=True)
    _confirm(doomed, yes)
    for one in doomed:
        delete_run(one)
        echo(f"deleted {one.folder} ({size(one.size)})")
    for path in entries if with_entries else ():
        path.unlink(missing_ok=True)
        echo(f"deleted {path}")


def _lost(one: Doomed) -> str:
    """Return in words what goes with a run."""
    run = one.summary
    if run.problem:
        return f"{size(one.size)}, damaged: {run.problem}"
    parts = [size(one.size), f"{run.status}, begun {moment(run.started)} UTC", run.task, f"{len(run.methods) + len(run.metrics)} methods"]
    parts += [f"{run.generations} texts"] if run.trials else []
    parts += [f"{counts(judge.rated, judge.unrated, judge.pending)} by {judge.title}" for judge in run.judges]
    parts += [f"{kind.done} results of {kind.kind}" for kind in run.kinds if kind.kind != "steering"]
    return ", ".join(part for part in parts if part)


def _entries(out: Path, digests: set[str]) -> list[Path]:
    """Return the entries of runs below ``out``; files that are no entries are passed over."""
    from harness.errors import StoreError
    from harness.leaderboard.files import load_entry

    found = []
    for path in sorted((out / "leaderboard" / "entries").glob("*.json")):
        try:
            if load_entry(path).run_digest in digests:
                found.append(path)
        except StoreError:
            continue
    return found


def _confirm(doomed: list[Doomed], yes: bool) -> None:
    """Ask, unless that is not wanted. Raises OptionError where nobody can be asked, or the answer is no."""
    from harness.errors import OptionError

    if yes:
        return
    names = tuple(one.folder.name for one in doomed)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise OptionError("runs are deleted after a question, and nobody can be asked here", given=names, hint="give --yes")
    what = "this run" if len(doomed) == 1 else f"these {len(doomed)} runs"
    if not click.confirm(f"Delete {what}? It cannot be undone.", err=True):
        raise OptionError("nothing was deleted", given=names)
