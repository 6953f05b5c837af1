"""The rubric for people: what the page and every sheet ask, and what the grades mean."""

from __future__ import annotations

from typing import NamedTuple

from harness.judging.sheets import SKIP


class Aspect(NamedTuple):
    """One of the three ratings: its ``name``, the ``question`` that is asked, and what 0, 1 and 2 mean."""

    name: str
    question: str
    levels: tuple[str, str, str]


GUIDE = (
    Aspect(
        "concept", "Is the concept in the text?", ("No trace of it", "Touched on, or out of place", "Clearly there, part of what is said")
    ),
    Aspect(
        "instruction",
        "Does the text do what the instruction asks, concept aside?",
        ("No, it has nothing to do with it", "In part", "Yes"),
    ),
    Aspect("fluency", "Does it read like natural language?", ("Hardly readable", "Readable, but odd or repetitive", "Natural and clear")),
)
"""The rubric for people. Whoever changes a word of it changes the version of the ``human`` judge, too."""


def guide_text() -> str:
    """Return what raters are to know, as text."""
    lines = ["Each text was written for an instruction, and may or may not bring in a concept. Judge each question by itself.", ""]
    for aspect in GUIDE:
        lines += [f"{aspect.name}_rating: {aspect.question}", *(f"  {value}  {level}" for value, level in enumerate(aspect.levels)), ""]
    return "\n".join([
        *lines,
        f"Write 0, 1 or 2 into all three cells. If you cannot rate a text, write {SKIP} and say why in the comment. Leave the ids as they are.",
        "Several raters: each saves a copy under their own name (sheet-1-anna.csv) in this folder. Save as CSV, not as a workbook.",
        "",
    ])  # fmt: skip
