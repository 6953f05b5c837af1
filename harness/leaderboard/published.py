"""Numbers that papers published, shown beside the runs and never ranked against them: other prompts, concepts and judges stand behind them.

They are the JSON files of the package ``harness_published`` (in the repository: ``leaderboard/published``), a list of tables each.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from harness.errors import StoreError
from harness.leaderboard.files import describe_problem, faulty_value, read_json
from harness.store.manifest import Part, Text

PUBLISHED_SCHEMA_VERSION = 1


class Source(Part):
    """Where the numbers stand."""

    work: Text
    """Authors and year, e.g. ``Wu et al. 2025``."""
    title: Text
    arxiv: str | None = None
    """arXiv id."""
    url: str | None = None
    table: str | None = None
    """Which table of it; null where we know the numbers and not the table's number."""


class Column(Part):
    """A column of numbers."""

    key: Text
    label: Text
    metric: str | None = None
    """Where the columns of a table differ in what they measure."""


class PublishedRow(Part):
    """A method with its numbers; null where the source has none."""

    method: Text
    values: dict[str, float | None]
    note: str = ""


class PublishedTable(Part):
    """A table of a paper, or a reproduction of one."""

    id: Text
    title: Text
    kind: Literal["published", "reproduction"]
    source: Source
    reproduces: str | None = None
    """Of a reproduction: the id of the table that it repeats."""
    metric: Text
    """What the numbers are, with their scale."""
    higher_is_better: bool = True
    protocol: Text
    """Model, data, instructions, how the strength was chosen."""
    judge: str | None
    """Null where nobody judged texts."""
    columns: Annotated[tuple[Column, ...], Field(min_length=1)]
    rows: Annotated[tuple[PublishedRow, ...], Field(min_length=1)]
    note: str = ""

    @model_validator(mode="after")
    def _rectangular(self) -> PublishedTable:
        keys = [column.key for column in self.columns]
        for row in self.rows:
            if list(row.values) != keys:
                raise ValueError(f"row {row.method!r} has the columns {', '.join(row.values)} instead of {', '.join(keys)}")
        if (self.kind == "reproduction") != (self.reproduces is not None):
            raise ValueError("a reproduction, and nothing else, names the table that it repeats")
        return self


class PublishedFile(Part):
    """A file of published tables."""

    schema_version: Literal[1] = 1
    tables: tuple[PublishedTable, ...]


def load_published(folder: Path | None = None) -> list[PublishedTable]:
    """Return the published tables, each reproduction after the table that it repeats.

    Args:
        folder: a folder of such files; by default those that come with harness.

    Raises:
        StoreError: a file that does not validate (named with the field), a table id that occurs twice, a reproduction of a table that does not exist.
    """
    folder = Path(str(resources.files("harness_published"))) if folder is None else folder
    tables: dict[str, PublishedTable] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            content = PublishedFile.model_validate(read_json(path, "file of published tables", PUBLISHED_SCHEMA_VERSION))
        except ValidationError as error:
            message = f"the published tables {path} do not validate: {describe_problem(error)}"
            raise StoreError(message, given=faulty_value(error), hint="mend the field") from error
        for table in content.tables:
            if table.id in tables:
                raise StoreError(f"{path} has a second table {table.id!r}", given=table.id, hint="give it another id")
            tables[table.id] = table
    ordered: list[PublishedTable] = []
    for table in tables.values():
        if table.reproduces is not None and table.reproduces not in tables:
            message = f"table {table.id!r} reproduces {table.reproduces!r}, which does not exist"
            raise StoreError(message, given=table.reproduces, allowed=tuple(tables))
        if table.reproduces is None:
            ordered += [table, *(other for other in tables.values() if other.reproduces == table.id)]
    return ordered
