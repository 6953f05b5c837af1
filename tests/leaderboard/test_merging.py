"""Runs of one configuration are one method; what differs in more than seed, device and version is another one, with a name of its own."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.merging import Spread, merged_row
from harness.leaderboard.places import Group
from harness.leaderboard.ranking import rank

Make = Callable[..., Any]
VALUE = st.one_of(st.none(), st.floats(0, 2, allow_nan=False).map(lambda value: round(value, 4)))
RUNS = st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(VALUE, min_size=n, max_size=n).filter(any), min_size=2, max_size=4))


def only(groups: Sequence[Group]) -> Group:
    (group,) = groups
    return group


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"harness_version": "0.2.0"},
        {"model": {"name": "tiny", "digest": "m1", "dtype": "float32", "device": "cuda"}},
        {"created": "2026-02-01T00:00:00+00:00", "run_digest": "r2"},
        {"libraries": {"torch": "2.9.0"}},
    ],
    ids=["seed", "version", "device", "twice", "libraries"],
)
def test_runs_of_one_configuration_are_one_method(make_entry: Make, make_result: Make, changes: dict[str, Any]) -> None:
    entries = [make_entry(make_result("a", [0.5, 0.7])), make_entry(make_result("a", [0.7, 0.3]), **changes)]
    (place,) = only(rank(entries)).places
    assert [run.entry for run in place.runs] == sorted(entries, key=lambda entry: (entry.created, entry.id))
    assert place.score.value == pytest.approx(0.55)
    assert [item.values["overall"] for item in place.row.items] == pytest.approx([0.6, 0.5])
    assert place.spread == Spread(2, pytest.approx(statistics.stdev([0.6, 0.5])), 0.5, pytest.approx(0.6))
    assert place.rank == (1, 1)
    assert place.entry == place.runs[-1].entry


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": {"name": "big", "digest": "m2", "dtype": "float32", "device": "cpu"}}, "big"),
        ({"model": {"name": "tiny", "digest": "0123456789ab", "dtype": "float32", "device": "cpu"}}, "tiny 01234567"),
        ({"model": {"name": "tiny", "digest": "m1", "dtype": "bfloat16", "device": "cpu"}}, "bfloat16"),
        ({"dictionaries": [{"name": "wide", "source": "task", "digest": "d2", "layer": 7, "d_sae": 9}]}, "wide at layer 7"),
        ({"dictionaries": [{"name": "sae", "source": "task", "digest": "fedcba987654", "layer": 2, "d_sae": 9}]}, "sae at layer 2 fedcba98"),
        ({"decoding": {"temperature": 0.0}}, "temperature=0.0"),
        ({"instruction_set_digest": "abcdef012345"}, "instructions abcdef01"),
    ],
    ids=["model", "weights", "precision", "dictionary", "weights of a dictionary", "decoding", "instructions"],
)
def test_other_conditions_are_another_method_and_named(make_entry: Make, make_result: Make, changes: dict[str, Any], told: str) -> None:
    group = only(rank([make_entry(make_result("a", [0.5, 0.7])), make_entry(make_result("a", [0.7, 0.3]), **changes)]))
    names = [place.name for place in group.places]
    assert len(set(names)) == 2
    assert f"a × sae-clamp ({told})" in names
    assert all(name.startswith("a × sae-clamp (") for name in names)


def test_other_strengths_and_options_are_another_method_and_named(make_entry: Make, make_result: Make) -> None:
    plain = make_result("a")
    subjects = [
        plain.subject.model_copy(update={"grid": (0.1, 0.9)}),
        type(plain.subject).model_validate({**plain.subject.model_dump(), "steerer_options": {"given": {"unit": "factor"}}}),
    ]
    for subject, told in zip(subjects, ("strengths 0.1, 0.9", "unit=factor"), strict=True):
        group = only(rank([make_entry(plain), make_entry(plain.model_copy(update={"subject": subject}))]))
        assert len(group.places) == 2
        assert f"a × sae-clamp ({told})" in {place.name for place in group.places}


def test_a_method_without_features_does_not_depend_on_dictionaries(make_entry: Make, make_result: Make) -> None:
    prompt = make_result(None, [0.5] * 4, steerer="prompt")
    dictionaries = [{"name": "wide", "source": "task", "digest": "d2", "layer": 7, "d_sae": 9}]
    (place,) = only(rank([make_entry(prompt), make_entry(prompt, dictionaries=dictionaries, seed=1, run_digest="r2")])).places
    assert len(place.runs) == 2


def test_a_run_that_may_not_be_ranked_is_not_averaged_in(make_entry: Make, make_result: Make) -> None:
    broken = make_result("a", [2.0] * 4, eligible=False, reasons=["30 % of the texts are unrated"])
    group = only(rank([make_entry(make_result("a", [0.5] * 4)), make_entry(broken, seed=1)]))
    assert [(place.score.value, place.standing) for place in group.places] == [(0.5, "ranked"), (2.0, "ineligible")]


def test_a_control_of_one_run_and_method_of_another_is_a_method(make_entry: Make, make_result: Make) -> None:
    """It takes a rank, and other methods are held against it all the same."""
    values = [0.01 * number for number in range(16)]
    prompt = make_result(None, values, steerer="prompt")
    entries = [
        make_entry(make_result("a", [0.5 + value for value in values]), prompt.model_copy(update={"role": "control"})),
        make_entry(prompt, seed=1, run_digest="r2"),
    ]
    group = only(rank(entries))
    assert [(place.name, place.rank_text, len(place.runs)) for place in group.places] == [("a × sae-clamp", "1", 1), ("prompt", "2", 2)]
    assert [found.name for found in group.places[0].against] == ["prompt"]
    assert group.places[1].against == ()


def test_one_run_in_two_entries_counts_once(make_entry: Make, make_detection: Make) -> None:
    """A run that two judges rated stands in two entries, each with the run's detection."""
    entries = [make_entry(make_detection(), judge=judge) for judge in ("one", "other")]
    assert entries[0].id != entries[1].id
    (place,) = only(rank(entries)).places
    assert len(place.runs) == 1


