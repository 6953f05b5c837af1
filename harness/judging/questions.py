"""What a language model is asked about an item, and what is made of its replies: the options that judges share, requests, and the state of an item.

How the requests are sent is the business of :mod:`harness.judging.llm_judge` (one by one) and :mod:`harness.judging.batch.rate`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import Field

from harness.chat.client.cache import ReplyCache
from harness.chat.retirement import ModelRetired
from harness.chat.values import ABOUT_THE_REQUEST, IN_A_ROW, REDIRECTS, THOUGHTS_ALONE, WRONG_FOR_ALL, ChatReply, ChatRequest, RequestFailed
from harness.errors import JudgeError
from harness.judging.replies import explain_rating
from harness.judging.rubric import REPLY_SCHEMA, Rubric, Structured
from harness.options import Options, input_field, transport_field
from harness.types import ASPECTS, Aspect, Json, JudgeItem, Rating

if TYPE_CHECKING:
    from harness.chat.cost import Estimate, Prices

Answer = ChatReply | RequestFailed

AGAIN_TEMPERATURE = 0.5
"""A question whose reply could not be read is asked again at this temperature at least, with another seed and a reminder of the form."""
CUT = "length"
"""How a reply ended that was cut off at ``max_tokens``."""

THINKING = "switch the model's thinking, or the server's parser of it, off, or raise -J max_tokens"
"""What to do where a model thinks and does not answer."""

MORE_ROOM = "raise -J max_tokens or, where the model thinks before it replies, -J reasoning_tokens"
"""What to do where a model's thoughts leave no room for its reply."""

_MARK = re.compile(r"\b(?=[\w-]*\d)[\w-]{6,}\b|\d+")  # numbers, and the ids of requests
_CLOSED = re.compile(r"(?:\]\]|\}|```|\d[*_)\]\"'`]|\d[ \t]*\r?\n)[\s*_\"'”’)`.$]*\Z")


class LLMJudgeOptions(Options):
    """Options that all judges with a language model share."""

    model: str = Field(min_length=1)
    """The judge's model, as its API (or the model hub) knows it."""
    rubric: str = input_field("default", words=("default", "axbench"))
    """What is asked: `default`, `axbench` (the prompts of the installed axbench package), or a folder with a rubric of one's own."""
    examples: bool = False
    """Put the rubric's rated examples before each question (few-shot); costs more input tokens."""
    structured: Structured = "auto"
    """Ask for JSON by a schema: `auto` where the server offers it (else, and where that cannot be read, in words), `true` always, `false` never."""
    temperature: float | None = Field(0.0, ge=0, le=2)
    """Sampling temperature; none leaves it to the server (some reasoning models refuse it)."""
    max_tokens: int = Field(400, ge=1)
    """Upper bound of a reply's tokens. Reasoning models also spend it on thinking, so they need more."""
    asks: int = Field(3, ge=1, le=10)
    """How often a question is asked at most while its reply cannot be read as a rating (one that is cut off is not asked for again)."""
    concurrency: int = transport_field(64, ge=1, le=4096)
    """Requests in flight at most."""
    requests_per_minute: float | None = transport_field(None, gt=0)
    """The account's limit of requests per minute; none follows the server's answers alone."""
    tokens_per_minute: float | None = transport_field(None, gt=0)
    """The account's limit of tokens per minute; none follows the server's answers alone."""
    timeout: float = transport_field(120.0, gt=0)
    """Seconds after which an attempt is given up."""
    attempts: int = transport_field(6, ge=1, le=100)
    """Attempts at one request while it fails for a passing reason (rate limit, server error, dropped connection)."""
    cache: bool = transport_field(True)
    """Take replies that were paid for before from the cache, and keep new ones there."""


