"""The page that people rate on: one HTML file that needs no network.

The page holds the texts as JSON, shows one at a time, keeps the ratings in the browser's IndexedDB and hands them over as a CSV file. Its
content security policy forbids every connection and every script but its own, so a text that looks like markup stays text. The template, its style
and its script lie beside this module.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness.files.csv_cells import guarded
from harness.judging.sheets import COLUMNS, SKIP, SheetRow
from harness.types import digest

from .guide import GUIDE
from .sheets import readable

FOLDER = Path(__file__).parent


def render_page(name: str, rows: Sequence[SheetRow]) -> str:
    """Return the page for ``rows``, in their order, as HTML.

    Args:
        name: the sheet's name; the file that the page hands over is called ``NAME.csv`` or ``NAME-rater.csv``.
        rows: what to rate.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    data = {
        "name": name,
        # Pages that are opened from the disk may share one storage, so the key tells sheets apart.
        "key": f"ratings:{name}:{digest([row.id for row in rows])}",
        "columns": COLUMNS,
        "skip": SKIP,
        "guide": [aspect._asdict() for aspect in GUIDE],
        "rows": [asdict(row) for row in rows],
        "cells": [[row.id, *(guarded(readable(text)) for text in (row.concept, row.instruction, row.text))] for row in rows],
    }
    style, script = ((FOLDER / file).read_text(encoding="utf-8") for file in ("page.css", "page.js"))
    policy = f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'; form-action 'none'"
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    # Ours, and as their digests have them; the texts are data, which tojson escapes.
    own = {"policy": Markup(policy), "style": Markup(style), "script": Markup(script)}
    return environment.get_template("page.html.jinja").render(data=data, **own)


def _source(text: str) -> str:
    """Return what the content security policy calls an inline script or style: the digest of exactly these characters."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
