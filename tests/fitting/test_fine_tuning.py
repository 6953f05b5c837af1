"""Fine-tuning of all weights, a concept at a time: against a plain loop of torch; and the model is as it was, whatever happens."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.methods.sft import Sft, SftOptions
from helpers.learners import stories, trained
from helpers.models import byte_tokenizer, random_hf
from torch.nn.functional import cross_entropy

from harness.errors import EngineError, OptionError, StoreError
from harness.fitting.fine_tuning import FineTuningLearner
from harness.fitting.schedule import Schedule
from harness.fitting.training_set import TrainingSet
from harness.model.adapters import Adapters
from harness.model.fingerprint import Fingerprint
from harness.model.loading import SubjectModel
from harness.model.weights import DESCRIPTION, TENSORS, own_weights, save_weights
from harness.run.bench import TaskBench
from harness.testing import toy_bench
from harness.types import Labeling

SCHEDULE = Schedule(epochs=3, batch=3, lr=1e-3, weight_decay=0.01, held_out=0.0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"), conversations=True)


@pytest.fixture(scope="module")
def labelings(bench: TaskBench) -> list[Labeling]:
    return [Labeling(concept) for concept in bench.concepts]


@pytest.fixture
def same(tiny_model: SubjectModel) -> Iterator[None]:
    """The model is afterwards what it was, weights and modules."""
    before = Fingerprint(tiny_model.hf)
    yield
    assert not before.structure() + before.weights()


def losses_of_torch(model: SubjectModel, training: TrainingSet, schedule: Schedule) -> list[float]:
    """The losses of the first concept's steps, of a copy of the model that torch trains."""
    one, hf = training.concepts[0], copy.deepcopy(model.hf).requires_grad_()
    optimiser = torch.optim.AdamW(hf.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay)
    chosen, _ = one.divided(schedule.held_out, 0)
    found = []
    for step in range(schedule.steps(len(chosen))):
        total, tokens = torch.zeros(()), 0
        for place in one.batch(chosen, schedule, 0, step):
            text = training.texts[one.examples[place].texts[0]]
            logits = hf(input_ids=torch.from_numpy(text.ids)[None]).logits[0]
            total = total + cross_entropy(logits[text.start - 1 : -1], torch.from_numpy(text.ids[text.start :]), reduction="sum")
            tokens += len(text.ids) - text.start
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(step, schedule.steps(len(chosen)))
        optimiser.zero_grad()
        (total / tokens).backward()
        optimiser.step()
        found.append((total / tokens).item())
    return found


@pytest.mark.usefixtures("same")
def test_it_has_the_losses_of_a_plain_loop(tiny_model: SubjectModel) -> None:
    training = stories(tiny_model, concepts=2)
    pupils = trained(tiny_model, FineTuningLearner(tiny_model), training, SCHEDULE, budget=100)
    expected = losses_of_torch(tiny_model, training, SCHEDULE)
    np.testing.assert_allclose(pupils[0].curve.losses, expected, rtol=1e-4)
    assert expected[-1] < expected[0]


def test_weights_that_modules_share_are_learnt_as_one(tiny_model: SubjectModel) -> None:
    model = SubjectModel(random_hf("gpt2"), byte_tokenizer(), name="gpt2")
    names = list(FineTuningLearner(model).start("any", np.random.default_rng(0)))
    assert names == list(own_weights(model))
    assert model.hf.lm_head.weight is model.hf.transformer.wte.weight
    assert sum("lm_head" in name or "wte" in name for name in names) == 1


