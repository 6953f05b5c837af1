"""Training of several concepts at once: each concept gets what it gets by itself, and what a plain loop gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from helpers.learners import Adding, Breaking, check_gradients, double_model, largest_difference, stories, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DataError, EngineError, OptionError
from harness.files.timing import CLOCK, FITTING, READING
from harness.fitting.batches import Batch
from harness.fitting.frozen import FrozenModel
from harness.fitting.learner import Parameters
from harness.fitting.schedule import Schedule
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, TrainingText
from harness.fitting.vectors import VECTOR
from harness.interventions import Site
from harness.model.loading import SubjectModel, hidden_of, with_hidden
from harness.types import rng

SCHEDULE = Schedule(epochs=7, batch=2, lr=0.05, weight_decay=0.01, clip=1.0, decay="linear", held_out=0.25)


def by_hand(model: SubjectModel, training: TrainingSet, concept: int, schedule: Schedule, layer: int) -> tuple[list[float], torch.Tensor]:
    """Losses of each step and the last vector by a plain loop: transformers' model, one hook, one optimiser, one text after the other."""
    one = training.concepts[concept]
    chosen, _ = one.divided(schedule.held_out, 0)
    direction = rng(0, "parameters to train", one.concept).standard_normal(model.d_model)
    vector = torch.nn.Parameter(torch.from_numpy(direction / np.linalg.norm(direction)).float())
    optimiser = torch.optim.AdamW([vector], lr=schedule.lr, weight_decay=schedule.weight_decay)
    total = schedule.epochs * math.ceil(len(chosen) / schedule.batch)
    decay = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total if schedule.decay == "linear" else 1.0)

    def hook(module: Any, arguments: Any, output: Any) -> Any:
        x = hidden_of(output)
        return with_hidden(output, torch.cat([x[:, :1], x[:, 1:] + vector], dim=1))

    losses = []
    handle = model.layers[layer].register_forward_hook(hook)
    try:
        for step in range(total):
            tokens = 0
            loss = torch.zeros(())
            for place in one.batch(chosen, schedule, 0, step):
                text = training.texts[one.examples[place].texts[0]]
                ids = torch.from_numpy(text.ids)[None]
                labels = ids.clone()
                labels[:, : text.start] = -100
                n = len(text.ids) - text.start
                loss = loss + n * model.hf(input_ids=ids, labels=labels).loss
                tokens += n
            loss = loss / tokens
            optimiser.zero_grad()
            loss.backward()
            if schedule.clip is not None:
                torch.nn.utils.clip_grad_norm_([vector], schedule.clip)
            optimiser.step()
            decay.step()
            losses.append(loss.item())
    finally:
        handle.remove()
    return losses, vector.detach()


@pytest.mark.parametrize(
    "schedule", [SCHEDULE, Schedule(epochs=5, batch=3, lr=0.02, decay="constant", held_out=0.0)], ids=["clip, decay, held out", "plain"]
)
def test_a_concept_gets_what_a_plain_loop_gives(tiny_model: SubjectModel, schedule: Schedule) -> None:
    training = stories(tiny_model)
    before = CLOCK.spent.copy()
    pupils = trained(tiny_model, Adding(tiny_model, Site(2)), training, schedule)
    assert {FITTING, READING} == CLOCK.spent.less(before).calls.keys()
    losses, vector = by_hand(tiny_model, training, 1, schedule, 2)
    assert pupils[1].curve.losses == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(pupils[1].parameters[VECTOR].detach(), vector, rtol=1e-3, atol=1e-4)


def test_together_as_one_by_one_whatever_shares_a_pass(tiny_model: SubjectModel) -> None:
    training = stories(tiny_model)
    learner = Adding(tiny_model, Site(2), drop=0.2)
    together = trained(tiny_model, learner, training, SCHEDULE)
    for place, pupil in list(enumerate(together))[1:]:
        (alone,) = trained(tiny_model, learner, training, SCHEDULE, [place])
        assert largest_difference(pupil.curve, alone.curve) < 1e-5
        assert [point[2] for point in pupil.curve.points] == pytest.approx([point[2] for point in alone.curve.points], rel=1e-5)
    few = Adding(tiny_model, Site(2), drop=0.2)
    few.most = 2
    whole = Adding(tiny_model, Site(2), drop=0.2)
    whole.after = -1
    for other, budget in ((few, 60), (whole, 200)):
        others = trained(tiny_model, other, training, SCHEDULE, [2, 0, 1], budget)
        for place, pupil in zip((2, 0, 1), others, strict=True):
            assert largest_difference(together[place].curve, pupil.curve) < 1e-5


