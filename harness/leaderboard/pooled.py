"""One method over several seeds: entries of runs that differ in their seed alone, pooled into one table.

A row's pooled score is the mean over concepts of each concept's mean over seeds, with the usual interval over concepts. The spread between seeds
stands beside it, and each seed's own score is kept: a seed is no further concept, so more of them make no interval over concepts narrower than
the concepts allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from rich.console import Group as Stack
from rich.console import RenderableType
from rich.text import Text

from harness.errors import OptionError
from harness.leaderboard.columns import KINDS, heading, number
from harness.leaderboard.entry import Entry, MetricValue, Row, full_name, metric_value
from harness.leaderboard.grouping import item_noun
from harness.leaderboard.layout import Column, Grid, Line, Prose
from harness.leaderboard.merging import Spread, merged_row
from harness.leaderboard.next_step import NOWHERE, Sources
from harness.leaderboard.notices import missing, said_once
from harness.leaderboard.opening import NOTICE, comparison_notes, next_line, sentences, title
from harness.leaderboard.places import Group
from harness.leaderboard.ranking import rank
from harness.leaderboard.subject import DictionarySubjectRef
from harness.types import EvaluationKind, Json, Role, digest, judge_title


@dataclass(frozen=True)
class SeedScore:
    """What a row got with one seed.

    Attributes:
        seed: of the run.
        entry: the entry's id.
        value: the score that the row is judged by; None where there is none.
        low, high: its interval over concepts; None where there is none.
        n_answered: concepts that were answered.
        n_items: of so many.
    """

    seed: int
    entry: str
    value: float | None
    low: float | None
    high: float | None
    n_answered: int
    n_items: int


@dataclass(frozen=True)
class PooledRow:
    """One method over all seeds.

    Attributes:
        kind: of evaluation.
        role: ``method`` or ``control``.
        name: what people call it.
        metric: the primary metric.
        score: mean over concepts of their means over seeds, with its interval over concepts.
        spread: standard deviation (n − 1) of the seeds' scores; None for fewer than two of them.
        lowest, highest: of the seeds' scores.
        n_items: concepts that have a value with any seed.
        seeds: each seed's own score, in the order of the entries.
        reasons: why a seed's row may not be ranked, each once.
    """

    kind: EvaluationKind
    role: Role
    name: str
    metric: str
    score: MetricValue
    spread: float | None
    lowest: float | None
    highest: float | None
    n_items: int
    seeds: tuple[SeedScore, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Pooled:
    """The rows of several entries, pooled, and the entries."""

    rows: tuple[PooledRow, ...]
    entries: tuple[Entry, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds, in the order of the entries."""
        return tuple(entry.seed for entry in self.entries)

    def as_json(self) -> dict[str, Json]:
        """Return rows and whole entries as JSON."""
        rows = [{**asdict(row), "score": row.score.model_dump(mode="json")} for row in self.rows]
        task, model = self.entries[0].task, self.entries[0].model
        about = {"task": task.model_dump(mode="json"), "model": model.model_dump(mode="json"), "seeds": list(self.seeds)}
        return {**about, "rows": rows, "entries": [entry.as_json() for entry in self.entries]}


def pool_seeds(entries: Sequence[Entry]) -> Pooled:
    """Return the rows of entries that differ in their seed alone, pooled; a row that some of them lack is pooled over the others.

    Raises OptionError for no entry, for one seed twice, and for entries of different tasks, models, judges or decoding.
    """
    if not entries:
        raise OptionError("there are no entries to pool", given=0, allowed="one for each seed")
    seeds = [entry.seed for entry in entries]
    if len(set(seeds)) < len(seeds):
        raise OptionError(f"the entries have the seeds {seeds}", given=tuple(seeds), allowed="each seed once")
    for name, parts in _alike(entries).items():
        if any(part != parts[0] for part in parts[1:]):
            raise OptionError(f"the entries differ in their {name}, not in their seeds alone", given=name, hint="pool runs of one command")
    found: dict[str, list[tuple[Entry, Row]]] = {}
    for entry in entries:
        for row in entry.rows:
            found.setdefault(_key(row), []).append((entry, row))
    return Pooled(tuple(_pooled(rows) for rows in found.values()), tuple(entries))


def _alike(entries: Sequence[Entry]) -> dict[str, list[object]]:
    """What must not differ, by name."""
    return {
        "task": [(entry.task.name, entry.task.version, entry.task.digest, entry.task.split) for entry in entries],
        "model": [(entry.model.name, entry.model.digest, entry.model.dtype) for entry in entries],
        "judge": [entry.judge.key if entry.judge is not None else None for entry in entries],
        "decoding": [entry.decoding for entry in entries],
        "protocol": [entry.protocol.title for entry in entries],
    }


def _key(row: Row) -> str:
    """Identifies what a row is about, whatever the seed: a dictionary that a task trains has other weights with each."""
    subject = row.subject
    if isinstance(subject, DictionarySubjectRef):
        training = [subject.arm, subject.training_seed, subject.metric, subject.metric_options.identity]
        return digest([subject.kind, subject.dictionary, *training])
    return digest([subject.kind, subject.id])


