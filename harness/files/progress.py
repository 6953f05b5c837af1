"""Progress for people: rich bars on a terminal's standard error, silence elsewhere, so that standard output stays clean for machines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from harness.files.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def say(message: str, stream: TextIO | None = None) -> None:
    """Write a line on standard error, or on the stream that was it before. A terminal that has gone stops no work."""
    with contextlib.suppress(OSError, ValueError):
        print(visible(message), file=stream or sys.stderr, flush=True)


class Bar:
    """A bar on a terminal: called with the number of units just done."""

    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def __call__(self, n: int) -> None:
        self._bars.advance(self._task, n)

    def describe(self, text: str) -> None:
        """Put ``text`` beside the bar, in place of what stands there."""
        self._bars.update(self._task, description=text)


class Line:
    """Progress off a terminal: a plain line at the start and now and then.

    Args:
        description: what is being done.
        total: units in all, if known.
        every: share of them after which another line shows how far it has come.
        quiet: nothing is shown.
    """

    describe: Callable[[str], None] | None = None
    """Nobody watches a line change."""

    def __init__(self, description: str, total: int | None, every: float, quiet: bool) -> None:
        self._description, self._total, self._every, self._quiet = description, total, every, quiet
        self._done, self._shown_share = 0, 0.0
        self._say(f" (0/{total})" if total else "")

    def __call__(self, n: int = 1) -> None:
        self._done += n
        if not self._total:
            return
        share = self._done / self._total
        if share - self._shown_share >= self._every:
            self._shown_share = share
            self._say(f" ({self._done}/{self._total})")

    def _say(self, how_far: str) -> None:
        if not self._quiet:
            say(f"{self._description}{how_far}")


class Progress:
    """Shows long work. ``quiet`` shows nothing at all; on a non-terminal one plain line marks the start of each piece of work.

    Args:
        quiet: show nothing.
        plain_every: on a non-terminal, also a line each time this share of a piece of work is done.
    """

    def __init__(self, quiet: bool = False, plain_every: float = 0.25) -> None:
        self.quiet = quiet
        self.plain_every = plain_every
        self._rich: RichProgress | None = None

    def step(self, message: str) -> None:
        """Show what is being done now."""
        if self.quiet:
            return
        if self._rich is not None:
            with contextlib.suppress(OSError):
                self._rich.console.print(visible(message), style="dim", highlight=False, markup=False, soft_wrap=True)
        else:
            say(message)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Bar | Line]:
        """A piece of work of ``total`` units; the value is called with the number of units just done."""
        if self.quiet or not sys.stderr.isatty():
            yield Line(description, total, self.plain_every, self.quiet)
            return
        with self._bars() as bars:
            bar = bars.add_task(description, total=total)
            try:
                yield Bar(bars, bar)
            finally:
                bars.stop_task(bar)

    @contextmanager
    def gauge(self, description: str) -> Iterator[Callable[[int, int], None]]:
        """A piece of work that reports (done, total) itself."""
        seen = {"done": 0}
        with contextlib.ExitStack() as stack:
            advance: list[Bar | Line] = []

            def report(done: int, total: int) -> None:
                if not advance:
                    advance.append(stack.enter_context(self.task(description, total)))
                advance[0](done - seen["done"])
                seen["done"] = done

            yield report

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        """Yield ``items``, counted as they are consumed."""
        size = len(items) if total is None and isinstance(items, Sized) else total
        with self.task(description, size) as advance:
            for item in items:
                yield item
                advance(1)

    @contextmanager
    def _bars(self) -> Iterator[RichProgress]:
        """The one live display; nested work shares it, since a terminal has room for one."""
        if self._rich is not None:
            yield self._rich
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        from harness.files.screen import screen

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=screen(sys.stderr)) as bars:
            self._rich = bars
            try:
                yield bars
            finally:
                self._rich = None
