"""Damaged bytes in an entry's file: either the entry is as it was written, or one StoreError names the file."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import StoreError
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entries, load_entry, save_entry

COPIES = int(os.environ.get("HARNESS_DAMAGED_COPIES", "150"))


def damaged(content: bytes, draw: random.Random) -> bytes:
    """``content`` with a byte or a run of bytes changed, a digit replaced, or its end cut off."""
    file = bytearray(content)
    place = draw.randrange(len(file))
    kind = draw.choice(("byte", "digit", "digit", "bit", "zeros", "cut"))
    if kind == "byte":
        file[place] = draw.randrange(256)
    elif kind == "bit":
        file[place] ^= 1 << draw.randrange(8)
    elif kind == "zeros":
        file[place : place + 16] = bytes(len(file[place : place + 16]))
    elif kind == "cut":
        del file[place:]
    else:
        digits = [at for at, byte in enumerate(file) if chr(byte).isdigit()]
        file[draw.choice(digits)] = ord(draw.choice("0123456789"))
    return bytes(file)


def loaded(path: Path) -> Entry | None:
    """The entry, or None where it is refused by one line that names the file; any other error passes."""
    try:
        return load_entry(path)
    except StoreError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert str(path) in refusal
    return None


def test_a_damaged_entry_is_one_line_and_never_other_values(tmp_path: Path, make_entry: Callable[..., Any], make_result: Callable[..., Any]) -> None:
    entry = make_entry(make_result("calibf1", [0.9, 0.7, 1.0, 0.8]), make_result("random", [0.1] * 4, role="control"))
    content = save_entry(entry, tmp_path / "good.json").read_bytes()
    path = tmp_path / "entries" / "copy.json"
    path.parent.mkdir()
    refused = 0
    for number in range(COPIES):
        path.write_bytes(damaged(content, random.Random(number)))
        found = loaded(path)
        refused += found is None
        assert found is None or found.as_json() == entry.as_json(), f"copy {number} gave other values"
        entries, problems = load_entries(path.parent)
        assert (len(entries), len(problems)) == ((0, 1) if found is None else (1, 0))
    assert refused > COPIES / 2
