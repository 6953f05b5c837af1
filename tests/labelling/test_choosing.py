"""Choosing pairs within caps and filters: the definition, and no more causal scores than it takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from harness.labelling import choosing, filters
from harness.labelling.choosing import Chooser
from harness.labelling.options import PairOptions
from harness.types import Abstention, Concept, Labeling


def study(n_concepts: int, mode: str, texts: int = 40) -> Any:
    """As much of a study as choosing asks for: every concept is on half of the texts."""
    positive = np.zeros((texts, n_concepts), dtype=np.uint8)
    positive[::2] = 1
    concepts = [Concept(f"c{number}", f"c{number}", f"c{number}") for number in range(n_concepts)]
    warnings: list[str] = []
    bench = SimpleNamespace(concept_mode=mode, min_support=1, dictionaries={}, warn=warnings.append, warnings=warnings)
    support = positive.sum(axis=0).astype(np.int64)
    return SimpleNamespace(
        bench=bench, concepts=concepts, name="sae", positive=sparse.csr_matrix(positive), support=support, chosen_support=support,
        choose=np.arange(texts), report=np.empty(0, np.int64),
    )  # fmt: skip


def test_no_answer_at_all_is_said() -> None:
    asked = study(2, "chosen")
    assert Chooser(asked, PairOptions(top_k=3), "mine").answers(np.zeros((2, 4)), 0.0, lambda pairs: [{} for _ in pairs]) == []
    assert asked.bench.warnings == ["mine: 0 pairs were found where top_k asks for 3"]


@pytest.fixture
def odd_features_pass(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The output score of odd features is 1, of even ones 0; the list holds what was asked for."""
    asked: list[int] = []

    def scores(self: Any, features: list[int]) -> Any:
        asked.extend(features)
        return np.array([feature % 2 == 1 for feature in features], dtype=bool)

    monkeypatch.setattr(filters.CausalFilter, "_compute", scores)
    return asked


def by_definition(scores: Any, options: PairOptions) -> list[tuple[int, int]]:
    """Go down the list of all pairs; leave out what the filter or a cap rules out."""
    pairs = [(-scores[place, feature], place, feature) for place in range(scores.shape[0]) for feature in range(scores.shape[1])]
    per_label, per_feature, found = np.zeros(scores.shape[0]), np.zeros(scores.shape[1]), []
    for negative, place, feature in sorted(pair for pair in pairs if -pair[0] > 0):
        assert negative < 0
        wanted = options.min_output_score is None or feature % 2
        if wanted and per_label[place] < options.features_per_label and per_feature[feature] < options.labels_per_feature:
            per_label[place] += 1
            per_feature[feature] += 1
            found.append((place, feature))
    return found[: options.top_k]


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_chosen_pairs_are_those_of_the_definition(data: st.DataObject) -> None:
    n, m = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 12))
    values = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0])
    scores = np.array(data.draw(st.lists(st.lists(values, min_size=m, max_size=m), min_size=n, max_size=n)))
    options = PairOptions(
        min_output_score=data.draw(st.sampled_from([None, 0.5])), top_k=data.draw(st.integers(1, 20)),
        features_per_label=data.draw(st.integers(1, 3)), labels_per_feature=data.draw(st.integers(1, 3)),
    )  # fmt: skip
    expected = by_definition(scores, options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filters.CausalFilter, "_compute", lambda self, features: np.array([feature % 2 == 1 for feature in features], dtype=bool))
        patch.setattr(choosing, "AT_ONCE", data.draw(st.sampled_from([1, 3, 256])))
        patch.setattr(choosing, "_WINDOW", data.draw(st.sampled_from([2, 5, 1 << 16])))
        answers = Chooser(study(n, "chosen"), options, "mine").answers(scores, 0.0, lambda pairs: [{"pair": pair} for pair in pairs])
    found = [(answer.evidence["features"][0]["pair"]) for answer in answers if isinstance(answer, Labeling)]
    assert found == expected
    assert [(int(a.concept.id[1:]), a.features[0].index) for a in answers if isinstance(a, Labeling)] == expected


def test_no_score_is_computed_of_what_a_cap_rules_out(odd_features_pass: list[int]) -> None:
    """One feature a label: when the labels are full, the features that are left are not asked about."""
    scores = np.random.default_rng(0).random((6, 5000))
    scores[:, :40] += 1  # the best of every label are among the first
    options = PairOptions(min_output_score=0.5, top_k=1000)
    asked = study(6, "chosen")
    answers = Chooser(asked, options, "mine").answers(scores, 0.0, lambda pairs: [{} for _ in pairs])
    assert len(answers) == 6
    (warning,) = asked.bench.warnings
    assert warning.startswith("mine: 6 pairs were found where top_k asks for 1000; ")
    assert warning.endswith("features that came up fail the causal filters")
    assert set(odd_features_pass) <= set(range(5000))
    assert len(odd_features_pass) <= 2 * filters.AT_ONCE


def test_the_best_feature_of_each_concept_in_fixed_mode(odd_features_pass: list[int]) -> None:
    scores = np.array([[0.1, 0.5, 0.9, 0.7], [0.9, 0.0, 0.8, -1.0]])
    first, second = Chooser(study(2, "fixed"), PairOptions(min_output_score=0.5), "mine").answers(scores, 0.0, lambda pairs: [{} for _ in pairs])
    assert isinstance(first, Labeling)
    assert (first.features[0].index, first.score) == (3, 0.7)
    assert isinstance(second, Abstention)
    assert second.reason == "no feature that passes the filters fires on the texts of label 'c1'"


def test_why_there_is_no_answer() -> None:
    asked = study(4, "fixed")
    asked.concepts[0] = Concept("bare", "bare")
    asked.support = np.array([0, 3, 20, 20])
    asked.chosen_support = np.array([0, 3, 0, 40])
    answers = Chooser(asked, PairOptions(min_support=5), "mine").answers(np.ones((4, 2)), 0.0, lambda pairs: [{} for _ in pairs])
    assert [answer.reason for answer in answers if isinstance(answer, Abstention)] == [
        "the concept names no label of the corpus",
        "label 'c1' has 3 texts; 5 are needed",
        "label 'c2' is on none of the 40 texts that choose (held_out=0.5)",
        "label 'c3' is on all of the 40 texts that choose (held_out=0.5)",
    ]
