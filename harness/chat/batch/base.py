"""What the two batch APIs have in common: attempts, downloads, and that each request is answered once.

Calls block. What is free and safe to ask twice (an upload, a poll, a download) is tried again a few times. A batch whose acceptance got lost is in
doubt (:class:`Doubt`): it is not handed in again, but looked for in the API's own list.
"""

from __future__ import annotations

import json
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import IO, Any

from harness.chat.providers.base import APIProvider, sent
from harness.chat.providers.errors import complaint, read_object, trouble
from harness.chat.providers.openai import LIMITS
from harness.chat.values import BatchState, ChatReply, ChatRequest, Message, RequestFailed
from harness.types import Json, canonical_json

ATTEMPTS = 4
"""How often a call that is free is tried."""

LONGEST_WAIT = 60.0
"""Seconds between two attempts at most, whatever the server asks for."""

SLACK = 600.0
"""Seconds by which the server's clock may differ from ours, and by which it may make a batch later than we gave up waiting for it."""

PAGE, PAGES = 100, 50
"""Batches on a page of the API's list, and how many pages are looked through at most."""

UNKNOWN = "whether the batch was taken is unknown"

_MARK = "?"  # begins no id of a batch
_UNSENT = ("ConnectError", "ConnectTimeout")
_PROBE = ChatRequest("", (Message("user", ""),))


@dataclass(frozen=True)
class Doubt:
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
    def read(name: str) -> Doubt | None:
        """The doubt of that name; None for the id of a batch."""
        if not name.startswith(_MARK):
            return None
        try:
            since, until, requests, file = json.loads(name[len(_MARK) :])
            return Doubt(float(since), float(until), int(requests), str(file))
        except (ValueError, TypeError):
            return None

    @property
    def words(self) -> str:
        """For people: which batch it is."""
        return f"the batch of {self.count:,} requests of {datetime.fromtimestamp(self.since, timezone.utc):%Y-%m-%d %H:%M} UTC"


class InDoubt(RequestFailed):
    """Handing in failed so that the batch may have been taken all the same."""

    def __init__(self, reason: str, doubt: Doubt, status: int | None = None) -> None:
        super().__init__(reason, status=status)
        self.doubt = doubt


class NotReached(RequestFailed):
    """No connection was made, so nothing was sent."""


