"""Dictionaries beside their controls at a glance: a line a metric, with the verdict; the sentence that answers whether they beat random ones."""

from __future__ import annotations

from collections.abc import Sequence

from harness.leaderboard.against_arm import AgainstArm
from harness.leaderboard.arms import arm_of
from harness.leaderboard.columns import MISSING, metric_heading, significant
from harness.leaderboard.entry import Row
from harness.leaderboard.layout import Column, Grid, Line
from harness.leaderboard.subject import TRAINED, DictionarySubjectRef

ANSWERS = ("yes", "no", "not shown", "not tested")
LEAST_CONTROLS = 2
"""Of one control, the table of all numbers shows as much."""


def arms_grid(rows: Sequence[Row]) -> Grid | None:
    """Return a line for each dictionary under each metric: its value, each control's, the empty answer's, and which controls it beats.

    None where no dictionary has two controls.
    """
    compared = [row for row in rows if arm_of(row) == TRAINED and row.against]
    arms = list(dict.fromkeys(arm_of(row) for row in rows if arm_of(row) != TRAINED))
    if not compared or len(arms) < LEAST_CONTROLS:
        return None
    several = len({_subject(row).dictionary for row in compared}) > 1
    columns = [Column("metric", name=True), *([Column("dictionary", name=True)] if several else []), Column(TRAINED)]
    columns += [*(Column(arm.replace("-", " ")) for arm in arms), Column("trivial"), Column("beats", words=True)]
    lines = []
    for row in compared:
        controls = controls_of(row, rows)
        values = [controls[arm].score.value if arm in controls else None for arm in arms]
        cells = [metric_name(row), *([_subject(row).dictionary] if several else []), significant(row.score.value)]
        lines.append(Line((*cells, *map(significant, values), significant(row.score.trivial), answers(row.against) or MISSING)))
    return Grid(columns, lines)


def controls_of(row: Row, rows: Sequence[Row]) -> dict[str, Row]:
    """Return the controls of a dictionary's row among ``rows``, under its metric, by their arms."""
    own = _subject(row)
    found = {}
    for other in rows:
        subject = _subject(other)
        same = (subject.dictionary, subject.metric, subject.metric_options) == (own.dictionary, own.metric, own.metric_options)
        if same and subject.arm != TRAINED:
            found[subject.arm] = other
    return found


def metric_name(row: Row) -> str:
    """Return what a row's metric is called, with the options that tell it apart."""
    options = row.subject.label.partition(":")[2]
    return metric_heading(row, row.primary) + (f" ({options})" if options else "")


def answers(against: Sequence[AgainstArm]) -> str:
    """Return the controls by answer: ``yes: random, frozen-decoder; not shown: soft-frozen-decoder``; the answer alone where there is one for all."""
    if len(given := {one.answer for one in against}) == 1:
        return str(given.pop())
    by_answer = {answer: [one.arm for one in against if one.answer == answer] for answer in ANSWERS}
    return "; ".join(f"{answer}: {', '.join(arms)}" for answer, arms in by_answer.items() if arms)


def answer_of(row: Row) -> str:
    """Return whether a dictionary beats its controls by one metric, in a clause: ``explained variance: yes``."""
    given = {one.answer for one in row.against}
    if len(given) == 1 and given != {"not tested"}:
        return f"{metric_name(row)}: {given.pop()}"
    parts = []
    for answer in (answer for answer in ANSWERS if answer in given):
        arms = [one for one in row.against if one.answer == answer]
        why = f" ({'; '.join(dict.fromkeys(one.reason for one in arms))})" if answer == "not tested" else ""
        listed = "" if len(arms) == len(row.against) else f" against {names_listed([one.arm for one in arms])}"
        parts.append(f"{answer}{listed}{why}")
    return f"{metric_name(row)}: {', '.join(parts)}"


def names_listed(names: Sequence[str]) -> str:
    """Return names in a sentence: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def does_it_beat_random(rows: Sequence[Row]) -> list[str]:
    """Return a sentence for each dictionary that says by which metrics it beats its random controls; none for one without controls.

    Metrics in which neither direction is better have no part in it.
    """
    found: dict[str, list[Row]] = {}
    for row in rows:
        if arm_of(row) == TRAINED and row.against and row.score.higher_is_better is not None:
            found.setdefault(_subject(row).dictionary, []).append(row)
    return [f"Does {name} beat dictionaries with random parts? {'; '.join(map(answer_of, own))}." for name, own in found.items()]


def _subject(row: Row) -> DictionarySubjectRef:
    assert isinstance(row.subject, DictionarySubjectRef)
    return row.subject
