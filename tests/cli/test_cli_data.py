"""``harness data stats``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest


def test_stats_as_json(harness: Callable[..., Any], shared_data: Path, tiny_model_path: Path) -> None:
    found = harness(
        "data", "stats", shared_data / "stackexchange" / "beer", "--json", "--min-support", "20", "--model", tiny_model_path
    ).json
    assert (found["documents"], len(found["labels"]), found["skipped"], found["format"]) == (1029, 29, 0, "stackexchange")
    assert sum(one["labels"] for one in found["labels_by_support"]) == 153
    assert found["tokens"] > found["words"] > 0
    assert found["tokens_of"] == str(tiny_model_path)
    assert len(found["digest"]) == 16


def test_options_change_what_is_read(harness: Callable[..., Any], shared_data: Path, tmp_path: Path) -> None:
    coffee = shared_data / "stackexchange" / "coffee"
    words = [harness("data", "stats", coffee, "--json", *flags).json["words"] for flags in ((), ("--no-comments",), ("--limit", "5"))]
    assert words[0] > words[1] > words[2]
    table = tmp_path / "c.csv"
    table.write_text("key,body,topics\nk1,some text,a|b\nk2,other text,b\n")
    command = ("data", "stats", table, "--text-field", "body", "--label-field", "topics", "--id-field", "key", "--label-separator", "|")
    assert harness(*command, "--json").json["labels"] == {"b": 2, "a": 1}


def test_stats_for_people_say_everything(harness: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    rows = ['{"text": "one two", "labels": ["x"]}', "{broken", '{"text": "three", "labels": ["x", "y"]}', '{"text": ""}', "{cut"]
    path.write_text("\n".join(rows))
    done = harness("data", "stats", path, "--plot", tmp_path / "p.svg", env={"HARNESS_CACHE": str(tmp_path / "cache")})
    assert done.code == 0
    assert "2 texts, 3 words" in done.out
    assert "not counted; name a model with --model, or get the embedded one with `harness models fetch`" in done.out
    assert "labels by support" in done.out
    assert "█" in done.out
    assert "3 records skipped" in done.out
    assert "1 × not valid JSON" in done.out
    flat = done.out.replace("\n", "")
    assert f"skipped: {path} at byte {len(rows[0]) + 1}: not valid JSON" in flat
    assert "the last line breaks off: the file was cut off here" in flat
    assert ElementTree.parse(tmp_path / "p.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("nowhere",), ("nowhere",)),
        (("{coffee}", "--plot", "p.gif"), (".svg",)),
        (("{coffee}", "--text-field", "body"), ("stackexchange", "text_field")),
        (("{coffee}", "--model", "/no/such/model"), ("/no/such/model", "tokenizer")),
        (("hf:/no/such/folder",), ("/no/such/folder", "hf:owner/name")),
    ],
)
def test_mistakes_are_one_line(harness: Callable[..., Any], shared_data: Path, arguments: tuple[str, ...], names: tuple[str, ...]) -> None:
    coffee = str(shared_data / "stackexchange" / "coffee")
    line = harness("data", "stats", *(argument.replace("{coffee}", coffee) for argument in arguments)).error
    assert all(name in line for name in names)


def test_a_cache_that_cannot_be_written_to(harness: Callable[..., Any], shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = harness("data", "stats", shared_data / "stackexchange" / "coffee", env={"HARNESS_CACHE": str(tmp_path / "file" / "below")})
    assert str(tmp_path / "file" / "below") in done.error
    assert "HARNESS_CACHE" in done.error
