"""The shipped texts on which side effects are measured: neutral passages, and questions with four options each. All of them are our own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.files.inputs import Input
from harness.files.json_text import json_lines
from harness.types import digest

VERSION = 1
"""Raised when the same texts are read in another way: what was measured before is measured again then."""
WRITE = "Write a short passage of plain text."
"""The instruction that a neutral passage answers."""
COMPLETE = "Complete the sentence: {stem}"
"""The instruction that a question is asked by; the reply begins with the stem again."""


@dataclass(frozen=True)
class Passage:
    """A neutral text of some fifty tokens."""

    id: str
    text: str


@dataclass(frozen=True)
class Question:
    """The beginning of a sentence, and words that may end it; the first of ``options`` is right."""

    id: str
    topic: str
    stem: str
    options: tuple[str, ...]


@lru_cache(maxsize=1)
def passages() -> tuple[Passage, ...]:
    """Return the neutral passages."""
    return tuple(Passage(row["id"], row["text"]) for row in _rows("passages.jsonl"))


@lru_cache(maxsize=1)
def questions() -> tuple[Question, ...]:
    """Return the questions."""
    return tuple(
        Question(row["id"], row["topic"], row["stem"], (row["answer"], *row["others"])) for row in _rows("questions.jsonl")
    )


def chance() -> float:
    """Return the accuracy of guessing: the mean over the questions of 1 / options."""
    found = questions()
    return sum(1 / len(question.options) for question in found) / len(found)


@lru_cache(maxsize=1)
def source() -> str:
    """Return under which name outcomes are kept: a digest of the texts and of how they are read."""
    content = [[p.id, p.text] for p in passages()] + [[q.id, q.stem, list(q.options)] for q in questions()]
    return f"texts-{digest([VERSION, WRITE, COMPLETE, content], 12)}"


def _rows(name: str) -> list[dict[str, Any]]:
    return [row for _, row in json_lines(Path(__file__).with_name(name), Input("texts for side effects", DataError))]
