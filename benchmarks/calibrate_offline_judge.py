"""Fits the offline judge's cut points and reports how it does on other concepts. Prints the tables of docs/offline-judge.md.

    python benchmarks/calibrate_offline_judge.py [--data ../shared/data]

Reads AxBench's ten concepts (``axbench/concept10_2b_l10``: texts by construction with or without a concept) and
``benchmarks/offline_judge_rated.jsonl`` (288 texts of the embedded subject model on eight concepts, rated 0 to 2 one by one). Half of the
concepts of each serve the fit, the other half the report.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from harness_plugins.judges.offline import OfflineJudge, OfflineOptions
from harness_plugins.judges.offline.embedding import Embedder, Pieces, presence, relatedness
from harness_plugins.judges.offline.fluency import FluencyMeter
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from harness.engine.base import GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.model.loading import SubjectModel, load_model
from harness.types import Decoding, JudgeItem, rng

RATED = Path(__file__).with_name("offline_judge_rated.jsonl")
NAMES = ("concept", "instruction", "fluency")
SHORT = 36
"""Words that about 48 tokens make: the length of the demo's replies."""
ALLOWED = 0.05
"""Share of AxBench texts that deserve a 0 by construction and may get more."""
Values = NDArray[np.float64]
Grades = NDArray[np.int64]
Cuts = tuple[float, float]
Measure = Callable[[str, str], float]
"""(concept or instruction, text) -> cosine."""


@dataclass(frozen=True)
class Rated:
    """The hand-rated texts: items, ratings ``[n, 3]``, whether a text's concept serves the fit, and what was done to the model."""

    items: list[JudgeItem]
    grades: Grades
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


def grades_of(values: Values, cuts: Cuts) -> Grades:
    return (values >= cuts[0]).astype(np.int64) + (values >= cuts[1])


def kappa(truth: Grades, given: Grades) -> float:
    return float(cohen_kappa_score(truth, given, labels=[0, 1, 2], weights="quadratic"))


class Bank:
    """Embeddings of texts, made once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._pieces: dict[str, Pieces] = {}

    def load(self, texts: Iterable[str]) -> None:
        new = sorted(set(texts) - self._pieces.keys())
        self._pieces.update(zip(new, self._embedder.pieces(new), strict=True))

    def __call__(self, text: str) -> Pieces:
        if text not in self._pieces:
            self.load([text])
        return self._pieces[text]

    def presence(self, concept: str, text: str, window: int = OfflineOptions().window) -> float:
        return presence(self(text), self(concept), window)

    def relatedness(self, instruction: str, text: str) -> float:
        return relatedness(self(text), self(instruction))


def preload(bank: Bank, bench: AxBench, rated: Rated) -> None:
    """Embed in batches what will be asked for."""
    pairs = [pair for group in (*bench.carriers, *bench.plain, *bench.hard) for pair in group]
    bank.load(part for asked, reply in pairs for part in (asked, reply, cut(reply, SHORT)))
    bank.load(part for item in rated.items for part in (item.concept, item.instruction, item.text))


def fluencies(meter: FluencyMeter, texts: Sequence[str]) -> dict[str, Values]:
    found = meter.measure(texts)
    return {key: np.array([values[key] for values in found]) for key in found[0]}


# ----------------------------------------------------------------------------------------------------------------- texts of AxBench


def concept_values(measure: Measure, bench: AxBench, chosen: Sequence[int], words: int | None) -> dict[str, Values]:
    """Concept cosines of the ``chosen`` concepts: with the texts that carry them, and with three kinds of texts that do not."""
    found: dict[str, list[float]] = {"carriers": [], "negatives": [], "hard negatives": [], "other concepts": []}
    for c in chosen:
        others = [pair for k in chosen if k != c for pair in bench.carriers[k]]
        for values, pairs in zip(found.values(), (bench.carriers[c], bench.plain[c], bench.hard[c], others), strict=True):
            values += [measure(bench.concepts[c], cut(reply, words)) for _, reply in pairs]
    return {name: np.array(values) for name, values in found.items()}


def instruction_values(measure: Measure, bench: AxBench, chosen: Sequence[int], words: int | None) -> dict[str, Values]:
    """Instruction cosines: steered (carriers) and plain replies, with their own instruction and with another's of the same concept."""
    found: dict[str, list[float]] = {}
    for name, groups in (("steered", bench.carriers), ("plain", bench.plain)):
        for c in chosen:
            group = groups[c]
            order = rng(0, "shuffle-instructions", f"{name}{c}").permutation(len(group))
            found.setdefault(f"{name}, own", []).extend(measure(asked, cut(reply, words)) for asked, reply in group)
            wrong = [(group[j][0], reply) for j, (asked, reply) in zip(order, group, strict=True) if group[j][0] != asked]
            found.setdefault(f"{name}, another", []).extend(measure(asked, cut(reply, words)) for asked, reply in wrong)
    return {name: np.array(values) for name, values in found.items()}


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
        words = words[:12] + [word for word in words[:12] if word][-1:] * 24
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


