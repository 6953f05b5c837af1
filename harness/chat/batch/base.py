"""What the two batch APIs have in common: attempts, downloads, and that each request is answered once.

Calls block. What is free and safe to ask twice (an upload, a poll, a download) is tried again a few times. A batch whose acceptance got lost is
unconfirmed (:class:`harness.chat.values.UnconfirmedBatch`): it is not handed in again, but looked for in the API's own list.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any, TypeVar

from harness.chat.cleaning import clean_line
from harness.chat.providers.base import APIProvider, parameter_names
from harness.chat.providers.errors import complaint, read_object, trouble
from harness.chat.providers.openai import LIMITS
from harness.chat.retry import tried
from harness.chat.values import BatchState, ChatReply, ChatRequest, Message, NotReached, RequestFailed, UnconfirmedBatch
from harness.files.json_text import parse_json
from harness.types import Json

T = TypeVar("T")

ATTEMPTS = 4
"""How often a call that is free is tried."""

LONGEST_WAIT = 60.0
"""Seconds between two attempts at most, whatever the server asks for."""

SLACK = 600.0
"""Seconds by which the server's clock may differ from ours, and by which it may make a batch later than we gave up waiting for it."""

PAGE, PAGES = 100, 50
"""Batches on a page of the API's list, and how many pages are looked through at most."""

UNKNOWN = "whether the batch was taken is unknown"

