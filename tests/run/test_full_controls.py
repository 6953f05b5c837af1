"""``--controls full``: every method through features gets its random features, whoever wrote the plugins that serve as controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.contracts import LabelerTraits, SteererTraits
from harness.errors import PluginError
from harness.options import Options, control_field
from harness.plugin.host import PluginHost
from harness.run.manifest import _methods
from harness.run.plan import Asked, Plan, make_plan
from harness.run.planned import PlannedMethod
from harness.run.reference import reference_judge
from harness.run.traits import problem
from harness.tasks.find import load_task
from harness.tasks.schema import Task
from harness.types import Labeling

FULL = Asked(("calibf1",), ("sae-clamp", "sae-add"), full_controls=True)


@pytest.fixture
def host(sample_site: Path, installed: Callable[..., Any]) -> Iterator[PluginHost]:
    with installed(sample_site):
        yield PluginHost.load()


@pytest.fixture(scope="module")
def task(tiny_task: Path) -> Task:
    return load_task(tiny_task)


def controls(plan: Plan) -> list[str]:
    return [method.name for method in plan.methods if method.role == "control" and method.labeler is not None]


def named(plan: Plan, name: str) -> PlannedMethod:
    (found,) = [method for method in plan.methods if method.name == name]
    return found


def test_each_steerer_through_features_gets_random_ones_at_its_own_strengths(host: PluginHost, task: Task) -> None:
    plan = make_plan(host, task, FULL)
    assert controls(plan) == [
        "random × sae-clamp", "permuted × sae-clamp", "calibf1 × random-direction",
        "random × sae-add", "permuted × sae-add",  # the direction is the same one, in the same unit
    ]  # fmt: skip
    drawn, own = named(plan, "random × sae-add"), named(plan, "random × sae-clamp")
    assert drawn.grid == named(plan, "calibf1 × sae-add").grid
    assert drawn.labeler is not None
    assert own.labeler is not None
    assert drawn.labeler.same == own.labeler.same  # the task's own draws, under the same filters
    assert drawn.controls == own.controls == (plan.labelers[0].key,)
    without = make_plan(host, task, replace(FULL, full_controls=False))
    assert controls(without) == ["random × sae-clamp"]
    assert {method.method.id for method in without.methods} < {method.method.id for method in plan.methods}


def test_a_task_that_lists_no_random_features_gets_them_too(host: PluginHost, variant: Callable[..., Path]) -> None:
    task = load_task(variant(('[[controls]]\nlabeler = "random"\nsteerer = "sae-clamp"\n', "")))
    plan = make_plan(host, task, replace(FULL, detectors=("sae",)))
    assert {"random × sae-clamp", "random × sae-add"} <= set(controls(plan))
    assert "random × sae" in [found.name for found in plan.detections if found.role == "control"]


def test_what_learns_is_also_steered_by_other_concepts_fits(harness: Callable[..., Any], host: PluginHost, tmp_path: Path) -> None:
    """The edits of the control are the method's own, of another concept; its texts are rated for the concept that was asked for."""
    from harness.store import RunStore
    from harness.testing.toy import toy_task

    folder = toy_task(tmp_path / "toy")
    file = folder / "task.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("max_new_tokens = 8", "max_new_tokens = 8\ntemperature = 0"), encoding="utf-8")
    plan = make_plan(host, load_task(folder), Asked((), ("diff-mean", "none"), judge="words", full_controls=True))
    assert controls(plan) == ["permuted-fits × diff-mean"]
    asked = ("--steerer", "diff-mean", "--judge", "words", "--controls", "full", "--strengths", "2")
    harness("eval", "--task", folder, *asked, "--out", tmp_path, "--json")
    (run,) = (tmp_path / "runs").iterdir()
    with RunStore.open(run, read_only=True) as store:
        methods = {method.name: method for method in store.manifest.methods}
        answers = store.labelings(methods["permuted-fits × diff-mean"].labeler.key)  # type: ignore[union-attr]
        made = store.generations()
        texts = {(trial.method_id, trial.concept_id, trial.instruction_id): made[trial.id].text for trial in store.trials()}
    borrowed = {answer.concept.id: answer.fit for answer in answers or [] if isinstance(answer, Labeling)}
    assert len(borrowed) == 3
    assert all(own != other for own, other in borrowed.items())
    own, control = methods["diff-mean"].id, methods["permuted-fits × diff-mean"].id
    shared = [(name, instruction) for method, name, instruction in texts if method == control and (own, borrowed[name], instruction) in texts]
    assert shared
    assert all(texts[control, name, instruction] == texts[own, borrowed[name], instruction] for name, instruction in shared)
    there = [place for place in shared if (own, *place) in texts]
    assert any(texts[(control, *place)] != texts[(own, *place)] for place in there)


