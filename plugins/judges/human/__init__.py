"""The human judge: texts go to people as a sheet, and their ratings come back with a later run of the same command.

``submit`` writes the texts, blinded and shuffled, into a folder: as a CSV file, or as a page to rate in (``page.py``). ``collect``
reads every CSV file of that folder. A row is known by its id, a digest of what the rater sees and of nothing else, so a text that stands in
a sheet is never asked again, and a sheet is never overwritten: new texts go to a new one.

With several raters, each is kept in the rating's details, and the rating is their median (1.5 where two say 1 and 2). The sheets' form is that of
:mod:`harness.judging.sheets`.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness import hookimpl
from harness.contracts import JudgeTraits
from harness.errors import DataError, JudgeError
from harness.files.atomic import disk_error, write_atomically
from harness.judging.sheets import SKIP, Answer, SheetRow, Sheets, sheet_row
from harness.options import Options
from harness.types import ASPECTS, JudgeItem, Rating, canonical_json, digest, rng

from .guide import guide_text
from .page import render_page
from .sheets import missing, read_sheets, sheet_csv

if TYPE_CHECKING:
    from harness.contracts import JudgeBench


class HumanOptions(Options):
    """Options of ``human``. Give the same ones again to collect: another value makes another judge."""

    form: Literal["csv", "page"] = "csv"
    """A CSV file for a spreadsheet, or one HTML page that shows a text at a time and needs no network."""
    folder: str | None = None
    """Where the sheets are written and read; none takes ./ratings/ and a digest of instructions, seed, form and delimiter."""
    raters: int = Field(1, ge=1, le=1000)
    """So many people must have rated a text before it counts; the rating is the median of all whose files are there by then."""
    delimiter: Literal["comma", "semicolon"] = "comma"
    """What separates the cells of a CSV sheet: spreadsheets of countries with a decimal comma want the semicolon. Both are read."""


class HumanJudge:
    """See the module. Implements :class:`harness.contracts.Judge`; an item is pending until enough people have rated it."""

    # All texts of a run make one sheet.
    traits = JudgeTraits(rubric="human/1", offline=False, at_once=100_000, answers_later="people, who rate its sheets by hand")

    def __init__(self, options: HumanOptions) -> None:
        self.options = options
        self._place: tuple[Path, int] | None = None

    def prepare(self, bench: JudgeBench) -> None:
        """Settle where the sheets lie. Nothing is written before there is something to rate."""
        folder = self.options.folder
        if folder is None:
            form = [self.traits.rubric, self.options.form, self.options.delimiter]
            run = [bench.seed, bench.concept_mode, [instruction.text for instruction in bench.instructions], form]
            folder = f"ratings/{digest(run, 12)}"
        self._place = Path(folder).expanduser().resolve(), bench.seed

    def submit(self, items: Sequence[JudgeItem]) -> list[Rating]:
        """Return pending ratings, whose texts are in a sheet now; at once what people have said of the same text before.

        Raises:
            JudgeError: :meth:`prepare` has not been called.
            DataError: a file in the folder cannot be read as a sheet.
            StoreError: the folder cannot be written to.
        """
        folder, seed = self._settled()
        answers = [Rating(item.id, "unrated", reason=f"the {missing(item)} is empty") for item in items if missing(item)]
        asked = [(item.id, sheet_row(item)) for item in items if not missing(item)]
        if asked:
            with _locked(folder):
                sheets = read_sheets(folder)
                new = {row.id: row for _, row in asked if row.id not in sheets.placed}
                if new:
                    name = self._write(folder, seed, list(new.values()))
                    sheets.placed.update(dict.fromkeys(new, name))
        return answers + [self._rating(item_id, row.id, sheets) for item_id, row in asked]

    def collect(self, tickets: Sequence[str]) -> Iterator[Rating]:
        """Yield the median of the ratings of each ticket's text; unrated where people skipped it; pending where too few have answered.

        Raises:
            JudgeError: a ticket that another judge gave, or :meth:`prepare` has not been called.
            DataError: a file in the folder cannot be read as a sheet, or the sheet of a ticket is gone.
        """
        own, _ = self._settled()
        folders: dict[Path, Sheets] = {}
        for ticket in tickets:
            where, sheet, row_id, item_id = _open_ticket(ticket)
            place = where if where.is_dir() else own
            if place not in folders:
                folders[place] = read_sheets(place)
            if row_id not in folders[place].placed:
                hint = "put it (or the raters' files) back, or ask anew with another folder (-J folder=…)"
                raise DataError(f"{sheet} in {where}, which text {row_id} was asked in, is gone", given=where / sheet, hint=hint)
            yield self._rating(item_id, row_id, folders[place])

    def _settled(self) -> tuple[Path, int]:
        if self._place is None:
            raise JudgeError("the human judge has not been prepared", hint="call prepare(bench) first")
        return self._place

    def _write(self, folder: Path, seed: int, rows: list[SheetRow]) -> str:
        """Write a new sheet in an order that is the seed's alone; its file's name."""
        taken = [int(found[1]) for path in folder.iterdir() if (found := re.match(r"sheet-(\d+)", path.name))]
        name = f"sheet-{max(taken, default=0) + 1}"
        rows = sorted(rows, key=lambda row: row.id)
        order = rng(seed, "human-sheet", digest([row.id for row in rows])).permutation(len(rows))
        shuffled = [rows[place] for place in order]
        if self.options.form == "page":
            path, content = folder / f"{name}.html", render_page(name, shuffled).encode()
        else:
            path, content = folder / f"{name}.csv", sheet_csv(shuffled, ";" if self.options.delimiter == "semicolon" else ",")
        if not (folder / "README.txt").exists():
            write_atomically(folder / "README.txt", guide_text(), "guide for raters")
        write_atomically(path, content, "sheet to rate")
        return path.name

    def _rating(self, item_id: str, row_id: str, sheets: Sheets) -> Rating:
        given = sheets.answers.get(row_id, {})
        rated = {rater: answer for rater, answer in sorted(given.items()) if answer.complete}
        skipped = {rater: answer for rater, answer in sorted(given.items()) if answer.skipped}
        details: dict[str, Any] = {"raters": {rater: _details(answer) for rater, answer in sorted((rated | skipped).items())}}
        if len(rated) >= self.options.raters:
            columns = zip(*([value for value in answer.ratings if value is not None] for answer in rated.values()), strict=True)
            concept, instruction, fluency = (float(statistics.median(values)) for values in columns)
            return Rating(item_id, "rated", concept, instruction, fluency, details=details)
        if skipped and len(rated) + len(skipped) >= self.options.raters:
            reasons = "; ".join(f"skipped by {rater}: {answer.comment or 'no reason given'}" for rater, answer in skipped.items())
            return Rating(item_id, "unrated", reason=reasons, details=details)
        sheet = sheets.placed[row_id]
        ticket = canonical_json({"folder": str(sheets.folder), "sheet": sheet, "row": row_id, "item": item_id})
        reason = f"waits for raters ({len(rated)} of {self.options.raters}): {sheets.folder / sheet}"
        return Rating(item_id, "pending", reason=reason, ticket=ticket, details=details)


def _details(answer: Answer) -> dict[str, Any]:
    """Return an answer as it is kept beside the rating."""
    kept: dict[str, Any] = {SKIP: True} if answer.skipped else dict(zip(ASPECTS, answer.ratings, strict=True))
    return kept | ({"comment": answer.comment} if answer.comment else {})


def _open_ticket(ticket: str) -> tuple[Path, str, str, str]:
    """Return the folder, sheet, row and item of a ticket. Raises JudgeError for one that is not ours."""
    try:
        value = json.loads(ticket)
        return Path(value["folder"]), str(value["sheet"]), str(value["row"]), str(value["item"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise JudgeError(
            f"the human judge knows no ticket {ticket[:80]!r}", given=ticket, hint="rate with the judge that gave it"
        ) from None


def _locked(folder: Path) -> Any:
    """Holds the folder (made if absent) against another run that writes a sheet at the same moment."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(error, f"make the folder for ratings {folder}") from error
    return FileLock(folder / ".lock")


@hookimpl
def harness_register_judges(registry: Any) -> None:
    registry.add(
        "human", HumanJudge, options=HumanOptions, summary="people: a blinded, shuffled CSV sheet or local page, read back by a later run"
    )
