"""Choosing pairs: the order of scores, taken in pieces, and causal filters that compute only what is asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from harness import sae as harness_sae
from harness.labelling import filters
from harness.labelling.filters import CausalFilter, descending
from harness.labelling.options import FilterOptions
from harness.model.loading import load_model
from harness.sae.causal import confidence_changes, output_scores

SCORES = arrays(np.float64, array_shapes(min_dims=1, max_dims=2, max_side=12), elements=st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0, np.nan]))


@given(scores=SCORES, above=st.sampled_from([-1.0, 0.0, 0.5]), first=st.integers(1, 9))
@settings(deadline=None)
def test_pieces_make_up_the_sorted_list(scores: Any, above: float, first: int) -> None:
    pieces = list(descending(scores, above, first))
    found = np.concatenate([np.empty(0, np.int64), *pieces])
    flat = scores.reshape(-1)
    expected = sorted((place for place in range(len(flat)) if flat[place] > above), key=lambda place: (-flat[place], place))
    assert found.tolist() == expected
    assert all(len(piece) for piece in pieces)


@pytest.fixture(scope="module")
def bench(tiny_model_path: Any, tiny_sae_path: Any) -> Any:
    model = load_model(tiny_model_path, device="cpu", dtype="float32")
    return SimpleNamespace(model=model, dictionaries={"sae": harness_sae.load(tiny_sae_path)})


def test_without_limits_everything_passes_and_nothing_is_computed(bench: Any) -> None:
    causal = CausalFilter(SimpleNamespace(), "sae", FilterOptions())  # type: ignore[arg-type]
    assert not causal.active
    assert causal.passes([3, 1, 3]).all()
    assert causal.first([5, 4], 9) == [5, 4]


def test_both_limits_hold(bench: Any) -> None:
    features = np.arange(0, 512, 7)
    score = output_scores(bench.model, bench.dictionaries["sae"], features).score
    change = np.abs(confidence_changes(bench.model, bench.dictionaries["sae"], features))
    limits = float(np.quantile(score, 0.4)), float(np.quantile(change, 0.4))
    expected = (score >= limits[0]) & (change >= limits[1])
    assert 0 < expected.sum() < len(features)
    causal = CausalFilter(bench, "sae", FilterOptions(min_output_score=limits[0], min_confidence_change=limits[1]))
    assert causal.passes(features).tolist() == expected.tolist()
    assert causal.first(features, 5) == features[expected][:5].tolist()
    only_score = CausalFilter(bench, "sae", FilterOptions(min_output_score=limits[0]))
    assert only_score.passes(features[::-1]).tolist() == (score >= limits[0])[::-1].tolist()


def test_a_feature_is_computed_once_and_only_when_it_comes_up(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(model: Any, dictionary: Any, features: Any, *, prompt: str) -> Any:
        assert prompt == "Say:"
        asked.extend(features)
        return SimpleNamespace(score=np.array([1.0 if feature % 2 else 0.0 for feature in features]))

    monkeypatch.setattr("harness.sae.causal.output_scores", counted)
    causal = CausalFilter(bench, "sae", FilterOptions(min_output_score=0.5, filter_prompt="Say:"))
    candidates = np.arange(1000)
    assert causal.first(candidates, 3) == [1, 3, 5]
    assert len(asked) == filters.FIRST
    assert causal.first(candidates, 40) == list(range(1, 81, 2))
    assert causal.first(candidates[::-1], 10_000) == list(range(999, 0, -2))
    assert sorted(asked) == list(range(1000))
