"""Measures the offline judge as it is shipped: the figures of docs/offline-judge.md. Nothing is fitted here.

    python benchmarks/report_offline_judge.py [--data ../shared/data]

Prints how many obvious ratings it gets right (the self-test, and fresh texts whose writer knew nothing of the judge), how far it agrees with
GPT-4o-mini's ratings on features and instructions that were not fitted on, single cases, damaged texts, other subject models, and its speed.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from calibrate_offline_judge import graded, kappa, table, truth
from harness_plugins.judges.offline import OfflineJudge, OfflineOptions
from offline_judge_data import DAMAGES, FRESH, NAMES, Example, axbench, damaged, held_out, jsonl, rated

from harness.engine.base import GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.judging import selftest
from harness.model.loading import SubjectModel, load_model
from harness.types import Decoding, JudgeItem, Rating, rng


def prepared(model: SubjectModel) -> OfflineJudge:
    judge = OfflineJudge(OfflineOptions())
    judge.prepare(SimpleNamespace(model=model))  # type: ignore[arg-type]
    return judge


def rate(judge: OfflineJudge, items: Sequence[JudgeItem]) -> list[Rating]:
    answers = {rating.item_id: rating for rating in judge.submit(items)}
    return [answers[item.id] for item in items]


def items_of(examples: Sequence[Example]) -> list[JudgeItem]:
    return [JudgeItem(str(i), e.concept, e.instruction, e.text) for i, e in enumerate(examples)]


def report_obvious(judge: OfflineJudge) -> None:
    """The self-test, and the fresh texts in the same form."""
    fresh = [
        selftest.Case(
            JudgeItem(row["id"], row["concept"], row["instruction"], row["text"]), {name: row[f"{name}_rating"] for name in NAMES}
        )
        for row in (jsonl(FRESH) if FRESH.exists() else [])
    ]
    for title, cases in (("self-test", selftest.cases()), ("fresh texts", fresh)):
        if not cases:
            continue
        result = selftest.tally(judge.traits.rubric, cases, rate(judge, [case.item for case in cases]))
        each = ", ".join(f"{name} {result.accuracy[name]:.0%}" for name in NAMES)
        print(f"{title}: {len(cases)} texts, {result.overall:.0%} of the obvious ratings right ({each})")
        for name in NAMES:
            pairs = [
                (grade, given) for grade, row in enumerate(result.confusion[name]) for given, count in enumerate(row) for _ in range(count)
            ]
            agreement = kappa(np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], float))
            print(f"  {name:<12} kappa {agreement:.2f}  {[list(row[:3]) for row in result.confusion[name]]}")


def report_real(judge: OfflineJudge, data: Path) -> None:
    print("GPT-4o-mini's ratings of features and instructions that were not fitted on (rows of a table: its ratings 0, 1, 2)")
    examples = held_out(data)
    found = judge.measure(items_of(examples))
    for aspect, name in list(enumerate(NAMES))[1:]:
        table(examples, np.array([values[name] for values in found]), aspect, cuts(judge, name))
    for aspect, name in list(enumerate(NAMES))[1:]:
        grades, known = truth(examples, aspect)
        given = graded(np.array([values[name] for values in found]), cuts(judge, name))
        steps = np.array([float(e.kind) for e in examples])
        means = [
            f"{step:g}: {given[known & (steps == step)].mean():.2f} / {grades[known & (steps == step)].mean():.2f}"
            for step in sorted(set(steps))
        ]
        print(f"  {name}, mean judged / rated by steering factor: {'; '.join(means)}")


def cuts(judge: OfflineJudge, name: str) -> tuple[float, float]:
    return getattr(judge.options, f"{name}_partial"), getattr(judge.options, f"{name}_full")


EGG = ("chess and board games", "How do I boil an egg?")
CASES = (
    ("answers, off topic", *EGG, "Put the egg into boiling water and take it out after seven minutes."),
    (
        "answers, concept in one clause",
        *EGG,
        "Put the egg into boiling water, as calmly as you move a pawn at chess, and wait seven minutes.",
    ),
    ("keywords strung together", *EGG, "chess board games chess pawn rook bishop knight queen king checkmate"),
    ("the concept's name alone", *EGG, "Chess and board games."),
    ("the same eight times", *EGG, "Chess and board games. " * 8),
    ("negation", *EGG, "This text has nothing to do with chess or with any other board game."),
    ("the instruction repeated", *EGG, "How do I boil an egg?"),
    ("the instruction, then an answer", *EGG, "how do i boil an egg? Put the egg into boiling water and take it out after seven minutes."),
    ("the opposite of an answer", *EGG, "Never put the egg into boiling water, and take it out before it has any time to boil."),
    (
        "on the subject, no answer",
        *EGG,
        "Eggs are popular all over the world, and many people like to boil them. There are different opinions about it.",
    ),
    ("answers, in German", *EGG, "Setzen Sie das Ei in kochendes Wasser und nehmen Sie es nach sieben Minuten heraus."),
    ("two words, right answer", "the ocean and sea creatures", "Who wrote Moby-Dick?", "Herman Melville."),
    ("two words, wrong answer", "the ocean and sea creatures", "Who wrote Moby-Dick?", "Jane Austen."),
    ("evoked, not named", "pirates and treasure", "Tell me a story.", "The captain buried the stolen gold and drew a map for his crew."),
    ("other sense of the word", "banks of rivers", "Where do I put my money?", "The bank raised its rates, so open an account there."),
)


def report_cases(judge: OfflineJudge) -> None:
    print("single cases: expected ratings; grades")
    items = [JudgeItem(str(i), concept, instruction, text) for i, (_, concept, instruction, text) in enumerate(CASES)]
    for values, rating, case in zip(judge.measure(items), rate(judge, items), CASES, strict=True):
        numbers = "  ".join(f"{values[name]:.2f}" for name in NAMES)
        print(f"  {case[0]:<32} {numbers}   {rating.concept:.0f} {rating.instruction:.0f} {rating.fluency:.0f}")


def shares(judge: OfflineJudge, texts: Sequence[str]) -> str:
    items = [JudgeItem(str(i), "everyday life", "Tell me something.", text) for i, text in enumerate(texts)]
    given = graded(np.array([values["fluency"] for values in judge.measure(items)]), cuts(judge, "fluency"))
    return " / ".join(f"{share:.2f}" for share in np.bincount(given, minlength=3) / max(1, len(given)))


def report_damaged(judge: OfflineJudge, data: Path) -> None:
    """Texts of AxBench, which were partly fitted on: damaged in ways and by draws that were not."""
    print("AxBench's texts at 36 words: shares of fluency 0 / 1 / 2")
    texts = [" ".join(e.text.split()[:36]) for e in axbench(data) if e.kind in ("carriers", "plain") and len(e.text.split()) >= 36][::2]
    vocabulary = sorted({word for text in texts for word in text.split()})
    print(f"  {'as it is':<28} {shares(judge, texts)}")
    for kind in DAMAGES:
        broken = [damaged(text.split(), kind, rng(0, "offline-judge-report", f"{kind}{i}"), vocabulary) for i, text in enumerate(texts)]
        print(f"  {kind:<28} {shares(judge, broken)}")


def report_decodings(judge: OfflineJudge, model: SubjectModel) -> None:
    print("the unsteered model's own replies, 40 tokens: shares of fluency 0 / 1 / 2")
    instructions = sorted({e.instruction for e in rated()})[:12]
    for temperature, penalty in ((0.0, 1.0), (0.0, 1.2), (0.7, 1.2), (1.0, 1.0)):
        decoding = Decoding(max_new_tokens=40, temperature=temperature, repetition_penalty=penalty, penalty_scope="generated")
        requests = [GenerationRequest(text, model.prompt(text), 0) for text in instructions]
        print(
            f"  temperature {temperature}, penalty {penalty}: {shares(judge, [done.text for done in TorchEngine(model).run(requests, decoding)])}"
        )


def report_models(model: SubjectModel, data: Path) -> None:
    """A worse model of the same kind (noise on its weights) and a tiny one: how far the grades carry over."""
    noisy = copy.deepcopy(model.hf)
    generator = torch.Generator().manual_seed(0)
    for name, weight in noisy.named_parameters():
        if weight.dim() == 2 and "embed" not in name:
            noise = torch.randn(weight.shape, generator=generator) * weight.float().std().cpu() * 0.1
            weight.data += noise.to(weight.device, weight.dtype)
    others = {
        "10 % noise": SubjectModel(noisy, model.tokenizer, name="noisy"),
        "stories260K": load_model(data / "lm" / "stories260K", dtype="float32"),
    }
    examples = held_out(data)[::3]
    for title, other in others.items():
        judge = prepared(other)
        found = judge.measure(items_of(examples))
        print(
            f"subject model: {title} ({judge.instruments().meter.fluent:.2f} and {judge.instruments().meter.shuffled:.2f} nats per token)"
        )
        for aspect, name in list(enumerate(NAMES))[1:]:
            table(examples, np.array([values[name] for values in found]), aspect, cuts(judge, name))


def report_speed(judge: OfflineJudge) -> None:
    items = [JudgeItem(f"{i}", e.concept, e.instruction, f"{e.text} again") for i, e in enumerate(rated()[:192])]
    started, used = time.perf_counter(), time.process_time()
    list(judge.submit(items))
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    print(f"speed: {1000 * wall / len(items):.0f} ms per text, {1000 * cpu / len(items):.0f} ms of processor time")


PARTS = ("obvious", "real", "cases", "damaged", "decodings", "models", "speed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds axbench and judge_completions")
    parser.add_argument("--only", choices=PARTS, action="append", help="print only this part (may be repeated)")
    arguments = parser.parse_args()
    model = load_model("smollm2-135m-instruct")
    judge = prepared(model)
    chosen = Counter(arguments.only or PARTS)
    if chosen["obvious"]:
        report_obvious(judge)
    if chosen["real"]:
        report_real(judge, arguments.data)
    if chosen["cases"]:
        report_cases(judge)
    if chosen["damaged"]:
        report_damaged(judge, arguments.data)
    if chosen["decodings"]:
        report_decodings(judge, model)
    if chosen["models"]:
        report_models(model, arguments.data)
    if chosen["speed"]:
        report_speed(judge)


if __name__ == "__main__":
    main()
