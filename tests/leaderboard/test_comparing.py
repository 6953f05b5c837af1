"""Groups, verdicts and win rates: that they say what the test says, of the right pairs, and never contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import OptionError
from harness.leaderboard.comparisons import AgainstControl
from harness.leaderboard.places import Group, Place
from harness.leaderboard.ranking import rank
from harness.leaderboard.values import MetricValue
from harness.scoring.simultaneous import MIN_CLUSTERS, compare_all

Make = Callable[..., Any]
FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
NOISE = [0.03, -0.02, 0.05, 0.0, -0.04, 0.01, 0.02, -0.05, 0.04, -0.01, 0.03, -0.03, 0.0, 0.02, -0.02, 0.01]


def around(value: float, n: int = 16) -> list[float]:
    return [max(value + noise, 0.0) for noise in NOISE[:n]]


def only(groups: Sequence[Group]) -> Group:
    (group,) = groups
    return group


def place_of(group: Group, name: str) -> Place:
    (place,) = [place for place in group.places if place.name.startswith(name)]
    return place


def against(group: Group, name: str) -> dict[str, AgainstControl]:
    """The verdicts of a method by the control's name in a sentence."""
    return {found.name: found for found in place_of(group, name).against}


# ------------------------------------------------------------------------------------------------------------------- ranks and groups


@settings(max_examples=25, deadline=None, suppress_health_check=FIXTURES)
@given(
    st.integers(2, 5).flatmap(
        lambda n: st.tuples(
            st.lists(st.sampled_from([0.1, 0.4, 0.45, 0.9]), min_size=n, max_size=n), st.integers(0, 2**16), st.sampled_from([8, 14, 20])
        )
    )
)
def test_ranks_groups_and_intervals_never_contradict_each_other(
    make_entry: Make, make_result: Make, drawn: tuple[list[float], int, int]
) -> None:
    levels, seed, n_concepts = drawn
    generator = np.random.default_rng(seed)
    rows = [make_result(f"m{number}", (level + 0.1 * generator.random(n_concepts)).tolist()) for number, level in enumerate(levels)]
    group = only(rank([make_entry(*rows)]))
    assert group.tested == (n_concepts >= MIN_CLUSTERS)
    assert len(group.comparisons) == len(levels) * (len(levels) - 1) // 2
    if not group.tested:
        assert {place.rank for place in group.places} == {None}
        assert group.groups == ()
        assert f"{MIN_CLUSTERS} are needed" in group.criterion
        return
    for pair in group.comparisons:
        assert pair.low is not None
        assert pair.high is not None
        assert pair.p_value is not None
        assert pair.apart == (pair.p_value <= 0.05) == (not pair.low < 0 < pair.high)
        together = any({pair.first, pair.second} <= set(members) for members in group.groups)
        assert together == (not pair.apart)
        assert group.between(pair.second, pair.first) is pair
    for number, place in enumerate(group.places):
        pairs = [pair for pair in group.comparisons if number in (pair.first, pair.second) and pair.apart]
        ahead = sum((pair.first == number) == ((pair.difference or 0) < 0) for pair in pairs)  # of those that are apart, who is ahead of it
        assert place.rank == (1 + ahead, len(levels) - (len(pairs) - ahead))
        assert place.rank_text == (str(place.rank[0]) if place.rank[0] == place.rank[1] else f"{place.rank[0]}–{place.rank[1]}")
    assert {number for members in group.groups for number in members} == set(range(len(levels)))


