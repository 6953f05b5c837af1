"""Task traits-mini: its pairs are pairs, its rubric is one; and what is printed of mixed vectors is a sum of single effects and what it lacks."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.judging.rubric import load_rubric
from harness.tasks.find import load_task

ROOT = Path(__file__).resolve().parents[2]
TASK = ROOT / "tasks" / "traits-mini"
TRAITS = ["impatience", "confusion", "scepticism", "incoherence"]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (TASK / name).read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def mixed() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mixed_traits", ROOT / "benchmarks" / "mixed_traits.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mixed_traits"] = module
    spec.loader.exec_module(module)
    return module


def test_each_trait_has_pairs_of_one_request() -> None:
    assert [row["id"] for row in rows("concepts.jsonl")] == TRAITS
    turns: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for row in rows("pairs.jsonl"):
        turns[row["part"], row["instruction"]][next(iter(row["labels"]), "")] = row["text"]
    assert all(set(own) == {"", *TRAITS} and len(set(own.values())) == 5 for own in turns.values())
    assert sum(part == "train" for part, _ in turns) == 24
    assert sum(part == "evaluation" for part, _ in turns) == 12
    assert len({text for own in turns.values() for text in own.values()}) == 36 * 5
    asked = {row["text"] for row in rows("instructions.jsonl")}
    assert len(asked) == 20
    assert not asked & {instruction for _, instruction in turns}


def test_the_task_and_its_rubric_are_read() -> None:
    task = load_task(TASK)
    assert [table.steerer for table in task.file.methods] == ["diff-mean", "caa"]
    assert task.file.corpus.conversations
    rubric = load_rubric(str(TASK / "rubric"))
    assert rubric.identity().startswith("traits/1")
    assert "request" in rubric.prompts["instruction"]


def test_mixed_effects_are_held_against_the_sum(mixed: ModuleType) -> None:
    """A rating of 0 unsteered, .5 and .25 of the single vectors and 1 of both: .25 beyond the sum."""
    names = [str(number) for number in range(12)]
    rated = {}
    for place, name in enumerate(names):
        lift = 0.1 * (place % 3)
        for mix, value in (((), 0.0), (("a",), 0.5), (("b",), 0.25), (("a", "b"), 1.0)):
            for trait in "ab":
                rated[mix, name, trait] = value + lift
    del rated[("a",), "3", "a"]  # unrated: its instruction is left out for that trait alone
    first, second = mixed.effects(rated, [("a", "b")], names)
    assert (first.trait, second.trait) == ("a", "b")
    assert (first.mixed.value, first.summed.value, first.difference.value) == pytest.approx((1.0, 0.75, 0.25))
    assert second.difference.value == pytest.approx(0.25)
    assert mixed.shown(first.difference).startswith("+0.25")


def test_a_mix_is_both_vectors_and_none_is_none(mixed: ModuleType) -> None:
    from harness.types import Concept

    found = mixed.mixes([Concept(name, name) for name in "abc"])
    assert found == [(), ("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c")]
