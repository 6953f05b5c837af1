"""One JSON object that holds a whole table: its rows under a name, a column under each name, or as pandas writes a frame.

================ ================================================================
rows under a key ``{"version": 1, "data": [{"text": …}, …]}``
columns          ``{"text": […], "label": […]}``
pandas columns   ``{"text": {"0": …}, "label": {"0": …}}`` (``orient="columns"``)
pandas split     ``{"columns": ["text", …], "index": […], "data": [[…], …]}``
pandas index     ``{"0": {"text": …, "label": …}, …}``
================ ================================================================

An object with a text is a record, and no table. Rows keep their order; what stands beside them is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.data.corpora.reading import TEXT_FIELDS
from harness.errors import DataError
from harness.types import Json

_SHOWN = 8
_ROWS = "write rows: DataFrame.to_json(…, orient='records', lines=True)"


def rows_in(value: Mapping[str, Json], path: Path) -> Iterator[Json] | None:
    """Return the rows of a table in one object; None for an object that is a record itself, or none that is known.

    Args:
        value: the object.
        path: the file that it is from, for messages.

    Raises:
        DataError: a table that cannot be read: rows under several keys, columns of different lengths, or rows and columns that can't be told apart.
    """
    if not value or any(isinstance(value.get(name), str) for name in TEXT_FIELDS):
        return None
    if (split := _split(value, path)) is not None:
        return split
    lists = {name: part for name, part in value.items() if isinstance(part, list)}
    records = [name for name, part in lists.items() if part and all(isinstance(row, dict) for row in part)]
    if len(records) == 1 and not any(name in lists for name in TEXT_FIELDS if name != records[0]):
        return iter(lists[records[0]])
    if len(records) > 1 and not any(name in value for name in TEXT_FIELDS):
        hint = f"write the rows of one of them as JSON lines: jq -c '.[\"{records[0]}\"][]' FILE > rows.jsonl"
        message = f"the corpus {path} is one JSON object with rows under several names ({_listed(records)})"
        raise DataError(message, given=path, hint=hint)
    if lists:
        return _columns(lists, path)
    if len(value) > 1 and all(isinstance(part, dict) for part in value.values()):
        return _nested(value, path)
    return None


def refuse_values(path: Path) -> DataError:
    """Return the error for a JSON list of lists, which names no columns."""
    message = f"the corpus {path} is a JSON list of lists (pandas orient='values'), which names no columns"
    return DataError(message, given=path, hint=_ROWS)


def _split(value: Mapping[str, Json], path: Path) -> Iterator[Json] | None:
    """Return the rows of ``orient="split"``."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    names = [str(name) for name in names]
    if wrong := next((number for number, row in enumerate(rows, 1) if len(row) != len(names)), None):
        message = f"the corpus {path} has {len(names)} columns ({_listed(names)}), and its row {wrong} {len(rows[wrong - 1])} values"
        raise DataError(message, given=path, hint=_ROWS)
    return (dict(zip(names, row, strict=True)) for row in rows)


def _columns(lists: Mapping[str, Sequence[Json]], path: Path) -> Iterator[Json]:
    lengths = {name: len(part) for name, part in lists.items()}
    if len(set(lengths.values())) > 1:
        found = _listed([f"{name}: {length:,}" for name, length in lengths.items()])
        message = f"the corpus {path} is one JSON object with columns of different lengths ({found})"
        raise DataError(message, given=path, hint=f"give each column as many values; or {_ROWS}")
    return (dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True))


def _nested(value: Mapping[str, Mapping[str, Json]], path: Path) -> Iterator[Json] | None:
    """Return the rows of ``orient="columns"`` or ``orient="index"``; None for objects that are neither."""
    inside = {name for part in value.values() for name in part}
    outer_texts, inner_texts = ({name for name in TEXT_FIELDS if name in names} for names in (value, inside))
    outer_numbers, inner_numbers = (bool(names) and all(name.isdigit() for name in names) for names in (value, inside))
    by_column = bool(outer_texts) or (inner_numbers and not outer_numbers)
    by_row = bool(inner_texts) or (outer_numbers and not inner_numbers)
    if by_column and not by_row:
        places = list(dict.fromkeys(place for part in value.values() for place in part))
        return ({name: part[place] for name, part in value.items() if place in part} for place in places)
    if by_row and not by_column:
        return iter(value.values())
    if all(not isinstance(item, dict | list) for part in value.values() for item in part.values()):
        message = f"the corpus {path} is one JSON object of objects ({_listed(list(value))}), which may be its rows or its columns"
        raise DataError(message, given=path, hint=_ROWS)
    return None


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
