"""What is known of an item whose questions go into batches, and of a batch: tickets, plans and fates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.chat.values import ChatRequest, RequestFailed
from harness.errors import JudgeError
from harness.files.json_text import parse_json
from harness.judging.questions import OpenItem
from harness.types import ASPECTS, Aspect, Rating, canonical_json


@dataclass(frozen=True)
class Ticket:
    """What a pending item is known by.

    For each rating, in the order of :data:`ASPECTS`: the cache's key, the batch (empty: in none, so the cache may know it), and how often it had
    been asked before. Written as JSON; a batch that all share is written once.
    """

    item: str
    keys: tuple[str, ...]
    batches: tuple[str, ...]
    asks: tuple[int, ...] = (0,) * len(ASPECTS)

    def __str__(self) -> str:
        shared = set(self.batches) - {""}
        return canonical_json([shared.pop() if len(shared) == 1 else self.batches, self.item, self.keys, self.asks])

    @staticmethod
    def read(text: str) -> Ticket:
        """Return the ticket that ``text`` says. Raises JudgeError for one of another judge."""
        try:
            batches, item, keys, *rest = parse_json(text)
            asks = rest[0] if rest else [0] * len(ASPECTS)
            ticket = Ticket(item, tuple(keys), (batches,) * len(ASPECTS) if isinstance(batches, str) else tuple(batches), tuple(asks))
        except (ValueError, TypeError):
            ticket = Ticket("", (), ())
        parts = ((ticket.keys, str), (ticket.batches, str), (ticket.asks, int))
        if not isinstance(ticket.item, str) or not all(
            len(part) == len(ASPECTS) and all(isinstance(x, kind) for x in part) for part, kind in parts
        ):
            raise JudgeError(f"ticket {text[:60]!r} is none of a batch", given=text, hint="collect it with the judge that gave it")
        return ticket


@dataclass
class Planned:
    """An item with where each question stands: its key and ask, the batch in which it is open, or the request to be sent, by key."""

    state: OpenItem
    keys: dict[Aspect, str] = field(default_factory=dict)
    asks: dict[Aspect, int] = field(default_factory=dict)
    batches: dict[str, str] = field(default_factory=dict)
    requests: dict[str, ChatRequest] = field(default_factory=dict)
    hits: int = 0

    def pending(self, reason: str) -> Rating:
        """Return the item's rating while it waits."""
        keys = tuple(self.keys[aspect] for aspect in ASPECTS)
        batches = tuple(self.batches.get(key, "") for key in keys)
        ticket = Ticket(self.state.item.id, keys, batches, tuple(self.asks[aspect] for aspect in ASPECTS))
        return Rating(self.state.item.id, "pending", reason=reason, ticket=str(ticket))


@dataclass(frozen=True)
class Fate:
    """What became of a batch: ``open`` (asked for later), or over with the failures among its answers by key. ``reason``: why it brought nothing.

    ``full``: it was not taken since too much is under way. ``unconfirmed``: open, since nobody knows whether it was taken. ``failed``: as a whole.
    ``gone``: open, since the server does not have it, or does not have all of its results.
    """

    open: bool = False
    full: bool = False
    unconfirmed: bool = False
    failed: bool = False
    gone: bool = False
    reason: str = ""
    failures: Mapping[str, RequestFailed] = field(default_factory=dict)


def is_key(text: str) -> bool:
    """Return whether a text is a key of the cache."""
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)