def test_equal_values_of_one_seed_count_once(make_entry: Make, make_result: Make) -> None:
    """A control that several runs share is in each of them: every further run would pull its mean to that seed, and its spread to 0."""
    shared = [make_entry(make_result("a", [0.2, 0.4]), run_digest=name) for name in ("r1", "r2", "r3")]
    other = make_entry(make_result("a", [0.6, 0.8]), run_digest="r4", seed=1)
    same_by_chance = make_entry(make_result("a", [0.2, 0.4]), run_digest="r5", seed=2)
    (place,) = only(rank([*shared, other])).places
    assert (len(place.runs), place.score.value) == (2, pytest.approx(0.5))
    (place,) = only(rank([*shared, other, same_by_chance])).places
    assert (len(place.runs), place.score.value) == (3, pytest.approx(1.3 / 3))


# --------------------------------------------------------------------------------------------------------------------- the arithmetic


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_a_merged_row_is_a_valid_row_with_the_runs_mean(make_entry: Make, make_result: Make, runs: list[list[float | None]]) -> None:
    """In fixed mode an abstention counts as 0: the score of the runs together is the mean of their scores, whoever abstained."""
    rows = [make_result("a", values) for values in runs]
    merged = merged_row(rows)
    assert Row.model_validate(merged.model_dump()) == merged
    assert Entry.model_validate(make_entry(merged).as_json()).rows[0] == merged
    assert merged.score.value == pytest.approx(statistics.fmean(row.score.value for row in rows))
    assert merged.n_texts == sum(row.n_texts for row in rows)
    answered = {place for values in runs for place, value in enumerate(values) if value is not None}
    assert (merged.n_items, merged.n_answered) == (len(runs[0]), len(answered))
    means = [statistics.fmean(0.0 if values[place] is None else values[place] for values in runs) for place in range(len(runs[0]))]
    assert list(merged.values(trivial=True).values()) == pytest.approx(means)
    if merged.score.low is not None and merged.score.high is not None:
        assert 0 <= merged.score.low <= merged.score.high <= 2


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.floats(0, 1, allow_nan=False), min_size=3, max_size=3), min_size=2, max_size=4))
def test_merged_detection_and_dictionaries_are_valid(make_detection: Make, make_dictionary: Make, runs: list[list[float]]) -> None:
    for make in (make_detection, lambda name, values: make_dictionary("m", values, half=None)):
        rows = [make("a", values) for values in runs]
        merged = merged_row(rows)
        assert Row.model_validate(merged.model_dump()) == merged
        assert merged.score.value == pytest.approx(statistics.fmean(row.score.value for row in rows))


def test_chosen_strengths_of_all_runs_are_kept(make_entry: Make, make_result: Make) -> None:
    from harness.leaderboard.table import build_board, render_board, to_text

    rows = [make_result("a", [0.5, 0.7]), make_result("a", [0.7, 0.3])]
    items = tuple(item.model_copy(update={"strength": 0.2}) for item in rows[1].items)
    entries = [make_entry(rows[0]), make_entry(rows[1].model_copy(update={"items": items}), seed=1)]
    (place,) = only(rank(entries)).places
    assert {item.strength for item in place.row.items} == {None}
    assert "the runs chose different strengths" in place.row.items[0].reason
    text = to_text(render_board(build_board(entries)), 200)
    assert "0.3 (0.2–0.4)" in text
    assert "means of 2 runs (seeds 0, 1), lowest and highest score: a × sae-clamp 0.500 and 0.600, SD 0.071" in text


def test_readings_of_runs_are_averaged(make_result: Make, make_metric: Make) -> None:
    def control(value: float) -> Row:
        reading = {"at_strengths_of": "a", "method": "id", "n_items": 4, "n_read": 3,
                   "metrics": {name: make_metric(value, bounds=(0, 2)) for name in ("concept", "instruction", "fluency")}}  # fmt: skip
        return make_result("random", [0.1] * 4, role="control", readings=[reading])

    merged = merged_row([control(1.0), control(0.5)])
    (reading,) = merged.readings
    assert (reading.metrics["fluency"].value, reading.metrics["fluency"].low) == (0.75, None)
    assert (reading.n_items, reading.n_read) == (8, 6)
    assert Row.model_validate(merged.model_dump()) == merged
