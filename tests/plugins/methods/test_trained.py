"""Methods that are trained by the language model's loss: their objectives against plain loops and finite differences, and their two faces."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.methods import reps as reps_module
from harness_plugins.methods.reft_r1 import ReftDetectOptions, ReftDetector, ReftLearner, ReftSteerer, ReftSteerOptions
from harness_plugins.methods.reps import RepsDetectOptions, RepsDetector, RepsFit, RepsLearner, RepsSteerer, RepsSteerOptions, preference
from harness_plugins.methods.ssv import SsvDetectOptions, SsvDetector, SsvLearner, SsvSteerer, SsvSteerOptions
from helpers.learners import check_gradients, double_model, largest_difference, stories, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.texts import TextSet
from harness.errors import DataError, HarnessError, ModelError, OptionError
from harness.evaluations.detection.texts import corpus_texts
from harness.fitting import loop as loop_module
from harness.fitting.directions import FALLBACK
from harness.fitting.schedule import Schedule
from harness.fitting.texts import ConceptTexts, concept_texts
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, TrainingText
from harness.fitting.vectors import VECTOR
from harness.interventions import Site
from harness.model.loading import SubjectModel, hidden_of, with_hidden
from harness.run.bench import TaskBench
from harness.testing import toy_bench
from harness.types import Concept, Labeling, rng

SHORT: dict[str, Any] = {"epochs": 1, "batch": 8}
FACES = {
    "reft-r1": (ReftSteerer, ReftSteerOptions, ReftDetector, ReftDetectOptions),
    "ssv": (SsvSteerer, SsvSteerOptions, SsvDetector, SsvDetectOptions),
    "reps": (RepsSteerer, RepsSteerOptions, RepsDetector, RepsDetectOptions),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def bench(folder: Path) -> TaskBench:
    return toy_bench(folder, conversations=True)


@pytest.fixture(scope="module")
def report(bench: TaskBench) -> TextSet:
    return corpus_texts(bench, "report")


@pytest.fixture(scope="module")
def labelings(bench: TaskBench) -> list[Labeling]:
    return [Labeling(concept) for concept in bench.concepts]


@pytest.fixture(scope="module")
def texts(bench: TaskBench, labelings: list[Labeling]) -> list[ConceptTexts]:
    return concept_texts(bench, labelings, "a test", answers=True)


def prepared(method: Any, bench: TaskBench, labelings: list[Labeling]) -> Any:
    method.prepare(bench, labelings)
    return method


# ---------------------------------------------------------------------------------------------------------------- objectives, by hand

Edit = Callable[[torch.Tensor], torch.Tensor]


def logp_of(model: SubjectModel, text: TrainingText, layer: int, edit: Edit) -> torch.Tensor:
    """The log-probability of a text's answer, by a whole pass of the text alone with every token but the first edited."""
    ids = torch.from_numpy(text.ids)[None]

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        x = hidden_of(output)
        return with_hidden(output, torch.cat([x[:, :1], edit(x[:, 1:])], dim=1))

    handle = model.layers[layer].register_forward_hook(hook)
    try:
        found = model.hf(input_ids=ids).logits[0].log_softmax(dim=-1)
    finally:
        handle.remove()
    places = torch.arange(text.start, len(text.ids))
    return found[places - 1, ids[0, places]].sum()


def plain_loop(
    model: SubjectModel, training: TrainingSet, one: ConceptExamples, schedule: Schedule, loss_of: Callable[..., torch.Tensor], unit: bool
) -> list[float]:
    """Losses of each step of one concept by torch alone; ``loss_of(vector, offset, examples, step, steps)`` gives loss and penalty."""
    direction = rng(0, "parameters to train", one.concept).standard_normal(model.d_model)
    vector = torch.nn.Parameter(torch.from_numpy(direction / np.linalg.norm(direction)).float())
    offset = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([vector, offset], lr=schedule.lr, weight_decay=schedule.weight_decay)
    chosen, _ = one.divided(schedule.held_out, 0)
    steps = schedule.epochs * math.ceil(len(chosen) / schedule.batch)
    losses = []
    for step in range(steps):
        loss, penalty = loss_of(vector, offset, one.batch(chosen, schedule, 0, step), step, steps)
        optimiser.zero_grad()
        (loss + penalty).backward()
        if schedule.clip is not None:
            torch.nn.utils.clip_grad_norm_([vector] if offset.grad is None else [vector, offset], schedule.clip)
        for group in optimiser.param_groups:
            group["lr"] = schedule.lr * (1 - step / steps)
        optimiser.step()
        if unit:
            vector.data /= vector.data.norm()
        losses.append(loss.item())
    return losses


