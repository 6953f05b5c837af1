"""Examples of a concept are the texts of one part, with the instruction that they answer, and are read only when asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.data.examples import CorpusExamples, corpus_texts
from harness.data.split import PARTS
from harness.run.bench import Choices, TaskBench, open_bench
from harness.tasks.find import load_task
from harness.types import Concept, Document, Example

DOCUMENTS = [Document(str(place), f"text {place}", frozenset({"a"} if place % 3 == 0 else ()), f"say {place}") for place in range(9)]


def test_they_follow_the_places() -> None:
    examples = CorpusExamples(DOCUMENTS, np.array([3, 4, 8]), np.array([0, 3, 6]))
    without = [Example(f"say {place}", f"text {place}", False, plain=True) for place in (4, 8)]
    assert list(examples) == [Example("say 3", "text 3", True), *without]
    assert examples[1:] == list(examples)[1:]
    assert examples[-1] == examples[2]
    assert examples.positive.tolist() == [True, False, False]
    with pytest.raises(IndexError):
        examples[3]
    assert list(corpus_texts(DOCUMENTS, np.array([8, 0]))) == ["text 8", "text 0"]


@pytest.fixture
def bench(tiny_task: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> TaskBench:
    monkeypatch.setenv("HARNESS_CACHE", str(cache_folder))
    return open_bench(load_task(tiny_task), Choices(device="cpu", dtype="float32"), quiet=True)


def test_a_bench_gives_those_of_its_split(bench: TaskBench) -> None:
    concept = next(concept for concept in bench.concepts if concept.id == "girl")
    seen = [example.answer for part in PARTS for example in bench.examples(concept, part)]
    assert sorted(seen) == sorted(document.text for document in bench.corpus)
    assert all(example.positive == ("girl" in example.answer.lower()) for example in bench.examples(concept))
    assert len(bench.examples(concept)) == len(bench.split.train) >= 80
    assert bench.examples(Concept("bare", "a bare name")) == ()


def test_the_split_is_made_once_and_is_the_seeds(bench: TaskBench, tiny_task: Path) -> None:
    again = open_bench(load_task(tiny_task), Choices(device="cpu", dtype="float32"), quiet=True)
    other = open_bench(load_task(tiny_task), Choices(device="cpu", dtype="float32", seed=1), quiet=True)
    assert again.split.digest == bench.split.digest != other.split.digest


def test_copies_give_a_warning(variant: Callable[..., Path], bench: TaskBench) -> None:
    folder = variant()
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    copy = lines[0].replace('"id": "0"', '"id": "copy"')
    (folder / "corpus.jsonl").write_text("\n".join([*lines, copy]) + "\n", encoding="utf-8")
    copied = open_bench(load_task(folder), Choices(device="cpu", dtype="float32"), quiet=True)
    part = next(part for part in PARTS if 0 in copied.split.part(part))
    assert 160 in copied.split.part(part)
    assert [message for message in copied.warnings.messages if "near-copies" in message]
    assert bench.split.n_copies == 0
