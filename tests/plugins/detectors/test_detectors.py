"""The shipped detectors: what each computes, against definitions and scikit-learn. That they keep the contract is in tests/testing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness_plugins.detectors.bow import BagOfWords, BowOptions
from harness_plugins.detectors.majority import Majority, MajorityOptions
from harness_plugins.detectors.sae import SaeDetector, SaeOptions
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from harness.data.texts import TextSet
from harness.errors import DataError
from harness.evaluations.detection.texts import changed_texts, corpus_texts
from harness.labelling.pooling import pooled_features
from harness.run.bench import TaskBench
from harness.run.warnings import Warnings
from harness.testing import toy_bench
from harness.types import Concept, FeatureRef, Labeling


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def report(bench: TaskBench) -> TextSet:
    return corpus_texts(bench, "report")


@pytest.fixture(scope="module")
def labelings(bench: TaskBench) -> list[Labeling]:
    return [Labeling(concept) for concept in bench.concepts]


def prepared(detector: Any, bench: TaskBench, labelings: list[Labeling]) -> Any:
    detector.prepare(bench, labelings)
    return detector


def positive(bench: TaskBench, labeling: Labeling, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.isin(places, bench.labels.of(labeling.concept.label))


# --------------------------------------------------------------------------------------------------------------------------- sae


@pytest.mark.parametrize("pool", ["frequency", "max", "mean"])
def test_one_feature_scores_what_is_pooled_and_several_their_mean_at_one_scale(bench: TaskBench, report: TextSet, pool: Any) -> None:
    often = [int(feature) for feature in np.argsort(-bench.statistics().fired)[:3]]
    concepts = bench.concepts
    labelings = [
        Labeling(concepts[0], (FeatureRef("sae", often[0]),)),
        Labeling(concepts[1], tuple(FeatureRef("sae", feature) for feature in often)),
        Labeling(concepts[2], (FeatureRef("sae", often[2]), FeatureRef("sae", often[1]))),
    ]
    found = prepared(SaeDetector(SaeOptions(pool=pool)), bench, labelings).scores(labelings, report)
    pooled = pooled_features(bench, "sae", often, report, pool)
    largest = np.asarray(bench.statistics().document_maximum[bench.split.train][:, often].max(axis=0).todense()).ravel()
    scale = np.ones(3) if pool == "frequency" else largest
    np.testing.assert_allclose(found[0], pooled[0])
    np.testing.assert_allclose(found[1], (pooled / scale[:, None]).mean(axis=0))
    np.testing.assert_allclose(found[2], (pooled / scale[:, None])[1:].mean(axis=0))
    assert (found[1] > 0).any()


def test_a_feature_that_never_fires_on_training_texts_is_not_scaled(bench: TaskBench, report: TextSet) -> None:
    never = int(np.argmin(bench.statistics().fired))
    often = int(np.argmax(bench.statistics().fired))
    labeling = Labeling(bench.concepts[0], (FeatureRef("sae", never), FeatureRef("sae", often)))
    found = prepared(SaeDetector(SaeOptions(pool="max")), bench, [labeling]).scores([labeling], report)
    assert np.isfinite(found).all()


def test_a_labeling_without_features_is_refused(bench: TaskBench) -> None:
    with pytest.raises(DataError) as error:
        SaeDetector(SaeOptions()).prepare(bench, [Labeling(bench.concepts[0])])
    assert error.value.given == bench.concepts[0].id
    assert error.value.hint


# --------------------------------------------------------------------------------------------------------------- words, majority


def test_bow_is_scikit_learns_regression_on_training_counts(bench: TaskBench, report: TextSet, labelings: list[Labeling]) -> None:
    found = prepared(BagOfWords(BowOptions()), bench, labelings).scores(labelings, report)
    train = bench.split.train
    vectorizer = CountVectorizer()
    counts = vectorizer.fit_transform([bench.corpus[int(place)].text for place in train])
    for row, labeling in zip(found, labelings, strict=True):
        regression = LogisticRegression(C=100, max_iter=5000).fit(counts, positive(bench, labeling, train))
        expected = regression.decision_function(vectorizer.transform(report.texts))
        assert np.corrcoef(row, expected)[0, 1] > 0.999
        assert roc_auc_score(positive(bench, labeling, np.asarray(report.places)), row) > 0.9


def test_bow_counts_at_most_so_many_words(bench: TaskBench, labelings: list[Labeling]) -> None:
    detector = prepared(BagOfWords(BowOptions(max_words=7)), bench, labelings)
    a, b = detector.scores(labelings, changed_texts(bench, "words", ["xylophone zebra", "quokka"])).T
    assert (a == b).all()


def test_a_regression_that_does_not_converge_is_told(bench: TaskBench, labelings: list[Labeling], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.detectors.bow._STEPS", 1)
    monkeypatch.setattr(bench, "warnings", Warnings())
    prepared(BagOfWords(BowOptions(C=99)), bench, labelings)
    assert len([message for message in bench.warnings.messages if "still changing after 1 steps" in message]) == 3


def test_majority_is_the_share_of_training_texts(bench: TaskBench, report: TextSet, labelings: list[Labeling]) -> None:
    found = prepared(Majority(MajorityOptions()), bench, labelings).scores(labelings, report)
    for row, labeling in zip(found, labelings, strict=True):
        assert set(row) == {positive(bench, labeling, bench.split.train).mean()}
    bare = [Labeling(Concept("bare", "a bare name"))]
    assert prepared(Majority(MajorityOptions()), bench, bare).scores(bare, report).max() == 0


# ------------------------------------------------------------------------------------------------------------------- kept fits


@pytest.mark.parametrize("make", [lambda: BagOfWords(BowOptions())])
def test_a_fit_is_made_once(bench: TaskBench, labelings: list[Labeling], make: Callable[[], Any], report: TextSet) -> None:
    first = prepared(make(), bench, labelings).scores(labelings, report)
    made = {path.name for path in bench.artifacts.root.iterdir()}
    again = prepared(make(), bench, labelings[::-1]).scores(labelings, report)
    assert {path.name for path in bench.artifacts.root.iterdir()} == made
    assert (again == first).all()


def test_the_key_of_a_fit_names_what_it_depends_on(bench: TaskBench, labelings: list[Labeling]) -> None:
    keys = []
    for folder in bench.artifacts.root.iterdir():
        if (folder / "key.json").is_file():
            keys.append(json.loads((folder / "key.json").read_text(encoding="utf-8"))["key"])
    fits = [key for key in keys if key["kind"] in ("bag-of-words", "train-directions")]
    assert fits
    assert all(key["split"] == bench.split.digest and key["labels"] == ["bread", "music", "water"] for key in fits)
