"""As which control a row stands: what plugins say of themselves, whoever wrote them; and which runs' controls count for a method."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.leaderboard.entry import Entry
from harness.leaderboard.next_step import next_step
from harness.leaderboard.older_controls import control_kind
from harness.leaderboard.places import Group
from harness.leaderboard.ranking import rank
from harness.leaderboard.summary import verdicts

Make = Callable[..., Any]


def around(value: float) -> list[float]:
    return [value + 0.01 * (number % 7) for number in range(16)]


def only(entries: list[Entry]) -> Group:
    (group,) = rank(entries)
    return group


def against(group: Group, name: str = "a × sae-clamp") -> list[tuple[str, str | None, float | None]]:
    """Name, kind and rounded lead of each control that a method is held against."""
    (place,) = [place for place in group.places if place.name == name]
    return [(one.name, one.kind, None if one.difference is None else round(one.difference, 2)) for one in place.against]


# --------------------------------------------------------------------------------------------------------------------------- kinds


def test_anybodys_plugin_plays_the_part(make_entry: Make, make_result: Make) -> None:
    random = make_result("drawn-by-me", around(0.1), role="control", controls=["a"], control="random features")
    direction = make_result("a", around(0.2), role="control", controls=["a"], steerer="noise", control="random direction")
    group = only([make_entry(make_result("a", around(0.5)), random, direction)])
    assert against(group) == [("noise", "random direction", 0.3), ("drawn-by-me", "random features", 0.4)]
    (line,) = verdicts(group)
    assert line.startswith("a × sae-clamp beats drawn-by-me: yes, by 0.40")  # what is beyond chance comes first
    assert "not tested" not in line
    unsaid = make_result("drawn-by-me", around(0.1), role="control", controls=["a"])
    (line,) = verdicts(only([make_entry(make_result("a", around(0.5)), unsaid)]))
    assert line.startswith("a × sae-clamp beats random: not tested (no random control of it was run); beats drawn-by-me: yes")


def test_an_entry_of_before_plugins_said_it_keeps_id_and_verdicts(make_entry: Make, make_result: Make) -> None:
    rows = [
        make_result("a", around(0.5)), make_result("random", around(0.1), role="control", controls=["a"]),
        make_result("permuted", around(0.2), role="control", controls=["a"]),
        make_result("a", around(0.3), role="control", controls=["a"], steerer="random-direction"),
    ]  # fmt: skip
    older = make_entry(*rows)
    assert "control" not in {name for row in older.as_json()["rows"] for name in row}
    assert Entry.model_validate(json.loads(json.dumps(older.as_json()))).id == older.id
    kinds = [control_kind(row) for row in older.rows]
    assert kinds == [None, "random features", "permuted labels", "random direction"]
    newer = make_entry(*[row.model_copy(update={"control": kind}) for row, kind in zip(rows, kinds, strict=True)])
    assert newer.id != older.id
    assert newer.as_json()["rows"][1]["control"] == "random features"
    assert verdicts(only([newer])) == verdicts(only([older]))
    assert {place.name: len(place.runs) for place in only([older, make_entry(*newer.rows, seed=1)]).places} == {
        "a × sae-clamp": 2, "random × sae-clamp": 2, "permuted × sae-clamp": 2, "a × random-direction": 2
    }  # fmt: skip


def test_the_kind_of_a_detector_is_its_labelers(make_detection: Make, make_dictionary: Make) -> None:
    assert control_kind(make_detection("random")) == "random features"
    assert control_kind(make_detection("mine", control="permuted labels")) == "permuted labels"
    assert control_kind(make_detection(None, detector="random-direction")) is None  # the name of a steerer
    assert control_kind(make_dictionary(arm="random")) is None


# ---------------------------------------------------------------------------------------------------------------------- other runs


def _other(row: Any, **options: Any) -> Any:
    subject = row.subject.model_dump(mode="json")
    return type(row).model_validate({**row.model_dump(), "subject": {**subject, "labeler_options": {"given": options, "default": {}}}})


def test_a_stray_random_control_of_another_run_counts_for_nobody(make_entry: Make, make_result: Make) -> None:
    """It has other options, so it is no run of the method's own control."""
    control = {"role": "control", "controls": ["a"]}
    mine = make_entry(make_result("a", around(0.5)), make_result("random", around(0.1), **control))
    stray = _other(make_result("random", around(0.3), **control), draws=4)
    assert against(only([mine, make_entry(stray, seed=1)])) == [("random", "random features", 0.4)]
    twice = make_entry(make_result("a", around(0.5)), stray, seed=1)  # a run of the method brings its own control, however it draws
    assert [lead for _, _, lead in against(only([mine, twice]))] == pytest.approx([0.2, 0.4])
    prompts = [_prompt(make_result, 0.2), _prompt(make_result, 0.4, template="of mine")]
    found = against(only([make_entry(*mine.rows, prompts[0]), make_entry(prompts[1], seed=1)]))
    assert found == [("random", "random features", 0.4), ("prompt (template=standard)", None, 0.3)]


def _prompt(make_result: Make, value: float, template: str = "standard") -> Any:
    row = make_result(None, around(value), role="control", steerer="prompt")
    subject = {**row.subject.model_dump(mode="json"), "steerer_options": {"given": {"template": template}, "default": {}}}
    return type(row).model_validate({**row.model_dump(), "subject": subject})


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        ({}, True),
        ({"seed": 1}, True),
        ({"decoding": {"temperature": 0.0}}, False),
        ({"instruction_set_digest": "i2"}, False),
        ({"model": {"name": "tiny", "digest": "m1", "dtype": "bfloat16", "device": "cuda"}}, False),
    ],
)
def test_a_control_of_another_run_counts_where_it_ran_alike(make_entry: Make, make_result: Make, change: dict[str, Any], counts: bool) -> None:
    mine = make_entry(make_result("a", around(0.5)))
    other = make_entry(make_result("random", around(0.1), role="control"), make_result(None, around(0.2), role="control", steerer="prompt"), **change)
    group = only([mine, other])
    assert [name for name, _, _ in against(group)] == (["random", "prompt"] if counts else [])
    step = next_step(group)
    assert step is not None
    assert step.command.endswith("--controls full") != counts


def test_random_features_at_other_strengths_are_no_control(make_entry: Make, make_result: Make) -> None:
    other = make_result("random", around(0.1), role="control")
    other = other.model_copy(update={"subject": other.subject.model_copy(update={"grid": (0.1, 0.2)})})
    assert against(only([make_entry(make_result("a", around(0.5))), make_entry(other)])) == []
