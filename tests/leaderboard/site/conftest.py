"""Entries and details of runs whose every text is hostile, the site of them, and a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import started_chromium
from helpers.pages import details_for, entry_of, hostile, sample

from harness.leaderboard.arms import with_verdicts
from harness.leaderboard.entry import Entry
from harness.leaderboard.published import load_published
from harness.leaderboard.site.build import build_site
from harness.leaderboard.site.entry_page import entry_page


@pytest.fixture(scope="session")
def entries(make_entry: Any, make_result: Any, make_detection: Any, make_dictionary: Any, make_metric: Any) -> list[Entry]:
    """Four entries with all kinds of evaluation, of several models, layers and dictionaries."""
    found = []
    for number in range(4):
        values = [0.1 * ((place * 7 + number * 3) % 13) for place in range(14)]
        l0 = {"metrics": {"reconstruction": make_metric(0.9 - number / 20, 0.01, unit="share", higher_is_better=True, trivial=0, random=0.2),
                          "l0": make_metric(20.0 + 10 * number, None, unit="features per token")}}  # fmt: skip
        rows = [
            make_result(hostile(0), values, samples=[sample(number)]),
            make_result("max-auc", [value / 2 for value in values]),
            make_result("random", [0.01 * place for place in range(14)], role="control", controls=("calibf1",)),
            make_detection(hostile(2)),
            make_detection("bow", (0.6, 0.6, 0.7, None), detector="bow"),
            make_dictionary(**l0, items=[]),
            make_dictionary("reconstruction", (0.1, 0.2, 0.15), arm="random"),
        ]
        made_of = [[[mean + 0.01 * ((place * 5 + seed) % 7) for place in range(9)] for seed in range(3)] for mean in (0.6, 0.5)]
        arms = [make_dictionary("probing", made_of=own, of=hostile(3), arm=arm) for own, arm in zip(made_of, ("trained", hostile(4)), strict=True)]
        rows += with_verdicts(arms)
        found.append(entry_of(make_entry, rows, number, offline=True))
    return found


@dataclass(frozen=True)
class Pages:
    """A site, the report of one run, and an entry's page without its run's file."""

    site: Path
    report: Path
    entries: list[Entry]

    @property
    def files(self) -> list[Path]:
        return [self.report, *sorted(self.site.rglob("*.html"))]


@pytest.fixture(scope="session")
def pages(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """The pages of :func:`entries`, to be read; the first two have their run at hand."""
    folder = tmp_path_factory.mktemp("pages")
    known = {entry.id: details_for(entry) for entry in entries[:2]}
    site = build_site(entries, folder / "site", published=load_published(), problems=[hostile(0)], details=lambda entry: known.get(entry.id))
    report = folder / "report.html"
    report.write_text(entry_page(entries[0], known[entries[0].id]), encoding="utf-8")
    return Pages(site.folder, report, entries)


# ------------------------------------------------------------------------------------------------------------------------ the browser


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser, started once, that keeps what pages ask for."""
    with started_chromium("performance") as browser:
        yield browser
