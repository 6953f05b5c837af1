"""Pages as text: what is data stays data, the HTML is valid, a page stays small, and a site replaces nothing but itself."""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import html5lib
import pytest
from helpers.pages import GRID, HOSTILE, details_for, hostile
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.leaderboard.site.build import build_site
from harness.leaderboard.site.details import Text
from harness.leaderboard.site.entry_page import entry_page
from harness.leaderboard.site.limits import MAX_BYTES
from harness.leaderboard.site.pages import FOLDER, json_block, shown
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.site.tables import leading_number

TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
TEXTS = st.text(max_size=60) | st.sampled_from([*HOSTILE[:5], "\ud800", "<!--<script>", "&lt;"])


@settings(max_examples=80, deadline=None)
@given(st.lists(TEXTS, max_size=4), st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False) | st.none(), max_size=3))
def test_json_in_a_page_is_data_and_nothing_else(texts: list[str], numbers: dict[str, float | None]) -> None:
    block = str(json_block([texts, numbers]))
    assert not set(block) & set("<>&\u2028\u2029\u202e\x00")
    block.encode("utf-8")
    assert json.loads(block)[0] == [shown(text) for text in texts]


@settings(max_examples=80, deadline=None)
@given(TEXTS)
def test_text_in_a_page_keeps_every_letter_that_acts_on_nothing(text: str) -> None:
    kept = shown(text)
    acting = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs") or unicodedata.bidirectional(letter) in TURNS} - set("\t\n\r")
    assert not acting & set(kept)
    if not acting and kept != text:
        assert "[U+" in kept, "only code points that are no characters are left"


def test_pages_are_valid_and_hold_no_markup_of_a_text(pages: Any) -> None:
    parser = html5lib.HTMLParser(strict=True)  # raises for the first error of syntax
    for path in pages.files:
        text = path.read_text(encoding="utf-8")
        bare = re.sub(r"(<(script|style)>).*?(</\2>)", r"\1\3", text, flags=re.DOTALL)  # our own scripts, which are no HTML
        tree = parser.parse(bare)
        names = [element.tag.rpartition("}")[2] for element in tree.iter() if isinstance(element.tag, str)]
        assert "img" not in names, path
        assert {name for element in tree.iter() if isinstance(element.tag, str) for name in element.attrib if name.startswith("on")} == set()
        assert "window.hacked" not in "".join(re.findall(r"<script.*?</script>", bare.replace(str(json_of(text)), ""), flags=re.DOTALL))
        ids = re.findall(r' id="([^"]+)"', bare)
        assert len(ids) == len(set(ids)), path
        assert [name for name in re.findall(r'aria-labelledby="([^"]+)"', bare) if name not in ids] == []
        assert "http://" not in bare
        assert "https://" not in bare


def json_of(page: str) -> str:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    return found[1] if found else ""


def test_the_policy_allows_no_inline_code_and_no_connection(pages: Any) -> None:
    for path in pages.files:
        policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', path.read_text(encoding="utf-8"))
        assert policy is not None
        assert "default-src &#39;none&#39;" in policy[1]
        assert "unsafe" not in policy[1]
        assert "connect-src" not in policy[1]


def test_every_number_of_the_entry_is_in_a_table_without_scripts(pages: Any) -> None:
    text = pages.report.read_text(encoding="utf-8")
    for row in pages.entries[0].rows_of("steering"):
        assert f"{row.score.value:.3f}" in text
        for item in row.items:
            assert f"{item.values['overall']:.3f}" in text
    for expected in ("the same rule chooses the same feature", "0.75", "95 %", "as reported", "harness eval --task"):
        where = text if expected != "as reported" else (pages.site / "index.html").read_text(encoding="utf-8")
        assert expected in where, expected


