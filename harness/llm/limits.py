"""How fast an API is asked: buckets for requests and tokens a minute, and a window of open requests that gives way when the server refuses.

All arithmetic on times that the caller gives, so it needs no event loop and no sleeping to be tested.
"""

from __future__ import annotations

from collections import deque

MINUTE = 60.0
_MARGIN = 1.0
"""Seconds' worth that a bucket holds at most. It is taken off the rate, so that no 60 seconds ever see more than the limit."""

RECENT = 64
REFUSED = 16
"""A window shrinks when ``REFUSED`` of the last ``RECENT`` answers were refusals. Fewer are noise: a server that refuses one request in twenty
at random is best asked at full speed, and 16 of 64 come about so once in a hundred million answers."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the second attempt, and before any later one, at most."""


def pause_before(attempt: int, asked: float | None, draw: float) -> float:
    """Seconds to wait after the ``attempt``-th failure (from 1): what the server asked for and up to a tenth more, else a pause that doubles, half

    of it left to chance, so that requests that failed together do not come back together.

    Args:
        attempt: how often it has failed.
        asked: seconds that the server asked for (Retry-After); None or 0 where it did not.
        draw: chance, 0 to 1.
    """
    if asked:
        return asked * (1 + draw / 10)
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 30)) * (1 + draw) / 2


class TokenBucket:
    """Lets at most ``per_minute`` units pass in any 60 seconds, evenly spread.

    A demand larger than the bucket passes when the bucket is full and leaves it in debt, so the limit is kept on average.

    Args:
        per_minute: units a minute, above 0.
    """

    def __init__(self, per_minute: float) -> None:
        self.rate = per_minute / (MINUTE + _MARGIN)
        self.capacity = self.rate * _MARGIN
        self._level, self._at = self.capacity, 0.0

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` may pass; 0 when it may now. Takes nothing."""
        return max(0.0, (min(amount, self.capacity) - self._filled(now)) / self.rate)

    def take(self, amount: float, now: float) -> None:
        """Let ``amount`` pass, after :meth:`wait` said 0."""
        self._level, self._at = self._filled(now) - amount, max(now, self._at)

    def _filled(self, now: float) -> float:
        return min(self.capacity, self._level + max(0.0, now - self._at) * self.rate)


class Window:
    """How many requests may be open at once: additive increase, multiplicative decrease, and a pause for all when the server asks for one.

    Args:
        limit: the most that may be open; the window starts there.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = float(limit)
        self.resume_at = 0.0
        self._recent: deque[bool] = deque(maxlen=RECENT)
        self._shrunk_at = -1.0

    def room(self, open_now: int) -> bool:
        """Whether another request may be opened."""
        return open_now < max(1, int(self.size))

    def succeeded(self) -> None:
        """A request was answered: one more may be open after each window's worth of answers."""
        self._recent.append(False)
        self.size = min(float(self.limit), self.size + max(1.0, 0.05 * self.size) / self.size)

    def refused(self, started: float, now: float, pause: float) -> bool:
        """A request that was sent at ``started`` was refused as one too many; whether the window shrank.

        When refusals are many the window is halved (once for all requests that were sent before it was) and everybody waits for ``pause`` seconds.
        """
        if started <= self._shrunk_at:
            self.resume_at = max(self.resume_at, now + pause)
            return False
        self._recent.append(True)
        if sum(self._recent) < REFUSED:
            return False
        self._recent.clear()
        self._shrunk_at = now
        self.size = max(1.0, self.size / 2)
        self.resume_at = max(self.resume_at, now + pause)
        return True
