"""The leaderboard and a run's result for people (rich tables, plain text) and for programs (JSON)."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from harness.files.screen import Screen
from harness.files.visible import in_cell, visible
from harness.leaderboard.columns import KINDS, Shown, given_options, grid, heading, number
from harness.leaderboard.entry import Entry, JudgeRef, Protocol, Row, Sample, full_name
from harness.leaderboard.layout import Column, Grid, Line
from harness.leaderboard.published import PublishedTable
from harness.leaderboard.ranking import Comparison, Group, Place, item_noun, rank
from harness.types import EvaluationKind, Json, judge_title

IS_OFFLINE = "is an offline judge"
FAILS_SELFTEST = "fails the self-test"
"""How warnings of entries begin to say it, after the judge's name."""
OFFLINE_NOTICE = "offline judge: for demonstrations and tests, no person or strong model stands behind these ratings"
PUBLISHED_NOTICE = "published, not ranked against runs"


@dataclass(frozen=True)
class Board:
    """All that a leaderboard shows. ``problems`` are the messages of entry files that could not be read."""

    groups: tuple[Group, ...]
    published: tuple[PublishedTable, ...] = ()
    problems: tuple[str, ...] = ()


def build_board(entries: Iterable[Entry], published: Sequence[PublishedTable] = (), problems: Sequence[str] = ()) -> Board:
    """Return the board of ``entries``; of one task, the groups stand in the order of a run's own tables."""
    groups = sorted(rank(entries), key=lambda group: (group.key.task, group.key.version, KINDS.index(group.key.kind)))
    return Board(tuple(groups), tuple(published), tuple(problems))


# ---------------------------------------------------------------------------------------------------------------------- rendering


def render_board(board: Board) -> RenderableType:
    """Return every group as a table with what a reader must know below it, then the published numbers, then files that could not be read."""
    parts: list[RenderableType] = [part for group in board.groups for part in (render_group(group), Text())]
    if not board.groups:
        parts += [Text("no entries yet: `harness eval` makes one"), Text()]
    parts += [part for table in board.published for part in (render_published(table), Text())]
    parts += [Text(in_cell(f"not shown: {problem}"), style="yellow") for problem in board.problems]
    return Stack(*parts)


def render_group(group: Group) -> RenderableType:
    """Return one group: the table, how each row compares with the one above it, and what a reader must know."""
    shown = [
        Shown(
            place.row,
            place.score,
            "in-sample" if place.row.in_sample else _MARKS[place.standing],
            place.rank,
            "dim" if place.standing in ("ineligible", "control") else "",
            place.entry.seed,
        )
        for place in group.places
    ]
    compared = [_line(line, "dim") for line in _comparisons(group)]
    notes = [_line(line, "yellow" if notice else "dim") for notice, line in _footnotes(group)]
    return Stack(_title(_group_title(group)), grid(group.key.kind, shown, ranks=True), *compared, *notes)


def render_entry(entry: Entry, samples: int = 3) -> RenderableType:
    """Return one run's result: a table for each kind of evaluation, methods beside their controls; what a reader must know; ``samples`` texts."""
    task = entry.task
    judge = f" · {_judge(entry.judge)}" if entry.judge is not None else ""
    protocol = f" · protocol {entry.protocol.title}" if entry.protocol.title != Protocol().title else ""
    parts: list[RenderableType] = [_title(f"{task.name} {task.version} · {task.split} · {entry.model.name}{judge}{protocol}")]
    kinds = [kind for kind in KINDS if entry.rows_of(kind)]
    for kind in kinds:
        parts += [Text(), _title(kind)] if len(kinds) > 1 else []
        parts += _kind(entry, kind)
    general = [line for line in entry.warnings if not _about_judge(entry, line)]
    parts += [Text(), _title("notes")] if general and len(kinds) > 1 else []
    parts += [_line(line) for line in general]
    for row, sample in _spread(entry, samples):
        about = f"{in_cell(sample.concept_text)} · strength {sample.strength:g} · {_rated(sample)}\n"
        body = Text.assemble((about, "dim"), (f"{visible(sample.instruction)}\n", "italic"), visible(sample.text))
        name = full_name(row, entry.rows_of(row.kind))
        title = f"{name}, {sample.place} text" if sample.place else name
        parts.append(Panel(body, title=escape(in_cell(title)), title_align="left"))  # a title is cut where it is too long
    return Stack(*parts)


