"""Why concepts have no answer: said before labelling, in the table and in the entry; and by `tasks validate` where the corpus is at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMAND = ("eval", "--labeler", "most-frequent", "--steerer", "sae-clamp", "--detector", "bow", "--no-controls")


def test_eval_says_why_a_concept_has_no_answer(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    task = variant(("min_support = 10", "min_support = 10"))
    concepts = task / "concepts.jsonl"
    rows = [json.loads(line) for line in concepts.read_text(encoding="utf-8").splitlines()]
    rows[0]["label"] = "gril"
    concepts.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    done = harness(*COMMAND, "--task", task, "--out", tmp_path)
    assert done.code == 0, done.err
    why = "the corpus has no label 'gril'; did you mean 'girl'?"
    assert f"concept girl: {why}" in done.err
    assert f"concept girl has no answer: {why}" in " ".join(done.out.split())
    assert "concept zebra has no answer: the corpus has no label 'zebra'" in " ".join(done.out.split())
    entry = harness(*COMMAND, "--task", task, "--out", tmp_path, "--json").json
    steered = next(row for row in entry["rows"] if row["kind"] == "steering")
    assert {item["id"]: item["reason"].startswith(why) for item in steered["items"] if not item["answered"]} == {"girl": True, "zebra": False}
    assert any("girl" in warning and why in warning for warning in entry["warnings"])  # detection leaves it out

    problems = json.loads(harness("tasks", "validate", task, "--json").out)[0]
    assert problems["problems"] == [f"concept 'girl': {why}"]
    assert "concept 'zebra': the corpus has no label 'zebra'" in problems["notes"]


def test_too_few_texts_and_a_wrong_column_are_said(harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path) -> None:
    few = variant(("min_support = 10", "min_support = 1000"), name="few")
    done = harness("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--no-controls", "--task", few, "--out", tmp_path / "few", "--json")
    reasons = [item["reason"] for item in done.json["rows"][0]["items"]]
    assert all("of the 1000 texts that concepts.min_support asks for" in reason for reason in reasons if "'zebra'" not in reason)
    assert any("of the 1000 texts" in note for note in json.loads(harness("tasks", "validate", few, "--json").out)[0]["notes"])

    wrong = variant(('source = "corpus.jsonl"', 'source = "corpus.jsonl"\nlabel_field = "id"'), name="wrong")
    done = harness("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--no-controls", "--task", wrong, "--out", tmp_path / "w", "--json")
    said = "its labels are read from column 'id', and it has the columns id, text, labels"
    assert any(said in warning for warning in done.json["warnings"])
    assert said in json.loads(harness("tasks", "validate", wrong, "--json").out)[0]["problems"][0]


def test_too_few_instructions_are_found_before_anything_is_labelled(
    harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path
) -> None:
    few = variant(("per_concept = 4", "per_concept = 40"))
    done = harness("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--task", few, "--out", tmp_path)
    assert "6 instructions" in done.error
    assert "labelling" not in done.err
    assert "indexing" not in done.err
    assert any("6 instructions" in problem for problem in json.loads(harness("tasks", "validate", few, "--json").out)[0]["problems"])
    shown = harness("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--task", few, "--out", tmp_path, "--dry-run")
    assert "6 instructions" in shown.out
