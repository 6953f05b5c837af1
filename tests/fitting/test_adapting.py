"""LoRA and LoReFT for many concepts at once: against peft and torch's own optimiser, a hand-written loop, and the engine that wears them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.methods.lora import Lora, LoraOptions
from harness_plugins.methods.loreft import Loreft, LoreftOptions
from helpers.learners import largest_difference, stories, trained
from helpers.models import random_hf
from torch.nn.functional import cross_entropy

from harness.errors import ModelError, OptionError
from harness.fitting.adapting import LoraLearner
from harness.fitting.layers import PUBLISHED, attention_outputs, checked_layers, usual_layers
from harness.fitting.rotating import LoreftLearner, rotation
from harness.fitting.schedule import Schedule
from harness.fitting.training_set import TrainingSet
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.run.bench import TaskBench
from harness.steering.low_rank import LowRank
from harness.testing import toy_bench
from harness.types import Labeling, rng

SCHEDULE = Schedule(epochs=5, batch=2, lr=0.01, weight_decay=0.01, held_out=0.0)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"), conversations=True)


@pytest.fixture(scope="module")
def labelings(bench: TaskBench) -> list[Labeling]:
    return [Labeling(concept) for concept in bench.concepts]


def lora_of(model: SubjectModel, dropout: float = 0.0) -> LoraLearner:
    return LoraLearner(model, attention_outputs(model, (1, 3)), 2, 8.0, True, dropout)


def test_the_projection_of_attention_is_found_by_what_it_does(tiny_model: SubjectModel) -> None:
    assert attention_outputs(tiny_model, (1, 3)) == {layer: f"model.layers.{layer}.self_attn.o_proj" for layer in (1, 3)}


@pytest.mark.parametrize(("kind", "name"), [("gpt2", "c_proj"), ("gemma2", "o_proj"), ("gpt_neox", "dense"), ("qwen3", "o_proj")])
def test_it_is_found_in_other_families(kind: str, name: str) -> None:
    from helpers.models import byte_tokenizer

    model = SubjectModel(random_hf(kind), byte_tokenizer(), name=kind)
    found = attention_outputs(model, (0, 1))
    assert [path.rsplit(".", 1)[-1] for path in found.values()] == [name, name]
    assert all(f".{layer}." in path for layer, path in found.items())


def test_layers_are_the_published_ones_or_as_deep(tiny_model: SubjectModel) -> None:
    class Deep:
        def __init__(self, n: int) -> None:
            self.n_layers = n

    assert {n: usual_layers(Deep(n)) for n in PUBLISHED} == PUBLISHED  # type: ignore[arg-type]
    assert usual_layers(Deep(30)) == (6, 12, 18, 24)  # type: ignore[arg-type]
    assert checked_layers(tiny_model, (3, 1, 3)) == (1, 3)
    with pytest.raises(ModelError) as error:
        checked_layers(tiny_model, (77,))
    assert error.value.given == 77


def peft_losses(model: SubjectModel, training: TrainingSet, learner: LoraLearner, schedule: Schedule, seed: int = 0) -> list[float]:
    """The losses of the first concept's steps, trained by peft and torch alone."""
    from peft import LoraConfig, get_peft_model

    one = training.concepts[0]
    config = LoraConfig(r=learner.rank, lora_alpha=8.0, use_rslora=True, lora_dropout=0.0, target_modules=list(learner.modules.values()))
    wrapped = get_peft_model(model.hf, config)
    try:
        begun = learner.start(one.concept, rng(seed, "parameters to train", one.concept))
        with torch.no_grad():
            for layer, name in learner.modules.items():
                module = wrapped.base_model.model.get_submodule(name)
                module.lora_A["default"].weight.copy_(begun[f"A{layer}"])
                module.lora_B["default"].weight.copy_(begun[f"B{layer}"])
        weights = [weight for name, weight in wrapped.named_parameters() if "lora_" in name]
        optimiser = torch.optim.AdamW(weights, lr=schedule.lr, weight_decay=schedule.weight_decay)
        chosen, _ = one.divided(schedule.held_out, seed)
        found = []
        for step in range(schedule.steps(len(chosen))):
            total, tokens = torch.zeros(()), 0
            for place in one.batch(chosen, schedule, seed, step):
                text = training.texts[one.examples[place].texts[0]]
                logits = wrapped(input_ids=torch.from_numpy(text.ids)[None]).logits[0]
                total = total + cross_entropy(logits[text.start - 1 : -1], torch.from_numpy(text.ids[text.start :]), reduction="sum")
                tokens += len(text.ids) - text.start
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(step, schedule.steps(len(chosen)))
            optimiser.zero_grad()
            (total / tokens).backward()
            optimiser.step()
            found.append(float(total / tokens))
        return found
    finally:
        wrapped.unload()


