"""The leaderboard for people (rich tables, plain text)."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.text import Text

from harness.files.screen import Screen
from harness.leaderboard.bridge import Bridge
from harness.leaderboard.columns import KINDS, MISSING, Shown, given_options, grid, heading, number
from harness.leaderboard.entry import Entry, Protocol
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.joined import join
from harness.leaderboard.joined_table import BESIDE, beside_metrics
from harness.leaderboard.layout import Column, Grid, Line, Prose
from harness.leaderboard.next_step import NOWHERE, Sources
from harness.leaderboard.notices import OFFLINE_NOTICE, abstention_notices, aspects, gone_judge, no_intervals, rough_scores, side_effects
from harness.leaderboard.opening import NOTICE, comparison_notes, judge_text, next_line, sentences, title
from harness.leaderboard.places import Group, Place
from harness.leaderboard.published import PublishedTable
from harness.leaderboard.ranking import rank

PUBLISHED_NOTICE = "published, not ranked against runs"


@dataclass(frozen=True)
class Board:
    """All that a leaderboard shows. ``problems`` are the messages of entry files that could not be read."""

    groups: tuple[Group, ...]
    published: tuple[PublishedTable, ...] = ()
    problems: tuple[str, ...] = ()
    bridges: tuple[Bridge, ...] = ()


def build_board(
    entries: Iterable[Entry],
    published: Sequence[PublishedTable] = (),
    problems: Sequence[str] = (),
    win_rate_against: str | None = None,
    bridges: Sequence[Bridge] = (),
) -> Board:
    """Return the board of ``entries``; of one task, the groups stand in the order of a run's own tables.

    Args:
        entries: any, in any order.
        published: tables of published numbers.
        problems: messages of entry files that could not be read.
        bridges: between judges; each is shown beside the rankings of either.
        win_rate_against: as :func:`harness.leaderboard.ranking.rank` takes it.
    """
    groups = rank(entries, win_rate_against)
    groups.sort(key=lambda group: (group.key.task, group.key.version, KINDS.index(group.key.kind)))
    return Board(tuple(groups), tuple(published), tuple(problems), tuple(bridges))


# ---------------------------------------------------------------------------------------------------------------------- rendering


def render_board(board: Board, sources: Sources = NOWHERE) -> RenderableType:
    """Return every group with its table, then the published numbers, then files that could not be read.

    Args:
        board: what is shown.
        sources: where entries came from, for the commands that are proposed.
    """
    parts: list[RenderableType] = [part for group in board.groups for part in (render_group(group, sources, board.bridges), Text())]
    parts += _beside(board)
    if not board.groups:
        parts += [Text("no entries yet: `harness eval` makes one"), Text()]
    parts += [part for table in board.published for part in (render_published(table), Text())]
    parts += [Prose(f"not shown: {problem}", NOTICE, indent=0) for problem in board.problems]
    return Stack(*parts)


def render_group(group: Group, sources: Sources = NOWHERE, bridges: Sequence[Bridge] = ()) -> RenderableType:
    """Return one group: who is ahead, who is beyond its controls and what to run next; then the table, how it was compared, what must be known."""
    opening = [*sentences(group), *next_line([group], sources)]
    columns = _further_columns(group)
    shown = [
        Shown(
            place.row,
            place.score,
            _mark(place),
            "dim" if place.standing in ("ineligible", "control") else "",
            _rank(place),
            place.name,
            tuple(cell(place) for _, cell in columns),
        )
        for place in group.places
    ]
    table = grid(group.key.kind, shown, ranks=True, extra=[column for column, _ in columns])
    notes = [Prose(line, NOTICE if notice else "dim") for notice, line in _footnotes(group)]
    notes += [Prose(bridge.line(group.key), "dim") for bridge in bridges if bridge.concerns(group.key)]
    return Stack(title(_group_title(group)), *opening, *([Text()] if opening else []), table, *comparison_notes(group), *notes)


def _beside(board: Board) -> list[RenderableType]:
    """Return the dictionaries' metrics beside what their features do in other entries; nothing where no dictionary has both."""
    joined = beside_metrics(join(entry for group in board.groups for entry in group.entries))
    if joined is None:
        return []
    hint = "joined by the digest of the weights; `harness leaderboard correlate X Y` says whether two columns rise together"
    return [title(BESIDE), joined, Prose(hint, "dim"), Text()]


def render_published(table: PublishedTable) -> RenderableType:
    """Return one table of published numbers, marked as such."""
    kind = "a reproduction" if table.kind == "reproduction" else "a paper's numbers"
    about = f"{table.title} ({kind}; {PUBLISHED_NOTICE})"
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
    return Stack(title(about), Grid(columns, lines), *[Prose(note, "dim") for note in notes])