def test_reft_r1_is_trained_as_a_plain_loop_does(tiny_model: SubjectModel) -> None:
    training, schedule = stories(tiny_model), Schedule(epochs=7, batch=2, lr=0.05, clip=1.0, held_out=0.25)
    one, k, l1 = training.concepts[1], 3, 0.5

    def loss_of(vector: torch.Tensor, offset: Any, places: list[int], step: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        penalties, total, tokens = [], torch.zeros(()), 0

        def edit(x: torch.Tensor) -> torch.Tensor:
            w = vector / vector.norm()
            latents = (x[0] @ w).relu()
            order = latents.argsort(descending=True)
            penalties.append(latents[order[k:]].sum() / len(latents))
            return x + latents[order[:k]].mean() * w

        for place in places:
            text = training.texts[one.examples[place].texts[0]]
            total = total - logp_of(tiny_model, text, 2, edit)
            tokens += len(text.ids) - text.start
        return total / tokens, l1 * step / steps * torch.stack(penalties).sum()

    expected = plain_loop(tiny_model, training, one, schedule, loss_of, unit=True)
    pupils = trained(tiny_model, ReftLearner(tiny_model, Site(2), k, l1), training, schedule)
    assert len(expected) >= 20
    assert pupils[1].curve.losses == pytest.approx(expected, rel=1e-5)
    assert all(float(pupil.parameters[VECTOR].detach().norm()) == pytest.approx(1) for pupil in pupils)


def pairs_of(model: SubjectModel, examples: int = 6) -> TrainingSet:
    """Pairs of stories with one beginning, each twice, as RePS has them."""
    whole = stories(model, concepts=2)
    draw = np.random.default_rng(3)
    sets = []
    for concept in ("one", "two"):
        drawn = [(4 * int(draw.integers(8)), *draw.permutation(4)[:2].tolist()) for _ in range(examples)]
        sets.append(ConceptExamples(concept, tuple(TrainingExample((first + win, first + lose) * 2) for first, win, lose in drawn)))
    return TrainingSet(whole.texts, sets)


def test_reps_is_trained_as_a_plain_loop_does(tiny_model: SubjectModel) -> None:
    training, schedule = pairs_of(tiny_model), Schedule(epochs=7, batch=2, lr=0.05, clip=1.0, held_out=0.0)
    one, options = training.concepts[1], RepsFit(factors=(0.5, 1.0, 2.0), dropout=0.25, margin=0.3)

    def loss_of(vector: torch.Tensor, offset: torch.Tensor, places: list[int], step: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.zeros(())
        for place in places:
            item = f"{one.concept}:{step}:{place}"
            factor = rng(0, "factor", item).choice([0.5, 1.0, 2.0])
            kept = torch.from_numpy(rng(0, "dropout", item).random(len(vector)) >= 0.25).float() / 0.75
            texts = [training.texts[number] for number in one.examples[place].texts[:2]]
            added = [logp_of(tiny_model, text, 2, lambda x, by=factor * kept * vector: x + by) for text in texts]
            removed = [
                logp_of(tiny_model, text, 2, lambda x: x - ((x @ vector + offset).relu() / vector.square().sum())[..., None] * vector)
                for text in texts
            ]
            known = [logp_of(tiny_model, text, 2, lambda x: x).detach() for text in texts]
            n = [len(text.ids) - text.start for text in texts]
            for logp, (win, lose) in ((added, (0, 1)), (removed, (1, 0))):
                weight = max(0.3 * float(known[lose] - known[win]), 1.0)
                total = total - torch.log(torch.sigmoid(weight / n[win] * logp[win] - logp[lose] / n[lose]))
        return total / len(places), torch.zeros(())

    expected = plain_loop(tiny_model, training, one, schedule, loss_of, unit=False)
    pupils = trained(tiny_model, RepsLearner(tiny_model, Site(2), options), training, schedule)
    assert len(expected) >= 20
    assert pupils[1].curve.losses == pytest.approx(expected, rel=2e-5)
    (alone,) = trained(tiny_model, RepsLearner(tiny_model, Site(2), options), training, schedule, [1], 100)
    assert largest_difference(pupils[1].curve, alone.curve) < 1e-5


@pytest.mark.parametrize("name", ["reft-r1", "reps", "reps, steering alone"])
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    model = double_model()
    if name == "reft-r1":
        check_gradients(model, ReftLearner(model, Site(1), 4, 0.7), stories(model, concepts=2, examples=4))
        return
    training = pairs_of(model, 3)
    both = "alone" not in name
    if not both:
        halves = [tuple(TrainingExample(example.texts[:2]) for example in one.examples) for one in training.concepts]
        training = TrainingSet(training.texts, [ConceptExamples(one.concept, half) for one, half in zip(training.concepts, halves, strict=True)])
    check_gradients(model, RepsLearner(model, Site(1), RepsFit(factors=(1.0, 3.0), both_ways=both)), training)


@given(
    logp=st.lists(st.floats(-200, -0.1), min_size=2, max_size=2), known=st.lists(st.floats(-200, -0.1), min_size=2, max_size=2),
    tokens=st.lists(st.integers(1, 60), min_size=2, max_size=2), margin=st.floats(0, 2), win=st.integers(0, 1),
)  # fmt: skip
@settings(max_examples=60)
def test_the_preference_is_the_published_one(logp: list[float], known: list[float], tokens: list[int], margin: float, win: int) -> None:
    lose = 1 - win
    inner = max(margin * (known[lose] - known[win]), 1) / tokens[win] * logp[win] - logp[lose] / tokens[lose]
    expected = math.log1p(math.exp(-inner)) if inner > -500 else -inner
    pair = [torch.tensor([values], dtype=torch.float64) for values in (logp, known, tokens)]
    assert preference(pair[0], pair[1], pair[2], margin, win=win).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["reft-r1", "reps"])
def test_one_concept_is_learnt_by_heart(tiny_model: SubjectModel, name: str) -> None:
    whole = stories(tiny_model).texts
    texts = [TrainingText(text.ids[: text.start + 5], text.start) for text in (whole[0], whole[1])]
    example = TrainingExample((0,) if name == "reft-r1" else (0, 1))
    learner: Any = ReftLearner(tiny_model, Site(1), 8, 0.005)
    if name == "reps":
        learner = RepsLearner(tiny_model, Site(1), RepsFit(factors=(2.0,), both_ways=False))
    schedule = Schedule(epochs=120, batch=1, lr=0.08, clip=1.0, held_out=0.0)
    (pupil,) = trained(tiny_model, learner, TrainingSet(texts, [ConceptExamples("c", (example,))]), schedule)
    assert pupil.curve.losses[0] > 0.3
    assert pupil.curve.losses[-1] < 0.1


# ------------------------------------------------------------------------------------------------------------------------- two faces


@pytest.mark.parametrize("name", FACES)
def test_steerer_and_detector_share_one_fit(
    name: str, bench: TaskBench, labelings: list[Labeling], report: TextSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    steerer, options, detector, detect_options = FACES[name]
    steers = prepared(steerer(options(**SHORT)), bench, labelings)
    monkeypatch.setattr(loop_module, "_train", lambda *arguments: pytest.fail("it is trained again"))
    detects = prepared(detector(detect_options(**SHORT)), bench, labelings)
    found = detects.scores(labelings, report)
    mean = prepared(detector(detect_options(pool="mean", **SHORT)), bench, labelings).scores(labelings, report)
    assert steers.curves == detects.curves
    assert list(steers.curves) == [labeling.concept.id for labeling in labelings]
    activations = dict(bench.activations(bench.site, report))
    for row, labeling in enumerate(labelings):
        direction = steers._fit.directions[row]
        curve = steers.curves[labeling.concept.id]
        assert curve["norm"] == pytest.approx(float(steers._fit.extras["length"][row]))
        assert len(curve["step"]) == len(curve["loss"]) == len(curve["held_out"]) >= 2
        assert None not in curve["held_out"]
        for place in range(len(report)):
            along = activations[place].double().numpy() @ direction
            scores = along.clip(min=0) if name == "reft-r1" else along
            assert found[row, place] == pytest.approx(scores.max(), rel=1e-4, abs=1e-5)
            assert mean[row, place] == pytest.approx(scores.mean(), rel=1e-4, abs=1e-5)


def test_a_strength_is_a_multiple_of_the_largest_training_score(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    steerer = prepared(ReftSteerer(ReftSteerOptions(**SHORT)), bench, labelings)
    for row, (labeling, one) in enumerate(zip(labelings, texts, strict=True)):
        direction, scores = steerer._fit.directions[row], []
        assert np.linalg.norm(direction) == pytest.approx(1)
        for place in one.places:
            ids = torch.tensor(bench.corpus_tokens[int(place)])[None]
            with torch.no_grad():
                state = bench.model.hf(input_ids=ids, output_hidden_states=True).hidden_states[bench.site.layer + 1]
            scores.append((state[0, bench.skip :].double().numpy() @ direction).max())
        expected = max(scores) if max(scores) > 0 else FALLBACK
        np.testing.assert_allclose(steerer.intervene(labeling, 0.5).edits[0].vector.numpy(), 0.5 * expected * direction, rtol=1e-4, atol=1e-5)
    assert (steerer.traits.unit, steerer.traits.neutral) == ("max-detection", 0.0)


def test_without_a_score_above_nothing_the_scale_is_axbenchs(bench: TaskBench, labelings: list[Labeling]) -> None:
    steerer = ReftSteerer(ReftSteerOptions(**SHORT))
    steerer.prepare(bench, labelings)
    steerer._fit.largest[:] = -1.0
    bench.warnings.messages.clear()
    assert steerer._scales_of(bench, labelings).tolist() == [FALLBACK] * len(labelings)
    assert "not above 0" in bench.warnings.messages[0]


def test_ssv_as_published_grows_with_the_square_of_its_length(bench: TaskBench, labelings: list[Labeling]) -> None:
    usual, theirs = (prepared(SsvSteerer(SsvSteerOptions(normalise=value, **SHORT)), bench, labelings) for value in (True, False))
    for row, labeling in enumerate(labelings):
        length = usual._fit.extras["length"][row]
        ratio = theirs.intervene(labeling, 1.0).edits[0].vector.norm() / usual.intervene(labeling, 1.0).edits[0].vector.norm()
        assert float(ratio) == pytest.approx(length**2, rel=1e-5)
        assert length != pytest.approx(1, abs=1e-4)


def test_ssv_learns_from_positives_and_reft_from_both(bench: TaskBench, texts: list[ConceptTexts]) -> None:
    for method, kinds in ((SsvSteerer(SsvSteerOptions()), {"positive"}), (ReftSteerer(ReftSteerOptions()), {"positive", "negative"})):
        training = method.training_set(bench, texts)
        for one, own in zip(training.concepts, texts, strict=True):
            assert {example.kind for example in one.examples} == kinds
            assert len(one.examples) == len(own.positive) * len(kinds)


def test_the_published_values_are_the_defaults() -> None:
    reft, ssv, reps = ReftSteerOptions(), SsvSteerOptions(), RepsSteerOptions()
    assert (reft.epochs, reft.batch, reft.lr, reft.clip, reft.topk, reft.l1) == (3, 6, 0.01, 1.0, 8, 0.005)
    assert (ssv.epochs, ssv.batch, ssv.lr) == (3, 6, 0.01)
    assert (reps.epochs, reps.lr, reps.decay, reps.clip, reps.dropout, reps.factors) == (18, 0.08, "linear", 1.0, 0.1, tuple(range(2, 21, 2)))
    assert {one.held_out for one in (reft, ssv, reps)} == {0.125}


def test_the_subspace_setting(bench: TaskBench, labelings: list[Labeling]) -> None:
    edit = prepared(ReftSteerer(ReftSteerOptions(subspace=True, **SHORT)), bench, labelings).intervene(labelings[0], 2.0).edits[0]
    x = torch.from_numpy(rng(0, "stream").standard_normal((5, len(edit.vector))))
    w = edit.direction.double()
    expected = x - (x @ w).clamp(min=0)[:, None] * w + edit.vector.double()
    torch.testing.assert_close(edit.exact(x), expected)


# ------------------------------------------------------------------------------------------------------------------------------ RePS


def test_reps_steers_by_the_vector_as_it_was_trained_and_can_take_it_out(bench: TaskBench, labelings: list[Labeling]) -> None:
    steerer = prepared(RepsSteerer(RepsSteerOptions(**SHORT)), bench, labelings)
    fit = steerer._fit
    v = fit.directions[1] * fit.extras["length"][1]
    np.testing.assert_allclose(steerer.intervene(labelings[1], 4.0).edits[0].vector.numpy(), 4 * v, rtol=1e-5, atol=1e-7)
    x = torch.from_numpy(rng(0, "stream").standard_normal((7, len(v))))
    h = x.numpy()
    expected = h - (np.maximum(h @ v + fit.extras["offset"][1], 0) / (v @ v))[:, None] * v
    np.testing.assert_allclose(steerer.intervene(labelings[1], -2.0).edits[0].exact(x).numpy(), expected, atol=1e-5)
    plain = prepared(RepsSteerer(RepsSteerOptions(negative="subtract", **SHORT)), bench, labelings)
    np.testing.assert_allclose(plain.intervene(labelings[1], -2.0).edits[0].vector.numpy(), -2 * v, rtol=1e-5, atol=1e-7)
    assert steerer.traits.unit == "trained-vector"
    assert steerer.traits.grid == tuple(range(2, 21, 2))
    assert RepsSteerer(RepsSteerOptions(unit="residual-norm")).traits.grid[-1] < 1


def test_own_answers_are_the_corpus_or_written_by_the_model(bench: TaskBench, texts: list[ConceptTexts], tmp_path: Path) -> None:
    written = reps_module.pairs(bench, texts, "auto", both_ways=True)
    with pytest.raises(DataError) as error:
        reps_module.pairs(bench, texts, "corpus", both_ways=True)  # every text of the toy has a label
    assert error.value.given == texts[0].concept.id
    for one, own in zip(written.concepts, texts, strict=True):
        assert len(one.examples) == len(own.positive)
        for place, example in list(zip(own.positive.tolist(), one.examples, strict=True))[:3]:
            win, lose = (written.texts[number] for number in example.texts[:2])
            assert example.texts[:2] == example.texts[2:]
            assert win.ids.tolist() == bench.corpus_tokens[place].tolist()
            assert (win.start, lose.start) == (bench.answer_start(place),) * 2
            prompt = bench.model.prompt(bench.corpus[place].instruction)
            assert lose.ids[: lose.start].tolist() == prompt
            with torch.no_grad():
                greedy = bench.model.hf.generate(
                    torch.tensor(prompt)[None], max_new_tokens=len(lose.ids) - lose.start, do_sample=False, pad_token_id=0, eos_token_id=2
                )
            assert greedy[0].tolist()[len(prompt) : len(lose.ids)] == lose.ids[lose.start :].tolist()


def test_an_answer_of_the_corpus_to_the_same_instruction_is_taken(tmp_path: Path) -> None:
    import json

    made = toy_bench(tmp_path, conversations=True)
    path = tmp_path / "fixed-conversations" / "corpus.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    plain = [{**row, "id": f"plain {row['id']}", "text": f"Yes, {row['text']}", "labels": []} for row in rows[:36]]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *plain]), encoding="utf-8")
    made = TaskBench(made.task, made.choices, made.artifacts, made.progress)
    own = concept_texts(made, [Labeling(concept) for concept in made.concepts], "a test", answers=True)
    training = reps_module.pairs(made, own, "corpus", both_ways=False)
    for one, lot in zip(training.concepts, own, strict=True):
        for place, example in zip(lot.positive.tolist(), one.examples, strict=True):
            win, lose = (training.texts[number] for number in example.texts)
            assert win.ids[: win.start].tolist() == lose.ids[: lose.start].tolist()
            assert made.model.decode(lose.ids[lose.start :].tolist()).startswith("Yes, ")
            assert place < len(rows)
            assert len(example.texts) == 2


# ------------------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("name", FACES)
def test_bad_input_is_one_line(name: str, bench: TaskBench, labelings: list[Labeling], folder: Path) -> None:
    steerer, options, _, _ = FACES[name]
    silent = toy_bench(folder)
    cases: list[tuple[type[HarnessError], Callable[[], Any]]] = [
        (DataError, lambda: steerer(options()).prepare(bench, [Labeling(Concept("bare", "a bare name"))])),
        (DataError, lambda: steerer(options()).prepare(silent, [Labeling(concept) for concept in silent.concepts])),
        (ModelError, lambda: steerer(options(layer=7)).prepare(bench, labelings)),
        (OptionError, lambda: steerer(options(unit="max-evaluation", **SHORT)).prepare(bench, labelings)),
    ]
    for kind, call in cases:
        with pytest.raises(kind) as error:
            call()
        assert "\n" not in str(error.value)


def test_a_training_that_diverges_is_said_and_gives_a_vector(
    bench: TaskBench, labelings: list[Labeling], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.warnings.messages.clear()
    monkeypatch.setattr(SsvLearner, "settle", lambda self, parameters: parameters[VECTOR].mul_(math.inf))  # as a step that is far too long
    steerer = prepared(SsvSteerer(SsvSteerOptions(lr=99, **SHORT)), bench, labelings)
    assert np.isfinite(steerer._fit.directions).all()
    assert all(np.isfinite(steerer.intervene(labeling, 1.0).edits[0].vector.numpy()).all() for labeling in labelings)
    said = [line for line in bench.warnings.messages if "diverged" in line]
    assert len(said) == len(labelings)
    assert said[0].startswith("ssv: ")