def test_the_pairs_are_those_of_the_simultaneous_test(make_entry: Make, make_result: Make) -> None:
    """The same numbers as the arithmetic alone gives on the table of scores, an abstention counting as 0."""
    generator = np.random.default_rng(3)
    table = generator.random((3, 15)) * np.array([[0.4], [0.7], [1.0]])
    rows = [make_result(name, values.tolist()) for name, values in zip("abc", table, strict=True)]
    rows[0] = make_result("a", [None, *table[0, 1:].tolist()])
    table[0, 0] = 0.0
    group = only(rank([make_entry(*rows)]))
    order = np.argsort(-table.mean(axis=1))
    by_id = sorted(range(15), key=lambda number: f"c{number}")  # items in the order of their ids
    expected = compare_all(table[order][:, by_id], bounds=(0.0, 2.0))
    for found, pair in zip(group.comparisons, expected.pairs, strict=True):
        assert (found.first, found.second, found.n_shared) == (pair.first, pair.second, 15)
        assert (found.difference, found.low, found.high) == (pytest.approx(pair.difference), pytest.approx(pair.low), pytest.approx(pair.high))
        assert found.p_value == pair.p_value


def test_concepts_that_share_a_feature_of_any_method_count_as_one(make_entry: Make, make_result: Make) -> None:
    """The third method's features link concepts for the first two as well: with 16 concepts in 8 pairs nothing can be tested."""
    rows = [make_result(name, around(value)) for name, value in (("a", 0.9), ("b", 0.5), ("c", 0.1))]
    apart = only(rank([make_entry(*rows)]))
    assert apart.tested
    items = [item.model_copy(update={"features": (f"sae/{100 + number // 2}",)}) for number, item in enumerate(rows[2].items)]
    linked = only(rank([make_entry(*rows[:2], rows[2].model_copy(update={"items": tuple(items)}))]))
    assert {pair.effective_clusters for pair in linked.comparisons} == {8.0}
    assert not linked.tested
    assert linked.criterion == "16 shared concepts, worth 8.0 independent ones: 12 are needed"


def test_permuted_labels_do_not_link_all_concepts(make_entry: Make, make_result: Make) -> None:
    """Each concept with the next one's feature; but two concepts for which a control drew one feature are one."""
    method, permuted = make_result("a", around(0.9)), make_result("permuted", around(0.5), role="control")
    borrowed = tuple(item.model_copy(update={"features": (f"sae/{(number + 1) % 16}",)}) for number, item in enumerate(permuted.items))
    drawn = tuple(item.model_copy(update={"features": (f"sae/{100 + max(number, 3)}",)}) for number, item in enumerate(permuted.items))
    found = [
        only(rank([make_entry(method, permuted.model_copy(update={"items": items}))])).places[0].against[0] for items in (borrowed, drawn)
    ]
    assert (found[0].effective_clusters, found[0].answer) == (16, "yes")
    assert found[1].effective_clusters < 13  # one cluster of four and twelve of one


def test_features_of_one_name_in_other_dictionaries_are_others(make_entry: Make, make_result: Make) -> None:
    """Feature 0 of each entry's dictionary ``sae``: linked where the weights are the same, and not linked where they are not."""
    first, second = make_result("a", around(0.5)), make_result("b", around(0.9))
    turned = tuple(item.model_copy(update={"features": (f"sae/{(number + 1) % 16}",)}) for number, item in enumerate(second.items))
    second = second.model_copy(update={"items": turned})
    for digest, clusters in (("d1", 1.0), ("d2", 16.0)):
        dictionaries = [{"name": "sae", "source": "task", "digest": digest, "layer": 2, "d_sae": 512}]
        (pair,) = only(rank([make_entry(first), make_entry(second, dictionaries=dictionaries)])).comparisons
        assert pair.effective_clusters == clusters


def test_methods_that_agree_on_every_concept_share_a_rank(make_entry: Make, make_result: Make) -> None:
    group = only(rank([make_entry(make_result("a", around(0.5)), make_result("b", around(0.5)))]))
    assert [place.rank for place in group.places] == [(1, 2), (1, 2)]
    assert group.tested
    assert group.comparisons[0].reason == "both have the same score on all 16 concepts"


def test_of_very_many_methods_there_are_ranks_and_no_groups(make_entry: Make, make_result: Make) -> None:
    """Groups that overlap may be a great many; ranks are always there, and fewer sign patterns are drawn."""
    from harness.leaderboard.comparing import LEAST_PATTERNS, MOST_METHODS, PATTERNS, _patterns

    rows = [make_result(f"m{number}", around(0.02 * number, 14)) for number in range(MOST_METHODS + 1)]
    group = only(rank([make_entry(*rows)]))
    assert group.groups == ()
    assert group.tested
    assert (group.places[0].rank, group.places[-1].rank) == ((1, 1), (len(rows), len(rows)))
    assert [_patterns(n_pairs) for n_pairs in (1, 66, 10_000, 10**6)] == [PATTERNS, PATTERNS, 2000, LEAST_PATTERNS]


