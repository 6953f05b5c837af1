"""Whatever a plugin does wrong while it runs is one error that names plugin, distribution and call, and nothing wrong is stored."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import model_validator

from harness import hookimpl
from harness.contracts import DetectorTraits, JudgeTraits, LabelerTraits, MetricTraits, NumberTraits, SteererTraits
from harness.errors import PluginError, PluginFault
from harness.evaluations.evaluate import evaluate, run_folder, settle
from harness.interventions import Intervention, Positions, Site
from harness.options import Options
from harness.plugin.host import PluginHost
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError
from harness.run.plan import Asked, make_plan
from harness.run.run import Run
from harness.steering.add_vector import AddVector
from harness.store import RunStore
from harness.testing import toy_bench
from harness.testing.toy import LAYER, WIDTH
from harness.types import Abstention, Concept, FeatureRef, Labeling, Measurement, Rating

SITE = Site(LAYER)


class Labeler:
    traits: Any = LabelerTraits(selects_on="nothing", needs_corpus=False)

    def __init__(self, options: Any) -> None:
        pass

    def label(self, bench: Any, concepts: Any) -> Any:
        return [labeling(concept) for concept in concepts]


class Steerer:
    traits: Any = SteererTraits(unit="none", grid=(1.0,))

    def __init__(self, options: Any) -> None:
        pass

    def prepare(self, bench: Any, labelings: Any) -> Any:
        pass

    def intervene(self, labeling: Any, strength: float) -> Any:
        return Intervention(edits=(AddVector(SITE, torch.zeros(WIDTH)),))


class Detector:
    traits: Any = DetectorTraits()

    def __init__(self, options: Any) -> None:
        pass

    def prepare(self, bench: Any, labelings: Any) -> Any:
        pass

    def scores(self, labelings: Any, texts: Any) -> Any:
        return np.zeros((len(labelings), len(texts)))


class Metric:
    traits: Any = MetricTraits(parts={"half": NumberTraits()})

    def __init__(self, options: Any) -> None:
        pass

    def measure(self, bench: Any, subject: Any, seed: int) -> Any:
        return Measurement(1.0, parts={"half": 0.5})


class Judge:
    traits: Any = JudgeTraits(rubric="r/1", offline=True)

    def __init__(self, options: Any) -> None:
        pass

    def prepare(self, bench: Any) -> Any:
        pass

    def submit(self, items: Any) -> Any:
        return [rated(item.id) for item in items]

    def collect(self, tickets: Any) -> Any:
        return []


GOOD: dict[str, type] = {"labeler": Labeler, "steerer": Steerer, "detector": Detector, "metric": Metric, "judge": Judge}


def labeling(concept: Concept, **changes: Any) -> Labeling:
    return Labeling(concept, **{"features": (FeatureRef("sae", 0),), "score": 1.0, **changes})


def rated(name: str, **details: Any) -> Rating:
    return Rating(name, "rated", 1.0, 1.0, 1.0, details=details)


def edited(edit: Any) -> Callable[..., Intervention]:
    return lambda self, labeling, strength: Intervention(edits=(edit,))


class OwnEdit:
    """An edit of the test's, of which parts may be wrong."""

    sites: Any = (SITE,)
    positions: Any = Positions()
    batch_key: Any = "own"

    def __init__(self, apply: Callable[[torch.Tensor], Any] = lambda x: x, **changes: Any) -> None:
        self._apply = apply
        vars(self).update(changes)

    def stack(self, rows: Any, device: Any) -> Any:
        return self

    def apply(self, x: torch.Tensor, ctx: Any) -> Any:
        return self._apply(x)


def raising(error: BaseException) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any) -> Any:
        raise error

    return method


def half_way(first: Callable[[Any], Any], error: BaseException) -> Callable[..., Any]:
    """A generator that raises after its first answer."""

    def method(self: Any, *arguments: Any) -> Iterator[Any]:
        yield first(arguments[-1][0])
        raise error

    return method


def returning(value: Any) -> Callable[..., Any]:
    return lambda self, *arguments: value


