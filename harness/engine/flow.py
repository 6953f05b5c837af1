"""The texts of one chunk: rows that end leave the batch, and requests that wait take their places.

Which requests are decoded together depends on the requests, the batch size and where the texts end, never on the clock: a chunk that is generated
again has the same neighbours at every token. Newcomers come in groups, since to read prompts takes a forward pass: when a quarter of the places
is free, or as many as are waited for. Their prompts are read by themselves, what they have in common once (:mod:`harness.engine.shared`), the rest
in passes of about one length each, as padding is read, too; after their first token they join the batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from harness.engine.base import Generated, GenerationRequest
from harness.engine.batch import Batch
from harness.engine.rows import DecodingPlan
from harness.engine.shared import Common, Sharing
from harness.errors import EngineError
from harness.model.memory import Budget, TokenBudget, attempt, release

_SHARE = 4
"""A group of newcomers takes one of so many parts of the places."""
_moments = itertools.count()
"""Numbers the steps by which texts end."""

Begin = Callable[[list[GenerationRequest], Common | None], Batch]
"""Requests, and what the lower layers have read of their prompts → a batch of them."""


class Flow:
    """Requests on their way through one batch.

    Args:
        requests: of one adapter.
        begin: makes a batch.
        plan: how the model is decoded.
        sharing: how prompts are read.
        joins: whether rows may join a batch in the middle of its texts.
        settles: whether room for these is made before the first prompts are read.
        budget: the rows of the batch; halved where memory runs out.
        device: whose memory that is.
        columns: tokens of the longest text there may be.
    """

    def __init__(
        self,
        requests: Sequence[GenerationRequest],
        begin: Begin,
        plan: DecodingPlan,
        sharing: Sharing,
        joins: bool,
        settles: bool,
        budget: Budget,
        device: torch.device,
        columns: int,
    ) -> None:
        self._waiting, self._begin, self._plan, self._sharing = in_order(requests), begin, plan, sharing
        self._joins, self._settles = joins, joins and settles
        self._budget, self._device, self._columns = budget, device, columns
        self._tokens = TokenBudget.usual(device).size
        self._batch: Batch | None = None

    def texts(self) -> Iterator[Generated]:
        """Yield the texts as they end.

        Raises:
            EngineError: a single request does not fit into memory.
        """
        while self._waiting or self._open:
            yield from self._take() if self._newcomers() else self._go_on()

    @property
    def _open(self) -> list[GenerationRequest]:
        return [] if self._batch is None else self._batch.requests

    def _newcomers(self) -> int:
        """Return how many of the waiting requests come in next; 0 where the batch goes on without."""
        n = len(self._open)
        if not n:
            return self._budget.take(alike(self._waiting, self._plan))
        room = self._budget.size - n
        enough = max(1, min(-(-self._budget.size // _SHARE), len(self._waiting)))
        return min(room, len(self._waiting)) if self._joins and self._waiting and room >= enough else 0

    def _take(self) -> Iterator[Generated]:
        """Have the next requests read their prompts and join the batch."""
        n = self._newcomers()
        if not self._open:
            self._batch = None  # its tensors, before others are made
        parts = [in_order(part) for part in self._sharing.parts(self._waiting[:n])] if self._joins else [self._waiting[:n]]
        self._waiting[:n] = [request for part in parts for request in part]
        for part in parts:
            read = attempt(partial(self._sharing.read, part), self._device)
            common = None if read is None else read[0]
            for size in passes([len(request.prompt_ids) for request in part], self._tokens) if self._joins else [n]:
                if not (yield from self._read(size, common)):
                    return

    def _read(self, n: int, common: Common | None) -> Generator[Generated, None, bool]:
        """Have the next ``n`` requests read their prompts and join the batch; returns whether memory sufficed."""
        coming = self._begin(self._waiting[:n], common)
        if self._open and self._joins and self._batch is not None:
            coming.land(self._batch)
        elif self._settles:
            coming.settle(self._room(0), self._columns)
        ended = attempt(partial(coming.advance, 1), self._device)
        if ended is None:
            del coming
            self._did_not_fit(n + len(self._open), [])
            return False
        del self._waiting[:n]
        fits = not coming.requests or attempt(partial(self._join, coming), self._device) is not None
        back = [] if fits else [*self._open, *coming.requests]
        del coming
        if not fits:
            self._batch = None
            self._did_not_fit(len(back), back)
        yield from self._said(ended[0])
        return fits

    def _join(self, coming: Batch) -> None:
        if self._open and self._batch is not None:
            self._batch.join(coming)
            return
        if self._joins and not self._settles:
            coming.grow(self._room(len(coming.requests)), self._columns)
        self._batch = coming

    def _room(self, n: int) -> int:
        """Return how many rows there will be at most, of which ``n`` are no longer among those that wait."""
        return min(self._budget.size, n + len(self._waiting))

    def _go_on(self) -> Iterator[Generated]:
        """Decode until a text ends."""
        assert self._batch is not None
        ended = attempt(self._batch.advance, self._device)
        if ended is None:
            left = self._batch.requests
            self._batch = None
            return self._did_not_fit(len(left), left)
        return self._said(ended[0])

    def _did_not_fit(self, n: int, back: list[GenerationRequest]) -> Iterator[Generated]:
        """Go on with half of ``n`` rows; the requests ``back`` begin again, before those that wait."""
        release(self._device)
        self._waiting = back + self._waiting
        if n == 1:
            length = len(self._waiting[0].prompt_ids)
            raise EngineError(
                f"out of memory on {self._device} with a single prompt of {length} tokens",
                given=length,
                hint="use a smaller model, a smaller dtype or another --device",
            )
        self._budget.halve(n)
        return iter(())

    def _said(self, texts: Sequence[Generated]) -> Iterator[Generated]:
        if texts:
            moment = next(_moments)
            yield from (replace(text, moment=moment) for text in texts)


def in_order(requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """Return the requests in the order in which they come in.

    The longest prompts first: a batch size that suffices for them suffices for all that follow. Rows of one prompt stand together.
    """
    return sorted(requests, key=lambda request: (-len(request.prompt_ids), tuple(request.prompt_ids)))


def passes(lengths: Sequence[int], tokens: int) -> list[int]:
    """Return how many of the prompts each forward pass reads: so many tokens at most, padding included, or a single prompt.

    Args:
        lengths: of the prompts, the longest first; each pass is as wide as its first.
        tokens: of a pass.
    """
    sizes: list[int] = []
    while (start := sum(sizes)) < len(lengths):
        sizes.append(min(max(1, tokens // lengths[start]), len(lengths) - start))
    return sizes


def alike(waiting: Sequence[GenerationRequest], plan: DecodingPlan) -> int:
    """How many of the requests, from the first on, may share a batch."""
    if not plan.together:
        return 1
    if plan.padding != "none":
        return len(waiting)
    length = len(waiting[0].prompt_ids)
    return next((place for place, request in enumerate(waiting) if len(request.prompt_ids) != length), len(waiting))