def to_text(renderable: RenderableType, width: int = 160) -> str:
    """Return plain text without colours or trailing spaces, for files and pipes."""
    console = Screen(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(renderable, crop=False)  # a word that is wider than the screen stays whole: a path of a command to copy
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


# ------------------------------------------------------------------------------------------------------------------------- pieces

_MARKS = {"ranked": "", "control": "control", "unpaired": "unpaired", "unordered": "", "ineligible": "not eligible"}


def _mark(place: Place) -> str:
    """Return what stands in brackets behind a name; of a dictionary, what tells it from others of its name, too."""
    marks = ["in-sample" if place.row.in_sample else _MARKS[place.standing]]
    if place.row.kind == "dictionary":
        marks.append(place.name.removeprefix(place.row.subject.name).strip(" ()"))
    return ", ".join(mark for mark in marks if mark)


def _rank(place: Place) -> str:
    """Return a method's rank, a dash where it could not be told; nothing for what takes none."""
    return place.rank_text if place.standing == "ranked" else ""


def _further_columns(group: Group) -> list[tuple[Column, Callable[[Place], str]]]:
    """Return the columns of runs, where a method has several, and of win rates, where they were asked for; each with what stands in it."""
    found: list[tuple[Column, Callable[[Place], str]]] = []
    if any(len(place.runs) > 1 for place in group.places):
        found += [(Column("runs"), lambda place: str(len(place.runs))), (Column("SD of runs"), lambda place: number(place.spread.sd))]
    against = next((place.win_rate.against for place in group.places if place.win_rate is not None), None)
    if against is not None:
        found.append((Column("win rate"), _win_rate))
    return found


def _win_rate(place: Place) -> str:
    rate = place.win_rate
    if rate is None:
        return MISSING
    return number(rate.value, 2) + (f" [{number(rate.low, 2)}, {number(rate.high, 2)}]" if rate.low is not None else "")


def _group_title(group: Group) -> str:
    key, judge = group.key, group.places[0].entry.judge
    parts = [f"{key.task} {key.version}", key.split]
    parts += [judge_text(judge)] if key.judge_key and judge is not None else [f"{key.kind} by {_metric(group)}"]
    parts += [f"protocol {key.protocol}"] if key.protocol not in ("", Protocol().title) else []
    n_items = {place.row.n_items for place in group.places}
    if key.concept_set and len(n_items) == 1:
        n = n_items.pop()
        parts.append(f"{n} concept{'s' * (n != 1)}" + (" of the labeler's choice" if key.mode == "chosen" else ""))
    return " · ".join(parts)


def _metric(group: Group) -> str:
    """The metric of a group, with the options that tell it apart."""
    subject = group.places[0].row.subject
    options = subject.label.partition(":")[2] if subject.kind == "dictionary" else ""
    return heading(group.key.metric) + (f" ({options})" if options else "")


def _decimals(value: float | None) -> int:
    """Return how many decimals a published number has."""
    return 0 if value is None else len(f"{value:.6f}".rstrip("0").partition(".")[2])


def _footnotes(group: Group) -> list[tuple[bool, str]]:
    """Return what must be known to read a group; True marks what must not be overlooked."""
    lines = [(True, OFFLINE_NOTICE)] if group.offline else []
    lines += [(True, line) for line in gone_judge(group.places[0].entry.judge if group.key.judge_key else None)]
    if group.unpaired:
        lines.append((True, "unpaired: other methods of this task chose other concepts; these groups are not ranked against each other"))
    lines += [(False, notice) for notice in abstention_notices(place.row for place in group.places)]
    lines += [(False, line) for line in (*no_intervals(group.places), *rough_scores(group.places))]
    lines += [(False, line) for about in (side_effects, aspects) for line in about(place.row for place in group.places)]
    if any(place.standing == "unordered" for place in group.places):
        lines.append((False, f"not ranked: neither direction of {group.key.metric} is better"))
    if group.varies:
        lines.append((True, f"these entries differ in: {', '.join(group.varies)}"))
    lines += [(False, f"{place.name} is not eligible: {'; '.join(place.reasons)}") for place in group.places if place.standing == "ineligible"]
    lines += [(False, line) for line in (*_win_rate_notes(group), *_conditions(group))]
    lines.append((False, f"entries: {', '.join(dict.fromkeys(entry.file_name for entry in group.entries))}"))
    return lines


def _win_rate_notes(group: Group) -> list[str]:
    against = next((place.win_rate.against for place in group.places if place.win_rate is not None), None)
    if against is None:
        return []
    return [f"win rate over {item_noun(group.key.kind)}s: on how many a method is above {group.places[against].name}, ties half"]


def _conditions(group: Group) -> list[str]:
    """Return seeds, the options that were given, and what the group is keyed by."""
    seeds = {place.name: sorted({run.entry.seed for run in place.runs}) for place in group.places}
    texts = {name: ", ".join(map(str, own)) for name, own in seeds.items()}
    alike = len(set(texts.values())) == 1
    lines = [f"seed {next(iter(texts.values()))}" if alike else "seeds: " + "; ".join(f"{name} {text}" for name, text in texts.items())]
    given = {place.name: given_options(place.row.subject) for place in group.places if place.standing != "control"}
    lines += [f"{name}: {options}" for name, options in given.items() if options]
    key = group.key
    keys = [f"judge {key.judge_key}"] * bool(key.judge_key) + [f"concept set {key.concept_set} ({key.mode})"] * bool(key.concept_set)
    return lines + ([" · ".join(keys)] if keys else [])
