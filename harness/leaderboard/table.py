"""The leaderboard and a run's result for people (rich tables, plain text) and for programs (JSON)."""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from rich import box
from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.leaderboard.entry import Entry, MethodResult, Sample, Score
from harness.leaderboard.published import PublishedTable
from harness.leaderboard.ranking import Comparison, Group, Row, rank
from harness.types import Json, judge_title

OFFLINE_NOTICE = "offline judge: for demonstrations and tests, no person or strong model stands behind these ratings"
PUBLISHED_NOTICE = "published, not ranked against runs"
ABSTENTION_NOTICE = "overall counts a concept without an answer as 0; concept, instruction and fluency are of the answered ones"
_MISSING = "–"
_COLUMNS = ("overall", "interval", "conc.", "instr.", "flu.", "n", "texts", "unr.", "strength")
_STANDINGS = {"ranked": "", "control": " (control)", "unpaired": " (unpaired)", "ineligible": " (not eligible)"}


@dataclass(frozen=True)
class Board:
    """All that a leaderboard shows. ``problems`` are the messages of entry files that could not be read."""

    groups: tuple[Group, ...]
    published: tuple[PublishedTable, ...] = ()
    problems: tuple[str, ...] = ()


def build_board(entries: Iterable[Entry], published: Sequence[PublishedTable] = (), problems: Sequence[str] = ()) -> Board:
    """The board of ``entries``."""
    return Board(tuple(rank(entries)), tuple(published), tuple(problems))


# ---------------------------------------------------------------------------------------------------------------------- rendering


def render_board(board: Board) -> RenderableType:
    """Every group as a table with what a reader must know below it, then the published numbers, then files that could not be read."""
    parts: list[RenderableType] = [part for group in board.groups for part in (render_group(group), Text())]
    if not board.groups:
        parts += [Text("no entries yet: `harness eval` makes one"), Text()]
    parts += [part for table in board.published for part in (render_published(table), Text())]
    parts += [Text(f"not shown: {problem}", style="yellow") for problem in board.problems]
    return Stack(*parts)


def render_group(group: Group) -> RenderableType:
    """One group: the table, how each row compares with the one above it, and what a reader must know."""
    key, judge = group.key, group.rows[0].entry.judge
    asked = f"{judge_title(judge.name, judge.options)} ({judge.rubric}, {key.judge_key})"
    title = f"{key.task} {key.version} · {key.split} · judge {asked} · concepts {key.mode}, set {key.concept_set}"
    table = _table(*_COLUMNS, lead=("#", "method"))
    for row in group.rows:
        style = "dim" if row.standing in ("ineligible", "control") else None
        label = row.result.method.name + _STANDINGS[row.standing]
        table.add_row(str(row.rank or ""), escape(label), *_numbers(row.result, row.score), style=style)
    compared = [_line(_comparison(row, row.comparison), "dim") for row in group.rows if row.comparison is not None]
    notes = [_line(line, "yellow" if notice else "dim") for notice, line in _footnotes(group)]
    return Stack(_title(title), table, *compared, *notes)


def render_entry(entry: Entry, samples: int = 3) -> RenderableType:
    """One run's result: its methods beside their controls, what a reader must know, and ``samples`` texts, a method's turn each."""
    task, judge = entry.task, entry.judge
    asked = judge_title(judge.name, judge.options)
    title = f"{task.name} {task.version} · {task.split} · {entry.model.name} · judge {asked} ({judge.rubric})"
    table = _table(*_COLUMNS, lead=("method",))
    for result in entry.results:
        label = result.method.name + (" (control)" if result.role == "control" else "") + ("" if result.eligible else " (not eligible)")
        score = result.ranked if result.ranked is not None else result.scores.overall
        table.add_row(escape(label), *_numbers(result, score), style="dim" if result.role == "control" else None)
    parts: list[RenderableType] = [_title(title), table]
    if entry.judge.offline:
        parts.append(_line(OFFLINE_NOTICE))
    if any(result.ranked is not None and result.n_answered < result.n_concepts for result in entry.results):
        parts.append(_line(ABSTENTION_NOTICE, "dim"))
    for result in entry.results:
        lines = [f"not eligible: {reason}" for reason in result.reasons] + list(result.warnings) + _bounds(result)
        parts += [_line(f"{result.method.name}: {line}") for line in lines]
    parts += [_line(line) for line in entry.warnings]
    for result, sample in _spread(entry, samples):
        about = f"{result.method.name} · {sample.concept_text} · strength {sample.strength:g} · overall {_number(sample.overall)}"
        body = Text.assemble((f"{sample.instruction}\n", "italic"), sample.text)
        parts.append(Panel(body, title=escape(about), title_align="left"))
    return Stack(*parts)


