"""`harness label`: evidence beside each label, files that other commands read, two files side by side."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.label import _fires_at


@pytest.fixture(scope="module")
def files(harness: Callable[..., Any], tiny_task: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The tiny task's labels by two labelers."""
    folder = tmp_path_factory.mktemp("labels")
    found = {"calibf1": folder / "calibf1.parquet", "max-auc": folder / "auc.csv"}
    for labeler, path in found.items():
        assert harness("label", "--labeler", labeler, "--task", tiny_task, "-o", path, "--quiet").code == 0
    return found


def test_each_label_comes_with_its_evidence(harness: Callable[..., Any], tiny_task: Path) -> None:
    done = harness("label", "--labeler", "calibf1", "--task", tiny_task, "--snippets", "2", "--json").json
    row = next(row for row in done["labels"] if row["concept"] == "girl")
    counted, about = row["evidence"]["features"][0], row["evidence"]["about"][0]
    for part in ("chosen_on", "held_out"):
        assert sum(counted[part][name] for name in ("tp", "fp", "fn", "tn")) == 80
        assert counted[part]["support"] == counted[part]["tp"] + counted[part]["fn"]
    assert counted["chosen_on"]["score"] == pytest.approx(row["score"], abs=1e-6)
    assert counted["held_out"]["score"] == counted["held_out"]["calibrated_f1"]
    assert about["feature"] == row["features"][0]
    assert about["output_score"] >= 1e-3  # the paper's own filter
    assert 1 <= len(about["snippets"]) <= 2
    assert set(about["snippets"][0]) == {"text", "labels", "activation", "before", "token", "after", "tokens"}


