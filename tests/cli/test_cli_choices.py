"""``--strengths`` and ``--concepts``: what is run, that it is part of the run's identity, and that an entry says that it is a part of the task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.concepts import choose_concepts
from harness.errors import OptionError, UnknownNameError
from harness.types import Concept

COMMAND = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--no-controls")


def test_a_run_of_some_concepts_at_some_strengths(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    there = ("--task", tiny_task, "--out", tmp_path, "--json")
    entry = harness(*COMMAND, *there, "--concepts", "mom,a big", "--strengths", "0.25,0.75").json
    (row,) = entry["rows"]
    assert row["subject"]["grid"] == [0.25, 0.75]
    assert [item["id"] for item in row["items"]] == ["big", "mom"]
    assert (row["n_items"], row["coverage"]) == (2, 1.0)
    assert any(warning.startswith("--concepts: only 2 of the task's concepts were run (big, mom)") for warning in entry["warnings"])

    again = harness(*COMMAND, *there, "--concepts", "BIG", "--concepts", "mom", "--strengths", "sae-clamp=0.25,0.75").json
    assert again["run_digest"] == entry["run_digest"]  # the same question, asked in other words
    shown = harness(*COMMAND, *there, "--concepts", "mom,a big", "--strengths", "0.25", "--dry-run").json
    assert shown["methods"][0]["grid"] == "0.25"
    assert shown["estimate"]["concepts"] == 2
    one = harness(*COMMAND, *there, "--concepts", "big", "--strengths", "0.25,0.75").json
    assert one["run_digest"] != entry["run_digest"]
    assert one["concept_set_digest"] != entry["concept_set_digest"]


def test_labels_of_some_concepts(harness: Callable[..., Any], tiny_task: Path, variant: Callable[..., Path]) -> None:
    found = harness("label", "--labeler", "calibf1", "--task", tiny_task, "--concepts", "big", "--json").json
    assert [row["concept"] for row in found["labels"]] == ["big"]
    chosen = variant(('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"'))
    found = harness("label", "--labeler", "calibf1", "--task", chosen, "--concepts", "girl,mom", "--json").json
    assert {row["concept"] for row in found["labels"]} == {"girl", "mom"}
    few = variant(('mode = "fixed"\nfile = "concepts.jsonl"', 'mode = "chosen"'), ("min_support = 10", "min_support = 63"), name="few")
    assert "label 'mom'" in harness("label", "--labeler", "calibf1", "--task", few, "--concepts", "mom").error


def test_what_is_refused(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    def error(*arguments: str) -> str:
        return str(harness(*COMMAND, "--task", tiny_task, "--out", tmp_path, *arguments).error)

    assert "did you mean 'girl'?" in error("--concepts", "mom,gril")
    assert "empty name" in error("--concepts", "mom,,girl")
    assert "0.2,0.1" in error("--strengths", "0.2,0.1")
    assert "did you mean 'sae-clamp'?" in error("--strengths", "sae-clmp=0.1")
    assert not (tmp_path / "runs").exists()


def test_names_of_concepts() -> None:
    one, two, three = Concept("1", "cooking, baking", "food"), Concept("2", "Chess", "games"), Concept("3", "go", "games")
    concepts = [one, two, three]
    assert choose_concepts(concepts, []) == concepts
    assert choose_concepts(concepts, ["cooking, baking"]) == [one]  # a text with a comma is one name
    assert choose_concepts(concepts, ["3,food"]) == [one, three]
    assert choose_concepts(concepts, ["games"]) == [two, three]
    assert choose_concepts(concepts, ["chess", "2"]) == [two]
    with pytest.raises(UnknownNameError) as unknown:
        choose_concepts(concepts, ["ches"])
    assert unknown.value.near == "Chess"
    with pytest.raises(OptionError):
        choose_concepts(concepts, [" "])