def test_one_concept_has_the_losses_of_peft_and_torch(tiny_model: SubjectModel) -> None:
    training = stories(tiny_model)
    learner = lora_of(tiny_model)
    pupils = trained(tiny_model, learner, training, SCHEDULE)
    expected = peft_losses(tiny_model, training, learner, SCHEDULE)
    np.testing.assert_allclose(pupils[0].curve.losses, expected, rtol=1e-4)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("make", [lambda model: lora_of(model, 0.2), lambda model: LoreftLearner(model, (1, 3), 2, 2, 3)])
def test_concepts_learn_as_if_alone(tiny_model: SubjectModel, make: Any) -> None:
    training = stories(tiny_model)
    schedule = Schedule(epochs=5, batch=2, lr=0.005, held_out=0.0)
    together = trained(tiny_model, make(tiny_model), training, schedule)
    alone = trained(tiny_model, make(tiny_model), training, schedule, [1], budget=100)
    assert largest_difference(together[1].curve, alone[0].curve) < 1e-5


def test_a_saved_adapter_is_what_was_trained(bench: TaskBench, labelings: list[Labeling]) -> None:
    """peft, through the engine, gives the logits that training ended with."""
    steerer = Lora(LoraOptions(epochs=2, layers=(0, 2), lr=0.05))
    steerer.prepare(bench, labelings)
    rows = [bench.corpus_tokens[place].tolist() for place in range(3)]
    plain = list(bench.logits(rows))
    for labeling in labelings:
        intervention = steerer.intervene(labeling, 1.0)
        worn = list(bench.logits(rows, intervention))
        expected = by_hand(bench, Path(str(intervention.adapter)), rows)
        for own, there, other in zip(worn, expected, plain, strict=True):
            torch.testing.assert_close(own, there, rtol=1e-4, atol=1e-4)
            assert not torch.allclose(own, other, atol=1e-3)
    assert set(steerer.curves) == {labeling.concept.id for labeling in labelings}


def by_hand(bench: TaskBench, folder: Path, rows: list[list[int]]) -> list[torch.Tensor]:
    """The logits with o_proj's weights changed by α/√r · B A."""
    from safetensors.torch import load_file

    saved = load_file(folder / "adapter_model.safetensors")
    model, changed = bench.model.hf, []
    try:
        for name, a in saved.items():
            if ".lora_A." in name:
                b = saved[name.replace(".lora_A.", ".lora_B.")]
                weight = model.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")).weight
                changed.append((weight, weight.data))
                weight.data = weight.data + 32 / np.sqrt(4) * b @ a
        with torch.no_grad():
            return [model(input_ids=torch.tensor(row)[None]).logits[0] for row in rows]
    finally:
        for weight, before in changed:
            weight.data = before


def test_loreft_edits_the_ends_of_the_prompt_as_in_training(bench: TaskBench, labelings: list[Labeling]) -> None:
    options = LoreftOptions(epochs=2, layers=(0, 1), rank=2, first=2, last=3, lr=0.05)
    steerer = Loreft(options)
    steerer.prepare(bench, labelings)
    learner = LoreftLearner(bench.model, (0, 1), 2, 2, 3)
    place = int(bench.split.train[0])
    ids, start = bench.corpus_tokens[place], bench.answer_start(place)
    for number, labeling in enumerate(labelings):
        edits = steerer.intervene(labeling, 1.0).edits
        assert all(isinstance(edit, LowRank) for edit in edits)
        parameters = {name: torch.from_numpy(np.array(steerer._trained.parameter(name)[number])) for name in steerer._trained.shapes}
        in_training = loss_in_training(bench, learner, parameters, ids, start)
        states = by_exact_edits(bench, edits, ids, start)
        assert in_training == pytest.approx(states, rel=1e-4)


def loss_in_training(bench: TaskBench, learner: LoreftLearner, parameters: Any, ids: Any, start: int) -> float:
    from harness.fitting.frozen import FrozenModel
    from harness.fitting.training_set import TrainingText

    frozen = FrozenModel(bench.model, [TrainingText(ids, start)], learner.after, bench.skip)
    batch = frozen.batch_of([0])
    with torch.no_grad(), learner.worn(bench.model, [parameters], batch):
        return float(frozen.answers(batch)[0])