def test_lower_is_better_by_sign(make_entry: Make, make_dictionary: Make) -> None:
    values = {"a": around(3.0), "b": around(2.0)}
    rows = [make_dictionary("loss", own, of=name, better=False, scale={"trivial": 10.0, "bounds": [0, None]}) for name, own in values.items()]
    control = make_dictionary("loss", around(9.0), of="a", arm="random", better=False, scale={"trivial": 10.0, "bounds": [0, None]})
    group = only(rank([make_entry(*rows, control)]))
    assert [(place.name, place.rank_text) for place in group.places] == [
        ("loss × b", "1"), ("loss × a", "2"), ("loss × a (random)", "–")
    ]  # fmt: skip
    (pair,) = group.comparisons
    assert (pair.difference, pair.apart) == (pytest.approx(1.0), True)
    assert group.smallest == pytest.approx(0.5)  # a twentieth of the way from 10 to 0
    (found,) = group.places[1].against  # of a dictionary by its items, and it has none: tests/leaderboard/test_arms.py
    assert (found.name, found.own, found.answer, found.difference) == ("random", True, "not tested", pytest.approx(6.0))


def test_without_items_nothing_is_compared(make_entry: Make, make_result: Make) -> None:
    group = only(rank([make_entry(make_result("a", around(0.9), items=[]), make_result("b", around(0.5), items=[]))]))
    (pair,) = group.comparisons
    assert (pair.n_shared, pair.difference, pair.reason) == (0, None, "no concept is shared")
    assert [place.rank for place in group.places] == [None, None]


def test_other_instructions_are_said(make_entry: Make, make_result: Make, make_detection: Make) -> None:
    first = make_entry(make_result("a", around(0.9)), make_result("c", around(0.7)))
    for changes in ({"instruction_set_digest": "i2"}, {"seed": 3}):
        group = only(rank([first, make_entry(make_result("b", around(0.5)), **changes)]))
        (warning,) = [line for line in group.warnings if "instructions" in line]
        assert warning.endswith("paired by concept only (2 of 3 pairs)")
    texts = only(rank([make_entry(make_detection("a")), make_entry(make_detection("b", [0.6, 0.7, 0.5, 0.6]), seed=3)]))
    assert not any("instructions" in line for line in texts.warnings)  # detection has none


def test_skewed_differences_are_warned_of(make_entry: Make, make_result: Make) -> None:
    skewed = [0.51, 0.52, 0.5, 0.53, 0.51, 0.5, 0.52, 0.54, 0.5, 0.51, 0.52, 0.5, 0.53, 0.51, 1.8, 1.9]
    group = only(rank([make_entry(make_result("a", skewed), make_result("b", around(0.2)))]))
    assert group.comparisons[0].apart
    (warning,) = group.warnings
    assert "a × sae-clamp against b × sae-clamp: their differences are skewed" in warning


# --------------------------------------------------------------------------------------------------------------------------- verdicts


@settings(max_examples=25, deadline=None, suppress_health_check=FIXTURES)
@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.4), st.integers(0, 2**16))
def test_a_verdict_follows_from_its_interval(make_entry: Make, make_result: Make, lead: float, noise: float, seed: int) -> None:
    base = 0.8 + 0.2 * np.random.default_rng(seed).random(16)
    ours = np.clip(base + lead + noise * np.random.default_rng(seed + 1).standard_normal(16), 0, 2)
    rows = [make_result("a", ours.tolist()), make_result("random", base.tolist(), role="control", controls=["a"])]
    found = against(only(rank([make_entry(*rows)])), "a")["random"]
    assert found.low is not None
    assert found.high is not None
    assert found.smallest == 0.05
    assert found.difference == pytest.approx(float((ours - base).mean()))
    assert found.shown_from is not None
    if found.answer == "yes":
        assert 0 <= found.low < found.high
        assert found.difference is not None
        assert found.difference > 0
    elif found.answer == "no":
        assert found.high < 0.05 or found.high <= 0
    else:
        assert found.answer == "not shown"
        assert found.low <= 0
        assert found.high >= 0.05
        assert found.difference is not None
        assert found.difference <= found.shown_from + 1e-9  # a larger lead would have been shown


