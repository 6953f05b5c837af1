"""Sets of aspect texts: what is read, what is refused, and what the shipped one holds."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.data.aspects import VARIANTS, aspects_digest, open_aspects
from harness.data.concepts import open_concepts
from harness.data.keywords import KeywordMatcher
from harness.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "tasks" / "aspects" / "aspects.jsonl"
ROW: dict[str, Any] = {
    "id": "1", "concept": "a", "others": ["b"], "text": "one", "target_removed": "two", "others_removed": "three", "added": "four", "further": ["c"],
}  # fmt: skip


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_set_is_read(tmp_path: Path) -> None:
    (one,) = open_aspects(write(tmp_path / "a.jsonl", ROW))
    assert (one.id, one.concept, one.variants, one.others, one.further) == ("1", "a", ("one", "two", "three", "four"), ("b",), ("c",))
    same = write(tmp_path / "b.jsonl", dict(reversed(ROW.items())))
    assert aspects_digest(same) == aspects_digest(tmp_path / "a.jsonl")
    assert aspects_digest(write(tmp_path / "c.jsonl", {**ROW, "added": "five"})) != aspects_digest(same)


@pytest.mark.parametrize(
    "change",
    [{"added": ""}, {"text": 3}, {"others": "b"}, {"further": [1]}, {"others": ["a"]}, {"added": "one"}],
    ids=["empty", "no text", "no list", "no names", "the target beside itself", "two variants alike"],
)
def test_a_row_that_is_none_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError):
        open_aspects(write(tmp_path / "a.jsonl", {**ROW, **change}))


def test_an_id_comes_once_and_a_set_is_not_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        open_aspects(write(tmp_path / "a.jsonl", ROW, ROW))
    with pytest.raises(DataError):
        open_aspects(write(tmp_path / "b.jsonl"))


def test_the_shipped_set_is_of_the_demos_concepts_and_varied() -> None:
    texts = open_aspects(SHIPPED)
    concepts = {concept.id: concept for concept in open_concepts(ROOT / "tasks" / "demo" / "concepts.jsonl")}
    reported = {concept.id for concept in open_concepts(ROOT / "tasks" / "demo" / "concepts.jsonl", split="report")}
    counts = Counter(one.concept for one in texts)
    assert len(texts) >= 120
    assert counts.keys() == reported
    assert min(counts.values()) >= 5
    assert len({variant for one in texts for variant in one.variants}) == len(VARIANTS) * len(texts)
    assert all({*one.others, *one.further} <= concepts.keys() and one.others and one.further for one in texts)
    assert len({tuple(text.split()[:3]) for text in (one.variants[0] for one in texts)}) > 0.9 * len(texts)  # no template
    assert not {one.variants[0] for one in texts} & {json.loads(line)["text"] for line in (ROOT / "tasks/demo/corpus.jsonl").open(encoding="utf-8")}


def test_the_shipped_variants_are_what_they_are_called() -> None:
    """By the demo's lists of words, which know false friends (a brush, a program): so nearly always."""
    concepts = {concept.id: KeywordMatcher(concept.keywords) for concept in open_concepts(ROOT / "tasks" / "demo" / "concepts.jsonl")}

    def shows(name: str, text: str) -> bool:
        return concepts[name].without(text) != text

    texts = open_aspects(SHIPPED)
    share = {variant: sum(shows(one.concept, one.variants[place]) for one in texts) / len(texts) for place, variant in enumerate(VARIANTS)}
    assert share["text"] > 0.9
    assert share["others_removed"] > 0.9
    assert share["added"] > 0.9
    assert share["target_removed"] < 0.05
    assert sum(shows(other, one.variants[2]) for one in texts for other in one.others) / len(texts) < 0.05
    assert sum(all(shows(name, one.variants[3]) for name in one.further) for one in texts) / len(texts) > 0.6
