"""The rules of the ranking, one test each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.leaderboard.entry import OptionValues
from harness.leaderboard.ranking import Group, Place, rank
from harness.scoring import paired_difference

Make = Callable[..., Any]


def standings(group: Group) -> list[tuple[str, int | None]]:
    return [(place.name.split(" ")[0], place.rank) for place in group.places]


def only(groups: list[Group]) -> Group:
    (group,) = groups
    return group


def test_nothing_to_rank() -> None:
    assert rank([]) == []


def test_rows_of_one_group_are_ranked_by_score(make_entry: Make, make_result: Make) -> None:
    group = only(
        rank([make_entry(make_result("low", [0.2] * 4), make_result("high", [0.9] * 4)), make_entry(make_result("mid", [0.5] * 4))])
    )
    assert standings(group) == [("high", 1), ("mid", 2), ("low", 3)]
    assert not group.offline
    assert not group.unpaired


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "other"},
        {"task": {"name": "demo", "version": "2", "digest": "t1", "split": "report", "mode": "fixed"}},
        {"task": {"name": "demo", "version": "1", "digest": "t2", "split": "report", "mode": "fixed"}},
        {"task": {"name": "demo", "version": "1", "digest": "t1", "split": "dev", "mode": "fixed"}},
        {"judge": "gpt-1"},
        {"concept_set_digest": "others"},
    ],
    ids=["task", "version", "task digest", "split", "judge key", "concept set"],
)
def test_nothing_is_ranked_across(make_entry: Make, make_result: Make, changes: dict[str, Any]) -> None:
    task = changes.pop("task", "demo")
    other = make_entry(make_result("b", [0.9] * 4), **changes, **({"task": task} if isinstance(task, str) else {}))
    if isinstance(task, dict):
        value = {**other.as_json(), "id": "", "task": task}
        other = type(other).model_validate(value)
    groups = rank([make_entry(make_result("a", [0.5] * 4)), other])
    assert [standings(group) for group in groups] in ([[("a", 1)], [("b", 1)]], [[("b", 1)], [("a", 1)]])


def test_protocols_are_ranked_apart_and_older_entries_with_cv(make_entry: Make, make_result: Make, make_detection: Make) -> None:
    rows = make_result("a", [0.5] * 4), make_detection("a")
    protocols = ({}, {"name": "axbench"}, {"aggregation": "harmonic-mean-of-means"})
    entries = [make_entry(*rows, protocol=protocol, run_digest=str(number)) for number, protocol in enumerate(protocols)]
    groups = rank([*entries, make_entry(make_result("b", [0.6] * 4))])
    steering = [group for group in groups if group.key.kind == "steering"]
    assert sorted(len(group.places) for group in steering) == [1, 1, 2]
    assert len([group for group in groups if group.key.kind == "detection"]) == 1


def test_an_abstention_counts_zero_and_coverage_is_kept(make_entry: Make, make_result: Make) -> None:
    group = only(rank([make_entry(make_result("half", [1.0, 1.0, None, None]), make_result("all", [0.6] * 4))]))
    assert standings(group) == [("all", 1), ("half", 2)]  # by the answered ones alone, half would lead
    half = group.places[1]
    assert half.score.value == pytest.approx(0.5)
    assert half.row.metrics["overall"].value == 1.0
    assert half.row.coverage == 0.5


def test_seeds_share_a_group_and_the_difference_is_told(make_entry: Make, make_result: Make) -> None:
    group = only(rank([make_entry(make_result("a", [0.5] * 4), seed=0), make_entry(make_result("a", [0.6] * 4), seed=1)]))
    assert standings(group) == [("a", 1), ("a", 2)]
    assert group.varies == ("seed",)


def test_what_varies_within_a_group_is_told(make_entry: Make, make_result: Make) -> None:
    model = {"name": "tiny", "digest": "m1", "dtype": "bfloat16", "device": "cuda"}
    other = make_entry(make_result("b"), model=model, instruction_set_digest="i2", decoding={"temperature": 0}, dictionaries=[])
    assert only(rank([make_entry(), other])).varies == ("dtype", "device", "dictionaries", "decoding", "instructions")


def test_strengths_of_the_user_are_told_within_a_group(make_entry: Make, make_result: Make) -> None:
    own = make_result("a").model_copy(update={"subject": make_result("a").subject.model_copy(update={"grid": (0.1, 0.9)})})
    assert only(rank([make_entry(make_result("a")), make_entry(own)])).varies == ("strengths",)
    assert only(rank([make_entry(make_result("a")), make_entry(own.model_copy(update={"subject": make_result("b").subject}))])).varies == ()


def test_an_entry_given_twice_counts_once(make_entry: Make) -> None:
    entry = make_entry()
    assert len(only(rank([entry, entry, make_entry(created="2030-01-01T00:00:00Z")])).places) == 1


def test_ties_share_a_rank_and_the_next_is_skipped(make_entry: Make, make_result: Make) -> None:
    values = {"a": [0.5] * 4, "b": [0.4, 0.6, 0.4, 0.6], "c": [0.9] * 4, "d": [0.1] * 4}
    group = only(rank([make_entry(*[make_result(name, row) for name, row in values.items()])]))
    assert standings(group) == [("c", 1), ("a", 2), ("b", 2), ("d", 4)]


def test_controls_stand_by_score_without_a_rank(make_entry: Make, make_result: Make) -> None:
    rows = [make_result("a", [0.5] * 4), make_result("random", [0.6] * 4, role="control"), make_result("b", [0.7] * 4)]
    group = only(rank([make_entry(*rows)]))
    assert standings(group) == [("b", 1), ("random", None), ("a", 2)]
    assert group.places[1].standing == "control"


def test_rows_that_are_not_eligible_come_last_with_the_reason(make_entry: Make, make_result: Make) -> None:
    broken = make_result("broken", [1.9] * 4, eligible=False, reasons=["30 % of the texts are unrated"])
    group = only(rank([make_entry(broken, make_result("a", [0.1] * 4))]))
    assert standings(group) == [("a", 1), ("broken", None)]
    assert group.places[1].reasons == ("30 % of the texts are unrated",)
    assert group.places[1].comparison is None


def test_an_offline_judges_group_is_marked(make_entry: Make) -> None:
    assert only(rank([make_entry(offline=True)])).offline


def test_chosen_concepts_that_differ_stand_unpaired_side_by_side(make_entry: Make, make_result: Make) -> None:
    mine = make_entry(make_result("mine", [0.9, 0.8], mode="chosen"), mode="chosen")
    yours = make_entry(make_result("yours", [0.5, 0.4], mode="chosen", concepts=["x", "y"]), mode="chosen")
    first, second = rank([mine, yours])
    assert first.key.family == second.key.family
    assert first.unpaired
    assert second.unpaired
    assert {row.rank for row in (*first.places, *second.places)} == {None}
    assert {row.standing for row in (*first.places, *second.places)} == {"unpaired"}


def test_methods_of_one_entry_that_chose_other_concepts_are_not_ranked_together(make_entry: Make, make_result: Make) -> None:
    rows = [make_result("a", [0.9, 0.8], mode="chosen"), make_result("b", [0.5, 0.4], mode="chosen", concepts=["x", "y"])]
    assert [len(group.places) for group in rank([make_entry(*rows, mode="chosen")])] == [1, 1]


def test_chosen_concepts_that_agree_are_ranked(make_entry: Make, make_result: Make) -> None:
    entries = [make_entry(make_result(name, [value] * 2, mode="chosen"), mode="chosen") for name, value in (("a", 0.3), ("b", 0.4))]
    other = make_entry(make_result("c", [0.5] * 2, mode="chosen", concepts=["x", "y"]), mode="chosen")
    assert standings(only(rank(entries))) == [("b", 1), ("a", 2)]
    groups = sorted(rank([*entries, other]), key=lambda group: len(group.places))
    assert [standings(group) for group in groups] == [[("c", None)], [("b", 1), ("a", 2)]]


# ------------------------------------------------------------------------------------------------------------- kinds and directions


def by_metric(entries: list[Any]) -> dict[tuple[str, str], Group]:
    return {(group.key.kind, group.key.metric): group for group in rank(entries)}


def test_kinds_and_metrics_are_ranked_apart(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    rows = (make_result("a"), make_detection("a"), make_detection("b", [0.5] * 4), make_dictionary(), make_dictionary("density"))
    groups = by_metric([make_entry(*rows)])
    assert groups.keys() == {("steering", "overall"), ("detection", "auroc"), ("dictionary", "reconstruction"), ("dictionary", "density")}
    assert standings(groups["detection", "auroc"]) == [("a", 1), ("b", 2)]


def test_the_judge_separates_steering_alone(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    entries = [
        make_entry(make_result("a"), make_detection("a"), make_dictionary(), judge=judge, offline=True, run_digest=judge)
        for judge in ("one", "other")
    ]
    groups = rank([*entries, make_entry(make_detection("c", [0.4] * 4), make_dictionary(of="c"), judge=None)])
    assert sorted((group.key.kind, len(group.places)) for group in groups) == [
        ("detection", 3), ("dictionary", 3), ("steering", 1), ("steering", 1),
    ]  # fmt: skip
    assert {group.key.kind: group.offline for group in groups} == {"steering": True, "detection": False, "dictionary": False}
    assert {group.key.judge_key for group in groups if group.key.kind != "steering"} == {""}


def test_an_abstention_from_detection_counts_as_chance(make_entry: Make, make_detection: Make) -> None:
    rows = [make_detection("half", [1.0, 1.0, None, None]), make_detection("all", [0.8] * 4)]
    group = only(rank([make_entry(*rows)]))
    assert [(place.name, place.rank, place.score.value) for place in group.places] == [
        ("all × sae", 1, pytest.approx(0.8)), ("half × sae", 2, 0.75)
    ]  # fmt: skip
    found = group.places[1].comparison
    assert found is not None
    assert found.difference == pytest.approx(0.05)  # as of the ranked scores: chance where there is no answer
    assert found.n_shared == 4


def test_lower_is_better_where_the_metric_says_so(make_entry: Make, make_dictionary: Make) -> None:
    rows = [make_dictionary("loss", [value, value + 0.01, value + 0.02], of=name, better=False) for name, value in (("a", 3.0), ("b", 2.0))]
    group = only(rank([make_entry(*rows, make_dictionary("loss", [2.5] * 3, arm="random", better=False))]))
    assert group.higher_is_better is False
    assert [(place.name, place.rank, place.standing) for place in group.places] == [
        ("loss × b", 1, "ranked"), ("loss × sae (random)", None, "control"), ("loss × a", 2, "ranked")
    ]  # fmt: skip
    comparison = group.places[2].comparison
    assert comparison is not None
    assert comparison.difference == pytest.approx(3.01 - 2.5)  # behind, though its number is the larger one


def test_a_metric_without_a_direction_ranks_nobody(make_entry: Make, make_dictionary: Make) -> None:
    rows = [make_dictionary("density", [value], of=name, better=None) for name, value in (("b", 0.3), ("a", 0.1))]
    group = only(rank([make_entry(*rows)]))
    assert [(place.name, place.rank, place.standing, place.comparison) for place in group.places] == [
        ("density × a", None, "unordered", None), ("density × b", None, "unordered", None)
    ]  # fmt: skip
    assert group.places[0].reasons == ("neither direction of this metric is better",)


def test_a_dictionary_metrics_options_are_part_of_what_is_measured(make_entry: Make, make_dictionary: Make) -> None:
    subject = {"kind": "dictionary", "dictionary": "sae", "digest": "d", "metric": "reconstruction"}
    rows = [make_dictionary(subject={**subject, "metric_options": {"given": {"tokens": tokens}}}) for tokens in (10, 100)]
    assert [len(group.places) for group in rank([make_entry(*rows)])] == [1, 1]


def test_concepts_play_no_part_for_dictionaries(make_entry: Make, make_result: Make, make_dictionary: Make) -> None:
    """Two entries in chosen mode with other concepts: their methods stand unpaired, their dictionaries are ranked."""
    entries = [
        make_entry(make_result(name, [0.5, 0.4], mode="chosen", concepts=[name, "z"]), make_dictionary(of=name, values=[value] * 3),
                   mode="chosen", dictionaries=[])
        for name, value in (("a", 0.5), ("b", 0.7))
    ]  # fmt: skip
    groups = rank(entries)
    (dictionaries,) = [group for group in groups if group.key.kind == "dictionary"]
    assert [(place.name, place.rank) for place in dictionaries.places] == [("reconstruction × b", 1), ("reconstruction × a", 2)]
    assert not dictionaries.unpaired
    assert [group.unpaired for group in groups if group.key.kind == "steering"] == [True, True]


def test_what_steering_depends_on_does_not_vary_detection(make_entry: Make, make_detection: Make) -> None:
    other = make_entry(make_detection("b"), instruction_set_digest="i2", decoding={"temperature": 0}, seed=1)
    assert only(rank([make_entry(make_detection("a")), other])).varies == ("seed",)


# ------------------------------------------------------------------------------------------------------- against the row above


def compared(make_entry: Make, *rows: Any, **changes: Any) -> Place:
    return only(rank([make_entry(*rows, **changes)])).places[-1]


@pytest.mark.parametrize(("half", "overlap"), [(0.05, False), (0.1, True), (0.3, True)])
def test_overlap_of_the_intervals_is_told(make_entry: Make, make_result: Make, half: float, overlap: bool) -> None:
    row = compared(make_entry, make_result("a", [0.75] * 4, half=half), make_result("b", [0.55] * 4, half=half))
    assert row.comparison is not None
    assert row.comparison.overlap is overlap
    assert row.comparison.above == "a × sae-clamp"


def test_the_paired_difference_is_that_of_the_shared_concepts(make_entry: Make, make_result: Make) -> None:
    first, second = [0.9, 0.7, 1.0, 0.8], [0.5, 0.6, 0.4, None]
    features = {f"c{number}": (f"sae/{number}",) for number in range(4)}
    row = compared(make_entry, make_result("a", first), make_result("b", second))
    found = row.comparison
    assert found is not None
    expected = paired_difference(first, [0.5, 0.6, 0.4, 0.0])  # each concept has its own feature: every one stands alone
    assert len(set(features.values())) == 4
    assert (found.n_shared, found.difference) == (4, pytest.approx(0.475))
    assert (found.low, found.high, found.p_value) == (expected.interval.low, expected.interval.high, expected.p_value)


def test_concepts_that_share_a_feature_are_one_cluster(make_entry: Make, make_result: Make) -> None:
    a, b = make_result("a", [0.9, 0.7, 1.0, 0.8]), make_result("b", [0.5, 0.6, 0.4, 0.3])
    rows = [row.model_copy(update={"features": ("sae/0",)}) if number < 2 else row for number, row in enumerate(b.items)]
    row = compared(make_entry, a, b.model_copy(update={"items": tuple(rows)}))
    expected = paired_difference([0.9, 0.7, 1.0, 0.8], [0.5, 0.6, 0.4, 0.3], [0, 0, 1, 2])
    assert row.comparison is not None
    assert (row.comparison.low, row.comparison.p_value) == (expected.interval.low, expected.p_value)


def test_other_instructions_are_noted(make_entry: Make, make_result: Make) -> None:
    group = only(rank([make_entry(make_result("a", [0.9] * 4)), make_entry(make_result("b", [0.5] * 4), instruction_set_digest="i2")]))
    assert group.places[1].comparison is not None
    assert group.places[1].comparison.note == "other instructions: paired by concept only"


def test_another_seed_draws_other_instructions_and_is_noted(make_entry: Make, make_result: Make, make_detection: Make) -> None:
    group = only(rank([make_entry(make_result("a", [0.9] * 4)), make_entry(make_result("b", [0.5] * 4), seed=3)]))
    assert group.places[1].comparison is not None
    assert group.places[1].comparison.note == "seeds 0 and 3 draw other instructions for a concept: paired by concept only"
    texts = only(rank([make_entry(make_detection("a")), make_entry(make_detection("b", [0.6, 0.7, 0.5, 0.6]), seed=3)]))
    assert texts.places[1].comparison is not None
    assert "instructions" not in texts.places[1].comparison.note  # detection has none


def test_controls_of_one_name_are_told_apart_by_whom_they_stand_for(make_entry: Make, make_result: Make) -> None:
    options = {"given": {"min_cosine": 0.3}, "default": {}}
    first = make_result("random", [0.1] * 4, role="control", controls=["calibf1"])
    subject = first.subject.model_copy(update={"labeler_options": OptionValues.model_validate(options)})
    other = make_result("random", [0.2] * 4, role="control", controls=["max-auc"], subject=subject)
    group = only(rank([make_entry(make_result(), first, other)]))
    assert {place.name for place in group.places} == {"calibf1 × sae-clamp", "random × sae-clamp for calibf1", "random × sae-clamp for max-auc"}
    alone = only(rank([make_entry(make_result(), first)]))
    assert {place.name for place in alone.places} == {"calibf1 × sae-clamp", "random × sae-clamp"}


def test_two_concepts_give_no_interval_of_the_difference(make_entry: Make, make_result: Make) -> None:
    found = compared(make_entry, make_result("a", [2.0, 0.5]), make_result("b", [0.0, 0.4])).comparison
    assert found is not None
    assert (found.difference, found.low, found.high, found.note) == (pytest.approx(1.05), None, None, "2 concepts: no interval")


def test_the_difference_stays_on_the_scale(make_entry: Make, make_result: Make) -> None:
    ours, theirs = [2.0, 0.8, 2.0, 0.9, 2.0, 2.0, 1.9, 1.7], [0.0] * 7 + [0.2]
    found = compared(make_entry, make_result("a", ours), make_result("b", theirs)).comparison
    assert found is not None
    plain = paired_difference(ours, theirs).interval
    assert plain.high is not None
    assert plain.high > 2
    assert (found.low, found.high) == (plain.low, 2.0)


def test_without_rows_by_concept_only_the_intervals_are_compared(make_entry: Make, make_result: Make) -> None:
    row = compared(make_entry, make_result("a", [0.9] * 4, items=[]), make_result("b", [0.5] * 4))
    assert row.comparison is not None
    assert (row.comparison.n_shared, row.comparison.difference, row.comparison.overlap) == (0, None, False)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 2).map(lambda value: round(value, 2)), st.sampled_from(["method", "control"])), min_size=1, max_size=6)
)
def test_ranks_count_the_methods_that_are_better(scored: list[tuple[float, str]]) -> None:
    entry, result = make_for_hypothesis()
    rows = [result(f"m{number}", [value, value], role=role) for number, (value, role) in enumerate(scored)]
    group = only(rank([entry(*rows)]))
    assert [row.score.value for row in group.places] == sorted((value for value, _ in scored), reverse=True)
    methods = np.array([value for value, role in scored if role == "method"])
    for row in group.places:
        assert row.rank == (None if row.standing == "control" else 1 + int((methods > row.score.value).sum()))


def make_for_hypothesis() -> tuple[Make, Make]:
    """The makers of conftest.py, which hypothesis cannot take as fixtures with another scope."""
    import importlib.util
    from pathlib import Path

    spec = importlib.util.spec_from_file_location("leaderboard_makers", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.entry, module.result
