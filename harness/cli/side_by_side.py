"""Texts beside each other where the screen is wide enough, below each other where it is not."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.console import Group as Stack
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from harness.files.visible import in_cell, visible

LEAST = 26
"""Columns that a text needs at least beside others, to be read at a glance."""
_FRAME = 3
"""Columns that a border and its spaces take of each text."""


class SideBySide:
    """Texts with a heading each, for :mod:`rich`: columns of one table, or one panel below the other.

    Args:
        title: stands above them.
        texts: heading and text of each; what a terminal would act on is shown as text.
    """

    def __init__(self, title: str, texts: Sequence[tuple[str, str]]) -> None:
        self.title, self.texts = title, texts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        share = (options.max_width - 1) // max(len(self.texts), 1) - _FRAME
        yield Stack(Text(in_cell(self.title), style="bold"), self._columns() if share >= LEAST else self._panels())

    def _columns(self) -> RenderableType:
        table = Table(box=box.ROUNDED, expand=True, show_lines=False)
        for heading, _ in self.texts:
            table.add_column(Text(in_cell(heading), style="bold"), ratio=1, overflow="fold")
        table.add_row(*[Text(visible(text)) for _, text in self.texts])
        return table

    def _panels(self) -> RenderableType:
        bodies = [(escape(in_cell(heading)), Text(visible(text), overflow="fold")) for heading, text in self.texts]
        return Stack(*[Panel(body, title=heading, title_align="left") for heading, body in bodies])