def render_published(table: PublishedTable) -> RenderableType:
    """One table of published numbers, marked as such."""
    kind = "a reproduction" if table.kind == "reproduction" else "a paper's numbers"
    title = f"{table.title} ({kind}; {PUBLISHED_NOTICE})"
    grid = _table(*[column.label for column in table.columns], lead=("method",))
    digits = {column.key: max(_decimals(row.values[column.key]) for row in table.rows) for column in table.columns}
    for row in table.rows:
        name = f"{row.method} ({row.note})" if row.note else row.method
        grid.add_row(escape(name), *[_number(row.values[column.key], digits[column.key]) for column in table.columns])
    source = table.source
    place = ", ".join(part for part in (f"arXiv {source.arxiv}" if source.arxiv else None, source.url, source.table) if part)
    lines = [f"{source.work}: {source.title} ({place})", f"numbers: {table.metric}", f"protocol: {table.protocol}"]
    lines += [f"judge: {table.judge}"] if table.judge else []
    lines += [table.note] if table.note else []
    return Stack(_title(title), grid, *[_line(line, "dim") for line in lines])


def to_text(renderable: RenderableType, width: int = 160) -> str:
    """Plain text without colours or trailing spaces, for files and pipes."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False)
    console.print(renderable)
    output = console.file
    assert isinstance(output, io.StringIO)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


def board_json(board: Board) -> Json:
    """The board as JSON: groups with their rows (whole entries are left to their files), published tables, problems."""
    return {
        "groups": [_group_json(group) for group in board.groups],
        "published": [{**table.model_dump(mode="json"), "ranked": False} for table in board.published],
        "problems": list(board.problems),
    }


# ------------------------------------------------------------------------------------------------------------------------- pieces


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _line(text: str, style: str = "yellow") -> RenderableType:
    """A line below a table; yellow is what must not be overlooked."""
    return Padding(Text(text, style=style), (0, 1))


def _table(*numbers: str, lead: tuple[str, ...]) -> Table:
    """A table that fits 80 columns by wrapping names and not numbers."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 0), header_style="bold")
    for name in lead:
        table.add_column(
            name, justify="right" if name == "#" else "left", overflow="fold", no_wrap=name == "#", min_width=1 if name == "#" else 12
        )
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold", no_wrap=name in _COLUMNS and name != "strength")
    return table


def _numbers(result: MethodResult, score: Score) -> list[str]:
    """The cells of ``_COLUMNS``; ``n`` is concepts answered of all."""
    parts = (result.scores.concept, result.scores.instruction, result.scores.fluency)
    interval = _MISSING if score.low is None else f"[{_number(score.low, 2)}, {_number(score.high, 2)}]"
    answered = f"{result.n_answered}/{result.n_concepts}"
    unrated = str(result.n_unrated) + (f" +{result.n_pending} pending" if result.n_pending else "")
    ratings = [_number(part.mean) for part in parts]
    return [_number(score.mean), interval, *ratings, answered, str(result.n_trials), unrated, _strengths(result)]


def _number(value: float | None, digits: int = 3) -> str:
    return _MISSING if value is None else f"{value:.{digits}f}"


def _decimals(value: float | None) -> int:
    """How many decimals a published number has."""
    return 0 if value is None else len(f"{value:.6f}".rstrip("0").partition(".")[2])


