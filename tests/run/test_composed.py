"""Steerers joined by ``+`` in a plan: options, strengths, labels, identity, controls; and what a task file says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.errors import OptionError, TaskError, UnknownNameError
from harness.plugin.host import PluginHost
from harness.run.check_task import check_task
from harness.run.manifest import plugin_ref
from harness.run.plan import Asked, Plan, make_plan, plan_one
from harness.tasks.find import load_task
from harness.tasks.schema import Task

JOINED = "prompt+sae-clamp"
FIXED = "sae-add:strength=0.3+sae-clamp"


@pytest.fixture(scope="module")
def host(sample_site: Path, installed: Callable[..., Any]) -> Iterator[PluginHost]:
    with installed(sample_site):
        yield PluginHost.load()


@pytest.fixture(scope="module")
def task(tiny_task: Path) -> Task:
    return load_task(tiny_task)


def plan_of(host: PluginHost, task: Task, *steerers: str, **asked: Any) -> Plan:
    return make_plan(host, task, Asked(("calibf1",), steerers, **asked))


def grids(plan: Plan) -> dict[str, tuple[float, ...]]:
    return {method.name: method.grid for method in plan.methods}


def test_the_control_of_joined_steerers_is_their_own(host: PluginHost, task: Task) -> None:
    plan = plan_of(host, task, JOINED)
    assert [(m.name, m.role) for m in plan.methods] == [
        ("calibf1 × prompt+sae-clamp", "method"),
        ("random × sae-clamp", "control"),
        ("random × prompt+sae-clamp", "control"),
        ("prompt", "control"),
    ]
    method, _, control, _ = plan.methods
    assert control.steerer is method.steerer
    assert control.controls == (plan.labelers[0].key,)
    assert [m.name for m in plan_of(host, task, "sae-add+prompt").methods if m.labeler][1:] == ["random × sae-clamp"]  # no row has sae-add


def test_full_controls_of_joined_steerers(host: PluginHost, task: Task) -> None:
    plan = plan_of(host, task, "prompt:template=On {concept}+sae-add:unit=residual-norm", full_controls=True)
    controls = [m for m in plan.methods if m.role == "control" and "+" in m.name]
    assert [(m.labeler.registered.name, m.method.steerer) for m in controls if m.labeler] == [
        ("random", "prompt+sae-add"), ("permuted", "prompt+sae-add"), ("calibf1", "prompt+random-direction"),
    ]  # fmt: skip
    assert controls[2].steerer.options["prompt:template"] == "On {concept}"
    assert controls[2].steerer.options["random-direction:unit"] == "residual-norm"
    assert {m.grid for m in controls} == {(0.1, 0.2, 0.3, 0.4, 0.6)}
    two = plan_of(host, task, FIXED, full_controls=True)
    assert two.methods[-1].name == "calibf1 × random-direction:strength=0.3+random-direction"
    assert two.methods[-1].grid == two.methods[0].grid


def test_what_does_the_same_is_one_instance(host: PluginHost, task: Task) -> None:
    plan = plan_of(host, task, JOINED, "prompt+sae-add:unit=residual-norm", "sae-clamp", "prompt:template=On {concept}+sae-clamp:quantile=0.9")
    first, second, clamp, other = (m.steerer for m in plan.methods if m.role == "method")
    (words,) = [m.steerer for m in plan.methods if m.name == "prompt"]  # the task's control
    assert first.parts[0].instance is second.parts[0].instance is words.instance
    assert first.parts[1].instance is clamp.instance
    assert {id(part.instance) for part in other.parts}.isdisjoint({id(part.instance) for part in (*first.parts, *second.parts)})
    named = {(p.registered.name, p.label) for p in plan.plugins if p.registered.kind == "steerer"}
    assert named == {
        ("prompt", "prompt"), ("sae-clamp", "sae-clamp"), ("sae-add", "sae-add:unit=residual-norm"),
        ("prompt", "prompt:template=On {concept}"), ("sae-clamp", "sae-clamp:quantile=0.9"),
    }  # fmt: skip
    assert plan.called(first.parts[0]) == "steerer prompt"  # or what the run keeps of it would be found by neither
    assert plan.called(other.parts[0]) == "steerer prompt:template=On {concept}"


def test_options_reach_the_part_that_has_them(host: PluginHost, task: Task) -> None:
    plan = plan_of(host, task, JOINED, "sae-add", controls=False, steerer_options={"quantile": "0.9", "prompt:template": "On {concept}"})
    both, add = plan.methods
    assert both.name == "calibf1 × prompt:template=On {concept}+sae-clamp:quantile=0.9"
    assert add.steerer.options["quantile"] == both.steerer.options["sae-clamp:quantile"] == 0.9
    assert both.steerer.given == {"prompt:template": "On {concept}", "sae-clamp:quantile": 0.9}
    with pytest.raises(OptionError, match="reaches no steerer"):
        plan_of(host, task, "prompt+sae-clamp:unit=residual-norm", steerer_options={"unit": "max-activation"})
    with pytest.raises(UnknownNameError, match="option of steerer prompt and sae-clamp 'quantil'"):
        plan_of(host, task, JOINED, steerer_options={"quantil": "1"})


def test_identity_holds_order_options_strength_and_code(host: PluginHost, task: Task) -> None:
    asked = (JOINED, "sae-clamp+prompt", "prompt+sae-clamp:quantile=0.5", FIXED, FIXED.replace("0.3", "0.4"), "sae-add+sae-clamp:strength=0.3")
    methods = plan_of(host, task, *asked, controls=False).methods
    assert len({m.method.id for m in methods}) == len(asked)
    fixed = methods[3]
    assert fixed.steerer.identity["sae-add:strength"] == 0.3
    ref = plugin_ref(fixed.steerer)
    assert (ref.name, ref.label, ref.options.given) == ("sae-add+sae-clamp", FIXED, {"sae-add:strength": 0.3})
    assert [(part.name, part.distribution) for part in ref.parts] == [(p.registered.name, p.registered.distribution) for p in fixed.steerer.parts]
    assert "parts" not in plugin_ref(fixed.steerer.parts[0]).model_dump(mode="json")
    assert {f"{p.registered.kind} {p.registered.name}" for p in plan_of(host, task, JOINED).plugins} >= {"steerer prompt", "steerer sae-clamp"}


def test_the_label_asks_for_the_same(host: PluginHost, task: Task) -> None:
    asked = 'prompt:template="About {concept}, a + b."+sae-add:strength=-3e20,unit=residual-norm+sae-clamp:quantile=0.9'
    planned = plan_one(host, task, "steerer", asked, {})
    assert planned.label == asked
    assert plan_one(host, task, "steerer", planned.label, {}).same == planned.same


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("sae-add+sae-clamp", "sae-add and sae-clamp each have a strength to choose"),
        ("prompt:strength=1+sae-clamp", "prompt has no strength to fix"),
        ("sae-add:strength=much+sae-clamp", "is 'much'"),
        ("sae-add:strength=1_0+sae-clamp", "is '1_0'"),
        ("sae-add:strength=inf+sae-clamp", "a finite number"),
        ("sae-clamp:strength=1", "stands alone"),
        ("prompt+sae-clmp", "unknown steerer in 'prompt+sae-clmp': 'sae-clmp'; did you mean 'sae-clamp'?"),
        ("prompt:template=a+b.csv", "A value that holds a + is written as JSON."),
        ("prompt+sae-clamp:quantile=2", "option quantile of steerer sae-clamp"),
        ("prompt+sae-clamp:quantil=1", "option of steerer sae-clamp"),
        ("prompt+", "missing beside a +"),
    ],
)
def test_what_is_refused_in_one_line(host: PluginHost, task: Task, asked: str, said: str) -> None:
    for plan in (lambda: plan_one(host, task, "steerer", asked, {}), lambda: plan_of(host, task, asked)):
        with pytest.raises((OptionError, UnknownNameError)) as error:
            plan()
        assert said in str(error.value)
        assert "\n" not in str(error.value)


def test_detectors_and_labelers_are_not_joined(host: PluginHost, task: Task) -> None:
    for asked in (Asked(("calibf1+random",), ("sae-clamp",)), Asked(("calibf1",), (), detectors=("sae+bow",))):
        with pytest.raises(OptionError, match="only steerers are joined"):
            make_plan(host, task, asked)


def test_an_option_of_ones_own_called_strength_cannot_be_joined(
    tiny_task: Path, install: Callable[..., Path], installed: Callable[..., Any]
) -> None:
    source = """
