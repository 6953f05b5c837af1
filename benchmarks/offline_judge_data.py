"""The rated texts that the offline judge is fitted on and measured with: where they come from, and which never serve a fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from harness.types import rng

HERE = Path(__file__).parent
RATED = HERE / "offline_judge_rated.jsonl"
WRITTEN = HERE / "offline_judge_written.jsonl"
FRESH = HERE / "offline_judge_fresh.jsonl"
AXBENCH = "axbench/concept10_2b_l10"
COMPLETIONS = "judge_completions/layer20/joined.parquet"
NAMES = ("concept", "instruction", "fluency")
MAX_WORDS = 70
"""Longer texts are cut for the fit: the demo's are 40 tokens."""
HELD_OUT, FITTED = 60, 130
"""Features of the real ratings that never serve the fit, and those that do."""
PER_CONCEPT = {"carriers": 12, "plain": 6, "hard": 4}
"""AxBench's texts per concept."""


@dataclass(frozen=True)
class Example:
    """A text with its ratings; None where a rating is not known.

    Attributes:
        source: ``rated``, ``written``, ``derived``, ``axbench``, ``real`` (GPT-4o-mini's ratings) or ``real held out``.
        kind: what is done to the text or what it is, for tables.
        origin: the text that this one was made from; both stand on one side of a split.
    """

    source: str
    kind: str
    concept: str
    instruction: str
    text: str
    ratings: tuple[float | None, float | None, float | None]
    origin: str = ""


def shortened(text: str, words: int = MAX_WORDS) -> str:
    """The first ``words`` words, with the spaces and line breaks between them."""
    place, count = 0, 0
    for part in text.split(" "):
        count += len(part.split())
        if count > words:
            return text[:place].rstrip()
        place += len(part) + 1
    return text


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def rated() -> list[Example]:
    """288 texts of the embedded subject model, rated one by one."""
    return [Example("rated", row["method"], row["concept"], row["instruction"], row["text"], tuple(row["ratings"])) for row in jsonl(RATED)]


def written(path: Path = WRITTEN) -> list[Example]:
    """Texts written and rated for this judge, of many kinds."""
    return [Example("written", row["kind"], row["concept"], row["instruction"], row["text"], tuple(row["ratings"])) for row in jsonl(path)]


def real(data: Path) -> list[Example]:
    """Steered texts of Gemma-2-9B-it, rated by GPT-4o-mini for fluency and instruction; their features drawn at random."""
    rows = [row for row in pq.read_table(data / COMPLETIONS).to_pylist() if row["generated"]]
    features = sorted({row["feature"] for row in rows})
    order = rng(0, "offline-judge-features", "").permutation(len(features))
    held = {features[i] for i in order[:HELD_OUT]}
    fitted = {features[i] for i in order[HELD_OUT : HELD_OUT + FITTED]}
    asked = {row["instruction"] for row in rows if row["feature"] in held}
    found = []
    for i, row in enumerate(rows):
        scores = (None, row["instruct_score"], row["fluency_score"])
        if row["feature"] in held:
            found.append(
                Example("real held out", f"{row['steering_factor']:g}", row["concept"], row["instruction"], row["generated"], scores)
            )
        elif row["feature"] in fitted and row["instruction"] not in asked and (scores[1:] != (2, 2) or i % 3 == 0):
            found.append(
                Example("real", f"{row['steering_factor']:g}", row["concept"], row["instruction"], shortened(row["generated"]), scores)
            )
    return found


def axbench(data: Path) -> list[Example]:
    """AxBench's texts with or without a concept by construction, with their own instruction and with another's."""
    folder = data / AXBENCH
    train = pq.read_table(folder / "train_data.parquet").to_pylist()
    test = pq.read_table(folder / "latent_eval_data.parquet").to_pylist()
    concepts = [json.loads(line)["concept"] for line in (folder / "metadata.jsonl").read_text(encoding="utf-8").splitlines() if line]
    others = [
        json.loads(line)["concept"]
        for line in (data / "axbench/concept500_2b_l10/metadata.jsonl").read_text(encoding="utf-8").splitlines()
        if line
    ]
    found: list[Example] = []
    for c, concept in enumerate(concepts):
        rows = {
            "carriers": [row for row in (*train, *test) if row["concept_id"] == c and row["category"] == "positive"],
            "plain": [row for row in test if row["concept_id"] == c and row["category"] == "negative"],
            "hard": [row for row in test if row["concept_id"] == c and row["category"] == "hard negative"],
        }
        for kind, group in rows.items():
            draw = rng(0, "offline-judge-axbench", f"{kind}{c}")
            chosen = [group[i] for i in draw.permutation(len(group))[: PER_CONCEPT[kind]]]
            for k, row in enumerate(chosen):
                text = shortened(row["output"])
                grade = 2 if kind == "carriers" else 0
                fluent = None if kind == "hard" else 2
                if k % 3 == 2:
                    other = chosen[(k + 1) % len(chosen)]["input"]
                    about = others[int(draw.integers(len(others)))] if k % 2 else concept
                    found.append(Example("axbench", f"{kind}, another instruction", about, other, text, (0 if k % 2 else grade, 0, fluent)))
                else:
                    found.append(Example("axbench", kind, concept, row["input"], text, (grade, 2, fluent)))
    return found


