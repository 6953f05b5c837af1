"""No text from outside acts on a terminal, in tables, lines or JSON; cells of CSV files run in no spreadsheet and come back as they were."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.files.csv_cells import GuardedWriter, guarded, unguarded
from harness.files.json_output import finite, json_text
from harness.files.screen import Screen
from harness.files.visible import in_cell, is_hidden, visible

ATTACKS = (
    "\x1b]0;title\x07", "\x1b]52;c;ZXZpbA==\x1b\\", "\x1b[2J", "\x9b31m", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "over\rwritten",
    "\u202egnp.exe", "\u2066a\u2069", "a\x00b", "half \ud800", "line\u2028two", "\x7f", "[red]x[/red]", "[link=http://x]y[/link]",
)  # fmt: skip
TEXTS = st.text(st.characters(codec=None), max_size=30) | st.sampled_from(ATTACKS)


@given(TEXTS)
def test_nothing_is_left_that_a_terminal_acts_on(text: str) -> None:
    shown = visible(text)
    acting = [one for one in shown if unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") and one not in "\n\t"]
    acting += [one for one in shown if unicodedata.bidirectional(one) in ("LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI")]
    assert acting == []
    assert visible(shown) == shown
    assert "\n" not in in_cell(text)
    assert "\t" not in in_cell(text)
    shown.encode("utf-8")


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("a 1 é 漢字 👩‍👩‍👧 שלום مرحبا", "two\nlines\tand a tab", "[red] is text"):
        assert visible(text) == text
    assert visible("\x1b[2J\x9b\u202e") == "\\x1b[2J\\x9b\\u202e"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("terminal", [True, False])
def test_a_console_shows_it_as_text_wherever_it_stands(attack: str, terminal: bool) -> None:
    file = io.StringIO()
    console = Screen(file=file, width=200, force_terminal=terminal, color_system="standard" if terminal else None, markup=False, highlight=False)
    table = Table(attack, title=Text(attack))
    table.add_row(Text(attack, style="bold"))
    for renderable in (attack, Text(attack), table, Panel(Text(attack), title=Text(attack))):
        console.print(renderable)
    written = re.sub(r"\x1b\[[\d;]*m", "", file.getvalue()) if terminal else file.getvalue()  # rich's own colours
    assert [one for one in written if is_hidden(one)] == []
    assert attack.replace("\x1b", "\\x1b")[:5] in written or is_hidden(attack[0]) or not attack.isprintable()
    if "[red]" in attack:
        assert "[red]x[/red]" in written


JSON = st.recursive(st.none() | st.booleans() | st.floats() | TEXTS, lambda part: st.lists(part) | st.dictionaries(TEXTS, part), max_leaves=8)


@given(JSON, st.booleans())
def test_json_keeps_the_data_and_acts_on_no_terminal(value: object, plain: bool) -> None:
    text = json_text(value, indent=2, plain=plain)  # type: ignore[arg-type]
    assert [one for one in text if is_hidden(one)] == []
    assert not plain or text.isascii()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    assert json.dumps(json.loads(text, parse_constant=refuse)) == json.dumps(finite(value))


CELLS = st.text(st.sampled_from("=+-@'\" \t\r\n,;ab1.eE\u3000＝"), max_size=8) | st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(CELLS)
@example("'=1")
@example("''-1")
@example("-0.5")
@example("'-0.5")
@example("\t=cmd()")
@example(" \n@x")
def test_a_guarded_cell_comes_back(cell: str) -> None:
    assert unguarded(guarded(cell)) == cell
    written = guarded(cell)
    number = re.fullmatch(r"-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", written)
    assert number or not re.match(r"[\s\"]*[=+\-@\t\r]", written)


@given(st.lists(st.lists(CELLS | st.floats(allow_nan=False) | st.integers(), min_size=2, max_size=2), max_size=5))
def test_a_guarded_file_comes_back(rows: list[list[object]]) -> None:
    file = io.StringIO(newline="")
    GuardedWriter(file, quoting=csv.QUOTE_ALL).rows(rows)
    found = [[unguarded(cell) for cell in row] for row in csv.reader(io.StringIO(file.getvalue(), newline=""))]
    assert found == [[str(cell) for cell in row] for row in rows]


@pytest.mark.parametrize("number", ["-0.5", "1e-3", "-12", ".5", "3."])
def test_numbers_stay_numbers(number: str) -> None:
    assert guarded(number) == number


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-x", "- 1", "@SUM(A1)", "\tx", "\rx", " =1", "'=1", '"=1', "＝1", "-1-1", "-0.5|x"])
def test_formulas_are_guarded(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"
