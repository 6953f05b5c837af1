"""The page of one entry, with what the run's file adds where it is at hand; a report of one run is the same page, standing alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.leaderboard.columns import heading, number
from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.places import Group
from harness.leaderboard.ranking import rank
from harness.leaderboard.site.details import RunDetails
from harness.leaderboard.site.detection import add_detected
from harness.leaderboard.site.labels import labels_of
from harness.leaderboard.site.limits import Limits, fitting
from harness.leaderboard.site.notes import general_notes
from harness.leaderboard.site.pages import OF_FILES, inlined, json_block, render
from harness.leaderboard.site.provenance import command_of, facts_of, options_of
from harness.leaderboard.site.ranking_page import Standing, sentences_of
from harness.leaderboard.site.scores import Section, ends, sections
from harness.leaderboard.site.steering import add_curves, samples_of, texts_of
from harness.leaderboard.site.trainings import FIGURE, training_figure, training_table
from harness.types import judge_title


def entry_page(entry: Entry, details: RunDetails | None, standings: Sequence[Standing] = (), *, file: str = "") -> str:
    """Return the page of an entry as HTML.

    Args:
        entry: what was measured.
        details: what its run's file adds; None for the entry alone.
        standings: how its methods stand in the rankings of a site.
        file: name of the page within a site, whose styles and scripts it then uses; empty for a page that stands alone, with its own.
    """
    groups = [] if standings else rank([entry])  # where it stands among others says the same, and more
    return fitting(lambda limits: _page(entry, details, standings, groups, file, limits))


def _page(
    entry: Entry, details: RunDetails | None, standings: Sequence[Standing], groups: Sequence[Group], file: str, limits: Limits
) -> str:
    found = sections(entry, limits)
    for section in found:
        section.sentences, section.criteria = sentences_of(groups, section.kind)
    steering = next((section for section in found if section.kind == "steering"), None)
    detection = next((section for section in found if section.kind == "detection"), None)
    texts: list[dict[str, Any]] = []
    if details is not None and steering is not None:
        add_curves(steering, details, limits)
        texts = texts_of(steering, details, limits)
    if details is not None and detection is not None:
        add_detected(detection, details, limits)
    labels = [] if details is None else labels_of(details, limits)
    figures = {name: figure for section in found for name, figure in section.figures.items()}
    if (training := training_figure(details)) is not None:
        figures[FIGURE] = training
    return render(
        "entry.html.jinja",
        title=title_of(entry),
        entry=entry,
        judge="" if entry.judge is None else judge_title(entry.judge.name, entry.judge.options),
        summary=summary_of(found),
        sections=found,
        standings=standings,
        texts=texts,
        samples=[] if texts or steering is None else samples_of(steering.rows, limits),
        labels=labels,
        details=details,
        notes=general_notes(entry),
        facts=facts_of(entry, details),
        options=options_of(entry),
        command=command_of(entry, details),
        left_out=list(dict.fromkeys(limits.left_out)),
        trainings=training_table(details),
        data=json_block(figures),
        file=file,
        alone=not file,
        root="../",
        **(inlined() if not file else {"policy": OF_FILES, "styles": [], "scripts": []}),
    )


def title_of(entry: Entry) -> str:
    """Return what a page of an entry is called."""
    methods = [row.subject.name for row in entry.rows if row.role == "method"]
    shown = ", ".join(dict.fromkeys(methods[:2])) + (", …" if len(set(methods)) > 2 else "")
    return f"{shown or 'an entry'} on {entry.task.name} {entry.task.version}"


def summary_of(found: Sequence[Section]) -> list[str]:
    """Return what a reader wants to know first: each method's score, and that of the controls."""
    lines: list[str] = []
    for section in found:
        for row in section.rows:
            if row.role == "method" and row.score.value is not None and len(lines) < 4:
                lines.append(_sentence(section, row))
    return lines


def _sentence(section: Section, row: Row) -> str:
    score = row.score
    interval = "" if score.low is None else f" {ends(score.low, score.high, 2)}"
    name = score.title or heading(row.primary)
    unit = f" {score.unit}" if score.unit else ""
    beside = []
    if score.trivial is not None:
        beside.append(f"the empty answer {number(score.trivial, 2)}")
    if score.random is not None:
        beside.append(f"the random control {number(score.random, 2)}")
    if section.kind != "dictionary":
        controls = [
            (other.subject.name, other.score.value) for other in section.rows if other.role == "control" and other.score.value is not None
        ]
        beside += [f"{who} {number(value, 2)}" for who, value in controls[:5]]
    return f"{row.subject.name}: {name} {number(score.value, 2)}{interval}{unit}" + (f"; beside it {', '.join(beside)}" if beside else "")
