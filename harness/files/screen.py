"""Tables and styled text on a terminal: what comes from outside (labels, generations, foreign entries, plugins' names) can't act on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from harness.files.visible import visible

PLAIN_WIDTH = 160
"""Width of tables where there is no terminal, unless COLUMNS says another."""
LEAST_WIDTH = 20
"""Columns below which nothing is laid out; a narrower terminal breaks the lines itself."""


class Screen(Console):
    """A console of rich on which no text acts as a control sequence, nor as markup."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or (text.isascii() and text.isprintable()) else Segment(visible(text), style)


def screen(stream: TextIO | None = None) -> Screen:
    """Return the console of a stream (None: standard output); wide enough for a table where there is no terminal."""
    stream = sys.stdout if stream is None else stream
    columns = os.environ.get("COLUMNS", "")
    wanted = int(columns) if columns.isascii() and columns.isdigit() else 0
    if stream.isatty():
        found = Screen(file=stream, markup=False, highlight=False)
        return found if found.width >= LEAST_WIDTH else Screen(file=stream, markup=False, highlight=False, width=LEAST_WIDTH)
    width = max(wanted, LEAST_WIDTH) if wanted else PLAIN_WIDTH
    return Screen(file=stream, markup=False, highlight=False, width=width, force_terminal=False)
