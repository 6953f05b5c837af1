"""The leaderboard and a run's result for people (rich tables, plain text) and for programs (JSON)."""

from __future__ import annotations

import io
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

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
from harness.types import Json

OFFLINE_NOTICE = "offline judge: for demonstrations and tests, no person or strong model stands behind these ratings"
PUBLISHED_NOTICE = "published, not ranked against runs"
_MISSING = "–"


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
    """One group."""
    key = group.key
    title = f"{key.task} {key.version} · {key.split} · judge {key.judge_key} · concepts {key.mode}, set {key.concept_set}"
    table = _table(
        title, "overall", "concept", "instr.", "fluency", "covered", "texts", "unrated", "strength", "above − this", lead=("#", "method")
    )
    for row in group.rows:
        numbers = _numbers(row.result, row.score)
        label = row.result.method.name + {"control": " (control)", "ineligible": " (not eligible)", "unpaired": " (unpaired)"}.get(
            row.standing, ""
        )
        style = "dim" if row.standing in ("ineligible", "control") else None
        table.add_row(str(row.rank or ""), escape(label), *numbers, _comparison(row.comparison), style=style)
    return Stack(table, *[Padding(Text(line, style="yellow" if notice else "dim"), (0, 1)) for notice, line in _footnotes(group)])


def render_entry(entry: Entry, samples: int = 3) -> RenderableType:
    """One run's result: its methods beside their controls, what a reader must know, and ``samples`` texts, a method's turn each."""
    task, judge = entry.task, entry.judge
    title = f"{task.name} {task.version} · {task.split} · {entry.model.name} · judge {judge.name} ({judge.rubric})"
    table = _table(title, "overall", "concept", "instr.", "fluency", "covered", "texts", "unrated", "strength", lead=("method",))
    for result in entry.results:
        label = result.method.name + (" (control)" if result.role == "control" else "") + ("" if result.eligible else " (not eligible)")
        score = result.ranked if result.ranked is not None else result.scores.overall
        table.add_row(escape(label), *_numbers(result, score), style="dim" if result.role == "control" else None)
    parts: list[RenderableType] = [table]
    if entry.judge.offline:
        parts.append(Padding(Text(OFFLINE_NOTICE, style="yellow"), (0, 1)))
    for result in entry.results:
        lines = [f"not eligible: {reason}" for reason in result.reasons] + list(result.warnings) + _bounds(result)
        parts += [Padding(Text(f"{result.method.name}: {line}", style="yellow"), (0, 1)) for line in lines]
    parts += [Padding(Text(line, style="yellow"), (0, 1)) for line in entry.warnings]
    for result, sample in _spread(entry, samples):
        about = f"{result.method.name} · {sample.concept_text} · strength {sample.strength:g} · overall {_number(sample.overall)}"
        body = Text.assemble((f"{sample.instruction}\n", "italic"), sample.text)
        parts.append(Panel(body, title=escape(about), title_align="left"))
    return Stack(*parts)


def render_published(table: PublishedTable) -> RenderableType:
    """One table of published numbers, marked as such."""
    kind = "a reproduction" if table.kind == "reproduction" else "a paper's numbers"
    grid = _table(f"{table.title} ({kind}; {PUBLISHED_NOTICE})", *[column.label for column in table.columns], lead=("method",))
    for row in table.rows:
        name = f"{row.method} ({row.note})" if row.note else row.method
        grid.add_row(escape(name), *[_number(row.values[column.key], digits=None) for column in table.columns])
    source = table.source
    place = ", ".join(part for part in (f"arXiv {source.arxiv}" if source.arxiv else None, source.url, source.table) if part)
    lines = [f"{source.work}: {source.title} ({place})", f"numbers: {table.metric}", f"protocol: {table.protocol}"]
    lines += [f"judge: {table.judge}"] if table.judge else []
    lines += [table.note] if table.note else []
    return Stack(grid, *[Padding(Text(line, style="dim"), (0, 1)) for line in lines])


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


def _table(title: str, *numbers: str, lead: tuple[str, ...]) -> Table:
    table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold")
    for name in lead:
        table.add_column(name, justify="right" if name == "#" else "left", overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _numbers(result: MethodResult, score: Score) -> list[str]:
    """The columns that rows of runs and of groups share."""
    parts = (result.scores.concept, result.scores.instruction, result.scores.fluency)
    covered = f"{result.n_answered}/{result.n_concepts}"
    unrated = str(result.n_unrated) + (f" (+{result.n_pending} pending)" if result.n_pending else "")
    return [_score(score), *[_number(part.mean) for part in parts], covered, str(result.n_trials), unrated, _strengths(result)]


def _score(score: Score) -> str:
    if score.mean is None:
        return _MISSING
    return _number(score.mean) + (f" [{_number(score.low)}, {_number(score.high)}]" if score.low is not None else "")


def _number(value: float | None, digits: int | None = 3) -> str:
    """A number with ``digits`` decimals, or (None) as it was published."""
    if value is None:
        return _MISSING
    return f"{value:g}" if digits is None else f"{value:.{digits}f}"


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


def _comparison(comparison: Comparison | None) -> str:
    """The paired difference to the row above; without one, whether the intervals overlap."""
    if comparison is None:
        return ""
    if comparison.difference is None:
        return {True: "intervals overlap", False: "intervals apart", None: _MISSING}[comparison.overlap]
    ends = f" [{_number(comparison.low)}, {_number(comparison.high)}]" if comparison.low is not None else ""
    return f"{comparison.difference:+.3f}{ends}" + (f" p {comparison.p_value:.2g}" if comparison.p_value is not None else "")


def _footnotes(group: Group) -> list[tuple[bool, str]]:
    """What must be known to read a group; True marks what must not be overlooked."""
    lines = [(True, OFFLINE_NOTICE)] if group.offline else []
    if group.unpaired:
        lines.append((True, "unpaired: other methods of this task chose other concepts; these groups are not ranked against each other"))
    if group.key.mode == "fixed" and any(row.result.n_answered < row.result.n_concepts for row in group.rows):
        lines.append((False, "overall counts a concept without an answer as 0; concept, instruction and fluency are of the answered ones"))
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
