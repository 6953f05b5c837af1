"""Instruction sets: AlpacaEval's list and our own lines."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from harness.data import open_instructions
from harness.errors import DataError, UnknownNameError
from harness.types import Instruction


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
    with pytest.raises(UnknownNameError, match="did you mean 'report'"):
        open_instructions(path, "reports")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no instructions"),
        ("[]", "holds no instructions"),
        ('[{"instruction": "a"', "neither a JSON list nor JSON lines"),
        ('{"text": "a"}\n{"tex', "neither a JSON list nor JSON lines"),
        ('[{"instruction": "a"}, {"output": "b"}]', "row 2 of .* has no 'text'"),
        ('{"text": " "}', "line 1 of .* has no 'text'"),
        ('"just a string"', "line 1 of .* has no 'text'"),
        ('{"text": "a"}\n{"text": "a"}', "two instructions with the id"),
        ('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "two instructions with the id '1'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "i.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        open_instructions(path)


def test_missing_or_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        open_instructions(tmp_path / "none.json")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        open_instructions(tmp_path / "binary")
