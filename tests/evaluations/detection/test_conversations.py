"""Detection where texts answer instructions, and the corpus says which are for evaluation: what is scored, against what, and what ranks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.conversations import SHARED, conversation_bench, conversation_task

from harness.evaluations.detection.texts import detection_texts
from harness.run.bench import TaskBench

RUN = ("--detector", "bow", "--detector", "diff-mean", "--labeler", "max-auc", "--detector", "sae:pool=max", "--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return conversation_bench(tmp_path_factory.mktemp("conversations"))


def with_hard_negatives(folder: Path, negatives: str = "all") -> Path:
    """The task with six evaluation texts that are hard negatives of music, and the negatives that rank."""
    conversation_task(folder)
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        for number in range(6):
            row = {"id": f"h{number}", "text": f"{number} dentists drum on the table", "labels": ["drumming"], "genre": "text"}
            file.write(json.dumps({**row, "instruction": f"Who is number {number * 37}?", "part": "evaluation"}) + "\n")
    path = folder / "concepts.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    changed = [{**row, "hard_negatives": "drumming"} if row["id"] == "music" else row for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
    with (folder / "task.toml").open("a", encoding="utf-8") as file:
        file.write(f'\n[evaluation]\nnegatives = "{negatives}"\n')
    return folder


def test_evaluation_texts_are_scored_and_training_texts_fitted_on(bench: TaskBench) -> None:
    found = detection_texts(bench, bench.concepts)
    for part in (found.threshold, found.report):
        assert part.places is not None
        assert {bench.corpus[int(place)].part for place in part.places} == {"evaluation"}
        for text, place in zip(part.texts, part.places, strict=True):
            assert text, "the answer alone, as far as the model reads it"
            assert bench.corpus[int(place)].text.startswith(text)
        assert all(len(row) > SHARED for row in part.tokens)
    assert {bench.corpus[int(place)].part for place in bench.split.train} == {"train"}
    truth = found.truth("music")
    assert truth.plain is not None
    assert truth.others is not None
    documents = [bench.corpus[int(place)] for place in found.report.places]  # type: ignore[union-attr]
    assert truth.plain.tolist() == [not document.labels for document in documents]
    assert truth.others.tolist() == [bool(document.labels) and "music" not in document.labels for document in documents]
    assert not (truth.plain & truth.others).any()


def test_a_text_that_changes_is_read_under_its_own_instruction(tmp_path: Path) -> None:
    conversation_task(tmp_path / "task")
    path = tmp_path / "task" / "concepts.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({**row, "keywords": ["drum", "jazz", "piano"]}) + "\n" for row in rows[:1]), encoding="utf-8")
    bench = conversation_bench(tmp_path)
    found = detection_texts(bench, bench.concepts)
    changed = found.changed("music")
    assert changed is not None
    assert len(changed.texts) > 0
    for row, text, ids in zip(changed.rows, changed.texts.texts, changed.texts.tokens, strict=True):
        document = bench.corpus[int(found.report.places[row])]  # type: ignore[index]
        assert "drum" not in text.lower().split()
        assert ids[: SHARED + 3].tolist() == bench.model.prompt(document.instruction)[: SHARED + 3]
        assert bench.model.decode(ids.tolist()).endswith(text[: 64 - len(bench.model.prompt(document.instruction))])


def test_a_run_reports_plain_texts_and_other_concepts_apart(tmp_path: Path, harness: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    entry = harness("eval", "--task", with_hard_negatives(tmp_path / "task"), *RUN, "--out", tmp_path, "--json").json
    rows = {row["subject"]["detector"]: row for row in entry["rows"]}
    assert set(rows) >= {"bow", "diff-mean", "sae"}
    assert "negatives" not in entry["protocol"]
    for row in rows.values():
        assert row["primary"] == "auroc"
        names = set(row["metrics"])
        assert names >= {"auroc", "auroc_plain", "auroc_others", "auroc_hard_negatives", "hard_negatives_rejected_youden"}
        music = next(item for item in row["items"] if item["id"] == "music")
        assert "hard_negatives_rejected_youden" in music["values"]
        assert "hard_negatives_rejected_youden" not in next(item for item in row["items"] if item["id"] == "bread")["values"]
        for item in row["items"]:
            shares = [item["details"][f"{name}_negatives"] for name in ("plain", "others")]
            apart = music["details"]["hard_negatives"]
            assert item["details"]["negatives"] == sum(shares) + (apart if item is not music else 0), "hard negatives are in neither"
        pooled = np.average([music["values"]["auroc_plain"], music["values"]["auroc_others"]], weights=[
            music["details"]["plain_negatives"], music["details"]["others_negatives"]
        ])  # fmt: skip
        assert music["values"]["auroc"] == pytest.approx(pooled)
    ranked = harness("eval", "--task", with_hard_negatives(tmp_path / "others", "others"), *RUN, "--out", tmp_path, "--json").json
    assert ranked["protocol"]["negatives"] == "others"
    assert ranked["task"]["digest"] != entry["task"]["digest"]
    for row in ranked["rows"]:
        same = rows[row["subject"]["detector"]]
        assert row["primary"] == "auroc_others"
        assert row["ranked"]["value"] == pytest.approx(same["metrics"]["auroc_others"]["value"])
        assert row["metrics"]["auroc"]["value"] == same["metrics"]["auroc"]["value"], "the texts and their scores are the same"
