"""The run as a table: JSON lines and Parquet hold the same rows."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from helpers.runs import manifest
from helpers.stores import add_generations, add_trials

from harness.errors import StoreError
from harness.store import COLUMNS, OUTCOME_COLUMNS, Item, JudgeRecord, Outcome, RunStore, export
from harness.types import Concept, DetectionMethod, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Trial


@pytest.fixture
def run(tmp_path: Path):
    """Two methods (one without features), one trial without a text, one without a rating, a second judge."""
    with RunStore.create_or_open(tmp_path / "myrun", manifest()) as store:
        concept = Concept("c1", 'the sea, "deep"\nand blue', "sea", ("p",), ("n",))
        labeling = Labeling(concept, (FeatureRef("sae", 3), FeatureRef("sae", 4)), 0.5)
        clamp, prompt = Method("calibf1", "sae-clamp"), Method(None, "prompt")
        store.add_concepts([concept])
        store.add_instructions([Instruction("i1", "Write ünïcode.")])
        store.add_labelings("calibf1", [labeling])
        store.add_methods([clamp, prompt])
        bare = Labeling(concept)
        trials = [
            Trial(clamp.id, labeling.id, "c1", 0.4, "i1", 7),
            Trial(clamp.id, labeling.id, "c1", 0.8, "i1", 7),
            Trial(prompt.id, bare.id, "c1", 1.0, "i1", 7),
        ]
        add_trials(store, trials)
        add_generations(
            store,
            [Generation(trials[0].id, "pr", "text\none", 5, "eos"), Generation(trials[2].id, "pr", "text 3", 6, "length")]
        )
        first, second = store.add_judge(JudgeRecord("offline", "r1")), store.add_judge(JudgeRecord("other", "r1"))
        store.add_ratings(first, [Rating(trials[0].id, "rated", 2, 1, 0.5)])
        store.add_ratings(second, [Rating(trials[2].id, "unrated", reason="refused")])
        yield store


def rows_of(path: Path) -> list[dict[str, object]]:
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
    pq = pytest.importorskip("pyarrow.parquet")
    rows: list[dict[str, object]] = pq.read_table(path).to_pylist()
    return rows


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_one_row_a_trial_with_everything_that_belongs_to_it(run: RunStore, tmp_path: Path, name: str) -> None:
    assert export(run, tmp_path / "deep" / name) == 3
    first, second, third = rows_of(tmp_path / "deep" / name)
    assert list(first) == list(COLUMNS)
    judge = run.judges()[0].key
    assert first == {
        "run": "myrun", "trial_id": run.trials()[0].id, "method": "calibf1 × sae-clamp", "method_id": run.methods()[0].id,
        "labeler": "calibf1", "steerer": "sae-clamp", "concept_id": "c1", "concept": "the sea, \"deep\"\nand blue",
        "features": ["sae/3", "sae/4"], "strength": 0.4, "instruction_id": "i1", "instruction": "Write ünïcode.", "seed": 7, "draw": 0,
        "prompt": "pr", "text": "text\none", "n_tokens": 5, "finish": "eos", "judge": judge, "status": "rated",
        "concept_rating": 2.0, "instruction_rating": 1.0, "fluency_rating": 0.5, "reason": "",
    }  # fmt: skip
    assert (second["strength"], second["text"], second["judge"], second["status"]) == (0.8, None, None, None)
    assert (third["labeler"], third["features"], third["concept"], third["status"]) == (None, [], first["concept"], None)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]  # no temporary file is left


def test_another_judge_can_be_chosen(run: RunStore, tmp_path: Path) -> None:
    key = run.judges()[1].key
    export(run, tmp_path / "out.jsonl", key)
    rows = rows_of(tmp_path / "out.jsonl")
    assert [(row["judge"], row["status"], row["reason"]) for row in rows] == [
        (None, None, None),
        (None, None, None),
        (key, "unrated", "refused"),
    ]
    assert rows[2]["concept_rating"] is None


def test_many_rows_cross_the_blocks_of_reading_and_writing(run: RunStore, tmp_path: Path) -> None:
    method = run.methods()[1].id
    add_trials(run, [Trial(method, "none", "c1", 1.0, f"x{number}", 0) for number in range(2500)])
    for name in ("out.jsonl", "out.parquet"):
        assert export(run, tmp_path / name) == 2503
    assert rows_of(tmp_path / "out.jsonl") == rows_of(tmp_path / "out.parquet")


def test_what_cannot_be_exported_is_an_error_and_leaves_the_old_file(run: RunStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "out.csv")
    assert (error.value.given, error.value.allowed) == (tmp_path / "out.csv", (".jsonl", ".parquet"))
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "out.jsonl", "x")
    assert error.value.given == "x"
    assert error.value.allowed == tuple(judge.key for judge in run.judges())
    target = tmp_path / "out.parquet"
    target.write_text("old")
    add_trials(run, [Trial("m", "l", "c", 1.0, "i", 2**70)])
    with pytest.raises(StoreError) as error:
        export(run, target)
    assert error.value.allowed == ".jsonl"
    assert error.value.hint
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()].count("out.parquet") == 1
    assert not list(tmp_path.glob(".*.tmp"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / "file" / "out.jsonl")
    assert error.value.given in (errno.ENOTDIR, errno.EEXIST)
    assert str(tmp_path / "file" / "out.jsonl") in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_other_kinds_have_a_row_per_item_and_outcome(run: RunStore, tmp_path: Path, name: str) -> None:
    method, labeling = DetectionMethod("calibf1", "bow"), run.labelings("calibf1")[0]  # type: ignore[index]
    run.add_methods([method])
    places = {"method_id": method.id, "labeling_id": labeling.id, "concept_id": "c1"}  # type: ignore[union-attr]
    run.add_items([Item("d1", "detection", {"positives": ["é"]}, **places), Item("d2", "detection", {}, **places)])
    run.add_outcome("detect", Outcome("d1", "bow-1", "done", {"scores": [0.5]}))
    run.add_outcome("detect", Outcome("d1", "bow-2", "failed", None, reason="no memory"))
    assert export(run, tmp_path / name, kind="detection") == 3
    rows = rows_of(tmp_path / name)
    assert all(list(row) == list(OUTCOME_COLUMNS) for row in rows)
    assert rows[0] == {
        "run": "myrun", "kind": "detection", "item_id": "d1", "method": "calibf1 × bow", "method_id": method.id, "labeling_id": labeling.id,  # type: ignore[union-attr]
        "concept_id": "c1", "concept": 'the sea, "deep"\nand blue', "features": ["sae/3", "sae/4"], "strength": None, "instruction_id": "",
        "seed": 0, "draw": 0, "item": '{"positives":["é"]}', "stage": "detect", "source": "bow-1", "status": "done", "ticket": "", "reason": "",
        "value": '{"scores":[0.5]}',
    }  # fmt: skip
    assert [(row["item_id"], row["source"], row["status"], row["reason"]) for row in rows[1:]] == [
        ("d1", "bow-2", "failed", "no memory"),
        ("d2", None, None, None),
    ]
    assert export(run, tmp_path / name) == 3, "steering is still a row per trial"
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / name, kind="dictionary")
    assert (error.value.given, error.value.allowed) == ("dictionary", ("steering", "detection"))
    with pytest.raises(StoreError) as error:
        export(run, tmp_path / name, run.judges()[0].key, kind="detection")
    assert (error.value.given, error.value.allowed) == ("detection", "steering")
    assert error.value.hint
