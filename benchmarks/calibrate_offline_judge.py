"""Fits the offline judge's cut points and reports how it does on other concepts. Prints the tables of docs/offline-judge.md.

    python benchmarks/calibrate_offline_judge.py [--data ../shared/data] [--compare]

Reads AxBench's ten concepts (``axbench/concept10_2b_l10``: texts by construction with or without a concept) and
``benchmarks/offline_judge_rated.jsonl`` (288 texts of the embedded subject model on eight concepts, rated 0 to 2 by hand). Half of the
concepts of each serve the fit, the other half the report. ``--compare`` measures what else was tried, and other subject models.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from harness.lm.generation import GenerationRequest, generate
from harness.lm.model import SubjectModel, load_model
from harness.types import Decoding, JudgeItem, rng
from harness_plugins.judges.offline import OfflineJudge, OfflineOptions

RATED = Path(__file__).with_name("offline_judge_rated.jsonl")
NAMES = ("concept", "instruction", "fluency")
SHORT = 36
"""Words that about 48 tokens make: the length of the demo's replies."""
ALLOWED = 0.05
"""Share of AxBench texts that deserve a 0 by construction and may get more."""
Values = NDArray[np.float64]
Rate = Callable[[Sequence[JudgeItem]], dict[str, Values]]


@dataclass(frozen=True)
class Rated:
    """The hand-rated texts: items, ratings ``[n, 3]``, whether a text's concept serves the fit, and what was done to the model."""

    items: list[JudgeItem]
    grades: NDArray[np.int64]
    fit: NDArray[np.bool_]
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class AxBench:
    """AxBench's texts. ``carriers``, ``plain`` and ``hard`` hold (instruction, reply) by concept; ``shared`` the common negatives."""

    concepts: list[str]
    carriers: list[list[tuple[str, str]]]
    plain: list[list[tuple[str, str]]]
    hard: list[list[tuple[str, str]]]
    shared: list[tuple[str, str]]


def read_rated() -> Rated:
    rows = [json.loads(line) for line in RATED.read_text(encoding="utf-8").splitlines()]
    items = [JudgeItem(str(i), row["concept"], row["instruction"], row["text"]) for i, row in enumerate(rows)]
    half = set(sorted({row["concept"] for row in rows})[::2])
    return Rated(items, np.array([row["ratings"] for row in rows]), np.array([row["concept"] in half for row in rows]), rows)


def read_axbench(folder: Path) -> AxBench:
    train = pq.read_table(folder / "train_data.parquet").to_pylist()
    test = pq.read_table(folder / "latent_eval_data.parquet").to_pylist()
    concepts = [json.loads(line)["concept"] for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines() if line]

    def pairs(rows: Iterable[dict[str, Any]], concept: int, category: str) -> list[tuple[str, str]]:
        return [(row["input"], row["output"]) for row in rows if row["concept_id"] == concept and row["category"] == category]

    numbers = range(len(concepts))
    return AxBench(
        concepts,
        [pairs(train, c, "positive") + pairs(test, c, "positive") for c in numbers],
        [pairs(test, c, "negative") for c in numbers],
        [pairs(test, c, "hard negative") for c in numbers],
        pairs(train, -1, "negative"),
    )


def cut(text: str, words: int | None) -> str:
    return " ".join(text.split(" ")[:words])


def auc(positive: Values, negative: Values) -> float:
    labels = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(labels, np.r_[positive, negative])) if len(positive) and len(negative) else float("nan")


def grades_of(values: Values, cuts: tuple[float, float]) -> NDArray[np.int64]:
    return (values >= cuts[0]).astype(np.int64) + (values >= cuts[1])


def kappa(truth: NDArray[np.int64], given: NDArray[np.int64]) -> float:
    return float(cohen_kappa_score(truth, given, labels=[0, 1, 2], weights="quadratic"))


# ----------------------------------------------------------------------------------------------------------------- texts of AxBench


def concept_values(rate: Rate, bench: AxBench, chosen: Sequence[int], words: int | None) -> dict[str, Values]:
    """Concept cosines of the ``chosen`` concepts: with the texts that carry them, and with three kinds of texts that do not."""
    groups: dict[str, list[JudgeItem]] = {"carriers": [], "negatives": [], "hard negatives": [], "other concepts": []}
    for c in chosen:
        others = [pair for k in chosen if k != c for pair in bench.carriers[k]]
        for name, pairs in zip(groups, (bench.carriers[c], bench.plain[c], bench.hard[c], others), strict=True):
            groups[name] += [JudgeItem("", bench.concepts[c], asked, cut(reply, words)) for asked, reply in pairs]
    return {name: rate(items)["concept"] for name, items in groups.items()}