class APIJudgeOptions(LLMJudgeOptions):
    """Options of judges whose API also takes batches."""

    mode: Literal["live", "batch"] = transport_field("live")
    """`batch` hands the requests in at half the price and leaves the ratings pending; `harness judge RUN` with the same options collects them."""
    batch_size: int | None = transport_field(None, ge=len(ASPECTS))
    """Requests in a batch at most; none takes what the API allows. Lower it where the account limits the tokens that may be enqueued."""
    resend: bool = transport_field(False)
    """Hand in again what is in batches that the server does not know, whose results are gone, or of which nobody knows whether they were taken."""


@dataclass
class OpenItem:
    """What is known of an item: ratings that were read, the last reply and the number of asks of each rating, what went wrong."""

    item: JudgeItem
    ratings: dict[Aspect, float] = field(default_factory=dict)
    replies: dict[Aspect, ChatReply] = field(default_factory=dict)
    asked: dict[Aspect, int] = field(default_factory=dict)
    problems: dict[Aspect, str] = field(default_factory=dict)
    failed: list[Aspect] = field(default_factory=list)

    @property
    def settled(self) -> bool:
        """Return whether every rating was read or given up."""
        return len(self.ratings) + len(self.problems) == len(ASPECTS)

    def take(self, aspect: Aspect, answer: Answer, last: bool) -> bool:
        """Take an answer in; True where the question is to be asked again. ``last``: no further ask is allowed."""
        self.asked[aspect] = self.asked.get(aspect, 0) + 1
        if isinstance(answer, RequestFailed):
            self.unanswered(aspect, f"the request failed: {answer.reason}")
            return False
        self.replies[aspect] = answer
        value, reason = read(answer)
        if value is not None:
            self.ratings[aspect] = value
            return False
        times = self.asked[aspect]
        if last or not repeatable(answer):
            self.problems[aspect] = f"{reason}{f' (asked {times} times)' if times > 1 else ''}"
            return False
        return True

    def unanswered(self, aspect: Aspect, reason: str) -> None:
        """Note that a question got no answer, which says nothing of the judge."""
        self.problems[aspect] = reason
        self.failed.append(aspect)

    def rating(self) -> Rating:
        """Return the rating: rated with all three ratings, else unrated with every reason."""
        details: dict[str, Json] = {"replies": {aspect: self.replies[aspect].text for aspect in ASPECTS if aspect in self.replies}}
        if self.replies:
            details["model"] = next(iter(self.replies.values())).model
        if any(times > 1 for times in self.asked.values()):
            details["asked"] = dict(self.asked)
        if len(self.ratings) == len(ASPECTS):
            concept, instruction, fluency = (self.ratings[aspect] for aspect in ASPECTS)
            return Rating(self.item.id, "rated", concept, instruction, fluency, details=details)
        failed = self.failed + [aspect for aspect in ASPECTS if aspect not in self.ratings and aspect not in self.problems]
        if failed:
            details["failed"] = list(failed)
        reason = "; ".join(f"{aspect}: {self.problems.get(aspect, 'no answer came')}" for aspect in ASPECTS if aspect not in self.ratings)
        return Rating(self.item.id, "unrated", reason=reason, details={**details, "read": dict(self.ratings)})


def read(reply: ChatReply) -> tuple[float | None, str]:
    """Return the rating of a reply, or None and the reason; what the API says of the reply's end is part of the reason.

    In a reply that was cut off a rating counts only at its very end: one that the reply had gone beyond may have been taken back.
    """
    value, reason = explain_rating(reply.text)
    if reply.finish == CUT and not reply.text.strip():
        return None, f"the reply is empty; it was cut off at max_tokens; {MORE_ROOM}"
    if reply.finish == CUT and (value is None or not _ends_with(reply.text, value)):
        why = reason if value is None else f"the rating {value:g} does not end the reply"
        return None, f"{why}; it was cut off at max_tokens; raise -J max_tokens"
    if value is None and reply.finish == THOUGHTS_ALONE:
        return None, f"the reply is empty: the model's words are all in reasoning_content; {THINKING}"
    if value is None and reply.finish not in ("stop", "end_turn"):
        reason += f"; the API says it ended by {reply.finish}"
    return value, reason