def _kind(entry: Entry, kind: EvaluationKind) -> list[RenderableType]:
    """Return the table of a run's rows of one kind, and what must be known to read it."""
    rows = entry.rows_of(kind)
    shown = [Shown(row, row.score, _mark(row), style="dim" if row.role == "control" else "") for row in rows]
    parts: list[RenderableType] = [grid(kind, shown)]
    if kind == "steering":
        parts += [_line(line) for line in _judge_lines(entry)]
    parts += [_line(notice, "dim") for notice in _abstention_notices(rows)]
    parts += [_line(line) for line in _unanswered(rows)]
    subjects: dict[str, list[str]] = {}  # by line: what holds for several rows is shown once
    for row in rows:
        for line in [f"not eligible: {reason}" for reason in row.reasons] + list(row.warnings) + _bounds(row) + _rough(row):
            subjects.setdefault(line, []).append(full_name(row, rows))
    parts += [_line(line if len(names) == len(rows) > 1 else f"{', '.join(names)}: {line}") for line, names in subjects.items()]
    return parts


def render_published(table: PublishedTable) -> RenderableType:
    """Return one table of published numbers, marked as such."""
    kind = "a reproduction" if table.kind == "reproduction" else "a paper's numbers"
    title = f"{table.title} ({kind}; {PUBLISHED_NOTICE})"
    digits = {column.key: max(_decimals(row.values[column.key]) for row in table.rows) for column in table.columns}
    lines = [
        Line((f"{row.method} ({row.note})" if row.note else row.method, *(number(row.values[c.key], digits[c.key]) for c in table.columns)))
        for row in table.rows
    ]
    source = table.source
    place = ", ".join(part for part in (f"arXiv {source.arxiv}" if source.arxiv else None, source.url, source.table) if part)
    notes = [f"{source.work}: {source.title} ({place})", f"numbers: {table.metric}", f"protocol: {table.protocol}"]
    notes += [f"judge: {table.judge}"] if table.judge else []
    notes += [table.note] if table.note else []
    columns = [Column("method", name=True), *(Column(column.label) for column in table.columns)]
    return Stack(_title(title), Grid(columns, lines), *[_line(note, "dim") for note in notes])


