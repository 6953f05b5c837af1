"""``harness engines verify`` finds what it is there to find: planted faults, and engines that are not sound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.model.loading import SubjectModel, load_model
from harness.testing.edit_kinds import edit_kinds
from harness.testing.engine_checks import TOLERANCE, Report, verify
from harness.testing.engine_faults import faults, layer_off, misses_decoded, neighbours
from harness.testing.toy import toy_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SubjectModel:
    """The model that is verified with by default."""
    return load_model(toy_model(tmp_path_factory.mktemp("toy")), device="cpu", dtype="float32")


def few(model: SubjectModel) -> Any:
    """Kinds that show a fault each, for tests that need no more."""
    return [kind for kind in edit_kinds(model) if kind.name in ("nothing", "add a vector", "add to generated tokens", "clamp a feature")]


def report(model: SubjectModel, engine: Callable[..., Any], kinds: Any = None) -> Report:
    return verify(model, lambda **options: engine(model, **options), kinds=kinds)


def test_a_sound_engine_passes_and_each_fault_is_found(model: SubjectModel) -> None:
    found = report(model, TorchEngine)
    assert found.failures() == []
    verdict = found.verdict("0")
    assert verdict.passed
    assert (verdict.faults_found, verdict.faults) == (3, 3)
    assert set(verdict.largest) == {"prompt", "decoded", "no cache", "alone"}
    assert max(verdict.largest.values()) < 2e-5
    missed, off, neighbour = found.planted
    assert set(missed.found_by) == {"decoded"}, "on prompts an edit that misses decoded tokens is as it should be"
    assert set(off.found_by) == {"prompt", "decoded"}
    assert set(neighbour.found_by) == {"decoded"}
    kinds = " ".join(found.moved)
    assert all(word in kinds for word in ("add", "clamp", "replace", "low rank", "splice", "ablate", "adapter", "attention", "mlp"))


class _Wrong(TorchEngine):
    """The torch engine with one of the faults built in."""

    wrong: Callable[..., Any]

    def step_logits(self, requests: Any, new: Any) -> Iterator[Any]:
        return super().step_logits(type(self).wrong(requests), new)

    def run(self, requests: Any, decoding: Any) -> Iterator[Any]:
        return super().run(type(self).wrong(requests), decoding)


@pytest.mark.parametrize("wrong", [misses_decoded, layer_off(3), neighbours], ids=["misses decoded", "layer off", "neighbours"])
def test_an_engine_with_a_fault_fails(model: SubjectModel, wrong: Callable[..., Any]) -> None:
    engine = type("Wrong", (_Wrong,), {"wrong": staticmethod(wrong)})
    found = report(model, engine, few(model))
    assert any("decoded" in failure for failure in found.failures())
    assert any("text" in failure for failure in found.failures())
    assert not found.verdict("0").passed


def test_in_fewer_bits_is_allowed_what_rounding_does(tmp_path: Path) -> None:
    model = load_model(toy_model(tmp_path), device="cpu", dtype="bfloat16")
    found = report(model, TorchEngine, few(model))
    assert found.failures() == []
    for check, by_kind in found.allowed.items():
        assert all(found.differences[check][kind] <= far < found.moved["add a vector"].steps for kind, far in by_kind.items())
        assert min(by_kind.values()) > TOLERANCE
    engine = type("Wrong", (_Wrong,), {"wrong": staticmethod(misses_decoded)})
    assert any("decoded, add to generated tokens" in failure for failure in report(model, engine, few(model)).failures())


def test_an_engine_that_hides_faults_fails(model: SubjectModel) -> None:
    """One that answers for every request what it knows to be right, whatever it is handed: no planted fault shows."""
    true = {kind.name: kind.edits for kind in few(model)}

    class Deaf(TorchEngine):
        def step_logits(self, requests: Any, new: Any) -> Iterator[Any]:
            return super().step_logits([replace(request, edits=true[request.id]) for request in requests], new)

    found = report(model, Deaf, few(model))
    missing = [failure for failure in found.failures() if "planted fault was not found" in failure]
    assert len(missing) == 2, "one layer off still shows on prompts"
    assert found.verdict("0").faults_found == 1


def test_an_engine_that_raises_and_one_that_ignores_edits_fail(model: SubjectModel) -> None:
    class Broken(TorchEngine):
        def logits(self, *given: Any) -> Iterator[Any]:
            raise RuntimeError("no logits today")

    class Ignoring(TorchEngine):
        def step_logits(self, requests: Any, new: Any) -> Iterator[Any]:
            return super().step_logits([replace(request, edits=()) for request in requests], new)

    assert "prompt: RuntimeError: no logits today" in report(model, Broken, few(model)).failures()
    failures = report(model, Ignoring, few(model)).failures()
    assert any(failure.startswith("alone, add a vector") for failure in failures)
    assert not any("nothing" in failure.partition(":")[0] for failure in failures), "without an edit it is right"


class _Runs(TorchEngine):
    """The torch engine whose logits are right, and whose texts are not."""

    wrong: Callable[..., Any]

    def run(self, requests: Any, decoding: Any) -> Iterator[Any]:
        yield from type(self).wrong(list(requests), lambda given: TorchEngine.run(self, given, decoding))


def others_letters(requests: Any, run: Any) -> list[Any]:
    texts = list(run(requests))
    return [replace(text, text=other.text) for text, other in zip(texts, [*texts[1:], *texts[:1]], strict=True)]


TEXTS = {
    "misses decoded": lambda requests, run: run(misses_decoded(requests)),
    "twice": lambda requests, run: [text for text in run(requests) for _ in range(2)],
    "others' letters": others_letters,
    "another end": lambda requests, run: [replace(text, finish="eos") for text in run(requests)],
    "one left out": lambda requests, run: list(run(requests))[1:],
}


@pytest.mark.parametrize("wrong", TEXTS)
def test_texts_are_looked_at_as_a_whole(model: SubjectModel, wrong: str) -> None:
    failures = report(model, type("Runs", (_Runs,), {"wrong": staticmethod(TEXTS[wrong])}), few(model)).failures()
    assert failures
    assert all(failure.startswith("texts, ") for failure in failures)


def test_where_rounding_may_choose_another_token_each_must_be_among_the_best(tmp_path: Path) -> None:
    model = load_model(toy_model(tmp_path), device="cpu", dtype="bfloat16")
    found = report(model, TorchEngine, few(model))
    assert found.texts is None
    assert found.failures() == []
    assert found.verdict("0").largest["greedy"] < 0.05
    for wrong in ("misses decoded", "twice", "one left out"):
        failures = report(model, type("Runs", (_Runs,), {"wrong": staticmethod(TEXTS[wrong])}), few(model)).failures()
        assert failures, wrong
        assert all(failure.startswith("greedy, ") for failure in failures)


def test_an_engine_that_leaves_something_on_the_model_fails(model: SubjectModel) -> None:
    """Hooks that change nothing, and a weight that no logit shows."""
    handles: list[Any] = []
    weight = model.hf.get_input_embeddings().weight
    unread = weight[-1].detach().clone()

    class Leaves(TorchEngine):
        def logits(self, *given: Any) -> Iterator[Any]:
            handles.append(model.hf.register_forward_hook(lambda *given: None))
            return super().logits(*given)

    class Writes(TorchEngine):
        def run(self, *given: Any) -> Iterator[Any]:
            yield from super().run(*given)
            weight.data[-1] += 1.0

    try:
        left = report(model, Leaves, few(model))
        assert left.failures() == ["the model is not as it was: a forward hook is left on the whole model"]
        assert not left.verdict("0").passed
    finally:
        for handle in handles:
            handle.remove()
    try:
        assert any("values of" in failure for failure in report(model, Writes, few(model)).failures())
    finally:
        weight.data[-1] = unread
    assert report(model, TorchEngine, few(model)).left == []


def test_an_engine_without_logits_of_new_tokens_fails(model: SubjectModel) -> None:
    class Broken(TorchEngine):
        def step_logits(self, requests: Any, new: Any) -> Iterator[Any]:
            raise KeyError("none")

    assert "decoded: KeyError: 'none'" in report(model, Broken).failures()


def test_a_model_of_one_layer_is_refused(model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "n_layers", 1)
    with pytest.raises(EngineError) as error:
        report(model, TorchEngine)
    assert error.value.given == 1


def test_a_reference_that_does_not_fit_is_said_in_one_line(model: SubjectModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("harness.engine.reference.ReferenceEngine", full)
    with pytest.raises(EngineError, match="copy of it in float64") as error:
        report(model, TorchEngine)
    assert "--device cpu" in error.value.hint


def test_a_weak_edit_is_no_proof(model: SubjectModel) -> None:
    from harness.steering.add_vector import AddVector

    kinds = few(model)
    edit = kinds[1].edits[0]
    assert isinstance(edit, AddVector)
    found = report(model, TorchEngine, [kinds[0], replace(kinds[1], edits=(replace(edit, vector=edit.vector * 0),))])
    assert any(failure.startswith("add a vector: the edit moves no logit") for failure in found.failures())


def test_there_are_three_faults() -> None:
    assert len(faults(2)) == 3
