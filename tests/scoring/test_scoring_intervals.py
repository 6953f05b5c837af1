"""Intervals over clusters against textbook formulas, matrix algebra and scipy's bootstrap."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import harness.scoring.ends
from harness.scoring import ScoringError, clusters_of, interval
from harness.scoring.clusters import cluster_sums
from harness.types import Concept, FeatureRef, Labeling, canonical_json

scores_lists = st.lists(st.floats(0, 2, width=32), min_size=3, max_size=25)


def ends(values: object, *arguments: object, **options: object) -> tuple[float, float]:
    result = interval(values, *arguments, **options)  # type: ignore[arg-type]
    assert result.low is not None
    assert result.high is not None
    return result.low, result.high


# ------------------------------------------------------------------------------------------------------------------ Student's t


@given(scores_lists, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_t_of_single_concepts_is_the_textbook_interval(values: list[float], level: float) -> None:
    assume(np.std(values) > 1e-6)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
    assert ends(values, method="t", level=level) == pytest.approx((expected.low, expected.high), rel=1e-6)


@given(st.integers(3, 8), st.integers(1, 5), st.integers(0, 1000))
def test_t_of_equal_clusters_is_the_t_interval_of_their_means(n_clusters: int, size: int, seed: int) -> None:
    values = np.random.default_rng(seed).random((n_clusters, size))
    expected = scipy.stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval(0.95)
    result = interval(values.ravel(), np.repeat(np.arange(n_clusters), size), method="t")
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))
    assert result.n_effective == pytest.approx(n_clusters)


def bell_mccaffrey(values: np.ndarray, clusters: np.ndarray, level: float) -> tuple[float, float, float]:
    """CR2 interval and degrees of freedom of a regression on a constant, by the general matrix formulas."""
    n = len(values)
    x = np.ones((n, 1))
    bread = np.linalg.inv(x.T @ x)
    residual_maker = np.eye(n) - x @ bread @ x.T
    residuals = residual_maker @ values
    meat = np.zeros((1, 1))
    columns = []
    for cluster in np.unique(clusters):
        rows = np.flatnonzero(clusters == cluster)
        eigenvalues, vectors = np.linalg.eigh(residual_maker[np.ix_(rows, rows)])
        adjust = vectors @ np.diag(eigenvalues**-0.5) @ vectors.T
        score = x[rows].T @ adjust @ residuals[rows]
        meat += np.outer(score, score)
        columns.append(residual_maker[:, rows] @ adjust @ x[rows] @ bread)
    g = np.hstack(columns)
    eigenvalues = np.linalg.eigvalsh(g.T @ g)
    freedom = eigenvalues.sum() ** 2 / (eigenvalues**2).sum()
    half = scipy.stats.t.ppf((1 + level) / 2, freedom) * math.sqrt((bread @ meat @ bread).item())
    return values.mean() - half, values.mean() + half, freedom


@given(st.lists(st.integers(1, 6), min_size=3, max_size=8), st.integers(0, 1000), st.sampled_from([0.8, 0.95]))
def test_t_of_unequal_clusters_is_cr2_with_bell_mccaffrey_degrees_of_freedom(sizes: list[int], seed: int, level: float) -> None:
    generator = np.random.default_rng(seed)
    clusters = generator.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = generator.random(len(sizes))[clusters] + generator.random(len(clusters))
    low, high, freedom = bell_mccaffrey(values, clusters, level)
    result = interval(values, clusters, method="t", level=level)
    assert (result.low, result.high) == pytest.approx((low, high), rel=1e-9)
    assert result.n_effective == pytest.approx(freedom + 1, abs=1e-5)
    assert result.n_effective <= len(sizes) + 1e-6
    assert result.estimate == pytest.approx(values.mean())


# -------------------------------------------------------------------------------------------------------------------------- BCa


def ratio(sums: np.ndarray, counts: np.ndarray, axis: int = -1) -> np.ndarray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)


def scipy_bca(values: np.ndarray, clusters: np.ndarray, level: float, resamples: int, own: bool) -> tuple[float, float]:
    """scipy's BCa over clusters; from our resampled means, so that the two must agree to the last digits, or (``own``) from scipy's own."""
    data = cluster_sums(values, clusters)
    means, estimate = harness.scoring.ends.bootstrap_means(*data, seed=0, resamples=resamples), ratio(*data)
    means[np.isclose(means, estimate, rtol=1e-12)] = estimate  # scipy counts a tie that rounding hides as below or above; we count it half
    ours = SimpleNamespace(bootstrap_distribution=means)
    source = {"n_resamples": resamples} if own else {"n_resamples": 0, "bootstrap_result": ours}
    found = scipy.stats.bootstrap(data, ratio, paired=True, vectorized=True, confidence_level=level, rng=0, **source).confidence_interval
    return found.low, found.high


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [5, 20, 45])
@pytest.mark.parametrize("shape", ["symmetric", "skewed", "zeros", "clusters"])
def test_bca_agrees_with_scipy(n: int, shape: str, level: float) -> None:
    generator = np.random.default_rng(n)
    clusters = np.repeat(np.arange(n), generator.integers(1, 6, n)) if shape == "clusters" else np.arange(n)
    values = {
        "symmetric": generator.normal(size=n),
        "skewed": generator.exponential(size=n) ** 1.5,
        "zeros": np.where(np.arange(n) % 2, 0, generator.random(n)),
        "clusters": generator.exponential(size=n)[clusters] + generator.random(len(clusters)),
    }[shape]
    found = ends(values, clusters, method="bca", level=level)
    assert found == pytest.approx(scipy_bca(values, clusters, level, 9999, own=False), rel=1e-9)
    if n >= 20:  # below that, scipy's rounded ties (see above) move its ends
        # scipy's own resamples are other random numbers: two such ends differ by some percent of the standard error.
        tolerance = 0.2 * (found[1] - found[0]) / (2 * scipy.stats.norm.ppf((1 + level) / 2))
        assert found == pytest.approx(scipy_bca(values, clusters, level, 9999, own=True), abs=tolerance)


def test_bca_leans_towards_the_long_tail() -> None:
    values = np.random.default_rng(0).exponential(size=40) ** 1.5
    low, high = ends(values, method="bca")
    assert high - values.mean() > 1.2 * (values.mean() - low)


def test_bca_is_seeded_and_does_not_depend_on_the_memory_it_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(30)
    once = interval(values, method="bca", seed=3)
    assert once == interval(values, method="bca", seed=3)
    assert once != interval(values, method="bca", seed=4)
    monkeypatch.setattr(harness.scoring.ends, "_CHUNK", 1000)
    assert once == interval(values, method="bca", seed=3)


def test_bca_without_a_finite_correction_is_no_interval() -> None:
    """A single resample lies on one side of the estimate, whatever it is: the bias correction is infinite."""
    result = interval([0.0, 0.1, 0.3, 5.0], method="bca", resamples=1)
    assert (result.low, result.high) == (None, None)
    assert result.warning == "4 concepts are too few or too much alike: no interval"


# ---------------------------------------------------------------------------------------------------- the studentised bootstrap


def by_hand(values: np.ndarray, clusters: np.ndarray, level: float, resamples: int) -> tuple[float, float]:
    """The studentised bootstrap one resample at a time, its deviations by the matrix formulas of CR2."""

    def deviation(some: np.ndarray, groups: np.ndarray) -> float:
        low, high, freedom = bell_mccaffrey(some, groups, 0.95)
        return (high - low) / 2 / scipy.stats.t.ppf(0.975, freedom)

    sums, sizes = cluster_sums(values, clusters)
    members = sorted((values[clusters == cluster] for cluster in np.unique(clusters)), key=lambda part: (len(part), part.sum()))
    assert [part.sum() for part in members] == pytest.approx(sums)
    t = []
    for drawn in np.concatenate(list(harness.scoring.ends._draws(len(sums), 0, resamples))):
        some = np.concatenate([members[place] for place in drawn])
        groups = np.repeat(np.arange(len(drawn)), sizes[drawn].astype(int))
        t.append((some.mean() - values.mean()) / deviation(some, groups))
    cut = round((resamples + 1) * (1 - level) / 2)
    own = deviation(values, clusters)
    return values.mean() - sorted(t)[-cut] * own, values.mean() - sorted(t)[cut - 1] * own


@pytest.mark.parametrize("equal", [True, False])
def test_bootstrap_t_is_that_of_resampled_clusters(equal: bool) -> None:
    generator = np.random.default_rng(4)
    clusters = np.arange(9) if equal else np.repeat(np.arange(9), generator.integers(1, 4, 9))
    values = generator.exponential(size=9)[clusters] + 0.1 * generator.random(len(clusters))
    assert ends(values, clusters, method="bootstrap-t", resamples=199) == pytest.approx(by_hand(values, clusters, 0.95, 199), rel=1e-9)


def test_where_too_few_differ_there_is_no_end_and_no_interval() -> None:
    """Two of nine score: a tenth of all resamples hold nothing but zeros, so that t has no distribution to speak of."""
    for values, n in (([0.0] * 7 + [1.0, 0.7], 9), ([0.2, 0.9, 0.4], 3)):
        result = interval(values)
        assert (result.low, result.high, result.method) == (None, None, "t and bootstrap-t")
        assert result.warning == f"{n} concepts are too few or too much alike: no interval"


@pytest.mark.parametrize("n", [8, 24])
def test_an_interval_does_not_rest_on_one_concept(n: int) -> None:
    """Where all but one score alike, the interval of t and BCa covers .6 to .7 (docs/scoring.md); with two it covers."""
    alike = interval([0.5] * (n - 1) + [1.0])
    assert (alike.low, alike.high) == (None, None)
    assert alike.warning == "no interval: all concepts but one have the same value, and it would rest on that"
    grouped = interval([0.5] * n + [1.0, 0.6], [*range(n), n, n])
    assert grouped.warning is not None
    assert "but those of one group" in grouped.warning
    if n >= 12:
        assert interval([0.5] * (n - 2) + [1.0, 0.9]).low is not None
    assert interval([0.5] * (n - 1) + [1.0], method="t").low is not None  # asked for, it is given


# ------------------------------------------------------------------------------------------------------- choices and corner cases


@pytest.mark.parametrize(("n", "other"), [(8, "bootstrap-t"), (11, "bootstrap-t"), (12, "bca"), (40, "bca")])
def test_auto_is_the_hull_of_t_and_a_bootstrap(n: int, other: str) -> None:
    values = np.random.default_rng(n).exponential(size=n)
    t, bootstrap, found = ends(values, method="t"), ends(values, method=other), interval(values)
    assert (found.low, found.high) == (min(t[0], bootstrap[0]), max(t[1], bootstrap[1]))
    assert found.method == f"t and {other}"
    assert found.warning == (f"only {n} independent concepts: the interval is rough below 20" if n < 20 else None)


def test_auto_counts_effective_clusters() -> None:
    """25 clusters, one of which holds half of the values, are worth a handful: BCa covers .80 there (docs/scoring.md)."""
    clusters = np.concatenate([np.arange(24), np.full(24, 24)])
    result = interval(np.random.default_rng(0).random(48), clusters)
    assert result.method == "t and bootstrap-t"
    assert result.n_clusters == 25
    assert result.n_effective < 6
    assert result.warning == f"25 clusters of such unequal size count as {result.n_effective:.1f}: the interval is rough below 20"


on_scale = st.lists(st.one_of(st.just(0.0), st.floats(0, 2, width=32)), min_size=1, max_size=30)


@given(on_scale, st.lists(st.integers(0, 9), min_size=30, max_size=30))
@settings(deadline=None)
def test_no_end_leaves_the_scale_and_the_mean_lies_between(values: list[float], clusters: list[int]) -> None:
    found = interval(values, clusters[: len(values)], resamples=199, bounds=(0, 2))
    plain = interval(values, clusters[: len(values)], resamples=199)
    if plain.low is None or plain.high is None or (plain.low <= 0 and plain.high >= 2):
        assert (found.low, found.high) == (None, None)
        assert found.warning
        return
    assert found.warning == plain.warning
    assert (found.low, found.high) == (max(0.0, plain.low), min(2.0, plain.high))
    assert found.estimate is not None
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.estimate + 1e-12
    assert found.estimate - 1e-12 <= found.high <= 2


@given(st.lists(st.integers(0, 40), min_size=4, max_size=24), st.integers(1, 4), st.integers(-8, 8), st.randoms())
@settings(deadline=None)
def test_shifted_scaled_and_reordered_scores_shift_scale_and_keep_the_interval(values: list[int], factor: int, shift: int, shuffle: object) -> None:
    """Of numbers that binary fractions hold exactly, so that ties stay ties."""
    scores, clusters = [value / 16 for value in values], [place // 2 if place < 6 else place for place in range(len(values))]
    base = interval(scores, clusters, resamples=199)
    moved = interval([factor * score + shift for score in scores], clusters, resamples=199)
    order = list(range(len(values)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    turned = interval([scores[place] for place in order], [clusters[place] for place in order], resamples=199)
    assert (turned.low, turned.high, turned.warning) == (base.low, base.high, base.warning)
    if base.low is None or base.high is None:
        assert moved.low is None
        return
    assert (moved.low, moved.high) == pytest.approx((factor * base.low + shift, factor * base.high + shift), abs=1e-9)


def test_clustered_values_widen_the_interval() -> None:
    """The same ten scores four times over are ten scores: resampling pairs as if independent would halve the interval."""
    values = np.tile(np.random.default_rng(0).random(10), 4)
    together, apart = ends(values, np.tile(np.arange(10), 4), method="t"), ends(values, method="t")
    assert together == pytest.approx(ends(values[:10], method="t"))
    assert together[1] - together[0] > 1.9 * (apart[1] - apart[0])


def test_no_interval_is_no_number() -> None:
    for values, clusters, n, groups, reason in (
        ([0.7], None, 1, 1, "1 concept: no interval"),
        ([0.7, 0.1], None, 2, 2, "2 concepts: no interval"),
        ([0.7, 0.1, 0.4], ["a", "a", "a"], 3, 1, "3 concepts in 1 independent group: no interval"),
        ([], None, 0, 0, "no concept has a value"),
        ([math.nan, None], None, 0, 0, "no concept has a value; 2 undefined values left out"),
        ([0.7, 0.1, math.nan], None, 2, 2, "2 concepts: no interval; 1 undefined value left out"),
    ):
        found = interval(values, clusters)  # type: ignore[arg-type]
        assert (found.low, found.high, found.n, found.n_clusters, found.warning) == (None, None, n, groups, reason)
        assert (found.estimate is None) == (n == 0)
    assert interval([0.1, 0.2], item="seed").warning == "2 seeds: no interval"


@pytest.mark.parametrize("method", ["t", "bca", "auto"])
@pytest.mark.parametrize("value", [0.0, 0.1 + 0.2, 2.0])
def test_equal_scores_have_no_interval(method: str, value: float) -> None:
    """A width of 0 would claim certainty: 16 zeros do not show that the method never works."""
    result = interval([value] * 15 + [value + 1e-16], method=method)  # type: ignore[arg-type]
    assert (result.low, result.high) == (None, None)
    assert result.estimate == pytest.approx(value)
    assert result.warning == "no interval: all 16 concepts have the same value, so their spread cannot be estimated"


def test_undefined_scores_are_left_out_and_counted() -> None:
    values = np.random.default_rng(0).random(25)
    gaps = values.copy()
    gaps[[3, 7]] = math.nan
    result = interval(gaps)
    assert result.n == 23
    assert result.n_missing == 2
    assert result.warning == "2 undefined values left out"
    assert (result.low, result.high) == ends(np.delete(values, [3, 7]))
    clusters = np.repeat(np.arange(5), 5)
    whole = interval(np.concatenate([values, [math.nan]]), [*clusters, 99], method="t")
    assert whole.n_clusters == 5  # the cluster of nothing but an undefined value is none


def test_it_is_json_ready_and_plain() -> None:
    result = interval([0.1, 0.5, math.nan, 0.9, 0.6, 0.2])
    assert '"level":0.95' in canonical_json(result)
    assert type(result.low) is type(result.high) is type(result.estimate) is type(result.n_effective) is float


def test_bad_input_is_refused() -> None:
    for call, refused, name, allowed in (
        (lambda: interval([1, 2, 3], [0, 1]), 2, "clusters", "3 values"),
        (lambda: interval([1, 2, 3], method="normal"), "normal", "method", "('auto', 't', 'bca', 'bootstrap-t')"),  # type: ignore[arg-type]
        (lambda: interval([1, 2, 3], level=95), 95, "level", "above 0 and below 1"),
        (lambda: interval([1, 2, 3], resamples=0), 0, "resamples", "at least 1"),
        (lambda: interval([[1, 2, 3]]), (1, 3), "values", "1 dimension"),
    ):
        with pytest.raises(ScoringError) as error:
            call()
        assert error.value.given == refused
        assert name in error.value.message
        assert allowed in str(error.value.allowed)


@pytest.mark.parametrize(("n", "zeros", "low"), [(6, 0.0, 0.92), (12, 0.6, 0.89), (24, 0.6, 0.91), (24, 0.8, 0.90)])
def test_coverage_is_near_nominal(n: int, zeros: float, low: float) -> None:
    """A small version of benchmarks/interval_coverage.py: 300 runs of n skewed scores, nominal .95; low is the aim less two standard errors."""
    generator = np.random.default_rng(0)
    mean, hits, runs = (1 - zeros) * 0.4, 0, 0
    for seed in range(300):
        scores = np.where(generator.random(n) < zeros, 0.0, 2 * generator.beta(1.6, 6.4, n))
        found = interval(scores, seed=seed, resamples=299, bounds=(0, 2))
        if found.low is not None and found.high is not None:
            runs += 1
            hits += found.low <= mean <= found.high
    assert runs > 250
    assert low <= hits / runs <= 0.995


# --------------------------------------------------------------------------------------------------------------------- clusters


@given(st.lists(st.tuples(st.integers(0, 12), st.lists(st.integers(0, 15), max_size=3)), max_size=20))
@settings(deadline=None)
def test_clusters_are_connected_components(pairs: list[tuple[int, list[int]]]) -> None:
    links = [
        (i, j)
        for i, (concept, features) in enumerate(pairs)
        for j, (other, other_features) in enumerate(pairs)
        if concept == other or set(features) & set(other_features)
    ]
    found = clusters_of(pairs)
    assert found.shape == (len(pairs),)
    if pairs:
        rows, columns = np.array(links).T
        _, expected = connected_components(coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(pairs), len(pairs))), directed=False)
        assert found.tolist() == expected.tolist()  # scipy, too, numbers components in order of first appearance


def test_concepts_and_features_of_one_name_are_apart() -> None:
    assert clusters_of([("a", ["b"]), ("b", ["a"]), ("c", ["b"])]).tolist() == [0, 1, 0]


def test_pairs_of_a_method_without_features_stand_alone() -> None:
    assert clusters_of([("a", ()), ("b", ()), ("a", ())]).tolist() == [0, 1, 0]


def test_clusters_of_labelings() -> None:
    labelings = [
        Labeling(Concept("chess", "chess"), (FeatureRef("sae", 1), FeatureRef("sae", 2))),
        Labeling(Concept("law", "law"), (FeatureRef("sae", 3),)),
        Labeling(Concept("go", "go"), (FeatureRef("sae", 2),)),
        Labeling(Concept("court", "court"), (FeatureRef("other", 3),)),
    ]
    assert clusters_of((labeling.concept.id, labeling.features) for labeling in labelings).tolist() == [0, 1, 0, 2]


def test_a_long_chain_is_one_cluster() -> None:
    assert not clusters_of([(i, (i, i + 1)) for i in range(20_000)]).any()


def test_a_text_is_not_a_collection_of_features() -> None:
    with pytest.raises(ScoringError) as error:
        clusters_of([("a", "sae/12")])
    assert error.value.given == "sae/12"
    assert "('sae/12',)" in error.value.hint