def repeatable(reply: ChatReply) -> bool:
    """Return whether its question is worth asking again: it cannot be read, and not for want of tokens, of which the next would get no more."""
    return reply.finish != CUT and read(reply)[0] is None


def _ends_with(text: str, value: float) -> bool:
    """Return whether a reply ends in its rating, closed: ``[[1]]``, or a number in a line that has ended. JSON that can be read is whole."""
    if not _CLOSED.search(text[-200:]):
        return False
    return text.rstrip().endswith(("}", "```")) or explain_rating(text.rstrip().splitlines()[-1])[0] == value


class Refusals:
    """Counts failures in a row, to tell a server that refuses everything from texts that it refuses.

    Args:
        known: whether the model has ever replied before; asked only where it matters.
        ahead: answers that may come before the first reply, since a refusal takes no time: the other requests that are under way.
    """

    def __init__(self, known: Callable[[], bool], ahead: int = 0) -> None:
        self._known, self._ahead = functools.cache(known), ahead
        self._replied = False
        self._row = self._equal = 0
        self._last: RequestFailed | None = None

    def take(self, answer: Answer) -> bool:
        """Take an answer in, and return whether all further requests would fail as well.

        So it is where the first says so (a wrong key), or :data:`IN_A_ROW` failed in a row for one reason that will not heal, or for whatever reason
        while no reply came at all. Refused texts of a model that has replied before are no such case.
        """
        if isinstance(answer, ChatReply):
            if not answer.from_cache:
                self._replied, self._row, self._equal = True, 0, 0
            return False
        if isinstance(answer, ModelRetired) or (not self._replied and answer.status in WRONG_FOR_ALL):
            return True
        self._equal = self._equal + 1 if self._last is not None and _kind(answer) == _kind(self._last) else 1
        self._last = answer
        if answer.status in ABOUT_THE_REQUEST:
            return self._equal >= IN_A_ROW + self._ahead and self.everything is not None
        self._row += 1
        return (self._row >= IN_A_ROW and not self._replied) or (self._equal >= IN_A_ROW and not answer.retryable)

    @property
    def everything(self) -> RequestFailed | None:
        """Return the refusal that came for everything up to now, and at least :data:`IN_A_ROW` times; None where there is no such."""
        if self._last is None or self._equal < IN_A_ROW or self._last.retryable or self._replied or self._known():
            return None
        return self._last


def _kind(failure: RequestFailed) -> tuple[int | None, str]:
    return failure.status, _MARK.sub("#", failure.reason)


def advice(failure: RequestFailed) -> str:
    """Return what to do about a refusal of everything."""
    if failure.status is None:
        what = "check that the server runs and that base_url is its address (most want …/v1)"
    elif failure.status in ABOUT_THE_REQUEST:
        what = "check the rubric and the judge's options"
    elif failure.status in REDIRECTS:
        what = "check the option base_url"
    elif failure.status == 407:
        what = "check the environment's proxy"
    elif failure.status == 404:
        what = "check the option model, and base_url where one was given (most servers want …/v1)"
    elif failure.status == 429 or failure.status >= 500:
        what = "check the account's limits, or try again later"
    else:
        what = "check key, account and the option model"
    return f"{what}; what was rated is kept, and the same command goes on from there"


def by_rule(item: JudgeItem) -> Rating | None:
    """Return the rating of an item about which there is nothing to ask: 0, 0, 0 for a text that is empty, unrated without concept or instruction."""
    for name, value in (("concept", item.concept), ("instruction", item.instruction)):
        if not value.strip():
            return Rating(item.id, "unrated", reason=f"the {name} is empty")
    if not item.text.strip():
        return Rating(item.id, "rated", concept=0.0, instruction=0.0, fluency=0.0, details={"rule": "the text is empty"})
    return None


class Ask(NamedTuple):
    """The ``number``-th time (from 0) that a question is asked."""

    number: int
    request: ChatRequest
    key: str
    reply: ChatReply | None


