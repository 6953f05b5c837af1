"""The thread that puts replies into the cache: all that wait at once, so that neither the disk nor another process holds up the requests."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.chat.client.cache import Entry, ReplyCache
from harness.chat.values import ChatReply, ChatRequest


@dataclass(eq=False, slots=True)
class Job:
    """A request to be sent, the ids that wait for it, and how often it has failed.

    ``refusals`` counts those because of too many requests; ``given_up`` those because no answer came within ``patience`` seconds, which are failures,
    too.
    """

    key: str
    request: ChatRequest
    ids: list[str] = field(default_factory=list)
    failures: int = 0
    refusals: int = 0
    expired: bool = False
    given_up: int = 0
    patience: float = 0.0


OnStored = Callable[[list[tuple[Job, ChatReply]], BaseException | None], None]


class CacheWriter:
    """Keeps replies in the order in which they come.

    Args:
        cache: where.
        provider: the provider's name, for the cache's statistics.
        rubric: the same.
        on_stored: called, in the writer's thread, with what is now in the cache, or with what is not and why.
    """

    def __init__(self, cache: ReplyCache, provider: str, rubric: str, on_stored: OnStored) -> None:
        self._cache, self._provider, self._rubric, self._on_stored = cache, provider, rubric, on_stored
        self._waiting: queue.SimpleQueue[tuple[Job, ChatReply] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._live, name="harness-chat-cache", daemon=True)
        self._thread.start()

    def put(self, job: Job, reply: ChatReply) -> None:
        """Keep a reply soon."""
        self._waiting.put((job, reply))

    def end(self) -> None:
        """Keep what waits, then end."""
        self._waiting.put(None)
        self._thread.join()

    def _live(self) -> None:
        ended = False
        while not ended and (first := self._waiting.get()) is not None:
            batch = [first]
            with contextlib.suppress(queue.Empty):
                while (further := self._waiting.get_nowait()) is not None:
                    batch.append(further)
                ended = True
            error: BaseException | None = None
            try:
                self._cache.put_many([Entry(job.key, reply, self._provider, job.request.model, self._rubric) for job, reply in batch])
            except BaseException as problem:
                error = problem
            self._on_stored(batch, error)
