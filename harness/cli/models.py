"""``harness models``: subject models that need no hub, and how others are named."""

from __future__ import annotations

from dataclasses import asdict

import click

from harness.cli.common import echo, json_option, print_json, print_table, quiet_option


@click.group("models", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the embedded models. A folder or a hub name works wherever a model is named, too."""
    if ctx.invoked_subcommand is not None:
        return
    from harness.model.embedded import describe

    rows = describe()
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    cells = [
        (row.name, row.summary, row.licence, f"{row.download_size / 1e6:.0f} MB", "yes" if row.cached else "no") for row in rows
    ]
    print_table("", ("model", "what it is", "licence", "download", "cached"), cells)


@command.command("fetch")
@click.argument("names", nargs=-1)
@quiet_option
def fetch(names: tuple[str, ...], quiet: bool) -> None:
    """Download and convert embedded models NAMES (default: all) into the cache, so that later runs need no network."""
    from harness.files.progress import Progress
    from harness.model.embedded import ASSETS, ensure

    progress = Progress(quiet)
    for name in names or tuple(ASSETS):
        echo(f"{name}: {ensure(name, progress.step)}")
