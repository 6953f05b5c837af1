"""AxBench's concept folders: both tables as one corpus, which text has which concept, and the datasets of the hub."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.axbench import answer, evaluation_rows, hub_files, train_rows, write_table
from helpers.hub import Hub, using

from harness.data import open_corpus
from harness.data.corpora.axbench import LAYOUTS, hard_label, is_hard
from harness.errors import DataError
from harness.types import Document

BEES = ("references to bees [0]", "references to bees [2]")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("names", LAYOUTS, ids=[names[0] for names in LAYOUTS])
def test_a_folder_is_one_corpus(names: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "concepts"
    write_table(folder / names[0], train_rows())
    write_table(folder / names[1], evaluation_rows())
    corpus = open_corpus(folder)
    documents = list(corpus)
    assert (corpus.format, len(corpus), corpus.n_skipped) == ("axbench", 15 + 20, 0)
    assert documents == corpus[:] == [corpus[place] for place in range(len(corpus))]
    assert [document.part for document in documents] == corpus.parts == ["train"] * 15 + ["evaluation"] * 20
    assert len({document.id for document in documents}) == 35
    assert documents[0] == Document("train-1", answer("references to bees 0", 0), frozenset([BEES[0]]), "question 0 0", "text", "train")
    assert documents[13] == Document("train-14", answer("plain", 1), frozenset(), "question -1 1", "math", "train")
    assert documents[15].id == "evaluation-1"
    hard = [document for document in documents if any(map(is_hard, document.labels))]
    assert [document.labels for document in hard] == [{hard_label(label)} for label in (BEES[0], "words about tea", BEES[1], "numbers")]
    negatives = [document for document in documents if not document.labels]
    assert Counter(document.part for document in negatives) == {"train": 3, "evaluation": 8}


def test_concepts_of_one_wording_are_kept_apart(tmp_path: Path) -> None:
    write_table(tmp_path / "f" / "train_data.parquet", train_rows())
    corpus = open_corpus(tmp_path / "f")
    assert corpus.labels.names == ("numbers", *BEES, "words about tea")
    assert corpus.labels.support.tolist() == [3] * 4
    assert {corpus[int(place)].text.split(":")[0] for place in corpus.labels.of(BEES[1])} == {"references to bees 2"}


def test_of_one_table_the_split_decides(tmp_path: Path) -> None:
    for name, rows in (("train_data.parquet", train_rows()), ("latent_eval_data.parquet", evaluation_rows())):
        alone = open_corpus(write_table(tmp_path / name / name, rows).parent)
        assert (alone.format, alone.parts, alone[0].id) == ("axbench", None, "1")
        assert alone.labels.names == open_corpus(tmp_path / name / name, format="axbench").labels.names
    table = open_corpus(tmp_path / "train_data.parquet" / "train_data.parquet", label_field="output_concept")
    assert (table.format, len(table.labels.names), table.parts) == ("parquet", 4, None), "a table by itself, with its fields named"


def test_what_a_text_answers_and_is_for_belongs_to_a_corpus_identity(tmp_path: Path) -> None:
    write_table(tmp_path / "a" / "train_data.parquet", train_rows())
    asked = [{**row, "input": row["input"] + "?"} for row in train_rows()]
    write_table(tmp_path / "b" / "train_data.parquet", asked)
    other_genre = [{**row, "concept_genre": "x"} for row in train_rows()]
    write_table(tmp_path / "c" / "train_data.parquet", other_genre)
    a, b, c = (open_corpus(tmp_path / name) for name in "abc")
    assert a.digest == b.digest == c.digest, "texts and labels are the same"
    assert (a.instructions_digest == b.instructions_digest, a.stated_digest == b.stated_digest) == (False, True)
    assert (a.instructions_digest == c.instructions_digest, a.stated_digest == c.stated_digest) == (True, False)


def test_the_real_folder(shared_data: Path) -> None:
    folder = shared_data / "axbench" / "concept10_2b_l10"
    corpus = open_corpus(folder)
    concepts = {json.loads(line)["concept"] for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines()}
    support = dict(zip(corpus.labels.names, corpus.labels.support.tolist(), strict=True))
    assert len(corpus) == 936 + 770
    assert {name: count for name, count in support.items() if not is_hard(name)} == dict.fromkeys(concepts, 72 + 36)
    assert sum(count for name, count in support.items() if is_hard(name)) == 50
    assert {name for name in support if is_hard(name)} == {hard_label(name) for name in concepts}
    plain = [document for document in corpus if not document.labels]
    assert Counter(document.part for document in plain) == {"train": 216, "evaluation": 360}
    assert Counter(document.genre for document in plain if document.part == "train") == {"text": 72, "code": 72, "math": 72}
    assert all(document.instruction for document in corpus[:20])


def test_a_table_that_is_none_of_theirs(tmp_path: Path) -> None:
    write_table(tmp_path / "train_data.parquet", [{"output": "a"}])
    with pytest.raises(DataError) as error:
        open_corpus(tmp_path)
    assert (error.value.given, error.value.allowed) == ("output_concept", ("output",))
    with pytest.raises(DataError) as error:
        open_corpus(tmp_path, part_field="part")
    assert "part_field" in error.value.hint


# ----------------------------------------------------------------------------------------------------------------------- on the hub


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        server.add("pyvene/axbench-concept500", hub_files(tmp_path), kind="datasets")
        yield server


def test_a_folder_of_a_dataset_opens_by_its_name(hub: Hub, tmp_path: Path) -> None:
    commit = hub.repositories["datasets", "pyvene/axbench-concept500"].refs["main"]
    with using(hub, tmp_path / "hub"):
        corpus = open_corpus("hub:pyvene/axbench-concept500/2b/l10")
        assert (len(corpus), corpus.format, corpus.commit) == (35, "axbench", commit)
        hub.requests.clear()
        again = open_corpus("hf:pyvene/axbench-concept500/2b/l10")
        assert (again.digest, hub.requests) == (corpus.digest, []), "what the cache holds is not asked for"
        table = open_corpus("hub:pyvene/axbench-concept500/2b/l10/train/data.parquet", label_field="output_concept")
        assert (table.format, len(table)) == ("parquet", 15)
        train_only = open_corpus("hub:pyvene/axbench-concept500/9b/l20")
        assert (len(train_only), train_only.parts) == (5, None)
    with using("http://127.0.0.1:9", tmp_path / "hub", offline=True):
        assert open_corpus("hub:pyvene/axbench-concept500/2b/l10").digest == corpus.digest


def test_what_the_hub_does_not_have_is_said_with_what_it_has(hub: Hub, tmp_path: Path) -> None:
    with using(hub, tmp_path / "hub"):
        with pytest.raises(DataError) as error:
            open_corpus("hub:pyvene/axbench-concept500/2b")
        assert error.value.given == "hub:pyvene/axbench-concept500/2b"
        assert "2b/l10/train/data.parquet" in error.value.hint
        with pytest.raises(DataError) as error:
            open_corpus("hub:pyvene/axbench-concept500")
        assert "hub:owner/dataset/path" in error.value.hint
        with pytest.raises(DataError) as error:
            open_corpus("hub:pyvene/nowhere/2b/l10")
        assert "pyvene/nowhere" in error.value.message


def test_tables_with_other_columns_are_no_dataset(tmp_path: Path) -> None:
    write_table(tmp_path / "d" / "train" / "data.parquet", train_rows())
    write_table(tmp_path / "d" / "test" / "data.parquet", evaluation_rows())
    with pytest.raises(DataError) as error:
        open_corpus(f"hf:{tmp_path / 'd'}")
    assert "different columns" in error.value.message


