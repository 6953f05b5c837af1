"""``harness data fetch``: get a corpus that others publish."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import echo, json_option, print_json, quiet_option


@click.group("fetch")
def command() -> None:
    """Get a corpus that others publish: downloaded, checked and unpacked."""


@command.command("stackexchange")
@click.argument("forums", nargs=-1, required=True, metavar="FORUM")
@click.option(
    "--to",
    "into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that each dump gets a folder of its own in (default: the cache, where stackexchange:FORUM finds it).",
)
@click.option("--from", "base", metavar="URL", help="A server laid out as https://archive.org (default: that, or HARNESS_ARCHIVE_URL).")
@click.option("--item", default="stackexchange", show_default=True, help="Item of the Internet Archive that holds the dumps.")
@json_option
@quiet_option
def stackexchange(forums: tuple[str, ...], into: Path | None, base: str | None, item: str, as_json: bool, quiet: bool) -> None:
    """Get the dumps of Stack Exchange forums from the Internet Archive.

    FORUM is a forum's name (academia, askubuntu, academia.meta), site or address. A download that broke off goes on with the same command; what
    is there already is not fetched again. Afterwards stackexchange:FORUM is a corpus, for `harness data stats`, `--corpus` and task files.
    """
    from harness.data.corpora.reading import DUMP_PREFIX
    from harness.data.dumps.stackexchange import fetch_dump
    from harness.files.progress import Progress, set_current_progress

    progress = set_current_progress(Progress(quiet or as_json))
    found = []
    for forum in forums:
        dump = fetch_dump(forum, into, base=base, item=item, progress=progress)
        found.append({"forum": dump.forum, "folder": str(dump.folder), "item": dump.item, "sizes": dump.sizes, "fetched": dump.fetched})
        if as_json:
            continue
        size = f"{sum(dump.sizes.values()) / 1e6:,.1f} MB"
        called = f"{DUMP_PREFIX}{dump.forum}" if into is None else str(dump.folder)
        how = f"{size} in {dump.folder}" if dump.fetched else f"there already, {size} in {dump.folder}"
        echo(f"{dump.forum}: {how}; look at it: harness data stats {called}")
    if as_json:
        print_json(found)
