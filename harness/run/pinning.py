"""Pinning a task: a copy whose sources on the hub are named by the commits that the hub serves today."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import tomlkit

from harness.errors import TaskError
from harness.files.artifacts import ArtifactCache
from harness.files.atomic import disk_error, write_atomically
from harness.files.progress import Progress
from harness.run.bench import Choices, TaskBench
from harness.run.sources import HubInput, hub_inputs
from harness.store.manifest import SourceRef
from harness.tasks.find import is_elsewhere, load_task
from harness.tasks.schema import FILE_NAME, Task


def pin(task: Task, target: Path) -> list[SourceRef]:
    """Write a copy of a task that names the commits which the hub serves today, and return them.

    A source that names a commit already keeps it. Everything else in the task file stays as it is written, comments too.

    Args:
        task: the task.
        target: a folder that does not exist yet, which gets the task's other files, too; or the place of a ``.toml`` file. Files that do not
            come along are named by their whole paths in the copy.

    Raises:
        TaskError: nothing of it lies on the hub, or ``target`` exists.
        HarnessError: the hub cannot tell.
    """
    moving = [path for axis in task.file.matrix for row in axis.values for path in row.sets if path.rpartition(".")[2] in ("source", "name")]
    if task.cell is not None or moving:
        what = "a cell of a matrix" if task.cell is not None else f"a matrix that sets {moving[0]}"
        hint = "write the commits into the task file yourself: `revision` beside each source"
        raise TaskError(f"task {task.name!r} is {what}, which cannot be pinned", given=task.name, hint=hint)
    if target.exists():
        raise TaskError(f"{target} exists already", given=target, hint="name another place with --out")
    bench = TaskBench(task, Choices(), ArtifactCache(task.folder), Progress(quiet=True))
    items = hub_inputs(bench)
    if not items:
        raise TaskError(f"nothing of task {task.name!r} lies on the hub, so there is nothing to pin", given=task.name, hint="use it as it is")
    commits = [item.served_commit() for item in items]
    document = tomlkit.parse((task.folder / FILE_NAME).read_text(encoding="utf-8"))
    for item, commit in zip(items, commits, strict=True):
        _write(_table(document, item), commit)
    alone = target.suffix == ".toml"
    _absolute(document, task, moved=alone)
    try:
        if alone:
            write_atomically(target, tomlkit.dumps(document), "the pinned task")
        else:
            shutil.copytree(task.folder, target)
            write_atomically(target / FILE_NAME, tomlkit.dumps(document), "the pinned task")
    except OSError as error:
        raise disk_error(error, f"write {target}", "nothing else was changed") from error
    load_task(target)  # what was written holds
    return [
        SourceRef(what=item.what, name=item.name, source=item.source, revision=commit, commit=commit, pinned=True)
        for item, commit in zip(items, commits, strict=True)
    ]


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _table(document: tomlkit.TOMLDocument, item: HubInput) -> Any:
    if item.what == "dictionary":
        tables: Any = document["dictionaries"]
        return next(table for table in tables if table.get("name", "sae") == item.name)
    return document[item.what]


def _write(table: Any, commit: str) -> None:
    """Put the commit behind the name or source that it belongs to."""
    if "revision" in table:
        table["revision"] = commit
        return
    key = next(key for key in ("source", "file", "name") if key in table)
    entries = [(name, table[name]) for name in table]
    place = [name for name, _ in entries].index(key)
    for name, _ in entries[place + 1 :]:
        table.remove(name)
    table["revision"] = commit
    for name, value in entries[place + 1 :]:
        table[name] = value


def _absolute(document: tomlkit.TOMLDocument, task: Task, moved: bool) -> None:
    """Name local files that do not come along by their whole paths: all, or those that lie outside of the task's folder."""
    places: list[tuple[Any, str]] = [(document.get("model"), "name"), *((table, "source") for table in document.get("dictionaries", []))]
    places += [(document.get(name), "source") for name in ("corpus", "instructions")] + [(document.get("concepts"), "file")]
    for table, key in places:
        value = str(table.get(key, "")) if table is not None else ""
        if not value or is_elsewhere(value) or os.path.isabs(value):
            continue
        path = task.path(value)
        if path.exists() and (moved or not path.is_relative_to(task.folder)):
            table[key] = str(path)
