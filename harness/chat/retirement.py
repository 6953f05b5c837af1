"""When an API stops to answer for a model, and whom it names in its place.

The dates stand beside the prices (``[openai.shutdown]`` in ``prices.toml``); the user's price file may add rows or replace them. What the API's own
list of models said last (:mod:`harness.chat.model_list`) comes before both. Only the API's own server retires models: another one that serves a
model of that name goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from harness.chat.cost import SNAPSHOT, price_files, read_price_file
from harness.chat.model_list import listed_dates
from harness.chat.values import RequestFailed
from harness.errors import OptionError

PROVIDERS = {"openai": "OpenAI", "anthropic": "Anthropic"}


def today() -> date:
    """Return the day, UTC. Tests put another in its place."""
    return datetime.now(timezone.utc).date()


@dataclass(frozen=True)
class Retirement:
    """A model that its API shuts down. ``successor`` is empty where none is named."""

    api: str
    model: str
    day: date
    successor: str = ""

    @property
    def gone(self) -> bool:
        """Return whether the day has come."""
        return today() >= self.day

    @property
    def fact(self) -> str:
        """Return date and successor, in words that stay true after the day."""
        named = f"; its named successor is {self.successor}" if self.successor else ""
        return f"{PROVIDERS.get(self.api, self.api)}'s API answers for {self.model} until {self.day.isoformat()}{named}"

    @property
    def warning(self) -> str:
        """Return what to do while the model answers, behind the fact; the same line before and after the day."""
        return f"{self.fact}; texts that both have rated keep later runs comparable (`harness judge bridge`)"

    @property
    def hint(self) -> str:
        """Return what to do in place of asking it."""
        other = f"take {self.successor} (-J model={self.successor} with the judge {self.api})" if self.successor else "take another model"
        return f"{other}; stored ratings stay usable, and a price file may state another date ([{self.api}.shutdown])"


class ModelRetired(RequestFailed):
    """Nothing is sent to a model that its API has shut down; 404 is what the API would say."""

    def __init__(self, retirement: Retirement) -> None:
        super().__init__(f"{retirement.model} is gone: {retirement.fact}", status=404, given=retirement.model, hint=retirement.hint)
        self.retirement = retirement


@dataclass(frozen=True)
class Retirements:
    """Dates by (API, model).

    Attributes:
        table: of the price files.
        listed: what the APIs' own lists said last.
    """

    table: Mapping[tuple[str, str], Retirement] = field(default_factory=dict)
    listed: Mapping[tuple[str, str], date] = field(default_factory=dict)

    def of(self, api: str, model: str) -> Retirement | None:
        """Return a model's retirement, None where none is known. A dated snapshot without a row follows its model."""
        own = self.table.get((api, model))
        known = own if own is not None else self.table.get((api, SNAPSHOT.sub("", model)))
        day = self.listed.get((api, model), known.day if known is not None else None)
        return None if day is None else Retirement(api, model, day, known.successor if known is not None else "")

    def of_any(self, model: str) -> Retirement | None:
        """Return a model's retirement by whichever API knows it: for entries, which do not name theirs."""
        found = (self.of(api, model) for api in dict.fromkeys(api for api, _ in (*self.table, *self.listed)))
        return next((one for one in found if one is not None), None)


def load_retirements(folder: Path | None = None) -> Retirements:
    """Return the dates that are known here; asks nobody.

    Args:
        folder: the cache folder: a price file of the user's may lie there, and what the APIs' lists said last.

    Raises:
        OptionError: a price file is malformed.
    """
    table: dict[tuple[str, str], Retirement] = {}
    for path in price_files(folder):
        for api, section in read_price_file(path).items():
            rows = section.get("shutdown", {}) if isinstance(section, dict) else {}
            if not isinstance(rows, dict):
                raise OptionError(f"the price file {path}, [{api}.shutdown] is not a table", given=rows, allowed="a row for each model")
            table |= {(api, model): _row(api, model, row, path) for model, row in rows.items()}
    return Retirements(table, listed_dates(folder) if folder is not None else {})


def _row(api: str, model: str, row: Any, path: Path) -> Retirement:
    day, successor = (row.get("date"), row.get("successor", "")) if isinstance(row, dict) else (None, "")
    if isinstance(day, str):
        day = parse_day(day)
    if not isinstance(row, dict) or set(row) - {"date", "successor"} or type(day) is not date or not isinstance(successor, str):
        allowed = '{ date = YYYY-MM-DD } and, where one is named, successor = "…"'
        raise OptionError(f"the price file {path}, [{api}.shutdown] {model} is not a date", given=row, allowed=allowed)
    return Retirement(api, model, day, successor)


def parse_day(text: str) -> date | None:
    """Return the day of a ``YYYY-MM-DD``; None for anything else."""
    try:
        return date.fromisoformat(text) if len(text) == 10 else None
    except ValueError:
        return None
