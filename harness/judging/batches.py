"""Rating through a batch API: hand in, and collect in a later process.

Nothing but the tickets has to be kept between the two. A request's name in the batch is its key in the cache (64 hex digits, which both APIs
take), and an item's ticket holds the batch and the keys of its three ratings. What a batch answers goes into the cache, so when an item of
which one reply expired, failed or could not be read is submitted again, only that one question is sent again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.errors import JudgeError
from harness.judging.questions import WRONG_FOR_ALL, Answer, OpenItem, Questions
from harness.judging.rubric import ASPECTS, Aspect
from harness.llm.cache import Entry, ReplyCache
from harness.llm.values import BatchProvider, ChatReply, ChatRequest, RequestFailed, Usage
from harness.types import JudgeItem, Rating, canonical_json

MAX_REQUESTS = 50_000
MAX_BYTES = 90_000_000
"""Bounds of one batch where the provider states none: OpenAI takes 50,000 requests and 200 MB, Anthropic 100,000 and 256 MB."""
RATE_AGAIN = "submitted again, it is sent again"
_KEPT_TOGETHER = 500


@dataclass(frozen=True)
class Ticket:
    """What a pending item is known by: the batch, the item's id, and the cache's key of each rating in the order of :data:`ASPECTS`."""

    batch: str
    item: str
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return canonical_json([self.batch, self.item, self.keys])

    @staticmethod
    def read(text: str) -> Ticket:
        """The ticket that ``text`` says. Raises JudgeError for one of another judge."""
        try:
            batch, item, keys = json.loads(text)
        except (ValueError, TypeError):
            batch = item = keys = None
        if not (isinstance(batch, str) and isinstance(item, str) and isinstance(keys, list) and len(keys) == len(ASPECTS)):
            raise JudgeError(f"ticket {text[:60]!r} is none of a batch; collect it with the judge that gave it")
        return Ticket(batch, item, tuple(map(str, keys)))


@dataclass
class _Planned:
    """An item with what is to be sent for it, by key."""

    state: OpenItem
    keys: dict[Aspect, str] = field(default_factory=dict)
    requests: dict[str, ChatRequest] = field(default_factory=dict)


class BatchDesk:
    """Hands questions in as batches and makes ratings of what comes back.

    Args:
        provider: the batch API.
        questions: what is asked.
        cache: where replies are kept.
    """

    def __init__(self, provider: BatchProvider, questions: Questions, cache: ReplyCache) -> None:
        from harness.llm.cost import load_prices
        from harness.lm.embedded import cache_root

        self.provider, self.questions, self.cache = provider, questions, cache
        self.usage, self.hits = Usage(), 0
        self._prices = load_prices(cache_root())

    @property
    def name(self) -> str:
        """The provider's name."""
        return self.provider.name

    @property
    def notes(self) -> Sequence[str]:
        """What a reader of the ratings must know, where the provider notes it."""
        return tuple(getattr(self.provider, "notes", ()))

    @property
    def cost(self) -> float | None:
        """Dollars for what was collected so far, at the price of batches; None where the model's price is not known."""
        return self._prices.cost(self.name, self.questions.options.model, self.usage, batch=True)

    # ------------------------------------------------------------------------------------------------------------------ handing in

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        """Ratings of what the cache can answer; the rest handed in, each item pending with its ticket.

        A batch is handed in before its tickets come out, and one that is refused leaves its items unrated.

        Raises:
            JudgeError: the API refuses the first batch for a reason that holds for all (a wrong key, no such model).
        """
        planned = [self._plan(item) for item in items]
        for plan in planned:
            if not plan.requests:
                yield plan.state.rating()
        first = True
        for group in self._groups([plan for plan in planned if plan.requests]):
            requests = {key: request for plan in group for key, request in plan.requests.items()}
            try:
                batch = self.provider.submit(requests)
            except RequestFailed as failure:
                if first and failure.status in WRONG_FOR_ALL:
                    raise JudgeError(f"{self.name} takes no batch: {failure.reason}; check key, account and the option model") from None
                for plan in group:
                    yield Rating(plan.state.item.id, "unrated", reason=f"the batch was not taken: {failure.reason}; {RATE_AGAIN}")
                continue
            first = False
            for plan in group:
                keys = tuple(plan.keys[aspect] for aspect in ASPECTS)
                yield Rating(plan.state.item.id, "pending", ticket=str(Ticket(batch, plan.state.item.id, keys)))

    def _plan(self, item: JudgeItem) -> _Planned:
        """Which question of each rating is open: the first whose reply is not known, if no earlier one could be read."""
        plan, asks = _Planned(OpenItem(item)), self.questions.options.asks
        for aspect, ask in itertools.product(ASPECTS, range(asks)):
            if aspect in plan.state.ratings or plan.keys.get(aspect) in plan.requests:
                continue
            request = self.questions.request(item, aspect, ask)
            key = plan.keys[aspect] = request.key(self.name, self.questions.identity)
            known = self.cache.get(key)
            if known is None:
                plan.requests[key] = request
            else:
                self.hits += 1
                plan.state.take(aspect, known, last=ask == asks - 1)
        return plan

    def _groups(self, planned: Sequence[_Planned]) -> Iterator[list[_Planned]]:
        """Items that go into one batch together: as many as the API takes, an item's questions never apart."""
        most = int(getattr(self.provider, "max_requests", MAX_REQUESTS))
        room = int(getattr(self.provider, "max_bytes", MAX_BYTES))
        group: list[_Planned] = []
        count = size = 0
        for plan in planned:
            weight = sum(map(_weight, plan.requests.values()))
            if group and (count + len(plan.requests) > most or size + weight > room):
                yield group
                group, count, size = [], 0, 0
            group.append(plan)
            count, size = count + len(plan.requests), size + weight
        if group:
            yield group

    # ------------------------------------------------------------------------------------------------------------------ collecting

    def collect(self, tickets: Sequence[str]) -> Iterator[Rating]:
        """A rating a ticket: pending while its batch runs, rated, or unrated with the reason and what to do."""
        by_batch: dict[str, list[tuple[str, Ticket]]] = {}
        for text in dict.fromkeys(tickets):
            ticket = Ticket.read(text)
            by_batch.setdefault(ticket.batch, []).append((text, ticket))
        for batch, members in by_batch.items():
            try:
                state = self.provider.poll(batch)
                answers = self._fetch(batch) if state.status == "ended" else {}
            except RequestFailed as failure:
                if failure.status in WRONG_FOR_ALL - {404}:
                    raise JudgeError(f"{self.name} cannot be asked for batch {batch}: {failure.reason}; check key and account") from None
                yield from self._unreachable(members, failure)
                continue
            for text, ticket in members:
                if state.status == "running":
                    yield Rating(ticket.item, "pending", ticket=text)
                elif state.status == "failed":
                    yield Rating(ticket.item, "unrated", reason=f"batch {batch} failed: {state.reason or 'no reason given'}; {RATE_AGAIN}")
                else:
                    yield self._rating(ticket, answers)

    def _unreachable(self, members: Sequence[tuple[str, Ticket]], failure: RequestFailed) -> Iterator[Rating]:
        """Still pending where the server may answer later; unrated where it knows the batch no more."""
        for text, ticket in members:
            if failure.retryable:
                yield Rating(ticket.item, "pending", ticket=text)
            else:
                yield Rating(ticket.item, "unrated", reason=f"batch {ticket.batch} cannot be fetched: {failure.reason}; {RATE_AGAIN}")

    def _fetch(self, batch: str) -> Mapping[str, Answer]:
        """A batch's answers by key; those that are replies are in the cache, in portions, before anything is made of them."""
        answers: dict[str, Answer] = {}
        new: list[Entry] = []
        for key, answer in self.provider.results(batch):
            answers[key] = answer
            if isinstance(answer, ChatReply) and not _is_key(key):
                raise JudgeError(f"batch {batch} holds answers that are not this judge's; give the run it was made for")
            if isinstance(answer, ChatReply) and key not in self.cache:
                self.usage += answer.usage
                new.append(Entry(key, answer, self.name, self.questions.options.model, self.questions.identity))
            if len(new) >= _KEPT_TOGETHER:
                self.cache.put_many(new)
                new = []
        self.cache.put_many(new)
        return answers

    def _rating(self, ticket: Ticket, answers: Mapping[str, Answer]) -> Rating:
        state = OpenItem(JudgeItem(ticket.item, "", "", ""))
        for aspect, key in zip(ASPECTS, ticket.keys, strict=True):
            answer: Answer | None = answers.get(key) or (self.cache.get(key) if _is_key(key) else None)
            if answer is None:
                answer = RequestFailed("the batch has no answer to it (expired or cancelled)", retryable=True)
            state.take(aspect, answer, last=True)
        rating = state.rating()
        if rating.status == "rated":
            return rating
        return Rating(rating.item_id, "unrated", reason=f"{rating.reason}; {RATE_AGAIN}", details=rating.details)


def _is_key(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def _weight(request: ChatRequest) -> int:
    """Bytes of a request in a batch at most: the UTF-8 of its texts, escaped, and what stands around them."""
    return sum(len(json.dumps(message.content)) + 64 for message in request.messages) + 1024
