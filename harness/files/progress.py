"""Progress for people: rich bars on a terminal's standard error, plain lines there elsewhere; standard output stays clean for machines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.files.progress_lines import Line, say
from harness.files.visible import visible

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


class Bar:
    """A bar on a terminal: called with the number of units just done."""

    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def __call__(self, n: int) -> None:
        self._bars.advance(self._task, n)

    def describe(self, text: str) -> None:
        """Put ``text`` beside the bar, in place of what stands there."""
        self._bars.update(self._task, description=text)


class Progress:
    """Shows long work: bars on a terminal, plain lines elsewhere.

    Plain lines mark the start of each piece of work and, at least once a minute, how far it has come. ``quiet`` shows nothing at all.

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
    def task(self, description: str, total: int | None = None, done: int = 0) -> Iterator[Bar | Line]:
        """A piece of work of ``total`` units, of which ``done`` are done already; the value is called with the number of units just done."""
        with self._shown(description, total, in_bytes=False, done=done) as advance:
            yield advance

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within the context, pieces of work that go on at the same time share one display, whichever of them ends first."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        with self._bars():
            yield

    @contextmanager
    def transfer(self, description: str, total: int | None = None) -> Iterator[Bar | Line]:
        """A download of ``total`` bytes; the value is called with the number of bytes that have just come."""
        with self._shown(description, total, in_bytes=True) as advance:
            yield advance

    @contextmanager
    def _shown(self, description: str, total: int | None, in_bytes: bool, done: int = 0) -> Iterator[Bar | Line]:
        if self.quiet or not sys.stderr.isatty():
            with Line(description, total, self.plain_every, self.quiet, in_bytes=in_bytes, done=done) as line:
                yield line
            return
        with self._bars() as bars:
            bar = bars.add_task(description, total=total, completed=done, in_bytes=in_bytes)
            try:
                yield Bar(bars, bar)
            finally:
                bars.stop_task(bar)

    @contextmanager
    def gauge(self, description: str) -> Iterator[Callable[[int, int], None]]:
        """A piece of work that reports (done, total) itself; with its first report it begins, which is not at 0 where it goes on."""
        seen = {"done": 0}
        with contextlib.ExitStack() as stack:
            advance: list[Bar | Line] = []

            def report(done: int, total: int) -> None:
                if not advance:
                    advance.append(stack.enter_context(self.task(description, total, done)))
                else:
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
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        from harness.files.progress_columns import AmountColumn
        from harness.files.screen import screen

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), AmountColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=screen(sys.stderr)) as bars:
            self._rich = bars
            try:
                yield bars
            finally:
                self._rich = None


_CURRENT = Progress(quiet=True)


def current_progress() -> Progress:
    """Return where the command that is at work shows its progress, for work that nobody handed one; it shows nothing outside of a command."""
    return _CURRENT


def set_current_progress(progress: Progress) -> Progress:
    """Have :func:`current_progress` return this one from now on, and return it."""
    global _CURRENT
    _CURRENT = progress
    return progress
