"""The first page of a site: rankings, what rows can be filtered by, and what papers report."""

from __future__ import annotations

from collections.abc import Sequence

from harness.leaderboard.bridge import Bridge
from harness.leaderboard.columns import number
from harness.leaderboard.published import PublishedTable
from harness.leaderboard.ranking import Group
from harness.leaderboard.site.limits import Limits, fitting
from harness.leaderboard.site.pages import OF_FILES, json_block, render
from harness.leaderboard.site.ranking_page import FILTERS, filters, rankings
from harness.leaderboard.site.tables import Cell, Head, Table, rows_of


def index_page(
    groups: Sequence[Group],
    pages: dict[str, str],
    published: Sequence[PublishedTable],
    problems: Sequence[str],
    bridges: Sequence[Bridge] = (),
    sanity: str = "",
) -> str:
    """Return the first page as HTML.

    ``pages`` are the addresses of the entries' pages by the entries' ids, ``sanity`` is that of the page of dictionaries beside their controls.
    """
    return fitting(lambda limits: _page(groups, pages, published, problems, bridges, sanity, limits))


def _page(
    groups: Sequence[Group],
    pages: dict[str, str],
    published: Sequence[PublishedTable],
    problems: Sequence[str],
    bridges: Sequence[Bridge],
    sanity: str,
    limits: Limits,
) -> str:
    found = rankings(groups, pages, limits, bridges)
    values = filters(found)
    return render(
        "index.html.jinja",
        title="Leaderboard",
        rankings=found,
        sanity=sanity,
        filters=[(name, label, values[name]) for name, label in FILTERS],
        n_entries=len(pages),
        published=[{"about": table, "table": _published(place, table)} for place, table in enumerate(published)],
        problems=problems,
        left_out=list(dict.fromkeys(limits.left_out)),
        data=json_block({name: figure for ranking in found for name, figure in ranking.figures.items()}),
        alone=False,
        root="",
        policy=OF_FILES,
        styles=[],
        scripts=[],
    )


def _published(place: int, table: PublishedTable) -> Table:
    digits = {c.key: max(_decimals(row.values[c.key]) for row in table.rows) for c in table.columns}
    lines = [
        [
            Cell(row.method, mark=row.note),
            *(Cell(number(row.values[c.key], digits[c.key]), row.values[c.key]) for c in table.columns),
        ]
        for row in table.rows
    ]
    heads = (Head("method", True), *(Head(c.label, title=c.metric or "") for c in table.columns))
    return Table(f"published-{place}", f"{table.title}: as reported by {table.source.work}", heads, rows_of(lines))


def _decimals(value: float | None) -> int:
    """Return how many decimals a published number has."""
    return 0 if value is None else len(f"{value:.6f}".rstrip("0").partition(".")[2])
