"""Instruction sets: AlpacaEval's list and our own lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.data import open_instructions
from harness.errors import DataError, UnknownNameError
from harness.types import Instruction, Json, digest


def test_alpaca_eval(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "alpaca_eval" / "instructions.json"
    instructions = open_instructions(path)
    rows = json.loads(path.read_text())
    assert [instruction.text for instruction in instructions] == [row["instruction"] for row in rows]
    assert len({instruction.id for instruction in instructions}) == 805
    random.Random(0).shuffle(rows)
    (tmp_path / "some.json").write_text(json.dumps(rows[:100]))
    assert set(open_instructions(tmp_path / "some.json")) < set(instructions), "ids stay the same in a subset"


def test_own_lines_and_splits(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": "a", "text": "Do this.", "split": "report"}\r\n\r\n{"id": 2, "text": "Do that.", "split": "development"}\n'
    )
    assert open_instructions(path) == [Instruction("a", "Do this."), Instruction("2", "Do that.")]
    assert open_instructions(path, "development") == [Instruction("2", "Do that.")]
    with pytest.raises(UnknownNameError) as error:
        open_instructions(path, "reports")
    assert (error.value.given, error.value.near) == ("reports", "report")


@pytest.mark.parametrize(
    ("content", "given", "place"),
    [
        ("", None, "i.json"),
        ("[]", None, "i.json"),
        ('[{"instruction": "a"', None, "i.json"),
        ('{"text": "a"}\n{"tex', None, "i.json"),
        ('[{"instruction": "a"}, {"output": "b"}]', {"output": "b"}, "row 2"),
        ('{"text": " "}', {"text": " "}, "line 1"),
        ('"just a string"', "just a string", "line 1"),
        ('{"text": "a"}\n{"text": "a"}', digest("a", 12), "'a'"),
        ('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "1", "'b'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, given: Json, place: str) -> None:
    """``given``: None for the file itself. ``place``: where in it."""
    path = tmp_path / "i.json"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        open_instructions(path)
    assert error.value.given == (path if given is None else given)
    assert error.value.hint
    assert place in str(error.value)
    assert str(path) in str(error.value)


def test_missing_or_binary_files(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, reason in (("none.json", "there is no"), ("binary", "UTF-16")):
        with pytest.raises(DataError) as error:
            open_instructions(tmp_path / name)
        assert error.value.given == tmp_path / name
        assert "JSON" in error.value.hint
        assert reason in str(error.value)
