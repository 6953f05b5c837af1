"""Progress for people: rich bars on a terminal's standard error, silence elsewhere, so that standard output stays clean for machines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
        """Say what is being done now."""
        if self.quiet:
            return
        if self._rich is not None:
            self._rich.console.print(message, style="dim", highlight=False, markup=False, soft_wrap=True)
        else:
            print(message, file=sys.stderr, flush=True)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A piece of work of ``total`` units; the value is called with the number of units just done. On a terminal it is a :class:`Bar`."""
        if self.quiet or not sys.stderr.isatty():
            yield self._plain(description, total)
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
            advance: list[Callable[[int], None]] = []

            def report(done: int, total: int) -> None:
                if not advance:
                    advance.append(stack.enter_context(self.task(description, total)))
                advance[0](done - seen["done"])
                seen["done"] = done

            yield report

    def track(self, items: Iterable[Any], description: str, total: int | None = None) -> Iterator[Any]:
        """``items``, counted as they are consumed."""
        size = len(items) if total is None and isinstance(items, Sized) else total
        with self.task(description, size) as advance:
            for item in items:
                yield item
                advance(1)

    def _plain(self, description: str, total: int | None) -> Callable[[int], None]:
        state = {"done": 0, "told": 0.0}
        if not self.quiet:
            print(f"{description}{f' (0/{total})' if total else ''}", file=sys.stderr, flush=True)

        def advance(n: int = 1) -> None:
            state["done"] += n
            if self.quiet or not total:
                return
            share = state["done"] / total
            if share - state["told"] >= self.plain_every:
                state["told"] = share
                print(f"{description} ({int(state['done'])}/{total})", file=sys.stderr, flush=True)

        return advance

    @contextmanager
    def _bars(self) -> Iterator[RichProgress]:
        """The one live display; nested work shares it, since a terminal has room for one."""
        if self._rich is not None:
            yield self._rich
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bars:
            self._rich = bars
            try:
                yield bars
            finally:
                self._rich = None
