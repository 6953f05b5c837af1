"""What the providers on official packages have in common: one attempt a request, what a model refuses, connections that belong to a loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from harness.chat.http import http_client
from harness.chat.providers.errors import Trouble, read_object, told, trouble
from harness.chat.providers.events import Assembler, assembled, is_stream, read_events
from harness.chat.providers.refusals import SYSTEM, Dialect, only_streams
from harness.chat.providers.servers import connect
from harness.chat.values import ChatReply, ChatRequest, RequestFailed, SchemaRefused, Usage
from harness.types import Json

_NOTHING = Usage()


class APIProvider(ABC):
    """One server behind an official package; a :class:`harness.chat.values.Provider`.

    Args:
        base_url: another server than the API's own, e.g. ``http://localhost:11434/v1``. ``OPENAI_BASE_URL`` or ``ANTHROPIC_BASE_URL`` is read where
            it is not given.
        key_name: the variable that holds the key. Default: the API's standard variable for its own server, no key for a ``base_url``, so that
            the API's key goes nowhere else unasked.
        timeout: seconds that one request may take.
        stream: ask for the reply piece by piece: for servers behind a proxy that cuts silent connections.
        memory: a file in which parameters that models refuse are kept, for :meth:`recall`.

    Attributes:
        connection: where requests go.
        dialect: what models of this server refuse.
        api: ``openai`` or ``anthropic``.
        optional: parameters that can be left out, with what a reader of the results must know when they are.
        forms: those of them by which the form of a reply is asked for, in the order in which they are tried.

    Raises JudgeError for a missing key, an address that is none, or proxies or certificates of the environment that cannot be used.
    """

    api: ClassVar[str]
    optional: ClassVar[Mapping[str, str]]
    forms: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        base_url: str | None = None,
        key_name: str | None = None,
        timeout: float = 120.0,
        stream: bool = False,
        memory: Path | None = None,
    ) -> None:
        self.connection = connect(self.api, key_name, base_url, timeout)
        self.dialect = Dialect(self.connection.server, self.optional, memory)
        self._stream = stream
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http_client(self.sdk.DefaultHttpxClient)  # proxies or certificates that cannot be used are found before anything is asked

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.server!r})"

    @property
    def name(self) -> str:
        """The API's name, or e.g. ``openai@host:port`` for another server."""
        return self.connection.server

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know: parameters that a model refused, usage that a server does not report."""
        return tuple(self.dialect.notes)

    # ------------------------------------------------------------------------------------------------ for the APIs to fill in

    @property
    @abstractmethod
    def sdk(self) -> ModuleType:
        """The package, imported when it is first needed."""

    @abstractmethod
    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The request as the API wants it, without what this model has refused. Raises RequestFailed for what the API does not have."""

    @abstractmethod
    def headers(self) -> dict[str, Any]:
        """Headers beside or in place of those of the package; for a server that is not trusted, nothing of the environment but its key."""

    @abstractmethod
    def _opened_client(self, options: dict[str, Any]) -> Any:
        """A client of the package."""

    @abstractmethod
    async def _sent(self, client: Any, body: dict[str, Any]) -> Any:
        """Send; the package's raw response."""

    @abstractmethod
    async def _stream_of(self, client: Any, body: dict[str, Any]) -> Any:
        """Send; the package's stream of the reply's pieces."""

    @abstractmethod
    def _assembler(self, model: str) -> Assembler:
        """What puts the pieces of a streamed reply of ``model`` together."""

    @abstractmethod
    def _reply(self, body: Mapping[str, Json]) -> ChatReply:
        """Read a reply."""

    # ------------------------------------------------------------------------------------------------ the same for all

    async def complete(self, request: ChatRequest) -> ChatReply:
        """One attempt. A request that is turned down for an optional parameter is asked again without it; one for its schema fails by that."""
        while True:
            body = self.body(request)
            outcome = await self._attempt(body)
            if isinstance(outcome, ChatReply):
                if outcome.usage == _NOTHING:
                    self.dialect.note(f"{self.name}: {request.model} reports no usage, so the cost is counted too low")
                self.dialect.note_thoughts(request.model, outcome)
                self.dialect.accepted(request.model, sent(body))
                return outcome
            # This ends: each round leaves out at least one of the parameters that were sent, or is the first that streams.
            if outcome.said is not None and not self._stream and only_streams(outcome.said):
                self._stream = True
                self.dialect.note(f"{self.name}: the server answers by streams alone, so replies are asked for as streams")
            elif outcome.said is None or not self.dialect.learn(request.model, sent(body), outcome.said):
                raise outcome.failure

    def takes_schema(self, model: str) -> bool:
        """False where ``model`` has refused the schema of a reply, in whatever way, now or in an earlier process."""
        return any(self.dialect.takes(model, form) and not self.dialect.remembers(model, form) for form in self.forms)

    def form_of(self, request: ChatRequest) -> str | None:
        """The parameter by which the form of the reply is asked for; None for a request without a schema. Raises SchemaRefused where none is left."""
        if request.schema is None:
            return None
        form = next((name for name in self.forms if self.dialect.takes(request.model, name)), None)
        if form is None:
            raise SchemaRefused(f"{self.name}: {request.model} refuses a reply by a schema ({', '.join(self.forms)})")
        return form

    def recall(self, request: ChatRequest) -> None:
        """Note what this model refused of such a request in earlier processes: replies in the cache were given without it."""
        wanted = set(self.optional)
        if request.temperature is None:
            wanted.discard("temperature")
        if request.seed is None:
            wanted.discard("seed")
        if request.schema is None:
            wanted -= set(self.forms)
        if not self._stream:
            wanted.discard("stream_options")
        if not any(one.role == "system" for one in request.messages):
            wanted.discard(SYSTEM)
        self.dialect.recall(request.model, wanted)

    def client_options(self, blocking: bool = False) -> dict[str, Any]:
        """What a client of the package is made with. It tries once: attempts are the runner's business."""
        link, sdk = self.connection, self.sdk
        return {
            "http_client": self._http_client(sdk.DefaultHttpxClient if blocking else sdk.DefaultAsyncHttpxClient),
            "api_key": link.key,
            "base_url": link.url,
            "timeout": link.timeout,
            "max_retries": 0,
            "default_headers": self.headers(),
        }

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        client, self._client, self._loop = self._client, None, None
        if client is not None:
            await client.close()

    def _http_client(self, kind: Callable[..., Any]) -> Any:
        return http_client(kind, self.name, self.connection.url, self.connection.timeout)

    def _opened(self) -> Any:
        """The client of the running loop: connections of another loop cannot be used, nor closed, from this one."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._opened_client(self.client_options()), loop
        return self._client

    async def _attempt(self, body: dict[str, Any]) -> ChatReply | Trouble:
        # Returned, not raised within `except`: a raised failure would carry the package's exception, whose request holds the key.
        client = self._opened()
        try:
            ask = self._streamed if self._stream else self._whole
            return self._reply(await asyncio.wait_for(ask(client, body), self.connection.timeout))
        except Exception as error:
            found = trouble(self.connection, self.sdk, error)
            if found is None:
                raise
            return found

    async def _whole(self, client: Any, body: dict[str, Any]) -> Mapping[str, Json]:
        """Send, and read the whole reply; by us: the package takes whatever comes for a reply, a web page included."""
        response = await self._sent(client, {**body, "stream": False})
        content_type, content = response.http_response.headers.get("content-type", ""), await response.http_response.aread()
        if not is_stream(content_type, content):
            return read_object(self.name, content)
        pieces = list(read_events(self.name, content))  # of a server that streams whatever it is asked
        for piece in pieces:
            if piece.get("error"):
                raise told(self.connection, piece)
        return self._put_together(assembled(self._assembler(body["model"]), pieces))

    async def _streamed(self, client: Any, body: dict[str, Any]) -> Mapping[str, Json]:
        """Send, and put the pieces of a streamed reply together in the form of a whole one."""
        assembler, stream = self._assembler(body["model"]), await self._stream_of(client, body)
        async with stream:
            async for piece in stream:
                assembler.add(piece.to_dict() if hasattr(piece, "to_dict") else {})
        return self._put_together(assembler.whole())

    def _put_together(self, reply: Mapping[str, Json] | None) -> Mapping[str, Json]:
        if reply is None:
            raise RequestFailed(f"{self.name}: the stream ended before the reply did", retryable=True)
        return reply


def sent(body: Mapping[str, Any]) -> set[str]:
    """The names of the parameters in a request's body; a system message is one, wherever it stands."""
    return {*body, SYSTEM} if any(one["role"] == SYSTEM for one in body["messages"]) else set(body)


def left_out(sdk: ModuleType) -> Any:
    """What a package takes in place of a header's value to leave the header out; older ones do not show it."""
    return (getattr(sdk, "Omit", None) or sdk._types.Omit)()


def custom_headers(value: str | None) -> set[str]:
    """The names in a variable like ``OPENAI_CUSTOM_HEADERS``, which holds a header a line."""
    return {line.partition(":")[0].strip() for line in (value or "").split("\n") if ":" in line}
