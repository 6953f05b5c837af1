"""Whether an entry may stand on a leaderboard: schema and seals, numbers and warnings, its task, its plugins, its run where that is given, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from harness.errors import HarnessError, StoreError, TaskError, UnknownNameError
from harness.evaluations.against_plugins import NAMES, against_plugins
from harness.evaluations.against_run import against_run
from harness.evaluations.against_task import AgainstTask, against_task
from harness.evaluations.remade_warnings import warning_problems
from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.eligibility import refusals, remarks
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entries, load_entry
from harness.leaderboard.findings import Finding
from harness.plugin.host import PluginHost
from harness.tasks.find import find_task, load_task
from harness.tasks.schema import Task
from harness.types import Json

ENTRIES = "entries"
"""The folder of a leaderboard in which entries lie, each under its own file name."""
ALONE = "the file: schema, id and seal; its numbers and warnings against its own items; what it says of installed plugins; limits"
WITH_RUN = "its run: digests of the records, and every number, warning and fact of the entry made again from them; when the run began"
WITHOUT_RUN = (
    "its run (give --run): whether the items' numbers are those of real texts and ratings, what plugins and corpus warned of, "
    "versions, commit and seed, and when it was made"
)


@dataclass(frozen=True)
class CheckedEntry:
    """What was found in one file.

    Attributes:
        file: the file.
        entry: what it holds; None for one that is no entry.
        problems: why it may not stand on a leaderboard.
        notes: what is shown beside it.
        checked: what was compared with what.
        unchecked: what was not, and why.
    """

    file: Path
    entry: Entry | None
    problems: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()
    checked: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """Return the findings as JSON."""
        found = {"problems": [asdict(one) for one in self.problems], "notes": [asdict(one) for one in self.notes]}
        looked_at = {"checked": list(self.checked), "unchecked": list(self.unchecked)}
        return {"file": str(self.file), "id": None if self.entry is None else self.entry.id, **found, **looked_at}


def check_entry(file: Path, host: PluginHost, run: Path | None = None, task: Path | None = None) -> CheckedEntry:
    """Return what is found in an entry's file.

    Args:
        file: the entry.
        host: knows the tasks of this installation.
        run: the folder of the entry's run; without it the entry's numbers are held against its own items alone.
        task: folder or file of the entry's task; without it the installed one of its name is taken.
    """
    try:
        entry = load_entry(file)
    except StoreError as error:
        return CheckedEntry(file, None, (Finding("schema", "", str(error)),))
    of_task, title = _against_task(entry, host, task)
    problems = [*inconsistencies(entry), *warning_problems(entry), *_created(entry), *([] if run is None else against_run(entry, file, run))]
    of_plugins, absent = against_plugins(entry, host)
    problems += [*of_task.problems, *of_plugins, *refusals(entry)]
    if file.resolve().parent.name == ENTRIES and file.name != entry.file_name:
        problems.append(Finding("schema", "", f"the file's name must be {entry.file_name}, which one run, judge and protocol share"))
    notes = [*remarks(entry, _beside(file)), *of_task.notes]
    checked = [ALONE, *([] if run is None else [WITH_RUN])] + ([f"{title}: {', '.join(of_task.checked)}"] if of_task.checked else [])
    unchecked = [*([WITHOUT_RUN] if run is None else []), *_not_looked_at(entry, absent), *of_task.unchecked]
    return CheckedEntry(file, entry, tuple(problems), tuple(notes), tuple(checked), tuple(unchecked))


def _not_looked_at(entry: Entry, absent: Sequence[str]) -> Iterator[str]:
    if entry.migrated_from:
        yield "its intervals and warnings, which an older schema made in another way"
    if absent:
        named = ", ".join(absent[:NAMES]) + (", …" if len(absent) > NAMES else "")
        yield f"what it says of its plugins that are not installed here, or take other options: {named}"


def _beside(file: Path) -> Sequence[Entry]:
    return load_entries(file.resolve().parent)[0] if file.resolve().parent.name == ENTRIES else ()


def _created(entry: Entry) -> Iterator[Finding]:
    """Whether the day on which the entry was made has come."""
    made = datetime.fromisoformat(entry.created.replace("Z", "+00:00"))
    if made > datetime.now(timezone.utc) + timedelta(days=1):
        yield Finding("schema", "", f"created is {entry.created}, which is yet to come")


def _against_task(entry: Entry, host: PluginHost, folder: Path | None) -> tuple[AgainstTask, str]:
    """What holding an entry against its task found, and what that task is called; a version that came before the installed one is not there."""
    name, version = entry.task.name, entry.task.version
    try:
        task = _installed(entry, host) if folder is None else load_task(folder)
    except HarnessError as error:
        return AgainstTask((Finding("task", "", str(error)),), (), (), ("its task, which cannot be read here",)), ""
    known, where = task.file.version, "installed" if folder is None else f"in {folder}"
    if (task.name, str(known)) == (name, version):
        return against_task(entry, task), f"task {name} {version}, as it is {where}"
    if folder is None and version in map(str, range(1, known)):
        why = f"its task: version {known} of {name} is installed, the entry is of version {version}; give the folder of that one with --task"
        return AgainstTask((), (), (), (why,)), ""
    allowed = f"1 to {known}" if folder is None else f"{task.name} {known}, which is {where}"
    problem = f"version {version[:40]} of task {name} is not known; allowed: {allowed}"
    return AgainstTask((Finding("task", "", problem),), (), (), ("its task, which is not here",)), ""


def _installed(entry: Entry, host: PluginHost) -> Task:
    name = entry.task.name
    if (name if entry.task.cell is None else entry.task.cell.matrix) not in host.tasks.entries:
        raise UnknownNameError("task", name, host.tasks.entries, "Install what brings it, or give its folder with --task.")
    try:
        return find_task(host, name)
    except HarnessError as error:
        raise TaskError(f"task {name} cannot be read here: {error}", given=name, hint="give its folder with --task") from error
