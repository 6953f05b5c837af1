"""A site of static pages: rankings, a page for each entry, one that compares two."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import disk_error
from harness.leaderboard.bridge import Bridge
from harness.leaderboard.entry import Entry
from harness.leaderboard.published import PublishedTable
from harness.leaderboard.ranking import rank
from harness.leaderboard.site.compare_page import compare_data, compare_page, tested_pairs
from harness.leaderboard.site.details import RunDetails
from harness.leaderboard.site.entry_page import entry_page, title_of
from harness.leaderboard.site.index_page import index_page
from harness.leaderboard.site.pages import COMPARE, LICENCES, SCRIPTS, STYLES, static
from harness.leaderboard.site.ranking_page import in_order, standings
from harness.leaderboard.site.sanity_page import FILE as SANITY
from harness.leaderboard.site.sanity_page import has_controls, sanity_page

MARK = "assets/harness-site.txt"
"""A file that says that a folder is such a site, so that it may be written again."""
_MARK_TEXT = "This folder was made by `harness leaderboard build`, which writes it anew each time.\n"


@dataclass(frozen=True)
class Site:
    """What was written. ``pages`` are HTML files, the first page first."""

    folder: Path
    pages: tuple[Path, ...]
    n_runs: int
    """Entries whose run's file was at hand."""


def build_site(
    entries: Sequence[Entry],
    folder: Path,
    *,
    published: Sequence[PublishedTable] = (),
    problems: Sequence[str] = (),
    details: Callable[[Entry], RunDetails | None] = lambda entry: None,
    step: Callable[[str], None] = lambda line: None,
    bridges: Sequence[Bridge] = (),
) -> Site:
    """Write the pages of ``entries`` into ``folder``; pages of entries that are no longer there go.

    Args:
        entries: those of a leaderboard.
        folder: new, empty, or one that this function made.
        published: papers' tables, shown as such.
        problems: files of entries that could not be read; the first page says so.
        details: what the run's file of an entry adds; None where it is not at hand.
        step: told what is being done.
        bridges: between judges; each stands beside the rankings of either.

    Raises:
        StoreError: the folder holds something else, or the disk refuses.
    """
    _check(folder)
    unique = list({entry.id: entry for entry in sorted(entries, key=lambda entry: (entry.created, entry.id))}.values())
    files = _names(unique)
    step("ranking the entries")
    groups = in_order(rank(unique))
    places, tested = standings(groups), tested_pairs(groups)
    pages = {name: f"entries/{file}.html" for name, file in files.items()}
    with_controls = [entry for entry in reversed(unique) if has_controls(entry)]
    written: dict[str, str] = {"index.html": index_page(groups, pages, published, problems, bridges, sanity=SANITY if with_controls else "")}
    if with_controls:
        written[SANITY] = sanity_page(with_controls, pages, unique)
    n_runs = 0
    for number, entry in enumerate(unique, 1):
        if number % 20 == 1:
            step(f"page {number} of {len(unique)}")
        file, found = files[entry.id], details(entry)
        n_runs += found is not None
        written[f"entries/{file}.html"] = entry_page(entry, found, places.get(entry.id, ()), file=file)
        written[f"data/{file}.js"] = compare_data(entry, file, title_of(entry), tested)
    listed = [
        {"file": files[entry.id], "title": title_of(entry), "about": f"{entry.model.name}, seed {entry.seed}, {entry.created[:10]}"}
        for entry in reversed(unique)
    ]
    written["compare.html"] = compare_page(listed, _second(unique))
    try:
        _write(folder, written)
    except OSError as error:
        raise disk_error(error, f"write the site to {folder}") from error
    return Site(folder, tuple(folder / name for name in written if name.endswith(".html")), n_runs)


def _second(entries: Sequence[Entry]) -> int:
    """Return which entry, from the newest, is held against the newest at first: one of the same task and judge, if there is one."""
    newest_first = list(reversed(entries))
    alike = [(entry.task.digest, entry.judge.key if entry.judge is not None else "") for entry in newest_first]
    return next((place for place, one in enumerate(alike) if place and one == alike[0]), 1)


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the name of each entry's files, by its id."""
    names: dict[str, str] = {}
    for entry in entries:
        name = entry.file_name.removesuffix(".json")
        names[entry.id] = name if name not in names.values() else f"{name}-{entry.id}"
    return names


def _check(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"{folder} is a file", given=folder, allowed="a folder", hint="name another one (--out)")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        message = f"the folder {folder} holds other things than a site of harness"
        raise StoreError(message, given=folder, allowed="a new or empty folder, or an earlier site", hint="name another one (--out)")


def _write(folder: Path, written: dict[str, str]) -> None:
    for name in ("entries", "data", "assets"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / MARK).write_text(_MARK_TEXT, encoding="utf-8")
    if SANITY not in written:
        (folder / SANITY).unlink(missing_ok=True)
    for name in ("entries", "data"):
        for path in (folder / name).iterdir():
            if path.is_file() and f"{name}/{path.name}" not in written:
                path.unlink()
    for name in (*STYLES, *SCRIPTS, COMPARE, *LICENCES):
        (folder / "assets" / Path(name).name).write_text(static(name), encoding="utf-8")
    for name, content in written.items():
        target = folder / name
        part = target.with_name(f".{target.name}.part")
        part.write_text(content, encoding="utf-8")
        shutil.move(part, target)
