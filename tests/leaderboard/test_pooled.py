"""Pooling over seeds: the arithmetic, what is matched with what, and what must not be pooled."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import OptionError
from harness.leaderboard.pooled import pool_seeds, render_pooled
from harness.leaderboard.table import to_text

VALUE = st.floats(0, 2, allow_nan=False).map(lambda value: round(value, 6))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(st.one_of(st.none(), VALUE), min_size=n, max_size=n), min_size=2, max_size=4)))
def test_a_pooled_score_is_the_mean_of_the_concepts_means(
    make_entry: Callable[..., Any], make_result: Callable[..., Any], values: list[list[float | None]]
) -> None:
    """In fixed mode an abstention counts as 0, so that the pooled score is the mean of the seeds' scores."""
    rows = [make_result(values=own, **({} if any(v is not None for v in own) else {"eligible": False, "reasons": ["nothing"]})) for own in values]
    (row,) = pool_seeds([make_entry(own, seed=seed) for seed, own in enumerate(rows)]).rows
    scores = [statistics.fmean(0.0 if value is None else value for value in own) for own in values]
    assert row.score.value == pytest.approx(statistics.fmean(scores))
    assert row.spread == pytest.approx(statistics.stdev(scores))
    assert (row.lowest, row.highest) == (pytest.approx(min(scores)), pytest.approx(max(scores)))
    assert [seed.value for seed in row.seeds] == pytest.approx(scores)
    assert [seed.n_answered for seed in row.seeds] == [sum(value is not None for value in own) for own in values]
    if row.score.low is not None and row.score.high is not None:
        assert 0 <= row.score.low <= row.score.high <= 2


def test_in_chosen_mode_a_concept_counts_once_with_the_seeds_that_chose_it(make_entry: Callable[..., Any], make_result: Callable[..., Any]) -> None:
    first = make_entry(make_result(values=[1.0, 0.5], concepts=["a", "b"], mode="chosen"), mode="chosen", seed=0)
    second = make_entry(make_result(values=[2.0, 0.1], concepts=["a", "c"], mode="chosen"), mode="chosen", seed=1)
    pooled = pool_seeds([first, second])
    (row,) = pooled.rows
    assert row.score.value == pytest.approx((1.5 + 0.5 + 0.1) / 3)
    assert row.n_items == 3
    assert "the concepts differ from seed to seed" in to_text(render_pooled(pooled))


def test_rows_are_matched_by_what_they_are_about(make_entry: Callable[..., Any], make_result: Callable[..., Any], make_dictionary: Any) -> None:
    entries = [
        make_entry(make_result(), make_result("random", role="control"), seed=0),
        make_entry(make_result("random", (0.1, 0.2, 0.3, 0.4), role="control"), make_result(), seed=7),
    ]
    pooled = pool_seeds(entries)
    assert pooled.seeds == (0, 7)
    names = ["calibf1 × sae-clamp", "random × sae-clamp"]
    assert [(row.name, row.role, len(row.seeds)) for row in pooled.rows] == [(names[0], "method", 2), (names[1], "control", 2)]
    assert [seed.value for seed in pooled.rows[1].seeds] == [entries[0].rows[1].score.value, entries[1].rows[0].score.value]
    shown = to_text(render_pooled(pooled), 100)
    assert "pooled over the seeds 0, 7" in shown
    (line,) = [line.split() for line in shown.splitlines() if line.startswith(names[0])]
    assert line[3] == "0.625"
    assert line[6:] == ["0.000", "0.625", "0.625", "4"]
    assert "random × sae-clamp (control)" in shown
    found = pooled.as_json()
    assert [entry["id"] for entry in found["entries"]] == [entry.id for entry in entries]
    assert found["rows"][1]["seeds"][1]["entry"] == entries[1].id


def test_what_must_not_be_pooled(make_entry: Callable[..., Any], make_result: Callable[..., Any]) -> None:
    one = make_entry(make_result(), seed=0)
    for others in ([], [one, one], [one, make_entry(seed=1, task="other")], [one, make_entry(seed=1, judge="other")]):
        with pytest.raises(OptionError):
            pool_seeds(others)
