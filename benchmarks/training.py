"""Time of training all concepts at once against a plain loop that trains them one by one, with the share of the machine's matrix rate.

    python benchmarks/training.py [--case reft-r1] [--model NAME_OR_FOLDER] [--layer 15] [--concepts 8] [--pairs 6] [--epochs 3] [--batch 6]
        [--repeats 5] [--threads N] [--device D] [--dtype T]

Both sides train a vector (lora: adapters) for each concept by the loss of the answers' tokens, with the same examples, steps and optimiser; the
losses of the first concept are compared. The plain loop is transformers' model with one hook (lora: with peft), one concept after the other; it takes
each step's examples in passes of as many rows as is fastest for it, which is measured first. Ours reads the texts (layers below the edit) once, and
that time counts. The two run in turn; the ratio of the medians is printed (the aim is at least 1.5 on a CPU, 5 on a GPU; of lora 1 and 3). The
matrix rate is that of a product of the model's own shape and dtype; what counts as work of ours is every product of weights in its forward and
backward passes, padding left out.

A further case goes into ``CASES``: what is trained, and how a plain loop does it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from harness_plugins.methods.reft_r1 import ReftLearner
from harness_plugins.methods.ssv import SsvLearner
from peft import LoraConfig, LoraModel

from harness.fitting.adapting import A, B, LoraLearner
from harness.fitting.frozen import FrozenModel
from harness.fitting.layers import attention_outputs, usual_layers
from harness.fitting.learner import Learner
from harness.fitting.schedule import Schedule
from harness.fitting.training import Training
from harness.fitting.training_set import ConceptExamples, TrainingExample, TrainingSet, TrainingText
from harness.interventions import Site
from harness.model import SubjectModel, load_model
from harness.model.loading import hidden_of, with_hidden
from harness.model.memory import TokenBudget
from harness.types import rng

PROMPT, ANSWER = (16, 40), (24, 88)
"""Tokens of an instruction and of an answer, as AxBench's training rows have them."""


@dataclass(frozen=True)
class Case:
    """One kind of training.

    Attributes:
        learner: ours.
        begin: the parameters of one concept in the plain loop.
        worn: the context in which the plain loop's model computes with these; its value is called for the penalty of a pass.
        settle: puts the parameters right after a step.
        end: takes what the plain loop has put into the model out of it.
    """

    learner: Learner
    begin: Callable[[str], list[torch.nn.Parameter]]
    worn: Callable[[list[torch.nn.Parameter], torch.Tensor, float], Any]
    settle: Callable[[list[torch.nn.Parameter]], None]
    end: Callable[[], None] = lambda: None


def vector_of(model: SubjectModel, concept: str) -> list[torch.nn.Parameter]:
    """The same first vector as ours."""
    direction = rng(0, "parameters to train", concept).standard_normal(model.d_model)
    return [torch.nn.Parameter(torch.from_numpy(direction / np.linalg.norm(direction)).float().to(model.device))]


@contextmanager
def hooked(model: SubjectModel, layer: int, edit: Callable[[torch.Tensor], torch.Tensor], counted: torch.Tensor) -> Iterator[None]:
    def hook(module: Any, arguments: Any, output: Any) -> Any:
        x = hidden_of(output)
        return with_hidden(output, torch.where(counted[..., None], edit(x.float()).to(x.dtype), x))

    handle = model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def ssv(model: SubjectModel, layer: int) -> Case:
    @contextmanager
    def worn(parameters: list[torch.nn.Parameter], counted: torch.Tensor, ramp: float) -> Iterator[Callable[[], Any]]:
        with hooked(model, layer, lambda x: x + parameters[0], counted):
            yield lambda: 0.0

    return Case(SsvLearner(model, Site(layer)), lambda concept: vector_of(model, concept), worn, lambda parameters: None)


def reft_r1(model: SubjectModel, layer: int, topk: int = 8, l1: float = 0.005) -> Case:
    @contextmanager
    def worn(parameters: list[torch.nn.Parameter], counted: torch.Tensor, ramp: float) -> Iterator[Callable[[], Any]]:
        seen: list[torch.Tensor] = []

        def edit(x: torch.Tensor) -> torch.Tensor:
            w = parameters[0] / parameters[0].norm()
            latents = (x @ w).relu() * counted
            largest = latents.topk(topk, dim=1).values.sum(dim=1)
            seen.append(((latents.sum(dim=1) - largest) / counted.sum(dim=1)).sum())
            return x + (largest / topk)[:, None, None] * w

        with hooked(model, layer, edit, counted):
            yield lambda: l1 * ramp * seen[-1]

    def settle(parameters: list[torch.nn.Parameter]) -> None:
        parameters[0].data /= parameters[0].data.norm()

    return Case(ReftLearner(model, Site(layer), topk, l1), lambda concept: vector_of(model, concept), worn, settle)


