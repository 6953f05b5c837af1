"""A judge that is a language model: three questions an item, replies read by :mod:`harness.judging.replies`, what cannot be read asked again.

An item is rated when all three of its ratings are; otherwise it is unrated, with the reason, and with the replies in its details. The model sees
concept, instruction and text, never the method, the feature or the strength. Shipped judges and those of others give :class:`LLMJudge` their
options and a way to ask (:class:`Asker`; :func:`ask_api` for providers of :mod:`harness.chat`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from harness.chat.retirement import ModelRetired
from harness.chat.values import THOUGHTS_ALONE, BatchProvider, ChatReply, ChatRequest, Provider, RequestFailed, SchemaRefused, Usage
from harness.contracts import JudgeTraits, Metered, Work
from harness.errors import JudgeError
from harness.judging.questions import THINKING, Answer, APIJudgeOptions, LLMJudgeOptions, OpenItem, Questions, Refusals, advice, by_rule
from harness.judging.rubric import load_rubric
from harness.types import ASPECTS, Aspect, JudgeItem, Rating

if TYPE_CHECKING:
    from harness.chat.client.cache import ReplyCache
    from harness.chat.client.runner import Runner
    from harness.chat.cost import Estimate
    from harness.contracts import JudgeBench
    from harness.judging.batch.rate import BatchDesk

Connect = Callable[["ReplyCache | None", int], "Asker"]
Question = tuple[int, Aspect]
"""An item's place, and which of its ratings."""


AT_ONCE = 10_000
"""Items handed over together: enough that the tail of a part costs little, no more than a batch holds (three requests an item)."""

UNREADABLE = 20
"""Replies without a rating, before any with one, that end a run."""


class Asker(Metered, Protocol):
    """A way to put questions to a model: an API (:func:`ask_api`), or a model on this machine."""

    @property
    def name(self) -> str:
        """Return the provider's name; part of the cache's key."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Return what a reader of the ratings must know, e.g. an option that the server refused."""
        ...

    def takes_schema(self, model: str) -> bool:
        """Return False where ``model`` is known to refuse the schema of a reply."""
        ...

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, Answer]]:
        """Return an answer to each request, in any order, each as soon as it is there."""
        ...


def ask_api(provider: Provider, options: LLMJudgeOptions, cache: ReplyCache | None, seed: int = 0) -> Runner:
    """Return an :class:`Asker` that asks a provider, with the limits that the options state.

    Args:
        provider: the API.
        options: the judge's options.
        cache: where replies are kept; None keeps none.
        seed: of the jitter of retries.
    """
    from harness.chat.client.runner import Runner
    from harness.chat.cost import load_prices
    from harness.files.cache_dir import cache_root

    return Runner(
        provider,
        cache=cache,
        concurrency=options.concurrency,
        attempts=options.attempts,
        timeout=options.timeout,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        prices=load_prices(cache_root()),
        seed=seed,
    )