def instruction_values(rate: Rate, bench: AxBench, chosen: Sequence[int], words: int | None) -> dict[str, Values]:
    """Instruction cosines: replies with their own instruction and with another's; steered (carriers) and plain replies."""
    answers = {}
    for name, groups in (("steered", [bench.carriers[c] for c in chosen]), ("plain", [bench.plain[c] for c in chosen])):
        for group in groups:
            order = rng(0, "shuffle-instructions", f"{name}{group[0]}").permutation(len(group))
            own = [JudgeItem("", "anything", asked, cut(reply, words)) for asked, reply in group]
            wrong = [
                JudgeItem("", "anything", group[j][0], cut(group[i][1], words)) for i, j in enumerate(order) if group[j][0] != group[i][0]
            ]
            for kind, items in (("own", own), ("another", wrong)):
                answers.setdefault(f"{name}, {kind}", []).append(rate(items)["instruction"])
    return {name: np.concatenate(parts) for name, parts in answers.items()}


def damaged(text: str, kind: str, item: str, vocabulary: Sequence[str]) -> str:
    """``text`` as it is, or damaged in one of the ways of :data:`DAMAGES`."""
    words, draw = text.split(" "), rng(0, f"damage-{kind}", item)
    fifth = max(1, len(words) // 5)
    places = draw.choice(len(words), fifth, replace=False)
    if kind == "words shuffled":
        words = [words[i] for i in draw.permutation(len(words))]
    elif kind == "20 % of words replaced":
        for place in places:
            words[place] = vocabulary[draw.integers(len(vocabulary))]
    elif kind == "20 % of words dropped":
        words = [word for i, word in enumerate(words) if i not in set(places.tolist())]
    elif kind == "20 % of words with letters shuffled":
        for place in places:
            words[place] = "".join(draw.permutation(list(words[place])))
    elif kind == "neighbours swapped (20 % of words)":
        for place in places[::2]:
            words[place : place + 2] = words[place : place + 2][::-1]
    elif kind == "loop of 6 words":
        words = (words[:6] * SHORT)[:SHORT]
    elif kind == "loop of 12 words":
        words = (words[:12] * SHORT)[:SHORT]
    elif kind == "second half a loop of 4 words":
        words = (words[: SHORT // 2] + words[SHORT // 2 - 4 : SHORT // 2] * SHORT)[:SHORT]
    elif kind == "one word over and over":
        words = words[:12] + words[11:12] * 24
    elif kind.startswith("first "):
        words = words[: int(kind.split()[1])]
    return " ".join(words)


LOOPS = ("loop of 6 words", "loop of 12 words", "second half a loop of 4 words", "one word over and over")
DAMAGES = (
    "as it is",
    "first 16 words",
    "first 8 words",
    "first 4 words",
    "neighbours swapped (20 % of words)",
    "20 % of words dropped",
    "20 % of words replaced",
    "20 % of words with letters shuffled",
    "words shuffled",
    *LOOPS,
)


def fluency_texts(bench: AxBench, half: int) -> dict[str, list[JudgeItem]]:
    """AxBench's shared negatives (every second of them), cut to 36 words, damaged; and its positives, which a strong model wrote."""
    vocabulary = sorted({word for _, reply in bench.shared for word in reply.split()})
    texts = [cut(reply, SHORT) for _, reply in bench.shared if len(reply.split()) >= SHORT][half::2]
    groups = {
        kind: [JudgeItem("", "anything", "anything", damaged(t, kind, str(i), vocabulary)) for i, t in enumerate(texts)] for kind in DAMAGES
    }
    written = [cut(reply, SHORT) for c in range(half, len(bench.concepts), 2) for _, reply in bench.carriers[c][:20]]
    groups["written around a concept"] = [JudgeItem("", "anything", "anything", text) for text in written]
    return groups


# ------------------------------------------------------------------------------------------------------------------------------ fit


def best_cuts(values: Values, truth: NDArray[np.int64], zero: Values, step: float = 0.01) -> tuple[float, float]:
    """The cut points with the highest quadratically weighted kappa, at most :data:`ALLOWED` of ``zero`` above the lower; of ties the middle."""
    grid = np.round(np.arange(np.floor(values.min() / step) * step, values.max() + step, step), 2)
    lows = [low for low in grid if (zero >= low).mean() <= ALLOWED]
    found = {(float(low), float(high)): kappa(truth, grades_of(values, (low, high))) for low in lows for high in grid if high > low}
    top = sorted(cuts for cuts, value in found.items() if value >= max(found.values()) - 1e-9)
    return top[len(top) // 2]


def report_rated(name: str, values: Values, truth: NDArray[np.int64], cuts: tuple[float, float]) -> None:
    given = grades_of(values, cuts)
    table = np.array([[np.sum((truth == t) & (given == g)) for g in range(3)] for t in range(3)])
    print(
        f"  {name:<12} AUC ≥1 {auc(values[truth >= 1], values[truth < 1]):.3f}  AUC 2 {auc(values[truth == 2], values[truth < 2]):.3f}  "
        f"same grade {np.mean(truth == given):.2f}  off by two {np.mean(abs(truth - given) == 2):.2f}  kappa {kappa(truth, given):.2f}  "
        f"rated→judged {table.tolist()}"
    )


def shares(values: Values, cuts: tuple[float, float]) -> str:
    return " / ".join(f"{share:.2f}" for share in np.bincount(grades_of(values, cuts), minlength=3) / max(1, len(values)))


def fit_and_report(rate: Rate, bench: AxBench, rated: Rated) -> dict[str, tuple[float, float]]:
    halves = [range(0, len(bench.concepts), 2), range(1, len(bench.concepts), 2)]
    own = rate(rated.items)
    concept, instruction = ([f(rate, bench, half, SHORT) for half in halves] for f in (concept_values, instruction_values))
    fluency = [{kind: rate(items)["fluency"] for kind, items in fluency_texts(bench, half).items()} for half in (0, 1)]
    zero = {
        "concept": np.concatenate([concept[0]["negatives"], concept[0]["other concepts"]]),
        "instruction": np.concatenate([values for name, values in instruction[0].items() if name.endswith("another")]),
        "fluency": np.concatenate([fluency[0][kind] for kind in ("words shuffled", *LOOPS)]),
    }
    cuts = {name: best_cuts(own[name][rated.fit], rated.grades[rated.fit, i], zero[name]) for i, name in enumerate(NAMES)}
    print("cut points:", {name: [round(x, 2) for x in pair] for name, pair in cuts.items()})
    for title, chosen in (("fit", rated.fit), ("report", ~rated.fit)):
        print(f"hand-rated texts, concepts of the {title} ({chosen.sum()} texts; ratings 0/1/2 are the rows of the table)")
        for i, name in enumerate(NAMES):
            report_rated(name, own[name][chosen], rated.grades[chosen, i], cuts[name])
    for words in (SHORT, None):
        print(f"AxBench, concepts of the report, {f'{words} words' if words else 'whole texts'}: AUC; shares of grades 0 / 1 / 2")
        found = concept_values(rate, bench, halves[1], words)
        for name, values in found.items():
            print(f"  concept      {name:<18} {auc(found['carriers'], values):.3f}  {shares(values, cuts['concept'])}")
        pairs = instruction_values(rate, bench, halves[1], words)
        for name, values in pairs.items():
            print(
                f"  instruction  {name:<18} {auc(pairs[name.split(',')[0] + ', own'], values):.3f}  {shares(values, cuts['instruction'])}"
            )
    print("AxBench's texts at 36 words, other texts than in the fit, damaged: AUC against as it is; shares of fluency 0 / 1 / 2")
    for kind, values in fluency[1].items():
        print(f"  {kind:<36} {auc(fluency[1]['as it is'], values):.3f}  {shares(values, cuts['fluency'])}")
    print("hand-rated texts by what was done to the model: mean judged / rated, concept, instruction, fluency")
    keys = [(row["method"], row["strength"], row["decoding"].split(",")[0]) for row in rated.rows]
    for key in sorted(set(keys), key=str):
        mine = np.array([k == key for k in keys])
        pairs_ = [f"{grades_of(own[n][mine], cuts[n]).mean():.2f} / {rated.grades[mine, i].mean():.2f}" for i, n in enumerate(NAMES)]
        print(f"  {key[0]:<10} {key[1]:<5} {key[2]:<16} {'   '.join(pairs_)}  ({mine.sum()})")
    return cuts


# ------------------------------------------------------------------------------------------------------------- other things to know


def report_decodings(rate: Rate, model: SubjectModel, rated: Rated, cuts: tuple[float, float]) -> None:
    print("the unsteered model's own replies: mean log-probability; shares of fluency 0 / 1 / 2")
    instructions = sorted({item.instruction for item in rated.items})
    for temperature, penalty in ((0.0, 1.0), (0.0, 1.2), (0.5, 1.2), (0.7, 1.2), (1.0, 1.0), (1.0, 1.2)):
        decoding = Decoding(max_new_tokens=40, temperature=temperature, repetition_penalty=penalty, penalty_scope="generated")
        requests = [GenerationRequest(text, model.prompt(text), 0) for text in instructions for _ in range(1)]
        items = [JudgeItem("", "anything", done.id, done.text) for done in generate(model, requests, decoding)]
        found = rate(items)
        print(f"  temperature {temperature}, penalty {penalty}: {found['log_probability'].mean():.2f}  {shares(found['fluency'], cuts)}")


CASES = (
    (
        "chess and board games",
        "How do I boil an egg?",
        "Put the egg into boiling water and take it out after seven minutes.",
        "off topic, answers",
    ),
    (
        "chess and board games",
        "How do I boil an egg?",
        "chess board games chess pawn rook bishop knight queen king checkmate",
        "keywords stuffed",
    ),
    ("chess and board games", "How do I boil an egg?", "Chess and board games.", "the concept's name alone"),
    ("chess and board games", "How do I boil an egg?", "Chess and board games. " * 8, "the concept's name, looped"),
    ("chess and board games", "How do I boil an egg?", "This text has nothing to do with chess or with any other board game.", "negation"),
    ("chess and board games", "How do I boil an egg?", "How do I boil an egg?", "the instruction repeated"),
    (
        "chess and board games",
        "How do I boil an egg?",
        "Never put the egg into boiling water, and take it out after seven minutes of not boiling it.",
        "the opposite of an answer",
    ),
    (
        "chess and board games",
        "How do I boil an egg?",
        "Put the egg into boiling water, as calmly as you move a pawn at chess, and take it out after seven minutes.",
        "answers, concept in passing",
    ),
    (
        "chess and board games",
        "How do I boil an egg?",
        "Setzen Sie das Ei in kochendes Wasser und nehmen Sie es nach sieben Minuten heraus.",
        "answers, in German",
    ),
    ("the ocean and sea creatures", "Who wrote Moby-Dick?", "Herman Melville.", "two words, right answer"),
    (
        "banks of rivers",
        "Where do I put my money?",
        "The bank raised its interest rates, so open an account there.",
        "other sense of the word",
    ),
)


def report_cases(rate: Rate, judge: OfflineJudge) -> None:
    print("single cases: cosines and fluency; grades")
    items = [JudgeItem(str(i), concept, instruction, text) for i, (concept, instruction, text, _) in enumerate(CASES)]
    found, ratings = rate(items), {rating.item_id: rating for rating in judge.submit(items)}
    for i, case in enumerate(CASES):
        numbers = "  ".join(f"{found[name][i]:.2f}" for name in NAMES)
        rating = ratings[str(i)]
        print(f"  {case[3]:<28} {numbers}   {rating.concept:.0f} {rating.instruction:.0f} {rating.fluency:.0f}")


def report_speed(judge: OfflineJudge, rated: Rated) -> None:
    items = [JudgeItem(f"{item.id}-{k}", item.concept, item.instruction, f"{item.text} {k}") for item in rated.items for k in range(4)]
    started = time.perf_counter()
    done = len(list(judge.submit(items[:1024])))
    print(f"speed: {done / (time.perf_counter() - started):.0f} texts a second")


def compare(
    rate: Rate, judge: OfflineJudge, model: SubjectModel, bench: AxBench, rated: Rated, cuts: dict[str, tuple[float, float]]
) -> None:
    """What else was tried: all concepts, since nothing is fitted here."""
    print("concept by other measures: AUC on AxBench at 36 words (negatives, hard negatives, other concepts); hand-rated ≥1, 2")
    everything = range(len(bench.concepts))
    embedder, meter = judge._ready()

    def variant(measure: Callable[[str, str], float]) -> Rate:
        known: dict[tuple[str, str], float] = {}

        def rate_with(items: Sequence[JudgeItem]) -> dict[str, Values]:
            for item in items:
                if (item.concept, item.text) not in known:
                    known[item.concept, item.text] = measure(item.concept, item.text)
            return {"concept": np.array([known[item.concept, item.text] for item in items])}

        return rate_with

    stored: dict[str, Any] = {}

    def pieces(text: str) -> Any:
        if text not in stored:
            stored[text] = embedder.pieces([text])[0]
        return stored[text]

    def sentences(text: str) -> list[str]:
        return [s for s in re.split(r"(?<=[.!?])\s+|\n+", text) if s.strip()] + [text]

    variants: dict[str, Callable[[str, str], float]] = {
        "whole text": lambda c, t: float(pieces(t).whole() @ pieces(c).whole()),
        "sentences, embedded one by one": lambda c, t: max(float(pieces(s).whole() @ pieces(c).whole()) for s in sentences(t)),
        **{f"runs of {w}": (lambda c, t, w=w: float((pieces(t).windows(w) @ pieces(c).whole()).max())) for w in (3, 6, 12)},
        "runs of 6, 'This text is about …'": lambda c, t: float((pieces(t).windows(6) @ pieces(f"This text is about {c}.").whole()).max()),
    }
    for name, measure in variants.items():
        alternative = variant(measure)
        found = concept_values(alternative, bench, everything, SHORT)
        own, truth = alternative(rated.items)["concept"], rated.grades[:, 0]
        numbers = [auc(found["carriers"], found[kind]) for kind in ("negatives", "hard negatives", "other concepts")]
        numbers += [auc(own[truth >= 1], own[truth < 1]), auc(own[truth == 2], own[truth < 2])]
        print(f"  {name:<34}", "  ".join(f"{number:.3f}" for number in numbers))
    print(
        "fluency under other subject models with the same cut points: references, shuffled (nats); AUC ≥1, AUC 2, kappa; kappa of raw cuts"
    )
    truth = rated.grades[:, 2]
    base = rate(rated.items)
    raw_cuts = best_cuts(base["log_probability"] - 6 * base["repeated"], truth, np.zeros(1) - 99)
    for name, other in {"as it is": model, **degraded(model)}.items():
        judge.prepare(SimpleNamespace(model=other))  # type: ignore[arg-type]
        meter = judge._ready()[1]
        found = measured(judge)(rated.items)
        values, raw = found["fluency"], found["log_probability"] - 6 * found["repeated"]
        print(
            f"  {name:<22} {meter.fluent:.2f} {meter.shuffled:.2f}  {auc(values[truth >= 1], values[truth < 1]):.3f} "
            f"{auc(values[truth == 2], values[truth < 2]):.3f}  {kappa(truth, grades_of(values, cuts['fluency'])):.2f}  "
            f"{kappa(truth, grades_of(raw, raw_cuts)):.2f}"
        )


def degraded(model: SubjectModel) -> dict[str, SubjectModel]:
    """Worse models of the same kind: noise on the weights, and layers left out."""
    import torch

    noisy = copy.deepcopy(model.hf)
    generator = torch.Generator().manual_seed(0)
    for name, weight in noisy.named_parameters():
        if weight.dim() == 2 and "embed" not in name:
            noise = torch.randn(weight.shape, generator=generator) * weight.float().std().cpu() * 0.1
            weight.data += noise.to(weight.device, weight.dtype)
    shorter = copy.deepcopy(model.hf)
    del shorter.model.layers[12:16]
    return {
        "10 % noise": SubjectModel(noisy, model.tokenizer, name="noisy"),
        "layers 12–15 left out": SubjectModel(shorter, model.tokenizer, name="shorter"),
    }


def measured(judge: OfflineJudge) -> Rate:
    """The judge's measurements as arrays, a key each."""

    def rate(items: Sequence[JudgeItem]) -> dict[str, Values]:
        found = judge.measure(list(items))
        return {key: np.array([values[key] for values in found]) for key in (found[0] if found else NAMES)}

    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds axbench/concept10_2b_l10")
    parser.add_argument("--compare", action="store_true", help="also measure what else was tried (slow)")
    arguments = parser.parse_args()
    model = load_model("smollm2-135m-instruct")
    judge = OfflineJudge(OfflineOptions())
    judge.prepare(SimpleNamespace(model=model))  # type: ignore[arg-type]
    bench, rated, rate = read_axbench(arguments.data / "axbench" / "concept10_2b_l10"), read_rated(), measured(judge)
    cuts = fit_and_report(rate, bench, rated)
    report_decodings(rate, model, rated, cuts["fluency"])
    report_cases(rate, judge)
    report_speed(judge, rated)
    if arguments.compare:
        compare(rate, judge, model, bench, rated, cuts)


if __name__ == "__main__":
    main()
