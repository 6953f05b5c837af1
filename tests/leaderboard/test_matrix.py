"""The values of a matrix: rows by cell, paired leads as in a ranking, and leads over controls that have concepts of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import ttest_ind

from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.matrix import matrix_of
from harness.leaderboard.matrix_figure import figure
from harness.leaderboard.matrix_table import render_matrix
from harness.leaderboard.ranking import rank
from harness.leaderboard.site.matrix_page import matrix_page
from harness.leaderboard.table import to_text

Maker = Callable[..., Any]
N = 16
OWN = [f"explained-{number}" for number in range(N)]


def values(mean: float, seed: int) -> list[float]:
    return [round(float(value), 3) for value in np.clip(np.random.default_rng(seed).normal(mean, 0.2, N), 0, 2)]


@pytest.fixture
def cell_of(make_entry: Maker) -> Callable[..., Entry]:
    """An entry of one cell of a matrix of two forums and two layers."""

    def make(forum: str, layer: str, place: int, rows: Sequence[Row]) -> Entry:
        cell = {"matrix": "paper", "values": [["forum", forum], ["layer", layer]], "place": place, "of": 4}
        task = {"name": f"paper@forum={forum},layer={layer}", "version": "1", "digest": f"t{place}", "split": "all", "mode": "chosen", "cell": cell}
        made = make_entry(*rows, mode="chosen", run_digest=f"r{place}")
        return Entry.model_validate({**made.as_json(), "task": task, "id": "", "seal": ""})

    return make


@pytest.fixture
def rows(make_result: Maker) -> Callable[[int, float], list[Row]]:
    """A method, a control that answers its concepts, and one that has concepts (and features) of its own."""

    def make(seed: int, mean: float) -> list[Row]:
        method = make_result("calibf1", values(mean, seed), mode="chosen")
        same = make_result("random", values(0.3, seed + 1), mode="chosen", role="control")
        own = make_result("explained", values(0.4, seed + 2), mode="chosen", role="control", concepts=OWN)
        items = [item.model_copy(update={"features": (f"sae/{100 + place}",)}) for place, item in enumerate(own.items)]
        return [method, same, own.model_copy(update={"items": tuple(items)})]

    return make


def test_rows_and_leads(cell_of: Callable[..., Entry], rows: Callable[[int, float], list[Row]]) -> None:
    entries = [cell_of("law", "32", 3, rows(9, 0.1)), cell_of("art", "17", 0, rows(1, 1.2))]
    found = matrix_of(entries, [("forum=art,layer=32", "no corpus")])
    assert (found.name, found.of, len(found.cells)) == ("paper", 4, 2)
    assert found.axes == (("forum", ("art", "law")), ("layer", ("17", "32")))
    assert [dict(row.cell)["forum"] for row in found.rows] == ["art"] * 3 + ["law"] * 3
    method = found.rows[0]
    assert (method.name, method.role, method.metric, method.n_items) == ("calibf1 × sae-clamp", "method", "overall", N)
    leads = {lead.control: lead for lead in method.leads}
    assert set(leads) == {"random", "explained"}

    ranked = [place for group in rank([entries[1]]) for place in group.places if place.row.role == "method"]
    verdict = next(one for one in ranked[0].against if one.name == "random")
    assert leads["random"].paired
    assert (leads["random"].difference, leads["random"].low, leads["random"].answer) == (verdict.difference, verdict.low, "yes")

    assert not leads["explained"].paired
    a, b = values(1.2, 1), values(0.4, 3)
    ends = ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    assert leads["explained"].difference == pytest.approx(np.mean(a) - np.mean(b))
    assert (leads["explained"].low, leads["explained"].high) == (pytest.approx(ends.low), pytest.approx(ends.high))
    assert leads["explained"].answer == "yes"
    assert {lead.answer for lead in found.rows[3].leads} <= {"no", "not shown"}


def test_few_concepts_are_shown_and_not_judged(cell_of: Callable[..., Entry], make_result: Maker) -> None:
    few = [make_result("calibf1", [1.0, 1.2, 1.1, 1.3], mode="chosen"),
           make_result("explained", [0.1, 0.2, 0.15, 0.3], mode="chosen", role="control", concepts=OWN[:4])]  # fmt: skip
    lead = matrix_of([cell_of("law", "17", 2, few)]).rows[0].leads[0]
    assert lead.answer == "not tested"
    assert "12" in lead.reason


def test_it_is_shown(cell_of: Callable[..., Entry], rows: Callable[[int, float], list[Row]]) -> None:
    found = matrix_of([cell_of("art", "17", 0, rows(1, 1.2)), cell_of("law", "17", 2, rows(9, 0.4))], [("forum=art,layer=32", "no <corpus>")])
    text = to_text(render_matrix(found))
    assert "paper 1 · tiny · judge offline (axbench-1) · 2 of 4 cells" in text
    assert "✓" in text
    assert "layer" not in text.split("overall", 1)[1].split("──", 1)[0], "an axis that does not vary has no column"
    assert "cell forum=art,layer=32: no <corpus>" in text
    assert "1 of 4 cells were not run" in text
    narrow = to_text(render_matrix(found), width=40)
    assert f"{found.rows[0].score.value:.3f}" in narrow
    page = matrix_page(found)
    assert "no &lt;corpus&gt;" in page
    assert "<svg" in page
    root = ElementTree.fromstring(figure(found, "steering"))
    assert len(root.findall(".//{http://www.w3.org/2000/svg}circle")) == 6
    plain = found.as_json()
    assert (plain["cells"], plain["of"], len(plain["rows"])) == (2, 4, 6)
    assert {lead["control"] for lead in plain["rows"][0]["leads"]} == {"random", "explained"}


def test_other_entries_are_no_other_files(make_entry: Maker) -> None:
    """What only a matrix has is left out of an entry of any other task, so that such entries keep their ids."""
    assert "cell" not in make_entry().as_json()["task"]