def _strengths(result: MethodResult) -> str:
    """Median and range of the strengths chosen for the concepts; the entry has each."""
    chosen = [row.chosen_strength for row in result.per_concept if row.chosen_strength is not None]
    if not chosen:
        return _MISSING
    middle, low, high = statistics.median(chosen), min(chosen), max(chosen)
    return f"{middle:g}" if low == high else f"{middle:g} ({low:g}–{high:g})"


def _bounds(result: MethodResult) -> list[str]:
    """What the texts without a rating could have changed."""
    if not result.n_unrated or result.bounds.low is None or result.bounds.high is None:
        return []
    ends = f"{_number(result.bounds.low)} and {_number(result.bounds.high)}"
    return [f"{result.n_unrated} of {result.n_trials} texts have no rating; overall lies between {ends} whatever they are worth"]


def _spread(entry: Entry, count: int) -> list[tuple[MethodResult, Sample]]:
    """The first sample of each method, then the second of each, …, ``count`` in all."""
    turns = itertools.zip_longest(*[[(result, sample) for sample in result.samples] for result in entry.results])
    return [pair for turn in turns for pair in turn if pair is not None][: max(count, 0)]


def _comparison(row: Row, comparison: Comparison) -> str:
    """A row against the one above it: whether the intervals overlap, and the paired difference."""
    parts = [f"{row.result.method.name} after {comparison.above}"]
    if comparison.overlap is not None:
        parts.append("intervals overlap" if comparison.overlap else "intervals apart")
    if comparison.difference is not None:
        ends = f" [{_number(comparison.low)}, {_number(comparison.high)}]" if comparison.low is not None else ""
        p_value = f", p {comparison.p_value:.2g}" if comparison.p_value is not None else ""
        parts.append(f"behind by {comparison.difference:.3f}{ends}{p_value}, paired on {comparison.n_shared} concepts")
    else:
        parts.append("not paired")
    return "; ".join(parts + ([comparison.note] if comparison.note else []))


def _footnotes(group: Group) -> list[tuple[bool, str]]:
    """What must be known to read a group; True marks what must not be overlooked."""
    lines = [(True, OFFLINE_NOTICE)] if group.offline else []
    if group.unpaired:
        lines.append((True, "unpaired: other methods of this task chose other concepts; these groups are not ranked against each other"))
    if group.key.mode == "fixed" and any(row.result.n_answered < row.result.n_concepts for row in group.rows):
        lines.append((False, ABSTENTION_NOTICE))
    if group.varies:
        lines.append((True, f"these entries differ in: {', '.join(group.varies)}"))
    for row in group.rows:
        if row.standing == "ineligible":
            lines.append((False, f"{row.result.method.name} is not eligible: {'; '.join(row.reasons)}"))
    lines.append((False, f"entries: {', '.join(dict.fromkeys(row.entry.id for row in group.rows))}"))
    return lines


def _group_json(group: Group) -> Json:
    return {
        **asdict(group.key),
        "offline": group.offline,
        "unpaired": group.unpaired,
        "varies": list(group.varies),
        "rows": [_row_json(row) for row in group.rows],
    }


def _row_json(row: Row) -> Json:
    result = row.result
    return {
        "rank": row.rank,
        "standing": row.standing,
        "reasons": list(row.reasons),
        "entry": row.entry.id,
        "created": row.entry.created,
        "seed": row.entry.seed,
        "method": result.method.name,
        "labeler": result.method.labeler,
        "steerer": result.method.steerer,
        "role": result.role,
        "score": row.score.model_dump(mode="json"),
        **{name: value for name, value in result.model_dump(mode="json").items() if name in _RESULT_FIELDS},
        "chosen_strengths": [
            {"concept": item.concept_text, "features": list(item.features), "strength": item.chosen_strength} for item in result.per_concept
        ],
        "comparison": asdict(row.comparison) if row.comparison else None,
    }


_RESULT_FIELDS = ("scores", "bounds", "n_concepts", "n_answered", "coverage", "n_trials", "n_unrated", "n_pending", "eligible", "warnings")
