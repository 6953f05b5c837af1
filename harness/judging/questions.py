"""What a language model is asked about an item, and what is made of its replies: the options that judges share, requests, and the state of an item.

How the requests are sent is the business of :mod:`harness.judging.llm_judge` (one by one) and :mod:`harness.judging.batches`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field

from harness.errors import JudgeError
from harness.judging.parsing import explain_rating
from harness.judging.rubric import ASPECTS, REPLY_SCHEMA, Aspect, Rubric
from harness.llm.values import ChatReply, ChatRequest, RequestFailed
from harness.options import Options, input_field, transport_field
from harness.types import Json, JudgeItem, Rating

Answer = ChatReply | RequestFailed

AGAIN_TEMPERATURE = 0.5
"""A question whose reply could not be read is asked again at this temperature at least, with another seed and a reminder of the form."""
WRONG_FOR_ALL = frozenset({401, 402, 403, 404})
"""HTTP statuses of a wrong key, an empty account, a model that does not exist: as the first answer they end the run, for all would fail."""


class LLMJudgeOptions(Options):
    """Options that all judges with a language model share."""

    model: str = Field(min_length=1)
    """The judge's model, as its API (or the model hub) knows it."""
    rubric: str = input_field("default")
    """What is asked: `default`, `axbench` (the prompts of the installed axbench package), or a folder with a rubric of one's own."""
    examples: bool = False
    """Put the rubric's rated examples before each question (few-shot); costs more input tokens."""
    structured: bool = False
    """Ask for a JSON reply by a schema, where the API has structured output."""
    temperature: float | None = Field(0.0, ge=0, le=2)
    """Sampling temperature; none leaves it to the server (some reasoning models refuse it)."""
    max_tokens: int = Field(400, ge=1)
    """Upper bound of a reply's tokens. Reasoning models also spend it on thinking."""
    asks: int = Field(3, ge=1, le=10)
    """How often a question is asked at most while its reply cannot be read as a rating."""
    concurrency: int = transport_field(64, ge=1, le=4096)
    """Requests in flight at most."""
    requests_per_minute: float | None = transport_field(None, gt=0)
    """The account's limit of requests a minute; none follows the server's answers alone."""
    tokens_per_minute: float | None = transport_field(None, gt=0)
    """The account's limit of tokens a minute; none follows the server's answers alone."""
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


@dataclass
class OpenItem:
    """What is known of an item: ratings that were read, the last reply and the number of asks of each rating, what went wrong."""

    item: JudgeItem
    ratings: dict[Aspect, float] = field(default_factory=dict)
    replies: dict[Aspect, ChatReply] = field(default_factory=dict)
    asked: dict[Aspect, int] = field(default_factory=dict)
    problems: dict[Aspect, str] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Every rating was read or given up."""
        return len(self.ratings) + len(self.problems) == len(ASPECTS)

    def take(self, aspect: Aspect, answer: Answer, last: bool) -> bool:
        """Take an answer in; True where the question is to be asked again. ``last``: no further ask is allowed."""
        self.asked[aspect] = self.asked.get(aspect, 0) + 1
        if isinstance(answer, RequestFailed):
            self.problems[aspect] = f"the request failed: {answer.reason}"
            return False
        self.replies[aspect] = answer
        value, reason = read(answer)
        if value is not None:
            self.ratings[aspect] = value
        elif last:
            times = self.asked[aspect]
            self.problems[aspect] = f"{reason}{f' (asked {times} times)' if times > 1 else ''}"
        return value is None and not last

    def rating(self) -> Rating:
        """Rated with all three ratings, else unrated with every reason."""
        details: dict[str, Json] = {"replies": {aspect: self.replies[aspect].text for aspect in ASPECTS if aspect in self.replies}}
        if self.replies:
            details["model"] = next(iter(self.replies.values())).model
        if any(times > 1 for times in self.asked.values()):
            details["asked"] = dict(self.asked)
        if len(self.ratings) == len(ASPECTS):
            concept, instruction, fluency = (self.ratings[aspect] for aspect in ASPECTS)
            return Rating(self.item.id, "rated", concept, instruction, fluency, details=details)
        reason = "; ".join(f"{aspect}: {self.problems.get(aspect, 'no answer came')}" for aspect in ASPECTS if aspect not in self.ratings)
        return Rating(self.item.id, "unrated", reason=reason, details={**details, "read": dict(self.ratings)})


def read(reply: ChatReply) -> tuple[float | None, str]:
    """The rating of a reply, or None and the reason; what the API says of the reply's end is part of the reason."""
    value, reason = explain_rating(reply.text)
    if value is None and reply.finish == "length":
        reason += "; it was cut off at max_tokens"
    elif value is None and reply.finish not in ("stop", "end_turn"):
        reason += f"; the API says it ended by {reply.finish}"
    return value, reason


def by_rule(item: JudgeItem) -> Rating | None:
    """The rating of an item about which there is nothing to ask: 0, 0, 0 for a text that is empty, unrated without concept or instruction."""
    for name, value in (("concept", item.concept), ("instruction", item.instruction)):
        if not value.strip():
            return Rating(item.id, "unrated", reason=f"the {name} is empty")
    if not item.text.strip():
        return Rating(item.id, "rated", concept=0.0, instruction=0.0, fluency=0.0, details={"rule": "the text is empty"})
    return None


class Questions:
    """The questions of a rubric as requests: which model, how many tokens, how often."""

    def __init__(self, options: LLMJudgeOptions, rubric: Rubric) -> None:
        self.options, self.rubric = options, rubric
        if options.examples and not rubric.examples:
            raise JudgeError(f"rubric {rubric.name} has no examples; leave the option examples out, or add an examples.jsonl to it")

    @property
    def identity(self) -> str:
        """The rubric's identity with these options; see :meth:`Rubric.identity`."""
        return self.rubric.identity(self.options.examples, self.options.structured)

    def request(self, item: JudgeItem, aspect: Aspect, ask: int = 0) -> ChatRequest:
        """The ``ask``-th request for one rating of an item; a later one differs in seed, temperature and a reminder, so no cache mixes them."""
        options = self.options
        temperature = options.temperature
        if ask and temperature is not None:
            temperature = max(temperature, AGAIN_TEMPERATURE)
        messages = self.rubric.messages(aspect, item, examples=options.examples, structured=options.structured, again=ask > 0)
        schema = REPLY_SCHEMA if options.structured else None
        return ChatRequest(options.model, messages, options.max_tokens, temperature, schema, seed=ask or None)

    def all(self, items: Iterable[JudgeItem]) -> Iterator[ChatRequest]:
        """The first requests of all items: what an estimate of the cost is made from."""
        return (self.request(item, aspect) for item in items if by_rule(item) is None for aspect in ASPECTS)
