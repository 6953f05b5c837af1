"""How far the shipped offline judge agrees with ratings that it was not fitted on: parts of the figures in docs/offline-judge.md.

The grades are those that the frozen judge gave, text by text. They hold on another machine but for a grade or two, where rounding moves a
measurement over a cut point. Whoever changes them has another judge: a new rubric, and the documents measured again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness_plugins.judges.offline import ASPECTS, OfflineJudge
from helpers.offline_judge import benchmark, grades, rate
from numpy.typing import NDArray

from harness.types import JudgeItem


def read(frozen: str) -> NDArray[np.int64]:
    """``[texts, aspects]``: concept, instruction and fluency of each text."""
    return np.array([[int(grade) for grade in text] for text in frozen.split()])


FRESH = read("021 022 002 222 021 202 122 222 222 122 212 022 000 210 100")
"""Of these 45 grades 38 are right; of all 270, 220 (docs/offline-judge.md)."""
REAL = read("022 100 022 011 010 122 011 101 022 021")
"""Of these instructions and fluencies 17 of 20 agree; of all 600, .78 and .71 (docs/offline-judge.md)."""
MOVED = 2
"""Grades that rounding may change."""


def test_fresh_texts_with_obvious_ratings(judge: OfflineJudge) -> None:
    """Every sixth of the 90 texts, written by somebody who knew nothing of the judge."""
    data = benchmark("offline_judge_data")
    rows = data.jsonl(data.FRESH)[::6]
    ratings = rate(judge, *(JudgeItem(row["id"], row["concept"], row["instruction"], row["text"]) for row in rows))
    given = np.array([grades(rating) for rating in ratings])
    assert (given != FRESH).sum() <= MOVED, given
    right = given == np.array([[row[f"{name}_rating"] for name in ASPECTS] for row in rows])
    assert right.sum() >= 38 - MOVED


def test_ratings_of_gpt_4o_mini(judge: OfflineJudge, shared_data: Path) -> None:
    """Every thirtieth of 300 steered texts of Gemma-2-9B-it, whose features and instructions are in no fit."""
    examples = benchmark("offline_judge_data").held_out(shared_data)[::30]
    ratings = rate(judge, *(JudgeItem(str(i), e.concept, e.instruction, e.text) for i, e in enumerate(examples)))
    given = np.array([grades(rating) for rating in ratings])
    assert (given != REAL).sum() <= MOVED, given
    same = given[:, 1:] == np.array([e.ratings[1:] for e in examples])
    assert same.sum() >= 17 - MOVED
