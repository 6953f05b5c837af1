"""Whether an entry may stand on a leaderboard: schema and seals, its numbers, its run where that is given, limits, provenance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from harness.errors import HarnessError, StoreError, UnknownNameError
from harness.evaluations.recompute import recompute_entry
from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.eligibility import refusals, remarks
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entries, load_entry
from harness.leaderboard.findings import Finding
from harness.plugin.host import PluginHost
from harness.store import verify
from harness.tasks.find import find_task
from harness.types import Json

ENTRIES = "entries"
"""The folder of a leaderboard in which entries lie, each under its own file name."""


@dataclass(frozen=True)
class CheckedEntry:
    """What was found in one file.

    Attributes:
        file: the file.
        entry: what it holds; None for one that is no entry.
        problems: why it may not stand on a leaderboard.
        notes: what is shown beside it.
    """

    file: Path
    entry: Entry | None
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """Return the findings as JSON."""
        found = {"problems": [asdict(one) for one in self.problems], "notes": [asdict(one) for one in self.notes]}
        return {"file": str(self.file), "id": None if self.entry is None else self.entry.id, **found}


def check_entry(file: Path, host: PluginHost, run: Path | None = None) -> CheckedEntry:
    """Return what is found in an entry's file.

    Args:
        file: the entry.
        host: knows the tasks of this installation.
        run: the folder of the entry's run; without it the entry's numbers are held against its own items alone.
    """
    try:
        entry = load_entry(file)
    except StoreError as error:
        return CheckedEntry(file, None, (Finding("schema", "", str(error)),))
    against = () if run is None else _against_run(entry, file, run)
    problems = [*inconsistencies(entry), *_created(entry), *against, *_task(entry, host), *refusals(entry)]
    if file.resolve().parent.name == ENTRIES and file.name != entry.file_name:
        problems.append(Finding("schema", "", f"the file's name must be {entry.file_name}, which one run, judge and protocol share"))
    return CheckedEntry(file, entry, tuple(problems), tuple(remarks(entry, _beside(file))))


def _beside(file: Path) -> Sequence[Entry]:
    return load_entries(file.resolve().parent)[0] if file.resolve().parent.name == ENTRIES else ()


def _against_run(entry: Entry, file: Path, run: Path) -> Iterator[Finding]:
    found = verify(run)
    if found.verdict == "damaged":
        yield Finding("run", "", f"the run is damaged: {found.problem}")
    made = recompute_entry(entry, file, run)
    if made.reason:
        yield Finding("run", "", f"its numbers cannot be computed from the run: {made.reason}")
    for difference in made.differences:
        yield Finding("run", difference.row, str(difference).removeprefix(f"{difference.row}: " if difference.row else ""))


    if made.entry is not None:
        yield from _provenance(entry, made.entry)


def _provenance(entry: Entry, made: Entry) -> Iterator[Finding]:
    """What an entry says beside its numbers, against the entry that its run gives."""
    for name in ("harness_version", "git", "libraries", "plugins", "sources"):
        if getattr(entry, name) != getattr(made, name):
            yield Finding("run", "", f"{name} is {_short(getattr(entry, name))}; the run has {_short(getattr(made, name))}")
    for where, ours, theirs in [("", entry.warnings, made.warnings), *_row_warnings(entry, made)]:
        for warning in theirs:
            if warning not in ours:
                yield Finding("run", where, f"lacks what its run warns of: {warning}")


def _row_warnings(entry: Entry, made: Entry) -> Iterator[tuple[str, Sequence[str], Sequence[str]]]:
    theirs = {(row.kind, row.subject.id): row for row in made.rows}
    for row in entry.rows:
        other = theirs.get((row.kind, row.subject.id))
        if other is not None:
            yield row.subject.name, row.warnings, other.warnings


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _created(entry: Entry) -> Iterator[Finding]:
    """Whether the day on which the entry was made has come."""
    made = datetime.fromisoformat(entry.created.replace("Z", "+00:00"))
    if made > datetime.now(timezone.utc) + timedelta(days=1):
        yield Finding("schema", "", f"created is {entry.created}, which is yet to come")


def _task(entry: Entry, host: PluginHost) -> Iterator[Finding]:
    """Whether the task and its version are known here: a version that came before the one that is installed is."""
    name, version = entry.task.name, entry.task.version
    registered = name if entry.task.cell is None else entry.task.cell.matrix
    if registered not in host.tasks.entries:
        yield Finding("task", "", str(UnknownNameError("task", name, host.tasks.entries, "Install what brings it, or add it.")))
        return
    try:
        known = find_task(host, name).file.version
    except HarnessError as error:
        yield Finding("task", "", f"task {name} cannot be read here: {error}")
        return
    if version not in map(str, range(1, known + 1)):
        yield Finding("task", "", f"version {version[:40]} of task {name} is not known; allowed: 1 to {known}")