def test_concepts_of_different_numbers_of_examples_end_when_they_are_done(tiny_model: SubjectModel) -> None:
    whole = stories(tiny_model)
    short = TrainingSet(whole.texts, [ConceptExamples("short", whole.concepts[0].examples[:3]), *whole.concepts[1:]])
    schedule = Schedule(epochs=4, batch=2, lr=0.05, weight_decay=0.1)
    together = trained(tiny_model, Adding(tiny_model, Site(1)), short, schedule)
    (alone,) = trained(tiny_model, Adding(tiny_model, Site(1)), short, schedule, [0])
    assert [pupil.step for pupil in together] == [4, 12, 12]
    torch.testing.assert_close(together[0].parameters[VECTOR], alone.parameters[VECTOR], rtol=1e-4, atol=1e-6)


def test_one_answer_is_learnt_by_heart(tiny_model: SubjectModel) -> None:
    text = stories(tiny_model).texts[0]
    single = TrainingSet([TrainingText(text.ids[: text.start + 5], text.start)], [ConceptExamples("one", (TrainingExample((0,)),))])
    (pupil,) = trained(tiny_model, Adding(tiny_model, Site(1)), single, Schedule(epochs=60, batch=1, lr=0.2, held_out=0.0))
    assert pupil.curve.losses[0] > 1
    assert pupil.curve.losses[-1] < 0.1


def test_the_curve_has_losses_of_pairs_that_are_not_trained_on(tiny_model: SubjectModel) -> None:
    training = stories(tiny_model)
    (pupil,) = trained(tiny_model, Adding(tiny_model, Site(2)), training, SCHEDULE, [0])
    curve, one = pupil.curve, training.concepts[0]
    trained_on, held_out = one.divided(0.25, 0)
    assert (curve.steps, curve.pairs, curve.held_out) == (21, len(trained_on), len(held_out)) == (21, 6, 2)
    assert {one.examples[place].kind for place in held_out} == {"even", "odd"}
    assert [step for step, _, _ in curve.points] == [0, *SCHEDULE.marks(21)]
    assert curve.points[0][1] is None
    assert curve.points[1][1] == pytest.approx(np.mean(curve.losses[:3]))
    texts = [training.texts[one.examples[place].texts[0]] for place in held_out]
    vector = pupil.parameters[VECTOR].detach()
    total = 0.0
    for text in texts:
        ids = torch.from_numpy(text.ids)[None]
        frozen = FrozenModel(tiny_model, [text], -1, 1)

        def hook(module: Any, arguments: Any, output: Any) -> Any:
            x = hidden_of(output)
            return with_hidden(output, torch.cat([x[:, :1], x[:, 1:] + vector], dim=1))

        handle = tiny_model.layers[2].register_forward_hook(hook)
        with torch.no_grad():
            total -= float(frozen.answers(frozen.batch_of([0])))
        handle.remove()
        assert ids.shape[1] > text.start
    assert curve.points[-1][2] == pytest.approx(total / sum(len(text.ids) - text.start for text in texts), rel=1e-5)


class Forgetful(Adding):
    """Does not fit into memory with more than so many rows, in the pass back as well."""

    def __init__(self, model: SubjectModel, rows: int) -> None:
        super().__init__(model, Site(2))
        self.rows = rows
        self.failed = 0

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[dict[str, Any]]:
        with super().worn(model, parameters, batch) as seen:
            yield seen
        if len(batch.tokens) > self.rows:
            self.failed += 1
            raise RuntimeError("out of memory")


def test_passes_are_halved_where_memory_runs_out(tiny_model: SubjectModel) -> None:
    training, schedule = stories(tiny_model), Schedule(epochs=2, batch=4, lr=0.05)
    usual = trained(tiny_model, Adding(tiny_model, Site(2)), training, schedule)
    learner = Forgetful(tiny_model, 2)
    halved = trained(tiny_model, learner, training, schedule)
    assert 0 < learner.failed < 6  # it learns, and does not try again each time
    assert all(largest_difference(a.curve, b.curve, 4) < 1e-5 for a, b in zip(usual, halved, strict=True))
    with pytest.raises(EngineError) as error:
        trained(tiny_model, Forgetful(tiny_model, 0), training, schedule)
    assert "\n" not in str(error.value)