def test_yes_no_and_not_shown(make_entry: Make, make_result: Make) -> None:
    wide = [0.0, 1.2, 0.1, 1.0, 0.0, 1.1, 0.2, 1.0, 0.0, 1.3, 0.1, 0.9, 0.0, 1.2, 0.1, 1.0]
    rows = [
        make_result("a", around(0.6)),
        make_result("random", around(0.1), role="control", controls=["a"]),
        make_result(None, around(0.6)[::-1], steerer="same", role="control"),
        make_result(None, wide, steerer="wide", role="control"),
        make_result(None, around(0.9), steerer="better", role="control"),
    ]
    group = only(rank([make_entry(*rows)]))
    found = against(group, "a")
    assert {name: one.answer for name, one in found.items()} == {"random": "yes", "same": "no", "wide": "not shown", "better": "no"}
    assert [one.own for one in place_of(group, "a").against] == [True, False, False, False]  # its own control first
    assert (found["better"].difference, found["same"].difference) == (pytest.approx(-0.3), pytest.approx(0.0))
    assert group.verdict_criterion.endswith("no where it lies below 0.05, the smallest difference of interest")
    assert "one of 4 that hold together" in group.verdict_criterion


def test_all_verdicts_of_a_group_are_corrected_together(make_entry: Make, make_result: Make) -> None:
    """Two methods with two controls each are four pairs: each interval is wider than the same pair's alone."""
    generator = np.random.default_rng(0)

    def row(name: str | None, level: float, **changes: Any) -> Any:
        return make_result(name, (level + 0.4 * generator.random(16)).tolist(), **changes)

    rows = [
        row("a", 0.6),
        row("b", 0.5),
        row("random", 0.2, role="control"),
        row(None, 0.5, role="control", steerer="prompt"),
    ]
    together, alone = only(rank([make_entry(*rows)])), only(rank([make_entry(rows[0], rows[2])]))
    many, one = against(together, "a")["random"], against(alone, "a")["random"]
    assert sum(len(place.against) for place in together.places) == 4
    assert one.difference == many.difference
    assert one.low is not None
    assert many.low is not None
    assert many.low < one.low


def test_a_control_is_held_against_those_that_it_stands_for(make_entry: Make, make_result: Make, make_detection: Make) -> None:
    rows = [
        make_result("a", around(0.5)),
        make_result("b", around(0.6)),
        make_result("a", around(0.4), steerer="sae-add"),
        make_result("random", around(0.1), role="control", controls=["a"]),
        make_result("random", around(0.2), role="control", controls=["b"], subject=_other_options(make_result("random"))),
        make_result(None, around(0.3), role="control", steerer="prompt"),
    ]
    group = only(rank([make_entry(*rows)]))
    found = {place.name: {group.places[one.control].name for one in place.against} for place in group.places if place.standing == "ranked"}
    assert found == {
        "a × sae-clamp": {"random × sae-clamp for a", "prompt"},
        "b × sae-clamp": {"random × sae-clamp for b", "prompt"},
        "a × sae-add": {"prompt"},
    }
    names = {one.name for place in group.places for one in place.against}
    assert names == {"random", "prompt"}
    rows = [make_detection("a", around(0.8)), make_detection(None, around(0.5), detector="bow", role="control")]
    assert [one.name for one in only(rank([make_entry(*rows)])).places[0].against] == ["bow"]


def _other_options(row: Any) -> dict[str, Any]:
    value = row.subject.model_dump(mode="json")
    return {**value, "labeler_options": {"given": {"min_cosine": 0.3}, "default": {}}}


