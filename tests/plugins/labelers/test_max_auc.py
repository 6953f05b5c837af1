"""max-auc against scikit-learn's AUROC, feature by feature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.max_auc import MaxAuroc, MaxAurocOptions
from sklearn.metrics import roc_auc_score

from harness.types import Abstention, Labeling


def corpus(texts: int = 90, seed: int = 5) -> tuple[Any, Any, list[list[str]]]:
    draw = np.random.default_rng(seed)
    positive = draw.random((texts, 2)) < 0.4
    counts = draw.poisson(1 + 3 * np.column_stack([positive, positive[:, 0] & positive[:, 1], np.zeros(texts)]))
    return counts, draw.integers(30, 60, texts), [[name for name, has in zip("ab", row, strict=True) if has] for row in positive]


@pytest.mark.parametrize("pool", ["maximum", "frequency"])
def test_the_feature_with_the_best_auroc_is_chosen(make_bench: Callable[..., Any], pool: str) -> None:
    counts, tokens, labels = corpus()
    bench = make_bench(counts, tokens, labels)
    order = bench.rng("held-out-texts").permutation(90)
    parts = {"chosen_on": np.sort(order[:45]), "held_out": np.sort(order[45:])}
    values = counts if pool == "maximum" else counts / tokens[:, None]  # the statistics of these tests: maxima are the counts
    for answer in MaxAuroc(MaxAurocOptions(pool=pool)).label(bench, bench.concepts):
        assert isinstance(answer, Labeling)
        positive = np.array([answer.concept.id in its for its in labels])
        scores = {part: [roc_auc_score(positive[texts], values[texts, j]) for j in range(4)] for part, texts in parts.items()}
        best = int(np.argmax(scores["chosen_on"]))
        assert [feature.index for feature in answer.features] == [best]
        assert answer.score == pytest.approx(scores["chosen_on"][best])
        for part in parts:
            assert answer.evidence["features"][0][part]["score"] == pytest.approx(scores[part][best], abs=1e-5)


def test_a_feature_that_tells_nothing_is_no_answer(make_bench: Callable[..., Any]) -> None:
    _counts, tokens, labels = corpus()
    positive = np.array(["a" in its for its in labels])
    against = np.where(positive, 0, 5)[:, None]  # fires on the other texts alone: AUROC 0
    bench = make_bench(against, tokens, labels)
    answer = MaxAuroc(MaxAurocOptions(held_out=0)).label(bench, bench.concepts[:1])[0]
    assert isinstance(answer, Abstention)
    assert "no feature that passes the filters" in answer.reason
