"""The human judge: texts go to people as a sheet, and their ratings come back with a later run of the same command.

``submit`` writes the texts, blinded and shuffled, into a folder: as a CSV file, or as a page to rate in (:mod:`harness.judging.page`). ``collect``
reads every CSV file of that folder. A row is known by its id, a digest of what the rater sees and of nothing else, so a text that stands in
a sheet is never asked again, and a sheet is never overwritten: new texts go to a new one.

Each file is one rater's, named by the file: ``sheet-1-anna.csv`` and ``sheet-2-anna.csv`` are Anna's, ``sheet-1.csv`` is that of a rater without
a name. With several raters, each is kept in the rating's details, and the rating is their median (1.5 where two say 1 and 2).
"""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness import hookimpl
from harness.disk import disk_error, write_atomically
from harness.errors import DataError, JudgeError
from harness.judging.page import COLUMNS, GUIDE, SKIP, SheetRow, page_ids, render_page, safe_cell
from harness.options import Options
from harness.types import JudgeItem, Rating, canonical_json, digest, rng

if TYPE_CHECKING:
    from harness.contracts import Bench

ASPECTS = tuple(aspect.name for aspect in GUIDE)
RATING_COLUMNS = tuple(f"{name}_rating" for name in ASPECTS)
UNNAMED = "unnamed"
"""The rater of a file that is called as its sheet."""
_ID = re.compile(r"t[0-9a-f]{12}")
_WORKBOOKS = (".xlsx", ".xls", ".ods", ".numbers")


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


@dataclass(frozen=True)
class Answer:
    """What one rater says of one text: ratings by aspect (None: an empty cell), or ``skipped``; ``place`` is file and row, for messages."""

    ratings: tuple[float | None, ...]
    skipped: bool
    comment: str
    place: str

    @property
    def blank(self) -> bool:
        return not self.skipped and all(rating is None for rating in self.ratings)

    @property
    def complete(self) -> bool:
        return not self.skipped and None not in self.ratings


@dataclass
class Sheets:
    """The sheets of a folder: in which sheet each text stands (by its id), and what each rater says of it."""

    folder: Path
    placed: dict[str, str] = field(default_factory=dict)
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)


class HumanJudge:
    """See the module. Implements :class:`harness.contracts.Judge`; an item is pending until enough people have rated it."""

    rubric = "human/1"
    offline = False
    at_once = 100_000
    """All texts of a run make one sheet."""

    def __init__(self, options: HumanOptions) -> None:
        self.options = options
        self._place: tuple[Path, int] | None = None

    def prepare(self, bench: Bench) -> None:
        """Settle where the sheets lie. Nothing is written before there is something to rate."""
        folder = self.options.folder
        if folder is None:
            form = [self.rubric, self.options.form, self.options.delimiter]
            run = [bench.seed, bench.concept_mode, [instruction.text for instruction in bench.instructions], form]
            folder = f"ratings/{digest(run, 12)}"
        self._place = Path(folder).expanduser().resolve(), bench.seed

    def submit(self, items: Sequence[JudgeItem]) -> list[Rating]:
        """Pending ratings, whose texts are in a sheet now; at once what people have said of the same text before.

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
                sheets = read_folder(folder)
                new = {row.id: row for _, row in asked if row.id not in sheets.placed}
                if new:
                    name = self._write(folder, seed, list(new.values()))
                    sheets.placed.update(dict.fromkeys(new, name))
        return answers + [self._rating(item_id, row.id, sheets) for item_id, row in asked]

    def collect(self, tickets: Sequence[str]) -> Iterator[Rating]:
        """The median of the ratings of each ticket's text; unrated where people skipped it; pending where too few have answered.

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
                folders[place] = read_folder(place)
            if row_id not in folders[place].placed:
                raise DataError(
                    f"{sheet} in {where}, which text {row_id} was asked in, is gone; put it (or the raters' files) back, "
                    "or ask anew with another folder (-J folder=…)"
                )
            yield self._rating(item_id, row_id, folders[place])

    def _settled(self) -> tuple[Path, int]:
        if self._place is None:
            raise JudgeError("the human judge has not been prepared; call prepare(bench) first")
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


def missing(item: JudgeItem) -> str:
    """What an item lacks to be rated: ``concept``, ``instruction`` or nothing. An empty text is shown: it is an answer like any other."""
    return next((name for name, value in (("concept", item.concept), ("instruction", item.instruction)) if not value.strip()), "")


def sheet_row(item: JudgeItem) -> SheetRow:
    """An item as a row. Its id is made of what the rater sees alone: the same text is asked once, and nothing else can be read from it."""
    return SheetRow(f"t{digest([item.concept, item.instruction, item.text], 12)}", item.concept, item.instruction, item.text)


