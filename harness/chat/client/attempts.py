"""The attempts that are open, and which of them have taken too long: by a clock that leaves out the time in which this process was late itself.

All of it is touched by the event loop's thread alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from harness.chat.client.limits import Clock

if TYPE_CHECKING:
    from harness.chat.client.account import Account
    from harness.chat.client.cache_writer import Job

SWEEP = 0.05
"""Seconds between looks at how long the open requests have taken; each is a beat of the clock that takes their time."""

BEAT_TURNS = 3
"""Turns of the event loop in each beat. A timer is late by half a turn on average and often by none; whole turns show how busy the loop is."""

TURNS = 50
"""Turns of the event loop before an attempt is given up: what has come is read first, however late this process is. A request and its reply need
seven, sixteen with a new connection."""


class _Attempt(NamedTuple):
    """An attempt that is open: its task, and when it began by the loop's time and by :class:`harness.chat.client.limits.Clock`."""

    task: asyncio.Task[None]
    started: float
    began: float


class OpenAttempts:
    """The attempts of one run that are open.

    Args:
        account: its time limit, and what replies usually take.
        nothing_waits: whether nothing else waits to be sent.
    """

    def __init__(self, account: Account, nothing_waits: Callable[[], bool]) -> None:
        self._account, self._nothing_waits = account, nothing_waits
        self._clock = Clock(SWEEP)
        self._open: dict[Job, _Attempt] = {}

    def begin(self, job: Job, task: asyncio.Task[None], now: float) -> None:
        """Note that an attempt begins, in ``task``."""
        job.expired = False
        self._open[job] = _Attempt(task, now, self._clock.at(now))

    def replied(self, job: Job, now: float) -> None:
        """Note how long it took until its reply came."""
        attempt = self._open[job]
        self._account.latency.took(max(0.0, self._clock.at(now) - attempt.began), now - attempt.started)

    def end(self, job: Job) -> None:
        """Note that it is over, whatever came of it."""
        self._open.pop(job, None)

    async def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up the attempts that take too long, for as long as this task runs: their tasks are cancelled, and their jobs ``expired``."""
        while True:
            self._clock.beat(loop.time())
            if overdue := self._overdue(loop.time()):
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            for job, attempt, patience in overdue:
                if self._open.get(job) is attempt:
                    job.expired, job.patience = True, patience
                    job.given_up += 1
                    attempt.task.cancel()
            await asyncio.sleep(SWEEP)
            for _ in range(BEAT_TURNS):
                await asyncio.sleep(0)

    def _overdue(self, now: float) -> list[tuple[Job, _Attempt, float]]:
        """Return the open attempts that have taken too long, and how long each might take; the time limit holds whoever was late."""
        found, limit, at = [], self._account.timeout, self._clock.at(now)
        for job, attempt in self._open.items():
            expired = now - attempt.started >= limit
            patience = limit if expired else self._patience(job)
            if not job.expired and (expired or at - attempt.began >= patience):
                found.append((job, attempt, patience))
        return found

    def _patience(self, job: Job) -> float:
        """Return seconds that the present attempt gets: all of them where it is the last one."""
        if job.failures + 1 >= self._account.attempts:
            return self._account.timeout
        return self._account.latency.patience(job.given_up, last=self._nothing_waits())