@pytest.mark.usefixtures("same")
def test_a_training_that_breaks_off_leaves_the_model_as_it_was(tiny_model: SubjectModel) -> None:
    calls = 0

    class Broken(FineTuningLearner):
        def losses(self, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 3:
                raise KeyError("broken")
            return super().losses(*arguments)

    with pytest.raises(KeyError, match="broken"):
        trained(tiny_model, Broken(tiny_model), stories(tiny_model, concepts=1), SCHEDULE)


@pytest.mark.usefixtures("same")
def test_kept_weights_are_worn_and_taken_off(tiny_model: SubjectModel, tmp_path: Path) -> None:
    ids = torch.tensor([[1, 30, 31, 32]])
    other = {name: 1.01 * weight.detach() for name, weight in own_weights(tiny_model).items()}
    save_weights(tiny_model, tmp_path, other)
    expected = copy.deepcopy(tiny_model.hf)
    with torch.no_grad():
        for parameter in expected.parameters():
            parameter.mul_(1.01)
        plain, wanted = tiny_model.hf(ids).logits, expected(ids).logits
        adapters = Adapters(tiny_model)
        adapters.check(str(tmp_path))
        with adapters.get(str(tmp_path)).worn():
            assert torch.equal(tiny_model.hf(ids).logits, wanted)
        assert torch.equal(tiny_model.hf(ids).logits, plain)
        assert not torch.allclose(plain, wanted, atol=1e-3)

    def broken() -> None:
        with adapters.get(str(tmp_path)).worn():
            raise KeyError("broken")

    with pytest.raises(KeyError):
        broken()


def test_weights_that_do_not_fit_are_one_line(tiny_model: SubjectModel, tmp_path: Path) -> None:
    own = own_weights(tiny_model)
    save_weights(tiny_model, tmp_path, own)
    gpt2 = SubjectModel(random_hf("gpt2"), byte_tokenizer(), name="gpt2")
    with pytest.raises(EngineError, match="in one of the two only"):
        Adapters(gpt2).get(str(tmp_path))
    from safetensors.torch import save_file

    name = next(iter(own))
    save_file({key: (value[:3] if key == name else value).detach().contiguous() for key, value in own.items()}, tmp_path / TENSORS)
    with pytest.raises(EngineError, match=f"{name} is float32"):
        Adapters(tiny_model).get(str(tmp_path))
    (tmp_path / TENSORS).write_bytes(b"torn")
    with pytest.raises(EngineError, match="cannot be read"):
        Adapters(tiny_model).get(str(tmp_path))
    (tmp_path / DESCRIPTION).write_text(json.dumps({"kind": "another"}), encoding="utf-8")
    with pytest.raises(EngineError, match="another"):
        Adapters(tiny_model).check(str(tmp_path))


def test_the_engine_computes_with_what_was_trained(bench: TaskBench, labelings: list[Labeling]) -> None:
    steerer = Sft(SftOptions(epochs=2, lr=0.01, concepts=2))
    before = Fingerprint(bench.model.hf)
    steerer.prepare(bench, labelings)
    rows = [bench.corpus_tokens[place].tolist() for place in range(2)]
    plain = list(bench.logits(rows))
    for labeling in labelings[:2]:
        intervention = steerer.intervene(labeling, 1.0)
        expected = by_hand(bench, Path(str(intervention.adapter)), rows)
        for worn, there, other in zip(bench.logits(rows, intervention), expected, plain, strict=True):
            torch.testing.assert_close(worn, there, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(worn, other, atol=1e-3)
    assert not before.structure() + before.weights()
    assert set(steerer.curves) == {labeling.concept.id for labeling in labelings[:2]}
    assert set(steerer.abstains([labeling.concept for labeling in labelings])) == {labeling.concept.id for labeling in labelings[2:]} != set()
    with pytest.raises(OptionError) as error:
        steerer.intervene(labelings[2], 1.0)
    assert error.value.given == labelings[2].concept.id
    assert "GB of memory" in " ".join(bench.warnings.messages)


def by_hand(bench: TaskBench, folder: Path, rows: list[list[int]]) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    model = copy.deepcopy(bench.model.hf)
    missing = model.load_state_dict(load_file(folder / TENSORS), strict=False).missing_keys
    assert all(name == "lm_head.weight" for name in missing)
    with torch.no_grad():
        return [model(input_ids=torch.tensor(row)[None]).logits[0] for row in rows]


def test_a_full_disk_keeps_what_is_finished(bench: TaskBench, labelings: list[Labeling], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first concept's weights are found by the next call, which trains the second alone."""
    import errno

    from harness.fitting import fine_tuning, loop

    made = TaskBench(bench.task, bench.choices, type(bench.artifacts)(tmp_path), bench.progress)
    made.model, made.corpus_tokens, made.split = bench.model, bench.corpus_tokens, bench.split  # type: ignore[misc, assignment]
    trained_on: list[str] = []
    real, train = save_weights, loop._train_chunk

    def full(model: SubjectModel, folder: Path, weights: Any) -> None:
        if folder.name == "concept-1" and len(trained_on) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(model, folder, weights)

    def noted(bench: Any, learner: Any, frozen: Any, chunk: Any, *rest: Any) -> Any:
        trained_on.extend(one.concept for one in chunk)
        return train(bench, learner, frozen, chunk, *rest)

    monkeypatch.setattr(fine_tuning, "save_weights", full)
    monkeypatch.setattr(loop, "_train_chunk", noted)
    steerer = Sft(SftOptions(epochs=1, concepts=2))
    with pytest.raises(StoreError, match="full"):
        steerer.prepare(made, labelings)
    steerer.prepare(made, labelings)
    assert trained_on == [labelings[place].concept.id for place in (0, 1, 1)]
