"""Datasets through the ``datasets`` library, from local folders: what a hub name would give after its download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.data import open_corpus
from harness.data.corpora.huggingface import Spec, _failure
from harness.data.corpora.reading import DATASET_NAMES
from harness.errors import DataError
from harness.types import Document

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing leaves this machine, and nothing is left in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "ds"
    found.mkdir()
    rows = [{"text": f"text {i}", "labels": ["a", "b"][: i % 3]} for i in range(50)]
    (found / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, {"text": " ", "labels": []}]))
    (found / "test.jsonl").write_text('{"text": "x", "labels": ["q"]}\n')
    return found


def saved(folder: Path) -> Path:
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"body": datasets.Value("string"), "label": names, "topics": datasets.Sequence(names)})
    columns = {"body": ["a", "b", "c"], "label": [0, 1, -1], "topics": [[0, 1], [1], []]}
    part = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"dev": part}).save_to_disk(str(folder))
    return folder


def test_a_folder_of_files(folder: Path) -> None:
    corpus = open_corpus(f"hf:{folder}")
    assert corpus.format == "huggingface"
    assert corpus[4] == Document("5", "text 4", frozenset("a"))
    assert corpus[:] == list(corpus)
    assert (len(corpus), corpus.labels.names, corpus.labels.support.tolist()) == (50, ("a", "b"), [33, 16])
    assert corpus.skipped_by_reason == {"field 'text' holds no text": 1}
    assert [d.text for d in open_corpus(f"hf:{folder}@test")] == ["x"]
    plain = open_corpus(folder / "train.jsonl")
    assert plain[:] == corpus[:]


def test_the_second_time_no_row_is_read_and_a_changed_file_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_corpus(f"hf:{folder}")
    wanted = (len(first), first.digest)
    with monkeypatch.context() as patch:
        patch.setattr("harness.data.corpora.huggingface.HuggingFaceReader.records", lambda self: pytest.fail("the rows were read"))
        again = open_corpus(f"hf:{folder}")
        assert (len(again), again.digest) == wanted
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "new", "labels": []}\n')
    changed = open_corpus(f"hf:{folder}")
    assert (len(changed), changed[-1].text) == (51, "new")
    assert changed.digest != wanted[1]


def test_class_numbers_become_names(tmp_path: Path) -> None:
    path = saved(tmp_path / "saved")
    assert [sorted(d.labels) for d in open_corpus(f"hf:{path}")] == [["neg"], ["pos"], []], "the only split"
    assert open_corpus(f"hf:{path}@dev", label_field="topics")[:] == [
        Document("1", "a", frozenset({"neg", "pos"})),
        Document("2", "b", frozenset({"pos"})),
        Document("3", "c"),
    ]
    assert len(open_corpus(f"hf:{path / 'dev'}")) == 3, "a single saved split"


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("hf:owner/name", Spec("owner/name")),
        ("hf:owner/name:config@split", Spec("owner/name", "config", "split")),
        ("hf:name@test", Spec("name", None, "test")),
        ("hf:/a@b/c:d/e", Spec("/a@b/c:d/e")),
        ("hf:/a/b:plain@x", Spec("/a/b", "plain", "x")),
    ],
)
def test_what_a_name_means(spec: str, parsed: Spec) -> None:
    assert Spec.parse(spec) == parsed


def test_every_mistake_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    nowhere, nothing = tmp_path / "nowhere", tmp_path / "nothing"
    columns = tuple(json.loads((folder / "train.jsonl").read_text().splitlines()[0]))
    for spec, options, given, allowed, part in (
        (f"hf:{folder}@dev", {}, "dev", {"train", "test"}, f"hf:{folder}@"),
        (f"hf:{folder}:other", {}, f"hf:{folder}:other", None, f"hf:{folder}:config"),
        (f"hf:{nowhere}", {}, nowhere, DATASET_NAMES, "folder"),
        (f"hf:{nothing}", {}, f"hf:{nothing}", None, "hf:"),
        (f"hf:{folder}", {"text_field": "body"}, "body", set(columns), "text_field"),
        (f"hf:{folder}", {"format": "jsonl"}, "jsonl", None, "format"),
        (str(folder), {"format": "huggingface"}, folder, DATASET_NAMES, "hf:"),
        (str(folder), {}, folder, None, f"hf:{folder}"),
        ("hf:nobody/no-such-dataset", {}, "hf:nobody/no-such-dataset", None, "HF_HUB_OFFLINE"),
        ("hf:", {}, "hf:", DATASET_NAMES, "hf:"),
        ("hf:name@", {}, "hf:name@", DATASET_NAMES, "hf:name@"),
    ):
        with pytest.raises(DataError) as caught:
            open_corpus(spec, **options)
        error = caught.value
        assert error.given == given
        assert (set(error.allowed) if isinstance(error.allowed, tuple) else error.allowed) == allowed
        assert error.hint or error.allowed
        assert part in (error.hint or str(error))
        assert "\n" not in str(error)


def test_a_folder_of_several_files_lists_them(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_corpus(folder)
    assert "test.jsonl, train.jsonl" in str(caught.value)
    with pytest.raises(DataError) as configuration:
        open_corpus(f"hf:{folder}:other")
    assert "default" in str(configuration.value), "what there is"


def test_what_the_library_says_becomes_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    spec = Spec("owner/name")
    for error, word, advice in (
        (ConnectionError("Couldn't reach 'owner/name'"), "reached", "hf:/folder"),
        (RuntimeError("Dataset scripts are no longer supported, but found name.py"), "program", "files"),
        (ValueError("BuilderConfig 'x' not found. Available: ['default']"), "default", "hf:owner/name:config"),
    ):
        failure = _failure(spec, "hf:owner/name", error)
        assert failure.given == "hf:owner/name"
        assert word in failure.message
        assert advice in failure.hint


def test_a_dataset_that_comes_as_a_program_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "program.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    with pytest.raises(DataError):
        open_corpus(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()