class Batches(ABC):
    """A batch API; a :class:`harness.chat.values.BatchProvider`.

    Args:
        provider: whose server, key and knowledge of refused parameters are used.
        model: the model of all requests; what a line of results complains of is learned of it, since no line names its model.
        wait: seconds before the second attempt of a call; doubled each time.

    Attributes:
        max_requests: requests in a batch at most.
        max_bytes: bytes of a batch at most.
    """

    max_requests: int
    max_bytes: int

    def __init__(self, provider: APIProvider, model: str, *, wait: float = 1.0) -> None:
        self._provider, self._model, self._wait = provider, model, wait
        self._connection, self._dialect = provider.connection, provider.dialect
        # Parameters that requests of a batch may hold; of two names for the bound, the one that is sent: a complaint about it names both.
        self._sent = {*provider.optional} - {"stream_options", *LIMITS} | sent(provider.body(_PROBE))
        self._client: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """That of the provider: a reply has one key in the cache, whichever way it was paid for."""
        return self._connection.server

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know: parameters refused, lines of results that belong to nobody."""
        return tuple(self._dialect.notes)

    # ------------------------------------------------------------------------------------------------ for the two APIs to fill in

    @abstractmethod
    def _line(self, name: str, request: ChatRequest) -> bytes:
        """One request as it stands in the batch."""

    @abstractmethod
    def _hand_in(self, lines: list[bytes]) -> str: ...

    @abstractmethod
    def _downloads(self, batch_id: str) -> list[Callable[[], AbstractContextManager[Any]]]:
        """What opens each file of results. Raises RequestFailed where the batch has not ended."""

    @abstractmethod
    def _answer(self, entry: Mapping[str, Json]) -> ChatReply | RequestFailed:
        """What one line of results says."""

    @abstractmethod
    def _list(self, after: str) -> Any:
        """A page of the list of batches, the newest first; what follows the batch ``after``, where one is named."""

    @abstractmethod
    def _made(self, batch: Mapping[str, Json]) -> float | None:
        """When a batch of the list was made, in seconds since 1970; None where it does not say."""

    @abstractmethod
    def _fits(self, batch: Mapping[str, Json], doubt: Doubt) -> bool:
        """Whether a batch of the list may be the one in doubt, leaving its age aside."""

    @abstractmethod
    def poll(self, batch_id: str) -> BatchState:
        """How far a batch is. Raises RequestFailed for one that this key does not know."""

    # ------------------------------------------------------------------------------------------------ the same for both

    def submit(self, requests: Mapping[str, ChatRequest]) -> str:
        """Hand in requests by the caller's ids; the id of the batch.

        Raises RequestFailed: no requests, more than ``max_requests`` or ``max_bytes``, or the API turned the batch down.
        Where the answer got lost and the server cannot say whether it has the batch, the failure is an :class:`InDoubt`, and not retryable.
        """
        if not requests:
            raise RequestFailed(f"{self.name}: a batch needs at least one request")
        if len(requests) > self.max_requests:
            raise RequestFailed(f"{self.name}: {len(requests)} requests in a batch, {self.max_requests} at most; hand them in in parts")
        lines = [self._line(name, request) for name, request in requests.items()]
        total = sum(map(len, lines)) + len(lines)
        if total > self.max_bytes:
            raise RequestFailed(f"{self.name}: a batch of {total} bytes, {self.max_bytes} at most; hand it in in parts")
        return self._hand_in(lines)

    def find(self, doubt: Doubt) -> list[str]:
        """Batches of the API's own list that may be the one in doubt, the newest first. Raises RequestFailed where the list cannot be had."""
        found: list[str] = []
        after = ""
        for _ in range(PAGES):
            page = self._ask(lambda after=after: self._list(after))  # type: ignore[misc]
            batches = [batch for batch in page.get("data") or [] if isinstance(batch, Mapping)]
            for batch in batches:
                made = self._made(batch)
                if made is not None and made < doubt.since - SLACK:
                    return found
                if (made is None or made <= doubt.until + SLACK) and self._fits(batch, doubt):
                    found.append(named(self.name, batch))
            if not batches or page.get("has_more") is not True:
                return found
            after = named(self.name, batches[-1])
        raise RequestFailed(f"{self.name}: the list holds more than {PAGE * PAGES:,} batches since then")

    def results(self, batch_id: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        """Answers by the caller's ids, in any order, each once; ids without an answer are missing. Lines without an id of their own are noted.

        Raises RequestFailed where the batch has not ended, or its results cannot be fetched; what was yielded before holds.
        """
        seen: set[str] = set()
        strange = 0
        for opened in self._downloads(batch_id):
            with self._fetched(opened) as file:
                for line in file:
                    entry = parsed(line) if line.strip() else {}
                    name = entry.get("custom_id") if entry else None
                    if not isinstance(name, str) or name in seen:
                        strange += bool(line.strip())
                        continue
                    seen.add(name)
                    yield name, self._answer(entry or {})
        if strange:
            self._dialect.note(f"{self.name}: {strange} lines in the results of {batch_id} were passed over (garbled or repeated)")

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, call: Callable[[], Any], attempts: int = ATTEMPTS) -> dict[str, Json]:
        """The JSON object that a call answers with; tried again where that is free and may help."""
        answer: dict[str, Json] = self._tried(lambda: read_object(self.name, call().http_response.read()), attempts)
        return answer

    def _tried(self, call: Callable[[], Any], attempts: int = ATTEMPTS) -> Any:
        for attempt in range(attempts):
            try:
                return call()
            except Exception as error:
                found = trouble(self._connection, self._provider.sdk, error)
                if found is None:
                    raise
                failure = found.failure
                if type(error.__cause__).__name__ in _UNSENT:
                    failure = NotReached(failure.reason, retryable=True)
            if not failure.retryable or attempt == attempts - 1:
                break
            time.sleep(min(failure.retry_after if failure.retry_after is not None else self._wait * 2**attempt, LONGEST_WAIT))
        # Raised out here, so that it does not carry the package's exception, whose request holds the key.
        raise failure

    def _fetched(self, opened: Callable[[], AbstractContextManager[Any]]) -> IO[bytes]:
        """A file of results, whole, in a temporary file: a reader who takes his time does not hold the connection open."""

        def fetch() -> IO[bytes]:
            file = tempfile.TemporaryFile()  # noqa: SIM115 (handed to the caller)
            try:
                last = b""
                with opened() as response:
                    for piece in response.iter_bytes():
                        file.write(piece)
                        last = (last + piece)[-1:]
                if last not in (b"", b"\n"):  # either no line end at the end, which is allowed, or a download that was cut
                    file.seek(0)
                    for line in file:
                        last = line
                    if parsed(last) is None:
                        raise RequestFailed(f"{self.name}: the file of results is cut", retryable=True)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file

        fetched: IO[bytes] = self._tried(fetch)
        return fetched

    def _turned_down(self, failure: RequestFailed, body: object) -> RequestFailed:
        """A failed line; retryable where it complains of a parameter that is now left out."""
        if failure.status in (400, 422) and self._dialect.learn(self._model, self._sent, complaint(body)):
            # Learned for as long as this object lives: a later process notes it, but sends the parameter again, since models change.
            hint = "it is left out of the next batch; in another process, set the option that sends it to none"
            return RequestFailed(f"{failure.reason}; {hint}", retryable=True, status=failure.status)
        return failure


def encoded(value: Json, server: str) -> bytes:
    """A line of a batch. Raises RequestFailed for a text that UTF-8 cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise RequestFailed(f"{server}: a message holds half a character (a lone surrogate), which no server takes") from None


def named(server: str, answer: Mapping[str, Json]) -> str:
    """The id in an answer. Raises RequestFailed where there is none."""
    name = answer.get("id")
    if not isinstance(name, str) or not name:
        raise RequestFailed(f"{server}: the answer names no id")
    return name


def parsed(line: bytes) -> dict[str, Json] | None:
    """A line of results; None where it is garbled."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