def test_further_controls_of_one_method(make_entry: Make, make_result: Make) -> None:
    """``--controls full``: another concept's features through the method's steerer, and a random direction by the method's own labels."""
    def given(row: Any, **options: Any) -> Any:
        subject = {**row.subject.model_dump(mode="json"), "steerer_options": {"given": options}}
        return type(row).model_validate({**row.model_dump(), "subject": subject})

    methods = [given(make_result("a", around(0.5), steerer=name), unit=unit) for name, unit in (("sae-clamp", "norm"), ("sae-add", "max"))]
    controls = [
        given(make_result("random", around(0.1), role="control", controls=["a", "b"]), unit="norm"),
        given(make_result("permuted", around(0.2), role="control", controls=["a"]), unit="norm"),
        given(make_result("a", around(0.3), role="control", controls=["a"], steerer="random-direction"), unit="norm", quantile=1),
        given(make_result("b", around(0.3), role="control", controls=["b"], steerer="random-direction"), unit="norm", quantile=1),
    ]
    group = only(rank([make_entry(*methods, *controls)]))
    found = {place.name: {one.name for one in place.against} for place in group.places if place.standing == "ranked"}
    assert found == {"a × sae-clamp": {"random", "permuted", "random-direction"}, "a × sae-add": set()}
    assert all(one.own for one in place_of(group, "a × sae-clamp").against)


def test_a_control_of_joined_steerers_differs_from_them_in_the_features_alone(make_entry: Make, make_result: Make) -> None:
    def row(labeler: str, steerer: str, score: float, role: str = "control", **options: Any) -> Any:
        made = make_result(labeler, around(score), role=role, steerer=steerer, **({} if role == "method" else {"controls": ["a"]}))
        subject = {**made.subject.model_dump(mode="json"), "steerer_options": {"given": {name.replace("__", ":"): v for name, v in options.items()}}}
        return type(made).model_validate({**made.model_dump(), "subject": subject})

    joined = {"prompt__template": "about {concept}", "clamp__unit": "norm"}
    rows = [
        row("a", "prompt+clamp", 0.6, "method", **joined),
        row("a", "clamp", 0.5, "method", unit="norm"),
        row("random", "prompt+clamp", 0.1, **joined),
        row("random", "clamp", 0.2, unit="norm"),
        row("a", "prompt+pushed", 0.3, prompt__template="about {concept}", pushed__unit="norm"),
        row("a", "pushed", 0.35, unit="norm"),
        row("a", "clamp+pushed", 0.4, clamp__unit="norm", pushed__unit="norm"),
        row("a", "pushed+pushed", 0.45, **{"pushed__unit": "norm", "pushed#2__unit": "norm"}),
    ]
    group = only(rank([make_entry(*rows)]))
    found = {place.name: {one.name for one in place.against} for place in group.places if place.standing == "ranked"}
    assert found == {"a × prompt+clamp": {"random", "prompt+pushed"}, "a × clamp": {"random", "pushed"}}


def test_a_control_of_another_model_or_dictionary_is_none(make_entry: Make, make_result: Make) -> None:
    control = make_result("random", around(0.1), role="control", controls=["a"])
    prompt = make_result(None, around(0.2), role="control", steerer="prompt")
    mine = make_entry(make_result("a", around(0.5)))
    assert len(only(rank([mine, make_entry(control, prompt)])).places[0].against) == 2
    other_model = make_entry(control, prompt, model={"name": "other", "digest": "m2", "dtype": "float32", "device": "cpu"})
    assert only(rank([mine, other_model])).places[0].against == ()
    dictionaries = [{"name": "sae", "source": "task", "digest": "d2", "layer": 2, "d_sae": 512}]
    found = only(rank([mine, make_entry(control, prompt, dictionaries=dictionaries)])).places[0].against
    assert [one.name for one in found] == ["prompt"]


