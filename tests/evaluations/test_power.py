"""What a run's differences vary by: the pairs, clusters and family are those of the leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.steered import steered_run

from harness.errors import OptionError
from harness.evaluations.entry import make_entry
from harness.evaluations.power import PowerPair, _shares, power_pairs
from harness.leaderboard.ranking import rank
from harness.scoring import harmonic_mean
from harness.store import RunStore

_NOISE = np.random.default_rng(2).uniform(0.2, 0.8, size=(3, 14))
_LEVEL = {"clamp": 0, "random/clamp": 1, "permuted/clamp": 2}


def _rate(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float]:
    if method == "add":
        return (1.0 + 0.02 * concept, 1.0, 1.0)
    return (float(_NOISE[_LEVEL.get(method, 0), concept]) + (method == "clamp"), 1.0 + 0.1 * place, 1.0)


def _pairs(folder: Path) -> list[PowerPair]:
    with RunStore.open(folder, read_only=True) as store:
        return power_pairs(store.manifest, store, store.judge_named(None))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods; of one of them random features and permuted labels, and a control of both that needs no labels."""
    folder = tmp_path_factory.mktemp("power") / "run"
    controls = {"random/clamp": lambda concept: 100 + concept, "permuted/clamp": lambda concept: (concept + 1) % 14, "prompt!": lambda concept: 0}
    steered_run(folder, _rate, ("clamp", "add"), controls=controls)
    return folder


def test_the_pairs_and_their_intervals_are_those_of_the_leaderboard(run: Path) -> None:
    found = {(pair.method, pair.name): pair.pair for pair in _pairs(run)}
    with RunStore.open(run, read_only=True) as store:
        (group,) = rank([make_entry(store.manifest, store, store.judge_named(None))])
    board = {(place.name, against.name): against for place in group.places for against in place.against}
    assert set(found) == set(board)
    assert {name for method, name in found if method == "l-add × add"} == {"prompt"}, "random features steered otherwise are no control of it"
    for key, pair in found.items():
        against = board[key]
        assert (pair.low, pair.high, pair.p_value) == (against.low, against.high, against.p_value)


def test_permuted_labels_leave_the_concepts_apart(run: Path) -> None:
    for pair in _pairs(run):
        assert pair.pair.tested, pair.name
        assert pair.pair.effective_clusters == pytest.approx(14)
        assert pair.spread.effective == pytest.approx(14)
        assert pair.spread.level > 0.95, "sharpened for the family"


def test_a_run_without_controls_has_nothing_to_compare(tmp_path: Path) -> None:
    steered_run(tmp_path / "run", _rate, ("clamp",))
    with pytest.raises(OptionError) as error:
        _pairs(tmp_path / "run")
    assert error.value.allowed


def test_concepts_that_count_as_one_are_said_and_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from harness.cli.power import _as_json, _show

    shared = {"random/clamp": lambda concept: 100, "prompt!": lambda concept: 0}  # one random feature for all concepts links them
    steered_run(tmp_path / "run", _rate, ("clamp",), controls=shared)
    pairs = {pair.name: pair for pair in _pairs(tmp_path / "run")}
    linked = [pair for pair in pairs.values() if not pair.spread.foresees]
    assert linked
    for pair in linked:
        value = _as_json(pair, (0.1,), 0.8, ())
        assert (value["detectable"], value["needed"]) == (None, [])
        _show(pair, (0.1,), 0.8, ())
        assert "nothing can be foreseen: the 14 concepts" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cv", "axbench"])
@pytest.mark.parametrize("aggregation", ["mean-of-harmonic-means", "harmonic-mean-of-means"])
def test_another_protocol_asks_of_its_own_scores(run: Path, name: Any, aggregation: Any) -> None:
    with RunStore.open(run, read_only=True) as store:
        protocol = store.manifest.protocol.named(name, aggregation)
        pairs = power_pairs(store.manifest, store, store.judge_named(None), protocol)
        entry = make_entry(store.manifest, store, store.judge_named(None), protocol)
    scores = {row.subject.name: row.score.value or 0.0 for row in entry.rows}
    for pair in pairs:
        assert pair.protocol == protocol.title
        assert pair.spread.difference == pytest.approx(scores[pair.method] - scores[pair.control])
        assert pair.spread.n_instructions == 4, "of a concept, whoever reports"
        assert pair.spread.within > 0


def test_half_of_the_instructions_report_under_axbench(tmp_path: Path) -> None:
    """The variance is that of the instructions that report, and a mean over two of four varies as much as that over all of one twice as large."""

    def rate(method: str, concept: int, strength: float, place: int) -> tuple[float, float, float]:
        return (1.0 + (method == "clamp") * 0.1 * place * place, 1.0, 1.0)

    steered_run(tmp_path / "run", rate, ("clamp",), controls={"prompt!": lambda concept: 0})
    with RunStore.open(tmp_path / "run", read_only=True) as store:
        named = [store.manifest.protocol.named("axbench", way) for way in ("mean-of-harmonic-means", "harmonic-mean-of-means")]
        (mean,), (of_means,) = (power_pairs(store.manifest, store, store.judge_named(None), protocol) for protocol in named)
    texts = harmonic_mean([[1.4, 1, 1], [1.9, 1, 1]])
    assert mean.spread.within == pytest.approx(2 * np.var(texts, ddof=1))
    # of two instructions each left out in turn, the jackknife's variance of the score is ((a − b) / 2)², here raised from 2 to 4
    assert of_means.spread.within == pytest.approx(4 * ((texts[0] - texts[1]) / 2) ** 2)


def test_the_jackknife_of_the_harmonic_mean_of_means() -> None:
    ratings = np.random.default_rng(0).uniform(0, 2, size=(7, 3))
    ratings[2] = np.nan
    own = np.delete(ratings, 2, axis=0)
    without = np.array([harmonic_mean(np.delete(own, place, axis=0).mean(axis=0)) for place in range(6)])
    shares = _shares(ratings, "harmonic-mean-of-means")
    assert np.isnan(shares[2])
    assert np.nanvar(shares, ddof=1) / 6 == pytest.approx(5 / 6 * ((without - without.mean()) ** 2).sum())  # Efron & Tibshirani 1993, eq. 11.5
    assert _shares(ratings, "mean-of-harmonic-means")[0] == harmonic_mean(ratings[0])
