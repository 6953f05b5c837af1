"""Aspect scores: the mean over base texts is AUROC itself; right in all variants is right in each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from harness.scoring.aspects import AUROCS, RIGHT, abstained, aspect_scores
from harness.scoring.checks import ScoringError

TABLES = arrays(np.float64, st.tuples(st.integers(1, 8), st.just(4)), elements=st.integers(-3, 3).map(float))


@given(TABLES)
def test_the_mean_over_base_texts_is_auroc(scores: np.ndarray) -> None:  # type: ignore[type-arg]
    found = aspect_scores(scores, 0.0)
    for name, column in zip(AUROCS, (0, 2, 3), strict=True):
        truth = [1] * len(scores) + [0] * len(scores)
        assert found[name].mean() == pytest.approx(roc_auc_score(truth, [*scores[:, column], *scores[:, 1]]))


@given(TABLES, st.integers(-3, 3))
def test_right_in_all_is_right_in_each(scores: np.ndarray, threshold: int) -> None:  # type: ignore[type-arg]
    expected = [base >= threshold and gone < threshold and alone >= threshold and more >= threshold for base, gone, alone, more in scores]
    assert aspect_scores(scores, float(threshold))[RIGHT].tolist() == [float(one) for one in expected]


def test_constant_scores_get_the_trivial_values() -> None:
    found = aspect_scores(np.ones((3, 4)), 1.0)
    trivial = abstained(3)
    assert {name: values.tolist() for name, values in found.items()} == {name: values.tolist() for name, values in trivial.items()}


def test_without_a_threshold_nothing_is_right_or_wrong() -> None:
    assert np.isnan(aspect_scores(np.ones((2, 4)), None)[RIGHT]).all()


@pytest.mark.parametrize("scores", [np.ones(4), np.ones((2, 3)), np.full((1, 4), np.nan)])
def test_what_is_no_table_of_finite_numbers_is_refused(scores: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(ScoringError):
        aspect_scores(scores, 0.0)
