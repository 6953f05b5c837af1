"""``harness leaderboard check`` and ``add``: whether an entry may stand on a leaderboard, and putting a run's entry there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, load_host, out_option, print_json
from harness.files.visible import in_cell

if TYPE_CHECKING:
    from harness.evaluations.check_entry import CheckedEntry


task_option = click.option(
    "--task", type=click.Path(path_type=Path), help="Folder of the entry's task, for one that is not installed (default: the installed one)."
)


@click.command("check")
@click.argument("files", metavar="ENTRY...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--run", help="The run of the entries, an id or a folder: every score is computed anew from its ratings.")
@task_option
@out_option
@json_option
def check_command(files: tuple[Path, ...], run: str | None, task: Path | None, out: Path, as_json: bool) -> None:
    """Check whether ENTRY files may stand on a leaderboard: schema, digests and seal, numbers, warnings, task, eligibility.

    Without --run, means, intervals, ranked scores, coverage, bounds and warnings are made again from the entry's own items, and content, model,
    dictionaries, decoding, concepts, instructions, controls and protocol are held against the task. One line for each problem, then what was and
    what was not checked; what is shown beside an entry that is taken (an offline judge, a plugin that is a single file, a checkout with changes) is a
    note. Exit code 2 for a problem.
    """
    from harness.evaluations.check_entry import check_entry
    from harness.store.listing import find_run

    host, folder = load_host(), None if run is None else find_run(run, out)
    checked = [check_entry(file, host, folder, task) for file in files]
    if as_json:
        print_json([one.as_json() for one in checked])
    else:
        for one in checked:
            _show(one)
    _refuse(checked)


@click.command("add")
@click.argument("run")
@click.option(
    "--to", type=click.Path(path_type=Path, file_okay=False), default=Path("leaderboard"), show_default=True, help="The leaderboard's folder."
)
@click.option("--entry", "name", default="entry.json", show_default=True, help="Which entry of the run, by its file's name beside it.")
@task_option
@out_option
@json_option
def add_command(run: str, to: Path, name: str, task: Path | None, out: Path, as_json: bool) -> None:
    """Copy the entry of RUN into the entries of a leaderboard, after every check that `harness leaderboard check --run` makes."""
    from harness.errors import StoreError
    from harness.evaluations.check_entry import ENTRIES, check_entry
    from harness.leaderboard.files import save_entry
    from harness.store.listing import find_run

    folder = find_run(run, out)
    known = sorted(path.name for path in folder.glob("entry*.json"))
    if name not in known:
        hint = "run its `harness eval` again, which makes it" if not known else "name one of them with --entry"
        raise StoreError(f"the run in {folder} has no {name}", given=name, allowed=known or "none is there yet", hint=hint)
    checked = check_entry(folder / name, load_host(), folder, task)
    target = None
    if not checked.problems and checked.entry is not None:
        target = save_entry(checked.entry, to / ENTRIES / checked.entry.file_name)
    if as_json:
        print_json({**checked.as_json(), "added": None if target is None else str(target)})
    else:
        _show(checked)
    _refuse([checked])
    if not as_json:
        echo(f"added: {target}")


def _show(checked: CheckedEntry) -> None:
    """A line for each problem and note, or one where there is no problem; then what was looked at."""
    if not checked.problems:
        echo(in_cell(f"{checked.file}: ok"))
    for problem in checked.problems:
        echo(in_cell(f"{checked.file}: {problem}"))
    for note in checked.notes:
        echo(in_cell(f"{checked.file}: note: {note}"))
    for what, lines in (("checked", checked.checked), ("not checked", checked.unchecked)):
        for line in lines:
            echo(in_cell(f"{checked.file}: {what}: {line}"))


def _refuse(checked: Sequence[CheckedEntry]) -> None:
    from harness.errors import StoreError

    bad = [one for one in checked if one.problems]
    if bad:
        message = f"{len(bad)} of {len(checked)} entries may not stand on a leaderboard"
        raise StoreError(message, given=tuple(str(one.file) for one in bad), hint="see the lines above; docs/leaderboard.md says what is asked for")
