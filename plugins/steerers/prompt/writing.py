"""Instructions that a language model writes, one a subject: asked for, asked for again where the reply holds none, and told apart from silence.

What is asked (:class:`Commission`) is one thing, who answers another: an API (:class:`APIWriter`), or a model in this process, as any function
from requests to replies.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.chat.client.cache import ReplyCache
from harness.chat.client.runner import Runner
from harness.chat.values import IN_A_ROW, WRONG_FOR_ALL, ChatReply, ChatRequest, Message, Provider, RequestFailed
from harness.errors import OptionError

from .replies import read_instruction

if TYPE_CHECKING:
    from harness.chat.cost import Estimate, Prices

Answers = Iterator[tuple[str, ChatReply | RequestFailed]]
Answer = Callable[[Mapping[str, ChatRequest]], Answers]
"""Sends requests by the caller's names, and gives each its reply, in any order."""
Track = Callable[[Iterable[Any], str, "int | None"], Iterator[Any]]
"""Shows progress, as :meth:`harness.contracts.Bench.track` does."""

AGAIN = "\n\nReply with the instruction alone: no thinking aloud, no greeting, no heading, no quotation marks, no remark after it."
"""Added where a reply held no instruction."""
AGAIN_TEMPERATURE = 0.7
_SHOWN = 3


@dataclass(frozen=True)
class Written:
    """What a writer made of a subject.

    Attributes:
        text: the instruction, "" where there is none.
        reason: why there is none.
        model: who replied, as the server says.
        asked: how often it was asked.
    """

    text: str
    reason: str = ""
    model: str = ""
    asked: int = 1


@dataclass(frozen=True)
class Commission:
    """What is asked of a writer.

    Attributes:
        ask: the question; ``{concept}`` is replaced by the subject.
        model: the writer's model, as its API knows it.
        version: name and version of the question; part of the key of the cache.
        asks: how often each is asked at most.
        max_tokens: upper bound of a reply's tokens.
        advice: what the user can do where the writer cannot be asked at all.
    """

    ask: str
    model: str
    version: str
    asks: int = 3
    max_tokens: int = 400
    advice: str = "check key, account, model and address"

    def request(self, subject: str, ask: int = 0) -> ChatRequest:
        """Return the ``ask``-th request for a subject (from 0); a later one differs in seed, temperature and a reminder of the form."""
        question = self.ask.replace("{concept}", subject) + (AGAIN if ask else "")
        temperature = AGAIN_TEMPERATURE if ask else 0.0
        return ChatRequest(self.model, (Message("user", question),), self.max_tokens, temperature, seed=ask or None)

    def write(self, subjects: Sequence[str], answer: Answer, track: Track | None = None) -> dict[str, Written]:
        """Return what was written for each subject, or why nothing was.

        Args:
            subjects: what is to be written about, each once.
            answer: who writes.
            track: shows progress.

        Raises:
            OptionError: the first answer says that all will fail (a wrong key or model), or the writer refuses every request that is sent: all of
                them, or :data:`harness.chat.values.IN_A_ROW` while the cache answers the rest.
            RequestFailed: the server could not be reached, or not any more; what has come is in the cache.
        """
        found: dict[str, Written] = {}
        failed: dict[str, RequestFailed] = {}
        waiting, heard = list(subjects), False
        for ask in range(self.asks):
            requests = {subject: self.request(subject, ask) for subject in waiting}
            again: set[str] = set()
            for subject, reply in _tracked(answer(requests), len(requests), track):
                if isinstance(reply, RequestFailed):
                    if reply.status in WRONG_FOR_ALL and not heard:
                        raise self._hopeless(reply)
                    failed[subject] = reply
                    found[subject] = Written("", f"the request failed: {reply.reason}", asked=ask + 1)
                    continue
                heard = heard or not reply.from_cache  # what the cache holds says nothing of today's key
                text, reason = read_instruction(reply.text, reply.finish)
                found[subject] = Written(text, reason, reply.model, ask + 1)
                if not text:
                    again.add(subject)
            waiting = [subject for subject in waiting if subject in again]  # in their own order, not in that of the replies
            if not waiting:
                break
        self._check(failed, subjects, heard)
        return {subject: found.get(subject, Written("", "no answer came")) for subject in subjects}

    def _check(self, failed: Mapping[str, RequestFailed], subjects: Sequence[str], heard: bool) -> None:
        """Raise for failures that are not a subject's own: those that pass, and those that all requests meet. ``heard``: a reply came."""
        passing = [subject for subject in subjects if subject in failed and failed[subject].retryable]
        if passing:
            named = ", ".join(map(repr, passing[:_SHOWN])) + (", …" if len(passing) > _SHOWN else "")
            first = failed[passing[0]]
            message = f"{len(passing)} of {len(subjects)} prompts could not be written by {self.model} ({named}): {first.reason}"
            hint = "what was written is kept: give the same command again to ask for the rest"
            raise RequestFailed(message, given=passing, retryable=True, status=first.status, hint=hint)
        if failed and (len(failed) == len(subjects) or (not heard and len(failed) >= IN_A_ROW)):
            raise self._hopeless(next(failed[subject] for subject in subjects if subject in failed))

    def _hopeless(self, failure: RequestFailed) -> OptionError:
        return OptionError(f"the prompt writer {self.model} cannot be asked: {failure.reason}", given=self.model, hint=self.advice)


def _tracked(answers: Answers, total: int, track: Track | None) -> Answers:
    try:
        yield from answers if track is None else track(answers, "writing prompts", total)
    finally:
        if isinstance(answers, Generator):
            answers.close()  # at once, so that what is in flight is kept, not when it is collected


class APIWriter(Runner):
    """A writer behind an API, with the cache of paid replies, and its cost.

    Args:
        provider: the API.
        commission: what is asked.
        cache: where replies are kept; None keeps none.
        prices: from :func:`harness.chat.cost.load_prices`.
        timeout: seconds for one attempt.
        concurrency: requests in flight at most.
    """

    def __init__(
        self,
        provider: Provider,
        commission: Commission,
        *,
        cache: ReplyCache | None = None,
        prices: Prices | None = None,
        timeout: float = 120.0,
        concurrency: int = 64,
    ) -> None:
        super().__init__(provider, cache=cache, timeout=timeout, concurrency=concurrency, prices=prices)
        self.commission = commission

    def estimate(self, subjects: Iterable[str]) -> Estimate:
        """Return what writing will cost at most: each subject asked for once, and what repeats may add. Sends nothing."""
        from harness.chat.cost import Prices, Tally

        prices, work = self.prices or Prices(date=""), self.commission
        once, repeats = Tally(self.name, prices), Tally(self.name, prices)
        cached = left = 0
        for subject in dict.fromkeys(subjects):
            for ask in range(work.asks):
                request = work.request(subject, ask)
                reply = self.cache.get(request.key(self.name, work.version)) if self.cache is not None else None
                if reply is None:
                    once.add(request)
                    if further := work.asks - ask - 1:
                        repeats.add(work.request(subject, ask + 1), further)
                        left += further
                    break
                cached += 1
                if read_instruction(reply.text, reply.finish)[0]:
                    break
        return once.estimate(cached, repeats.estimate() if left else None)

    def write(self, subjects: Sequence[str], track: Track | None = None) -> dict[str, Written]:
        """See :meth:`Commission.write`."""
        return self.commission.write(subjects, lambda requests: self.run(requests, self.commission.version), track)
