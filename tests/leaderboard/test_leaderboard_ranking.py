"""The rules of the ranking, one test each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.leaderboard.entry import OptionValues
from harness.leaderboard.ranking import Group, rank

Make = Callable[..., Any]


MANY = [0.01 * (number % 5) for number in range(16)]
"""Of so many concepts that methods can be told apart, small differences between them."""


def standings(group: Group) -> list[tuple[str, str]]:
    """Names and ranks as shown; a dash stands for no rank."""
    return [(place.name.split(" ")[0], place.rank_text) for place in group.places]


def around(value: float) -> list[float]:
    return [value + small for small in MANY]


def only(groups: list[Group]) -> Group:
    (group,) = groups
    return group


def test_nothing_to_rank() -> None:
    assert rank([]) == []


def test_rows_of_one_group_are_ranked_by_score(make_entry: Make, make_result: Make) -> None:
    group = only(
        rank([make_entry(make_result("low", around(0.2)), make_result("high", around(0.9))), make_entry(make_result("mid", around(0.5)))])
    )
    assert standings(group) == [("high", "1"), ("mid", "2"), ("low", "3")]
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
    assert [standings(group) for group in groups] in ([[("a", "1")], [("b", "1")]], [[("b", "1")], [("a", "1")]])


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
    assert [name for name, _ in standings(group)] == ["all", "half"]  # by the answered ones alone, half would lead
    half = group.places[1]
    assert half.score.value == pytest.approx(0.5)
    assert half.row.metrics["overall"].value == 1.0
    assert half.row.coverage == 0.5


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


def test_methods_that_are_not_apart_share_ranks(make_entry: Make, make_result: Make) -> None:
    values = {"a": around(0.5), "b": around(0.5)[::-1], "c": around(0.9), "d": around(0.1)}
    group = only(rank([make_entry(*[make_result(name, row) for name, row in values.items()])]))
    assert standings(group) == [("c", "1"), ("a", "2–3"), ("b", "2–3"), ("d", "4")]
    assert group.groups == ((0,), (1, 2), (3,))


def test_controls_stand_by_score_without_a_rank(make_entry: Make, make_result: Make) -> None:
    rows = [make_result("a", around(0.5)), make_result("random", around(0.6), role="control"), make_result("b", around(0.7))]
    group = only(rank([make_entry(*rows)]))
    assert standings(group) == [("b", "1"), ("random", "–"), ("a", "2")]
    assert group.places[1].standing == "control"


def test_rows_that_are_not_eligible_come_last_with_the_reason(make_entry: Make, make_result: Make) -> None:
    broken = make_result("broken", [1.9] * 4, eligible=False, reasons=["30 % of the texts are unrated"])
    group = only(rank([make_entry(broken, make_result("a", [0.1] * 4))]))
    assert standings(group) == [("a", "1"), ("broken", "–")]
    assert group.places[1].reasons == ("30 % of the texts are unrated",)
    assert group.comparisons == ()


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
    entries = [make_entry(make_result(name, around(value), mode="chosen"), mode="chosen") for name, value in (("a", 0.3), ("b", 0.4))]
    other = make_entry(make_result("c", [0.5] * 2, mode="chosen", concepts=["x", "y"]), mode="chosen")
    assert standings(only(rank(entries))) == [("b", "1"), ("a", "2")]
    groups = sorted(rank([*entries, other]), key=lambda group: len(group.places))
    assert [standings(group) for group in groups] == [[("c", "–")], [("b", "1"), ("a", "2")]]


# ------------------------------------------------------------------------------------------------------------- kinds and directions


def by_metric(entries: list[Any]) -> dict[tuple[str, str], Group]:
    return {(group.key.kind, group.key.metric): group for group in rank(entries)}


def test_kinds_and_metrics_are_ranked_apart(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    rows = (make_result("a"), make_detection("a"), make_detection("b", [0.5] * 4), make_dictionary(), make_dictionary("density"))
    groups = by_metric([make_entry(*rows)])
    assert groups.keys() == {("steering", "overall"), ("detection", "auroc"), ("dictionary", "reconstruction"), ("dictionary", "density")}
    assert [name for name, _ in standings(groups["detection", "auroc"])] == ["a", "b"]


def test_the_judge_separates_steering_alone(make_entry: Make, make_result: Make, make_detection: Make, make_dictionary: Make) -> None:
    entries = [
        make_entry(make_result("a"), make_detection("a"), make_dictionary(), judge=judge, offline=True)
        for judge in ("one", "other")
    ]
    groups = rank([*entries, make_entry(make_detection("c", [0.4] * 4), make_dictionary(of="c"), judge=None)])
    assert sorted((group.key.kind, len(group.places)) for group in groups) == [
        ("detection", 2), ("dictionary", 2), ("steering", 1), ("steering", 1),
    ]  # fmt: skip
    assert {len(place.runs) for group in groups for place in group.places} == {1}  # the one run that two judges rated
    assert {group.key.kind: group.offline for group in groups} == {"steering": True, "detection": False, "dictionary": False}
    assert {group.key.judge_key for group in groups if group.key.kind != "steering"} == {""}


def test_an_abstention_from_detection_counts_as_chance(make_entry: Make, make_detection: Make) -> None:
    rows = [make_detection("half", [1.0, 1.0, None, None]), make_detection("all", [0.8] * 4)]
    group = only(rank([make_entry(*rows)]))
    assert [(place.name, place.score.value) for place in group.places] == [("all × sae", pytest.approx(0.8)), ("half × sae", 0.75)]
    (found,) = group.comparisons
    assert found.difference == pytest.approx(0.05)  # as of the ranked scores: chance where there is no answer
    assert found.n_shared == 4


def test_lower_is_better_where_the_metric_says_so(make_entry: Make, make_dictionary: Make) -> None:
    rows = [make_dictionary("loss", [value, value + 0.01, value + 0.02], of=name, better=False) for name, value in (("a", 3.0), ("b", 2.0))]
    group = only(rank([make_entry(*rows, make_dictionary("loss", [2.5] * 3, arm="random", better=False))]))
    assert group.higher_is_better is False
    assert [(place.name, place.rank, place.standing) for place in group.places] == [
        ("loss × b", None, "ranked"), ("loss × sae (random)", None, "control"), ("loss × a", None, "ranked")
    ]  # fmt: skip
    (comparison,) = group.comparisons
    assert (comparison.first, comparison.second) == (0, 2)
    assert comparison.difference == pytest.approx(3.0 - 2.0)  # ahead, though its number is the smaller one
    assert group.criterion == "3 shared seeds: 12 are needed"


def test_a_metric_without_a_direction_ranks_nobody(make_entry: Make, make_dictionary: Make) -> None:
    rows = [make_dictionary("density", [value], of=name, better=None) for name, value in (("b", 0.3), ("a", 0.1))]
    group = only(rank([make_entry(*rows)]))
    assert [(place.name, place.rank, place.standing) for place in group.places] == [
        ("density × a", None, "unordered"), ("density × b", None, "unordered")
    ]  # fmt: skip
    assert (group.comparisons, group.smallest) == ((), None)
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
    assert [place.name for place in dictionaries.places] == ["reconstruction × b", "reconstruction × a"]
    assert not dictionaries.unpaired
    assert [group.unpaired for group in groups if group.key.kind == "steering"] == [True, True]


def test_what_steering_depends_on_does_not_vary_detection(make_entry: Make, make_detection: Make) -> None:
    other = make_entry(make_detection("b"), instruction_set_digest="i2", decoding={"temperature": 0}, seed=1)
    assert only(rank([make_entry(make_detection("a")), other])).varies == ("seed",)


# ------------------------------------------------------------------------------------------------------------------------- names


def test_controls_of_one_name_are_told_apart_by_whom_they_stand_for(make_entry: Make, make_result: Make) -> None:
    options = {"given": {"min_cosine": 0.3}, "default": {}}
    first = make_result("random", [0.1] * 4, role="control", controls=["calibf1"])
    subject = first.subject.model_copy(update={"labeler_options": OptionValues.model_validate(options)})
    other = make_result("random", [0.2] * 4, role="control", controls=["max-auc"], subject=subject)
    group = only(rank([make_entry(make_result(), first, other)]))
    assert {place.name for place in group.places} == {"calibf1 × sae-clamp", "random × sae-clamp for calibf1", "random × sae-clamp for max-auc"}
    alone = only(rank([make_entry(make_result(), first)]))
    assert {place.name for place in alone.places} == {"calibf1 × sae-clamp", "random × sae-clamp"}