def test_the_table_shows_what_a_reader_needs(harness: Callable[..., Any], tiny_task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = harness("label", "--labeler", "max-auc", "--task", tiny_task, "--show", "1")
    out = done.out
    assert done.code == 0, done.err
    assert "max-auc on task tiny: 4 answers, the first 1" in out
    for column in ("concept", "score", "held out", "output score", "confidence change", "promotes", "fires most at", "«"):
        assert column in out


def test_a_label_file_is_a_labeler(harness: Callable[..., Any], tiny_task: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """Labels that went through a file are those that went in. (Texts differ: each method draws for itself.)"""
    command = ("eval", "--steerer", "sae-clamp", "--task", tiny_task, "--no-controls", "--json")
    direct = harness(*command, "--labeler", "calibf1", "--out", tmp_path / "direct").json
    through = harness(*command, "--labeler", "file", "-L", f"path={files['calibf1']}", "--out", tmp_path / "file").json
    assert [row["features"] for row in through["rows"][0]["items"]] == [row["features"] for row in direct["rows"][0]["items"]]
    assert through["rows"][0]["n_answered"] == direct["rows"][0]["n_answered"] == 3
    assert through["rows"][0]["metrics"]["overall"]["value"] is not None
    assert not any("label file" in warning for warning in through["warnings"])


def test_a_file_says_how_it_was_made(files: dict[str, Path]) -> None:
    (row, *_) = csv.DictReader(files["max-auc"].open(encoding="utf-8", newline=""))
    assert (row["made_labeler"], row["made_task"], row["made_seed"]) == ("max-auc", "tiny 1", "0")
    assert row["made_dtype"] in ("float32", "bfloat16")  # what this machine is fast with
    assert json.loads(row["made_options"])["pool"] == "maximum"
    assert len(row["made_corpus"]) == 16
    assert (row["measure"], row["probe"], row["pi0"]) == ("auroc_maximum", "maximum", "0.001")
    assert float(row["score"]) == pytest.approx(float(row["chosen_on_score"]), abs=1e-6)


def test_each_feature_of_an_answer_has_its_own_row_and_score(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    command = ("label", "--labeler", "calibf1", "-L", "features_per_label=3", "--task", tiny_task)
    out = harness(*command, "-o", tmp_path / "l.jsonl").out
    rows = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text(encoding="utf-8").splitlines()]
    girl = [row for row in rows if row["concept"] == "girl"]
    assert len(girl) == 3
    assert [row["score"] for row in girl] == pytest.approx([row["chosen_on_score"] for row in girl], abs=1e-6)
    assert girl[0]["score"] > girl[2]["score"]
    for row in girl:
        assert sum(f"sae/{row['feature']} " in line for line in out.splitlines()) >= 1
    assert "held out: calibrated_f1 on the texts that chose nothing" in out


def test_what_a_file_holds_beside_what_was_asked_for_is_told(
    harness: Callable[..., Any], tiny_task: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("concept,feature\ngirl,59\ngirl,33\nmartian,5\n", encoding="utf-8")
    found = harness("label", "--labeler", "file", "-L", f"path={path}", "--task", tiny_task, "--pi0", "0.05", "--json").json
    assert any("1 of the 3 labels in mine.csv are used" in warning for warning in found["warnings"])
    girl = next(row for row in found["labels"] if row["concept"] == "girl")
    assert girl["evidence"]["features"][0]["pi0"] == 0.05
    counted = girl["evidence"]["features"][0]
    assert counted["chosen_on"]["support"] > 0
    assert "held_out" not in counted, "nobody knows by which texts the makers of a file chose"


def test_two_files_are_compared(harness: Callable[..., Any], files: dict[str, Path]) -> None:
    found = harness("label", "compare", files["calibf1"], files["max-auc"], "--json").json
    assert sum(found["counts"].values()) == len(found["concepts"]) == 4
    assert next(row["agreement"] for row in found["concepts"] if row["concept"] == "zebra") == "neither"
    with_itself = harness("label", "compare", files["calibf1"], files["calibf1"], "--json").json
    assert with_itself["counts"] == {"same": 3, "overlap": 0, "different": 0, "abstained": 0, "neither": 1}
    assert (with_itself["jaccard"], with_itself["relabelled"]) == (1.0, [])
    out = harness("label", "compare", files["calibf1"], files["max-auc"]).out
    assert "concepts in both: 4" in out
    assert "Jaccard" in out


def test_mistakes_are_one_line(harness: Callable[..., Any], tiny_task: Path, files: dict[str, Path], tmp_path: Path) -> None:
    assert "--labeler" in harness("label", "--task", tiny_task).error
    assert "-o no.csv" in harness("label", "compare", tmp_path / "no.csv", files["max-auc"]).error
    other_ending = harness("label", "compare", tiny_task / "task.toml", files["max-auc"]).error
    assert all(name in other_ending for name in ("task.toml", ".jsonl", ".csv", ".parquet"))
    unwritable = harness("label", "--labeler", "calibf1", "--task", tiny_task, "-o", tmp_path / "labels.txt").error
    assert all(name in unwritable for name in ("labels.txt", ".jsonl", ".csv", ".parquet"))
    other = tmp_path / "other.jsonl"
    wide = {"concept": "girl", "feature": 3, "sae_d_sae": 16384, "sae_d_in": 64, "sae_layer": 2}
    other.write_text(json.dumps(wide) + "\n", encoding="utf-8")
    line = harness("label", "--labeler", "file", "-L", f"path={other}", "--task", tiny_task).error
    assert "16384" in line
    assert "512" in line
    other.write_text('{"concept": "girl", "feature": 512}\n', encoding="utf-8")
    line = harness("label", "--labeler", "file", "-L", f"path={other}", "--task", tiny_task).error
    assert all(name in line for name in ("feature 512", "0 to 511", str(other)))


def test_how_the_tasks_own_corpus_is_read_says_nothing_of_another(
    harness: Callable[..., Any], variant: Callable[..., Path], tiny_task: Path, tmp_path: Path
) -> None:
    """A task names the columns of its own file; --corpus gives a file with others."""
    named = variant(('source = "corpus.jsonl"', 'source = "corpus.jsonl"\nformat = "jsonl"\ntext_field = "text"\nlabel_field = "labels"'))
    rows = [json.loads(line) for line in (tiny_task / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    other = tmp_path / "other.csv"
    with other.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("body", "label"))
        writer.writerows((row["text"], row["labels"][0] if row["labels"] else "") for row in rows)
    command = ("label", "--labeler", "max-auc", "-L", "min_support=5", "--task", named, "--json")
    first = harness(*command).json["labels"][0]["evidence"]["features"][0]
    second = harness(*command, "--corpus", other).json["labels"][0]["evidence"]["features"][0]
    support = [sum(found[part]["support"] for part in ("chosen_on", "held_out")) for found in (first, second)]
    assert support == [sum("girl" in row["labels"] for row in rows), sum(row["labels"][:1] == ["girl"] for row in rows)]
    odd = tmp_path / "odd.csv"
    odd.write_text(other.read_text(encoding="utf-8").replace("body,label", "story,tag", 1), encoding="utf-8")
    assert "text_field" in harness(*command[:-1], "--corpus", odd).error
    named_fields = ("--text-field", "story", "--label-field", "tag")
    third = harness(*command, "--corpus", odd, *named_fields).json["labels"][0]["evidence"]["features"][0]
    assert third == second


def test_texts_are_cut_to_what_the_model_reads(harness: Callable[..., Any], variant: Callable[..., Path]) -> None:
    task = variant(('source = "corpus.jsonl"', 'source = "corpus.jsonl"\nmax_tokens = 100000'))
    found = harness("label", "--labeler", "max-auc", "--task", task, "--json").json
    assert any("corpus.max_tokens is 100000, and" in warning and "texts are cut there" in warning for warning in found["warnings"])


@pytest.mark.parametrize(
    ("snippet", "shown"),
    [
        ({"before": "the little", "token": " girl", "after": " ran."}, "the little «girl» ran."),
        ({"before": "Test", "token": " ", "after": "2.0"}, "Test «␣»2.0"),
        ({"before": "a story", "token": "\n", "after": "Once upon a time"}, r"a story «\n»Once upon a"),
        ({"before": "Count", "token": "ries", "after": " not"}, "Count«ries» not"),
    ],
)
def test_the_strongest_token_is_shown_also_where_it_is_white_space(snippet: dict[str, str], shown: str) -> None:
    assert _fires_at([snippet]) == shown


@pytest.mark.parametrize(
    ("labeler", "held_out"),
    [
        (("calibf1",), True),  # counts itself, on texts that it left out
        (("calibf1", "-L", "held_out=0"), False),
        (("random",), True),  # no text chooses
        (("most-frequent",), False),  # says that it chose by all texts, as one does that says nothing
    ],
)
def test_only_texts_that_a_labeler_left_out_are_held_out(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, labeler: tuple[str, ...], held_out: bool
) -> None:
    path = tmp_path / "labels.jsonl"
    out = harness("label", "--labeler", *labeler, "--task", tiny_task, "--pi0", "0.05", "-o", path).out
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert ("on the texts that chose nothing" in out) is held_out
    assert any(row["held_out_support"] for row in rows) is held_out
    assert all(row["chosen_on_support"] for row in rows if row["feature"] is not None and row["concept"] != "zebra")


def test_counts_of_ours_are_no_score_of_the_labelers(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    assert harness("label", "--labeler", "random:features_per_label=2", "--task", tiny_task, "-o", path).code == 0
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {row["score"] for row in rows} == {None}
    assert any(row["place"] == 1 and row["chosen_on_score"] is not None for row in rows)