class LLMJudge:
    """A judge by a language model; see the module. Implements :class:`harness.contracts.Judge`.

    Args:
        options: the judge's options.
        connect: ``connect(cache, seed)`` answers with what asks the model; called by :meth:`prepare`.
        batches: makes the batch API, for judges that have one.
        room: tokens that the model may think, beside those of its reply.
    """

    def __init__(
        self,
        options: LLMJudgeOptions,
        connect: Connect,
        batches: Callable[[], BatchProvider] | None = None,
        room: int = 0,
    ) -> None:
        self.options = options
        self.questions = Questions(options, load_rubric(options.rubric), room)
        self._connect, self._batches = connect, batches
        self._replies: ReplyCache | None = None
        self._bench: JudgeBench | None = None
        self._asker: Asker | None = None
        self._desk: BatchDesk | None = None
        self._reads, self._unread = False, 0
        self._refusals = Refusals(self._has_replied, options.concurrency - 1)

    @property
    def traits(self) -> JudgeTraits:
        """Return the rubric with the digest of what is asked; with ``mode=batch`` its ratings come later."""
        later = "batches, which come hours later (mode=live answers at once)" if self.batch else ""
        return JudgeTraits(rubric=self.questions.identity, offline=False, at_once=AT_ONCE, answers_later=later)

    @property
    def batch(self) -> bool:
        """Return whether ratings come back pending, through the batch API."""
        return isinstance(self.options, APIJudgeOptions) and self.options.mode == "batch"

    @property
    def usage(self) -> Usage:
        """Return tokens paid for so far, cache hits left out."""
        return sum((part.usage for part in (self._asker, self._desk) if part is not None), Usage())

    @property
    def cost(self) -> float | None:
        """Return dollars so far; None where the model's price is not known."""
        costs = [part.cost for part in (self._asker, self._desk) if part is not None]
        return None if None in costs else sum(cost for cost in costs if cost is not None)

    @property
    def hits(self) -> int:
        """Return replies that came from the cache."""
        return sum(part.hits for part in (self._asker, self._desk) if part is not None)

    @property
    def unanswered(self) -> int:
        """Return requests that were given up unanswered, which the server may bill, too."""
        return 0 if self._asker is None else self._asker.unanswered

    def estimate(self, work: Work) -> Estimate:
        """Return an upper bound of calls, tokens and cost of rating ``work.items``; sends nothing.

        Each question is asked once; what repeats may add is beside it.
        """
        from harness.chat.cost import load_prices
        from harness.files.cache_dir import cache_root

        name = self._open_desk().name if self.batch else self._open_asker().name
        return self.questions.estimate(work.items, name, load_prices(cache_root()), self._cache(), self.batch)

    def prepare(self, bench: JudgeBench) -> None:
        """Open the connection, so that a missing key or package is found before anything is asked.

        Raises:
            JudgeError: no key, or options that do not go together.
        """
        self._bench = bench
        self._refusals = Refusals(self._has_replied, self.options.concurrency - 1)
        if self.batch:
            self._open_desk()
        else:
            self._open_asker()

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        """Return a rating an item, as they come; with ``mode=batch`` pending ones with a ticket.

        Raises:
            JudgeError: :meth:`prepare` has not been called; while iterating, where the answers say that all will fail: a wrong key at once, any
                other refusal when it has come ten times in a row. What came before is kept.
        """
        if self._bench is None:
            raise JudgeError("the judge has not been prepared", hint="call prepare(bench) first")
        ruled = [by_rule(item) for item in items]
        rest = [item for item, rating in zip(items, ruled, strict=True) if rating is None]
        asked = self._through_desk(lambda desk: desk.submit(rest)) if self.batch else self._ask(rest)
        return itertools.chain([rating for rating in ruled if rating is not None], asked if rest else ())

    def collect(self, tickets: Sequence[str]) -> Iterable[Rating]:
        """Return ratings of tickets of batches. What expired or failed comes back unrated: submitted again, it is sent again, and nothing else is.

        Raises:
            JudgeError: a ticket of another judge, or a judge that has no batches.
        """
        if not tickets:
            return ()
        return self._through_desk(lambda desk: desk.collect(tickets))

    # ------------------------------------------------------------------------------------------------------------------ inside

    def _ask(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        """Yield ratings in the order in which they are complete; a round of questions for each ask."""
        states = [OpenItem(item) for item in items]
        waiting: list[Question] = [(place, aspect) for place in range(len(items)) for aspect in ASPECTS]
        for ask in range(self.options.asks):
            again: list[Question] = []
            while waiting:  # twice where it turns out on the way that the model takes no schema
                waiting = yield from self._round(states, waiting, ask, again)
                self._pass_on(self._open_asker().notes)
            if (refusal := self._refusals.everything) is not None:
                raise self._stopped(refusal)
            waiting = again

    def _round(
        self, states: Sequence[OpenItem], waiting: Sequence[Question], ask: int, again: list[Question]
    ) -> Generator[Rating, None, list[Question]]:
        """Ask questions once; what is to be asked another time goes into ``again``. Returns what is left to be asked in words, unasked."""
        questions = {f"{place}/{aspect}": (place, aspect) for place, aspect in waiting}
        requests = {name: self.questions.request(states[place].item, aspect, ask) for name, (place, aspect) in questions.items()}
        by_schema = self.questions.by_schema(ask)
        answers = self._open_asker().run(requests, self.questions.identity)
        try:
            for name, answer in answers:
                place, aspect = questions[name]
                if isinstance(answer, SchemaRefused):
                    self._ask_in_words(answer)
                    return list(questions.values())
                del questions[name]
                if self._refusals.take(answer) and not isinstance(answer, ChatReply):
                    raise self._stopped(answer)
                repeat = states[place].take(aspect, answer, last=ask == self.options.asks - 1)
                if repeat:
                    again.append((place, aspect))
                elif states[place].settled:
                    yield states[place].rating()
                if isinstance(answer, ChatReply) and self._made_nothing_of_it(answer, aspect in states[place].ratings, by_schema):
                    return list(questions.values())
        finally:
            if isinstance(answers, Generator):
                answers.close()  # at once, so that what is in flight is kept, not when it is collected
        for place, aspect in questions.values():
            states[place].unanswered(aspect, "no answer came")
            if states[place].settled:
                yield states[place].rating()
        return []

    def _through_desk(self, work: Callable[[BatchDesk], Iterator[Rating]]) -> Iterator[Rating]:
        desk = self._open_desk()
        yield from work(desk)
        self._pass_on(desk.notes)

    def _pass_on(self, notes: Sequence[str]) -> None:
        for note in notes:
            if self._bench is not None:
                self._bench.warn(note)

    def _stopped(self, failure: RequestFailed) -> JudgeError:
        if isinstance(failure, ModelRetired):
            return JudgeError(f"{self.options.model} cannot be asked: {failure.retirement.fact}", given=self.options.model, hint=failure.hint)
        return JudgeError(f"{self.options.model} cannot be asked: {failure.reason}", given=self.options.model, hint=advice(failure))

    def _ask_in_words(self, refusal: SchemaRefused) -> None:
        """Ask no more by a schema, which the model refuses. Raises JudgeError where the options insist on one, or where none was sent."""
        if self.questions.in_words:
            raise self._stopped(refusal)
        if self.questions.structured != "auto":
            raise JudgeError(
                f"{self.options.model} cannot be asked: {refusal.reason}",
                given=self.questions.structured,
                hint="leave -J structured at auto, which then asks in words, or set it to false",
            )
        self.questions.in_words = True

    def _made_nothing_of_it(self, reply: ChatReply, was_read: bool, by_schema: bool) -> bool:
        """Count replies without a rating; True where the first ones, asked for by a schema, all hold none, so that the rest is asked in words.

        Raises:
            JudgeError: they were asked for in words: such a model would be paid for every question several times, for nothing.
        """
        self._reads = self._reads or was_read
        self._unread += not was_read
        if self._reads or self._unread < UNREADABLE:
            return False
        if by_schema and self.questions.structured == "auto" and self.options.asks > 1:  # what is lost by it is among the repeats that were foreseen
            self.questions.in_words, self._unread = True, 0
            self._pass_on([f"{self.options.model} makes nothing of the schema for its replies; it is asked in words from here on"])
            return True
        shown = " ".join(reply.text.split())[-100:]
        found, form = f"one ends in {shown!r}", "false" if by_schema else "true"
        what = f"take another model, try -J structured={form}, or raise -J max_tokens where replies are cut off"
        if reply.finish == THOUGHTS_ALONE:
            found, what = "all is in reasoning_content, and nothing in the answer", f"{THINKING}, or take another model"
        raise JudgeError(f"the first {UNREADABLE} replies of {self.options.model} hold no rating ({found})", given=reply.text, hint=what)

    def _has_replied(self) -> bool:
        """Return whether the cache knows a reply of this model to this rubric."""
        cache = self._cache()
        return cache is not None and cache.answered(self._open_asker().name, self.options.model, self.questions.identity)

    def _cache(self) -> ReplyCache | None:
        if self._replies is None and self.options.cache:
            from harness.chat.client.cache import FILE_NAME, ReplyCache
            from harness.files.cache_dir import cache_root

            self._replies = ReplyCache(cache_root() / FILE_NAME)
        return self._replies

    def _open_asker(self) -> Asker:
        if self._asker is None:
            self._asker = self._connect(self._cache(), self._bench.seed if self._bench is not None else 0)
            self.questions.settle(self._asker.takes_schema(self.options.model))
        return self._asker

    def _open_desk(self) -> BatchDesk:
        from harness.judging.batch.rate import BatchDesk

        if self._desk is None:
            if self._batches is None:
                raise JudgeError("this judge has no batch API and knows no tickets", hint="rate with the judge that gave them")
            cache = self._cache()
            if cache is None:
                message = "mode=batch keeps the replies in the cache until an item has all three"
                raise JudgeError(message, given=False, hint="leave cache at true")
            self._desk = BatchDesk(self._batches(), self.questions, cache)
        return self._desk