def test_losses_of_trainings_stand_in_a_table_and_a_figure(pages: Any) -> None:
    text = pages.report.read_text(encoding="utf-8")
    for expected in ("2.500", "1.250", "2.750", "1.500", "and 2 more"):
        assert expected in text, expected
    figure = json.loads(json_of(text))["training-losses"]
    assert [(point["loss"], point["step"], point["low"]) for point in figure["panels"][0]["points"]] == [
        ("training", 10, 2.0), ("training", 20, 1.0), ("held out", 0, 2.0), ("held out", 10, 2.0), ("held out", 20, 1.25),
    ]  # fmt: skip
    assert figure["panels"][1]["points"] == []


def test_a_page_stays_small_and_says_what_it_leaves_out(make_entry: Any, make_result: Any) -> None:
    concepts = [f"concept {number}" for number in range(700)]
    rows = [make_result(f"method-{number}", [0.5] * len(concepts), concepts=concepts) for number in range(4)]
    entry = make_entry(*rows)
    details = details_for(entry, n_texts=60)
    long = [Text(strength / 14, f"{hostile(2)} {'long text, ' * 300}", 1.0, (1, 1, 1), "words " * 200) for strength in range(14)]
    texts = tuple(replace(one, methods={name: tuple(long) for name in one.methods}) for one in details.texts)
    curves = tuple(
        replace(c, strengths=tuple(range(14)), mean=c.mean * 7, concepts={name: rows * 7 for name, rows in c.concepts.items()})
        for c in details.curves
    )
    big = replace(details, texts=texts, curves=curves)
    page = entry_page(entry, big)
    assert len(page.encode()) <= MAX_BYTES < 3_000_000
    assert "of 700" in page
    assert "runs export" in page
    assert page == entry_page(entry, big)


def test_a_site_replaces_itself_and_nothing_else(entries: Any, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    made = build_site(entries[:3], folder)
    assert [path.name for path in made.pages[:1]] == ["index.html"]
    assert len(list((folder / "entries").iterdir())) == 3
    assert {path.name for path in (folder / "assets").iterdir()} >= {"d3.min.js", "plot.umd.min.js", "d3.LICENSE", "plot.LICENSE", "site.css"}
    build_site(entries[:1], folder)
    assert len(list((folder / "entries").iterdir())) == len(list((folder / "data").iterdir())) == 1
    foreign = tmp_path / "documents"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(StoreError) as caught:
        build_site(entries, foreign)
    assert caught.value.given == foreign
    assert [path.name for path in foreign.iterdir()] == ["letter.txt"]


def test_a_site_without_entries_says_so(tmp_path: Path) -> None:
    build_site([], tmp_path / "site")
    assert "no entries yet" in (tmp_path / "site" / "index.html").read_text(encoding="utf-8")


def test_vendored_files_are_those_that_are_pinned() -> None:
    import hashlib

    folder = FOLDER / "static" / "vendor"
    pins = json.loads((folder / "vendor.json").read_text(encoding="utf-8"))
    files = {name: file["sha256"] for pin in pins for name, file in pin["files"].items()}
    assert {path.name for path in folder.iterdir()} == {*files, "vendor.json"}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files} == files
    assert sum((folder / name).stat().st_size for name in files) < 1_000_000


@given(st.lists(st.integers(), unique=True, max_size=60), st.integers(0, 20))
def test_what_is_shown_of_many_is_spread_over_all(values: list[int], most: int) -> None:
    found = spread_out(values, most)
    assert len(found) == min(len(values), most)
    assert found == [value for value in values if value in found]
    if most > 1 and values:
        assert (found[0], found[-1]) == (values[0], values[-1])


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.431", 0.431), ("1,234", 1234.0), ("[0.26, 0.61]", 0.26), ("24/24", 24.0), ("–", None), ("0.3 (0.2–0.4)", 0.3), ("-0.1", -0.1)],
)
def test_cells_are_sorted_by_their_first_number(text: str, number: float | None) -> None:
    assert leading_number(text) == number


def test_strengths_of_the_fixture_are_the_grid(entries: Any) -> None:
    assert entries[0].rows[0].subject.grid == GRID
