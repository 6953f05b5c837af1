"""Small plugins that are broken in one way each: the check that is named beside each fails, and no other does before it."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import field_validator

from harness import hookimpl
from harness.contracts import DetectorTraits, JudgeTraits, LabelerTraits, MetricTraits, SteererTraits
from harness.engine.base import Engine
from harness.engine.torch_loop import TorchEngine
from harness.interventions import Intervention, Positions, Site
from harness.options import Options
from harness.run.bench import TaskBench
from harness.steering.add_vector import AddVector
from harness.testing import (
    CHECKS,
    ContractError,
    check_detector,
    check_engine,
    check_judge,
    check_labeler,
    check_metric,
    check_options,
    check_plugin,
    check_steerer,
    meanwhile,
    toy_bench,
)
from harness.types import Abstention, FeatureRef, Labeling, Measurement, Rating

ENTROPY = np.random.default_rng


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("chosen"), "chosen")


class Broken:
    """A plugin that keeps every contract; what is given replaces a part of it."""

    def __init__(self, **parts: Any) -> None:
        self.parts = parts

    def part(self, name: str, *arguments: Any) -> Any:
        return self.parts[name](*arguments)


# ------------------------------------------------------------------------------------------------------------------------- labelers


def first_features(bench: Any, concepts: Any) -> Any:
    return [Labeling(concept, (FeatureRef("sae", len(concept.id)),), 1.0) for concept in concepts]


class ALabeler(Broken):
    traits = LabelerTraits(selects_on="nothing")

    def label(self, bench: Any, concepts: Any) -> Any:
        return self.part("label", bench, concepts)


def hooked(bench: Any, result: Any) -> Any:
    bench.model.hf.register_forward_hook(lambda module, arguments, output: None)
    return result


def hooked_unless_it_ends(bench: Any, result: Callable[[], Any]) -> Any:
    handle = bench.model.hf.register_forward_hook(lambda module, arguments, output: None)
    found = (torch.zeros(2) + 1 + 2 + 3, result())
    handle.remove()  # without try/finally
    return found[1]


def draws_from_torch(result: Any) -> Any:
    torch.rand(1)
    return result


def sets_dtype(result: Any) -> Any:
    torch.set_default_dtype(torch.float64)
    return result


@pytest.fixture(autouse=True)
def settings_of_torch() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)


LABELERS: list[tuple[str, Any]] = [
    ("concepts", lambda bench, concepts: first_features(bench, concepts)[1:]),
    ("concepts", lambda bench, concepts: first_features(bench, bench.concepts)),
    ("features", lambda bench, concepts: [Labeling(concept, (FeatureRef("sae", 4000),)) for concept in concepts]),
    ("features", lambda bench, concepts: [Labeling(concept, (FeatureRef("sae", 1), FeatureRef("sae", 1))) for concept in concepts]),
    ("abstention", lambda bench, concepts: [Abstention(concept, "  ") for concept in concepts]),
    ("values", lambda bench, concepts: ["no labeling" for concept in concepts]),
    ("values", lambda bench, concepts: [Labeling(concept, (FeatureRef("sae", 1),), float("inf")) for concept in concepts]),
    ("stored", lambda bench, concepts: [Labeling(concept, (FeatureRef("sae", 1),), 1.0, {"x": {1}}) for concept in concepts]),
    ("determinism", lambda bench, concepts: [Labeling(concept, (FeatureRef("sae", 1),), float(ENTROPY().random())) for concept in concepts]),
    ("batch-invariance", lambda bench, concepts: [Labeling(concept, (FeatureRef("sae", 1),), place) for place, concept in enumerate(concepts)]),
    ("process-unchanged", lambda bench, concepts: draws_from_torch(first_features(bench, concepts))),
    ("process-unchanged", lambda bench, concepts: sets_dtype(first_features(bench, concepts))),
    ("model-unchanged", lambda bench, concepts: hooked(bench, first_features(bench, concepts))),
    ("hooks-removed", lambda bench, concepts: hooked_unless_it_ends(bench, lambda: first_features(bench, concepts))),
]


@pytest.mark.parametrize(("check", "label"), LABELERS)
def test_labelers(bench: TaskBench, check: str, label: Any) -> None:
    fails(check, lambda: check_labeler(lambda: ALabeler(label=label), bench))


def test_a_labeler_that_does_not_begin_with_its_best(chosen: TaskBench) -> None:
    def label(bench: Any, concepts: Any) -> Any:
        return [Labeling(concept, (FeatureRef("sae", place),), place) for place, concept in enumerate(concepts)]

    fails("concepts", lambda: check_labeler(lambda: ALabeler(label=label), chosen))


# ------------------------------------------------------------------------------------------------------------------------- steerers


@dataclasses.dataclass(frozen=True, eq=False)
class AnEdit:
    change: Callable[[Any, Any], Any]
    sites: tuple[Site, ...] = (Site(1),)
    positions: Positions = Positions()  # noqa: RUF009
    batch_key: str = "k"

    def stack(self, rows: Any, device: Any) -> AnEdit:
        return self

    def apply(self, x: Any, ctx: Any) -> Any:
        return self.change(x, ctx)


class ASteerer(Broken):
    traits = SteererTraits(unit="none", grid=(1.0,), neutral=0.0)

    def prepare(self, bench: Any, labelings: Any) -> Any:
        self.bench = bench
        return self.part("prepare", bench) if "prepare" in self.parts else None

    def intervene(self, labeling: Any, strength: float) -> Any:
        return self.part("intervene", self, strength)


def edits(change: Callable[[Any, Any], Any], **members: Any) -> Any:
    return lambda steerer, strength: Intervention(edits=(AnEdit(lambda x, ctx: change(x, ctx) if strength else x, **members),))


def add(steerer: Any, strength: float) -> Intervention:
    return Intervention(edits=(AddVector(Site(1), strength * torch.ones(steerer.bench.model.d_model)),))


STEERERS: list[tuple[str, dict[str, Any]]] = [
    ("values", {"intervene": lambda steerer, strength: None}),
    ("placing", {"intervene": edits(lambda x, ctx: x, sites=(Site(70),))}),
    ("purity", {"intervene": edits(lambda x, ctx: x.add_(1))}),
    ("purity", {"intervene": edits(lambda x, ctx: x[:, :, 1:])}),
    ("purity", {"intervene": edits(lambda x, ctx: x * float("nan"))}),
    ("batch-invariance", {"intervene": edits(lambda x, ctx: x + x.mean(dim=0, keepdim=True))}),
    ("kv-cache", {"intervene": edits(lambda x, ctx: x + x.mean(dim=1, keepdim=True))}),
    ("kv-cache", {"intervene": edits(lambda x, ctx: x + torch.arange(x.shape[1])[None, :, None])}),
    ("neutral", {"intervene": lambda steerer, strength: add(steerer, strength + 5)}),
    ("determinism", {"intervene": lambda steerer, strength: add(steerer, float(ENTROPY().random()))}),
    ("determinism", {"prepare": lambda bench: None, "intervene": lambda steerer, strength: add(steerer, strength * (id(steerer) % 997))}),
    ("process-unchanged", {"prepare": lambda bench: torch.set_grad_enabled(False), "intervene": add}),
    ("process-unchanged", {"prepare": lambda bench: torch.rand(3), "intervene": add}),
    ("model-unchanged", {"prepare": lambda bench: hooked(bench, None), "intervene": add}),
    ("hooks-removed", {"prepare": lambda bench: hooked_unless_it_ends(bench, lambda: None), "intervene": add}),
]


@pytest.mark.parametrize(("check", "parts"), STEERERS)
def test_steerers(bench: TaskBench, check: str, parts: dict[str, Any]) -> None:
    kept: list[Any] = []  # so that two steerers have two ids

    def make() -> ASteerer:
        kept.append(ASteerer(**parts))
        return kept[-1]  # type: ignore[no-any-return]

    fails(check, lambda: check_steerer(make, bench))


@pytest.mark.parametrize("traits", [SteererTraits(unit="none", grid=(2.0, 1.0)), SteererTraits(unit="metre", grid=(1.0,)), None])  # type: ignore[arg-type]
def test_traits(bench: TaskBench, traits: Any) -> None:
    broken = ASteerer(intervene=add)
    broken.traits = traits
    fails("traits", lambda: check_steerer(lambda: broken, bench))


# ------------------------------------------------------------------------------------------------------------------------ detectors


class ADetector(Broken):
    traits = DetectorTraits()

    def prepare(self, bench: Any, labelings: Any) -> None:
        self.bench = bench

    def scores(self, labelings: Any, texts: Any) -> Any:
        return self.part("scores", self.bench, labelings, texts)


def lengths(labelings: Any, texts: Any) -> Any:
    return np.array([[float(len(text)) for text in texts.texts] for _ in labelings], dtype=np.float64).reshape(len(labelings), len(texts))


def knows_labels(bench: Any, labelings: Any, texts: Any) -> Any:
    has = {labeling.concept.id: {bench.corpus[int(place)].text for place in bench.labels.of(labeling.concept.label)} for labeling in labelings}
    return lengths(labelings, texts) + np.array([[float(text in has[one.concept.id]) for text in texts.texts] for one in labelings]).reshape(
        len(labelings), len(texts)
    )


DETECTORS: list[tuple[str, Any]] = [
    ("values", lambda bench, ls, ts: lengths(ls, ts) * np.nan),
    ("values", lambda bench, ls, ts: lengths(ls, ts)[:, :-1]),
    ("values", lambda bench, ls, ts: lengths(ls, ts).astype(np.float32)),
    ("values", lambda bench, ls, ts: np.array([[1 / len([c for c in text if c.isascii()]) if text.isascii() else np.inf for text in ts.texts]
                                               for _ in ls]).reshape(len(ls), len(ts))),
    ("batch-invariance", lambda bench, ls, ts: lengths(ls, ts) - lengths(ls, ts).mean() if len(ts) else lengths(ls, ts)),
    ("batch-invariance", lambda bench, ls, ts: lengths(ls, ts) + np.arange(len(ls))[:, None]),
    ("determinism", lambda bench, ls, ts: lengths(ls, ts) + ENTROPY().random()),
    ("training-only", knows_labels),
    ("process-unchanged", lambda bench, ls, ts: lengths(ls, ts) + 0 * random.random()),
    ("model-unchanged", lambda bench, ls, ts: hooked(bench, lengths(ls, ts))),
    ("hooks-removed", lambda bench, ls, ts: hooked_unless_it_ends(bench, lambda: lengths(ls, ts))),
]  # fmt: skip


@pytest.mark.parametrize(("check", "scores"), DETECTORS)
def test_detectors(bench: TaskBench, check: str, scores: Any) -> None:
    fails(check, lambda: check_detector(lambda: ADetector(scores=scores), bench))


# -------------------------------------------------------------------------------------------------------------------------- metrics


class AMetric(Broken):
    traits = MetricTraits(bounds=(0.0, 1.0))

    def measure(self, bench: Any, subject: Any, seed: int) -> Any:
        return self.part("measure", bench, seed)


METRICS: list[tuple[str, Any]] = [
    ("values", lambda bench, seed: 0.5),
    ("values", lambda bench, seed: Measurement(float("nan"))),
    ("values", lambda bench, seed: Measurement(None)),
    ("values", lambda bench, seed: Measurement(0.5, parts={"x": 1.0})),
    ("bounds", lambda bench, seed: Measurement(1.5)),
    ("bounds", lambda bench, seed: Measurement(0.5, per_item={"a": 2.0, "b": 0.1})),
    ("per-item", lambda bench, seed: Measurement(0.9, per_item={"a": 0.3, "b": 0.6})),
    ("stored", lambda bench, seed: Measurement(0.5, details={"x": {1}})),
    ("determinism", lambda bench, seed: Measurement(float(ENTROPY().random()))),
    ("process-unchanged", lambda bench, seed: Measurement(0.0 * float(np.random.random()))),
    ("model-unchanged", lambda bench, seed: hooked(bench, Measurement(0.5))),
    ("hooks-removed", lambda bench, seed: hooked_unless_it_ends(bench, lambda: Measurement(0.5))),
]


@pytest.mark.parametrize(("check", "measure"), METRICS)
def test_metrics(bench: TaskBench, check: str, measure: Any) -> None:
    fails(check, lambda: check_metric(lambda: AMetric(measure=measure), bench))


# --------------------------------------------------------------------------------------------------------------------------- judges


class AJudge(Broken):
    traits = JudgeTraits(rubric="r/1", offline=True)

    def prepare(self, bench: Any) -> None:
        self.bench = bench

    def submit(self, items: Any) -> Any:
        return self.part("submit", self.bench, items)

    def collect(self, tickets: Any) -> Any:
        return self.part("collect", tickets)


def rated(item: Any, value: float = 1.0) -> Rating:
    return Rating(item.id, "rated", value, value, value)


JUDGES: list[tuple[str, dict[str, Any]]] = [
    ("ratings", {"submit": lambda bench, items: [rated(item, float(len(item.text))) for item in items]}),
    ("unrated", {"submit": lambda bench, items: [rated(item, 1 / len(item.text.split())) for item in items]}),
    ("unrated", {"submit": lambda bench, items: (rated(item, float(item.text.split()[0].isalpha())) for item in items)}),
    ("values", {"submit": lambda bench, items: [rated(item) for item in items[1:]]}),
    ("values", {"submit": lambda bench, items: [rated(item) for item in items for _ in range(2)]}),
    ("stored", {"submit": lambda bench, items: [dataclasses.replace(rated(item), details={"x": {1}}) for item in items]}),
    ("determinism", {"submit": lambda bench, items: [rated(item, float(ENTROPY().random())) for item in items]}),
    ("batch-invariance", {"submit": lambda bench, items: [rated(item, place / (len(items) + 1)) for place, item in enumerate(items)]}),
    ("tickets", {"submit": lambda bench, items: [Rating(item.id, "pending", ticket="t") for item in items],
                 "collect": lambda tickets: [rated(dataclasses.make_dataclass("Item", ["id"])("another"))]}),
    ("process-unchanged", {"submit": lambda bench, items: [rated(item, 1 + 0 * random.random()) for item in items]}),
    ("model-unchanged", {"submit": lambda bench, items: hooked(bench, [rated(item) for item in items])}),
    ("hooks-removed", {"submit": lambda bench, items: hooked_unless_it_ends(bench, lambda: [rated(item) for item in items])}),
]  # fmt: skip


@pytest.mark.parametrize(("check", "parts"), JUDGES)
def test_judges(bench: TaskBench, check: str, parts: dict[str, Any]) -> None:
    fails(check, lambda: check_judge(lambda: AJudge(**parts), bench))


class AJudgeMeanwhile(AJudge):
    """A judge that rates meanwhile, in the simplest way: when it is asked for what has come."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(submit=lambda bench, items: [rated(item) for item in items], **parts)
        self.waiting: list[Any] = []
        self.stops = 0

    def send(self, items: Any) -> None:
        self.waiting += items

    def arrived(self, wait: bool) -> Any:
        taken, self.waiting = self.waiting, []
        return self.part("arrived", self, taken) if "arrived" in self.parts else [rated(item) for item in taken]

    def stop(self) -> None:
        self.stops += 1
        if "stop" in self.parts:
            self.part("stop", self)


