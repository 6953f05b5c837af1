"""Rating through a batch API: hand in, and collect in a later process.

A request's name in the batch is its key in the cache (64 hex digits, which both APIs take), and an item's ticket holds, for each of its three
ratings, the key and the batch. What is open in a batch stands in the cache from the moment at which the batch was taken, so it is not handed in
again: not after a kill before the tickets were stored, not for another item or another run that asks the same. (A kill between the API's answer and
that note is the exception.) One whose acceptance got lost is noted as unconfirmed (:mod:`harness.judging.batch.unconfirmed`).
What a batch answers goes into the cache,
so when an item of which one reply expired, failed or could not be read is submitted again, only that one question is sent again.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace

from harness.chat.cleaning import clean_line
from harness.chat.client.cache import Entry, ReplyCache
from harness.chat.values import WRONG_FOR_ALL, AcceptanceUnknown, BatchProvider, ChatRequest, RequestFailed, UnconfirmedBatch, Usage
from harness.errors import JudgeError
from harness.judging.batch.tickets import Fate, Planned, Ticket, is_key
from harness.judging.batch.unconfirmed import UnconfirmedBatches
from harness.judging.questions import Answer, APIJudgeOptions, OpenItem, Questions, Refusals, advice, repeatable
from harness.types import ASPECTS, JudgeItem, Rating

RATE_AGAIN = "submitted again, it is sent again"
_HELD = "not handed in, since it is unknown whether the batch before it was taken; the same command hands it in"
PATIENCE = 1.0
"""Seconds of waiting for another process after which a line says so."""
_WRONG_KEY = WRONG_FOR_ALL | {403}  # a batch as a whole is no flagged text
_KEPT_TOGETHER = 500
_NAMED, _SHOWN_ID = 5, 40  # answers that are named, and characters of an id
_TOO_MUCH = re.compile(r"enqueued token|token_limit_exceeded", re.IGNORECASE)
logger = logging.getLogger(__name__)


class BatchDesk:
    """Hands questions in as batches and makes ratings of what comes back.

    Args:
        provider: the batch API.
        questions: what is asked.
        cache: where replies are kept.
    """

    def __init__(self, provider: BatchProvider, questions: Questions, cache: ReplyCache) -> None:
        from harness.chat.cost import load_prices
        from harness.files.cache_dir import cache_root

        self.provider, self.questions, self.cache = provider, questions, cache
        self.usage, self.hits = Usage(), 0
        self._prices = load_prices(cache_root())
        options = questions.options
        self._most, self._resend = provider.max_requests, False
        if isinstance(options, APIJudgeOptions):
            self._most, self._resend = min(self._most, options.batch_size or self._most), options.resend
        self._unconfirmed = UnconfirmedBatches(provider, cache)
        self._failed: dict[str, str] = {}  # why the batch of a request failed just now: handed in at once, it would fail again
        self._taken = False  # whether a batch was taken
        self._full = ""  # why nothing more is handed in for now
        self._hopeless: RequestFailed | None = None  # the refusal of a whole batch
        self._passed_over: list[str] = []  # what else was in the results

    @property
    def name(self) -> str:
        """Return the provider's name."""
        return self.provider.name

    @property
    def notes(self) -> Sequence[str]:
        """Return what a reader of the ratings must know, where the provider notes it."""
        return (*self.provider.notes, *self._passed_over)

    @property
    def cost(self) -> float | None:
        """Return dollars for what was collected so far, at the price of batches; None where the model's price is not known."""
        return self._prices.cost(self.name, self.questions.options.model, self.usage, batch=True)

    # ------------------------------------------------------------------------------------------------------------------ handing in

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        """Yield ratings of what the cache can answer; the rest handed in, each item pending with its ticket.

        A batch is handed in before its tickets come out, and one that is refused leaves its items unrated, or pending where it may be taken later
        or was perhaps taken. What was in a batch that :meth:`collect` has found failed is unrated, and not handed in by this process.

        Raises:
            JudgeError: the API refuses the first batch for a reason that holds for all (a wrong key, no such model), or has refused every request of
                a batch that was collected.
        """
        if self._hopeless is not None:
            model = self.questions.options.model
            raise JudgeError(f"{model} cannot be asked: {self._hopeless.reason}", given=model, hint=advice(self._hopeless))
        self.questions.settle(self.provider.takes_schema(self.questions.options.model))
        planned = list[Planned]()
        for plan in map(self._plan, items):
            reason = next((self._failed[key] for key in plan.requests if key in self._failed), "")
            if reason:
                yield Rating(plan.state.item.id, "unrated", reason=f"{reason}; {RATE_AGAIN}")
            else:
                planned.append(plan)
        for group in self._groups(planned):
            yield from self._submit(group)

    def _plan(self, item: JudgeItem) -> Planned:
        """Return which question of each rating is open: the first whose reply is not known, if no earlier one could be read."""
        plan = Planned(OpenItem(item))
        for aspect in ASPECTS:
            for ask in self.questions.asks(item, aspect, self.name, self.cache):
                plan.keys[aspect], plan.asks[aspect] = ask.key, ask.number
                if ask.reply is not None:
                    plan.hits += 1
                    plan.state.take(aspect, ask.reply, last=ask.number == self.questions.options.asks - 1)
                elif (batch := self._unconfirmed.batch_of(ask.key)) is not None:
                    plan.batches[ask.key] = batch
                elif ask.key in self.cache:  # fetched by another process after the first look: all from the beginning
                    return self._plan(item)
                else:
                    plan.requests[ask.key] = ask.request
        return plan

    def _groups(self, planned: Sequence[Planned]) -> Iterator[list[Planned]]:
        """Yield items that go into one batch together: as many as the API takes, an item's questions never apart."""
        room = self.provider.max_bytes
        group: list[Planned] = []
        count = size = 0
        for plan in planned:
            weight = sum(map(_weight, plan.requests.values()))
            if group and (count + len(plan.requests) > self._most or size + weight > room):
                yield group
                group, count, size = [], 0, 0
            group.append(plan)
            count, size = count + len(plan.requests), size + weight
        if group:
            yield group

    def _submit(self, group: Sequence[Planned]) -> Iterator[Rating]:
        """Hand a group in, whatever of it nobody has handed in meanwhile."""
        with self._alone():
            group = [self._plan(plan.state.item) if any(map(self._is_known, plan.requests)) else plan for plan in group]
            requests = {key: request for plan in group for key, request in plan.requests.items()}
            refused = self._hand_in(requests) if requests else ""
        for plan in group:
            self.hits += plan.hits
            for key in plan.requests:
                plan.batches[key] = "" if refused else self.cache.batch_of(key) or ""
            if not plan.batches:
                yield plan.state.rating()
            elif refused and plan.requests and not self._full:
                yield Rating(plan.state.item.id, "unrated", reason=f"the batch was not taken: {refused}; {RATE_AGAIN}")
            else:
                names = sorted(set(plan.batches.values()) - {""})
                unconfirmed = next((why for why in map(self._unconfirmed.why, names) if why), "")
                yield plan.pending(unconfirmed or (self._full if refused and plan.requests else f"batch {', '.join(names)} has not ended"))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the right to hand in; people learn of it where another process has it for long: an upload may take minutes."""
        announcement = threading.Timer(PATIENCE, logger.warning, ("waiting for another process that is handing in batches",))
        announcement.daemon = True
        announcement.start()
        try:
            with self.cache.handing_in():
                announcement.cancel()
                yield
        finally:
            announcement.cancel()

    def _is_known(self, key: str) -> bool:
        return self.cache.batch_of(key) is not None or key in self.cache

    def _hand_in(self, requests: Mapping[str, ChatRequest]) -> str:
        """Hand in, and note at once what is open now, or unconfirmed; the reason where the API did not take it."""
        if self._full:
            return self._full

        def work() -> None:
            try:
                batch = self.provider.submit(requests)
            except AcceptanceUnknown as failure:
                self._unconfirmed.note(failure, requests)
                raise
            self.cache.hand_in(batch, requests)

        try:
            _uninterrupted(work)
        except AcceptanceUnknown:
            self._full = _HELD
            return ""
        except RequestFailed as failure:
            if not self._taken and failure.status in _WRONG_KEY:
                hint = "check key, account and the option model; what was rated is kept, and the same command goes on from there"
                raise JudgeError(f"{self.name} takes no batch: {failure.reason}", given=self.name, hint=hint) from None
            if _TOO_MUCH.search(failure.reason):
                self._full = self._too_much(failure.reason)
            return failure.reason
        self._taken = True
        return ""

    def _too_much(self, reason: str) -> str:
        return f"not handed in: {reason}; run the same command again when other batches have ended, or lower -J batch_size (now {self._most:,})"

    # ------------------------------------------------------------------------------------------------------------------ collecting

    def collect(self, tickets: Sequence[str]) -> Iterator[Rating]:
        """Yield a rating a ticket: pending while one of its batches runs, or cannot be fetched; rated; or unrated with the reason and what to do.

        Raises:
            JudgeError: a ticket of another judge, a key that is refused; after the ratings, where all batches failed and the model never replied.
        """
        fates: dict[str, Fate] = {}
        asked: dict[str, set[str]] = {}  # the keys that the tickets expect of each batch
        cleared = list[tuple[str, Ticket]]()
        for text, read in [(text, Ticket.read(text)) for text in dict.fromkeys(tickets)]:
            ticket = self._cleared(read)
            cleared.append((text if ticket == read else str(ticket), ticket))
            for key, batch in zip(ticket.keys, ticket.batches, strict=True):
                asked.setdefault(batch, set()).add(key)
        for text, ticket in cleared:
            names = [batch for batch in ticket.batches if batch]
            for batch in names:
                if batch not in fates:
                    fates[batch] = self._fate(batch, asked[batch])
            self._failed.update((key, fates[b].reason) for key, b in zip(ticket.keys, ticket.batches, strict=True) if b and fates[b].failed)
            found = sorted((fates[b] for b in names if fates[b].reason), key=lambda fate: (not fate.full, not fate.unconfirmed, not fate.open))
            if any(fate.gone for fate in found) and all(is_key(key) and key in self.cache for key in ticket.keys):
                # Its answers were kept before, though the rest cannot be had.
                yield self._rating(ticket, fates)
            elif found and (found[0].full or found[0].open):
                left = replace(ticket, batches=tuple("" if batch and fates[batch].full else batch for batch in ticket.batches))
                yield Rating(ticket.item, "pending", ticket=str(left) if found[0].full else text, reason=found[0].reason)
            elif found:
                yield Rating(ticket.item, "unrated", reason=f"{found[0].reason}; {RATE_AGAIN}")
            else:
                yield self._rating(ticket, fates)
        model, rubric = self.questions.options.model, self.questions.identity
        if fates and all(fate.failed for fate in fates.values()) and not self.cache.answered(self.name, model, rubric):
            reason = next(iter(fates.values())).reason
            hint = "check the option model and the account; the same command hands it in anew"
            raise JudgeError(f"{model} cannot be asked: {reason}", given=model, hint=hint)

    def _cleared(self, ticket: Ticket) -> Ticket:
        """Return the ticket with the batches that were unconfirmed, as far as they are found."""
        batches = list[str]()
        for key, batch in zip(ticket.keys, ticket.batches, strict=True):
            if UnconfirmedBatch.read(batch) is not None and is_key(key):
                self._unconfirmed.look(batch, give_up=self._resend)
                batch = self.cache.batch_of(key) or ""
            batches.append(batch)
        return replace(ticket, batches=tuple(batches))

    def _fate(self, batch: str, asked: Set[str]) -> Fate:
        """Return what became of a batch; what it answered is in the cache thereafter."""
        if why := self._unconfirmed.why(batch):
            return Fate(open=True, unconfirmed=True, reason=why)
        try:
            state = self.provider.poll(batch)
            if state.status == "running":
                return Fate(open=True, reason=f"batch {batch} has not ended")
            if state.status == "ended":
                failures = self._fetch(batch, asked)
                self.cache.settle(batch)
                return Fate(failures=failures)
        except RequestFailed as failure:
            return self._unreachable(batch, failure)
        self.cache.settle(batch)
        if _TOO_MUCH.search(state.reason):
            self._full = self._too_much(state.reason)
            return Fate(full=True, reason=self._full)
        return Fate(failed=True, reason=f"batch {batch} failed: {state.reason or 'no reason given'}")

    def _unreachable(self, batch: str, failure: RequestFailed) -> Fate:
        """A batch that is paid for is not given up for a failure: the server may answer later, or another key may know it."""
        if failure.status in _WRONG_KEY - {404}:
            message = f"{self.name} cannot be asked for batch {batch}: {failure.reason}"
            raise JudgeError(message, given=batch, hint="check key and account") from None
        reason = f"batch {batch} cannot be fetched: {failure.reason}"
        if failure.retryable:
            return Fate(open=True, reason=reason)
        if not self._resend:
            hint = (
                "use the key of the project that handed it in; if it is gone for good, -J resend=true has it handed in and paid for again"
            )
            return Fate(open=True, gone=True, reason=f"{reason}; {hint}")
        self.cache.settle(batch)
        return Fate(reason=reason)

    def _fetch(self, batch: str, asked: Set[str]) -> dict[str, RequestFailed]:
        """Keep a batch's replies in the cache, in portions; answers with its failures by key.

        Answers to what was not asked are passed over: the key of a reply is not for the server to choose.

        Raises JudgeError where all are such: the batch is another judge's.
        """
        failures: dict[str, RequestFailed] = {}
        new: list[Entry] = []
        ours, n_ours, unasked = asked | self.cache.open_in(batch), 0, list[str]()
        refusals = Refusals(lambda: self.cache.answered(self.name, self.questions.options.model, self.questions.identity))
        try:
            for key, answer in self.provider.results(batch):
                if key not in ours and not (is_key(key) and key in self.cache):  # in the cache: fetched before, for others as well
                    unasked.append(key)
                    continue
                n_ours += 1
                if isinstance(answer, RequestFailed):
                    failures[key] = answer
                    if not answer.retryable and refusals.take(answer):
                        self._hopeless = answer
                    continue
                refusals.take(answer)
                self._hopeless = None
                if key not in self.cache or self.cache.batch_of(key) == batch:  # else it was counted when it was fetched before
                    self.usage += answer.usage
                    new.append(Entry(key, answer, self.name, self.questions.options.model, self.questions.identity))
                if len(new) >= _KEPT_TOGETHER:
                    self.cache.put_many(new, batch=batch)
                    new = []
        finally:
            self.cache.put_many(new, batch=batch)  # also of a download that breaks: it was counted
        if unasked and not n_ours:
            message = f"batch {batch} holds answers that are not this judge's"
            raise JudgeError(message, given=batch, hint="give the run it was made for")
        if unasked:
            named = ", ".join(clean_line(key, _SHOWN_ID) for key in unasked[:_NAMED]) + (", …" if len(unasked) > _NAMED else "")
            many = "1 answer" if len(unasked) == 1 else f"{len(unasked)} answers"
            self._passed_over.append(f"{self.name}: {many} in the results of {batch} to what was not asked, passed over: {named}")
        return failures

    def _rating(self, ticket: Ticket, fates: Mapping[str, Fate]) -> Rating:
        """Return the rating of an item whose batches are over; what it lacks, and whether that is sent again, is part of the reason."""
        state, again = OpenItem(JudgeItem(ticket.item, "", "", "")), False
        last = self.questions.options.asks - 1
        for aspect, key, batch, number in zip(ASPECTS, ticket.keys, ticket.batches, ticket.asks, strict=True):
            fate = fates.get(batch, Fate())
            answer: Answer | None = (self.cache.get(key) if is_key(key) else None) or fate.failures.get(key)
            if answer is None:
                missing = "it has not been handed in yet"
                if batch:
                    missing = "the batch has no answer to it that can be read (it may have expired or been cancelled)"
                answer = RequestFailed(missing, retryable=True)
            again |= isinstance(answer, RequestFailed) or (number < last and repeatable(answer))
            state.asked[aspect] = number
            state.take(aspect, answer, last=True)
        rating = state.rating()
        return replace(rating, reason=f"{rating.reason}; {RATE_AGAIN}") if again else rating


def _uninterrupted(work: Callable[[], None]) -> None:
    """Do a piece of work to its end: Ctrl-C, however often, is heeded when it is done, so that what the caller holds is held until then."""
    interrupted = False
    with ThreadPoolExecutor(1) as worker:
        done = worker.submit(work)
        while not done.done():
            try:
                wait([done])
            except KeyboardInterrupt:
                if not interrupted:
                    logger.warning("a batch is being handed in; Ctrl-C is heeded when it is noted, else it would be paid for twice")
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    done.result()


def _weight(request: ChatRequest) -> int:
    """Return bytes of a request in a batch at most: the UTF-8 of its texts, escaped, and what stands around them."""
    return sum(len(json.dumps(message.content)) + 64 for message in request.messages) + 1024
