"""How far the shipped offline judge agrees with ratings that it was not fitted on: parts of the figures in docs/offline-judge.md.

The numbers are those that the frozen judge gave. They hold on another machine but for a grade or two, where rounding moves a measurement over a
cut point. Whoever changes them has another judge: a new rubric, and the documents measured again.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness_plugins.judges.offline import ASPECTS, OfflineJudge
from helpers.offline_judge import benchmark, grades, rate

from harness.types import JudgeItem

FRESH_RIGHT = np.array([26, 23, 23])
"""Of 30 ratings of concept, instruction and fluency, those that are right."""
REAL_SAME = np.array([10, 11])
"""Of 15 ratings of instruction and fluency, those that agree (docs/offline-judge.md: .78 and .71 of 300)."""
MOVED = 2
"""Grades that rounding may change."""


def test_fresh_texts_with_obvious_ratings(judge: OfflineJudge) -> None:
    """Every third of the 90 texts, written by somebody who knew nothing of the judge; of all 270 ratings it gets 220 right (81 %)."""
    data = benchmark("offline_judge_data")
    rows = data.jsonl(data.FRESH)[::3]
    ratings = rate(judge, *(JudgeItem(row["id"], row["concept"], row["instruction"], row["text"]) for row in rows))
    given = np.array([grades(rating) for rating in ratings])
    right = (given == np.array([[row[f"{name}_rating"] for name in ASPECTS] for row in rows])).sum(axis=0)
    assert np.abs(right - FRESH_RIGHT).max() <= MOVED, right


def test_ratings_of_gpt_4o_mini(judge: OfflineJudge, shared_data: Path) -> None:
    """Every twentieth of 300 steered texts of Gemma-2-9B-it, whose features and instructions are in no fit."""
    examples = benchmark("offline_judge_data").held_out(shared_data)[::20]
    ratings = rate(judge, *(JudgeItem(str(i), e.concept, e.instruction, e.text) for i, e in enumerate(examples)))
    given = np.array([grades(rating)[1:] for rating in ratings])
    truth = np.array([e.ratings[1:] for e in examples])
    same = (given == truth).sum(axis=0)
    assert np.abs(same - REAL_SAME).max() <= MOVED, same