def waits_for_ever(judge: Any, items: Any) -> Any:
    threading.Event().wait()


def raises_the_second_time(judge: Any) -> None:
    if judge.stops == 3:
        raise RuntimeError("no thread to join")


MEANWHILE: list[tuple[str, dict[str, Any]]] = [
    ("meanwhile", {"arrived": lambda judge, items: [rated(item) for item in items[:-1]]}),
    ("meanwhile", {"arrived": lambda judge, items: [rated(item) for item in items for _ in range(2)]}),
    ("meanwhile", {"arrived": lambda judge, items: [rated(item, 0.5) for item in items]}),
    ("meanwhile", {"arrived": lambda judge, items: [Rating(item.id, "pending", ticket="t") for item in items]}),
    ("meanwhile", {"arrived": waits_for_ever}),
    ("unrated", {"arrived": lambda judge, items: (rated(item, 1 / len(item.text.split())) for item in items)}),
    ("meanwhile-stop", {"stop": raises_the_second_time}),
    ("meanwhile-stop", {"stop": lambda judge: setattr(judge, "send", lambda items: None)}),
    ("meanwhile-stop", {"arrived": lambda judge, items: [] if judge.stops > 1 else [rated(item) for item in items]}),
    ("process-unchanged", {"arrived": lambda judge, items: [rated(item, 1 + 0 * random.random()) for item in items]}),
    ("model-unchanged", {"arrived": lambda judge, items: hooked(judge.bench, [rated(item) for item in items])}),
]


