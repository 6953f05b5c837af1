"""Chat completions of OpenAI, and of every server that speaks like it (vLLM, llama.cpp, Ollama, …), through the official ``openai`` package.

Servers differ in what they take: OpenAI's reasoning models refuse a temperature, older servers know ``max_tokens`` alone, not all have
structured output. A parameter that a model refuses is left out from then on, and ``notes`` says so.

Source: OpenAI API reference, chat completions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.llm.values import ChatReply, ChatRequest, RequestFailed, Usage
from harness.llm.wire import Connection, Dialect, Trouble, connect, count, read_object, told, trouble
from harness.types import Json

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"

LIMITS = ("max_completion_tokens", "max_tokens")
"""The two names of the bound on a reply's tokens: OpenAI's today, and the one that every compatible server knows."""

OPTIONAL = {
    "temperature": "the model's own temperature is used",
    "seed": "replies do not depend on the seed",
    "response_format": "the form of the reply is asked for in words alone",
    "stream_options": "usage is not reported, so the cost is counted too low",
    "max_completion_tokens": "max_tokens is sent in its place",
    "max_tokens": "max_completion_tokens is sent in its place",
}


class OpenAIProvider:
    """One server with the chat-completions API; a :class:`harness.llm.values.Provider`.

    Args:
        base_url: another server than OpenAI's, e.g. ``http://localhost:11434/v1``. ``OPENAI_BASE_URL`` is read where it is not given.
        key_name: the variable that holds the key. Default: ``OPENAI_API_KEY`` for OpenAI's own server, no key for a ``base_url``, so that
            OpenAI's key goes nowhere else unasked.
        timeout: seconds that one request may take.
        stream: ask for the reply piece by piece: for servers behind a proxy that cuts silent connections.

    Raises JudgeError for a missing key or an address that is none.
    """

    def __init__(self, *, base_url: str | None = None, key_name: str | None = None, timeout: float = 120.0, stream: bool = False) -> None:
        self.connection = connect("openai", OPENAI_URL, key_name, base_url, timeout)
        self.dialect = Dialect(self.connection.server, OPTIONAL)
        self._stream = stream
        self._client: AsyncOpenAI | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"OpenAIProvider({self.connection.server!r})"

    @property
    def name(self) -> str:
        """``openai``, or ``openai@host:port`` for another server."""
        return self.connection.server

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know: parameters that a model refused, usage that a server does not report."""
        return tuple(self.dialect.notes)

    async def complete(self, request: ChatRequest) -> ChatReply:
        """One attempt. A request that is turned down for an optional parameter is asked again without it."""
        while True:
            body = self.body(request)
            if self._stream and self.dialect.takes(request.model, "stream_options"):
                body["stream_options"] = {"include_usage": True}
            outcome = await self._attempt(body)
            if isinstance(outcome, ChatReply):
                if outcome.usage == Usage():
                    self.dialect.note(f"{self.name}: {request.model} reports no usage, so the cost is counted too low")
                return outcome
            # This ends: each round leaves out at least one of the parameters that were sent, and a request without a limit is not sent.
            if outcome.said is None or not self.dialect.learn(request.model, body, outcome.said):
                raise outcome.failure

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """The request as the API wants it, without what this model has refused. Raises RequestFailed where it refused both names of the limit."""
        takes = self.dialect.takes
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": one.role, "content": one.content} for one in request.messages],
        }
        # Some servers ignore a name that they do not know, which would leave the reply without a bound: they get the old name, known to all.
        limits = LIMITS if self.connection.own else LIMITS[::-1]
        limit = next((name for name in limits if takes(request.model, name)), None)
        if limit is None:
            both = " as well as ".join(LIMITS)
            raise RequestFailed(f"{self.name}: {request.model} refuses {both}; a reply without a bound is not asked for")
        body[limit] = request.max_tokens
        if request.temperature is not None and takes(request.model, "temperature"):
            body["temperature"] = request.temperature
        if request.seed is not None and takes(request.model, "seed"):
            body["seed"] = request.seed
        if request.schema is not None and takes(request.model, "response_format"):
            form = {"name": "reply", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        client, self._client, self._loop = self._client, None, None
        if client is not None:
            await client.close()

    def _opened(self) -> AsyncOpenAI:
        """The client of the running loop: connections of another loop cannot be used, nor closed, from this one."""
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            from openai import AsyncOpenAI

            link = self.connection
            self._client, self._loop = AsyncOpenAI(api_key=link.key, base_url=link.url, timeout=link.timeout, max_retries=0), loop
        return self._client

    async def _attempt(self, body: dict[str, Any]) -> ChatReply | Trouble:
        # Returned, not raised within `except`: a raised failure would carry the package's exception, whose request holds the key.
        try:
            ask = self._streamed(body) if self._stream else self._whole(body)
            return chat_reply(self.connection, await asyncio.wait_for(ask, self.connection.timeout))
        except Exception as error:
            import openai

            found = trouble(self.connection, openai, error)
            if found is None:
                raise
            return found

    async def _whole(self, body: dict[str, Any]) -> Mapping[str, Json]:
        # The raw reply, read by us: the package takes whatever comes for a completion, a web page included. The whole body goes as `extra_body`,
        # which counts before the arguments: the package walks through every message given as one, a fifth of the client's time for a request.
        response = await self._opened().chat.completions.with_raw_response.create(model=body["model"], messages=[], extra_body=body)
        return read_object(self.name, await response.http_response.aread())

    async def _streamed(self, body: dict[str, Any]) -> Mapping[str, Json]:
        """The pieces of a streamed reply, put together in the form of a whole one."""
        stream = await self._opened().chat.completions.create(model=body["model"], messages=[], extra_body=body, stream=True)
        parts: dict[str, list[str]] = {"content": [], "refusal": []}
        model, usage, finish = body["model"], None, None
        async with stream:
            async for chunk in stream:
                piece: dict[str, Any] = chunk.to_dict() if hasattr(chunk, "to_dict") else {}
                model, usage = piece.get("model") or model, piece.get("usage") or usage
                for choice in _list(piece.get("choices")):
                    finish = choice.get("finish_reason") or finish
                    for name, texts in parts.items():
                        text = _mapping(choice.get("delta")).get(name)
                        if isinstance(text, str):
                            texts.append(text)
        if finish is None:
            raise RequestFailed(f"{self.name}: the stream ended before the reply did", retryable=True)
        message = {name: "".join(texts) or None for name, texts in parts.items()}
        return {"model": model, "usage": usage, "choices": [{"message": message, "finish_reason": finish}]}


def chat_reply(connection: Connection, body: Mapping[str, Json]) -> ChatReply:
    """Read a chat completion. A refusal is a reply (``finish`` says so), an empty text too; a body without a message is not.

    Raises RequestFailed (retryable) for an error in place of a reply, no choices, or a message that is none.
    """
    choices = _list(body.get("choices"))
    if not choices and body.get("error"):  # OpenRouter reports failures of the server behind it with status 200
        raise told(connection, body)
    if not choices or not isinstance(choices[0].get("message"), Mapping):
        raise RequestFailed(f"{connection.server}: the reply holds no message", retryable=True)
    message, finish = choices[0]["message"], choices[0].get("finish_reason")
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):
        content = "".join(part["text"] for part in _list(content) if isinstance(part.get("text"), str))
    if content is not None and not isinstance(content, str):
        raise RequestFailed(f"{connection.server}: the reply's message is {type(content).__name__}, not text", retryable=True)
    if isinstance(refusal, str) and refusal and not content:
        content, finish = refusal, "refusal"
    model = body.get("model")
    return ChatReply(
        content or "", _usage(body.get("usage")), model if isinstance(model, str) else "", finish if isinstance(finish, str) else "stop"
    )


def _usage(counts: Json) -> Usage:
    counts = _mapping(counts)
    cached = _mapping(counts.get("prompt_tokens_details")).get("cached_tokens")
    return Usage(count(counts.get("prompt_tokens")), count(cached), count(counts.get("completion_tokens")))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Json) -> list[Mapping[str, Json]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
