"""What the providers on official packages have in common: one attempt a request, what a model refuses, connections that belong to a loop."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from harness.chat.http import http_client
from harness.chat.model_list import TIMEOUT
from harness.chat.providers.dates import ModelDates
from harness.chat.providers.errors import Trouble, failure_without_status, is_error, read_object, trouble
from harness.chat.providers.events import Assembler, assembled, is_stream, read_events
from harness.chat.providers.refusals import SYSTEM, Dialect, only_streams
from harness.chat.providers.servers import connect
from harness.chat.reasoning import load_patterns, reasons
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
        folder: the cache folder: the user's price file and what the API's list of models said last lie there; None asks for no list.

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
        folder: Path | None = None,
    ) -> None:
        self.connection = connect(self.api, key_name, base_url, timeout)
        self._reasoning = load_patterns(self.api, folder)
        self.dates = ModelDates(self.api, self.connection, folder, self._fetch_list)
        self.dialect = Dialect(self.connection.server, self.optional, memory)
        self._stream = stream
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._http_client(self.sdk.DefaultHttpxClient)  # proxies or certificates that cannot be used are found before anything is asked

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.connection.server!r})"

    @property
    def name(self) -> str:
        """Return the API's name, or e.g. ``openai@host:port`` for another server."""
        return self.connection.server

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a reader of the results must know: parameters that a model refused, usage that a server does not report."""
        return tuple(self.dialect.notes)

    # ------------------------------------------------------------------------------------------------ for the APIs to fill in

    @property
    @abstractmethod
    def sdk(self) -> ModuleType:
        """Return the package, imported when it is first needed."""

    @abstractmethod
    def body(self, request: ChatRequest) -> dict[str, Any]:
        """Return the request as the API wants it, without what this model has refused. Raises RequestFailed for what the API does not have."""

    @abstractmethod
    def headers(self) -> dict[str, Any]:
        """Return headers beside or in place of those of the package; for a server that is not trusted, nothing of the environment but its key."""

    @abstractmethod
    def _opened_client(self, options: dict[str, Any]) -> Any:
        """Return a client of the package."""

    @abstractmethod
    async def _send(self, client: Any, body: dict[str, Any]) -> Any:
        """Send; the package's raw response, read to its end."""

    @abstractmethod
    def _assembler(self, model: str) -> Assembler:
        """Return what puts the pieces of a streamed reply of ``model`` together."""

    @abstractmethod
    def _reply(self, body: Mapping[str, Json]) -> ChatReply:
        """Read a reply."""

    # ------------------------------------------------------------------------------------------------ the same for all

    def stream_parameters(self, model: str) -> dict[str, Any]:
        """Return what goes into a request beside ``stream`` where the reply is asked for as a stream."""
        return {}

    async def complete(self, request: ChatRequest) -> ChatReply:
        """Make one attempt. A request that is turned down for an optional parameter is asked again without it; one for its schema fails by that.

        Raises ModelRetired, and sends nothing, for a model that the API has shut down.
        """
        await self.dates.ask_once()
        self.check_answers(request.model)
        while True:
            body = self.body(request)
            body |= {"stream": self._stream, **(self.stream_parameters(request.model) if self._stream else {})}
            outcome = await self._attempt(body)
            if isinstance(outcome, ChatReply):
                if outcome.usage == _NOTHING:
                    self.dialect.note(f"{self.name}: {request.model} reports no usage, so the cost is counted too low")
                self.dialect.note_thoughts(request.model, outcome)
                self.dialect.accepted(request.model, parameter_names(body))
                return outcome
            # This ends: each round leaves out at least one of the parameters that were sent, or is the first that streams.
            if outcome.said is not None and not body["stream"] and only_streams(outcome.said):
                self._stream = True
                self.dialect.note(f"{self.name}: the server answers by streams alone, so replies are asked for as streams")
            elif outcome.said is None or not self.dialect.learn(request.model, parameter_names(body), outcome.said):
                raise outcome.failure

    def check_answers(self, model: str) -> None:
        """Raise ModelRetired for a model that the API has shut down; note the day of one that it is going to shut down."""
        if (retirement := self.dates.check(model)) is not None:
            self.dialect.note(retirement.warning)

    def reasons(self, model: str) -> bool:
        """Return whether ``model`` thinks before it replies, as far as its name says so."""
        return reasons(model, self._reasoning)

    def takes_schema(self, model: str) -> bool:
        """Return False where ``model`` has refused the schema of a reply, in whatever way, now or in an earlier process."""
        return any(self.dialect.takes(model, form) and not self.dialect.remembers(model, form) for form in self.forms)

    def form_of(self, request: ChatRequest) -> str | None:
        """Return the parameter by which the form of the reply is asked for; None for a request without a schema.

        Raises SchemaRefused where none is left.
        """
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
        """Return what a client of the package is made with. It tries once: attempts are the runner's business."""
        link, sdk = self.connection, self.sdk
        return {
            "http_client": self._http_client(sdk.DefaultHttpxClient if blocking else sdk.DefaultAsyncHttpxClient),
            "api_key": link.key,
            "base_url": link.url,
            "timeout": link.timeout,
            "max_retries": 0,
            "default_headers": self.headers(),
        }

    def _fetch_list(self) -> Json:
        """Return the server's list of models, as it comes. Blocks."""
        kind = self.sdk.OpenAI if self.api == "openai" else self.sdk.Anthropic
        with kind(**self.client_options(blocking=True)) as client:
            response = client.models.with_raw_response.list(timeout=TIMEOUT)
            return read_object(self.name, response.http_response.content)

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        client, self._client, self._loop = self._client, None, None
        if client is not None:
            await client.close()

    def _http_client(self, kind: Callable[..., Any]) -> Any:
        return http_client(kind, self.name, self.connection.url, self.connection.timeout)

    def _opened(self) -> Any:
        """Return the client of the running loop: connections of another loop cannot be used, nor closed, from this one."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._opened_client(self.client_options()), loop
        return self._client

    async def _attempt(self, body: dict[str, Any]) -> ChatReply | Trouble:
        # Returned, not raised within `except`: a raised failure would carry the package's exception, whose request holds the key.
        client = self._opened()
        try:
            return self._reply(await asyncio.wait_for(self._received(client, body), self.connection.timeout))
        except Exception as error:
            found = trouble(self.connection, self.sdk, error)
            if found is None:
                raise
            return found

    async def _received(self, client: Any, body: dict[str, Any]) -> Mapping[str, Json]:
        """Send, and read the reply in the form in which it comes, whatever was asked for: some servers always stream, others never do.

        By us: the package takes whatever comes for a reply, a web page included, and its reader of streams fails in its own ways.
        """
        response = await self._send(client, body)
        content_type, content = response.http_response.headers.get("content-type", ""), await response.http_response.aread()
        pieces = list(read_events(self.name, content)) if is_stream(content_type, content) else []
        if not pieces:
            return read_object(self.name, content)
        for piece in pieces:
            if is_error(piece):
                raise failure_without_status(self.connection, piece)
        reply = assembled(self._assembler(body["model"]), pieces)
        if reply is None:
            raise RequestFailed(f"{self.name}: the stream ended before the reply did", retryable=True)
        return reply


def parameter_names(body: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters in a request's body; a system message is one, wherever it stands."""
    return {*body, SYSTEM} if any(one["role"] == SYSTEM for one in body["messages"]) else set(body)


def left_out(sdk: ModuleType) -> Any:
    """Return what a package takes in place of a header's value to leave the header out; older ones do not show it."""
    return (getattr(sdk, "Omit", None) or sdk._types.Omit)()


def custom_headers(value: str | None) -> set[str]:
    """Return the names in a variable like ``OPENAI_CUSTOM_HEADERS``, which holds a header a line."""
    return {line.partition(":")[0].strip() for line in (value or "").split("\n") if ":" in line}
