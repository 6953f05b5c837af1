"""The axes of a task that is run several times over: what each value of an axis sets in the task file, and the cells of all combinations."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from harness.errors import TaskError, UnknownNameError
from harness.tasks.dictionaries import Options, Table
from harness.types import Json

MARK, BETWEEN, IS = "@", ",", "="
"""How a cell is written: ``task@axis=value,axis=value``."""
MOST_CELLS = 10_000
_FIXED = ("schema", "name", "version", "matrix")
"""Keys of the task file that no axis sets."""
_SOURCES = ("source", "name")
"""Keys that say where something is: what is set in their place takes its ``revision`` along."""


def _word(text: str) -> str:
    """Refuse what cannot be part of a cell's name."""
    if not text or not text.isprintable() or any(sign in text for sign in (MARK, BETWEEN, IS, " ", "/")):
        raise ValueError(f"{text!r} cannot be part of a cell's name: no spaces, and none of {MARK} {BETWEEN} {IS} /")
    return text


Word = Annotated[str, AfterValidator(_word)]
"""The name of an axis or of one of its values."""


class MatrixValue(Table):
    """``[[matrix.values]]``: a value of an axis, and what it sets. A name may stand in several rows, for what depends on other axes."""

    name: Word
    """The value's name: it is part of the names of cells."""
    sets: Options = Field(default_factory=dict)
    """Keys of the task file by their path, and their values: `{"labelers.calibf1.score" = "f1", "dictionaries.0.layer" = 17}`; lists count from 0."""
    where: dict[str, str] = Field(default_factory=dict)
    """Values of other axes with which this row counts: `{layer = "17"}`; empty: with all."""


class MatrixTable(Table):
    """``[[matrix]]``: an axis: the task is run once for each of its values, in every combination with those of the other axes."""

    name: Word
    """The axis' name."""
    key: str | None = None
    """The one key that the values set: then `values` may be plain, `values = ["calibrated-f1", "f1"]`, and each is named by what it is."""
    values: tuple[MatrixValue, ...]
    """Its values: plain ones under `key`, or rows of their own."""

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, given: Any) -> Any:
        """Plain values under ``key`` as rows."""
        if not isinstance(given, Mapping) or not isinstance(given.get("values"), list | tuple):
            return given
        key, values = given.get("key"), given["values"]
        if any(not isinstance(value, Mapping | MatrixValue) for value in values):
            if not isinstance(key, str):
                raise ValueError("plain values need `key`, the key of the task file that they set")
            rows = [value if isinstance(value, Mapping | MatrixValue) else {"name": _name(value), "sets": {key: value}} for value in values]
            return {**given, "values": rows}
        return given

    @model_validator(mode="after")
    def _has_values(self) -> MatrixTable:
        if not self.values:
            raise ValueError(f"axis {self.name!r} has no values")
        for value in self.values:
            for path in value.sets:
                if path.split(".")[0] in _FIXED or not all(path.split(".")):
                    raise ValueError(f"axis {self.name!r} sets {path!r}, which no axis can set")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the values, each once, in their order."""
        return tuple(dict.fromkeys(value.name for value in self.values))


def _name(value: object) -> str:
    """Return what a plain value is called."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Cell:
    """One combination of the axes' values.

    Attributes:
        values: (axis, value), in the order of the axes.
        place: its number in the matrix, from 0.
        of: cells of the matrix.
        sets: keys of the task file and their values.
    """

    values: tuple[tuple[str, str], ...]
    place: int
    of: int
    sets: Mapping[str, Json] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """Return the cell as it is written on the command line and in task names: ``forum=academia,layer=17``."""
        return BETWEEN.join(f"{axis}{IS}{value}" for axis, value in self.values)


def cells_of(axes: Sequence[MatrixTable]) -> tuple[Cell, ...]:
    """Return the cells of a matrix, the last axis varying fastest; none without axes.

    Raises ValueError for two axes of one name, a ``where`` that names no axis or value, a cell for which a value sets nothing since none of its
    rows counts, and a cell in which two axes set one key.
    """
    names = [axis.name for axis in axes]
    if len(set(names)) < len(names):
        raise ValueError(f"two axes have one name: {', '.join(names)}")
    values = {axis.name: axis.names for axis in axes}
    for axis in axes:
        for row in axis.values:
            for other, wanted in row.where.items():
                if other == axis.name or other not in values or wanted not in values[other]:
                    raise ValueError(f"axis {axis.name!r}, value {row.name!r}: where names {other} = {wanted!r}, which no other axis has")
    total = math.prod(len(axis.names) for axis in axes) if axes else 0
    if total > MOST_CELLS:
        raise ValueError(f"the matrix has {total:,} cells; {MOST_CELLS:,} at most")
    combinations = product(*(axis.names for axis in axes)) if axes else ()
    return tuple(_cell(axes, combination, place, total) for place, combination in enumerate(combinations))


