"""Search: whatever is typed is a search, and finds what it says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.store.schema import statements
from harness.view.index import SCHEMA
from harness.view.search import Within, parse_search
from harness.view.texts import MARKS, cut_into_segments

ROWS = (
    ("The sea was calm; the Café slept.", "Tell me about boats.", "the sea"),
    ("war and peace", "Tell me about war.", "war"),
    ("海の上の船と日本語", "Beschreibe das Meer!", "the sea"),
    ("100 % of it: don't  stop_now \\ here", "Say a number.", "numbers"),
    ("peace and war", "", ""),
)


TOKENS = ('"', "*", "-", "(", ")", ":", "^", "AND", "NOT", "NEAR(", "+", "war", "\0", "日", "%", "ß", "text")


@pytest.fixture(scope="module")
def index() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for statement in statements(SCHEMA):
        connection.execute(statement)
    for place, row in enumerate(ROWS):
        connection.execute("INSERT INTO texts VALUES (?, ?, ?, '', '', '', 0, '', NULL)", (place, str(place), place))
        connection.execute("INSERT INTO words (rowid, text, instruction, concept) VALUES (?, ?, ?, ?)", (place, *row))
    yield connection
    connection.close()


def found(index: sqlite3.Connection, text: str, within: Within = "all") -> list[int]:
    parse_search(text, within).find(index)
    rows = index.execute("SELECT position FROM hits ORDER BY 1").fetchall()
    index.execute("DROP TABLE hits")
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("sea", [0, 2]), ("SEA calm", [0]), ("cafe", [0]), ("tell", [0, 1]), ("calm boats", [0]),
        ('"war and peace"', [1]), ('"peace and war', [4]), ("war -tell", [4]), ("-war", [0, 2, 3]), ("-war -sea", [3]),
        ("boa*", [0]), ("boa", []), ("日本", [2]), ("海 船", [2]), ("-海", [0, 1, 3, 4]), ("%", [3]), ("_", [3]), ("\\", [3]), ("don't", [3]),
        ("stop_now", [3]), ("100", [3]), ("x OR war", []), ("text:war", []), ("war NOT tell", []), ("", [0, 1, 2, 3, 4]), ("  ", [0, 1, 2, 3, 4]),
        ('""', [0, 1, 2, 3, 4]), ("Café", [0]),
    ],
)  # fmt: skip
def test_a_search_finds(index: sqlite3.Connection, text: str, places: list[int]) -> None:
    assert found(index, text) == places


def test_a_search_within_one_part(index: sqlite3.Connection) -> None:
    assert found(index, "war", "text") == [1, 4]
    assert found(index, "war", "instruction") == [1]
    assert found(index, "sea", "concept") == [0, 2]
    assert found(index, "sea", "text") == [0]
    assert found(index, "!", "text") == []
    assert found(index, "!", "instruction") == [2]
    assert found(index, "-tell", "text") == [0, 1, 2, 3, 4]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30) | st.lists(st.sampled_from(TOKENS), max_size=8).map(" ".join))
def test_nothing_that_is_typed_breaks_it(index: sqlite3.Connection, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()  # an address holds no halves of characters
    assert set(found(index, text)) <= set(range(len(ROWS)))


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40), st.lists(st.text(min_size=1, max_size=3), max_size=2), st.none() | st.integers(0, 30))
def test_pieces_are_the_text(text: str, parts: list[str], longest: int | None) -> None:
    from harness.files.visible import visible

    text = text.replace(MARKS[0], "").replace(MARKS[1], "")
    shown, left = cut_into_segments(text, parts, longest)
    whole = text if longest is None else text[:longest]
    assert "".join(segment.text for segment in shown) == visible(whole)
    assert left == len(text) - len(whole)


def test_what_was_found_is_marked() -> None:
    shown, _ = cut_into_segments(f"a {MARKS[0]}sea{MARKS[1]} of 船 and {MARKS[0]}war", ["船"], None)
    assert [segment.text for segment in shown if segment.found] == ["sea", "船", "war"]