# ------------------------------------------------------------------------------------------------------------------ derived texts

PASSING = (
    "It is a bit like {c}, in a way.",
    "(A friend of mine who is fond of {c} told me so.)",
    "Afterwards there may even be time for {c}.",
    "Some people prefer {c}, but that is another matter.",
    "I read that in a magazine, next to an article on {c}.",
    "That holds for most things, {c} included.",
)
DENIED = (
    "This has nothing to do with {c}.",
    "I will not talk about {c} here.",
    "No {c}, please.",
    "There is no mention of {c} in this answer.",
)
EMPTY = (
    "That is a great question! Thank you for asking. There is a lot to say about it, and many people have written about it.",
    "Sure, I can help you with that! Please let me know what exactly you would like to know.",
    "This is an interesting topic, and there are different opinions about it. In the end everyone has to decide for themselves.",
    "I'm sorry, but I cannot help with this request.",
    "As an AI, I don't have enough information to answer this.",
    "I'm not sure. You should ask an expert about it.",
)


def damaged(words: list[str], kind: str, draw: np.random.Generator, vocabulary: Sequence[str]) -> str:
    """Return a text of ``words`` damaged in one of the ways of :data:`DAMAGES`."""
    n = len(words)

    def some(share: float) -> list[int]:
        return sorted(draw.choice(n, max(2, round(share * n)), replace=False).tolist())

    if kind == "shuffled":
        words = [words[i] for i in draw.permutation(n)]
    elif kind in ("neighbours swapped", "many neighbours swapped"):
        for place in some(0.15 if kind[0] == "n" else 0.5):
            words[place : place + 2] = words[place : place + 2][::-1]
    elif kind in ("some words replaced", "many words replaced"):
        for place in some(0.12 if kind[0] == "s" else 0.4):
            words[place] = vocabulary[draw.integers(len(vocabulary))]
    elif kind in ("some words misspelt", "many words misspelt"):
        for place in some(0.2 if kind[0] == "s" else 0.7):
            words[place] = "".join(draw.permutation(list(words[place])))
    elif kind == "some words doubled":
        words = (
            [part for i, word in enumerate(words) for part in ([word] * 2 if i in set(places) else [word])]
            if (places := some(0.2))
            else words
        )
    elif kind == "function words dropped":
        words = [word for word in words if word.casefold() not in SMALL]
    elif kind == "function words confused":
        words = [SMALL[draw.integers(len(SMALL))] if word.casefold() in SMALL and draw.random() < 0.6 else word for word in words]
    elif kind == "loop":
        size = int(draw.integers(1, 9))
        begin = int(draw.integers(0, n - size))
        words = (words[begin : begin + size] * 40)[:40]
    elif kind == "ends in a loop":
        size, head = int(draw.integers(1, 7)), n // 2
        words = words[:head] + (words[head - size : head] * 30)[: max(20, n - head)]
    elif kind == "ends in salad":
        head = n // 2
        words = words[:head] + [
            words[i] if draw.random() < 0.6 else vocabulary[draw.integers(len(vocabulary))] for i in draw.integers(0, n, max(15, n - head))
        ]
    elif kind == "stuck words":
        few = [words[i] for i in draw.integers(0, n, 4)]
        words = [few[i] for i in draw.integers(0, 4, 35)]
    return " ".join(words)


SMALL = ("a", "an", "the", "is", "are", "to", "of", "in", "on", "and", "it", "that", "with", "for", "as", "by", "at", "be", "you", "your")
DAMAGES: Mapping[str, int] = {
    "shuffled": 0,
    "many neighbours swapped": 0,
    "many words replaced": 0,
    "many words misspelt": 0,
    "loop": 0,
    "ends in a loop": 0,
    "ends in salad": 0,
    "stuck words": 0,
    "neighbours swapped": 1,
    "some words replaced": 1,
    "some words misspelt": 1,
    "some words doubled": 1,
    "function words dropped": 1,
    "function words confused": 1,
}
"""Ways to damage a text, and the fluency that is left."""


