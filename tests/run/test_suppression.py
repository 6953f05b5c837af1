"""Working against concepts: strengths, who is left out, and what a plan has then."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.contracts import SteererTraits
from harness.errors import OptionError
from harness.plugin.host import PluginHost
from harness.run.composed import parts_at
from harness.run.plan import Asked, make_plan
from harness.run.suppression import strengths_against
from harness.tasks.find import load_task
from harness.tasks.schema import Task

GRIDS = st.lists(st.floats(0, 100), min_size=1, max_size=6, unique=True).map(lambda grid: tuple(sorted(grid)))


def traits(suppresses: str) -> SteererTraits:
    return SteererTraits(unit="residual-norm", grid=(1.0,), suppresses=suppresses)  # type: ignore[arg-type]


@given(factors=GRIDS, suppresses=st.sampled_from(["negate", "ablate"]), exact=st.booleans())
def test_they_are_factors_times_minus_one_from_the_weakest(factors: tuple[float, ...], suppresses: str, exact: bool) -> None:
    found = strengths_against(traits(suppresses), factors, exact, "it")
    assert {abs(strength) for strength in found} - {0.0} == set(factors) - {0.0}
    assert list(found) == sorted(set(found), reverse=True)
    assert str(found[0]) != "-0.0"
    assert (0.0 in found) == (0.0 in factors or (suppresses == "ablate" and not exact))


def test_a_factor_below_0_is_refused() -> None:
    with pytest.raises(OptionError) as error:
        strengths_against(traits("negate"), (-0.2, 0.5), True, "it")
    assert error.value.given == (-0.2, 0.5)


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost.load()


@pytest.fixture
def task(tiny_task: Path) -> Task:
    return load_task(tiny_task)


def test_the_unsteered_model_is_always_among_the_controls(host: PluginHost, task: Task) -> None:
    asked = Asked(("calibf1",), ("sae-add",), suppress=True, judge="human")
    plan = make_plan(host, task, asked)
    assert [(m.name, m.role, m.grid) for m in plan.methods if m.method.steerer == "none"] == [("none", "control", (0.0,))]
    assert plan.goal == "suppress"
    express = make_plan(host, task, Asked(("calibf1",), ("sae-add",), judge="human"))
    assert "none" not in {m.method.steerer for m in express.methods}
    assert express.goal == "express"
    own = make_plan(host, task, Asked((), ("none",), suppress=True, judge="human"))
    assert [m.role for m in own.methods if m.method.steerer == "none"] == ["method"]
    alone = make_plan(host, task, Asked(("calibf1",), ("sae-add",), suppress=True, judge="human", controls=False))
    assert [m.name for m in alone.methods] == ["calibf1 × sae-add"]


def test_controls_are_turned_round_once(host: PluginHost, task: Task) -> None:
    """A random direction has the strengths of the method that it stands for, and no ablation of its own."""
    asked = Asked(("calibf1",), ("sae-clamp",), suppress=True, judge="human", full_controls=True)
    grids = {m.name: m.grid for m in make_plan(host, task, asked).methods}
    assert grids["calibf1 × sae-clamp"] == (0.0, -0.5, -1.0)
    assert [grid for name, grid in grids.items() if "random-direction" in name] == [(-0.5, -1.0)]
    assert [grid for name, grid in grids.items() if name.startswith("permuted")] == [(0.0, -0.5, -1.0)]


def test_joined_steerers_work_against_a_concept_together(host: PluginHost, task: Task) -> None:
    asked = Asked(("calibf1",), ("prompt+sae-clamp", "none+sae-add:strength=0.3"), suppress=True, judge="human")
    planned = {m.name: m for m in make_plan(host, task, asked).methods if m.role == "method"}
    assert planned["calibf1 × prompt+sae-clamp"].grid == (0.0, -0.5, -1.0)
    assert planned["calibf1 × none+sae-add:strength=0.3"].grid == (-1.0,)
    assert [own for _, own in parts_at(planned["calibf1 × prompt+sae-clamp"].steerer, -0.5)] == [-1.0, -0.5]
    assert [own for _, own in parts_at(planned["calibf1 × none+sae-add:strength=0.3"].steerer, -1.0)] == [0.0, -0.3]


def test_detection_has_no_goal(host: PluginHost, task: Task) -> None:
    assert make_plan(host, task, Asked((), (), detectors=("bow",))).goal == "express"
    with pytest.raises(OptionError):
        make_plan(host, task, Asked((), (), detectors=("bow",), suppress=True))
