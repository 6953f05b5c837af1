"""One run of :class:`harness.chat.client.runner.Runner`: its thread, its event loop, and the thread that keeps what comes.

All state is touched by the loop's thread alone; other threads reach it through ``call_soon_threadsafe`` and queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.chat.client.attempts import OpenAttempts
from harness.chat.client.cache import ReplyCache
from harness.chat.client.cache_writer import CacheWriter, Job
from harness.chat.client.limits import pause_before
from harness.chat.values import ABOUT_THE_REQUEST, IN_A_ROW, ChatReply, ChatRequest, RequestFailed
from harness.types import rng

if TYPE_CHECKING:
    from harness.chat.client.account import Account

SILENCE = 8.0
"""Seconds without a reply after which a failure is reported."""

LONGEST_WAIT = 600.0
"""A server that asks for a longer wait (a daily limit) is not waited for."""

PATIENCE = 4
"""Refusals because of too many requests, for each attempt that is allowed."""

_LOOKUPS = 200  # requests looked up before the loop gets a turn
_BACKLOG = 2000  # answers that wait for the caller before no more requests are taken

logger = logging.getLogger(__name__)


class Sending:
    """The run of some requests. ``out`` yields the answers, then None; ``error`` is what ended the run early.

    Args:
        account: settings, limits and counters.
        cache: where replies are kept.
        requests: by the caller's ids.
        rubric: part of the key.
    """

    def __init__(self, account: Account, cache: ReplyCache, requests: Mapping[str, ChatRequest], rubric: str) -> None:
        self._account, self._cache, self._rubric = account, cache, rubric
        self._provider = account.provider
        self.out: queue.SimpleQueue[tuple[str, ChatReply | RequestFailed] | None] = queue.SimpleQueue()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._live, name="harness-chat", daemon=True)
        self._begun = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake: asyncio.Event | None = None
        self._fresh: Iterator[tuple[str, ChatRequest]] | None = iter(requests.items())
        self._jobs: dict[str, Job] = {}  # from when a request is taken until its reply is kept
        self._held: Job | None = None  # waits for the limits on requests and tokens a minute
        self._retries: list[tuple[float, int, Job]] = []
        self._order = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writer: CacheWriter | None = None
        self._being_stored = 0
        self._failed: dict[str, RequestFailed] = {}
        self._in_a_row = 0
        self._hopeless: RequestFailed | None = None
        self._stopping = False
        self._next_at = 0.0
        self._replied_at = self._reported_at = time.monotonic()
        self._open = OpenAttempts(account, lambda: not (self._fresh or self._held or self._retries))

    # ----------------------------------------------------------------------------------------------------------- the caller's thread

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()
        self._begun.wait()

    def stop(self) -> None:
        """End the run: nothing new is sent, requests under way get the grace, what they bring is kept. Returns when all is done; idempotent.

        A second Ctrl-C while it waits cancels the requests at once.
        """
        if self._thread.ident is None:  # interrupted before it began
            return
        self._begun.wait()  # before it there is no loop to tell
        self._call_in_loop(self._begin_stop)
        try:
            self._thread.join()
        except BaseException:
            self._call_in_loop(self._cancel)
            self._thread.join(5.0)
            raise

    def halt(self, now: bool = False) -> None:
        """Begin to end the run, from any thread, as :meth:`stop` does, and return at once; ``now``: requests under way get no grace."""
        if self._thread.ident is not None:
            self._begun.wait()
            self._call_in_loop(self._cancel_all if now else self._begin_stop)

    def _call_in_loop(self, what: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            if self._loop is not None:
                self._loop.call_soon_threadsafe(what)

    # -------------------------------------------------------------------------------------------------------------- the loop's thread

    def _live(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self.error = self.error or error
        finally:
            self._begun.set()
            self.out.put(None)

    async def _main(self) -> None:
        self._loop, self._wake = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        self._writer = writer = CacheWriter(self._cache, self._provider.name, self._rubric, self._report_stored)
        sweeping = self._loop.create_task(self._open.sweep(self._loop))
        try:
            try:
                await self._dispatch(self._loop, self._wake)
            except Exception as error:  # the caller's mapping, or the cache: what is under way is still waited for
                self._break(error)
            if self._tasks:
                logger.info("waiting up to %g s for %d replies that are under way", self._account.grace, len(self._tasks))
            while self._tasks or self._being_stored:
                await self._wake.wait()
                self._wake.clear()
        finally:
            sweeping.cancel()
            writer.end()
            await self._close()

    async def _close(self) -> None:
        try:
            await asyncio.wait_for(self._provider.close(), 5.0)
        except Exception as error:  # nothing depends on it any more
            logger.debug("closing %s: %s", self._provider.name, type(error).__name__)

    async def _dispatch(self, loop: asyncio.AbstractEventLoop, wake: asyncio.Event) -> None:
        """Start requests whenever there is room, until all are answered or the run is stopped."""
        while not self._stopping:
            again_at = self._fill(loop)
            if not (self._fresh or self._held or self._retries or self._tasks or self._being_stored):
                return
            if again_at is not None and again_at <= loop.time():
                await asyncio.sleep(0)
                continue
            alarm = loop.call_at(again_at, wake.set) if again_at is not None else None
            await wake.wait()
            wake.clear()
            if alarm is not None:
                alarm.cancel()

    def _fill(self, loop: asyncio.AbstractEventLoop) -> float | None:
        """Start what may start now. When to look again; None means when something has happened."""
        while isinstance(picked := self._pick(loop.time(), len(self._tasks)), Job):
            task = loop.create_task(self._work(picked, loop))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return picked

    def _pick(self, now: float, open_now: int) -> Job | float | None:
        """Return what to send next while ``open_now`` requests are open; else when to look again, None where something must happen first.

        Replies on their way into the cache hold their places: a kill loses them, and they are paid for, as those under way are.
        """
        window = self._account.window
        if self._stopping or not window.room(open_now + self._being_stored):
            return None
        if now < max(window.resume_at, self._next_at):
            return max(window.resume_at, self._next_at)
        job, looked = self._ready(now), 0
        while job is None and self._may_take() and looked < _LOOKUPS:
            job, looked = self._take(), looked + 1
        if job is not None:
            wait = self._account.pass_limits(job.request, now)
            if wait <= 0:
                self._next_at = now + self._account.latency.gap
                return job
            self._held = job
            return now + wait
        if looked >= _LOOKUPS:
            return now
        if self._fresh and self._waiting >= _BACKLOG:
            return now + 0.02
        return self._retries[0][0] if self._retries else None

    def _ready(self, now: float) -> Job | None:
        """Return what was taken before and may be sent (again)."""
        if self._held is not None:
            job, self._held = self._held, None
            return job
        return heapq.heappop(self._retries)[2] if self._retries and self._retries[0][0] <= now else None

    def _may_take(self) -> bool:
        """Return whether another request may be taken from the caller: not while many answers or repeats wait."""
        return self._fresh is not None and self._waiting < _BACKLOG and len(self._retries) < 4 * self._account.concurrency

    @property
    def _waiting(self) -> int:
        """Return answers that have come and the caller has not taken: on their way into the cache, or in the queue."""
        return self._being_stored + self.out.qsize()

    def _take(self) -> Job | None:
        """Return the next of the caller's requests, unless it can be answered without sending."""
        assert self._fresh is not None
        pair = next(self._fresh, None)
        if pair is None:
            self._fresh = None
            return None
        item, request = pair
        key = request.key(self._provider.name, self._rubric)
        if key in self._jobs:
            self._jobs[key].ids.append(item)
            return None
        if key in self._failed:
            self.out.put((item, self._failed[key]))
            return None
        reply = self._cache.get(key)
        if reply is not None:
            self._account.count_hits(1)
            self.out.put((item, reply))
            return None
        if self._hopeless is not None:
            self.out.put((item, self._hopeless))
            return None
        self._cache.check_writable()
        job = self._jobs[key] = Job(key, request, [item])
        return job

    # ---------------------------------------------------------------------------------------------------------------- one attempt

    async def _work(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        """Send a request, and what may follow it. Following at once, not when the dispatcher is back, keeps bursts of replies from becoming
        bursts of requests."""
        following: Job | float | None = job
        while isinstance(following, Job):
            await self._attempt(following, loop)
            if following.expired:
                return  # a task that was cancelled once is not used again
            following = self._pick(loop.time(), len(self._tasks) - 1)

    async def _attempt(self, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        started, task = loop.time(), asyncio.current_task()
        assert task is not None
        self._open.begin(job, task, started)
        try:
            reply = await self._provider.complete(job.request)
        except RequestFailed as failure:
            self._unanswered(job, failure, started, loop.time())
        except asyncio.CancelledError:
            if not job.expired:
                raise
            late = RequestFailed(f"no answer within {job.patience:.3g} s", retryable=True)
            self._account.latency.gave_up()
            self._unanswered(job, late, started, loop.time())
        except (OSError, asyncio.TimeoutError) as error:
            dropped = RequestFailed(f"the connection failed: {error or type(error).__name__}", retryable=True)
            self._unanswered(job, dropped, started, loop.time())
        else:
            self._open.replied(job, loop.time())
            self._paid(job, reply)
        finally:
            self._open.end(job)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._break(error)
        if self._wake is not None:
            self._wake.set()

    def _paid(self, job: Job, reply: ChatReply) -> None:
        """A reply came: count it, and have it kept before anybody gets it."""
        self._account.window.succeeded()
        self._account.count_paid(job.request.model, reply.usage)
        self._in_a_row, self._replied_at = 0, time.monotonic()
        self._being_stored += 1
        assert self._writer is not None
        self._writer.put(job, reply)

    def _unanswered(self, job: Job, failure: RequestFailed, started: float, now: float) -> None:
        """An attempt failed: again later, or given up."""
        account, throttled = self._account, failure.throttled and failure.retryable
        job.refusals, job.failures = job.refusals + throttled, job.failures + (not throttled)
        tries = job.refusals + job.failures
        draw = float(rng(account.seed, "retry", f"{job.key} {tries}").random())
        pause = pause_before(max(job.failures, job.refusals), failure.retry_after, draw)
        if job.expired:
            pause = max(0.0, pause - (now - started))  # it has waited already
        if not failure.retryable or self._hopeless is not None:
            self._give_up(job, failure)
        elif pause > LONGEST_WAIT:
            self._give_up(job, failure, f"; the server asks to wait {failure.retry_after:.0f} s")
        elif job.failures >= account.attempts or job.refusals >= PATIENCE * account.attempts:
            self._give_up(job, failure, f"; given up after {tries} attempt{'' if tries == 1 else 's'}")
        else:
            if throttled and account.window.refused(started, now, pause):
                logger.info("%s: %s; %d requests at once from now on", self._provider.name, failure.reason, int(account.window.size))
            logger.debug("%s: %s; again in %.1f s", self._provider.name, failure.reason, pause)
            self._report_trouble(failure, pause, time.monotonic())
            heapq.heappush(self._retries, (now + pause, next(self._order), job))

    def _report_trouble(self, failure: RequestFailed, pause: float, now: float) -> None:
        """Say, now and then, why nothing comes: silence looks like a program that hangs."""
        if now - max(self._replied_at, self._reported_at) >= SILENCE:
            self._reported_at = now
            waiting = len(self._retries)
            logger.info("%s; %d request%s to be sent again, the last in %.0f s", failure.reason, waiting, "" if waiting == 1 else "s", pause)

    def _give_up(self, job: Job, failure: RequestFailed, how: str = "") -> None:
        if how:
            failure = _with(failure, how)
        self._jobs.pop(job.key, None)
        self._failed[job.key] = failure
        for item in job.ids:
            self.out.put((item, failure))
        if failure.status in ABOUT_THE_REQUEST or self._hopeless is not None:
            return
        self._in_a_row += 1
        if self._in_a_row >= IN_A_ROW:
            self._hopeless = _with(failure, f"; {IN_A_ROW} requests failed in a row, the rest was not sent")
            waiting, self._retries = self._retries, []
            for *_, other in waiting:
                self._give_up(other, self._hopeless)

    # ------------------------------------------------------------------------------------------------------------------ what came

    def _report_stored(self, batch: list[tuple[Job, ChatReply]], error: BaseException | None) -> None:
        self._call_in_loop(lambda: self._on_stored(batch, error))

    def _on_stored(self, batch: list[tuple[Job, ChatReply]], error: BaseException | None) -> None:
        """Hand out what is kept; what could not be kept is handed out, too, and ends the run."""
        for job, reply in batch:
            self._being_stored -= 1
            self._jobs.pop(job.key, None)
            self.out.put((job.ids[0], reply))
            for item in job.ids[1:]:
                self.out.put((item, replace(reply, from_cache=True)))
            self._account.count_hits(len(job.ids) - 1)
        if error is not None:
            self._break(error)
        if self._wake is not None:
            self._wake.set()

    # -------------------------------------------------------------------------------------------------------------------- the end

    def _break(self, error: BaseException) -> None:
        self.error = self.error or error
        self._begin_stop()

    def _begin_stop(self) -> None:
        if not self._stopping and self._loop is not None:
            self._loop.call_later(self._account.grace, self._cancel)
        self._stopping = True
        if self._wake is not None:
            self._wake.set()

    def _cancel_all(self) -> None:
        self._begin_stop()
        self._cancel()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


def _with(failure: RequestFailed, more: str) -> RequestFailed:
    return RequestFailed(failure.reason + more, retryable=failure.retryable, retry_after=failure.retry_after, status=failure.status)
