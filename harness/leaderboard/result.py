"""A run's result for people: who is beyond its controls and what to run next, then the tables, what must be known to read them, and texts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.text import Text

from harness.files.visible import in_cell, visible
from harness.leaderboard.arms_table import arms_grid
from harness.leaderboard.columns import KINDS, Shown, grid, number
from harness.leaderboard.crossed_verdicts import CROSSED
from harness.leaderboard.entry import Entry, Protocol, Row, Sample, full_name
from harness.leaderboard.layout import Prose
from harness.leaderboard.next_step import NOWHERE, Sources, beside_the_others
from harness.leaderboard.notices import (
    FAILS_SELFTEST,
    IS_OFFLINE,
    OFFLINE_NOTICE,
    abstention_notices,
    aspects,
    bounds,
    gone_judge,
    no_interval,
    rough,
    said_once,
    side_effects,
    unanswered,
)
from harness.leaderboard.opening import NOTICE, comparison_notes, judge_text, next_line, sentences, title
from harness.leaderboard.places import Group
from harness.leaderboard.ranking import rank
from harness.types import EvaluationKind


def render_entry(entry: Entry, samples: int = 3, sources: Sources | None = NOWHERE) -> RenderableType:
    """Return one run's result.

    First a sentence for each method on whether it beats its controls, and what to run next; then a table for each kind of evaluation, methods beside
    their controls, with what must be known to read it; then texts.

    Args:
        entry: of the run.
        samples: so many texts at most.
        sources: where the entry came from, for the command that is proposed; None proposes none.
    """
    task = entry.task
    judge = f" · {judge_text(entry.judge)}" if entry.judge is not None else ""
    protocol = f" · protocol {entry.protocol.title}" if entry.protocol.title != Protocol().title else ""
    kinds = [kind for kind in KINDS if entry.rows_of(kind)]
    groups = {kind: [group for group in rank([entry]) if group.key.kind == kind] for kind in kinds}
    leads = {kind: f"{kind}:" if len(kinds) > 1 else "" for kind in kinds}
    parts: list[RenderableType] = [title(f"{task.name} {task.version} · {task.split} · {entry.model.name}{judge}{protocol}")]
    for kind in kinds:
        parts += [part for group in groups[kind] for part in sentences(group, leads[kind])]
    if sources is not None:
        parts += next_line([group for kind in kinds for group in groups[kind]], sources, beside_the_others(sources))
    parts += [Text()] if len(parts) > 1 and len(kinds) == 1 else []
    for kind in kinds:
        parts += [Text(), title(kind)] if len(kinds) > 1 else []
        parts += _kind(entry, kind, groups[kind], leads[kind])
    general = [line for line in entry.warnings if not _about_judge(entry, line)]
    parts += [Text(), title("notes")] if general and len(kinds) > 1 else []
    parts += [Prose(line, NOTICE) for line in general]
    for row, sample in _spread(entry, samples):
        about = f"{in_cell(sample.concept_text)} · strength {sample.strength:g} · {_rated(sample)}\n"
        body = Text.assemble((about, "dim"), (f"{visible(sample.instruction)}\n", "italic"), visible(sample.text))
        name = full_name(row, entry.rows_of(row.kind))
        heading = f"{name}, {sample.place} text" if sample.place else name
        parts.append(Panel(body, title=escape(in_cell(heading)), title_align="left"))  # a title is cut where it is too long
    return Stack(*parts)


def _kind(entry: Entry, kind: EvaluationKind, groups: Sequence[Group], lead: str) -> list[RenderableType]:
    """Return the table of a run's rows of one kind, and what must be known to read it; ``lead`` stood before its verdicts."""
    rows = entry.rows_of(kind)
    shown = [Shown(row, row.score, _mark(row), style="dim" if row.role == "control" else "") for row in rows]
    arms = arms_grid(rows) if kind == "dictionary" else None
    parts: list[RenderableType] = [] if arms is None else [arms, Text()]
    parts.append(grid(kind, shown))
    if kind == "steering":
        parts += [Prose(line, NOTICE) for line in _judge_lines(entry)]
    parts += [Prose(notice, "dim") for notice in abstention_notices(rows)]
    parts += [Prose(line, "dim") for line in (*side_effects(rows), *aspects(rows))]
    parts += [Prose(line, NOTICE) for line in unanswered(rows)]
    lines = [
        (full_name(row, rows), line)
        for row in rows
        for line in [f"not eligible: {reason}" for reason in row.reasons] + list(row.warnings) + bounds(row) + no_interval(row) + rough(row)
    ]
    parts += [Prose(line, NOTICE) for line in said_once(lines, len(rows) if len(rows) > 1 else 0)]
    parts += [part for group in groups for part in comparison_notes(group, lead, criterion=kind != "dictionary")]
    return parts + ([Prose(CROSSED, "dim")] if kind == "dictionary" and any(row.against for row in rows) else [])


def _about_judge(entry: Entry, line: str) -> bool:
    """Whether a warning is about the judge: it belongs to the table of what was judged."""
    return entry.judge is not None and line.startswith((f"judge {entry.judge.name} ", f"judge {entry.judge.name!r}"))


def _judge_lines(entry: Entry) -> list[str]:
    """Return what must be known of the judge, each fact once: how an offline one did in its self-test says more than that it is one."""
    offline = entry.judge is not None and entry.judge.offline
    lines = [line for line in entry.warnings if _about_judge(entry, line) and not (offline and IS_OFFLINE in line)]
    return [OFFLINE_NOTICE] * (offline and not any(FAILS_SELFTEST in line for line in lines)) + gone_judge(entry.judge) + lines


def _mark(row: Row) -> str:
    marks = ["control"] if row.role == "control" else []
    marks += ["in-sample" if row.in_sample else "not eligible"] if not row.eligible else []
    return ", ".join(marks)


def _spread(entry: Entry, count: int) -> list[tuple[Row, Sample]]:
    """Return the first sample of each method, then the second of each, …, ``count`` in all."""
    turns = itertools.zip_longest(*[[(row, sample) for sample in row.samples] for row in entry.rows])
    return [pair for turn in turns for pair in turn if pair is not None][: max(count, 0)]


def _rated(sample: Sample) -> str:
    """Return a text's ratings in words."""
    parts = [f"{name} {value:g}" for name, value in (sample.ratings or {}).items()]
    return ", ".join([f"overall {number(sample.overall)}", *parts])