def test_the_control_that_ran_beside_a_method_comes_before_its_twins(make_entry: Make, make_result: Make) -> None:
    prompt = {"steerer": "prompt", "role": "control"}
    entries = [
        make_entry(make_result("a", around(0.5)), make_result(None, around(0.2), **prompt)),
        make_entry(make_result(None, around(0.4), **prompt), decoding={"temperature": 0.0}),
    ]
    group = only(rank(entries))
    assert {place.name for place in group.places} == {"a × sae-clamp", "prompt (temperature=1.0)", "prompt (temperature=0.0)"}
    (found,) = place_of(group, "a").against
    assert group.places[found.control].name == "prompt (temperature=1.0)"


def test_too_few_concepts_give_no_verdict(make_entry: Make, make_result: Make) -> None:
    rows = [make_result("a", around(0.9, 11)), make_result("random", around(0.1, 11), role="control")]
    (found,) = only(rank([make_entry(*rows)])).places[0].against
    assert (found.answer, found.low, found.shown_from) == ("not tested", None, None)
    assert found.difference == pytest.approx(0.8)
    assert found.reason == "11 shared concepts: 12 are needed"


def test_a_method_that_is_its_control_everywhere_is_not_shown_to_beat_it(make_entry: Make, make_result: Make) -> None:
    rows = [make_result("a", [0.0] * 16), make_result("random", [0.0] * 16, role="control")]
    (found,) = only(rank([make_entry(*rows)])).places[0].against
    assert (found.answer, found.reason) == ("not shown", "both have the same score on all 16 concepts")


def test_readings_are_not_compared(make_entry: Make, make_result: Make, make_metric: Make) -> None:
    """A control stands at its own strengths; that it is read at the method's, too, makes no second pair."""
    method = make_result("a", around(0.5))
    reading = {"at_strengths_of": "a", "method": method.subject.id, "n_items": 16, "n_read": 16,
               "metrics": {name: make_metric(1.0, bounds=(0, 2)) for name in ("concept", "instruction", "fluency")}}  # fmt: skip
    control = make_result("random", around(0.1), role="control", readings=[reading])
    (found,) = only(rank([make_entry(method, control)])).places[0].against
    assert found.difference == pytest.approx(0.4)


def test_in_chosen_mode_the_verdict_is_on_the_labelers_concepts(make_entry: Make, make_result: Make) -> None:
    """Two labelers with other concepts stand unpaired, and each has its verdict against the control of its own concepts."""
    entries = []
    for name, lead in (("a", 0.5), ("b", 0.0)):
        concepts = [f"{name}{number}" for number in range(16)]
        entries.append(
            make_entry(
                make_result(name, around(0.2 + lead), mode="chosen", concepts=concepts),
                make_result("random", around(0.2)[::-1], mode="chosen", concepts=concepts, role="control", controls=[name]),
                mode="chosen",
            )
        )
    groups = rank(entries)
    assert [group.unpaired for group in groups] == [True, True]
    answers = {place.name[0]: place.against[0].answer for group in groups for place in group.places if place.standing == "unpaired"}
    assert answers == {"a": "yes", "b": "no"}


# -------------------------------------------------------------------------------------------------------------------------- win rates


def test_a_win_rate_counts_concepts_and_ties_half(make_entry: Make, make_result: Make) -> None:
    rows = [
        make_result("a", [0.5, 0.2, 0.9, 0.4, 0.7]),
        make_result("b", [0.5, 0.1, 1.0, 0.3, None]),
        make_result("random", [0.5 + 1e-8, 0.3, 0.9, 0.0, 0.7], role="control"),
        make_result("c", [1.9] * 5, eligible=False, reasons=["not rated"]),
    ]
    group = only(rank([make_entry(*rows)], "a × sae-clamp"))
    found = {place.name.split()[0]: place.win_rate for place in group.places}
    rate = found["b"]
    assert rate is not None
    assert (rate.wins, rate.ties, rate.losses, rate.n) == (1, 1, 3, 5)  # an abstention counts as 0
    assert rate.value == pytest.approx(1.5 / 5)
    assert group.places[rate.against].name == "a × sae-clamp"
    control = found["random"]
    assert control is not None
    assert (control.wins, control.ties, control.losses, control.value) == (1, 3, 1, pytest.approx(0.5))
    assert found["a"] is None
    assert found["c"] is None


