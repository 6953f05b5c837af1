"""Grids of the user: what they may be, which steerers they reach, and that they are part of a run's identity."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import OptionError, UnknownNameError
from harness.plugin.host import PluginHost
from harness.run.plan import Asked, make_plan
from harness.run.strengths import parse_strengths
from harness.tasks.find import load_task
from harness.tasks.schema import Task


def grids(host: PluginHost, task: Task, *strengths: str, steerers: tuple[str, ...] = ("sae-clamp",), **asked: Any) -> dict[str, tuple[float, ...]]:
    plan = make_plan(host, task, Asked(("calibf1",), steerers, strengths=parse_strengths(strengths), **asked))
    return {method.name: method.grid for method in plan.methods}


def test_what_a_grid_may_be() -> None:
    assert parse_strengths(["0.1, 0.2,0.4", "sae-add=-1,0,1e2"]) == {"": (0.1, 0.2, 0.4), "sae-add": (-1.0, 0.0, 100.0)}
    for wrong in ("", "a,b", "0.1,,0.2", "0.2,0.1", "0.1,0.1", "nan", "0.1,inf", "=0.1", "sae-add="):
        with pytest.raises(OptionError) as error:
            parse_strengths([wrong])
        assert error.value.allowed is not None
    for twice in (["0.1", "0.2"], ["x=0.1", "x=0.2"]):
        with pytest.raises(OptionError, match="twice"):
            parse_strengths(twice)


def test_a_grid_reaches_what_is_asked_for_and_its_controls(host: PluginHost, task: Task) -> None:
    assert grids(host, task, "0.3,0.6") == {
        "calibf1 × sae-clamp": (0.3, 0.6), "random × sae-clamp": (0.3, 0.6), "prompt": (1.0,)
    }  # fmt: skip
    named = grids(host, task, "sae-add=7,8", "0.3", steerers=("sae-clamp", "sae-add", "none"))
    assert named["calibf1 × sae-add"] == (7.0, 8.0)
    assert named["calibf1 × sae-clamp"] == named["random × sae-clamp"] == (0.3,)
    assert named["none"] == (0.0,)


def test_a_control_of_its_own_steerer_takes_a_grid_by_name(host: PluginHost, variant: Callable[..., Path]) -> None:
    own = load_task(variant(('steerer = "prompt"', 'steerer = "diff-mean"')))
    assert grids(host, own, "0.3")["diff-mean"] == (0.2, 0.5)
    assert grids(host, own, "diff-mean=0.3")["diff-mean"] == (0.3,)
    with pytest.raises(UnknownNameError) as error:
        grids(host, own, "diff-mean=0.3", controls=False)
    assert error.value.name == "diff-mean"


def test_grids_that_reach_nothing_are_refused(host: PluginHost, task: Task) -> None:
    with pytest.raises(UnknownNameError) as unknown:
        grids(host, task, "sae-clmp=0.1")
    assert unknown.value.near == "sae-clamp"
    for strengths, steerers in ((("0.1",), ("prompt", "none")), (("prompt=0.5",), ("sae-clamp",)), (("sae-clamp=1", "2"), ("sae-clamp",))):
        with pytest.raises(OptionError):
            grids(host, task, *strengths, steerers=steerers)
    with pytest.raises(OptionError) as error:  # nothing is steered
        make_plan(host, task, Asked(detectors=("majority",), strengths={"": (0.1,)}))
    assert "--steerer" in error.value.hint


def test_one_grid_for_different_units_is_refused(host: PluginHost, task: Task) -> None:
    with pytest.raises(OptionError) as error:
        grids(host, task, "0.1,0.2", steerers=("sae-clamp", "diff-mean"))
    assert set(error.value.given) == {"sae-clamp", "diff-mean"}
    own = grids(host, task, "diff-mean=0.1", "sae-clamp=0.2", steerers=("sae-clamp", "diff-mean"))
    assert (own["diff-mean"], own["random × sae-clamp"]) == ((0.1,), (0.2,))
    other = grids(host, task, "5,10", steerers=("sae-clamp:unit=residual-norm",))
    assert other["random × sae-clamp:unit=residual-norm"] == (5.0, 10.0)