def test_a_judge_that_rates_meanwhile(bench: TaskBench) -> None:
    assert len(check_judge(AJudgeMeanwhile, bench)) == 12


@pytest.mark.parametrize(("check", "parts"), MEANWHILE)
def test_judges_that_rate_meanwhile(bench: TaskBench, check: str, parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    if parts.get("arrived") is waits_for_ever:
        monkeypatch.setattr(meanwhile, "PATIENCE", 0.2)
    fails(check, lambda: check_judge(lambda: AJudgeMeanwhile(**parts), bench))


# -------------------------------------------------------------------------------------------------------------------------- engines


class AnEngine(TorchEngine):
    """The torch engine; a subclass breaks one thing."""


class Loud(AnEngine):
    def logits(self, texts: Any, edits: Any = (), adapter: Any = None) -> Any:
        return (row * 1.01 for row in super().logits(texts, edits, adapter))


class Deaf(AnEngine):
    def run(self, requests: Any, decoding: Any) -> Any:
        return super().run([dataclasses.replace(request, edits=()) for request in requests], decoding)


class Forgetful(AnEngine):
    def chunks(self, requests: Any) -> Any:
        return super().chunks(requests)[:0]


class Everywhere(AnEngine):
    def refuses(self, edit: Any) -> Any:
        return None


class Clinging(AnEngine):
    """Leaves a hook where its iteration is given up."""

    def run(self, requests: Any, decoding: Any) -> Any:
        handle = self.model.hf.register_forward_hook(lambda module, arguments, output: None)
        yield from super().run(requests, decoding)
        handle.remove()


class Crowded(AnEngine):
    """A text depends on how many are beside it."""

    def run(self, requests: Any, decoding: Any) -> Any:
        for text in super().run(requests, decoding):
            yield text if len(requests) > 1 else dataclasses.replace(text, token_ids=text.token_ids[::-1])


class Untold(AnEngine):
    def step_logits(self, requests: Any, new: Any) -> Any:
        return super().step_logits([dataclasses.replace(request, edits=()) for request in requests], new)


class Backwards(AnEngine):
    def logits(self, texts: Any, edits: Any = (), adapter: Any = None) -> Any:
        return super().logits(texts, tuple(reversed(edits)), adapter)


class Bare(AnEngine):
    """No adapter is worn."""

    def run(self, requests: Any, decoding: Any) -> Any:
        return super().run([dataclasses.replace(request, adapter=None) for request in requests], decoding)


class Muddled(AnEngine):
    """Right tokens, and the letters of another text."""

    def run(self, requests: Any, decoding: Any) -> Any:
        return (dataclasses.replace(text, text="Once upon a time") for text in super().run(requests, decoding))


ENGINES: list[tuple[str, type[AnEngine]]] = [
    ("reference", Untold), ("reference", Backwards), ("reference", Bare), ("reference", Muddled), ("reference", Loud), ("reference", Deaf),
    ("values", Forgetful), ("placing", Everywhere), ("hooks-removed", Clinging),
    ("batch-invariance", Crowded),
]  # fmt: skip


def test_our_engines_keep_it(bench: TaskBench) -> None:
    from harness.engine.reference import ReferenceEngine

    assert check_engine(TorchEngine, bench) == check_engine(ReferenceEngine, bench)


@pytest.mark.parametrize(("check", "engine"), ENGINES)
def test_engines(bench: TaskBench, check: str, engine: Callable[[Any], Engine]) -> None:
    fails(check, lambda: check_engine(engine, bench))


# ---------------------------------------------------------------------------------------------------------- registration and options


class Doubling(Options):
    """Options that are not what they were after they were read again."""

    size: int = 1
    """A size, which is doubled."""

    @field_validator("size")
    @classmethod
    def _double(cls, value: int) -> int:
        return 2 * value


class Undocumented(Options):
    """Options without a docstring."""

    size: int = 1


class Mute:
    @hookimpl
    def harness_register_steerers(self, registry: Any) -> None:
        registry.add("mute", ASteerer)


class Incomplete:
    @hookimpl
    def harness_register_steerers(self, registry: Any) -> None:
        registry.add("incomplete", lambda options: object(), summary="has no members")


class Silent:
    """It has no hook."""


def registers(kind: str, make: Callable[[], Any]) -> Any:
    def register(self: Any, registry: Any) -> None:
        registry.add("broken", lambda options: make(), summary="broken in one way")

    register.__name__ = f"harness_register_{kind}s"
    return type("Plugin", (), {register.__name__: hookimpl(register)})()


OTHERS: list[tuple[str, Callable[[TaskBench], object]]] = [
    ("options", lambda bench: check_options(Undocumented)),
    ("options-round-trip", lambda bench: check_options(Doubling)),
    ("registration", lambda bench: check_plugin(Mute())),
    ("registration", lambda bench: check_plugin(Silent())),
    ("registration", lambda bench: check_plugin(Path(__file__).with_name("no_such_file.py"))),
    ("members", lambda bench: check_plugin(Incomplete())),
    ("members", lambda bench: check_labeler(lambda: object(), bench)),  # type: ignore[arg-type, return-value]
    ("features", lambda bench: check_plugin(registers("labeler", lambda: ALabeler(label=LABELERS[2][1])), bench)),
    ("kv-cache", lambda bench: check_plugin(registers("steerer", lambda: ASteerer(**STEERERS[6][1])), bench)),
    ("training-only", lambda bench: check_plugin(registers("detector", lambda: ADetector(scores=knows_labels)), bench)),
    ("bounds", lambda bench: check_plugin(registers("metric", lambda: AMetric(measure=METRICS[4][1])), bench)),
    ("ratings", lambda bench: check_plugin(registers("judge", lambda: AJudge(**JUDGES[0][1])), bench)),
]


@pytest.mark.parametrize(("check", "run"), OTHERS)
def test_registration_options_and_the_check_that_picks(bench: TaskBench, check: str, run: Any) -> None:
    fails(check, lambda: run(bench))


def fails(check: str, run: Callable[[], object]) -> None:
    with pytest.raises(ContractError) as error:
        run()
    assert error.value.check == check, error.value
    assert "\n" not in str(error.value)


def test_every_check_can_fail() -> None:
    tables: tuple[list[tuple[str, Any]], ...] = (LABELERS, STEERERS, DETECTORS, METRICS, JUDGES, MEANWHILE, ENGINES, OTHERS)
    assert {check for table in tables for check, _ in table} | {"traits"} == set(CHECKS)
