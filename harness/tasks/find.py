"""Finding and loading a task: by name, folder or file; and where its corpus and instructions lie."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.data.corpora.on_the_hub import fetch_corpus, hub_name
from harness.data.corpora.reading import DATASET_PREFIX, DUMP_PREFIX
from harness.errors import TaskError, UnknownNameError
from harness.files.progress import Progress
from harness.files.toml import read_toml
from harness.hub.download import fetch
from harness.hub.source import HUB_PREFIX, hub_source
from harness.plugin.grammar import PluginRequest
from harness.plugin.host import PluginHost
from harness.tasks.matrix import IS, MARK, one_cell
from harness.tasks.schema import FILE_NAME, Task, TaskFile


def load_task(folder: Path) -> Task:
    """Return the task in ``folder`` (or of a ``task.toml`` itself).

    Raises:
        TaskError: no such file, malformed TOML, an unknown key, a value out of bounds; names file and key.
    """
    path = folder if folder.suffix == ".toml" else folder / FILE_NAME
    content = read_toml(path, "task file", TaskError, f"give a task's name (see `harness tasks`) or a folder with a {FILE_NAME}")
    try:
        return Task(path.parent.resolve(), TaskFile.model_validate(content))
    except ValidationError as error:
        problem = error.errors()[0]
        where = shown(".".join(str(part) for part in problem["loc"])) or "the file"
        message = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            raise TaskError(f"{path}: unknown key {where}", given=where, hint="see docs/tasks.md for the keys that exist") from None
        value = problem.get("input")
        raise TaskError(f"{path}: {where}: {message} (given: {value!r:.80})", given=value, hint="see docs/tasks.md") from None


def shown(text: str) -> str:
    """Return a text as it is shown in one line: in quotes and escaped where it holds what cannot be printed."""
    return text if text.isprintable() else repr(text)


def find_task(host: PluginHost, name: str) -> Task:
    """Return a task by its registered name, or by a path (anything with a slash, or that exists as a folder or file).

    ``NAME@axis=value,axis=value`` is a cell of a task's matrix: a task of its own.
    """
    if name in host.tasks.entries:
        return load_task(host.tasks.entries[name][0])
    path = Path(os.path.expanduser(name))
    base, mark, cell = name.rpartition(MARK)
    if base and mark and IS in cell and not os.path.exists(path):
        task = find_task(host, base)
        return task.at(one_cell(task.name, task.file.cells, cell))
    if "/" in name or os.path.exists(path):
        return load_task(path)
    raise UnknownNameError("task", name, host.tasks.entries, "A folder with a task.toml works, too.")


def task_address(host: PluginHost, name: str) -> str:
    """Return what names a task from any folder: its registered name as it is, a path in full; a cell of either stays one."""
    base, mark, cell = name.rpartition(MARK)
    if name in host.tasks.entries or (base in host.tasks.entries and IS in cell):
        return name
    if base and IS in cell and not os.path.exists(os.path.expanduser(name)):
        return f"{task_address(host, base)}{mark}{cell}"
    return str(Path(name).expanduser().resolve())


def hub_file(source: str, revision: str | None = None, what: str = "file", progress: Progress | None = None) -> Path:
    """Return ``hub:owner/name/path/in/dataset`` as a local file, fetched where the hub's cache does not hold it.

    Raises DataError where it cannot be had.
    """
    where, file = hub_source(source, revision, what)
    return fetch(where, file, progress)


def is_elsewhere(source: str) -> bool:
    """Return whether a source of a task is the name of something on the hub, or of a dump in the cache, and not a path."""
    return source.startswith(("hub:", DATASET_PREFIX, DUMP_PREFIX))


def resolve(task: Task, source: str | None, flag: str, what: str, revision: str | None = None, progress: Progress | None = None) -> Path:
    """Return where a corpus or instruction file of a task lies, fetched from the hub where it is there.

    Raises TaskError where the task names none or it is not there, DataError where the hub cannot give it, or where a dump was not fetched yet.
    """
    if source is None:
        raise TaskError(f"task {task.name!r} ships no {what} (licence)", hint=f"give your own with {flag} PATH")
    if what == "corpus" and (name := hub_name(source)) is not None:
        return fetch_corpus(name, revision, progress)
    if source.startswith(HUB_PREFIX):
        return hub_file(source, revision, what, progress)
    if source.startswith(DATASET_PREFIX):
        return Path(source)
    if source.startswith(DUMP_PREFIX):
        from harness.data.dumps.stackexchange import find_dump

        return find_dump(source)
    path = task.path(source)
    if not os.path.exists(path):
        raise TaskError(f"task {task.name!r}: {what} {path} does not exist", given=path, hint=f"give another with {flag} PATH")
    if what != "corpus" and path.is_dir():
        raise TaskError(f"task {task.name!r}: {what} {path} is a folder", given=path, allowed="a file", hint=f"give one with {flag} PATH")
    return path


def option_tables(task: Task, kind: str) -> Mapping[str, Mapping[str, Any]]:
    """The task's tables of options of one kind of plugin (``[labelers.NAME]``, …), by plugin name; detectors and metrics have none."""
    tables: dict[str, Mapping[str, Mapping[str, Any]]] = {
        "labeler": task.file.labelers,
        "steerer": task.file.steerers,
        "judge": task.file.judges,
    }
    return tables.get(kind, {})


def options_of(task: Task, kind: str) -> Mapping[str, Mapping[str, Any]]:
    """The task's default options of one kind of plugin, by plugin name: its table's, and for detectors and metrics those of its first row."""
    rows: dict[str, list[PluginRequest]] = {
        "detector": [table.request for table in task.file.detectors],
        "metric": [table.request for table in task.file.metrics],
    }
    first = {request.name: request.options for request in reversed(rows.get(kind, []))}
    return {**option_tables(task, kind), **first}
