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


class Runner(Account):
    """Sends requests to a provider. It may be used for several runs, one after the other; limits and counters go on.

    It takes the arguments of :class:`harness.chat.client.account.Account`.
    """

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        """Yield each of the caller's ids exactly once, with its reply or with why there is none, in the order in which they come.

        Nothing is sent before the first ``next``. To stop the iteration (Ctrl-C, ``break``, ``close``) ends the run: requests under way get the
        grace to end and are kept in the cache; whoever asks again gets them from there.

        Args:
            requests: by the caller's ids; read as the run goes on, so it must not change meanwhile. Equal requests are sent once.
            rubric: name and version of what the prompts were made from; part of the key of the cache.

        Raises:
            StoreError: the cache cannot be written; what had come by then was handed out.
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
                sending.start()
                while (answer := sending.out.get()) is not None:
                    yield answer
                if sending.error is not None:
                    raise sending.error
            finally:
                sending.stop()
                atexit.unregister(sending.stop)