class Questions:
    """The questions of a rubric as requests: which model, how many tokens, how often, and whether by a schema or in words.

    Attributes:
        options: the judge's options.
        rubric: what is asked.
        room: tokens that the model may think, beside those of its reply.
        structured: the option, as far as the rubric goes along with it.
        in_words: with ``structured`` at ``auto``: the model takes no schema, or makes nothing of it, so everything is asked in words.
    """

    def __init__(self, options: LLMJudgeOptions, rubric: Rubric, room: int = 0) -> None:
        self.options, self.rubric, self.room = options, rubric, room
        self.structured: Structured = False if options.structured == "auto" and rubric.in_words else options.structured
        self.in_words = False
        if options.examples and not rubric.examples:
            hint = "leave the option examples out, or add an examples.jsonl to it"
            raise JudgeError(f"rubric {rubric.name} has no examples", given=rubric.name, hint=hint)

    @functools.cached_property
    def identity(self) -> str:
        """Return the rubric's identity with these options; see :meth:`Rubric.identity`. Requests by a schema and in words differ besides."""
        return self.rubric.identity(self.options.examples, self.structured)

    def settle(self, takes_schema: bool) -> None:
        """Take in whether the model is known to refuse a schema, before anything is asked."""
        self.in_words = self.in_words or (self.structured == "auto" and not takes_schema)

    def by_schema(self, ask: int = 0) -> bool:
        """Return whether the ``ask``-th request for a rating asks by a schema.

        With ``auto``, a reply that could not be read is asked for again in words.
        """
        return self.structured is True or (self.structured == "auto" and not self.in_words and ask == 0)

    def request(self, item: JudgeItem, aspect: Aspect, ask: int = 0) -> ChatRequest:
        """Return the ``ask``-th request for one rating of an item.

        A later one differs in seed, temperature and a reminder, so no cache mixes them.
        """
        options, structured = self.options, self.by_schema(ask)
        temperature = options.temperature
        if ask and temperature is not None:
            temperature = max(temperature, AGAIN_TEMPERATURE)
        messages = self.rubric.messages(aspect, item, examples=options.examples, structured=structured, again=ask > 0)
        schema = REPLY_SCHEMA if structured else None
        return ChatRequest(options.model, messages, options.max_tokens + self.room, temperature, schema, seed=ask or None)

    def asks(self, item: JudgeItem, aspect: Aspect, server: str, cache: ReplyCache | None) -> Iterator[Ask]:
        """Yield the asks of one rating in their order, each with its reply where the cache has it.

        The last is one without a reply, or one that settles the rating.
        """
        for number in range(self.options.asks):
            request = self.request(item, aspect, number)
            key = request.key(server, self.identity)
            reply = cache.get(key) if cache is not None else None
            yield Ask(number, request, key, reply)
            if reply is None or not repeatable(reply):
                return

    def estimate(
        self, items: Iterable[JudgeItem], server: str, prices: Prices, cache: ReplyCache | None = None, batch: bool = False
    ) -> Estimate:
        """Return what rating ``items`` will cost at most: each open question asked once, and what repeats of unreadable replies may add.

        Args:
            items: what is to be rated.
            server: the provider's name.
            prices: from :func:`harness.chat.cost.load_prices`.
            cache: what it holds costs nothing; nor does, with ``batch``, what is open in a batch already.
            batch: priced as a batch.
        """
        from harness.chat.cost import Tally

        once, repeats = Tally(server, prices, batch), Tally(server, prices, batch)
        seen: set[str] = set()
        cached = left = 0
        for item, aspect in ((item, aspect) for item in items if by_rule(item) is None for aspect in ASPECTS):
            for ask in self.asks(item, aspect, server, cache):
                if ask.reply or ask.key in seen or (batch and cache is not None and cache.batch_of(ask.key)):
                    cached += 1
                    continue
                seen.add(ask.key)
                once.add(ask.request)
                # Whether later asks are in the cache is not looked up: they seldom are where an earlier one is not.
                if further := self.options.asks - ask.number - 1:
                    repeats.add(self.request(item, aspect, ask.number + 1), further)
                    left += further
        return once.estimate(cached, repeats.estimate() if left else None)
