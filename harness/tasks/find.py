"""Finding and loading a task: by name, folder or file; and where its corpus and instructions lie."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.errors import DataError, TaskError, UnknownNameError
from harness.plugin.host import PluginHost
from harness.tasks.schema import FILE_NAME, Task, TaskFile


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict. Raises TaskError where it is missing, unreadable or malformed (with the line)."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        with path.open("rb") as stream:
            content: dict[str, Any] = tomllib.load(stream)
            return content
    except FileNotFoundError:
        raise TaskError(f"no task file at {path}; give a task's name (see `harness tasks`) or a folder with a {FILE_NAME}") from None
    except OSError as error:
        raise TaskError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not valid TOML: {error}") from None


def load_task(folder: Path) -> Task:
    """The task in ``folder`` (or of a ``task.toml`` itself).

    Raises:
        TaskError: no such file, malformed TOML, an unknown key, a value out of bounds; names file and key.
    """
    path = folder if folder.suffix == ".toml" else folder / FILE_NAME
    content = read_toml(path)
    try:
        return Task(path.parent.resolve(), TaskFile.model_validate(content))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "the file"
        message = str(problem["msg"]).removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            raise TaskError(f"{path}: unknown key {where}; see docs/tasks.md for the keys that exist") from None
        raise TaskError(f"{path}: {where}: {message} (given: {problem.get('input')!r:.80}); see docs/tasks.md") from None


def find_task(host: PluginHost, name: str) -> Task:
    """A task by its registered name, or by a path (anything with a slash, or that exists as a folder or file)."""
    if name in host.tasks.entries:
        return load_task(host.tasks.entries[name][0])
    path = Path(name).expanduser()
    if "/" in name or path.exists():
        return load_task(path)
    raise UnknownNameError("task", name, host.tasks.entries, "A folder with a task.toml works, too.")


def hub_file(source: str) -> Path:
    """``hub:owner/name/path/in/dataset`` as a local file, downloaded by huggingface_hub. Raises DataError where it cannot be had."""
    owner, name, *rest = source.removeprefix("hub:").split("/")
    if not rest:
        raise DataError(f"{source!r} names no file; write hub:owner/dataset/path")
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(f"{owner}/{name}", "/".join(rest), repo_type="dataset"))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"cannot get {source} from the hub ({first}); download it yourself and give the file's path") from None


def resolve(task: Task, source: str | None, flag: str, what: str) -> Path:
    """Where a corpus or instruction file of a task lies. Raises TaskError where the task names none or it is not there."""
    if source is None:
        raise TaskError(f"task {task.name!r} ships no {what} (licence); give your own with {flag} PATH")
    if source.startswith("hub:"):
        return hub_file(source)
    if source.startswith("hf:"):
        return Path(source)
    path = task.path(source)
    if not path.exists():
        raise TaskError(f"task {task.name!r}: {what} {path} does not exist; give another with {flag} PATH")
    return path


def options_of(task: Task, kind: str) -> Mapping[str, Mapping[str, Any]]:
    """The task's options of one kind of plugin (``labeler``, ``steerer``, ``detector``, ``metric``, ``judge``), by plugin name."""
    tables: dict[str, Mapping[str, Mapping[str, Any]]] = {
        "labeler": task.file.labelers,
        "steerer": task.file.steerers,
        "detector": {table.detector: table.options for table in task.file.detectors},
        "metric": {table.metric: table.options for table in task.file.metrics},
        "judge": task.file.judges,
    }
    return tables[kind]