def test_a_training_that_diverges_stops_and_keeps_the_last_good_state(tiny_model: SubjectModel) -> None:
    pupils = trained(tiny_model, Adding(tiny_model, Site(2)), stories(tiny_model), Schedule(epochs=7, batch=2, lr=100.0, decay="constant"))
    for pupil in pupils:
        assert pupil.curve.stopped == 3
        assert "mean training loss" in pupil.curve.reason
        assert pupil.curve.kept == pupil.curve.points[-1][0] == 0
        assert pupil.parameters[VECTOR].detach().norm().item() == pytest.approx(1)


def test_one_without_a_finite_loss_stops_and_disturbs_no_other(tiny_model: SubjectModel) -> None:
    training, schedule = stories(tiny_model), Schedule(epochs=7, batch=2, lr=0.05)
    usual = trained(tiny_model, Adding(tiny_model, Site(2)), training, schedule)
    pupils = trained(tiny_model, Breaking(tiny_model, Site(2), "concept 1"), training, schedule)
    assert [pupil.curve.stopped for pupil in pupils] == [None, 5, None]
    assert "not finite" in pupils[1].curve.reason
    assert pupils[1].curve.kept == 3
    assert len(pupils[1].curve.losses) == 5
    assert bool(pupils[1].parameters[VECTOR].isfinite().all())
    assert all(largest_difference(usual[place].curve, pupils[place].curve) < 1e-5 for place in (0, 2))


def test_gradients_are_those_of_finite_differences() -> None:
    model = double_model()
    check_gradients(model, Adding(model, Site(1), drop=0.3), stories(model, concepts=2, examples=4))


# --------------------------------------------------------------------------------------------------------------- sets and schedules


@given(
    epochs=st.integers(1, 30), batch=st.integers(1, 40), pairs=st.integers(1, 200), decay=st.sampled_from(["linear", "constant"])
)
@settings(max_examples=60)
def test_schedules(epochs: int, batch: int, pairs: int, decay: Any) -> None:
    schedule = Schedule(epochs=epochs, batch=batch, lr=0.1, decay=decay)
    steps = schedule.steps(pairs)
    one = ConceptExamples("c", tuple(TrainingExample((place,)) for place in range(pairs)))
    seen = [place for step in range(steps) for place in one.batch(range(pairs), schedule, 3, step)]
    assert np.array_equal(np.bincount(seen, minlength=pairs), np.full(pairs, epochs))
    marks = schedule.marks(steps)
    assert marks == sorted(set(marks))
    assert marks[-1] == steps
    assert marks[0] >= 1
    rates = [schedule.rate(step, steps) for step in range(steps)]
    assert rates[0] == 0.1
    assert all(0 < rate <= 0.1 for rate in rates)
    assert decay == "linear" or set(rates) == {0.1}


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=4), share=st.floats(0, 0.9))
@settings(max_examples=60)
def test_what_is_held_out_is_of_each_kind_and_never_all(sizes: list[int], share: float) -> None:
    one = ConceptExamples("c", tuple(TrainingExample((0,), f"kind {k}") for k, size in enumerate(sizes) for _ in range(size)))
    chosen, held = one.divided(share, 1)
    assert sorted([*chosen, *held]) == list(range(sum(sizes)))
    for k, size in enumerate(sizes):
        n = sum(one.examples[place].kind == f"kind {k}" for place in held)
        assert n < size
        assert n == 0 if share == 0 else (size == 1 or n >= 1)
    assert one.divided(share, 1) == (chosen, held)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"batch": 0}, {"lr": 0.0}, {"weight_decay": -1.0}, {"clip": 0.0}, {"held_out": 1.0}], ids=lambda one: next(iter(one))
)
def test_schedules_out_of_range_are_refused(change: Mapping[str, Any]) -> None:
    with pytest.raises(OptionError) as error:
        Schedule(**{"epochs": 1, "batch": 1, "lr": 1.0, **change})
    assert error.value.given == next(iter(change.values()))


def test_sets_that_cannot_be_trained_on_are_refused() -> None:
    with pytest.raises(DataError):
        ConceptExamples("c", ())
    with pytest.raises(DataError):
        ConceptExamples("c", (TrainingExample((0,)), TrainingExample((0, 1))))
    twice = ConceptExamples("c", (TrainingExample((0,)),))
    with pytest.raises(DataError):
        TrainingSet([], [twice, twice])
