"""``harness steer``: texts of one's own prompts, side by side with the unsteered ones; what it refuses, in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from harness.leaderboard.table import to_text

PROMPTS = ("Once upon a time", "One day")


@pytest.fixture
def steer(harness: Callable[..., Any], tiny_task: Path) -> Callable[..., Any]:
    """``steer(…)``: the command on the tiny task."""
    return lambda *arguments, **further: harness("steer", *arguments, "--task", tiny_task, **further)


def test_texts_at_each_strength_beside_the_unsteered_one(steer: Callable[..., Any]) -> None:
    found = steer(*PROMPTS, "--feature", "sae/7", "--strength", "0,400", "--steerer", "sae-add:unit=residual-norm", "--json").json
    assert [(text["prompt"], text["strength"]) for text in found["texts"]] == [(p, s) for p in PROMPTS for s in (None, 0.0, 400.0)]
    assert (found["features"], found["strength_unit"], found["steerer"]) == (["sae/7"], "residual-norm", "sae-add:unit=residual-norm")
    for own, _, strong in (found["texts"][:3], found["texts"][3:]):
        assert own["text"]
        assert strong["text"] != own["text"]
    other = ("--strength", "0", "--strength", "400", "-S", "unit=residual-norm", "--steerer", "sae-add")
    again = steer(*PROMPTS, "--feature", "7", *other, "--json").json
    assert again["texts"] == found["texts"]


def test_the_same_texts_as_in_a_script(
    steer: Callable[..., Any], tiny_task: Path, cache_folder: Path, sample_site: Path, installed: Callable[..., Any]
) -> None:
    from harness import load_task

    found = steer(PROMPTS[0], "--feature", "7", "--strength", "1", "--json").json["texts"]
    with installed(sample_site), mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache_folder)}):
        task = load_task(tiny_task)
        (steered,) = task.steer("sae-clamp", task.feature(7), [1.0], [PROMPTS[0]])
        assert [found[0]["text"], found[1]["text"]] == [*task.unsteered([PROMPTS[0]]), steered.text]


def test_a_concept_through_a_labeler_or_without(steer: Callable[..., Any]) -> None:
    found = steer(PROMPTS[0], "--concept", "a girl", "--labeler", "calibf1", "--strength", "1", "--json").json
    assert found["concept"] == "a girl"
    assert found["features"][0].startswith("sae/")
    assert found["score"] > 0
    asked = steer(PROMPTS[0], "--concept", "dragons", "--steerer", "prompt", "--json").json
    assert (asked["concept"], asked["features"], asked["texts"][1]["strength"]) == ("dragons", [], 1.0)
    abstained = steer(PROMPTS[0], "--concept", "zebra", "--labeler", "calibf1", "--strength", "1").error
    assert "no feature for concept 'zebra'" in abstained


def test_the_screen(steer: Callable[..., Any]) -> None:
    command = (PROMPTS[0], "--feature", "7", "--strength", "0.5,1")
    wide, narrow = (steer(*command, env={"COLUMNS": width}).out for width in ("120", "60"))
    assert [line for line in wide.splitlines() if "unsteered" in line and "strength 0.5" in line and "strength 1" in line]
    assert [line.strip("╭─╮ ") for line in narrow.splitlines() if line.startswith("╭")] == ["unsteered", "strength 0.5", "strength 1"]
    assert max(map(len, narrow.splitlines())) <= 60


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--feature N"),
        (("--feature", "100000"), "allowed: 0 to "),
        (("--feature", "-1"), "'-1'"),
        (("--feature", "sea/3"), "did you mean 'sae'?"),
        (("--feature", "3", "--steerer", "sae-clmp"), "did you mean 'sae-clamp'?"),
        (("--feature", "3", "--strength", "nan"), "finite"),
        (("--feature", "3", "--strength", "1,x"), "'1,x'"),
        (("--feature", "3", "--steerer", "prompt", "--strength", "0.5"), "no strength"),
        (("--feature", "3", "--labeler", "calibf1"), "--concept TEXT"),
        (("--feature", "3", "-L", "pi0=0.1"), "--labeler"),
        (("--concept", "a girl"), "through features"),
        (("--concept", "a gril", "--labeler", "calibf1"), "did you mean 'a girl'?"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "nothing",
)
def test_what_is_refused(steer: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    assert said in steer(PROMPTS[0], *arguments).error


def test_prompts_that_are_none(steer: Callable[..., Any]) -> None:
    assert "PROMPT" in steer("--feature", "3").error
    assert "empty" in steer("One day", " ", "--feature", "3").error


def test_no_text_acts_on_the_terminal() -> None:
    from harness.cli.side_by_side import SideBySide

    view = SideBySide("[red]\x1b]0;title\x07", [("un[/]steered", "\x1b[2J[bold]loud"), ("x", "y")])
    for width in (100, 30):
        shown = to_text(view, width)
        assert "\x1b" not in shown
        assert r"\x1b]0;title" in shown
        assert "[bold]loud" in shown.replace("\n", "")
        assert "un[/]steered" in shown


@pytest.fixture(autouse=True)
def no_width_of_ours() -> Iterator[None]:
    with mock.patch.dict(os.environ):
        os.environ.pop("COLUMNS", None)
        yield
