"""Files among the entries that are none: each costs itself alone, in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.errors import StoreError
from harness.leaderboard.files import load_entries, load_entry

BAD = {
    "deep": b"[" * 100_000,
    "deep-object": b'{"schema_version": 2, "rows": ' + b"[" * 900 + b"]" * 900 + b"}",
    "surrogate": b'{"schema_version": 2, "id": "\\ud800"}',
    "digits": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "nan": b'{"schema_version": NaN}',
    "latin": b'{"schema_version": 2, "id": "\xe4"}',
    "list": b"[]",
    "old": b'{"schema_version": 1, "results": [[]], "task": []}',
    "rows": b'{"schema_version": 2, "rows": {"a": 1}}',
    "page": b"<!DOCTYPE html><html></html>",
    "empty": b"",
}


def test_each_bad_entry_is_one_line_and_stops_no_other(tmp_path: Path) -> None:
    for name, content in BAD.items():
        (tmp_path / f"{name}.json").write_bytes(content)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    (tmp_path / "gone.json").symlink_to("nowhere")
    entries, problems = load_entries(tmp_path)
    assert entries == []
    assert len(problems) == len(BAD) + 4
    assert all(problem.isprintable() and len(problem) < 1000 for problem in problems)


@pytest.mark.parametrize("value", [None, [], {}, "x", 1e400, True, [[1]], {"a": {}}])
def test_a_field_of_any_type_is_a_store_error(tmp_path: Path, value: object) -> None:
    for version in (1, 2):
        for field in ("task", "model", "rows", "results", "decoding", "created", "seed", "judge"):
            path = tmp_path / "x.json"
            path.write_text(json.dumps({"schema_version": version, field: value}))
            with pytest.raises(StoreError) as caught:
                load_entry(path)
            assert caught.value.hint
