"""A task's matrix from stored runs alone, and its summary on disk: no model, task, plugin or network is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, UnknownNameError
from harness.evaluations.entry import make_entry
from harness.evaluations.stored_entries import entries_of
from harness.files.atomic import write_atomically
from harness.leaderboard.entry import Entry
from harness.leaderboard.matrix import Matrix, matrix_of
from harness.leaderboard.matrix_figure import figure
from harness.leaderboard.site.matrix_page import FIGURES, matrix_page
from harness.store import RunStore
from harness.store.manifest import CellRef
from harness.types import Json, digest

FOLDER = "matrices"
"""Below ``--out``: a folder for each matrix and command."""


@dataclass(frozen=True)
class StoredCell:
    """The run of one cell, as it is stored.

    Attributes:
        cell: which.
        folder: of the run.
        started: when it was begun.
        command: digest of what was asked for beside the cell: cells of one command belong together.
        done: it has an entry, or all that one is made of.
    """

    cell: CellRef
    folder: Path
    started: str
    command: str
    done: bool


def command_digest(command: Mapping[str, Json]) -> str:
    """Return what tells the command of a matrix from others, by a run's manifest or :func:`harness.run.manifest.command_of`; the task is left out."""
    asked = {**dict(command.get("asked") or {})}
    asked.pop("side_effects", None)  # measured or not, a run is the same
    return digest([asked, command.get("choices"), command.get("plugins") or []], 12)


def stored_cells(out: Path, matrix: str | None = None) -> list[StoredCell]:
    """Return the runs below ``out`` that are cells of a matrix, oldest first; of one task, or of all. Runs that cannot be read are passed over."""
    found = []
    for folder in sorted((out / "runs").glob("*@*")) if (out / "runs").is_dir() else ():
        try:
            with RunStore.open(folder, read_only=True, check=False) as store:
                if store.incomplete or (cell := store.manifest.task.cell) is None or matrix not in (None, cell.matrix):
                    continue
                found.append(StoredCell(cell, folder, store.started, command_digest(store.manifest.command), not entries_of(store)[1]))
        except HarnessError:
            continue
    return sorted(found, key=lambda one: (one.started, one.folder.name))


def stored_matrix(out: Path, matrix: str | None = None, command: str | None = None, judge: str | None = None) -> tuple[Matrix, str]:
    """Return the matrix that stored runs make, of each cell the newest run; and the digest of the command that they are of.

    Args:
        out: where ``runs/`` lies.
        matrix: name of the task; None takes that of the newest run.
        command: digest of the command (or its beginning); None takes the newest run's.
        judge: key or name of the judge whose ratings count; None takes each run's own.

    Raises:
        UnknownNameError: no such matrix or command is stored.
        StoreError: a judge that rated none of the runs.
    """
    known = stored_cells(out)
    names = dict.fromkeys(one.cell.matrix for one in known)
    if not known or (matrix is not None and matrix not in names):
        raise UnknownNameError("matrix", matrix or "", names, f"(below {out / 'runs'}; `harness eval --task` runs one)")
    mine = [one for one in known if one.cell.matrix == (matrix or known[-1].cell.matrix)]
    commands = dict.fromkeys(one.command for one in mine)
    wanted = [one for one in commands if one.startswith(command)] if command is not None else [mine[-1].command]
    if len(wanted) != 1:
        raise UnknownNameError("command of this matrix", command or "", commands)
    newest: dict[int, StoredCell] = {one.cell.place: one for one in mine if one.command == wanted[0]}
    entries, problems = [], []
    for one in sorted(newest.values(), key=lambda one: one.cell.place):
        with RunStore.open(one.folder, read_only=True) as store:
            entry, problem = _entry(store, judge)
        if entry is not None:
            entries.append(entry)
        else:
            problems.append((_name(one.cell), problem))
    if not entries:
        raise UnknownNameError("matrix with a finished cell", mine[0].cell.matrix, (), f"(the first is unfinished: {problems[0][1]})")
    return matrix_of(entries, problems), wanted[0]


def write_matrix(matrix: Matrix, out: Path, command: str) -> Path:
    """Write a matrix' summary below ``out``: numbers, a page, and a figure for each kind of evaluation that has one. Returns the page's path.

    Raises StoreError where the disk refuses.
    """
    folder = out / FOLDER / f"{matrix.name}-{command}"
    write_atomically(folder / "matrix.json", json.dumps(matrix.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", "matrix")
    for kind in matrix.kinds:
        if kind in FIGURES:
            write_atomically(folder / f"{kind}.svg", figure(matrix, kind), "figure of a matrix")
    page = folder / "index.html"
    write_atomically(page, matrix_page(matrix), "page of a matrix")
    return page


def finished(cells: Iterable[StoredCell], command: str) -> set[int]:
    """Return the places of the cells that a command has run to the end."""
    return {one.cell.place for one in cells if one.command == command and one.done}


def _entry(store: RunStore, judge: str | None) -> tuple[Entry | None, str]:
    """Return a run's entry by one judge's ratings, or why there is none."""
    record = store.judge_named(judge)
    found, reason = entries_of(store)
    key = record.ranking_key if record is not None else None
    own = [entry for entry in found if (entry.judge.key if entry.judge is not None else None) == key]
    if own:
        return min(own, key=lambda entry: entry.protocol.title != store.manifest.protocol.title), ""
    if reason:
        return None, reason
    return make_entry(store.manifest, store, record), ""


def _name(cell: CellRef) -> str:
    return ",".join(f"{axis}={value}" for axis, value in cell.values)
