"""The list of concepts: what its rows may hold, and what of them identifies a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.axbench import SOURCE, WORDINGS, evaluation_rows, metadata_rows, train_rows, write_table

from harness.data import open_concepts, open_corpus
from harness.data.concepts import concepts_digest
from harness.errors import DataError, UnknownNameError
from harness.files.hashing import path_digest
from harness.types import Concept

ROWS: list[dict[str, Any]] = [{"id": "a", "label": "a", "text": "ärger"}, {"id": "b", "text": "b", "split": "report"}]


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "concepts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_keywords_and_hard_negatives_are_read_and_are_no_part_of_what_is_compared(tmp_path: Path) -> None:
    path = write(tmp_path, {**ROWS[0], "keywords": ["sea", "cook*"], "hard_negatives": "river"}, ROWS[1])
    first, second = open_concepts(path)
    assert (first.keywords, first.hard_negatives) == (("sea", "cook*"), "river")
    assert (second.keywords, second.hard_negatives) == ((), None)
    assert first == Concept("a", "ärger", "a")


@pytest.mark.parametrize("keywords", ["sea", [1], ["Sea"], ["two words"], ["*"], ["a**"], [""]])
def test_keywords_that_cannot_be_matched_are_refused(tmp_path: Path, keywords: Any) -> None:
    row = {**ROWS[0], "keywords": keywords}
    with pytest.raises(DataError) as error:
        open_concepts(write(tmp_path, row))
    assert json.loads(str(error.value.given)) == row
    assert "line 1" in str(error.value)
    assert "keywords" in str(error.value)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_concepts_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "concepts.jsonl"
    path.write_text(content)
    with pytest.raises(DataError) as error:
        open_concepts(path)
    assert error.value.given == path
    assert "JSON lines" in error.value.hint


@pytest.mark.parametrize("content", [b"\xff\xfe", None])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "concepts.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as error:
        open_concepts(path)
    assert error.value.given == path
    assert "JSON lines" in error.value.hint


def test_two_concepts_with_one_id_and_unknown_splits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        open_concepts(write(tmp_path, ROWS[0], {**ROWS[1], "id": "a"}))
    assert (error.value.given, bool(error.value.hint)) == ("a", True)
    with pytest.raises(UnknownNameError) as unknown:
        open_concepts(write(tmp_path, *ROWS), split="reports")
    assert (unknown.value.given, unknown.value.near, unknown.value.known) == ("reports", "report", ("report",))


def test_the_digest_is_the_files_without_what_detection_alone_uses(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", *ROWS)
    assert concepts_digest(plain) == path_digest(plain)
    more = write(tmp_path / "more", {**ROWS[0], "keywords": ["x"]}, {"hard_negatives": "y", **ROWS[1]})
    assert path_digest(more) != path_digest(plain)
    assert concepts_digest(more) == concepts_digest(plain)
    assert concepts_digest(write(tmp_path / "other", {**ROWS[0], "text": "z"}, ROWS[1])) != concepts_digest(plain)


def test_a_damaged_file_has_a_digest(tmp_path: Path) -> None:
    path = tmp_path / "concepts.jsonl"
    path.write_bytes(b'{"id": \r\n[1]\n\xff')
    assert concepts_digest(path) == path_digest(path)


# ------------------------------------------------------------------------------------------------------------------------- AxBench's


def test_a_feature_is_read_and_belongs_to_the_task(tmp_path: Path) -> None:
    path = write(tmp_path / "a", {**ROWS[0], "feature": "gemma-2-2b/20-gemmascope-res-16k/7"}, ROWS[1])
    assert [concept.feature for concept in open_concepts(path)] == ["gemma-2-2b/20-gemmascope-res-16k/7", None]
    assert concepts_digest(path) == path_digest(path) != concepts_digest(write(tmp_path / "b", *ROWS))


def test_axbenchs_list_of_concepts(tmp_path: Path) -> None:
    """Its numbers are the ids; labels and hard negatives are those of the corpus in the same folder."""
    folder = tmp_path / "f"
    write_table(folder / "train_data.parquet", train_rows())
    write_table(folder / "latent_eval_data.parquet", evaluation_rows())
    by_tables = open_concepts(folder)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metadata_rows()), encoding="utf-8")
    corpus = open_corpus(folder)
    for found in (by_tables, open_concepts(folder), open_concepts(folder / "metadata.jsonl"), open_concepts(folder / "latent_eval_data.parquet")):
        assert [(concept.id, concept.text) for concept in found] == [(str(number), wording) for number, wording in WORDINGS.items()]
        assert [concept.feature for concept in found] == [f"{SOURCE}/{10 + number}" for number in WORDINGS]
        assert {concept.label for concept in found} | {concept.hard_negatives for concept in found} == set(corpus.labels.names)
        assert len({concept.label for concept in found}) == 4
    without = open_concepts(folder / "train_data.parquet")
    assert [(concept.label, concept.feature) for concept in without] == [(concept.label, None) for concept in by_tables]


def test_the_real_list_tells_two_of_one_wording_apart(shared_data: Path) -> None:
    concepts = open_concepts(shared_data / "axbench" / "concept500_2b_l10" / "metadata.jsonl")
    assert len(concepts) == len({concept.id for concept in concepts}) == len({concept.label for concept in concepts}) == 500
    assert len({concept.text for concept in concepts}) == 499
    twice = [concept for concept in concepts if concept.label != concept.text]
    assert len(twice) == 2
    assert [concept.label for concept in twice] == [f"{concept.text} [{concept.id}]" for concept in twice]
    assert len({concept.feature for concept in twice}) == 2
    ten = open_concepts(shared_data / "axbench" / "concept10_2b_l10")
    corpus = open_corpus(shared_data / "axbench" / "concept10_2b_l10")
    assert {concept.label for concept in ten} | {concept.hard_negatives for concept in ten} == set(corpus.labels.names)
    assert ten[0].feature == "gemma-2-2b/10-gemmascope-res-16k/14874"


def test_a_list_that_is_none_of_theirs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        open_concepts(tmp_path / "empty")
    assert error.value.given == tmp_path / "empty"
    with pytest.raises(DataError) as error:
        open_concepts(write_table(tmp_path / "t.parquet", [{"x": 1}]))
    assert error.value.given == tmp_path / "t.parquet"
    with pytest.raises(DataError) as error:
        open_concepts(write(tmp_path, metadata_rows()[0], metadata_rows()[0]))
    assert "concept_id" in error.value.message
    with pytest.raises(DataError) as error:
        open_concepts(write(tmp_path, {"concept_id": 1, "concept": ""}))
    assert "line 1" in str(error.value)
