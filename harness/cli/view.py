"""``harness view``: local pages over a run's texts."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, out_option


@click.command("view")
@click.argument("run", required=False)
@out_option
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1 (default: a free one).")
@click.option("--browser/--no-browser", default=True, help="Open the page in the browser.")
def command(run: str | None, out: Path, port: int, browser: bool) -> None:
    """Show all texts of RUN on a page of this machine, to filter, search and read, also while the run goes on; without RUN, the runs below --out.

    Nothing is written to the run. Ctrl-C ends it.
    """
    from harness.store.listing import find_run
    from harness.view.runs import Runs
    from harness.view.server import open_port, serve

    if run is None:
        runs = Runs(below=out / "runs")
    else:
        runs = Runs([find_run(run, out)])
        runs.get(runs.only).names()  # what cannot be read is said before a page is opened
    listening = open_port(port)
    if runs.only:
        runs.get(runs.only).watch()  # the index is made while the browser opens
    try:
        serve(runs, listening, browser, lambda address: echo(f"harness view: {address} (Ctrl-C ends it)"))
    except KeyboardInterrupt as stop:
        if type(stop) is not KeyboardInterrupt:  # another signal, which is said
            raise
        raise click.exceptions.Exit(130) from None