from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention
from harness.options import Options
class Own(Options):
    strength: float = 1.0
class Steerer:
    def __init__(self, options): self.traits = SteererTraits(unit="none", grid=(options.strength,))
    def prepare(self, bench, labelings): pass
    def intervene(self, labeling, strength): return Intervention()
@hookimpl
def harness_register_steerers(registry): registry.add("own", Steerer, options=Own)
"""
    with installed(install(source)):
        host = PluginHost.load()
        assert plan_one(host, load_task(tiny_task), "steerer", "own:strength=3", {}).instance.traits.grid == (3.0,)
        with pytest.raises(OptionError, match="has an option strength of its own"):
            plan_one(host, load_task(tiny_task), "steerer", "prompt+own:strength=3", {})


# ------------------------------------------------------------------------------------------------------------------------ grids


def test_the_grid_is_that_of_the_part_whose_strength_is_tried(host: PluginHost, task: Task, variant: Callable[..., Path]) -> None:
    assert grids(plan_of(host, task, JOINED, FIXED, "sae-add:strength=1+sae-clamp:strength=2", controls=False)) == {
        "calibf1 × prompt+sae-clamp": (0.5, 1.0),
        f"calibf1 × {FIXED}": (0.5, 1.0),
        "calibf1 × sae-add:strength=1.0+sae-clamp:strength=2.0": (1.0,),
    }
    assert grids(plan_of(host, task, "prompt+sae-clamp:unit=residual-norm", controls=False)) == {
        "calibf1 × prompt+sae-clamp:unit=residual-norm": (0.1, 0.2, 0.3, 0.4, 0.6)
    }
    own = load_task(variant(("sae-add = [0.5, 1.0]", 'sae-add = [0.5, 1.0]\n"prompt+sae-clamp" = [0.25]')))
    assert grids(plan_of(host, own, JOINED, "sae-clamp+prompt", controls=False)) == {
        "calibf1 × prompt+sae-clamp": (0.25,), "calibf1 × sae-clamp+prompt": (0.5, 1.0)
    }  # fmt: skip


def test_grids_of_the_user(host: PluginHost, task: Task) -> None:
    asked = {"": (7.0, 8.0)}
    assert set(grids(plan_of(host, task, JOINED, "sae-clamp", strengths=asked)).values()) == {(7.0, 8.0), (1.0,)}
    named = grids(plan_of(host, task, JOINED, "sae-clamp", strengths={JOINED: (3.0,)}))
    assert named["calibf1 × prompt+sae-clamp"] == named["random × prompt+sae-clamp"] == (3.0,)
    assert named["calibf1 × sae-clamp"] == named["random × sae-clamp"] == (0.5, 1.0)
    with pytest.raises(OptionError, match="no strength to choose"):
        plan_of(host, task, "sae-add:strength=1+prompt", strengths=asked)


# ------------------------------------------------------------------------------------------------------------------------- tasks


def test_a_task_lists_joined_steerers(host: PluginHost, variant: Callable[..., Path]) -> None:
    rows = f"""
