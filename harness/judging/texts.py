"""A set of texts that several judges rate, and ratings of them that come in files.

A file of texts (JSONL, CSV, Parquet) has the columns ``concept``, ``instruction`` and ``text``, and may have ``id``; ``harness runs export`` writes
such files. A file of ratings has ``concept_rating``, ``instruction_rating`` and ``fluency_rating``, and knows its texts by ``id`` or by the three
columns of a text; ``rater`` (or ``judge``) says whose they are, else they are one rater's, named as the file. The sheets of the human judge are
both kinds at once, and a folder of them is read as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.files.rows import read_rows
from harness.judging.sheets import RATING_COLUMNS, SKIP, Answer, rater_of, read_folder, sheet_row
from harness.types import JudgeItem, digest

_ID = ("id", "trial_id")
_RATER = ("rater", "judge")


@dataclass(frozen=True)
class GivenRating:
    """What a file says of a text: three ratings 0..2, each of which may be missing."""

    item_id: str
    concept: float | None
    instruction: float | None
    fluency: float | None


@dataclass
class Texts:
    """Texts to rate, and what files say of them.

    Attributes:
        items: the texts.
        given: ratings by rater, then by the text's id.
        unmatched: rows of files of ratings that belong to other texts, by file.
    """

    items: tuple[JudgeItem, ...]
    given: dict[str, dict[str, GivenRating]] = field(default_factory=dict)
    unmatched: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_id: dict[str, list[str]] = {}
        for item in self.items:
            for name in {item.id, sheet_row(item).id}:
                self._by_id.setdefault(name, []).append(item.id)

    @property
    def concepts(self) -> dict[str, str]:
        """Return each text's concept by its id: texts of one concept are alike."""
        return {item.id: item.concept for item in self.items}

    def part(self, ids: Iterable[str]) -> Texts:
        """Return the texts of these ids alone, with what is given of them."""
        wanted = set(ids)
        given = {rater: {i: one for i, one in theirs.items() if i in wanted} for rater, theirs in self.given.items()}
        return Texts(tuple(item for item in self.items if item.id in wanted), {rater: theirs for rater, theirs in given.items() if theirs})

    def add_ratings(self, path: Path) -> None:
        """Read a file of ratings of these texts, or a folder of sheets.

        Raises:
            DataError: a file that holds no ratings of these texts, a value that is no rating, or two ratings of one text by one rater that differ.
            StoreError: a sheet cannot be read.
        """
        rows = list(_sheet_ratings(path) if path.is_dir() else _file_ratings(path))
        known = {self._key(row): self._by_id.get(row.id) or self._by_id.get(row.text_id) or [] for row in rows}
        if not any(known.values()):
            if path.is_dir() and not rows:
                raise DataError(f"{path} holds no sheet with a rating", given=path, hint="put the raters' CSV files there")
            what = "no ratings" if not rows else f"ratings of {len(rows)} texts, none of which is among these"
            hint = "its rows need the id that the texts have here, or their concept, instruction and text"
            raise DataError(f"{path} holds {what}", given=path, hint=hint)
        self.unmatched[str(path)] = sum(not known[self._key(row)] for row in rows)
        for row in rows:
            theirs = self.given.setdefault(row.rater, {})
            for item_id in known[self._key(row)]:
                rating = GivenRating(item_id, *row.values)
                if theirs.setdefault(item_id, rating) != rating:
                    message = f"{row.place}: {row.rater} rates the text {item_id} twice, and differently"
                    raise DataError(message, given=row.values, hint="keep one of the rows")
        self.given = {rater: theirs for rater, theirs in self.given.items() if theirs}

    @staticmethod
    def _key(row: _Row) -> tuple[str, str]:
        return row.id, row.text_id


@dataclass(frozen=True)
class _Row:
    """A row of ratings: the id that it gives (or none), the id that its text has by its words (or none), and whose it is."""

    id: str
    text_id: str
    rater: str
    values: tuple[float | None, ...]
    place: str


def read_texts(path: Path) -> Texts:
    """Return the texts of a file, with the ratings that it holds of them.

    Raises:
        DataError: no such file, a row without one of the columns, one id with two texts, or ratings that are none.
    """
    items: dict[str, JudgeItem] = {}
    rated = False
    for number, row in enumerate(read_rows(path, "file of texts"), 1):
        place = f"{path}, row {number}"
        parts = [_text(row, name) for name in ("concept", "instruction", "text")]
        lacking = [name for name, part in zip(("concept", "instruction"), parts, strict=False) if not part.strip()]
        if lacking or "text" not in row:
            message = f"{place} has no {' and no '.join(lacking or ['text'])}"
            raise DataError(message, given=dict(row), hint="a file of texts has the columns concept, instruction and text")
        item = JudgeItem(_first(row, _ID) or digest(parts, 12), *parts)
        if items.setdefault(item.id, item) != item:
            message = f"{place}: the id {item.id!r} stands for another text, too"
            raise DataError(message, given=item.id, hint="give each text an id of its own")
        rated = rated or any(row.get(name) not in (None, "") for name in RATING_COLUMNS)
    if not items:
        raise DataError(f"{path} holds no texts", given=path, hint="give rows with the columns concept, instruction and text")
    texts = Texts(tuple(items.values()))
    if rated:
        texts.add_ratings(path)
    return texts


def _sheet_ratings(folder: Path) -> Iterator[_Row]:
    for row_id, answers in read_folder(folder).answers.items():
        for rater, answer in answers.items():
            yield _Row(row_id, "", rater, _values(answer), answer.place)


def _values(answer: Answer) -> tuple[float | None, ...]:
    return (None, None, None) if answer.skipped else answer.ratings


def _file_ratings(path: Path) -> Iterator[_Row]:
    seen = False
    for number, row in enumerate(read_rows(path, "file of ratings"), 1):
        if not seen and not any(name in row for name in RATING_COLUMNS):
            message = f"{path} has none of the columns {', '.join(RATING_COLUMNS)}"
            raise DataError(message, given=path, hint="a file of ratings has them, and id or the texts")
        seen = True
        place = f"{path}, row {number}"
        values = tuple(_rating(row.get(name), name, place) for name in RATING_COLUMNS)
        if all(value is None for value in values):
            continue
        item = JudgeItem("", _text(row, "concept"), _text(row, "instruction"), _text(row, "text"))
        yield _Row(_first(row, _ID), sheet_row(item).id, _first(row, _RATER) or rater_of(path), values, place)


def _rating(value: Any, name: str, place: str) -> float | None:
    """Return a rating of a cell: a number from 0 to 2 (half grades are what several raters' medians give), or None where there is none."""
    if value is None or (isinstance(value, str) and value.strip().casefold() in ("", SKIP)):
        return None
    try:
        number = float(value.strip().replace(",", ".")) if isinstance(value, str) else float(value)
    except (TypeError, ValueError):
        number = math.inf
    if math.isnan(number) and not isinstance(value, str):
        return None
    if isinstance(value, bool) or not 0 <= number <= 2:
        raise DataError(f"{place}: {name} is {str(value)[:40]!r}", given=value, allowed=f"0 to 2, {SKIP}, or nothing")
    return number


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return "" if value is None else str(value)


def _first(row: Mapping[str, Any], names: Iterable[str]) -> str:
    return next((str(row[name]).strip() for name in names if row.get(name) not in (None, "")), "")