def lora(model: SubjectModel, layer: int) -> Case:
    """AxBench's adapters of attention's output at four layers, without dropout; the plain loop wears peft's, which begin as ours."""
    learner = LoraLearner(model, attention_outputs(model, usual_layers(model)), 4, 32.0, True, 0.0)
    config = LoraConfig(r=4, lora_alpha=32, use_rslora=True, target_modules=sorted(learner.modules.values()), bias="none")
    peft: list[Any] = []

    def begin(concept: str) -> list[torch.nn.Parameter]:
        drop()
        peft.append(LoraModel(model.hf, config, "default"))
        first = learner.start(concept, rng(0, "parameters to train", concept))
        for at, name in learner.modules.items():
            module = model.hf.get_submodule(name)
            for part, weights in ((A, module.lora_A), (B, module.lora_B)):
                weights["default"].weight = torch.nn.Parameter(first[f"{part}{at}"].to(model.device))
        return [parameter for parameter in model.hf.parameters() if parameter.requires_grad]

    def drop() -> None:
        if peft:
            peft.pop().unload()

    @contextmanager
    def worn(parameters: list[torch.nn.Parameter], counted: torch.Tensor, ramp: float) -> Iterator[Callable[[], Any]]:
        yield lambda: 0.0

    return Case(learner, begin, worn, lambda parameters: None, drop)


CASES: dict[str, Callable[[SubjectModel, int], Case]] = {"lora": lora, "reft-r1": reft_r1, "ssv": ssv}


def make_set(model: SubjectModel, concepts: int, pairs: int) -> TrainingSet:
    """Random tokens: the time does not depend on what they say."""
    draw, texts, sets = rng(0, "benchmark"), [], []
    for concept in range(concepts):
        chosen = []
        for _ in range(pairs):
            start, answer = (int(draw.integers(*ends)) for ends in (PROMPT, ANSWER))
            texts.append(TrainingText(draw.integers(3, model.vocab_size, start + answer), start))
            chosen.append(TrainingExample((len(texts) - 1,)))
        sets.append(ConceptExamples(f"concept {concept}", tuple(chosen)))
    return TrainingSet(texts, sets)


def ours(model: SubjectModel, case: Case, training: TrainingSet, schedule: Schedule) -> list[float]:
    """Train all concepts at once; the first one's losses."""
    budget = TokenBudget.usual(model.device)
    frozen = FrozenModel(model, training.texts, case.learner.after, 1)
    frozen.read(range(len(training.texts)), budget)
    run = Training(frozen, case.learner, training.concepts, schedule, 0, budget)
    run.run(lambda done, steps, losses: None)
    return run.pupils[0].curve.losses