@settings(max_examples=20, deadline=None, suppress_health_check=FIXTURES)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 1.0])), min_size=3, max_size=20))
def test_win_rates_of_two_methods_against_each_other_are_one_together(
    make_entry: Make, make_result: Make, values: list[tuple[float, float]]
) -> None:
    rows = [make_result("a", [first for first, _ in values]), make_result("b", [second for _, second in values])]
    groups = [only(rank([make_entry(*rows)], name)) for name in ("a × sae-clamp", "b × sae-clamp")]
    first, second = [place.win_rate for group in groups for place in group.places if place.win_rate is not None]
    assert first.value is not None
    assert second.value is not None
    assert first.value + second.value == pytest.approx(1)
    assert (first.wins, first.ties, first.losses) == (second.losses, second.ties, second.wins)
    if first.low is not None and first.high is not None:
        assert 0 <= first.low <= first.value <= first.high <= 1


def test_win_rates_against_nobody(make_entry: Make, make_result: Make) -> None:
    with pytest.raises(OptionError) as caught:
        rank([make_entry(make_result("a"))], "nobody")
    assert caught.value.given == "nobody"
    assert caught.value.allowed == ("a × sae-clamp",)


def test_win_rates_against_a_name_that_several_have(make_entry: Make, make_result: Make) -> None:
    entries = [make_entry(make_result("a"), decoding={"temperature": temperature}) for temperature in (0.0, 1.0)]
    with pytest.raises(OptionError) as caught:
        rank(entries, "a × sae-clamp")
    assert caught.value.allowed == ("a × sae-clamp (temperature=0.0)", "a × sae-clamp (temperature=1.0)")
    assert [place.win_rate is None for place in only(rank(entries, "a × sae-clamp (temperature=1.0)")).places].count(True) == 1


# --------------------------------------------------------------------------------------------------------- smallest differences


@pytest.mark.parametrize(
    ("kind", "metric", "scale", "expected"),
    [
        ("steering", "overall", {"bounds": (0, 2), "higher_is_better": True}, 0.05),
        ("detection", "auroc", {"bounds": (0, 1), "higher_is_better": True}, 0.02),
        ("detection", "f1", {"bounds": (0, 1), "higher_is_better": True}, 0.05),
        ("dictionary", "explained", {"bounds": (None, 1), "higher_is_better": True, "trivial": 0.0}, 0.05),
        ("dictionary", "loss", {"bounds": (0, None), "higher_is_better": False, "trivial": 4.0}, 0.2),
        ("dictionary", "l0", {"bounds": (None, None), "higher_is_better": False, "trivial": 4.0}, None),
        ("dictionary", "trained", {"bounds": (0, 1), "higher_is_better": True}, None),
        ("dictionary", "density", {"bounds": (0, 1), "higher_is_better": None, "trivial": 0.0}, None),
    ],
)
def test_the_smallest_difference_of_interest(kind: Any, metric: str, scale: dict[str, Any], expected: float | None) -> None:
    from harness.leaderboard.smallest_difference import smallest_difference

    found = smallest_difference(kind, metric, MetricValue(value=None, reason="for the test", **scale))
    assert found == (None if expected is None else pytest.approx(expected))


def test_a_metric_without_a_smallest_difference_says_so(make_entry: Make, make_dictionary: Make) -> None:
    scale = {"trivial": None}
    made_of = [[[value + step * number for number in range(9)] for _ in range(3)] for value, step in ((0.5, 0.01), (0.6, 0.012))]
    rows = [make_dictionary("m", made_of=own, arm=arm, scale=scale) for arm, own in zip(("trained", "random"), made_of, strict=True)]
    group = only(rank([make_entry(*rows)]))
    (found,) = [one for place in group.places for one in place.against]
    assert (found.smallest, found.answer) == (None, "no")  # it is shown to be behind
    assert "no smallest difference of interest" in group.verdict_criterion
