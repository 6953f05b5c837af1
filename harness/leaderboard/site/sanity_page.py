"""The page that answers whether dictionaries beat random ones: of each entry with controls the sentence, the figure, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.leaderboard.arms_table import does_it_beat_random
from harness.leaderboard.entry import Entry
from harness.leaderboard.joined import join
from harness.leaderboard.joined_table import BESIDE, beside_metrics
from harness.leaderboard.site.arms import arms_figure, arms_table
from harness.leaderboard.site.limits import Limits, fitting
from harness.leaderboard.site.pages import OF_FILES, json_block, render
from harness.leaderboard.site.tables import Table, of_grid

FILE = "sanity.html"
_MOST = 12
"""Entries on the page, the newest first; all have pages of their own."""


@dataclass(frozen=True)
class _Compared:
    """One entry's dictionaries beside their controls."""

    id: str
    title: str
    href: str
    answers: tuple[str, ...]
    figure: dict[str, Any]
    table: Table


def has_controls(entry: Entry) -> bool:
    """Return whether an entry has a dictionary that is held against a control."""
    return any(row.against for row in entry.rows_of("dictionary"))


def sanity_page(entries: Sequence[Entry], pages: Mapping[str, str], everything: Sequence[Entry] = ()) -> str:
    """Return the page as HTML.

    Args:
        entries: those with controls, the newest first.
        pages: the address of each entry's page, by the entry's id.
        everything: all entries, whose steering and detection stand beside the metrics of the dictionaries that they go by.
    """
    grid = beside_metrics(join(everything))
    beside = None if grid is None else of_grid("beside", BESIDE[0].upper() + BESIDE[1:], grid)
    return fitting(lambda limits: _page(entries, pages, beside, limits))


def _page(entries: Sequence[Entry], pages: Mapping[str, str], beside: Table | None, limits: Limits) -> str:
    shown = entries[: max(1, min(_MOST, limits.rows))]
    limits.note(len(shown), len(entries), "entries whose dictionaries have controls")
    found = [_compared(number, entry, pages[entry.id]) for number, entry in enumerate(shown, 1)]
    return render(
        "sanity.html.jinja",
        title="Do dictionaries beat random ones?",
        compared=found,
        beside=beside,
        left_out=list(dict.fromkeys(limits.left_out)),
        data=json_block({f"arms-{number}": one.figure for number, one in enumerate(found, 1)}),
        alone=False,
        root="",
        policy=OF_FILES,
        styles=[],
        scripts=[],
    )


def _compared(number: int, entry: Entry, href: str) -> _Compared:
    rows = entry.rows_of("dictionary")
    figure = arms_figure(rows)
    assert figure is not None
    title = f"{entry.task.name} {entry.task.version} · {entry.model.name}"
    return _Compared(f"arms-{number}", title, href, tuple(does_it_beat_random(rows)), figure, arms_table(rows, f"arms-{number}-table"))