def by_exact_edits(bench: TaskBench, edits: Any, ids: Any, start: int) -> float:
    """The answer's log-probability with the edits' float64 formula at the first two and last three tokens of the prompt."""
    touched = [place for place in range(start) if place < 2 or place >= start - 3]
    handles = []

    def hook_of(edit: LowRank) -> Any:
        def hook(module: Any, arguments: Any, output: Any) -> Any:
            x = output[0] if isinstance(output, tuple) else output
            new = x.clone()
            new[0, touched] = edit.exact(x[0, touched]).float()
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    try:
        for edit in edits:
            handles.append(bench.model.layers[edit.site.layer].register_forward_hook(hook_of(edit)))
        with torch.no_grad():
            logits = bench.model.hf(input_ids=torch.from_numpy(ids)[None]).logits[0]
    finally:
        for handle in handles:
            handle.remove()
    return -float(cross_entropy(logits[start - 1 : -1], torch.from_numpy(ids[start:]), reduction="sum"))


def test_rotations_are_orthonormal_and_stay_so() -> None:
    x = torch.from_numpy(rng(0, "rotation").standard_normal((3, 2, 7)))
    found = rotation(x)
    torch.testing.assert_close(found @ found.mT, torch.eye(2).double().expand(3, 2, 2))
    torch.testing.assert_close(rotation(found), found)
    torch.testing.assert_close(found.mT @ (found @ x.mT), x.mT)  # the same span


def test_one_concept_is_learnt_by_heart(tiny_model: SubjectModel) -> None:
    training = stories(tiny_model, concepts=1, examples=2)
    lora = LoraLearner(tiny_model, attention_outputs(tiny_model, range(5)), 16, 16.0, True, 0.0)
    for learner in (lora, LoreftLearner(tiny_model, (0, 1, 2), 8, 9, 9)):
        (pupil,) = trained(tiny_model, learner, training, Schedule(epochs=300, batch=2, lr=0.01, held_out=0.0))
        assert pupil.curve.losses[-1] < 0.1, learner


def test_what_edits_nothing_is_refused(bench: TaskBench, labelings: list[Labeling]) -> None:
    with pytest.raises(OptionError):
        Loreft(LoreftOptions(first=0, last=0)).prepare(bench, labelings)
    with pytest.raises(OptionError) as error:
        Loreft(LoreftOptions(rank=1000)).prepare(bench, labelings)
    assert error.value.given == 1000
    for method in (Lora(LoraOptions(layers=(99,))), Loreft(LoreftOptions(layers=(99,)))):
        with pytest.raises(ModelError) as absent:
            method.prepare(bench, labelings)  # type: ignore[attr-defined]
        assert absent.value.given == 99


def test_texts_without_instructions_teach_neither(tmp_path: Path) -> None:
    from harness.errors import DataError

    plain = toy_bench(tmp_path)
    for method in (Lora(LoraOptions()), Loreft(LoreftOptions())):
        with pytest.raises(DataError) as error:
            method.prepare(plain, [Labeling(concept) for concept in plain.concepts])  # type: ignore[attr-defined]
        assert "corpus.conversations" in str(error.value)


def test_a_low_rank_edit_has_its_formula(tiny_model: SubjectModel) -> None:
    from harness.errors import EngineError

    draw = rng(0, "low rank")
    r = rotation(torch.from_numpy(draw.standard_normal((2, 8))).float())
    w, b = torch.from_numpy(draw.standard_normal((2, 8))).float(), torch.tensor([0.3, -0.2])
    edit, x = LowRank(Site(1), r, w, b), torch.from_numpy(draw.standard_normal((5, 8)))
    rotate, weigh, offset = (part.double().numpy() for part in (r, w, b))
    expected = np.stack([row + rotate.T @ (weigh @ row + offset - rotate @ row) for row in x.numpy()])
    np.testing.assert_allclose(edit.exact(x).numpy(), expected)
    np.testing.assert_allclose(edit.stack([edit], torch.device("cpu")).apply(x.float()[None], None)[0].numpy(), expected, atol=1e-5)  # type: ignore[arg-type]
    with pytest.raises(EngineError):
        LowRank(Site(1), 2 * r, w, b)
    with pytest.raises(EngineError):
        LowRank(Site(1), r, w[:, :3], b)
