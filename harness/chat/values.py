"""What goes to a language-model API and what comes back: frozen values, and the two protocols that providers keep.

A provider turns one :class:`ChatRequest` into one :class:`ChatReply` or raises :class:`RequestFailed`; rates, retries and the cache are the
runner's work (:mod:`harness.chat.client.runner`), so a provider tries once and knows nothing of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal, Protocol, runtime_checkable

from harness.chat.cleaning import clean_line, clean_text
from harness.chat.providers.keys import redact
from harness.errors import HarnessError
from harness.files.json_text import parse_json
from harness.types import Json, canonical_json

Role = Literal["system", "user", "assistant"]
BatchStatus = Literal["running", "ended", "failed"]

KEY_FORMAT = 1
"""Enters every key of the cache: raise it when the meaning of a request's fields changes."""

_MARK = "?"  # begins no id of a batch

REASON_LIMIT = 400
"""Characters of a failure's reason that are kept: an HTML error page must not fill a log."""


THOUGHTS_ALONE = "thoughts alone"
"""How a reply ended in which the server put everything into the field for the model's thoughts, and nothing into the answer."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""HTTP statuses that point elsewhere; no redirect is followed."""
WRONG_FOR_ALL = frozenset({401, 402, 404, 407}) | REDIRECTS
"""HTTP statuses of a wrong key, an empty account, a model or address that is not there, a proxy that refuses: as the first answer they end the run,
for all would fail."""
ABOUT_THE_REQUEST = frozenset({400, 403, 413, 422})
"""HTTP statuses of a request that the server will not take (403: also flagged content): the next one may be another matter."""
IN_A_ROW = 10
"""Failures in a row, without a reply between them, that end a run."""


class RequestFailed(HarnessError):
    """A request that got no usable reply. Providers raise it; the runner hands it out where it gives up.

    Args:
        reason: what happened; made one clean line, shortened, and freed of keys here, so that callers cannot forget to.
        retryable: another attempt may succeed (429, 5xx, time limit, dropped connection, garbled body); False for a 4xx that will not heal.
        retry_after: seconds that the server asked us to wait (Retry-After), where it did.
        status: HTTP status, where there was one. 429 and 529 (and a 503 that says for how long) can slow the whole run down; other failures
            touch their own request only.
        given: as in HarnessError; texts and lists of texts are freed of keys, too; another list or an object becomes a text.
        allowed: as in HarnessError; part of the reason's line.
        hint: as in HarnessError; part of the reason's line.
    """

    def __init__(
        self,
        reason: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
        given: object = None,
        allowed: object = None,
        hint: str = "",
    ) -> None:
        line = redact(clean_line(reason, None)) or "no reason given"
        more = redact(clean_line(str(HarnessError("", allowed=allowed, hint=hint)), None))  # not what a long line is shortened by
        room = REASON_LIMIT - len(more)
        self.reason = (line if len(line) <= room else line[: room - 1] + "…") + more
        self.retryable, self.retry_after, self.status = retryable, retry_after, status
        super().__init__(self.reason, given=_clean_given(given), allowed=allowed, hint=hint)

    def __str__(self) -> str:
        return self.reason

    @property
    def throttled(self) -> bool:
        """The server said that it gets too much: every request should wait, not this one alone."""
        return self.status in (429, 529) or (self.status == 503 and self.retry_after is not None)


def _clean_given(given: object) -> object:
    """Return what was given, without keys; a list of texts stays one, and what a server sent in another odd type becomes its text."""
    if isinstance(given, list) and all(isinstance(one, str) for one in given):
        return [redact(one) for one in given]
    if isinstance(given, (list, dict)):
        given = clean_line(repr(given))
    return redact(given) if isinstance(given, str) else given


class SchemaRefused(RequestFailed):
    """The model takes no schema of the reply: the same question in words alone may be answered."""

    def __init__(self, reason: str, *, status: int | None = 400) -> None:
        super().__init__(reason, status=status)


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True)
class ChatRequest:
    """One chat completion.

    Attributes:
        model: the model's name as the provider knows it.
        messages: the chat; a system message, if any, comes first.
        max_tokens: upper bound of the reply's tokens.
        temperature: None leaves it to the server (some models refuse the parameter).
        schema: JSON schema of the reply, for APIs with structured output; None for free text.
        seed: for servers that sample by seed; also what makes one question asked twice two requests.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int = 256
    temperature: float | None = 0.0
    schema: Mapping[str, Json] | None = None
    seed: int | None = None

    def key(self, provider: str, rubric: str) -> str:
        """Return the key of the cache: SHA-256 (64 hex digits) over the provider, every field, and the rubric's name and version.

        ``provider`` should name the server, too, where several speak one API, so that two servers' models of one name stay apart.
        """
        fields = {  # what dataclasses.asdict makes, at half the time
            "model": self.model, "messages": [{"role": m.role, "content": m.content} for m in self.messages], "max_tokens": self.max_tokens,
            "temperature": self.temperature, "schema": None if self.schema is None else dict(self.schema), "seed": self.seed,
        }  # fmt: skip
        return hashlib.sha256(canonical_json([KEY_FORMAT, provider, rubric, fields]).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Usage:
    """Tokens as the API counts them. ``input`` is the whole prompt; ``cached_input`` is the part of it that was read from the API's own cache."""

    input: int = 0
    cached_input: int = 0
    output: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input + other.input, self.cached_input + other.cached_input, self.output + other.output)


