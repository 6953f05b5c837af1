"""calibf1 against its definition, written out on small random corpora."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.calibf1 import CalibratedF1, CalibratedF1Options
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from harness.errors import OptionError
from harness.labelling import splits
from harness.labelling.evidence import GRID
from harness.options import build
from harness.scoring.checks import ScoringError
from harness.scoring.counting import best_pairs, confusion_at
from harness.types import Abstention, Concept, Labeling

Array = np.ndarray[Any, Any]
SHARED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def f1c(tp: int, fp: int, fn: int, n: int, pi0: float) -> float:
    """Calibrated F1 from the formula: 2 TP / (2 TP + c FP + FN), c = π (1 − π0) / (π0 (1 − π))."""
    pi = (tp + fn) / n
    c = pi * (1 - pi0) / (pi0 * (1 - pi))
    return 2 * tp / (2 * tp + c * fp + fn) if tp else 0.0


def brute(
    counts: Array, tokens: Array, positive: Sequence[bool], thresholds: Sequence[float], pi0: float
) -> list[tuple[float, float, int, int]]:
    """For each feature (best score, threshold, TP, FP); frequencies and thresholds as exact fractions, ties to the lower threshold."""
    rows = []
    for feature in range(counts.shape[1]):
        best = (-1.0, 0.0, 0, 0)
        for threshold in sorted(thresholds):
            limit = Fraction(str(threshold))
            fires = [Fraction(int(count), int(n)) > limit for count, n in zip(counts[:, feature], tokens, strict=True)]
            tp = sum(f and p for f, p in zip(fires, positive, strict=True))
            fp = sum(f and not p for f, p in zip(fires, positive, strict=True))
            score = f1c(tp, fp, sum(positive) - tp, len(tokens), pi0)
            if score > best[0] + 1e-12:
                best = (score, threshold, tp, fp)
        rows.append(best)
    return rows


@st.composite
def corpora(draw: st.DrawFn, texts: tuple[int, int] = (4, 14), features: tuple[int, int] = (1, 5)) -> tuple[Array, Array, Array]:
    """(counts [texts, features], tokens [texts], positive [texts, 2 labels])."""
    n, m = draw(st.integers(*texts)), draw(st.integers(*features))
    tokens = np.array(draw(st.lists(st.integers(1, 40), min_size=n, max_size=n)))
    counts = np.array([[draw(st.integers(0, int(t))) if draw(st.booleans()) else 0 for _ in range(m)] for t in tokens])
    positive = np.array(draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=n, max_size=n)))
    return counts, tokens, positive


@given(
    data=corpora(), thresholds=st.lists(st.sampled_from(GRID), min_size=1, max_size=6, unique=True), pi0=st.sampled_from([1e-3, 0.05, 0.5])
)
@settings(max_examples=60, deadline=None)
def test_best_pairs_are_those_of_the_definition(data: tuple[Array, Array, Array], thresholds: list[float], pi0: float) -> None:
    counts, tokens, positive = data
    found = best_pairs(sparse.csr_matrix((counts / tokens[:, None]).astype(np.float32)), sparse.csr_matrix(positive), thresholds, pi0)
    assert list(found.support) == list(positive.sum(axis=0))
    for label in range(2):
        if positive[:, label].all() or not positive[:, label].any():
            assert np.isnan(found.score[label]).all()
            continue
        for feature, (score, threshold, tp, fp) in enumerate(brute(counts, tokens, list(positive[:, label]), thresholds, pi0)):
            assert found.score[label, feature] == pytest.approx(score, rel=1e-9)
            assert (found.tp[label, feature], found.fp[label, feature]) == (tp, fp)
            assert thresholds[found.threshold[label, feature]] == threshold


def test_a_frequency_equal_to_the_threshold_is_not_above_it_in_float32() -> None:
    for denominator in range(1, 257):  # every share that equals a threshold of the grid, for texts of up to 256 tokens
        for threshold in GRID:
            numerator = Fraction(str(threshold)) * denominator
            if numerator.denominator == 1:
                share = np.array([int(numerator) / denominator]).astype(np.float32)
                assert confusion_at(share, np.array([True]), threshold) == (0, 0, 1, 0)
                above = np.array([(int(numerator) + 1) / denominator]).astype(np.float32)
                assert confusion_at(above, np.array([True]), threshold) == (1, 0, 0, 0)


def test_best_pairs_refuses_what_has_no_meaning() -> None:
    one = sparse.csr_matrix([[1.0], [0.0]])
    for thresholds in ([], [-0.1]):
        with pytest.raises(ScoringError) as error:
            best_pairs(one, one, thresholds, 0.1)
        assert "thresholds" in str(error.value)
        assert str(thresholds) in str(error.value)
    with pytest.raises(ScoringError) as unequal:
        best_pairs(one, sparse.csr_matrix([[1.0]]), [0.1], 0.1)
    assert "texts" in str(unequal.value)


# ----------------------------------------------------------------------------------------------------------------------- the labeler


def label(bench: Any, concepts: Sequence[Concept] | None = None, **options: Any) -> list[Any]:
    """The answers; without the output score, which needs a model, unless a test asks for it."""
    chosen = CalibratedF1Options(**{"min_output_score": None, **options})
    return CalibratedF1(chosen).label(bench, bench.concepts if concepts is None else concepts)


@given(data=corpora(texts=(6, 16)))
@SHARED
def test_fixed_mode_gives_each_label_its_best_feature(make_bench: Callable[..., Any], data: tuple[Array, Array, Array]) -> None:
    counts, tokens, positive = data
    bench = make_bench(counts, tokens, [[name for name, is_in in zip("ab", row, strict=True) if is_in] for row in positive])
    for answer in label(bench, pi0=0.05, held_out=0):
        column = list(positive[:, "ab".index(answer.concept.id)])
        rows = [] if all(column) else brute(counts, tokens, column, GRID, 0.05)
        best = max(range(len(rows)), key=lambda feature: (rows[feature][0], -feature), default=None)
        if best is None or rows[best][0] <= 0:
            assert isinstance(answer, Abstention)
            continue
        assert isinstance(answer, Labeling)
        assert answer.score == pytest.approx(rows[best][0])
        as_good = [feature for feature, row in enumerate(rows) if row[0] == pytest.approx(rows[best][0])]
        assert [feature.index for feature in answer.features] == as_good[:1]
        evidence = answer.evidence["features"][0]
        counted = evidence["chosen_on"]
        given_feature = rows[answer.features[0].index]
        assert (evidence["threshold"], counted["tp"], counted["fp"]) == given_feature[1:]
        assert counted["tp"] + counted["fn"] == sum(column)
        assert sum(counted[name] for name in ("tp", "fp", "fn", "tn")) == len(column)
        assert counted["precision"] == pytest.approx(counted["tp"] / (counted["tp"] + counted["fp"]), abs=1e-6)
        assert counted["recall"] == pytest.approx(counted["tp"] / sum(column), abs=1e-6)
        assert "held_out" not in evidence


def halves(n: int = 120, seed: int = 3) -> tuple[Array, Array, list[list[str]]]:
    """A corpus in which feature 0 marks label a, feature 1 label b, feature 2 everything, with noise."""
    draw = np.random.default_rng(seed)
    positive = draw.random((n, 2)) < 0.4
    tokens = draw.integers(20, 60, n)
    share = np.column_stack([positive[:, 0] * 0.5, positive[:, 1] * 0.4, np.full(n, 0.6), draw.random(n) * 0.5])
    counts = draw.binomial(tokens[:, None], share * (draw.random((n, 4)) < 0.9))
    return counts, tokens, [[name for name, is_in in zip("ab", row, strict=True) if is_in] for row in positive]


def test_the_held_out_part_chooses_nothing(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    bench = make_bench(counts, tokens, labels)
    before = label(bench, pi0=0.05, held_out=0.5)
    for answer in before:
        evidence = answer.evidence["features"][0]
        chosen, held = (sum(evidence[part][name] for name in ("tp", "fp", "fn", "tn")) for part in ("chosen_on", "held_out"))
        assert (chosen, held) == (60, 60)
        assert evidence["held_out"]["calibrated_f1"] > 0.3
        total = sum(answer.concept.label in its for its in labels)
        assert sum(evidence[part][name] for part in ("chosen_on", "held_out") for name in ("tp", "fn")) == total
    # What happens on the texts held out changes nothing but what is reported of them.
    order = bench.rng("held-out-texts").permutation(120)
    changed = counts.copy()
    changed[order[60:]] = np.random.default_rng(0).integers(0, 20, (60, 4))
    after = label(make_bench(changed, tokens, labels), pi0=0.05, held_out=0.5)
    assert [(a.features, a.score, a.evidence["features"][0]["chosen_on"]) for a in after] == [
        (a.features, a.score, a.evidence["features"][0]["chosen_on"]) for a in before
    ]
    assert [a.evidence["features"][0]["held_out"] for a in after] != [a.evidence["features"][0]["held_out"] for a in before]


@pytest.mark.parametrize("score", ["calibrated-f1", "auroc"])
def test_the_other_half_is_chosen_from_by_the_same_rule(
    make_bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, score: str
) -> None:
    """Against the definition: the labeler itself with the halves exchanged."""
    agreed = []
    for seed in range(6):
        counts, tokens, labels = halves(n=40, seed=seed)
        draw = np.random.default_rng(seed)
        noisy = np.column_stack([draw.permutation(counts), draw.binomial(tokens[:, None], 0.3, (40, 12))])  # what is chosen hangs on the draw
        bench = make_bench(noisy, tokens, labels)
        answers = [answer for answer in label(bench, pi0=0.05, score=score) if isinstance(answer, Labeling)]
        with monkeypatch.context() as exchanged:
            exchanged.setattr(splits, "split_texts", lambda *given, own=splits.split_texts: own(*given)[::-1])
            others = {answer.concept.id: answer for answer in label(bench, pi0=0.05, score=score)}
        for answer in answers:
            other, evidence = others[answer.concept.id], answer.evidence["features"][0]
            assert evidence["other_half"] == (other.features[0].index if isinstance(other, Labeling) else None)
            agreed.append(evidence["other_half"] == answer.features[0].index)
    assert len(agreed) >= 8
    assert not all(agreed)


def test_nothing_is_said_of_another_half_where_there_is_none(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    assert all("other_half" not in answer.evidence["features"][0] for answer in label(make_bench(counts, tokens, labels), pi0=0.05, held_out=0.0))


def test_the_split_is_the_seeds(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    scores = [[a.score for a in label(make_bench(counts, tokens, labels, seed=seed), pi0=0.05)] for seed in (0, 0, 1)]
    assert scores[0] == scores[1] != scores[2]


def test_abstentions_say_why(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    counts[:, 0] = 0
    concepts = [Concept("bare", "a bare name"), Concept("rare", "rare", "rare"), Concept("a", "a", "a")]
    labels[0] = [*labels[0], "rare"]
    reasons = [answer.reason for answer in label(make_bench(counts[:, :1], tokens, labels, min_support=5), concepts)]
    assert reasons == [
        "the concept names no label of the corpus",
        "label 'rare' has 1 texts; 5 are needed",
        "no feature that passes the filters fires on the texts of label 'a'",
    ]
    support = sum("a" in its for its in labels)
    assert label(make_bench(counts, tokens, labels), concepts[2:], min_support=support + 1)[0].reason.endswith(f"{support + 1} are needed")
    assert isinstance(label(make_bench(counts, tokens, labels), concepts[2:], min_support=support)[0], Labeling)


def test_few_negatives_are_warned_of(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(*halves())
    label(bench)
    assert len(bench.warnings) == 1
    assert "negatives are few for π0 = 0.001" in bench.warnings[0]


def test_several_features_a_label_come_together_in_fixed_mode(make_bench: Callable[..., Any]) -> None:
    answers = label(make_bench(*halves()), features_per_label=3, pi0=0.05)
    assert [len(answer.features) for answer in answers] == [3, 3]
    assert [answer.features[0].index for answer in answers] == [0, 1]
    for answer in answers:
        scores = [row["chosen_on"]["calibrated_f1"] for row in answer.evidence["features"]]
        assert scores == sorted(scores, reverse=True)
        assert answer.score == pytest.approx(scores[0], abs=1e-6)


def test_chosen_mode_takes_the_best_pairs_within_its_caps(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    bench = make_bench(counts, tokens, labels, concept_mode="chosen")
    every = label(bench, pi0=0.05, features_per_label=9, labels_per_feature=9, top_k=99)
    assert len(every) == 8
    scores = [answer.score for answer in every]
    assert scores == sorted(scores, reverse=True)
    assert all(len(answer.features) == 1 for answer in every)
    for caps in ({"features_per_label": 1}, {"features_per_label": 2, "labels_per_feature": 2}, {"top_k": 3, "features_per_label": 3}):
        options = {"features_per_label": 1, "labels_per_feature": 1, "top_k": 99, **caps}
        expected, per_label, per_feature = [], dict.fromkeys("ab", 0), dict.fromkeys(range(4), 0)
        for answer in every:  # the definition: go down the list, skip what is over a cap
            concept, feature = answer.concept.id, answer.features[0].index
            if per_label[concept] < options["features_per_label"] and per_feature[feature] < options["labels_per_feature"]:
                per_label[concept] += 1
                per_feature[feature] += 1
                expected.append((concept, feature))
        found = [(answer.concept.id, answer.features[0].index) for answer in label(bench, pi0=0.05, **options)]
        assert found == expected[: options["top_k"]]


def test_chosen_mode_leaves_out_labels_without_support(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    bench = make_bench(counts, tokens, labels, concept_mode="chosen")
    fewest = min("ab", key=lambda name: sum(name in its for its in labels))
    least = sum(fewest in its for its in labels) + 1
    assert {answer.concept.id for answer in label(bench, pi0=0.05, min_support=least)} == {"a", "b"} - {fewest}


# -------------------------------------------------------------------------------------------------------------------- the cosine filter


def test_min_cosine_keeps_features_along_the_difference_of_means(make_bench: Callable[..., Any], tiny_dictionary: Any) -> None:
    counts, tokens, labels = halves()
    positive = np.array(["a" in its for its in labels])
    rows = tiny_dictionary.sae.W_dec.double().numpy()
    means = np.random.default_rng(1).normal(0, 0.1, (120, 64)) + positive[:, None] * rows[3]  # label a lies along feature 3
    bench = make_bench(counts, tokens, labels, means=means)
    chosen = np.sort(bench.rng("held-out-texts").permutation(120)[:60])
    weight = tokens[chosen].astype(float)
    part, is_a = means.astype(np.float32).astype(float)[chosen], positive[chosen]
    direction = np.average(part[is_a], axis=0, weights=weight[is_a]) - np.average(part[~is_a], axis=0, weights=weight[~is_a])
    cosines = rows @ direction / np.linalg.norm(rows, axis=1) / np.linalg.norm(direction)
    plain = label(bench, bench.concepts[:1], pi0=0.05)
    assert plain[0].features[0].index == 0
    for limit in (0.5, 0.1, -0.2):
        bench.warnings.clear()
        answer = label(bench, bench.concepts[:1], pi0=0.05, min_cosine=limit, features_per_label=4)[0]
        passing = [feature for feature in range(4) if cosines[feature] >= limit]
        found = [feature.index for feature in answer.features]
        assert found
        assert set(found) <= set(passing)
        assert 3 in found
        assert any("min_cosine), which is not in the paper" in warning for warning in bench.warnings)
    assert "no feature that passes the filters" in label(bench, bench.concepts[:1], min_cosine=1.0)[0].reason


def test_the_filter_does_not_see_the_texts_held_out(make_bench: Callable[..., Any]) -> None:
    counts, tokens, labels = halves()
    means = np.random.default_rng(1).normal(0, 1, (120, 64))
    held = make_bench(counts, tokens, labels).rng("held-out-texts").permutation(120)[60:]
    other = means.copy()
    other[held] = -100.0
    one, two = (
        [a.features for a in label(make_bench(counts, tokens, labels, means=m), pi0=0.05, min_cosine=0.0, features_per_label=4)]
        for m in (means, other)
    )
    assert one == two


@pytest.mark.parametrize("text", ["1.0", "-0.1", "", "0.5,2"])
def test_thresholds_are_shares(text: str) -> None:
    with pytest.raises(OptionError) as error:
        build(CalibratedF1Options, {"thresholds": text}, "labeler calibf1")
    assert "thresholds" in str(error.value)


def test_thresholds_are_sorted_once() -> None:
    assert CalibratedF1Options(thresholds=(0.5, 0.1, 0.5)).thresholds == (0.1, 0.5)
