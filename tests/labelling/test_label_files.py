"""Label files: what is written is read again, in every format; what is none is refused in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError
from harness.files.rows import write_rows
from harness.labelling.compare import compare
from harness.labelling.files import label_rows, read_labels
from harness.types import Abstention, Concept, FeatureRef, Labeling

SAE = {"model_name": "m", "hook_name": "model.layers.2", "layer": 2, "d_in": 64, "d_sae": 512, "digest": "0123", "architecture": "jumprelu"}
COUNTS = {"score": 0.5, "tp": 3, "fp": 1, "fn": 2, "tn": 94, "support": 5, "precision": 0.75, "recall": 0.6, "f1": 0.66, "calibrated_f1": 0.5}


def answers() -> list[Any]:
    held = {**COUNTS, "score": 0.25, "auroc_frequency": None}
    other = {"feature": 9, "chosen_on": {**COUNTS, "score": 0.375}}
    evidence = {"features": [{"feature": 7, "threshold": 0.1, "chosen_on": COUNTS, "held_out": held}, other], "why": "because"}
    about = [{"feature": "sae/7", "output_score": 0.01, "promotes": [" a", "b"], "snippets": [{"text": "1", "token": "x"}]}, {}]
    return [
        Labeling(Concept("c", "the concept", "label, with a comma"), (FeatureRef("sae", 7), FeatureRef("sae", 9)), 0.5, {**evidence, "about": about}),
        Abstention(Concept("d", "another"), "no feature fires"),
        Labeling(Concept("e", "naïve “text”\nof two lines"), (FeatureRef("sae", 0),), None, {"features": "free text", "drawn_from": 3}),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_files_say_what_was_answered(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels.{suffix}"
    write_rows(label_rows(answers(), {"sae": SAE}, {"labeler": "mine", "pi0": 0.1}), path)
    file = read_labels(path)
    assert file.identity == {name: value for name, value in SAE.items() if name != "architecture"}
    assert [(x.concept, x.text, x.label, x.feature, x.score, x.held_out, x.reason) for x in file.labels] == [
        ("c", "the concept", "label, with a comma", 7, 0.5, 0.25, ""),
        ("c", "the concept", "label, with a comma", 9, 0.375, None, ""),
        ("d", "another", None, None, None, None, "no feature fires"),
        ("e", "naïve “text”\nof two lines", None, 0, None, None, ""),
    ]


def test_every_row_has_the_same_columns_and_all_the_evidence() -> None:
    rows = label_rows(answers(), {"sae": SAE}, {"labeler": "mine", "pi0": 0.1})
    assert len({tuple(row) for row in rows}) == 1
    first = rows[0]
    assert (first["made_labeler"], first["place"], first["threshold"], first["chosen_on_tp"], first["held_out_score"]) == ("mine", 0, 0.1, 3, 0.25)
    assert (first["output_score"], first["promotes"], first["evidence"]) == (0.01, [" a", "b"], {"why": "because"})
    assert rows[3]["evidence"] == {"drawn_from": 3}


@given(
    rows=st.lists(
        st.tuples(st.text(min_size=1).filter(lambda text: text.strip() and "\x00" not in text), st.integers(0, 2**31), st.floats(-9, 9)),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, float]]) -> None:
    labelings = [Labeling(Concept(name, name), (FeatureRef("sae", feature),), score) for name, feature, score in rows]
    folder = tmp_path_factory.mktemp("labels")
    for suffix in ("jsonl", "csv", "parquet"):
        write_rows(label_rows(labelings, {}, {"labeler": "l"}), folder / f"labels.{suffix}")
        found = read_labels(folder / f"labels.{suffix}").labels
        # CSV ends its own lines in \r\n, and a carriage return within a field is kept by quoting
        assert [(x.concept, x.feature, x.score) for x in found] == rows


def test_a_table_of_ones_own_needs_two_columns(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("concept,feature,group\nmusic,12.0,kitchen\nwater,3,\n", encoding="utf-8")
    file = read_labels(path)
    assert [(x.concept, x.text, x.feature, x.score) for x in file.labels] == [("music", "music", 12, None), ("water", "water", 3, None)]
    assert not file.identity


@pytest.mark.parametrize(
    ("content", "given", "place"),
    [
        ("concept,feature\n,1\n", None, "concept"),
        ("concept,feature\nx,one\n", "one", "feature"),
        ("concept,feature\nx,-1\n", -1, "feature"),
        ("concept,feature,score\nx,1,high\n", "high", "score"),
        ('{"concept": "x", "feature": 1, "score": Infinity}\n', math.inf, "score"),
        ('{"concept": "x", "feature": true}\n', True, "feature"),
    ],
)
def test_a_row_that_is_wrong_is_refused_by_its_number_and_value(tmp_path: Path, content: str, given: object, place: str) -> None:
    path = tmp_path / ("a.jsonl" if content.startswith("{") else "a.csv")
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_labels(path)
    assert repr(error.value.given) == repr(given)
    assert error.value.allowed
    assert error.value.hint
    for part in (str(path), "row 1", place, repr(given)):
        assert part in error.value.message


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.jsonl", '{"concept": "x", "feature": 1}\n[1]\n', ("a.jsonl", "line 2", "[1]")),
        ("a.jsonl", '{"concept": "x"', ("a.jsonl",)),
        ("a.parquet", "no parquet", ("a.parquet",)),
        ("a.txt", "", ("a.txt", ".jsonl", ".csv", ".parquet")),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str, parts: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_labels(tmp_path / name)
    assert all(part in str(error.value) for part in parts)


@pytest.mark.parametrize(("content", "columns"), [("concept,index\nx,1\n", "concept, index"), ("concept,feature\n", "concept and feature")])
def test_a_table_without_labels_is_refused(tmp_path: Path, content: str, columns: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_labels(path)
    assert error.value.given == path
    assert "harness label" in error.value.hint
    assert "concept and feature" in str(error.value)
    assert columns in str(error.value)


def test_a_missing_file_and_two_saes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_labels(tmp_path / "labels.csv")
    assert error.value.given == tmp_path / "labels.csv"
    assert "-o labels.csv" in error.value.hint
    rows = [{"concept": "x", "feature": 1, "sae_d_sae": 512}, {"concept": "x", "feature": 1, "sae_d_sae": 64}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_labels(tmp_path / "a.jsonl")
    assert (error.value.given, bool(error.value.hint)) == (tmp_path / "a.jsonl", True)
    assert "512 features" in str(error.value)
    assert "64 features" in str(error.value)
    rows[1] = {"concept": "x", "feature": 1, "sae_d_sae": 512, "sae_model_name": ""}  # empty: not known, as for Gemma Scope's files
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert read_labels(tmp_path / "a.jsonl").identity == {"d_sae": 512}


# ------------------------------------------------------------------------------------------------------------------------ comparing


def labels(path: Path, rows: list[tuple[str, int | None]], **identity: Any) -> Any:
    full = {f"sae_{name}": value for name, value in identity.items()}
    text = "".join(json.dumps({"concept": c, "feature": f, "abstained": "why" if f is None else None, **full}) + "\n" for c, f in rows)
    path.write_text(text, encoding="utf-8")
    return read_labels(path)


def test_agreement_by_concept_and_by_feature(tmp_path: Path) -> None:
    a = labels(tmp_path / "a.jsonl", [("same", 1), ("part", 2), ("part", 3), ("other", 4), ("left", None), ("mine", 5), ("swap", 8)])
    b = labels(tmp_path / "b.jsonl", [("part", 3), ("same", 1), ("other", 6), ("left", 7), ("yours", 4), ("yours", 5)])
    found = compare(a, b)
    assert {pair.concept: pair.agreement for pair in found.concepts} == {
        "same": "same", "part": "overlap", "other": "different", "left": "abstained"
    }  # fmt: skip
    assert found.counts() == {"same": 1, "overlap": 1, "different": 1, "abstained": 1, "neither": 0}
    assert next((p.both, p.only_a, p.only_b) for p in found.concepts if p.concept == "part") == ((3,), (2,), ())
    assert (found.only_a, found.only_b) == (("mine", "swap"), ("yours",))
    assert (found.features_a, found.features_b, found.features_both) == (6, 6, 4)
    assert found.jaccard == 2 / 10  # (same, 1) and (part, 3) of six and six pairs
    assert found.relabelled == ((4, ("other",), ("yours",)), (5, ("mine",), ("yours",)))
    assert json.loads(json.dumps(found.as_json()))["counts"]["same"] == 1


def test_files_of_different_saes_are_not_compared(tmp_path: Path) -> None:
    a = labels(tmp_path / "a.jsonl", [("x", 1)], d_sae=512, hook_name="model.layers.2")
    b = labels(tmp_path / "b.jsonl", [("x", 1)], d_sae=512, hook_name="model.layers.3")
    with pytest.raises(DataError) as error:
        compare(a, b)
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == ("model.layers.3", "hook_name model.layers.2", True)
    assert str(a.path) in error.value.message
    assert str(b.path) in error.value.message
    assert compare(a, labels(tmp_path / "c.jsonl", [("x", 1)])).counts()["same"] == 1  # a file that says nothing is taken at its word
