"""Filters and pages: from the index and from the run's file alone the same texts, each once, in the order that was asked for."""

from __future__ import annotations

import math
from typing import Any
from unittest import mock

import pytest
from helpers.view_runs import CONCEPTS, JUDGES, LABELINGS, PLAIN, STEERED, STRENGTHS, trials

from harness.scoring import harmonic_mean
from harness.types import ASPECTS
from harness.view import filters, text_pages
from harness.view.errors import BadRequest
from harness.view.filters import ORDERS, Cursor, Filter, read_cursor, read_filter
from harness.view.run_view import RunView
from harness.view.text_pages import IdPage, count, find_in_index, find_in_run
from harness.view.texts import Text, read_texts

KIND, STRICT = (judge.key for judge in JUDGES)


@pytest.fixture(autouse=True)
def small_pages() -> Any:
    """Pages of seven, so that a few texts have many."""
    with mock.patch.object(text_pages, "PAGE", 7), mock.patch.object(filters.page_query, "__defaults__", (8,)):
        yield


def texts(shown: RunView) -> dict[str, Text]:
    with shown.reading() as run:
        return read_texts(run.database, run.names, [trial.id for trial in trials()])


def find(shown: RunView, asked: Filter, cursor: Cursor | None, by_index: bool) -> IdPage:
    with shown.reading() as run, shown._ready()[0].open() as connection:
        if not by_index:
            return find_in_run(run.database, asked, cursor)
        if asked.q:
            asked.search.find(connection)
        return find_in_index(connection, asked, cursor)


def walk(shown: RunView, asked: Filter, by_index: bool = True) -> list[str]:
    """All texts that a filter holds, page by page; asserts that the way back shows the same pages."""
    pages, cursor = [], None
    while True:
        found = find(shown, asked, cursor, by_index)
        pages.append(found)
        if found.next is None:
            break
        cursor = read_cursor({"after": str(found.next)})
    for before, page in zip(pages[-2::-1], pages[:0:-1], strict=True):
        assert page.previous is not None
        back = find(shown, asked, read_cursor({"before": str(page.previous)}), by_index)
        assert back.ids == before.ids
        assert back.next == before.next
    assert pages[0].previous is None
    return [identity for page in pages for identity in page.ids]


def value(text: Text, column: str, judge: str) -> float:
    """What an order goes by; NaN where the text has none."""
    if column == "strength":
        return text.strength
    said = next((said for said in text.answers if said.judge.key == judge), None)
    if said is None or not said.values:
        return math.nan
    return float(said.overall or 0) if column == "overall" else said.values[ASPECTS.index(column)]


@pytest.mark.parametrize("by_index", [True, False])
@pytest.mark.parametrize("order", [name for name, order in ORDERS.items() if order.column not in ("seq", "position", "differ")])
def test_every_order_shows_each_text_once(shown: RunView, order: str, by_index: bool) -> None:
    asked, every = Filter(judge=STRICT, order=order), texts(shown)
    sign = 1 if ORDERS[order].direction == "ASC" else -1

    def place(identity: str) -> tuple[float, int]:
        own = value(every[identity], ORDERS[order].column, STRICT)
        return (math.inf if math.isnan(own) else sign * own), every[identity].position

    assert walk(shown, asked, by_index) == sorted(every, key=place)


