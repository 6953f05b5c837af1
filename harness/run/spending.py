"""What a judge or a steerer takes while it works: shown beside the bar, and noted in the run, call by call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.contracts import Metered

SHOW_EVERY = 0.5
"""Seconds after which what is shown is brought up to date."""

NOTE_EVERY = 5.0
"""Seconds after which what was taken is noted in the run: a kill loses the count of no more."""

Taken = Mapping[str, float | None]
"""Tokens (``input``, ``cached_input``, ``output``), ``dollars`` (None: unknown), replies ``from_cache``, and requests that were given up
``unanswered``."""


class Meter:
    """Reads what a judge or a steerer takes from now on; nothing for one that costs nothing.

    Args:
        plugin: any judge or steerer.
    """

    def __init__(self, plugin: object) -> None:
        self._plugin = plugin if isinstance(plugin, Metered) else None
        self._before = self._lapped = self._read()
        self._shown = self._noted = time.monotonic()

    @property
    def taken(self) -> Taken | None:
        """Return what was taken since the meter was made; None for nothing."""
        return _difference(self._read(), self._before)

    def lap(self, every: float = 0.0) -> Taken | None:
        """Return what was taken since the last lap, once ``every`` seconds have gone by since then; None for nothing."""
        if self._plugin is None or time.monotonic() - self._noted < every:
            return None
        now = self._read()
        taken, self._lapped, self._noted = _difference(now, self._lapped), now, time.monotonic()
        return taken

    def show(self, title: str, describe: Callable[[str], Any] | None) -> None:
        """Put what was taken behind ``title``, now and then; where nobody looks (``describe`` is None), nothing is done."""
        if describe is None or self._plugin is None or time.monotonic() - self._shown < SHOW_EVERY:
            return
        self._shown = time.monotonic()
        describe(title + beside(self.taken))

    def _read(self) -> Taken:
        if self._plugin is None:
            return {}
        used = self._plugin.usage
        counts = {"input": used.input, "cached_input": used.cached_input, "output": used.output}
        return {**counts, "dollars": self._plugin.cost, "from_cache": self._plugin.hits, "unanswered": self._plugin.unanswered}


def beside(taken: Taken | None) -> str:
    """Return what stands beside a bar: `` · $0.12 · 34k in (12k cached) / 2k out``; empty where nothing was paid for."""
    if taken is None or not (taken["input"] or taken["output"]):
        return ""
    price = "" if taken["dollars"] is None else f" · ${taken['dollars']:,.2f}"
    cached = f" ({_short(taken['cached_input'])} cached)" if taken["cached_input"] else ""
    return f"{price} · {_short(taken['input'])} in{cached} / {_short(taken['output'])} out"


def line(taken: Taken, noted: Iterable[Taken]) -> str:
    """Return what a command took, for people, and what all commands took for the run, where there were several."""
    every = list(noted)
    text = (
        f"paid {_dollars([taken])}: {taken['input']:,} input tokens ({taken['cached_input']:,} cached by the server), "
        f"{taken['output']:,} output tokens; {taken['from_cache']:,} replies from our cache"
    )
    if taken.get("unanswered"):
        text += f"; {taken['unanswered']:,} requests were given up unanswered, and the server may bill them, too"
    if sum(note.get("input") or 0 for note in every) > (taken["input"] or 0):
        text += f"; for this run in all {_dollars(every)}"
    return text


def _difference(now: Taken, before: Taken) -> Taken | None:
    taken = {name: _less(value, before.get(name)) for name, value in now.items()}
    return taken if any(taken.get(name) for name in ("input", "output", "from_cache", "unanswered")) else None


def _less(now: float | None, before: float | None) -> float | None:
    return None if now is None or before is None else now - before


def _dollars(notes: Iterable[Taken]) -> str:
    total = 0.0
    for note in notes:
        dollars = note.get("dollars")
        if dollars is None:
            return "an unknown amount (no price for the model)"
        total += dollars
    return f"${total:.4f}"


def _short(n: float | None) -> str:
    n = n or 0
    return f"{n:.0f}" if n < 1000 else f"{n / 1e3:.0f}k" if n < 999_500 else f"{n / 1e6:.1f}M"
