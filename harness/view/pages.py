"""Pages from templates: what a run holds is data in them, and is escaped wherever it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from harness.files.version import VERSION
from harness.files.visible import visible
from harness.leaderboard.site import pages as site

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Kinds of files that are served beside the pages."""


@lru_cache(maxsize=1)
def static_files() -> Mapping[str, bytes]:
    """Return the files beside the pages, by name: read once, so that no name in an address is ever looked for on the disk.

    The style of the leaderboard's pages is theirs, too.
    """
    own = {path.name: path.read_bytes() for path in sorted((FOLDER / "static").iterdir()) if path.suffix in TYPES}
    return {**own, **{name: site.static(name).encode("utf-8") for name in site.STYLES}}


def static_address(name: str) -> str:
    """Return the address of a file beside the pages, another one when its content changes."""
    return f"/static/{name}?v={hashlib.sha256(static_files()[name]).hexdigest()[:12]}"


def run_address(identity: str) -> str:
    """Return the address of a run's first page, without its last slash."""
    return f"/run/{quote(identity, safe='')}"


def address(base: str, fields: Mapping[str, str], **changes: object) -> str:
    """Return an address with the fields that hold anything; ``changes`` take the place of fields, None takes one out."""
    kept = {**fields, **{name: "" if value is None else str(value) for name, value in changes.items()}}
    query = urlencode({name: value for name, value in kept.items() if value})
    return f"{base}?{query}" if query else base


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the templates."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    made.globals |= {"static": static_address, "address": address, "run_address": run_address, "version": VERSION}
    made.filters |= {"number": _number, "fixed": _fixed, "visible": lambda text: visible(str(text)), "level": _level, "count": "{:,}".format}
    return made


def render(template: str, **values: Any) -> str:
    """Return a page."""
    return environment().get_template(template).render(**values)


def _number(value: float | None) -> str:
    """A number as short as it can be, e.g. a strength."""
    return "–" if value is None else f"{value:g}"


def _fixed(value: float | None, places: int = 2) -> str:
    """A number with so many places."""
    return "–" if value is None else f"{value:.{places}f}"


def _level(value: float | None) -> str:
    """Which of the colours of ratings stands for a number from 0 to 2."""
    return "none" if value is None else f"r{min(2, max(0, round(value)))}"