@pytest.mark.parametrize("by_index", [True, False])
def test_the_run_s_own_order_and_the_newest_first(shown: RunView, by_index: bool) -> None:
    every = [trial.id for trial in trials()]
    assert walk(shown, Filter(judge=KIND), by_index) == every
    assert walk(shown, Filter(judge=KIND, order="newest"), by_index) == every[::-1]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"method": STEERED.id}, lambda text: text.method.id == STEERED.id),
        ({"method": PLAIN.id, "concept": "war"}, lambda text: text.method.id == PLAIN.id and text.concept_id == "war"),
        ({"concept": CONCEPTS[1].text.upper()}, lambda text: text.concept_id == "war"),
        ({"instruction": "i3"}, lambda text: text.instruction_id == "i3"),
        ({"labeling": LABELINGS[0].id}, lambda text: text.labeling_id == LABELINGS[0].id),
        ({"strength": "0.2"}, lambda text: text.strength == 0.2),
        ({"status": "unrated"}, lambda text: text.answers[1].status == "unrated"),
        ({"status": "rated", "overall_min": "1.2"}, lambda text: (text.answers[1].overall or 0) >= 1.2 - 1e-9),
        ({"concept_max": "0", "fluency_min": "2"}, lambda text: text.answers[1].values[:1] == (0.0,)),
        ({"instruction_min": "1", "instruction_max": "1"}, lambda text: text.answers[1].values[1:2] == (1.0,)),
        ({"status": "pending"}, lambda text: False),
        ({"concept": "nobody's"}, lambda text: False),
    ],
)
def test_filters_hold_what_they_say(shown: RunView, given: dict[str, str], kept: Any) -> None:
    asked = read_filter({**given, "judge": STRICT}, shown.names())
    expected = [identity for identity, text in sorted(texts(shown).items(), key=lambda pair: pair[1].position) if kept(text)]
    assert walk(shown, asked) == walk(shown, asked, by_index=False) == expected
    with shown._ready()[0].open() as connection:
        held = count(connection, asked)
    assert held.texts == len(expected)
    rated = [float(harmonic_mean(said.values)) for i in expected if (said := texts(shown)[i].answers[1]).values]
    assert held.rated == len(rated)
    assert held.means[0] == (pytest.approx(sum(rated) / len(rated)) if rated else None)


def test_judges_that_disagree_are_found_and_the_farthest_come_first(shown: RunView) -> None:
    def apart(text: Text) -> float:
        first, second = (said.values for said in text.answers)
        return sum(abs(a - b) for a, b in zip(first, second, strict=True)) if first and second else 0.0

    every = texts(shown)
    found = walk(shown, read_filter({"differ": "1", "order": "differ"}, shown.names()))
    assert found == sorted((i for i in every if apart(every[i]) >= 1), key=lambda i: (-apart(every[i]), every[i].position))
    assert 0 < len(found) < len(every)


def test_the_chosen_strength_is_a_filter_and_stands_beside_each_text(shown: RunView) -> None:
    page = shown.page(read_filter({"strength": "chosen", "method": STEERED.id}, shown.names()), None)
    assert {text.strength for text in page.texts} == {0.2}  # what the kind judge likes best
    assert all(text.is_chosen for text in page.texts)
    other = shown.page(read_filter({"strength": "0.4"}, shown.names()), None).texts[0]
    assert (other.chosen, other.is_chosen) == (0.2, False)


def test_the_unsteered_text_of_the_same_concept_and_instruction_stands_beside(shown: RunView) -> None:
    for text in shown.page(read_filter({"method": STEERED.id}, shown.names()), None).texts:
        assert text.unsteered is not None
        assert (text.unsteered.concept_id, text.unsteered.instruction_id) == (text.concept_id, text.instruction_id)
        assert text.unsteered.method.unsteered
    assert {text.unsteered for text in shown.page(read_filter({"method": PLAIN.id}, shown.names()), None).texts} == {None}


def test_a_text_has_all_that_judges_said_and_its_other_strengths(shown: RunView) -> None:
    identity = next(trial.id for trial in trials() if trial.strength == 0.2 and trial.instruction_id == "i2")
    text, others, _ = shown.text(identity)
    assert [said.judge.title for said in text.answers] == ["kind m1", "strict"]
    assert ("replies · concept", "Rating: [[2]]") in text.answers[0].details
    assert [other.strength for other in others] == list(STRENGTHS)
    assert {other.instruction_id for other in others} == {"i2"}
    assert text.prompt == "<user>i2"


@pytest.mark.parametrize(
    "given",
    [
        {"order": "upward"}, {"status": "good"}, {"within": "prompt"}, {"method": "nobody"}, {"judge": "nobody"}, {"strength": "strong"},
        {"strength": "nan"}, {"overall_min": "inf"}, {"fluency_max": "x"}, {"differ": "much"}, {"q": "x" * 1001},
        {"q": "! " * 31},
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_refused(shown: RunView, given: dict[str, str]) -> None:
    with pytest.raises(BadRequest) as error:
        read_filter(given, shown.names())
    assert error.value.given is not None


@pytest.mark.parametrize("text", ["x", "1", "~", "nan~3", "1~-1", "1~x", f"1~{2**63}", "1~2~3"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        read_cursor({"after": text})