@dataclass(frozen=True)
class ChatReply:
    """A reply, cleaned here of what must not be kept (:mod:`harness.chat.cleaning`), so that no provider can forget to.

    Attributes:
        text: what the model wrote.
        usage: tokens.
        model: what the server says answered.
        finish: ``stop``, ``length``, ``refusal``, :data:`THOUGHTS_ALONE` or the API's own word.
        from_cache: it was paid for before.
    """

    text: str
    usage: Usage
    model: str
    finish: str = "stop"
    from_cache: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean_text(self.text))
        object.__setattr__(self, "model", clean_line(self.model))
        object.__setattr__(self, "finish", clean_line(self.finish))


@dataclass(frozen=True)
class APIModel:
    """A model behind an API.

    Attributes:
        server: the API's name for its own server and its regions (``openai``); else API and server, e.g. ``openai@localhost:8000``.
        model: as the server knows it.
    """

    server: str
    model: str


@runtime_checkable
class Provider(Protocol):
    """One API (and server). Made outside of an event loop, used within one: clients are opened at the first call of ``complete``."""

    @property
    def name(self) -> str:
        """Return provider and server, e.g. ``openai`` or ``openai@localhost:8000``; part of the key of the cache."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Return what a reader of the results must know, a line each: a parameter that a model refused, usage that is not reported."""
        ...

    def takes_schema(self, model: str) -> bool:
        """Return False where ``model`` is known to refuse the schema of a reply, from an earlier request of this process or another."""
        ...

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Make one attempt, without a retry; it passes ``asyncio.CancelledError`` on.

        Raises:
            RequestFailed: no usable reply; :class:`SchemaRefused` where it is the reply's schema that the model does not take.
        """
        ...

    async def close(self) -> None:
        """Close the connections; called at the end of each run, in its loop. A later run, in a loop of its own, opens them anew."""
        ...


@dataclass(frozen=True)
class BatchState:
    """How far a batch is: ``done`` of ``total`` requests have an answer or an error. ``reason`` says why a failed one failed."""

    status: BatchStatus
    done: int = 0
    total: int = 0
    reason: str = ""


@dataclass(frozen=True)
class UnconfirmedBatch:
    """A batch of which nobody knows whether the API took it. ``str`` makes the name under which its requests are noted in place of an id.

    Attributes:
        since, until: when the call began and when it was given up, in seconds since 1970.
        count: its requests.
        file: the uploaded file of its requests, for an API that has such.
    """

    since: float
    until: float
    count: int
    file: str = ""

    def __str__(self) -> str:
        return _MARK + canonical_json([self.since, self.until, self.count, self.file])

    @staticmethod
    def read(name: str) -> UnconfirmedBatch | None:
        """Return the batch noted under that name; None for the id of a batch."""
        if not name.startswith(_MARK):
            return None
        try:
            since, until, requests, file = parse_json(name[len(_MARK) :])
            return UnconfirmedBatch(float(since), float(until), int(requests), str(file))
        except (ValueError, TypeError):
            return None

    @property
    def description(self) -> str:
        """Return which batch it is, for people."""
        return f"the batch of {self.count:,} requests of {datetime.fromtimestamp(self.since, timezone.utc):%Y-%m-%d %H:%M} UTC"


class AcceptanceUnknown(RequestFailed):
    """Handing in failed so that the batch may have been taken all the same."""

    def __init__(self, reason: str, unconfirmed: UnconfirmedBatch, status: int | None = None) -> None:
        super().__init__(reason, status=status)
        self.unconfirmed = unconfirmed


class NotReached(RequestFailed):
    """No connection was made, so nothing was sent."""


@runtime_checkable
class BatchProvider(Protocol):
    """A batch API: many requests handed in at once, answered within a day at half the price. The methods block."""

    @property
    def name(self) -> str:
        """Return what :attr:`Provider.name` does: a reply has one key, whichever way it was paid for."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Return what :attr:`Provider.notes` does."""
        ...

    @property
    def max_requests(self) -> int:
        """Return requests in a batch at most."""
        ...

    @property
    def max_bytes(self) -> int:
        """Return bytes of a batch at most."""
        ...

    def takes_schema(self, model: str) -> bool:
        """Return what :meth:`Provider.takes_schema` does."""
        ...

    def submit(self, requests: Mapping[str, ChatRequest]) -> str:
        """Hand in requests by the caller's ids; the batch's id, with which a later process can go on. Raises :class:`RequestFailed`."""
        ...

    def poll(self, batch_id: str) -> BatchState:
        """Return how far a batch is."""
        ...

    def find(self, unconfirmed: UnconfirmedBatch) -> Sequence[str]:
        """Return batches of the API's own list that may be the unconfirmed one, the newest first.

        Raises :class:`RequestFailed` where there is no such list.
        """
        ...

    def results(self, batch_id: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        """Return answers by the caller's ids, in any order; ids without an answer are missing (expired, cancelled: hand them in again)."""
        ...