def sheet_csv(rows: Sequence[SheetRow], delimiter: str) -> bytes:
    """A sheet with empty ratings, as spreadsheets read it: UTF-8 with a byte order mark."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([row.id, *map(safe_cell, (row.concept, row.instruction, row.text)), *[""] * (len(COLUMNS) - 4)])
    return b"\xef\xbb\xbf" + file.getvalue().encode("utf-8", "replace")


def guide_text() -> str:
    """What raters are to know, as text."""
    lines = ["Each text was written for an instruction, and may or may not bring in a concept. Judge each question by itself.", ""]
    for aspect in GUIDE:
        lines += [f"{aspect.name}_rating: {aspect.question}", *(f"  {value}  {level}" for value, level in enumerate(aspect.levels)), ""]
    return "\n".join([
        *lines,
        f"Write 0, 1 or 2 into all three cells. If you cannot rate a text, write {SKIP} and say why in the comment. Leave the ids as they are.",
        "Several raters: each saves a copy under their own name (sheet-1-anna.csv) in this folder. Save as CSV, not as a workbook.",
        "",
    ])  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ reading sheets


def read_folder(folder: Path) -> Sheets:
    """All sheets of a folder and what the raters' files say. A folder that is not there holds nothing.

    Raises:
        DataError: a CSV file that is no sheet, a cell that is no rating, two files of one rater that contradict each other, a workbook.
        StoreError: a file cannot be read.
    """
    sheets = Sheets(folder)
    if not folder.is_dir():
        return sheets
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith((".", "~$"))):
        if path.suffix.lower() in _WORKBOOKS and not path.with_suffix(".csv").exists():
            raise DataError(f"{path} is a workbook, which is not read; save it as CSV (UTF-8) in the same folder, or move it away")
        if path.suffix.lower() == ".html":
            try:
                ids = page_ids(_decoded(path))
            except ValueError as error:
                raise DataError(f"{path} is no page to rate in: {error}; put the original back, or move the file away") from None
            sheets.placed.update(dict.fromkeys(ids, path.name))
        elif path.suffix.lower() == ".csv":
            rater = rater_of(path)
            for row_id, answer in read_sheet(path):
                sheets.placed.setdefault(row_id, path.name)
                if not answer.blank:
                    given = sheets.answers.setdefault(row_id, {})
                    given[rater] = _joined(given[rater], answer, rater) if rater in given else answer
    return sheets


def rater_of(path: Path) -> str:
    """Whose file it is: what follows the sheet's name, in small letters; a browser's ``(1)`` after a second download counts for nothing."""
    stem = re.sub(r"\s*\(\d+\)$", "", path.stem)
    name = re.sub(r"^sheet-\d+", "", stem, flags=re.IGNORECASE).strip(" -_.")
    return name.casefold() or UNNAMED


def read_sheet(path: Path) -> Iterator[tuple[str, Answer]]:
    """The rows of a CSV file: id and answer. Comma, semicolon or tab; with or without a byte order mark; columns in any order.

    Raises:
        DataError: no CSV, a missing column, a row that is rated but has no id of ours, a cell that is no rating.
    """
    text = _decoded(path)
    first, _, rest = text.partition("\n")
    if re.fullmatch(r"sep=.\s*", first, re.IGNORECASE):  # how some spreadsheets are told the delimiter
        text, first = rest, rest.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    csv.field_size_limit(1 << 30)  # the module's own limit is below the longest texts
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path} is no CSV file ({error}); save the sheet as CSV (UTF-8) again") from None
    header = [name.strip().casefold() for name in rows[0]] if rows else []
    if lacking := [name for name in ("id", *RATING_COLUMNS) if name not in header]:
        raise DataError(
            f"{path} lacks the column{'s'[: len(lacking) > 1]} {', '.join(lacking)}; a sheet has {', '.join(COLUMNS)}: correct or move it"
        )
    for number, cells in enumerate(rows[1:], start=2):
        row = dict(zip(header, (cell.strip() for cell in cells), strict=False))
        answer = _answer(row, path, number)
        if _ID.fullmatch(row.get("id", "")):
            yield row["id"], answer
        elif not answer.blank:
            raise DataError(
                f"{answer.place} is rated, but its id {row.get('id', '')!r} is none of a sheet's; copy the id from the original sheet"
            )


def _answer(row: Mapping[str, str], path: Path, number: int) -> Answer:
    place = f"{path}, row {number}"
    values: list[float | None] = []
    skipped = False
    for column in RATING_COLUMNS:
        cell = row.get(column, "")
        found = re.fullmatch(r"([012])(?:[.,]0+)?", cell)
        if cell.casefold() == SKIP:
            skipped = True
        elif cell and found is None:
            raise DataError(f"{place}: {column} is {cell[:40]!r}; allowed: 0, 1, 2, {SKIP} or an empty cell")
        values.append(float(found[1]) if found else None)
    return Answer(tuple(values), skipped, row.get("comment", ""), place)


def _joined(first: Answer, second: Answer, rater: str) -> Answer:
    """Two answers of one rater to one text as one: what is empty in the one is taken from the other. Raises DataError if they contradict."""
    clash = first.skipped != second.skipped or any(
        None not in pair and pair[0] != pair[1] for pair in zip(first.ratings, second.ratings, strict=True)
    )
    if clash:
        raise DataError(f"{first.place} and {second.place}, both of rater {rater!r}, rate one text differently; keep the file that holds")
    ratings = tuple(a if a is not None else b for a, b in zip(first.ratings, second.ratings, strict=True))
    return Answer(ratings, first.skipped, first.comment or second.comment, second.place)


def _decoded(path: Path) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, else as Windows writes Western European text (only comments could be read wrongly)."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise disk_error(error, f"read the sheet {path}") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _details(answer: Answer) -> dict[str, Any]:
    """An answer as it is kept beside the rating."""
    kept: dict[str, Any] = {SKIP: True} if answer.skipped else dict(zip(ASPECTS, answer.ratings, strict=True))
    return kept | ({"comment": answer.comment} if answer.comment else {})


def _open_ticket(ticket: str) -> tuple[Path, str, str, str]:
    """Folder, sheet, row and item of a ticket. Raises JudgeError for one that is not ours."""
    try:
        value = json.loads(ticket)
        return Path(value["folder"]), str(value["sheet"]), str(value["row"]), str(value["item"])
    except (KeyError, TypeError, ValueError):
        raise JudgeError(f"the human judge knows no ticket {ticket[:80]!r}; rate with the judge that gave it") from None


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