def _cell(axes: Sequence[MatrixTable], combination: Sequence[str], place: int, total: int) -> Cell:
    chosen = dict(zip((axis.name for axis in axes), combination, strict=True))
    sets: dict[str, Json] = {}
    by: dict[str, str] = {}
    for axis in axes:
        rows = [row for row in axis.values if row.name == chosen[axis.name] and all(chosen[other] == value for other, value in row.where.items())]
        if not rows:
            raise ValueError(f"axis {axis.name!r} has no row of {chosen[axis.name]!r} for {_shown(chosen)}")
        for row in rows:
            for path, value in row.sets.items():
                if path in sets:
                    raise ValueError(f"{by[path]} and axis {axis.name!r} both set {path!r} for {_shown(chosen)}")
                sets[path], by[path] = value, f"axis {axis.name!r}"
    return Cell(tuple(chosen.items()), place, total, sets)


def _shown(chosen: Mapping[str, str]) -> str:
    return BETWEEN.join(f"{axis}{IS}{value}" for axis, value in chosen.items())


def with_settings(content: Mapping[str, Json], sets: Mapping[str, Json]) -> dict[str, Json]:
    """Return a task file's content with other values for some keys.

    A table that is missing is made; a place of a list must be there. A source (or a model's name) that is set takes the ``revision`` that stands
    beside the old one along, unless that is set, too.

    Raises ValueError for a path that leads nowhere.
    """
    found: dict[str, Json] = copy.deepcopy(dict(content))
    for path, value in sets.items():
        *way, last = path.split(".")
        place: Json = found
        for number, part in enumerate(way):
            place = _step(place, part, path) if not isinstance(place, dict) or part in place else place.setdefault(part, {})
            if not isinstance(place, dict | list):
                raise ValueError(f"{path!r} leads nowhere: {'.'.join(way[: number + 1])} is no table")
        if isinstance(place, list):
            _step(place, last, path)
            place[int(last)] = copy.deepcopy(value)
            continue
        beside = ".".join([*way, "revision"])
        if last in _SOURCES and beside not in sets:
            place.pop("revision", None)
        place[last] = copy.deepcopy(value)
    return found


def _step(place: Json, part: str, path: str) -> Json:
    if isinstance(place, list):
        if not part.isdigit() or int(part) >= len(place):
            raise ValueError(f"{path!r} leads nowhere: the list has {len(place)} places, from 0, and {part!r} is none of them")
        return place[int(part)]
    return place[part]


# ------------------------------------------------------------------------------------------------------------------------ choosing cells


def chosen_cells(task: str, cells: Sequence[Cell], selections: Iterable[str]) -> tuple[Cell, ...]:
    """Return the cells that any of ``selections`` (``axis=value,axis=value``) means, in their order; all where there is no selection.

    An axis that a selection does not name is taken with all of its values.

    Raises:
        TaskError: a selection in another form.
        UnknownNameError: an axis or value that does not exist.
    """
    wanted = [_parsed(task, cells, text) for text in selections]
    if not wanted:
        return tuple(cells)
    return tuple(cell for cell in cells if any(all(dict(cell.values)[axis] == value for axis, value in one.items()) for one in wanted))


def one_cell(task: str, cells: Sequence[Cell], text: str) -> Cell:
    """Return the cell that ``text`` names in full. Raises as :func:`chosen_cells`, and TaskError where it leaves an axis out."""
    wanted = _parsed(task, cells, text)
    left_out = [axis for axis, _ in cells[0].values if axis not in wanted]
    if left_out:
        message = f"{text!r} names no value of {', '.join(left_out)}, so it is no single cell of task {task!r}"
        raise TaskError(message, given=text, allowed=f"all of {', '.join(axis for axis, _ in cells[0].values)}", hint="or run several with --cell")
    return next(cell for cell in cells if dict(cell.values) == wanted)


def _parsed(task: str, cells: Sequence[Cell], text: str) -> dict[str, str]:
    if not cells:
        raise TaskError(f"task {task!r} has no matrix", given=text, hint="leave the cell out")
    values: dict[str, dict[str, None]] = {}
    for cell in cells:
        for axis, value in cell.values:
            values.setdefault(axis, {})[value] = None
    found: dict[str, str] = {}
    for part in text.split(BETWEEN):
        axis, sign, value = (word.strip() for word in part.partition(IS))
        if not sign or axis in found:
            raise TaskError(f"{text!r} names no cell", given=text, allowed="axis=value,axis=value, each axis once", hint=f"axes: {', '.join(values)}")
        if axis not in values:
            raise UnknownNameError(f"axis of task {task}", axis, values)
        if value not in values[axis]:
            raise UnknownNameError(f"value of axis {axis}", value, values[axis])
        found[axis] = value
    return found