def to_text(renderable: RenderableType, width: int = 160) -> str:
    """Return plain text without colours or trailing spaces, for files and pipes."""
    console = Screen(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(renderable)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


# ------------------------------------------------------------------------------------------------------------------------- pieces

_MARKS = {"ranked": "", "control": "control", "unpaired": "unpaired", "unordered": "", "ineligible": "not eligible"}


def _title(text: str) -> Text:
    return Text(in_cell(text), style="bold")


def _line(text: str, style: str = "yellow") -> RenderableType:
    """Return a line below a table; yellow is what must not be overlooked."""
    return Padding(Text(in_cell(text), style=style), (0, 1))


def _judge(judge: JudgeRef, key: bool = False) -> str:
    return f"judge {judge_title(judge.name, judge.options)} ({judge.rubric}{f', {judge.key}' if key else ''})"


def _group_title(group: Group) -> str:
    key, judge = group.key, group.places[0].entry.judge
    parts = [f"{key.task} {key.version}", key.split]
    parts += [_judge(judge, key=True)] if key.judge_key and judge is not None else [f"{key.kind} by {_metric(group)}"]
    parts += [f"protocol {key.protocol}"] if key.protocol not in ("", Protocol().title) else []
    parts += [f"concepts {key.mode}, set {key.concept_set}"] if key.concept_set else []
    return " · ".join(parts)


def _metric(group: Group) -> str:
    """The metric of a group, with the options that tell it apart."""
    subject = group.places[0].row.subject
    options = subject.label.partition(":")[2] if subject.kind == "dictionary" else ""
    return heading(group.key.metric) + (f" ({options})" if options else "")


def _about_judge(entry: Entry, line: str) -> bool:
    """Whether a warning is about the judge: it belongs to the table of what was judged."""
    return entry.judge is not None and line.startswith((f"judge {entry.judge.name} ", f"judge {entry.judge.name!r}"))


def _judge_lines(entry: Entry) -> list[str]:
    """Return what must be known of the judge, each fact once: how an offline one did in its self-test says more than that it is one."""
    offline = entry.judge is not None and entry.judge.offline
    lines = [line for line in entry.warnings if _about_judge(entry, line) and not (offline and IS_OFFLINE in line)]
    return [OFFLINE_NOTICE] * (offline and not any(FAILS_SELFTEST in line for line in lines)) + lines


def _mark(row: Row) -> str:
    marks = ["control"] if row.role == "control" else []
    marks += ["in-sample" if row.in_sample else "not eligible"] if not row.eligible else []
    return ", ".join(marks)


def _abstention_notices(rows: Iterable[Row]) -> list[str]:
    """Return what the scores of rows with abstentions count, once per metric."""
    found = []
    for row in rows:
        if row.ranked is not None and row.n_answered < row.n_items:
            trivial = row.metrics[row.primary].trivial
            worth = "as the trivial value" if trivial is None else f"as {trivial:g}"
            found.append(f"{heading(row.primary)} counts a concept without an answer {worth}; the other numbers are of the answered ones")
    return list(dict.fromkeys(found))


_MOST = 8
"""So many concepts without an answer are named below a table; the entry has all."""


def _unanswered(rows: Iterable[Row]) -> list[str]:
    """Which concepts have no answer, and why: a line each, with the methods where not all that abstain say the same."""
    abstaining = [row for row in rows if any(not item.answered for item in row.items)]
    found: dict[tuple[str, str], list[str]] = {}
    for row in abstaining:
        for item in row.items:
            if not item.answered:
                found.setdefault((item.id, item.reason), []).append(row.subject.name)
    lines = [
        f"{'' if len(names) == len(abstaining) else ', '.join(names) + ': '}concept {concept} has no answer: {reason or 'no reason is given'}"
        for (concept, reason), names in found.items()
    ]
    return lines[:_MOST] + ([f"{len(lines) - _MOST} more concepts have no answer; --json and the entry say why"] if len(lines) > _MOST else [])


def _decimals(value: float | None) -> int:
    """Return how many decimals a published number has."""
    return 0 if value is None else len(f"{value:.6f}".rstrip("0").partition(".")[2])


def _bounds(row: Row) -> list[str]:
    """Return what the texts without a rating could have changed."""
    if row.bounds is None or not row.n_unrated or row.bounds.low is None or row.bounds.high is None:
        return []
    ends = f"{number(row.bounds.low)} and {number(row.bounds.high)}"
    return [f"{row.n_unrated} of {row.n_texts} texts have no rating; overall lies between {ends} whatever they are worth"]


def _rough(row: Row) -> list[str]:
    """Return what the row's intervals warn of; that of a metric beside the score only where it is another."""
    own = row.score.warning
    others = {name: value.warning for name, value in row.metrics.items() if value.warning not in ("", own)}
    return ([own] if own else []) + [f"{heading(name)}: {warning}" for name, warning in others.items()]


def _rough_scores(places: Sequence[Place]) -> list[str]:
    """Return what the intervals of a group's scores warn of, each once, with the rows where it does not hold for all."""
    found: dict[str, list[str]] = {}
    for place in places:
        if place.score.warning:
            found.setdefault(place.score.warning, []).append(place.name)
    return [warning if len(names) == len(places) else f"{', '.join(names)}: {warning}" for warning, names in found.items()]


def _spread(entry: Entry, count: int) -> list[tuple[Row, Sample]]:
    """Return the first sample of each method, then the second of each, …, ``count`` in all."""
    turns = itertools.zip_longest(*[[(row, sample) for sample in row.samples] for row in entry.rows])
    return [pair for turn in turns for pair in turn if pair is not None][: max(count, 0)]


def _comparisons(group: Group) -> list[str]:
    """Return each row against the one above it, then once what limits several of these comparisons alike."""
    pairs = [(place, place.comparison) for place in group.places if place.comparison is not None]
    notes = [comparison.note for _, comparison in pairs]
    common = {note: notes.count(note) for note in notes if note and notes.count(note) > 1}
    lines = [_comparison(place, replace(found, note="") if found.note in common else found) for place, found in pairs]
    every = {note: "" if count == len(notes) else f" ({count} of {len(notes)} comparisons)" for note, count in common.items()}
    return lines + [f"{note}{share}" for note, share in every.items()]


def _rated(sample: Sample) -> str:
    """Return a text's ratings in words."""
    parts = [f"{name} {value:g}" for name, value in (sample.ratings or {}).items()]
    return ", ".join([f"overall {number(sample.overall)}", *parts])


def _comparison(place: Place, comparison: Comparison) -> str:
    """Return a row against the one above it: whether the intervals overlap, and the paired difference."""
    parts = [f"{place.name} after {comparison.above}"]
    if comparison.overlap is not None:
        parts.append("intervals overlap" if comparison.overlap else "intervals apart")
    if comparison.difference is not None:
        ends = f" [{number(comparison.low)}, {number(comparison.high)}]" if comparison.low is not None else ""
        p_value = f", p {comparison.p_value:.2g}" if comparison.p_value is not None else ""
        noun = item_noun(place.row.kind) + "s" * (comparison.n_shared != 1)
        parts.append(f"behind by {number(comparison.difference)}{ends}{p_value}, paired on {comparison.n_shared} {noun}")
    else:
        parts.append("not paired")
    return "; ".join(parts + ([comparison.note] if comparison.note else []))


def _footnotes(group: Group) -> list[tuple[bool, str]]:
    """Return what must be known to read a group; True marks what must not be overlooked."""
    lines = [(True, OFFLINE_NOTICE)] if group.offline else []
    if group.unpaired:
        lines.append((True, "unpaired: other methods of this task chose other concepts; these groups are not ranked against each other"))
    lines += [(False, notice) for notice in _abstention_notices(place.row for place in group.places)]
    lines += [(False, warning) for warning in _rough_scores(group.places)]
    if any(place.standing == "unordered" for place in group.places):
        lines.append((False, f"not ranked: neither direction of {group.key.metric} is better"))
    if group.varies:
        lines.append((True, f"these entries differ in: {', '.join(group.varies)}"))
    for place in group.places:
        if place.standing == "ineligible":
            lines.append((False, f"{place.name} is not eligible: {'; '.join(place.reasons)}"))
    lines.append((False, f"entries: {', '.join(dict.fromkeys(place.entry.file_name for place in group.places))}"))
    return lines


# --------------------------------------------------------------------------------------------------------------------------- JSON


def board_json(board: Board) -> Json:
    """Return the board as JSON: groups with their rows (whole entries are left to their files), published tables, problems."""
    return {
        "groups": [_group_json(group) for group in board.groups],
        "published": [{**table.model_dump(mode="json"), "ranked": False} for table in board.published],
        "problems": list(board.problems),
    }


def _group_json(group: Group) -> Json:
    return {
        **asdict(group.key),
        "offline": group.offline,
        "unpaired": group.unpaired,
        "higher_is_better": group.higher_is_better,
        "varies": list(group.varies),
        "rows": [_place_json(place) for place in group.places],
    }


def _place_json(place: Place) -> Json:
    row = place.row.model_dump(mode="json", exclude={"items", "samples", "reasons"})
    return {
        "rank": place.rank,
        "standing": place.standing,
        "reasons": list(place.reasons),
        "entry": place.entry.id,
        "file": place.entry.file_name,
        "created": place.entry.created,
        "seed": place.entry.seed,
        "name": place.name,
        "options": given_options(place.row.subject),
        "score": place.score.model_dump(mode="json"),
        **row,
        "items": [
            {"id": item.id, "text": item.text, "features": list(item.features), "values": item.values, "strength": item.strength}
            for item in place.row.items
        ],
        "comparison": asdict(place.comparison) if place.comparison else None,
    }
