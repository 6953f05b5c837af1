"""An account with one API: who is asked, how fast and how often, and what it took. Settings, limits and counters outlive a run."""

from __future__ import annotations

import math
import threading

from harness.chat.client.cache import ReplyCache
from harness.chat.client.limits import Latency, TokenBucket, Window
from harness.chat.cost import Prices, input_bound
from harness.chat.values import ChatRequest, Provider, Usage
from harness.errors import OptionError


class Account:
    """Settings, limits and counters of the talk with one provider; :class:`harness.chat.client.runner.Runner` sends with them.

    Args:
        provider: the API.
        cache: looked into before anything is sent; every reply is in it before it is handed out. None: only repeats within a run are saved.
        concurrency: requests that are open at once at most. Fewer are while the server refuses many (429); see
            :class:`harness.chat.client.limits.Window`.
        attempts: tries of one request before it is given up. Refusals because of too many requests count a quarter, since waiting mends them.
        timeout: seconds for one attempt, at most; seconds in which this process itself was held up do not count. What takes far longer than the
            others is given up earlier and asked again, never within a second; see :class:`harness.chat.client.limits.Latency`.
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
                raise OptionError(f"{name} is {value}", given=value, allowed=f"{least} or more")
        above_zero = {"timeout": timeout, "requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute}
        for name, limit in above_zero.items():
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise OptionError(f"{name} is {limit}", given=limit, allowed="a number above 0")
        self.provider, self.cache, self.prices = provider, cache, prices
        self.concurrency, self.attempts, self.timeout, self.seed, self.grace = concurrency, attempts, timeout, seed, grace
        self.window, self.latency = Window(concurrency), Latency(timeout, concurrency)
        self.requests_bucket = TokenBucket(requests_per_minute) if requests_per_minute is not None else None
        self.tokens_bucket = TokenBucket(tokens_per_minute) if tokens_per_minute is not None else None
        self._mutex = threading.Lock()
        self._used: dict[str, Usage] = {}
        self._hits = 0

    @property
    def name(self) -> str:
        """Return API and server, e.g. ``openai@localhost:8000``."""
        return self.provider.name

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the results must know, e.g. a parameter that the server refused."""
        return tuple(self.provider.notes)

    def takes_schema(self, model: str) -> bool:
        """Return False where ``model`` is known to refuse the schema of a reply."""
        return self.provider.takes_schema(model)

    def pass_limits(self, request: ChatRequest, now: float) -> float:
        """Return seconds until the limits a minute let a request pass; 0 lets it, and counts it."""
        buckets = []
        if self.requests_bucket is not None:
            buckets.append((self.requests_bucket, 1.0))
        if self.tokens_bucket is not None:
            buckets.append((self.tokens_bucket, float(input_bound(request) + request.max_tokens)))
        wait = max((bucket.wait(amount, now) for bucket, amount in buckets), default=0.0)
        if wait <= 0:
            for bucket, amount in buckets:
                bucket.take(amount, now)
        return wait

    @property
    def unanswered(self) -> int:
        """Return requests that were given up while the server may have been at work on them, and may bill them."""
        return self.latency.given_up

    @property
    def usage(self) -> Usage:
        """Return tokens that were paid for so far; replies from the cache are not among them."""
        with self._mutex:
            return sum(self._used.values(), Usage())

    @property
    def usage_by_model(self) -> dict[str, Usage]:
        """Return :attr:`usage` by the model that was asked."""
        with self._mutex:
            return dict(self._used)

    @property
    def cost(self) -> float | None:
        """Return dollars that were spent so far; None without a price table, or with a model that is not in it."""
        if self.prices is None:
            return None
        costs = [self.prices.cost(self.provider.name, model, usage) for model, usage in self.usage_by_model.items()]
        return None if any(cost is None for cost in costs) else math.fsum(cost for cost in costs if cost is not None)

    @property
    def hits(self) -> int:
        """Return ids that were answered without paying: from the cache, or by the reply to an equal request of the same run."""
        return self._hits

    def count_paid(self, model: str, usage: Usage) -> None:
        """Note a reply that was paid for."""
        with self._mutex:
            self._used[model] = self._used.get(model, Usage()) + usage

    def count_hits(self, n: int) -> None:
        """Note ids that were answered without paying."""
        with self._mutex:
            self._hits += n