def derived(parents: Sequence[Example], per_text: int, purpose: str) -> list[Example]:
    """Texts made from good ones, whose ratings follow: damaged, with another's instruction or concept, an echo, a passing mention, a denial."""
    good = [e for e in parents if e.ratings[1] == 2 and e.ratings[2] == 2 and len(e.text.split()) >= 12]
    vocabulary = sorted({word for e in good for word in e.text.split()})
    found: list[Example] = []
    for number, parent in enumerate(good):
        draw = rng(0, "offline-judge-derived", f"{purpose}{number}")
        other = good[int(draw.integers(len(good)))]
        while other.instruction == parent.instruction or other.concept == parent.concept:
            other = good[int(draw.integers(len(good)))]
        kinds = list(dict.fromkeys(["damaged"] * 2 + [KINDS[i] for i in draw.permutation(len(KINDS))]))[: per_text + 1]
        names = list(DAMAGES)
        damages = [names[i] for i in draw.permutation(len(names))[:2]]
        for kind in kinds[1:]:
            found.append(_derived(parent, other, kind, draw))
        for kind in damages:
            fluency = DAMAGES[kind]
            kept = parent.ratings[:2] if fluency else (0 if parent.ratings[0] == 0 else None, None)
            text = damaged(parent.text.split(), kind, draw, vocabulary)
            found.append(replace(parent, kind=kind, text=text, ratings=(*kept, fluency)))
    return [replace(e, source="derived") for e in found]


KINDS = (
    "another instruction",
    "another concept",
    "echo and answer",
    "echo alone",
    "passing",
    "denied",
    "name alone",
    "empty talk",
    "name looped",
)


def _derived(parent: Example, other: Example, kind: str, draw: np.random.Generator) -> Example:
    concept, instruction, text = parent.concept, parent.instruction, parent.text
    ratings: tuple[float | None, ...] = parent.ratings
    fresh = text
    if kind == "another instruction":
        instruction, ratings = other.instruction, (ratings[0], 0, 2)
    elif kind == "another concept":
        concept, ratings = other.concept, (0, 2, 2)
    elif kind == "echo and answer":
        asked = (instruction, instruction.lower(), instruction.rstrip("?.!"), instruction.upper())[draw.integers(4)]
        text = asked + ("\n\n", "\n", " ", ": ")[draw.integers(4)] + text
    elif kind == "echo alone":
        text, ratings = (instruction, instruction.lower(), f"{instruction}\n\n{instruction}")[draw.integers(3)], (None, 1, None)
    elif kind in ("passing", "denied"):
        if ratings[0] != 0:
            concept = other.concept
        said = (PASSING if kind == "passing" else DENIED)[draw.integers(len(PASSING if kind == "passing" else DENIED))].format(c=concept)
        text, ratings = (f"{text} {said}" if draw.random() < 0.7 else f"{said} {text}"), (1, 2, 2)
    elif kind == "name alone":
        concept = other.concept
        text, ratings = (concept, concept.capitalize() + ".", concept.title())[draw.integers(3)], (1, 0, None)
    elif kind == "name looped":
        concept = other.concept
        text, ratings = (concept + (" ", ", ", ". ")[draw.integers(3)]) * int(draw.integers(4, 10)), (1, 0, 0)
    elif kind == "empty talk":
        text, ratings = EMPTY[draw.integers(len(EMPTY))], (0, 0, 2)
    found = Example("derived", kind, concept, instruction, text, (ratings[0], ratings[1], ratings[2]), parent.origin)
    return found if text != fresh or kind.startswith("another") else replace(found, ratings=parent.ratings)


def fitted(data: Path) -> list[Example]:
    """All that serves the fit."""
    own = [replace(e, origin=e.text) for e in written()]
    bench = [replace(e, origin=e.text) for e in axbench(data)]
    plain = [e for e in bench if e.kind in ("carriers", "plain")]
    return [
        *rated(),
        *(e for e in real(data) if e.source == "real"),
        *bench,
        *own,
        *derived(own, 3, "written"),
        *derived(plain[::3], 1, "axbench"),
    ]


def held_out(data: Path) -> list[Example]:
    """Real ratings of features and instructions that never serve a fit."""
    return [e for e in real(data) if e.source == "real held out"]
