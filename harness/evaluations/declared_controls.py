"""Whether an entry has the controls that its task declares, for each of its methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.subject import TRAINED, DetectionSubject, DictionarySubjectRef, SteeringSubject
from harness.plugin.grammar import parse_request
from harness.tasks.dictionaries import MetricTable
from harness.tasks.schema import ControlTable, Task
from harness.types import Json, canonical_json


def missing_controls(entry: Entry, task: Task) -> Iterator[str]:
    """Yield the controls of a task that an entry lacks: taken out of it, or never run (``--controls none``).

    A control is told by its names, the options of the method that it stands beside, the number of its draws, and the labelers that it stands for.
    """
    for table in task.file.controls:
        yield from _steering(entry, table)
        yield from _detection(entry, table)
    yield from _dictionaries(entry, task)


def _names(table: ControlTable) -> tuple[str | None, str]:
    labeler = None if table.labeler is None else parse_request(table.labeler, "[[controls]]").name
    return labeler, parse_request(table.steerer, "[[controls]]").name


def _steering(entry: Entry, table: ControlTable) -> Iterator[str]:
    rows = [(row, row.subject) for row in entry.rows_of("steering") if isinstance(row.subject, SteeringSubject)]
    methods = [subject for row, subject in rows if row.role == "method"]
    if not methods:
        return
    labeler, steerer = _names(table)
    name = steerer if labeler is None else f"{labeler} × {steerer}"
    # one without features stands alone, whatever labeler its row names
    found = [(row, subject) for row, subject in rows if subject.steerer == steerer and subject.labeler in (labeler, None)]
    if not found:
        yield f"lacks the task's control {name}"
        return
    if labeler is None or not any(subject.labeler for _, subject in found):
        return
    beside = [subject for subject in methods if subject.steerer == steerer and subject.labeler is not None]
    if beside and not parse_request(table.steerer, "[[controls]]").options:
        there = {_key(subject.steerer_options.identity) for _, subject in found}
        for subject in beside:
            if _key(subject.steerer_options.identity) not in there:
                yield f"lacks the task's control {name} with the options of {subject.name}"
    yield from _draws(name, table, [row for row, _ in found], labeler)
    yield from _stands_for(entry, name, [row for row, _ in found])


def _detection(entry: Entry, table: ControlTable) -> Iterator[str]:
    """A control's labeler through each detector that scores through features."""
    labeler, _ = _names(table)
    rows = [(row, row.subject) for row in entry.rows_of("detection") if isinstance(row.subject, DetectionSubject)]
    through = {(s.detector, _key(s.detector_options.identity)): s for row, s in rows if row.role == "method" and s.labeler is not None}
    for (detector, options), subject in through.items() if labeler is not None else ():
        found = [row for row, s in rows if (s.labeler, s.detector, _key(s.detector_options.identity)) == (labeler, detector, options)]
        if not found:
            yield f"lacks the task's control {labeler} × {subject.detector}"
        yield from _draws(f"{labeler} × {subject.detector}", table, found, str(labeler))
        yield from _stands_for(entry, f"{labeler} × {subject.detector}", found)


def _draws(name: str, table: ControlTable, rows: Sequence[Row], labeler: str) -> Iterator[str]:
    for row in rows:
        subject = row.subject
        if row.role == "control" and not isinstance(subject, DictionarySubjectRef) and subject.labeler == labeler:
            drawn = subject.labeler_options.all.get("draws", 1)
            if table.draws > 1 and drawn != table.draws:
                yield f"control {name} has {drawn} draws of each concept; the task declares {table.draws}"


def _stands_for(entry: Entry, name: str, rows: Sequence[Row]) -> Iterator[str]:
    """Whether each labeler of the entry has the control; older entries do not say."""
    subjects = [row.subject for row in entry.rows if row.role == "method" and not isinstance(row.subject, DictionarySubjectRef)]
    used = {(subject.labeler, _key(subject.labeler_options.identity)) for subject in subjects if subject.labeler is not None}
    stands = {labeler for row in rows if row.role == "control" for labeler in row.controls}
    if stands and len(stands) < len(used):
        yield f"control {name} stands for {', '.join(sorted(stands))} alone, and {len(used)} labelers were run"


def _dictionaries(entry: Entry, task: Task) -> Iterator[str]:
    rows = [(row, row.subject) for row in entry.rows_of("dictionary") if isinstance(row.subject, DictionarySubjectRef)]
    tables = {table.request.name: table for table in reversed(task.file.metrics)}
    for subject in (subject for row, subject in rows if row.role == "method" and subject.arm == TRAINED):
        table = tables.get(subject.metric) or MetricTable(metric=subject.metric)
        for arm, draws in task.file.controls_of(table, subject.dictionary).items():
            own = [row for row, other in rows if _beside(other, subject, arm)]
            if not own:
                yield f"lacks the control {arm} of {subject.name}"
            n = sum(row.n_items for row in own)
            if own and n != draws * table.seeds:
                yield f"the control {arm} of {subject.name} has {n} measurements; the task declares {draws * table.seeds}"


def _beside(other: DictionarySubjectRef, subject: DictionarySubjectRef, arm: str) -> bool:
    same = (other.dictionary, other.metric, _key(other.metric_options.identity)) == (
        subject.dictionary, subject.metric, _key(subject.metric_options.identity),
    )  # fmt: skip
    return same and other.arm == arm


def _key(options: Json) -> str:
    return canonical_json(options)
