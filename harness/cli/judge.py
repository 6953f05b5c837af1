"""``harness judge RUN --judge X``: rate the stored generations of a run again."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import (
    assignments,
    console,
    json_option,
    load_host,
    out_option,
    plugin_option,
    print_json,
    quiet_libraries,
    quiet_option,
)


@click.command("judge")
@click.argument("run")
@click.option("--judge", required=True, help="A judge (see `harness plugins`).")
@plugin_option("-J", "judge")
@out_option
@json_option
@quiet_option
def command(run: str, judge: str, judge_options: tuple[str, ...], out: Path, as_json: bool, quiet: bool) -> None:
    """Rate the stored texts of RUN (an id that `harness runs` shows, or a folder) with another judge; makes an entry of its own."""
    from harness.evaluate import conclude, rate
    from harness.leaderboard.files import save_entry
    from harness.leaderboard.table import render_entry
    from harness.reopen import reopen
    from harness.store import RunStore

    quiet_libraries()
    host = load_host()
    folder = find_run(run, out)
    with RunStore.open(folder) as store:
        plan, bench, answers = reopen(store, host, quiet or as_json, judge, assignments(judge_options, "-J"))
        record = rate(plan.judge, bench, host, store)
        entry = conclude(plan, answers, bench, store, record, host)
    path = save_entry(entry, out / "leaderboard" / "entries" / entry.file_name)
    if as_json:
        print_json(entry.as_json())
        return
    screen = console()
    screen.print(render_entry(entry))
    screen.print(f"entry: {path}\nrun:   {folder}", highlight=False, markup=False, soft_wrap=True)


def find_run(run: str, out: Path) -> Path:
    """A run's folder by its id (or the beginning of one) below ``out``/runs, or by its path.

    Raises:
        UnknownNameError: no such run, or several that begin so.
    """
    from harness.errors import UnknownNameError

    if Path(run).is_dir():
        return Path(run)
    runs = out / "runs"
    known = sorted(p.name for p in runs.iterdir() if p.is_dir()) if runs.is_dir() else []
    found = [name for name in known if name == run] or [name for name in known if name.startswith(run)]
    if len(found) != 1:
        raise UnknownNameError("run", run, known, f"(below {runs}; `harness runs` lists them)")
    return runs / found[0]
