"""Reading and writing entries: atomically, and with errors that name the file and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn

from pydantic import ValidationError

from harness.errors import StoreError
from harness.files import json_text as guarded
from harness.files.atomic import write_atomically
from harness.files.inputs import IN_MEMORY, Input
from harness.leaderboard.entry import ENTRY_SCHEMA_VERSION, Entry
from harness.leaderboard.migrations import migrate
from harness.types import Json

_REPLACE = "remove the file or put a valid one in its place"


def save_entry(entry: Entry, path: Path) -> Path:
    """Write an entry, atomically.

    Args:
        entry: validated once more, so that a copy with changed fields cannot keep its old id.
        path: the file, or a folder (without the ending ``.json``), in which the file gets the entry's :attr:`~Entry.file_name`.

    Returns:
        The file's path.

    Raises:
        StoreError: the entry does not validate, or the disk refuses.
    """
    path = Path(path)
    try:
        entry = Entry.model_validate(entry.as_json())
    except ValidationError as error:
        _refuse(error, path)
    target = path if path.suffix == ".json" else path / entry.file_name
    write_atomically(target, json.dumps(entry.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "entry")
    return target


def load_entry(path: Path) -> Entry:
    """Read an entry of this schema or an older one.

    Raises:
        StoreError: naming file and field: no such file, no JSON, a newer schema, a field that does not fit.
    """
    path = Path(path)
    value = read_json(path, "entry", ENTRY_SCHEMA_VERSION)
    try:
        return Entry.model_validate(migrate(value))
    except ValueError as error:  # pydantic's ValidationError is one, too
        _refuse(error, path)
    except (TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:  # a field of a type that no harness writes
        message = f"the entry {path} does not validate ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        raise StoreError(message, given=path, hint=_REPLACE) from error


def load_entries(folder: Path) -> tuple[list[Entry], list[str]]:
    """Return all entries (``*.json``) directly in ``folder``, oldest first, and a message for each file that is not one.

    Both are empty without the folder.
    """
    entries, problems = [], []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            entries.append(load_entry(path))
        except StoreError as error:
            problems.append(str(error))
    return sorted(entries, key=lambda entry: (entry.created, entry.id)), problems


def read_json(path: Path, what: str, version: int) -> dict[str, Json]:
    """Return a JSON object with a ``schema_version`` of at most ``version``. Raises StoreError naming the file."""

    value = guarded.read_json(path, Input(what, StoreError, _REPLACE, IN_MEMORY))
    found = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(value, dict) or type(found) is not int:
        raise StoreError(f"{path} is not a valid {what}", given=path, allowed="a JSON object with a schema_version", hint=_REPLACE)
    if found > version:
        message = f"{path} was written by a newer harness (schema {found})"
        raise StoreError(message, given=found, allowed=f"up to {version}", hint="upgrade harness")
    return value


def _refuse(error: ValueError, path: Path) -> NoReturn:
    """Raises the first problem of a validation or migration as one line with file and field."""
    message = f"the entry {path} does not validate: {describe_problem(error)}"
    raise StoreError(message, given=faulty_value(error), hint="mend the field or make the entry again") from error


def faulty_value(error: ValueError) -> object:
    """Returns the value at fault in the first problem of a validation; None for an error of another kind."""
    return error.errors()[0].get("input") if isinstance(error, ValidationError) else None


def describe_problem(error: ValueError) -> str:
    """Returns the first problem of a validation, and how many more there are: ``rows.0.metrics.overall.value: input should be …``."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors()
    field = ".".join(str(part) for part in problems[0]["loc"]) or "as a whole"
    message = str(problems[0]["msg"]).removeprefix("Value error, ")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{field}: {message}{more}"