def odd_rating(**changes: Any) -> Callable[..., Any]:
    """A judge's submit with one value of the first rating changed behind the back of Rating's own checks."""

    def submit(self: Any, items: Any) -> list[Rating]:
        found = [rated(item.id) for item in items]
        for name, value in changes.items():
            object.__setattr__(found[0], name, value)
        return found

    return submit


class RaisingOptions(Options):
    """Options that raise something of their own."""

    count: int = 1
    """A number."""

    @model_validator(mode="after")
    def never(self) -> Any:
        raise RuntimeError("no options today")


def submit_of(*build: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda self, items: [make(item.id) for item in items for make in build]


class Traitless:
    """Where traits would be, something that raises."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise RuntimeError("traits are out")


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    # labelers
    "label raises": ("labeler", {"label": raising(ValueError("no"))}, "failed in label: ValueError: no"),
    "label exits": ("labeler", {"label": raising(SystemExit(0))}, "tried to end the program in label (SystemExit: 0)"),
    "label is cancelled": ("labeler", {"label": raising(asyncio.CancelledError())}, "failed in label: asyncio.exceptions.CancelledError"),
    "label stops an iteration": ("labeler", {"label": raising(StopIteration())}, "failed in label: StopIteration"),
    "label gives up a generator": ("labeler", {"label": raising(GeneratorExit())}, "failed in label: GeneratorExit"),
    "label gives None": ("labeler", {"label": returning(None)}, "label returned None"),
    "label gives a number": ("labeler", {"label": returning(3)}, "label returned a value of class int"),
    "label gives text": ("labeler", {"label": returning("music")}, "label returned a value of class str"),
    "label gives other values": ("labeler", {"label": returning([("music", 3)])}, "label returned a value of class tuple"),
    "label gives too few": ("labeler", {"label": lambda self, bench, concepts: [labeling(concepts[0])]}, "1 answers for 2 concepts"),
    "label gives one twice": (
        "labeler", {"label": lambda self, bench, concepts: [labeling(c) for c in [*concepts, concepts[0]]]}, "the same features twice",
    ),
    "label answers another concept": (
        "labeler", {"label": lambda self, bench, concepts: [labeling(Concept("x", "y"))]}, "answered concept 'x', which is not one",
    ),
    "label answers no concept": ("labeler", {"label": lambda self, bench, concepts: [Labeling("music")]}, "a concept of class str"),  # type: ignore[arg-type]
    "label names an unknown feature": (
        "labeler", {"label": lambda s, b, concepts: [labeling(c, features=(FeatureRef("sae", 999),)) for c in concepts]}, "named feature sae/999",
    ),
    "label names an unknown dictionary": (
        "labeler", {"label": lambda s, b, concepts: [labeling(c, features=(FeatureRef("x", 0),)) for c in concepts]}, "named feature x/0",
    ),
    "label gives indices": ("labeler", {"label": lambda s, b, concepts: [labeling(c, features=(3,)) for c in concepts]}, "gave the features (3,)"),
    "label gives broken indices": (
        "labeler", {"label": lambda s, b, concepts: [labeling(c, features=(FeatureRef("sae", np.float64(1)),)) for c in concepts]}, "class float64",
    ),
    "label gives booleans": (
        "labeler", {"label": lambda s, b, concepts: [labeling(c, features=(FeatureRef("sae", np.True_),)) for c in concepts]}, "of class bool",
    ),
    "label gives a NaN": ("labeler", {"label": lambda s, b, concepts: [labeling(c, score=float("nan")) for c in concepts]}, "the score nan"),
    "label gives numpy's NaN": (
        "labeler", {"label": lambda s, b, concepts: [labeling(c, score=np.float32("nan")) for c in concepts]}, "gave the score",
    ),
    "label gives evidence": (
        "labeler", {"label": lambda s, b, concepts: [labeling(c, evidence={"a": {1, 2}}) for c in concepts]}, "evidence for concept",
    ),
    "label abstains with a number": (
        "labeler", {"label": lambda s, b, concepts: [Abstention(c, 3) for c in concepts]}, "with a reason of class int",  # type: ignore[arg-type]
    ),
    "label raises half-way": ("labeler", {"label": half_way(labeling, OSError("gone"))}, "failed in label: OSError: gone"),
    # steerers
    "prepare raises": ("steerer", {"prepare": raising(KeyError("x"))}, "failed in prepare: KeyError: 'x'"),
    "prepare exits": ("steerer", {"prepare": raising(SystemExit("bye"))}, "tried to end the program in prepare (SystemExit: bye)"),
    "intervene raises": ("steerer", {"intervene": raising(IndexError("3"))}, "failed in intervene: IndexError: 3"),
    "intervene gives None": ("steerer", {"intervene": returning(None)}, "intervene gave None at strength 1"),
    "intervene gives edits": ("steerer", {"intervene": returning([1])}, "intervene gave a value of class list"),
    "intervene gives no edit": ("steerer", {"intervene": edited(3)}, "an edit of class int without sites, positions, batch_key, stack"),
    "intervene gives one edit bare": ("steerer", {"intervene": returning(Intervention(edits=OwnEdit()))}, "edits of class OwnEdit"),  # type: ignore[arg-type]
    "intervene gives no words": (
        "steerer", {"intervene": returning(Intervention(prompt_prefix=None))}, "a prompt_prefix of class NoneType",  # type: ignore[arg-type]
    ),
    "intervene gives an adapter": ("steerer", {"intervene": returning(Intervention(adapter="/no/such"))}, "the adapter '/no/such'"),
    "intervene names a layer": ("steerer", {"intervene": edited(AddVector(Site(99), torch.zeros(WIDTH)))}, "cannot place at layer 99"),
    "intervene names a stream": ("steerer", {"intervene": edited(OwnEdit(sites=(Site(1, "soul"),)))}, "cannot place at layer 1 soul"),  # type: ignore[arg-type]
    "intervene names no site": ("steerer", {"intervene": edited(OwnEdit(sites=()))}, "with the sites ()"),
    "intervene names a number": ("steerer", {"intervene": edited(OwnEdit(sites=(3,)))}, "with the sites (3,)"),
    "intervene gives positions": ("steerer", {"intervene": edited(OwnEdit(positions="all"))}, "positions of class str"),
    "intervene gives a key": ("steerer", {"intervene": edited(OwnEdit(batch_key=7))}, "the batch key 7"),
    "a vector of another width": ("steerer", {"intervene": edited(AddVector(SITE, torch.zeros(WIDTH + 1)))}, "its edit AddVector cannot be applied"),
    "a vector with two dimensions": (
        "steerer", {"intervene": lambda *a: Intervention(edits=(AddVector(SITE, torch.zeros(2, WIDTH)),))}, "failed in intervene at strength 1",
    ),
    "a vector with a NaN": ("steerer", {"intervene": edited(AddVector(SITE, torch.full((WIDTH,), torch.nan)))}, "values which are not finite"),
    "an edit of another shape": ("steerer", {"intervene": edited(OwnEdit(lambda x: x[..., 0]))}, "an edit OwnEdit that makes [2, 2] of a stream"),
    "an edit of another type": ("steerer", {"intervene": edited(OwnEdit(lambda x: x.long()))}, "makes torch.int64 of the stream"),
    "an edit on another device": ("steerer", {"intervene": edited(OwnEdit(lambda x: x.to("meta")))}, "moves the stream to meta"),
    "an edit that makes numpy": ("steerer", {"intervene": edited(OwnEdit(lambda x: x.numpy()))}, "a value of class ndarray"),
    "an edit that raises": ("steerer", {"intervene": edited(OwnEdit(lambda x: 1 / 0))}, "failed in stack and apply of its edit OwnEdit"),
    # only the real stream is as long as this: what is tried is not
    "an edit that raises later": (
        "steerer", {"intervene": edited(OwnEdit(lambda x: x if x.shape[1] == 2 else 1 / 0))}, "failed in an edit: ZeroDivisionError",
    ),
    # detectors
    "scores raises": ("detector", {"scores": raising(MemoryError())}, "failed in scores: MemoryError"),
    "scores gives None": ("detector", {"scores": returning(None)}, "scores returned None"),
    "scores gives another shape": ("detector", {"scores": lambda self, labelings, texts: np.zeros(len(texts))}, "gave scores of shape"),
    "scores gives a NaN": ("detector", {"scores": lambda s, la, texts: np.full((len(la), len(texts)), np.nan)}, "a score that is not finite"),
    "scores gives words": ("detector", {"scores": lambda s, la, texts: [["high"] * len(texts)] * len(la)}, "no array of numbers"),
    "scores gives ragged lists": ("detector", {"scores": returning([[1.0], [1.0, 2.0]])}, "no array of numbers"),
    "scores gives gradients": (
        "detector", {"scores": lambda s, la, texts: torch.zeros(len(la), len(texts), requires_grad=True)}, "class Tensor that is no array",
    ),
    "scores gives complex numbers": ("detector", {"scores": lambda s, la, texts: np.zeros((len(la), len(texts)), complex)}, "complex"),
    # metrics
    "measure raises": ("metric", {"measure": raising(ZeroDivisionError("0"))}, "failed in measure: ZeroDivisionError: 0"),
    "measure gives a number": ("metric", {"measure": returning(0.5)}, "measure returned a value of class float"),
    "measure leaves a part out": ("metric", {"measure": returning(Measurement(1.0))}, "gave the parts none"),
    "measure gives another part": ("metric", {"measure": returning(Measurement(1.0, parts={"half": 0.5, "more": 1.0}))}, "the parts half, more"),
    "measure gives a NaN": ("metric", {"measure": lambda *a: Measurement(float("nan"))}, "failed in measure: ValueError: a measurement is nan"),
    "measure gives numpy's number": (
        "metric", {"measure": lambda *a: Measurement(np.float32(1), parts={"half": 0.5})}, "a measurement that cannot be stored",  # type: ignore[arg-type]
    ),
    # judges
    "a judge's prepare exits": ("judge", {"prepare": raising(SystemExit(0))}, "tried to end the program in prepare"),
    "submit raises": ("judge", {"submit": raising(RuntimeError("no\nmore"))}, "failed in submit: RuntimeError: no more"),
    "submit exits half-way": ("judge", {"submit": half_way(lambda item: rated(item.id), SystemExit(0))}, "tried to end the program in submit"),
    "submit gives None": ("judge", {"submit": returning(None)}, "submit returned None"),
    "submit gives numbers": ("judge", {"submit": submit_of(lambda name: 1.0)}, "returned a value of class float"),
    "submit rates one twice": ("judge", {"submit": submit_of(rated, rated)}, "was not asked, or a second time"),
    "submit rates another": ("judge", {"submit": submit_of(lambda name: rated("x" + name))}, "for which it was not asked"),
    "submit rates too high": ("judge", {"submit": submit_of(lambda name: Rating(name, "rated", 3, 1, 1))}, "failed in submit: ValueError"),
    "submit rates with text": ("judge", {"submit": odd_rating(concept="2")}, "the concept rating '2' of class str"),
    "submit rates with a NaN": ("judge", {"submit": odd_rating(fluency=float("nan"))}, "needs three ratings from 0 to 2, got (1.0, 1.0, nan)"),
    "submit rates outside": ("judge", {"submit": odd_rating(instruction=7.0)}, "got (1.0, 7.0, 1.0)"),
    "submit gives a status": ("judge", {"submit": odd_rating(status="fine")}, "the status 'fine'"),
    "submit gives details": ("judge", {"submit": submit_of(lambda name: rated(name, seen={1}))}, "details that cannot be stored"),
    # before anything runs
    "a factory that raises": ("steerer", {"__init__": raising(RuntimeError("no licence"))}, "failed in its factory: RuntimeError: no licence"),
    "a factory that exits": ("judge", {"__init__": raising(SystemExit(1))}, "tried to end the program in its factory"),
    "options that raise": ("steerer", {"options": RaisingOptions}, "failed in its options: RuntimeError: no options today"),
    "traits that raise": ("judge", {"traits": Traitless()}, "traits are out"),
    "traits of another kind": ("steerer", {"traits": DetectorTraits()}, "traits is DetectorTraits; give a harness.contracts.SteererTraits"),
    "traits that are a dict": ("detector", {"traits": {"trivial": True}}, "traits is dict"),
    "a grid of None": ("steerer", {"traits": SteererTraits(unit="none", grid=None)}, "its traits cannot be read"),  # type: ignore[arg-type]
    "a grid that descends": ("steerer", {"traits": SteererTraits(unit="none", grid=(2.0, 1.0))}, "strengths must ascend"),
    "a unit": ("steerer", {"traits": SteererTraits(unit="metres", grid=(1.0,))}, "unit is 'metres'"),  # type: ignore[arg-type]
    "items at once": ("judge", {"traits": JudgeTraits(rubric="r/1", offline=True, at_once=0)}, "at_once is 0"),
    "filters that are no options": ("labeler", {"traits": LabelerTraits(filters=("top",))}, "filters names top"),
    "bounds": ("metric", {"traits": MetricTraits(bounds=(1.0, 0.0))}, "the bounds of the value are 1.0 and 0.0"),
}


def host_with(kind: str, changes: dict[str, Any]) -> PluginHost:
    """A host whose plugin ``mine`` of a kind is changed, beside good ones of all kinds."""
    module = types.ModuleType("faulty_module")
    options = changes.pop("options", None)
    mine = type("Mine", (GOOD[kind],), {**changes, "__module__": __name__})

    def hook(of: str) -> Any:
        def register(registry: Any) -> None:
            registry.add("good", GOOD[of])
            if of == kind:
                registry.add("mine", mine, options=options)

        return hookimpl(specname=f"harness_register_{of}s")(register)

    for of in GOOD:
        setattr(module, f"register_{of}", hook(of))
    host = PluginHost()
    host.add(module, name="faulty", distribution="their-dist")
    assert host.broken == []
    return host


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    """The toy task with two concepts."""
    made = toy_bench(tmp_path_factory.mktemp("toy"))
    made.choices = replace(made.choices, limit=2)
    return made


ASKED: dict[str, dict[str, Any]] = {
    "labeler": {"labelers": ("mine",), "steerers": ("good",), "detectors": ("good",), "judge": "good"},
    "steerer": {"steerers": ("mine",), "judge": "good"},
    "detector": {"detectors": ("mine",)},
    "metric": {"metrics": ("mine",)},
    "judge": {"steerers": ("good",), "judge": "mine"},
}


def run(host: PluginHost, bench: TaskBench, out: Path, kind: str) -> Path:
    """A whole run; its folder."""
    if kind == "labeler":  # a steerer that uses its features, so that the labeler is asked
        host.get("steerer", "good").factory.traits = SteererTraits(unit="none", grid=(1.0,), needs_features=True)  # type: ignore[attr-defined]
    plan = make_plan(host, bench.task, Asked(controls=False, **ASKED[kind]))
    manifest = settle(plan, bench, {})
    folder = run_folder(out, manifest)
    with Run.begin(folder, manifest, plan, bench, host) as made:
        evaluate(made)
    return folder


@pytest.fixture(autouse=True)
def _good_as_before() -> Iterator[None]:
    yield
    Steerer.traits = SteererTraits(unit="none", grid=(1.0,))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_error_that_names_plugin_and_call(name: str, bench: TaskBench, tmp_path: Path) -> None:
    kind, changes, expected = FAULTS[name]
    with pytest.raises(PluginError) as caught:
        run(host_with(kind, dict(changes)), bench, tmp_path, kind)
    line = str(caught.value)
    assert line.startswith(f"{kind} 'mine' of their-dist")
    assert expected in line
    assert "\n" not in line
    assert caught.value.allowed is not None or caught.value.hint
    for folder in tmp_path.glob("runs/*"):
        with RunStore.open(folder, read_only=True) as store:
            assert store.status != "finished"


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_right_runs(kind: str, bench: TaskBench, tmp_path: Path) -> None:
    folder = run(host_with(kind, {}), bench, tmp_path, kind)
    with RunStore.open(folder, read_only=True) as store:
        assert store.status == "finished"
        assert len(store.notes("decoding")) == (kind in ASKED and "steerers" in ASKED[kind])


def test_numpys_numbers_become_pythons(bench: TaskBench, tmp_path: Path) -> None:
    def label(self: Any, bench: Any, concepts: Any) -> Any:
        return [labeling(c, features=(FeatureRef("sae", np.int64(1)),), score=np.float32(0.5)) for c in concepts]

    folder = run(host_with("labeler", {"label": label}), bench, tmp_path, "labeler")
    with RunStore.open(folder, read_only=True) as store:
        (key,) = {method.labeler.key for method in store.manifest.methods if method.labeler is not None}
        answers = [answer for answer in store.labelings(key) or () if isinstance(answer, Labeling)]
    assert [(answer.features, answer.score) for answer in answers] == [((FeatureRef("sae", 1),), 0.5)] * 2
    assert {type(answer.features[0].index) for answer in answers} == {int}


def test_the_line_says_where_in_the_plugin(bench: TaskBench, tmp_path: Path) -> None:
    with pytest.raises(PluginFault) as caught:
        run(host_with("judge", {"submit": raising(RuntimeError("no"))}), bench, tmp_path, "judge")
    assert f"({Path(__file__).name}, line " in caught.value.message
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "no such module" not in sys.modules


def test_what_was_rated_before_stays(bench: TaskBench, tmp_path: Path) -> None:
    with pytest.raises(PluginFault):
        run(host_with("judge", {"submit": half_way(lambda item: rated(item.id), SystemExit(0))}), bench, tmp_path, "judge")
    (folder,) = tmp_path.glob("runs/*")
    with RunStore.open(folder, read_only=True) as store:
        assert store.rating_counts(store.judges()[0].key)["rated"] == 1


def test_ctrl_c_in_a_plugin_is_ctrl_c(bench: TaskBench, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(host_with("steerer", {"prepare": raising(KeyboardInterrupt())}), bench, tmp_path, "steerer")


class Spoiling(OwnEdit):
    """An edit that changes the model behind it when it is applied to a stream of some tokens; the steerer keeps the bench."""

    def __init__(self, spoil: Callable[[Any], Any], when: Callable[[torch.Tensor], bool]) -> None:
        super().__init__(lambda x: (when(x) and spoil(Spoiling.bench), x)[1])

    bench: Any = None


def keeps_the_bench(self: Any, bench: Any, labelings: Any) -> None:
    Spoiling.bench = bench


SPOILING: dict[str, tuple[Callable[[Any], Any], str]] = {
    "a hook": (lambda b: b.model.layers[0].register_forward_hook(lambda m, a, output: output), "a forward hook is left on"),
    "a weight": (lambda b: b.model.layers[0].mlp.up_proj.weight.data.mul_(1.01), "values of model.layers.0.mlp.up_proj.weight have changed"),
}
WHEN: dict[str, Callable[[torch.Tensor], bool]] = {
    "when it is tried": lambda x: x.shape[1] == 2,
    "while texts are generated": lambda x: x.shape[1] != 2,
}


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("what", SPOILING)
def test_no_text_is_kept_that_was_made_with_a_model_that_an_edit_changed(what: str, when: str, bench: TaskBench, tmp_path: Path) -> None:
    spoil, expected = SPOILING[what]
    intervene = edited(Spoiling(spoil, WHEN[when]))
    model = bench.model
    with pytest.raises(ChangedModelError) as caught:
        run(host_with("steerer", {"prepare": keeps_the_bench, "intervene": intervene}), bench, tmp_path, "steerer")
    assert str(caught.value).startswith("steerer 'mine' of their-dist has changed the subject model in an edit: ")
    assert expected in str(caught.value)
    assert bench.model is not model
    assert list(tmp_path.glob("runs/*")) == [], "a run without any result is removed"


def test_settings_that_an_edit_leaves_are_put_back(bench: TaskBench, tmp_path: Path) -> None:
    before = torch.get_default_dtype()
    left = OwnEdit(lambda x: (x.shape[1] != 2 and torch.set_default_dtype(torch.float64), x)[1])
    run(host_with("steerer", {"intervene": edited(left)}), bench, tmp_path, "steerer")
    assert torch.get_default_dtype() == before


def test_a_steerer_that_does_nothing_is_a_warning(bench: TaskBench, tmp_path: Path) -> None:
    changes = {"traits": SteererTraits(unit="residual-norm", grid=(0.5, 1.0)), "intervene": returning(Intervention())}
    folder = run(host_with("steerer", changes), bench, tmp_path, "steerer")
    with RunStore.open(folder, read_only=True) as store:
        found = [str(note.value) for note in store.notes("warning") if "does nothing" in str(note.value)]
    assert len(found) == 1
    assert found[0].startswith("steerer 'mine' of their-dist")
