"""What an API's own list of models says of their ends (``GET /v1/models``, the field ``shutdown_date``), kept in the cache folder.

It is asked for at most once a day, where something is to be sent anyway. It is a help, never a condition: what fails is passed over in silence.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from datetime import date, datetime, timezone
from pathlib import Path

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.types import Json

FILE_NAME = "models.json"
"""The file in the cache folder: by server, when it was asked and which models have a last day."""
TIMEOUT = 5.0
"""Seconds that the list may take."""


def listed_dates(folder: Path) -> dict[tuple[str, str], date]:
    """Return the last days by (server, model); empty where nothing is kept, or what is kept cannot be read."""
    found = {}
    for server, kept in _read(folder).items():
        days = kept.get("shutdown") if isinstance(kept, dict) else None
        for model, text in (days if isinstance(days, dict) else {}).items():
            with contextlib.suppress(ValueError, TypeError):
                found[server, model] = date.fromisoformat(text)
    return found


def was_asked(folder: Path, server: str, now: datetime) -> bool:
    """Return whether a server was asked for its list in the last day, with or without success."""
    kept = _read(folder).get(server)
    try:
        return 0 <= (now - datetime.fromisoformat(kept["asked"])).total_seconds() < 86_400  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        return False


def keep(folder: Path, server: str, now: datetime, body: Json) -> None:
    """Keep what a list says; a body that is no list keeps the dates of before, and the day. A folder that cannot be written stops nothing."""
    known = _read(folder)
    before = known.get(server)
    days = dates_of(body) if isinstance(body, Mapping) and isinstance(body.get("data"), list) else None
    if days is None:
        days = before.get("shutdown", {}) if isinstance(before, dict) else {}
    known[server] = {"asked": now.isoformat(timespec="seconds"), "shutdown": days}
    with contextlib.suppress(OSError, StoreError):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / FILE_NAME, json.dumps(known, ensure_ascii=True, indent=1, sort_keys=True), "list of models")


def dates_of(body: Mapping[str, Json]) -> dict[str, str]:
    """Return the last day of each model that has one, as it is written; what is no day is left out."""
    found = {}
    models = body.get("data")
    for row in models if isinstance(models, list) else []:
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str) or not isinstance(row.get("shutdown_date"), str):
            continue
        with contextlib.suppress(ValueError):
            found[str(row["id"])] = date.fromisoformat(str(row["shutdown_date"])).isoformat()
    return found


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(timezone.utc)


def _read(folder: Path) -> dict[str, Json]:
    try:
        found = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
