"""Many requests to one API: as fast as it allows, retried where it can help, each paid for once, answered exactly once.

An event loop in a thread of its own sends the requests; replies go through the cache to a plain iterator. Memory is bounded by the
concurrency, not by the number of requests.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import threading
from collections.abc import Iterator, Mapping

from harness.errors import OptionError
from harness.llm.cache import ReplyCache
from harness.llm.cost import Prices
from harness.llm.limits import Latency, TokenBucket, Window
from harness.llm.sending import Sending
from harness.llm.values import ChatReply, ChatRequest, Provider, RequestFailed, Usage


class Runner:
    """Sends requests to a provider. It may be used for several runs, one after the other; limits and counters go on.

    Args:
        provider: the API.
        cache: looked into before anything is sent; every reply is in it before it is handed out. None: only repeats within a run are saved.
        concurrency: requests that are open at once at most. Fewer are while the server refuses many (429); see :class:`harness.llm.limits.Window`.
        attempts: tries of one request before it is given up. Refusals because of too many requests count a quarter, since waiting mends them.
        timeout: seconds for one attempt, at most. What takes far longer than the others is given up earlier and asked again; see
            :class:`harness.llm.limits.Latency`.
        requests_per_minute: limit of the account, where it is known; None leaves it to the server's refusals.
        tokens_per_minute: the same for tokens; a request counts with the upper bound of its input and with its ``max_tokens``.
        prices: for :attr:`cost`.
        seed: of the jitter between attempts.
        grace: seconds that requests under way get to end when the run is stopped, so that what is paid for is kept.

    Raises:
        OptionError: a limit below what makes sense.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        cache: ReplyCache | None = None,
        concurrency: int = 64,
        attempts: int = 6,
        timeout: float = 120.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        prices: Prices | None = None,
        seed: int = 0,
        grace: float = 10.0,
    ) -> None:
        for name, value, least in (("concurrency", concurrency, 1), ("attempts", attempts, 1), ("grace", grace, 0)):
            if not value >= least:
                raise OptionError(f"{name} is {value}; give {least} or more")
        above_zero = {"timeout": timeout, "requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        for name, limit in above_zero.items():
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise OptionError(f"{name} is {limit}; give a number above 0")
        self.provider, self.cache, self.prices = provider, cache, prices
        self.concurrency, self.attempts, self.timeout, self.seed, self.grace = concurrency, attempts, timeout, seed, grace
        self.window, self.latency = Window(concurrency), Latency(timeout, concurrency)
        self.requests_bucket = TokenBucket(requests_per_minute) if requests_per_minute is not None else None
        self.tokens_bucket = TokenBucket(tokens_per_minute) if tokens_per_minute is not None else None
        self._mutex = threading.Lock()
        self._used: dict[str, Usage] = {}
        self._hits = 0

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        """Each of the caller's ids exactly once, with its reply or with why there is none, in the order in which they come.

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

    # --------------------------------------------------------------------------------------------------------------------- counters

    @property
    def name(self) -> str:
        """API and server, e.g. ``openai@localhost:8000``."""
        return self.provider.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know, e.g. a parameter that the server refused."""
        return tuple(getattr(self.provider, "notes", ()))

    @property
    def unanswered(self) -> int:
        """Requests that were given up while the server may have been at work on them, and may bill them."""
        return self.latency.given_up

    @property
    def usage(self) -> Usage:
        """Tokens that were paid for so far; replies from the cache are not among them."""
        with self._mutex:
            return sum(self._used.values(), Usage())

    @property
    def usage_by_model(self) -> dict[str, Usage]:
        """:attr:`usage` by the model that was asked."""
        with self._mutex:
            return dict(self._used)

    @property
    def cost(self) -> float | None:
        """Dollars that were spent so far; None without a price table, or with a model that is not in it."""
        if self.prices is None:
            return None
        costs = [self.prices.cost(self.provider.name, model, usage) for model, usage in self.usage_by_model.items()]
        return None if any(cost is None for cost in costs) else math.fsum(cost for cost in costs if cost is not None)

    @property
    def hits(self) -> int:
        """Ids that were answered without paying: from the cache, or by the reply to an equal request of the same run."""
        return self._hits

    def count_paid(self, model: str, usage: Usage) -> None:
        """Note a reply that was paid for."""
        with self._mutex:
            self._used[model] = self._used.get(model, Usage()) + usage

    def count_hits(self, n: int) -> None:
        """Note ids that were answered without paying."""
        with self._mutex:
            self._hits += n
