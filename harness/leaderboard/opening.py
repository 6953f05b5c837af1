"""How a screen opens and what stands under its tables: titles, sentences, the next command, how methods were compared."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType

from harness.leaderboard.entry import JudgeRef
from harness.leaderboard.layout import CommandLine, Prose
from harness.leaderboard.next_step import NextStep, Sources, next_step
from harness.leaderboard.places import Group
from harness.leaderboard.summary import opening_verdicts, pair_lines, spread_lines, who_is_ahead
from harness.types import judge_title

NOTICE = "yellow"
"""Style of what must not be overlooked."""


def title(text: str) -> RenderableType:
    """Return a heading, in as many lines as it takes."""
    return Prose(text, "bold", indent=0)


def judge_text(judge: JudgeRef, key: bool = False) -> str:
    """Return a judge for people: its name and rubric, and with ``key`` the key that rankings go by."""
    return f"judge {judge_title(judge.name, judge.options)} ({judge.rubric}{f', {judge.key}' if key else ''})"


def sentences(group: Group, lead: str = "") -> list[RenderableType]:
    """Return who is ahead of whom, and for the first methods whether they beat their controls; ``lead`` stands bold before each."""
    lines = [line for line in [who_is_ahead(group)] if line] + opening_verdicts(group, lead)[0]
    return [Prose(line, lead=lead) for line in lines]


def next_line(groups: Iterable[Group], sources: Sources, otherwise: NextStep | None = None) -> list[RenderableType]:
    """Return the first next step of any of ``groups``, or ``otherwise`` where there is none."""
    steps = (next_step(group, sources) for group in groups)
    found = next((step for step in steps if step is not None), otherwise)
    return [] if found is None else [CommandLine("next:", found.command, found.why)]


def comparison_notes(group: Group, lead: str = "", *, spread: bool = True, criterion: bool = True) -> list[RenderableType]:
    """Return what stands under a table of how its methods were compared: whole verdicts, pairs, runs, criteria, and what to be careful of.

    Args:
        group: whose table it is.
        lead: as :func:`sentences` was given it: what stands above the table whole is not said again.
        spread: say how far runs of one method lie apart, where no table does.
        criterion: say when a method beats its controls.
    """
    lines = [*opening_verdicts(group, lead)[1], *pair_lines(group), *(spread_lines(group) if spread else [])]
    lines += [group.criterion] if group.tested else []
    lines += [group.verdict_criterion] if criterion and any(found.low is not None for place in group.places for found in place.against) else []
    return [*(Prose(line, "dim") for line in lines), *(Prose(caution, NOTICE) for caution in group.warnings)]