def fluency_texts(bench: AxBench, half: int) -> dict[str, list[str]]:
    """AxBench's shared negatives (every second of them), cut to 36 words, damaged; and its positives, which a strong model wrote."""
    vocabulary = sorted({word for _, reply in bench.shared for word in reply.split()})
    texts = [cut(reply, SHORT) for _, reply in bench.shared if len(reply.split()) >= SHORT][half::2]
    groups = {kind: [damaged(text, kind, str(i), vocabulary) for i, text in enumerate(texts)] for kind in DAMAGES}
    written = [cut(reply, SHORT) for c in range(half, len(bench.concepts), 2) for _, reply in bench.carriers[c][:20]]
    return {**groups, "written around a concept": written}


# ------------------------------------------------------------------------------------------------------------------------------ fit


def best_cuts(values: Values, truth: Grades, zero: Values, step: float = 0.01) -> Cuts:
    """The middle of all pairs of cut points whose quadratically weighted kappa with ``truth`` is within .01 of the best.

    Only pairs are considered of which the lower lets at most :data:`ALLOWED` of ``zero`` pass.
    """
    grid = np.arange(np.floor(values.min() / step), np.ceil(values.max() / step) + 1) * step
    lows = [low for low in grid if (zero >= low).mean() <= ALLOWED]
    pairs = np.array([(low, high) for low in lows for high in grid if high > low])
    found = np.array([kappa(truth, grades_of(values, (low, high))) for low, high in pairs])
    low, high = pairs[found >= found.max() - 0.01].mean(axis=0).round(2).tolist()
    return low, high


def report_rated(name: str, values: Values, truth: Grades, cuts: Cuts) -> None:
    given = grades_of(values, cuts)
    table = np.array([[np.sum((truth == t) & (given == g)) for g in range(3)] for t in range(3)])
    print(
        f"  {name:<12} AUC ≥1 {auc(values[truth >= 1], values[truth < 1]):.3f}  AUC 2 {auc(values[truth == 2], values[truth < 2]):.3f}  "
        f"same grade {np.mean(truth == given):.2f}  off by two {np.mean(abs(truth - given) == 2):.2f}  kappa {kappa(truth, given):.2f}  "
        f"rated→judged {table.tolist()}"
    )


def shares(values: Values, cuts: Cuts) -> str:
    return " / ".join(f"{share:.2f}" for share in np.bincount(grades_of(values, cuts), minlength=3) / max(1, len(values)))


def own_values(bank: Bank, meter: FluencyMeter, rated: Rated) -> dict[str, Values]:
    """The judge's measurements of the hand-rated texts."""
    return {
        "concept": np.array([bank.presence(item.concept, item.text) for item in rated.items]),
        "instruction": np.array([bank.relatedness(item.instruction, item.text) for item in rated.items]),
        **fluencies(meter, [item.text for item in rated.items]),
    }


def fit(bank: Bank, meter: FluencyMeter, bench: AxBench, rated: Rated, own: dict[str, Values]) -> dict[str, Cuts]:
    half = range(0, len(bench.concepts), 2)
    concept, instruction = concept_values(bank.presence, bench, half, SHORT), instruction_values(bank.relatedness, bench, half, SHORT)
    texts = fluency_texts(bench, 0)
    zero = {
        "concept": np.r_[concept["negatives"], concept["other concepts"]],
        "instruction": np.r_[instruction["steered, another"], instruction["plain, another"]],
        "fluency": fluencies(meter, [text for kind in ("words shuffled", *LOOPS) for text in texts[kind]])["fluency"],
    }
    return {name: best_cuts(own[name][rated.fit], rated.grades[rated.fit, i], zero[name]) for i, name in enumerate(NAMES)}


def report(bank: Bank, meter: FluencyMeter, bench: AxBench, rated: Rated, own: dict[str, Values], cuts: dict[str, Cuts]) -> None:
    for title, chosen in (("fit", rated.fit), ("report", ~rated.fit)):
        print(f"hand-rated texts, concepts of the {title} ({chosen.sum()} texts; the rows of the table are the ratings 0, 1, 2)")
        for i, name in enumerate(NAMES):
            report_rated(name, own[name][chosen], rated.grades[chosen, i], cuts[name])
    half = range(1, len(bench.concepts), 2)
    for words in (SHORT, None):
        print(f"AxBench, concepts of the report, {f'{words} words' if words else 'whole texts'}: AUC; shares of grades 0 / 1 / 2")
        found = concept_values(bank.presence, bench, half, words)
        for name, values in found.items():
            print(f"  concept      {name:<18} {auc(found['carriers'], values):.3f}  {shares(values, cuts['concept'])}")
        found = instruction_values(bank.relatedness, bench, half, words)
        for name, values in found.items():
            print(
                f"  instruction  {name:<18} {auc(found[name.split(',')[0] + ', own'], values):.3f}  {shares(values, cuts['instruction'])}"
            )
    print("AxBench's texts at 36 words, other texts than in the fit, damaged: AUC against as it is; shares of fluency 0 / 1 / 2")
    found = {kind: fluencies(meter, texts)["fluency"] for kind, texts in fluency_texts(bench, 1).items()}
    for kind, values in found.items():
        print(f"  {kind:<36} {auc(found['as it is'], values):.3f}  {shares(values, cuts['fluency'])}")
    print("hand-rated texts by what was done to the model: mean judged / rated of concept, instruction, fluency")
    keys = [(row["method"], row["strength"], row["decoding"].split(",")[0]) for row in rated.rows]
    for key in sorted(set(keys), key=str):
        mine = np.array([k == key for k in keys])
        means = [f"{grades_of(own[n][mine], cuts[n]).mean():.2f} / {rated.grades[mine, i].mean():.2f}" for i, n in enumerate(NAMES)]
        print(f"  {key[0]:<10} {key[1]:<5} {key[2]:<16} {'   '.join(means)}  ({mine.sum()} texts)")