_NAMED, _SHOWN_ID = 5, 40  # lines that are named, and characters of an id
_UNSENT = ("ConnectError", "ConnectTimeout")


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
        probe = ChatRequest(model, (Message("user", ""),), temperature=None)
        # Parameters that requests of a batch may hold; of two names for the bound, the one that is sent: a complaint about it names both.
        self._parameters = {*provider.optional} - {"stream_options", *LIMITS} | parameter_names(provider.body(probe))
        self._client: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """Return that of the provider: a reply has one key in the cache, whichever way it was paid for."""
        return self._connection.server

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the results must know: parameters refused, lines of results that belong to nobody."""
        return tuple(self._dialect.notes)

    def takes_schema(self, model: str) -> bool:
        """Return False where ``model`` has refused the schema of a reply."""
        return self._provider.takes_schema(model)

    # ------------------------------------------------------------------------------------------------ for the two APIs to fill in

    @abstractmethod
    def _line(self, name: str, request: ChatRequest) -> bytes:
        """Return one request as it stands in the batch."""

    @abstractmethod
    def _hand_in(self, lines: list[bytes]) -> str: ...

    @abstractmethod
    def _downloads(self, batch_id: str) -> list[Callable[[], AbstractContextManager[Any]]]:
        """Return what opens each file of results. Raises RequestFailed where the batch has not ended."""

    @abstractmethod
    def _answer(self, entry: Mapping[str, Json]) -> ChatReply | RequestFailed:
        """Return what one line of results says."""

    @abstractmethod
    def _list(self, after: str) -> Any:
        """Return a page of the list of batches, the newest first; what follows the batch ``after``, where one is named."""

    @abstractmethod
    def _made(self, batch: Mapping[str, Json]) -> float | None:
        """When a batch of the list was made, in seconds since 1970; None where it does not say."""

    @abstractmethod
    def _fits(self, batch: Mapping[str, Json], unconfirmed: UnconfirmedBatch) -> bool:
        """Return whether a batch of the list may be the unconfirmed one, leaving its age aside."""

    @abstractmethod
    def poll(self, batch_id: str) -> BatchState:
        """Return how far a batch is. Raises RequestFailed for one that this key does not know."""

    # ------------------------------------------------------------------------------------------------ the same for both

    def submit(self, requests: Mapping[str, ChatRequest]) -> str:
        """Hand in requests by the caller's ids; the id of the batch.

        Raises RequestFailed: no requests, more than ``max_requests`` or ``max_bytes``, or the API turned the batch down.
        Where the answer got lost and the server cannot say whether it has the batch, the failure is an ``AcceptanceUnknown``, and not retryable.
        """
        if not requests:
            raise RequestFailed(f"{self.name}: a batch without requests", given=0, allowed=f"1 to {self.max_requests} requests")
        if len(requests) > self.max_requests:
            message, allowed = f"{self.name}: {len(requests)} requests in a batch", f"{self.max_requests} at most"
            raise RequestFailed(message, given=len(requests), allowed=allowed, hint="hand them in in parts")
        self._provider.dates.ask()
        self._provider.check_answers(self._model)
        lines = [self._line(name, request) for name, request in requests.items()]
        total = sum(map(len, lines)) + len(lines)
        if total > self.max_bytes:
            message, allowed = f"{self.name}: a batch of {total} bytes", f"{self.max_bytes} at most"
            raise RequestFailed(message, given=total, allowed=allowed, hint="hand it in in parts")
        return self._hand_in(lines)

    def find(self, unconfirmed: UnconfirmedBatch) -> list[str]:
        """Return batches of the API's own list that may be the unconfirmed one, the newest first.

        Raises RequestFailed where the list cannot be had.
        """
        found: list[str] = []
        after = ""
        for _ in range(PAGES):
            page = self._ask(lambda after=after: self._list(after))  # type: ignore[misc]
            listed = page.get("data")
            batches = [batch for batch in listed if isinstance(batch, Mapping)] if isinstance(listed, list) else []
            for batch in batches:
                made = self._made(batch)
                if made is not None and made < unconfirmed.since - SLACK:
                    return found
                if (made is None or made <= unconfirmed.until + SLACK) and self._fits(batch, unconfirmed):
                    found.append(named(self.name, batch))
            if not batches or page.get("has_more") is not True:
                return found
            after = named(self.name, batches[-1])
        raise RequestFailed(f"{self.name}: the list holds too many batches since then", allowed=f"{PAGE * PAGES:,} at most")

    def results(self, batch_id: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        """Yield answers by the caller's ids, in any order, each once; ids without an answer are missing.

        Lines that cannot be read, that have no id, or whose id came before are passed over, counted, and named in :attr:`notes`.

        Raises RequestFailed where the batch has not ended, or its results cannot be fetched; what was yielded before holds.
        """
        seen: set[str] = set()
        passed_over: list[str] = []
        number, cut = 0, False
        for opened in self._downloads(batch_id):
            file, complete = self._fetched(opened)
            cut = cut or not complete
            with file:
                for line in filter(bytes.strip, file):
                    number += 1
                    entry = parsed(line)
                    name = entry.get("custom_id") if entry is not None else None
                    if entry is None or not isinstance(name, str):
                        passed_over.append(f"line {number} ({'cannot be read' if entry is None else 'has no custom_id'})")
                    elif name in seen:
                        passed_over.append(f"line {number} (repeats {clean_line(name, _SHOWN_ID)})")
                    else:
                        seen.add(name)
                        answer = self._answer(entry)
                        if isinstance(answer, ChatReply):
                            self._dialect.note_thoughts(self._model, answer)
                        yield name, answer
        if cut and number < self.poll(batch_id).done:
            message = f"{self.name}: the results of {batch_id} are cut: {number} lines of {self.poll(batch_id).done}"
            raise RequestFailed(message, given=number, retryable=True)
        if passed_over:
            named = ", ".join(passed_over[:_NAMED]) + (", …" if len(passed_over) > _NAMED else "")
            lines = "1 line" if len(passed_over) == 1 else f"{len(passed_over)} lines"
            self._dialect.note(f"{self.name}: {lines} of {number} in the results of {batch_id} passed over: {named}")

    def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _ask(self, call: Callable[[], Any], attempts: int = ATTEMPTS) -> dict[str, Json]:
        """Return the JSON object that a call answers with; tried again where that is free and may help."""
        return self._tried(lambda: read_object(self.name, call().http_response.read()), attempts)

    def _tried(self, call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
        def attempt() -> T:
            try:
                return call()
            except Exception as error:
                found = trouble(self._connection, self._provider.sdk, error)
                if found is None:
                    raise
                failure = found.failure
                if type(error.__cause__).__name__ in _UNSENT:
                    failure = NotReached(failure.reason, retryable=True)
            # Raised out here, so that it does not carry the package's exception, whose request holds the key.
            raise failure

        return tried(attempt, self.name, attempts=lambda failure: attempts, pause=self._wait, longest=LONGEST_WAIT)

    def _fetched(self, opened: Callable[[], AbstractContextManager[Any]]) -> tuple[IO[bytes], bool]:
        """Return a file of results as a temporary file, and whether it ends as it should.

        A reader who takes his time does not hold the connection open.

        One that ends within a line is fetched again. If it comes the same way twice, it is the file that ends so, not the download.
        """
        cut: set[bytes] = set()

        def fetch() -> tuple[IO[bytes], bool]:
            file, found = tempfile.TemporaryFile(), hashlib.sha256()  # noqa: SIM115 (handed to the caller)
            try:
                last = b""
                with opened() as response:
                    for piece in response.iter_bytes():
                        file.write(piece)
                        found.update(piece)
                        last = (last + piece)[-1:]
                complete = True
                if last not in (b"", b"\n"):  # either no line end at the end, which is allowed, or a download that was cut
                    file.seek(0)
                    for line in file:
                        last = line
                    complete = parsed(last) is not None
                if not complete and found.digest() not in cut:
                    cut.add(found.digest())
                    raise RequestFailed(f"{self.name}: the file of results is cut", retryable=True)
                file.seek(0)
            except BaseException:
                file.close()
                raise
            return file, complete

        return self._tried(fetch)

    def _turned_down(self, failure: RequestFailed, body: object) -> RequestFailed:
        """Return a failed line; retryable where it complains of a parameter that is now left out."""
        schemas = self.takes_schema(self._model)
        if failure.status in (400, 422) and self._dialect.learn(self._model, self._parameters, complaint(body)):
            # Learned for as long as this object lives: a later process notes it, but sends the parameter again, since models change.
            hint = "it is left out of the next batch; in another process, set the option that sends it to none"
            if schemas and not self.takes_schema(self._model):  # which is remembered
                hint = "the next batch asks in words alone"
            return RequestFailed(f"{failure.reason}; {hint}", retryable=True, status=failure.status)
        return failure


def word_of(value: Json) -> str:
    """Return a word of a server's, such as a status, in one clean line; what is not a text is shown as JSON writes it."""
    return clean_line(value if isinstance(value, str) else json.dumps(value), _SHOWN_ID)


def mapping_of(value: Json) -> Mapping[str, Json]:
    """Return a JSON object, empty where a server sent something else in its place."""
    return value if isinstance(value, Mapping) else {}


def encoded(value: Json, server: str) -> bytes:
    """Return a line of a batch. Raises RequestFailed for a text that UTF-8 cannot hold."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise RequestFailed(f"{server}: a message holds half a character (a lone surrogate), which no server takes") from None


def named(server: str, answer: Mapping[str, Json]) -> str:
    """Return the id in an answer. Raises RequestFailed where there is none."""
    name = answer.get("id")
    if not isinstance(name, str) or not name:
        raise RequestFailed(f"{server}: the answer names no id")
    if name != clean_line(name):  # it is noted and stored
        message = f"{server}: the answer names an id that cannot be kept, since it holds a key or control characters, or is too long"
        raise RequestFailed(message, given=clean_line(name, _SHOWN_ID))
    return name


def parsed(line: bytes) -> dict[str, Json] | None:
    """Return a line of results; None where it is garbled, or nested beyond measure."""
    try:
        value = parse_json(line, surrogates="replace")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
