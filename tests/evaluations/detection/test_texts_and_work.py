"""Which texts a run scores, without whose keywords, and what comes of scoring them with a detector."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.detectors.bow import BagOfWords, BowOptions

from harness.contracts import DetectorTraits
from harness.errors import PluginError
from harness.evaluations.detection.texts import DetectionTexts, corpus_texts, detection_texts
from harness.evaluations.detection.work import score_texts
from harness.run.bench import TaskBench
from harness.testing import toy_bench
from harness.types import Concept, Labeling

KEYWORDS = {"music": ["piano", "jazz", "sang", "drum*", "violin*"], "bread": ["bread", "dough*", "bak*"]}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    """The toy with keywords for two of its concepts."""
    folder = tmp_path_factory.mktemp("toy")
    path = toy_bench(folder).task.folder / "concepts.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text("".join(json.dumps({**row, "keywords": KEYWORDS.get(row["id"], [])}) + "\n" for row in rows), encoding="utf-8")
    return toy_bench(folder)


@pytest.fixture(scope="module")
def texts(bench: TaskBench) -> DetectionTexts:
    return detection_texts(bench, bench.concepts)


class Length:
    """Scores a text by its length, or as the test says."""

    traits = DetectorTraits()

    def __init__(self, change: Callable[[Any], Any] = lambda found: found) -> None:
        self.change, self.asked = change, []  # type: ignore[var-annotated]

    def prepare(self, bench: Any, labelings: Any) -> None: ...

    def scores(self, labelings: Any, texts: Any) -> Any:
        self.asked.append(([labeling.concept.id for labeling in labelings], texts.name))
        return self.change(np.array([[float(len(text)) for text in texts.texts] for _ in labelings]))


def altered(bench: TaskBench, folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> TaskBench:
    """The bench with another corpus."""
    rows = [{"id": document.id, "text": document.text, "labels": sorted(document.labels)} for document in bench.corpus]
    change(rows)
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return TaskBench(bench.task, replace(bench.choices, corpus=str(path)), bench.artifacts, bench.progress)


# ------------------------------------------------------------------------------------------------------------------------ texts


def test_threshold_and_report_are_the_splits(bench: TaskBench, texts: DetectionTexts) -> None:
    for found, part in ((texts.threshold, bench.split.threshold), (texts.report, bench.split.report)):
        assert found.places is not None
        assert found.places.tolist() == part.tolist()
        assert list(found.texts) == [bench.corpus[int(place)].text for place in part]
        assert [row.tolist() for row in found.tokens] == [bench.model.encode(text)[:64] for text in found.texts]
    assert texts.threshold.digest != texts.report.digest
    assert corpus_texts(bench, "report").digest == texts.report.digest
    truth = texts.truth("water")
    assert truth.report.tolist() == ["water" in bench.corpus[int(place)].labels for place in bench.split.report]
    assert not truth.report_hard.any()
    assert truth.changed is None


def test_keywords_are_taken_from_positives_and_negatives_alike(bench: TaskBench, texts: DetectionTexts) -> None:
    changed, truth = texts.changed("bread"), texts.truth("bread")
    assert changed is not None
    assert truth.changed is not None
    assert np.flatnonzero(truth.changed).tolist() == changed.rows.tolist()
    words = ("bread", "dough", "bak")
    for row, text in enumerate(texts.report.texts):
        has = any(word.lower().startswith(words) for word in text.replace(".", " ").split())
        assert truth.changed[row] == has
    for row, text in zip(changed.rows, changed.texts.texts, strict=True):
        assert not any(word in text.lower() for word in words)
        assert text != texts.report.texts[int(row)]
    assert [row.tolist() for row in changed.texts.tokens] == [bench.model.encode(text)[:64] for text in changed.texts.texts]
    assert changed.texts.places is None
    assert texts.changed("bread") is changed
    music = texts.changed("music")
    assert music is not None
    assert music.texts.digest != changed.texts.digest
    assert texts.changed("water") is None


def test_a_text_of_which_nothing_is_left_takes_no_part(bench: TaskBench, tmp_path: Path) -> None:
    place = int(next(place for place in bench.split.report if "bread" in bench.corpus[int(place)].labels))

    def change(rows: list[dict[str, Any]]) -> None:
        rows[place]["text"] = "Baking bread, dough!"

    other = detection_texts(altered(bench, tmp_path, change), bench.concepts)
    assert other.report.places is not None
    row = other.report.places.tolist().index(place)
    truth, changed = other.truth("bread"), other.changed("bread")
    assert changed is not None
    assert truth.changed is not None
    # "," and "!" are left: two tokens of a byte-level tokenizer, and its BOS
    assert not truth.emptied.any()
    one_word = {"keywords": ("baking",)}

    def single(rows: list[dict[str, Any]]) -> None:
        rows[place]["text"] = "Baking"

    concepts = [replace(concept, **one_word) if concept.id == "bread" else concept for concept in bench.concepts]
    emptied = detection_texts(altered(bench, tmp_path, single), concepts)
    assert np.flatnonzero(emptied.truth("bread").emptied).tolist() == [row]
    assert row not in emptied.changed("bread").rows  # type: ignore[union-attr]


def test_hard_negatives_are_those_of_their_label_that_lack_the_concepts(bench: TaskBench) -> None:
    concepts = [replace(concept, hard_negatives="water") for concept in bench.concepts]
    found = detection_texts(bench, concepts)
    assert set(found.concepts) == {"music", "bread", "water"}
    truth = found.truth("music")
    assert truth.report_hard.tolist() == ["water" in bench.corpus[int(place)].labels for place in bench.split.report]
    assert truth.threshold_hard.any()
    assert not found.truth("water").report_hard.any(), "a positive is no hard negative"


def test_what_no_method_can_be_told_right_or_wrong_on_is_left_out(bench: TaskBench, tmp_path: Path) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        for place in bench.split.threshold:
            rows[int(place)]["labels"] = [*{*rows[int(place)]["labels"]} - {"music"}, "bread"]

    other = altered(bench, tmp_path, change)
    found = detection_texts(other, [*bench.concepts, Concept("bare", "a bare name"), Concept("gone", "gone", "gone")])
    assert set(found.concepts) == {"water"}
    assert set(found.left_out) == {"music", "bread", "bare", "gone"}
    assert "no text of the corpus' threshold part" in found.left_out["music"]
    assert "every text of the corpus' threshold part" in found.left_out["bread"]
    assert found.left_out["gone"] == "the corpus has no label 'gone'"
    assert len(other.warnings.messages) == 4


# ------------------------------------------------------------------------------------------------------------------------- work


def test_the_corpus_is_scored_once_for_all_and_changed_texts_once_a_concept(bench: TaskBench, texts: DetectionTexts) -> None:
    detector = Length()
    labelings = [Labeling(concept) for concept in bench.concepts] + [Labeling(Concept("bare", "a bare name"))]
    found: dict[str, Mapping[str, Any]] = {labeling.concept.id: scores for labeling, scores in score_texts(detector, labelings, texts)}
    assert detector.asked[:2] == [(["music", "water", "bread"], "threshold"), (["music", "water", "bread"], "report")]
    assert sorted(names for names, _ in detector.asked[2:]) == [["bread"], ["music"]]
    assert set(found) == {"music", "water", "bread"}
    assert set(found["water"]) == {"threshold", "report"}
    assert found["bread"]["no_keywords"].tolist() == [len(text) for text in texts.changed("bread").texts.texts]  # type: ignore[union-attr]
    assert found["music"]["report"].tolist() == [len(text) for text in texts.report.texts]


def test_labelings_of_one_concept_share_its_texts(bench: TaskBench, texts: DetectionTexts) -> None:
    detector = Length()
    twice = [Labeling(bench.concepts[0]), Labeling(bench.concepts[0], score=1.0)]
    assert len(list(score_texts(detector, twice, texts))) == 2
    assert [len(names) for names, _ in detector.asked] == [2, 2, 2]
    assert list(score_texts(detector, [], texts)) == []


@pytest.mark.parametrize("change", [lambda found: found[:, 1:], lambda found: found[0], lambda found: found + np.nan, lambda found: found / 0.0])
def test_scores_that_break_the_contract_are_the_plugins_fault(bench: TaskBench, texts: DetectionTexts, change: Any) -> None:
    with pytest.raises(PluginError) as error, np.errstate(divide="ignore"):
        list(score_texts(Length(change), [Labeling(bench.concepts[0])], texts))
    broken = error.value.given
    assert isinstance(broken, tuple) or not np.isfinite(broken)  # the shape, or the first number at fault
    assert ("shape" if isinstance(broken, tuple) else "finite") in str(error.value.allowed)


def test_words_are_found_with_and_not_without_keywords(bench: TaskBench, texts: DetectionTexts) -> None:
    labelings = [Labeling(concept) for concept in bench.concepts]
    detector = BagOfWords(BowOptions())
    detector.prepare(bench, labelings)
    for labeling, scores in score_texts(detector, labelings, texts):
        if "no_keywords" in scores:
            changed = texts.changed(labeling.concept.id)
            assert changed is not None
            truth = texts.truth(labeling.concept.id).report[changed.rows]
            assert scores["no_keywords"][truth].mean() < scores["report"][changed.rows][truth].mean()
