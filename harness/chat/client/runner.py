"""Many requests to one API: as fast as it allows, retried where it can help, each paid for once, answered exactly once.

An event loop in a thread of its own sends the requests; replies go through the cache to a plain iterator. Memory is bounded by the
concurrency, not by the number of requests.
"""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Iterator, Mapping

from harness.chat.client.account import Account
from harness.chat.client.cache import ReplyCache
from harness.chat.client.dispatch import Sending
from harness.chat.values import ChatReply, ChatRequest, RequestFailed
from harness.files.timing import API, CLOCK


class Halted(Exception):
    """A run was ended by :meth:`Runner.halt`, from another thread."""


class Runner(Account):
    """Sends requests to a provider. It may be used for several runs, one after the other; limits and counters go on.

    It takes the arguments of :class:`harness.chat.client.account.Account`.
    """

    _halting = False
    _sending: Sending | None = None

    def halt(self, now: bool = False) -> None:
        """From another thread, end the run that is going on, and refuse others until :meth:`go_on`: they raise :class:`Halted`.

        Requests under way get the grace to end and are kept in the cache, unless ``now`` is given. Returns before they have ended.
        """
        self._halting = True
        if self._sending is not None:
            self._sending.halt(now)

    def go_on(self) -> None:
        """Allow runs again."""
        self._halting = False

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        """Yield each of the caller's ids exactly once, with its reply or with why there is none, in the order in which they come.

        Nothing is sent before the first ``next``. To stop the iteration (Ctrl-C, ``break``, ``close``) ends the run: requests under way get the
        grace to end and are kept in the cache; whoever asks again gets them from there.

        Args:
            requests: by the caller's ids; read as the run goes on, so it must not change meanwhile. Equal requests are sent once.
            rubric: name and version of what the prompts were made from; part of the key of the cache.

        Raises:
            StoreError: the cache cannot be written; what had come by then was handed out.
            Halted: another thread has ended the run.
            Exception: a defect of the provider, with its own traceback; what had come by then was handed out.
        """
        if not requests:
            return
        with contextlib.ExitStack() as stack:
            cache = self.cache
            if cache is None:
                cache = stack.enter_context(ReplyCache(None))
            sending = Sending(self, cache, requests, rubric)
            atexit.register(sending.stop)  # an iterator that is still open when the interpreter ends
            try:
                self._sending = sending
                sending.start()
                if self._halting:  # it may have been asked for before there was anything to end
                    sending.halt()
                while (answer := _next(sending)) is not None:
                    yield answer
                if sending.error is not None:
                    raise sending.error
                if self._halting:
                    raise Halted
            finally:
                sending.stop()
                self._sending = None
                atexit.unregister(sending.stop)


def _next(sending: Sending) -> tuple[str, ChatReply | RequestFailed] | None:
    with CLOCK.part(API):
        return sending.out.get()