def _pooled(found: Sequence[tuple[Entry, Row]]) -> PooledRow:
    from harness.scoring import clusters_of  # numpy-heavy: only when something is pooled

    first_entry, first = found[0]
    merged = merged_row([row for _, row in found])
    values = merged.values(trivial=first.ranked is not None)
    features: dict[tuple[str, str], set[str]] = {item: set() for item in values}
    for part in merged.items:
        features.get((part.id, part.text), set()).update(part.features)
    metric = first.metrics[first.primary]
    score = metric_value(
        list(values.values()),
        clusters_of((item, sorted(features[item])) for item in values) if values else None,
        title=metric.title,
        unit=metric.unit,
        bounds=metric.bounds,
        higher_is_better=metric.higher_is_better,
        trivial=metric.trivial,
        item=item_noun(first.kind),
        empty=next((row.score.reason for _, row in found if row.score.reason), "nothing was answered"),
    )
    spread = Spread.of(row for _, row in found)
    own = [
        SeedScore(entry.seed, entry.id, row.score.value, row.score.low, row.score.high, row.n_answered, row.n_items) for entry, row in found
    ]
    return PooledRow(
        kind=first.kind,
        role=first.role,
        name=full_name(first, first_entry.rows_of(first.kind)),
        metric=first.primary,
        score=score,
        spread=spread.sd,
        lowest=spread.lowest,
        highest=spread.highest,
        n_items=len(values),
        seeds=tuple(own),
        reasons=tuple(dict.fromkeys(reason for _, row in found for reason in row.reasons)),
    )


def render_pooled(pooled: Pooled, sources: Sources = NOWHERE) -> RenderableType:
    """Return who beats the controls by all seeds together, and for each kind of evaluation the pooled score, the spread and each seed's own score.

    Args:
        pooled: what is shown.
        sources: where the entries came from, for the command that is proposed.
    """
    entry = pooled.entries[0]
    seeds = ", ".join(map(str, pooled.seeds))
    judge = f" · judge {judge_title(entry.judge.name, entry.judge.options)}" if entry.judge is not None else ""
    about = f"{entry.task.name} {entry.task.version} · {entry.task.split} · {entry.model.name}{judge} · pooled over the seeds {seeds}"
    groups = _whole_groups(pooled)
    kinds = {group.key.kind for group in groups}
    parts: list[RenderableType] = [title(about)]
    leads = {kind: f"{kind}:" if len(kinds) > 1 else "" for kind in kinds}
    parts += [part for group in groups for part in sentences(group, leads[group.key.kind])]
    parts += next_line(groups, sources)
    for kind in KINDS:
        for metric in dict.fromkeys(row.metric for row in pooled.rows if row.kind == kind):
            rows = [row for row in pooled.rows if (row.kind, row.metric) == (kind, metric)]
            parts += [Text(), Text(f"{kind}: {rows[0].score.title or heading(metric)}", style="bold"), _grid(rows, pooled.seeds)]
    notes = ["mean: over concepts, of each concept's mean over seeds, with its interval over concepts; SD: of the seeds' scores"]
    notes += said_once([(row.name, line) for row in pooled.rows for line in missing(row.score)], len(pooled.rows))
    notes += [f"{row.name}, not eligible: {reason}" for row in pooled.rows for reason in row.reasons]
    if entry.task.mode == "chosen" and len({other.concept_set_digest for other in pooled.entries}) > 1:
        notes.append("the concepts differ from seed to seed: a labeler chose them")
    warnings = [warning for other in pooled.entries for warning in other.warnings]
    lines = [(note, "dim") for note in notes] + [(warning, NOTICE) for warning in warnings]
    compared = [part for group in groups for part in comparison_notes(group, leads[group.key.kind], spread=False)]
    return Stack(*parts, *compared, *[Prose(line, style) for line, style in dict.fromkeys(lines)])


def _whole_groups(pooled: Pooled) -> list[Group]:
    """Return the rankings of the entries together in which every method has all seeds: not those of concepts that a single seed chose."""
    groups = [group for kind in KINDS for group in rank(pooled.entries) if group.key.kind == kind != "dictionary"]
    return [group for group in groups if all(len(place.runs) == len(pooled.entries) for place in group.places if place.standing == "ranked")]


def _grid(rows: Sequence[PooledRow], seeds: Sequence[int]) -> Grid:
    columns = [Column("method", name=True), Column("mean"), Column("interval"), Column("SD of seeds"), *(Column(f"seed {seed}") for seed in seeds)]
    lines = []
    for row in rows:
        ends = number(None) if row.score.low is None else f"[{number(row.score.low, 2)}, {number(row.score.high, 2)}]"
        own = {seed.seed: seed.value for seed in row.seeds}
        name = row.name + (" (control)" if row.role == "control" else "")
        cells = (name, number(row.score.value), ends, number(row.spread), *(number(own.get(seed)) for seed in seeds))
        lines.append(Line(cells, "dim" if row.role == "control" else ""))
    return Grid([*columns, Column("concepts" if rows[0].kind != "dictionary" else "values", optional=True)],
                [Line((*line.cells, str(row.n_items)), line.style) for line, row in zip(lines, rows, strict=True)])  # fmt: skip
