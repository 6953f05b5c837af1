"""How much a page shows at most, so that it stays small whatever the run's size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MAX_BYTES = 2_900_000
"""No page is larger."""
_SCALES = (1.0, 0.5, 0.25, 0.1, 0.03, 0.0)


@dataclass(frozen=True)
class Limits:
    """The most of everything that a page shows.

    Attributes:
        rows: of a table, and concepts that a chart can show.
        drawn: concepts that have a small chart of their own.
        texts: concepts whose texts are shown.
        letters: of one text.
        left_out: what was left out, said at the end of the page.
    """

    rows: int = 1000
    drawn: int = 48
    texts: int = 48
    letters: int = 1500
    left_out: list[str] = field(default_factory=list)

    def scaled(self, by: float) -> Limits:
        """Return smaller limits, with nothing left out yet."""
        rows, drawn, texts = (int(limit * by) for limit in (self.rows, self.drawn, self.texts))
        return Limits(rows, drawn, texts, max(80, int(self.letters * by)))

    def note(self, shown: int, total: int, what: str) -> None:
        """Note that of ``total`` only ``shown`` are on the page."""
        if shown < total:
            self.left_out.append(f"{what}: {shown} of {total}")

    def cut(self, text: str) -> str:
        """Return a text of at most ``letters`` letters, with a note where it was longer."""
        more = len(text) - self.letters
        return text if more <= 0 else f"{text[: self.letters]}… [{more} more letters]"


def fitting(render: Callable[[Limits], str]) -> str:
    """Return the page of the largest limits that is not larger than :data:`MAX_BYTES`; the smallest one if none is."""
    page = ""
    for scale in _SCALES:
        page = render(Limits().scaled(scale))
        if len(page.encode()) <= MAX_BYTES:
            break
    return page
