"""Chat completions of OpenAI, and of every server that speaks like it (vLLM, llama.cpp, Ollama, …), through the official ``openai`` package.

Servers differ in what they take: OpenAI's reasoning models refuse a temperature, older servers know ``max_tokens`` alone, not all have
structured output. Models that are known to reason (:mod:`harness.chat.reasoning`) are asked accordingly from the
start. A parameter that a model refuses is left out from then on, and ``notes`` says so.

Source: OpenAI API reference, chat completions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from harness.chat.providers.base import APIProvider, custom_headers, left_out
from harness.chat.providers.errors import count, failure_without_status, no_message
from harness.chat.providers.events import THOUGHTS, ChatAssembler
from harness.chat.providers.refusals import SYSTEM, folded
from harness.chat.providers.servers import Connection
from harness.chat.values import THOUGHTS_ALONE, ChatReply, ChatRequest, RequestFailed, Usage
from harness.types import Json

LIMITS = ("max_completion_tokens", "max_tokens")
"""The two names of the bound on a reply's tokens: OpenAI's today, and the one that every compatible server knows."""

OWN_HEADERS = {"OPENAI_ORG_ID": "OpenAI-Organization", "OPENAI_PROJECT_ID": "OpenAI-Project"}
"""Variables that the package sends as headers, to whatever server."""

OPTIONAL = {
    "temperature": "the model's own temperature is used",
    "seed": "replies do not depend on the seed",
    "response_format": "the form of the reply is asked for in words alone",
    "stream_options": "usage is not reported, so the cost is counted too low",
    "max_completion_tokens": "max_tokens is sent in its place",
    "max_tokens": "max_completion_tokens is sent in its place",
    SYSTEM: "the system text stands before the user's message",
}


class OpenAIProvider(APIProvider):
    """One server with the chat-completions API; see :class:`harness.chat.providers.base.APIProvider`."""

    api = "openai"
    optional = OPTIONAL
    forms = ("response_format",)

    @property
    def sdk(self) -> ModuleType:
        """Return the package ``openai``."""
        import openai

        return openai

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """See :class:`APIProvider`. Raises RequestFailed where the model refused both names of the limit, or the reply's schema."""
        takes, thinks = self.dialect.takes, self.reasons(request.model)
        if thinks and request.temperature is not None:
            self.dialect.leave_out(request.model, "temperature")
        messages = request.messages if takes(request.model, SYSTEM) else folded(request.messages)
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [{"role": one.role, "content": one.content} for one in messages],
        }
        # Some servers ignore a name that they do not know, which would leave the reply without a bound: they get the old name, known to all,
        # but for models that are known to refuse it.
        limits = LIMITS if self.connection.own or thinks else LIMITS[::-1]
        limit = next((name for name in limits if takes(request.model, name)), None)
        if limit is None:
            both = " as well as ".join(LIMITS)
            raise RequestFailed(f"{self.name}: {request.model} refuses {both}; a reply without a bound is not asked for")
        body[limit] = request.max_tokens
        if request.temperature is not None and takes(request.model, "temperature"):
            body["temperature"] = request.temperature
        if request.seed is not None and takes(request.model, "seed"):
            body["seed"] = request.seed
        if request.schema is not None and self.form_of(request):
            form = {"name": "reply", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def headers(self) -> dict[str, Any]:
        """See :class:`APIProvider`: the package would send organization, project and custom headers of the environment to any server."""
        names = {name for variable, name in OWN_HEADERS.items() if os.environ.get(variable)}
        names |= custom_headers(os.environ.get("OPENAI_CUSTOM_HEADERS"))
        if self.connection.trusted or not names:
            return {}
        return {**dict.fromkeys(sorted(names), left_out(self.sdk)), "Authorization": f"Bearer {self.connection.key}"}

    def _opened_client(self, options: dict[str, Any]) -> Any:
        return self.sdk.AsyncOpenAI(**options)

    async def _send(self, client: Any, body: dict[str, Any]) -> Any:
        # The whole body goes as `extra_body`, which counts before the arguments: the package walks through every message given as one, a fifth of
        # the client's time for a request.
        return await client.chat.completions.with_raw_response.create(model=body["model"], messages=[], extra_body=body)

    def stream_parameters(self, model: str) -> dict[str, Any]:
        """See :class:`APIProvider`: usage is reported in a stream only where it is asked for."""
        return {"stream_options": {"include_usage": True}} if self.dialect.takes(model, "stream_options") else {}

    def _assembler(self, model: str) -> ChatAssembler:
        return ChatAssembler(model)

    def _reply(self, body: Mapping[str, Json]) -> ChatReply:
        return chat_reply(self.connection, body)


def chat_reply(connection: Connection, body: Mapping[str, Json]) -> ChatReply:
    """Read a chat completion. A refusal is a reply (``finish`` says so), an empty text too; a body without a message is not.

    Where the model has thought and said nothing, ``finish`` is :data:`harness.chat.values.THOUGHTS_ALONE`.

    Raises RequestFailed (retryable) for an error in place of a reply, no choices, or a message that is none.
    """
    choices = _list(body.get("choices"))
    if choices and choices[0].get("error"):  # OpenRouter reports failures of the server behind it with status 200, here or in place of choices
        raise failure_without_status(connection, choices[0])
    if not choices or not isinstance(choices[0].get("message"), Mapping):
        raise no_message(connection, {name: value for name, value in body.items() if name != "choices"})
    message, finish = choices[0]["message"], choices[0].get("finish_reason")
    content, refusal = message.get("content"), message.get("refusal")
    if isinstance(content, list):
        content = "".join(part["text"] for part in _list(content) if isinstance(part.get("text"), str))
    if content is not None and not isinstance(content, str):
        raise RequestFailed(f"{connection.server}: the reply's message is {type(content).__name__}, not text", retryable=True)
    if isinstance(refusal, str) and refusal and not content:
        content, finish = refusal, "refusal"
    if not content and finish in ("stop", None) and any(isinstance(message.get(name), str) and message[name].strip() for name in THOUGHTS):
        finish = THOUGHTS_ALONE
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
