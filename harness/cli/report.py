"""``harness report RUN``: a run as one page that needs nothing else."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, target_option


@click.command("report")
@click.argument("run")
@target_option(click.Path(path_type=Path), "The page's file (default: report-RUN.html, here).")
@click.option("--judge", help="Key or name of the judge whose ratings are shown (default: the run's own).")
@click.option(
    "--from", "source", type=click.Path(path_type=Path, file_okay=False), default=Path("."), help="Folder with runs/ (default: here)."
)
def command(run: str, output: Path | None, judge: str | None, source: Path) -> None:
    """Write RUN (as `harness runs` takes it) as one HTML page: scores, curves, texts, labels, where it comes from.

    It is made of the run's file alone: no model, no plugin, no network. The page holds all that it needs, so it can be sent as it is. That of a run
    that is not finished says so, and how far it is; where nothing can be scored yet, none is written.
    """
    from harness.errors import OptionError
    from harness.evaluations.details import report_of
    from harness.files.atomic import write_atomically
    from harness.leaderboard.site.entry_page import entry_page
    from harness.store import RunStore
    from harness.store.listing import find_run

    if output is not None and output.is_dir():
        hint = f"the folder with runs/ is given by --from {output}" if (output / "runs").is_dir() else f"give -o {output / f'report-{run}.html'}"
        raise OptionError(f"{output} is a folder", given=str(output), allowed="a file for the page", hint=hint)
    with RunStore.open(find_run(run, source), read_only=True) as store:
        entry, details = report_of(store, judge)
        target = output if output is not None else Path(f"report-{store.id}.html")
    write_atomically(target, entry_page(entry, details), "report")
    echo(target)
    if details.unfinished:
        echo(f"{details.what_is_unfinished}: {', '.join(details.unfinished)}; the page says so, and its scores will change", err=True)
