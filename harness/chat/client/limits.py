"""How fast an API is asked, and how long it is waited for.

Buckets for requests and tokens a minute, a window of open requests that gives way when the server refuses, what replies usually take, and a
clock that leaves out our own delays. All arithmetic on times that the caller gives, so it needs no event loop and no sleeping to be tested.
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

KNOWN_FROM, LATENCIES = 100, 512
"""Replies from which on their times are taken for typical, and how many of the last ones are looked at."""

SLOW = 3.0
"""An attempt is given up early when it takes ``SLOW`` times as long as all but one in forty (and three) of the last ones."""

FLOOR = 1.0
"""Seconds within which no attempt is given up, however fast the others were. What is given up may be billed and is asked again, so it must be told
apart from a reply that is merely late, and below a second a busy server or network makes many of those. APIs that take money take a second or
more for a usual reply, so this bounds servers of one's own above all: there a request that hangs holds its place so long."""

LATE = 0.02
"""Seconds by which a beat may be late and still count as on time. A beat has three turns of the event loop in it, a request sixteen at most (see
:class:`Clock`), so what is counted of our own delays stays well below :data:`FLOOR`."""

LAST = 0.5
"""Share of that time that is left when nothing else waits to be sent: then the run waits for what hangs, and for nothing else."""

GAP = 0.002
"""Seconds between two requests, at most. Sent all at once, their replies would come all at once, again and again, and each burst would wait for the
processor; a gap spreads them."""

FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 0.25, 3.0, 30.0
"""Seconds before the second attempt, the factor from one to the next, and the seconds before any, at most. Short at first, for what fails at random;
soon long, for a server that is down: six attempts span 15 to 30 seconds."""


def pause_before(attempt: int, asked: float | None, draw: float) -> float:
    """Return the seconds to wait after the ``attempt``-th failure, counted from 1.

    What the server asked for and up to a tenth more; else a pause that grows, half of it left to chance, so that requests that failed together do
    not come back together.

    Args:
        attempt: how often it has failed.
        asked: seconds that the server asked for (Retry-After); None or 0 where it did not.
        draw: chance, 0 to 1.
    """
    if asked:
        return asked * (1 + draw / 10)
    return min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** min(attempt - 1, 30)) * (1 + draw) / 2


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
        """Return seconds until ``amount`` may pass; 0 when it may now. Takes nothing."""
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
        """Return whether another request may be opened."""
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


class Clock:
    """A clock that stands still while this process is late: what it measures is the server's and the network's time, not ours.

    A task of the event loop beats every ``interval`` seconds and a few turns of the loop. The beat's delay shows how long everything in the loop
    waits for its turn: another thread or process has the processor, the process was stopped, or many connections are opened at once. A request
    needs seven turns until it is sent and its reply is read, sixteen with a new connection, so a small delay of each turn is a large one of the
    reply, and the server knows of none of it. Therefore a beat that comes more than :data:`LATE` seconds late does not count at all.

    Args:
        interval: seconds between two beats.
    """

    def __init__(self, interval: float) -> None:
        self._longest = interval + LATE
        self._counted, self._last = 0.0, float("-inf")

    def beat(self, now: float) -> None:
        """Note that the loop runs at ``now``, its own time."""
        passed = now - self._last
        self._counted += passed if passed <= self._longest else 0.0
        self._last = now

    def at(self, now: float) -> float:
        """Return seconds on this clock when the loop's own time is ``now``, the present beat included; goes back by that when the beat comes late."""
        return self._counted + min(now - self._last, self._longest)


class Latency:
    """How long replies take, and what follows from it: when to give up an attempt, and how far apart to send.

    A request in a hundred that hangs until a timeout of two minutes costs more places than all others together. So once it is known how long
    replies take, what takes far longer is given up and asked again, each time with more patience. The server may bill what was given up, so this is
    for what is rare: where more than one in forty take long, it is their time that counts, and the full time is waited until it is known. Nothing
    is given up within :data:`FLOOR` seconds. Times are a :class:`Clock`'s, so a client that is late gives up nothing by that.

    Args:
        longest: seconds that an attempt gets, whatever the replies take.
        places: requests that are open at once.
    """

    def __init__(self, longest: float, places: int) -> None:
        self.longest, self.places = longest, places
        self.gap = GAP
        self._recent: deque[float] = deque(maxlen=LATENCIES)
        self._held: deque[float] = deque(maxlen=LATENCIES)
        self._patience, self._new = longest, 0
        self.given_up = 0

    def took(self, seconds: float, held: float | None = None) -> None:
        """A reply came after ``seconds`` by a :class:`Clock`; its place was taken for ``held`` seconds of any kind (None: the same)."""
        self._recent.append(seconds)
        self._held.append(seconds if held is None else held)
        self._new += 1
        if len(self._recent) >= KNOWN_FROM and self._new >= 16:
            self._new = 0
            known = sorted(self._recent)
            self._patience = SLOW * known[-(len(known) // 40) - 4]
            self.gap = min(GAP, sorted(self._held)[len(known) // 2] / (2 * self.places))  # half of what fills all places

    def gave_up(self) -> None:
        """No reply came in time: it counts as one that would have taken longest."""
        self.given_up += 1
        self.took(self.longest)

    def patience(self, given_up: int, *, last: bool = False) -> float:
        """Return seconds that an attempt gets.

        Args:
            given_up: how often the request has been given up before; doubles the time.
            last: whether nothing else waits to be sent.
        """
        return min(self.longest, max(FLOOR, self._patience * (LAST if last else 1.0)) * 2.0 ** min(given_up, 30))
