"""Batches of which nobody knows whether the API took them: their acceptance got lost. Handed in again, they might be paid for twice.

Their requests are noted in the cache as open, under a name that :class:`harness.chat.values.UnconfirmedBatch` makes, so no process hands them in.
A later one looks through the API's own list for a batch that fits in time and size, and knows it by its file, or when it has ended by its answers.
What is not found waits for a person.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from harness.chat.client.cache import ReplyCache
from harness.chat.values import AcceptanceUnknown, BatchProvider, RequestFailed, UnconfirmedBatch

_LOOKED_AT = 100  # answers of a batch that are looked at: a few may belong to nobody
_NO_SIGHT = frozenset({401, 402, 403})  # of a key that sees no list, which says nothing of the batch


class UnconfirmedBatches:
    """The unconfirmed batches of one cache and API.

    Args:
        provider: the API. One whose ``find`` raises, since it has no list of batches, leaves all to people.
        cache: where they are noted.
    """

    def __init__(self, provider: BatchProvider, cache: ReplyCache) -> None:
        self._provider, self._cache = provider, cache
        self._why: dict[str, str] = {}
        self._new: set[str] = set()

    def note(self, failure: AcceptanceUnknown, keys: Iterable[str]) -> None:
        """Note the requests of a batch whose acceptance got lost."""
        name = str(failure.unconfirmed)
        self._cache.hand_in(name, keys)
        self._new.add(name)
        self._why[name] = f"{failure.reason}; it is not handed in again: the same command looks for it in the API's list of batches"

    def why(self, name: str) -> str:
        """Return what is not known of the batch noted under ``name``, and what to do; empty for the id of a batch."""
        return self._why.get(name, "")

    def batch_of(self, key: str) -> str | None:
        """Return the batch in which a request is open, after a look for one that was unconfirmed; the name of that where that did not help."""
        name = self._cache.batch_of(key)
        if name is None or UnconfirmedBatch.read(name) is None:
            return name
        self.look(name)
        return self._cache.batch_of(key)

    def look(self, name: str, give_up: bool = False) -> None:
        """Look for the batch noted under ``name``, once; with ``give_up`` one that is not found may be handed in again."""
        unconfirmed = UnconfirmedBatch.read(name)
        if unconfirmed is None or name in self._new or (name in self._why and not give_up):
            return
        unknown = f"whether {unconfirmed.description} was taken is unknown"
        hint = "look there, and where it is missing, -J resend=true has it handed in again"
        try:
            found, running = self._search(name, unconfirmed)
        except RequestFailed as failure:
            found, wait = "", failure.retryable or failure.status in _NO_SIGHT
            then = "run the same command again later, with the key that handed it in" if wait else hint
            why = f"{unknown}: the API's list of batches cannot be read ({failure.reason}); {then}"
        else:
            wait = len(running) == 1
            if wait:
                why = f"batch {running[0]} has not ended; it seems to be {unconfirmed.description}, whose acceptance got lost"
            else:
                fitting = (
                    f"{len(running)} batches in the API's list fit ({', '.join(running[:5])})" if running else "none in the API's list fits"
                )
                why = f"{unknown}: {fitting}; {hint}"
        if found:
            self._cache.rename(name, found)
        elif give_up and not wait:
            self._cache.settle(name)
        else:
            self._why[name] = why

    def _search(self, name: str, unconfirmed: UnconfirmedBatch) -> tuple[str, list[str]]:
        """Return the batch, or those that may be it once they have ended. Raises RequestFailed where the API cannot be asked."""
        ours, running = self._cache.open_in(name), list[str]()
        for batch in (batch for batch in self._provider.find(unconfirmed) if not self._cache.open_in(batch)):
            if unconfirmed.file:
                return batch, []
            try:
                if self._provider.poll(batch).status == "running":
                    running.append(batch)
                elif any(name in ours for name, _ in itertools.islice(self._provider.results(batch), _LOOKED_AT)):
                    return batch, []
            except RequestFailed as failure:
                if failure.retryable:
                    raise
        return "", running