# ------------------------------------------------------------------------------------------------------------- other things to know


def report_decodings(meter: FluencyMeter, model: SubjectModel, rated: Rated, cuts: Cuts) -> None:
    print("the unsteered model's own replies: mean log-probability; shares of fluency 0 / 1 / 2")
    instructions = sorted({item.instruction for item in rated.items})
    for temperature, penalty in ((0.0, 1.0), (0.0, 1.2), (0.5, 1.2), (0.7, 1.2), (1.0, 1.0), (1.0, 1.2)):
        decoding = Decoding(max_new_tokens=40, temperature=temperature, repetition_penalty=penalty, penalty_scope="generated")
        requests = [GenerationRequest(text, model.prompt(text), 0) for text in instructions]
        found = fluencies(meter, [done.text for done in TorchEngine(model).run(requests, decoding)])
        print(f"  temperature {temperature}, penalty {penalty}: {found['log_probability'].mean():.2f}  {shares(found['fluency'], cuts)}")


EGG = ("chess and board games", "How do I boil an egg?")
CASES = (
    ("off topic, answers", *EGG, "Put the egg into boiling water and take it out after seven minutes."),
    ("answers, concept in passing", *EGG, "Put the egg into boiling water, as calmly as you move a pawn at chess, and wait seven minutes."),
    ("keywords stuffed", *EGG, "chess board games chess pawn rook bishop knight queen king checkmate"),
    ("the concept's name alone", *EGG, "Chess and board games."),
    ("the concept's name, looped", *EGG, "Chess and board games. " * 8),
    ("negation", *EGG, "This text has nothing to do with chess or with any other board game."),
    ("the instruction repeated", *EGG, "How do I boil an egg?"),
    ("the opposite of an answer", *EGG, "Never put the egg into boiling water, and take it out before it has any time to boil."),
    ("answers, in German", *EGG, "Setzen Sie das Ei in kochendes Wasser und nehmen Sie es nach sieben Minuten heraus."),
    ("two words, right answer", "the ocean and sea creatures", "Who wrote Moby-Dick?", "Herman Melville."),
    ("evoked, not named", "pirates and treasure", "Tell me a story.", "The captain buried the stolen gold and drew a map for his crew."),
    ("other sense of the word", "banks of rivers", "Where do I put my money?", "The bank raised its rates, so open an account there."),
)


def report_cases(judge: OfflineJudge) -> None:
    print("single cases, with the default cut points: cosines and fluency; grades")
    items = [JudgeItem(str(i), concept, instruction, text) for i, (_, concept, instruction, text) in enumerate(CASES)]
    found, ratings = judge.measure(items), {rating.item_id: rating for rating in judge.submit(items)}
    for item, values, case in zip(items, found, CASES, strict=True):
        rating = ratings[item.id]
        numbers = "  ".join(f"{values[name]:.2f}" for name in NAMES)
        print(f"  {case[0]:<28} {numbers}   {rating.concept:.0f} {rating.instruction:.0f} {rating.fluency:.0f}")


def report_speed(judge: OfflineJudge, rated: Rated) -> None:
    items = [JudgeItem(f"{item.id}-{k}", item.concept, item.instruction, f"{item.text} {k}") for item in rated.items for k in range(4)]
    started = time.perf_counter()
    used = time.process_time()
    for start in range(0, 1024, 256):
        list(judge.submit(items[start : start + 256]))
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    print(f"speed: {1024 / wall:.0f} texts a second, {1024 / cpu:.0f} a second of processor time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder that holds axbench/concept10_2b_l10")
    arguments = parser.parse_args()
    model = load_model("smollm2-135m-instruct")
    judge = OfflineJudge(OfflineOptions())
    judge.prepare(SimpleNamespace(model=model))  # type: ignore[arg-type]
    embedder, meter = judge.instruments()
    bench, rated, bank = read_axbench(arguments.data / "axbench" / "concept10_2b_l10"), read_rated(), Bank(embedder)
    preload(bank, bench, rated)
    own = own_values(bank, meter, rated)
    cuts = fit(bank, meter, bench, rated, own)
    print("cut points:", cuts)
    report(bank, meter, bench, rated, own, cuts)
    report_decodings(meter, model, rated, cuts["fluency"])
    report_cases(judge)
    report_speed(judge, rated)


if __name__ == "__main__":
    main()