[[methods]]
labeler = "calibf1"
steerer = "{JOINED}:unit=residual-norm"

[[controls]]
labeler = "random"
steerer = "sae-add:strength=0.3+prompt"

[[controls]]
labeler = "random"
steerer = "sae-clamp\""""
    folder = variant(("schema = 1", "schema = 2"), ('[[controls]]\nlabeler = "random"\nsteerer = "sae-clamp"', rows))
    plan = make_plan(host, load_task(folder), Asked())
    assert [m.name for m in plan.methods] == [
        "calibf1 × prompt+sae-clamp:unit=residual-norm",
        "random × sae-add:strength=0.3+prompt",
        "random × sae-clamp",
        "random × prompt+sae-clamp:unit=residual-norm",
        "prompt",
    ]
    assert check_task(host, str(folder))["problems"] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (('steerer = "sae-clamp"', 'steerer = "prompt+"'), "missing beside a +"),
        (('steerer = "sae-clamp"', 'steerer = "prompt+sae-clmp"'), "did you mean 'sae-clamp'"),
        (('steerer = "sae-clamp"', 'steerer = "sae-add+sae-clamp"'), "each have a strength"),
        (('steerer = "prompt"', 'steerer = "prompt+none:x=1"'), "option of steerer none"),
        (("sae-add = [0.5, 1.0]", '"prompt+sae-ad" = [0.5, 1.0]'), "did you mean 'sae-add'"),
        (("[[controls]]\nlabeler", '[[methods]]\nsteerer = "prompt+none"\noptions = {x = 1}\n\n[[controls]]\nlabeler'), "behind its steerers' names"),
    ],
)
def test_a_task_that_joins_what_does_not_go_together(
    host: PluginHost, variant: Callable[..., Path], changes: tuple[str, str], said: str
) -> None:
    folder = variant(("schema = 1", "schema = 2"), changes)
    assert any(said in problem for problem in check_task(host, str(folder))["problems"])
    with pytest.raises((OptionError, TaskError, UnknownNameError)) as error:
        make_plan(host, load_task(folder), replace(Asked(("calibf1",), ("sae-clamp",))))
    assert said in str(error.value)
