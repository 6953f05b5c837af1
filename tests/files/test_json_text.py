"""JSON from outside: depth, lone surrogates, numbers that are none, and lines."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import DataError
from harness.files.inputs import Input
from harness.files.json_text import DEEPEST, JsonError, json_lines, parse_json, read_json, without_surrogates

KIND = Input("list of concepts", DataError, "give JSON lines")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_json_wrote_is_read(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert parse_json(text) == value
    assert parse_json(b"\xef\xbb\xbf" + text.encode()) == value


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("levels", [DEEPEST + 1, 900, 100_000])
def test_json_that_is_nested_too_deeply_is_a_value_error(opening: str, levels: int) -> None:
    text = opening * levels + "1" + {"[": "]"}.get(opening, "}") * levels
    for given_text in (text, opening * levels):
        with pytest.raises(JsonError):
            parse_json(given_text)
    assert parse_json(opening * DEEPEST + "1" + {"[": "]"}.get(opening, "}") * DEEPEST)


@pytest.mark.parametrize("text", ['"\\ud800"', '{"\\uDFFF": 1}', '["a", {"b": "x\\udc00y"}]', '"\ud800"'])
def test_half_characters_are_refused_or_replaced(text: str) -> None:
    with pytest.raises(JsonError):
        parse_json(text)
    found = json.dumps(parse_json(text, surrogates="replace"), ensure_ascii=False)
    assert "\ufffd" in found
    assert found.encode()
    with pytest.raises(JsonError):
        parse_json(text.encode("utf-8", "surrogatepass"))


def test_whole_characters_and_escaped_backslashes_are_left_alone() -> None:
    assert parse_json('["\\ud83d\\ude00", "\\\\ud800"]') == ["\N{GRINNING FACE}", "\\ud800"]
    assert without_surrogates("a\ud800b\N{GRINNING FACE}") == "a\ufffdb\N{GRINNING FACE}"


def test_constants_that_are_no_json() -> None:
    assert math.isnan(parse_json("NaN"))
    for text in ("NaN", "[Infinity]", "-Infinity", "9" * 5000, '{"a": 1,}', "", b"\xff"):
        with pytest.raises(JsonError) as caught:
            parse_json(text, constants=False)
        assert "\n" not in str(caught.value)


def test_lines_of_objects(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    for encoding in ("utf-8-sig", "utf-16", "utf-8"):
        path.write_bytes('{"a": "x\u2028\u0085\x1cy"}\r\n\r\n# a comment\n// another\n{"a": 2}'.replace("\x1c", "\\u001c").encode(encoding))
        assert list(json_lines(path, KIND)) == [(1, {"a": "x\u2028\u0085\x1cy"}), (5, {"a": 2})]


@pytest.mark.parametrize("line", ["[1]", "x", '{"a": "\\ud800"}', '{"a": NaN}', '{"a":' * 200 + "1" + "}" * 200, '"text"', "null"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"a": 1}}\n{line}\n', encoding="utf-8")
    with pytest.raises(DataError) as caught:
        list(json_lines(path, KIND))
    assert f"{path}, line 2" in caught.value.message
    assert line.startswith(str(caught.value.given))


@pytest.mark.parametrize("content", ["<!DOCTYPE html><html>", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"])
def test_a_page_or_pointer_in_place_of_json_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    for read in (read_json, lambda path, kind: list(json_lines(path, kind))):
        with pytest.raises(DataError) as caught:
            read(path, KIND)
        assert caught.value.given == path
        assert "HTML" in caught.value.message or "LFS" in caught.value.message


def test_a_number_of_thousands_of_digits_is_said_in_plain_words() -> None:
    with pytest.raises(JsonError, match="a whole number of more than") as error:
        parse_json("1" * 5000)
    assert "sys." not in str(error.value)