def test_the_kind_of_each_control_is_in_the_manifest(host: PluginHost, task: Task) -> None:
    found = {record.name: record.control for record in _methods(make_plan(host, task, replace(FULL, steerers=("sae-clamp",))))}
    assert found == {
        "calibf1 × sae-clamp": None, "random × sae-clamp": "random features", "permuted × sae-clamp": "permuted labels",
        "calibf1 × random-direction": "random direction", "prompt": None,
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- anybody's plugins


class FollowOptions(Options):
    follows: str | None = control_field(None)
    """Whose labels are shuffled."""


class Shuffled:
    """Serves as permuted labels, and offers no draws."""

    traits = LabelerTraits(selects_on="nothing", control="permuted labels")

    def __init__(self, options: FollowOptions) -> None:
        self.options = options

    def label(self, bench: Any, concepts: Sequence[Any]) -> list[Any]:
        return []


class Noise:
    """Serves as a random direction, in a unit that no method here has."""

    traits = SteererTraits(unit="none", grid=(0.0, 1.0), needs_features=True, control="random direction")

    def __init__(self, options: Options) -> None:
        self.options = options

    def prepare(self, bench: Any, labelings: Sequence[Any]) -> None:
        """Nothing."""

    def intervene(self, labeling: Any, strength: float) -> Any:
        raise NotImplementedError


def with_plugins(host: PluginHost, labeler: type = Shuffled, steerer: type = Noise, options: type[Options] = FollowOptions) -> PluginHost:
    for kind, name, factory, own in (("labeler", "shuffled", labeler, options), ("steerer", "noise", steerer, Options)):
        registry = host._registries[kind]  # type: ignore[index]
        with registry.owned_by("mine", "1", __name__):
            registry.add(name, factory, options=own, summary="mine")
    return host


def test_what_says_that_it_serves_as_a_control_is_run_as_one(host: PluginHost, task: Task) -> None:
    plan = make_plan(with_plugins(host), task, Asked(("calibf1",), ("sae-clamp", "project-out"), full_controls=True))
    shuffled = named(plan, "shuffled × sae-clamp")
    assert shuffled.labeler is not None
    assert shuffled.labeler.follows == plan.labelers[0].identity_key
    assert shuffled.draws == 1
    beside = named(plan, "calibf1 × noise")  # project-out has no unit, either; a random direction in another one would push otherwise
    assert beside.grid == named(plan, "calibf1 × project-out").grid
    assert {notice for notice in plan.notices if "was not run" in notice} == {
        "control noise was not run beside sae-clamp, which steers in a unit of its own",
        "control random-direction was not run beside project-out, which steers in a unit of its own",
    }


def test_a_control_that_cannot_be_is_none_and_asked_for_it_is_an_error(host: PluginHost, task: Task) -> None:
    with_plugins(host, options=Options)  # no option that says whose labels
    assert "shuffled × sae-clamp" not in controls(make_plan(host, task, FULL))
    with pytest.raises(PluginError) as error:
        make_plan(host, task, replace(FULL, labelers=("shuffled",)))
    assert "follows" in error.value.message


@pytest.mark.parametrize(
    ("kind", "traits", "said"),
    [
        ("labeler", LabelerTraits(control="random direction"), "control is 'random direction'"),
        ("steerer", SteererTraits(unit="none", grid=(1.0,), needs_features=True, control="random features"), "control is 'random features'"),
        ("steerer", SteererTraits(unit="none", grid=(1.0,), control="random direction"), "needs_features"),
    ],
)
def test_traits_that_name_another_kinds_control_are_refused(kind: str, traits: Any, said: str) -> None:
    assert said in problem(kind, traits)


# ------------------------------------------------------------------------------------------------------------------------- judges


def test_the_judge_that_is_proposed_says_so_itself(host: PluginHost) -> None:
    assert reference_judge(host) is not None
    from harness.contracts import JudgeTraits

    class Mine:
        traits = JudgeTraits(rubric="r/1", offline=False, reference=True)

        def __init__(self, options: Options) -> None:
            self.options = options

        def prepare(self, bench: Any) -> None:
            """Nothing."""

        def submit(self, items: Any) -> list[Any]:
            return []

        def collect(self, tickets: Any) -> list[Any]:
            return []

    with host._registries["judge"].owned_by("mine", "1", __name__):
        host._registries["judge"].add("a-judge", Mine, summary="mine")
    assert reference_judge(host) == "a-judge"