def plain(model: SubjectModel, case: Case, training: TrainingSet, schedule: Schedule, rows: int, concepts: int | None = None) -> list[float]:
    """Train one concept after the other, with passes of so many rows; the first one's losses."""
    first: list[float] = []
    for one in training.concepts[:concepts]:
        parameters = case.begin(one.concept)
        optimiser = torch.optim.AdamW(parameters, lr=schedule.lr)
        chosen = list(range(len(one.examples)))
        steps = schedule.steps(len(chosen))
        for step in range(steps):
            texts = [training.texts[one.examples[place].texts[0]] for place in one.batch(chosen, schedule, 0, step)]
            tokens = sum(len(text.ids) - text.start for text in texts)
            total = 0.0
            for start in range(0, len(texts), rows):
                part = texts[start : start + rows]
                longest = max(len(text.ids) for text in part)
                ids = torch.full((len(part), longest), model.pad_id)
                labels, real = torch.full_like(ids, -100), torch.zeros_like(ids)
                for row, text in enumerate(part):
                    n = len(text.ids)
                    ids[row, :n], real[row, :n] = torch.from_numpy(text.ids), 1
                    labels[row, text.start : n] = torch.from_numpy(text.ids[text.start :])
                ids, labels, real = (tensor.to(model.device) for tensor in (ids, labels, real))
                counted = real.bool().clone()
                counted[:, 0] = False
                with case.worn(parameters, counted, step / steps) as penalty:
                    loss = model.hf(input_ids=ids, attention_mask=real, labels=labels, use_cache=False).loss
                loss = loss.float() * ((labels >= 0).sum() / tokens)
                (loss + penalty()).backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(parameters, schedule.clip or float("inf"))
            for group in optimiser.param_groups:
                group["lr"] = schedule.rate(step, steps)
            optimiser.step()
            optimiser.zero_grad()
            case.settle(parameters)
            if one is training.concepts[0]:
                first.append(total)
    case.end()
    return first


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def matrix_rate(model: SubjectModel, tokens: int, clock: Callable[[Callable[[], object], torch.device], float] = seconds) -> float:
    """Multiplications and additions a second of a product of tokens with a matrix of the model's widest layer, the best of seven."""
    wide = max(weight.shape[0] for weight in model.layers[0].parameters() if weight.dim() == 2)
    x, w = (torch.randn(shape, device=model.device, dtype=model.dtype) for shape in ((tokens, model.d_model), (model.d_model, wide)))
    times = 20
    best = min(clock(lambda: [x @ w for _ in range(times)], model.device) for _ in range(7))
    return 2 * times * tokens * model.d_model * wide / best


def operations(model: SubjectModel, case: Case, training: TrainingSet, schedule: Schedule) -> float:
    """Multiplications and additions of our products with weights: layers below once, those above and the logits there and back in each epoch."""
    weights = [sum(weight.numel() for weight in layer.parameters() if weight.dim() == 2) for layer in model.layers]
    below, above = sum(weights[: case.learner.after + 1]), sum(weights[case.learner.after + 1 :])
    tokens = sum(len(text.ids) for text in training.texts)
    answers = sum(len(text.ids) - text.start for text in training.texts)
    return 2.0 * tokens * below + schedule.epochs * 4.0 * (tokens * above + answers * model.d_model * model.vocab_size)


def compared(found: Sequence[float], expected: Sequence[float]) -> float:
    return max(abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--case", choices=sorted(CASES), default="reft-r1")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--layer", type=int, help="whose output is edited (half way up)")
    parser.add_argument("--concepts", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=6, help="examples of a concept")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=6, help="examples of a concept in a step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model = load_model(args.model, device=args.device, dtype=args.dtype)
    layer = model.n_layers // 2 if args.layer is None else args.layer
    case = CASES[args.case](model, layer)
    training = make_set(model, args.concepts, args.pairs)
    schedule = Schedule(args.epochs, args.batch, 0.01, clip=1.0, held_out=0.0)
    widths = sorted({n for n in (1, 2, 3, 6, 12, args.batch) if n <= args.batch})
    tried = {rows: seconds(lambda rows=rows: plain(model, case, training, schedule, rows, 1), model.device) for rows in [widths[0], *widths]}  # type: ignore[misc]
    rows = min(tried, key=lambda rows: tried[rows])
    ours(model, case, training, schedule)  # warm up
    losses: dict[str, list[float]] = {}

    def first() -> None:
        losses["ours"] = ours(model, case, training, schedule)

    def second() -> None:
        losses["plain"] = plain(model, case, training, schedule, rows)

    times = [(seconds(first, model.device), seconds(second, model.device)) for _ in range(args.repeats)]
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    work, rate = operations(model, case, training, schedule), matrix_rate(model, TokenBudget.usual(model.device).size)
    print(f"{model!r}, {torch.get_num_threads()} threads, median of {args.repeats}")
    print(f"{args.case} at layer {layer}: {args.concepts} concepts, {args.pairs} examples, {args.epochs} epochs, batches of {args.batch}")
    print(f"plain loop, one by one: {medians[1]:.2f} s, passes of {rows} rows")
    print(f"all at once: {medians[0]:.2f} s, ratio {medians[1] / medians[0]:.2f}; losses differ by {compared(losses['ours'], losses['plain']):.1e}")
    print(f"all at once: {work / medians[0] / 1e9:.0f} of the machine's {rate / 1e9:.0f} billion operations a second, {work / medians[0] / rate:.0%}")


if __name__ == "__main__":
    main()
