"""Anthropic's messages API through the official ``anthropic`` package.

It differs from chat completions: system text stands apart, the bound on the reply is compulsory, temperatures end at 1, there is no seed,
and a reply in a given form is had by forcing a call of a tool whose input has that form, or by ``output_config`` where a model refuses that.

Requests name the API's version 2023-06-01, whatever the installed package would send: the version of October 2026 takes no temperature for any model,
and a judge should rate at temperature 0 where its model lets it. Models that take none are asked without, and ``notes`` says so.

Source: Anthropic API reference, messages; its migration guide for version 2026-10-21.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from harness.chat.providers.base import APIProvider, custom_headers, left_out
from harness.chat.providers.errors import count, no_message
from harness.chat.providers.events import MessageAssembler
from harness.chat.providers.refusals import SYSTEM, folded
from harness.chat.providers.servers import Connection
from harness.chat.values import ChatReply, ChatRequest, RequestFailed, Usage
from harness.types import Json

TOOL = "reply"
"""The name of the tool whose forced call carries a reply in the form of a schema."""

VERSION = "2023-06-01"

OPTIONAL = {
    "temperature": "the model's own temperature is used",
    "tool_choice": "the form of the reply is asked for by output_config in its place",
    "output_config": "the form of the reply is asked for in words alone",
    SYSTEM: "the system text stands before the user's message",
}

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refusal",
}
"""Anthropic's stop reasons in the words of :class:`harness.chat.values.ChatReply`; any other is passed on as it is."""


class AnthropicProvider(APIProvider):
    """Anthropic's messages API; see :class:`harness.chat.providers.base.APIProvider`. A ``base_url`` may end in ``/v1`` or not."""

    api = "anthropic"
    optional = OPTIONAL
    forms = ("tool_choice", "output_config")

    @property
    def sdk(self) -> ModuleType:
        """Return the package ``anthropic``."""
        import anthropic

        return anthropic

    def body(self, request: ChatRequest) -> dict[str, Any]:
        """See :class:`APIProvider`. The seed is left out: the API has none. Raises RequestFailed for a temperature above 1, or a refused schema."""
        chat = request.messages if self.dialect.takes(request.model, SYSTEM) else folded(request.messages)
        messages = [{"role": one.role, "content": one.content} for one in chat if one.role != "system"]
        body: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "messages": messages}
        system = "\n\n".join(one.content for one in chat if one.role == "system")
        if system:
            body["system"] = system
        if request.temperature is not None and request.temperature > 1:
            raise RequestFailed(f"{self.name}: temperature {request.temperature:g} is above 1, the highest that this API takes")
        if request.temperature is not None and self.dialect.takes(request.model, "temperature"):
            body["temperature"] = request.temperature
        form = self.form_of(request)
        if request.schema is not None and form == "tool_choice":
            body["tools"] = [{"name": TOOL, "description": "Give the whole reply through this tool.", "input_schema": dict(request.schema)}]
            body["tool_choice"] = {"type": "tool", "name": TOOL}
        elif request.schema is not None and form == "output_config":
            body["output_config"] = {"format": {"type": "json_schema", "schema": dict(request.schema)}}
        return body

    def headers(self) -> dict[str, Any]:
        """See :class:`APIProvider`. Newer packages send the key as a bearer token alone, yet gateways may read ``X-Api-Key``: those get both."""
        ours: dict[str, Any] = {"anthropic-version": VERSION}
        if self.connection.own:
            return ours
        ours |= {"X-Api-Key": self.connection.key, "Authorization": f"Bearer {self.connection.key}"}
        if self.connection.trusted:
            return ours
        return {**dict.fromkeys(custom_headers(os.environ.get("ANTHROPIC_CUSTOM_HEADERS")), left_out(self.sdk)), **ours}

    def _opened_client(self, options: dict[str, Any]) -> Any:
        return self.sdk.AsyncAnthropic(**options)

    async def _send(self, client: Any, body: dict[str, Any]) -> Any:
        # The whole body goes as `extra_body`, which counts before the arguments: newer packages know no temperature any more.
        call = client.messages.with_raw_response
        return await call.create(model=body["model"], max_tokens=body["max_tokens"], messages=[], extra_body=body)

    def _assembler(self, model: str) -> MessageAssembler:
        return MessageAssembler()

    def _reply(self, body: Mapping[str, Json]) -> ChatReply:
        return message_reply(self.connection, body)


def message_reply(connection: Connection, body: Mapping[str, Json]) -> ChatReply:
    """Read a message. The input of a forced tool call is the text, as JSON; else the text blocks, joined.

    Raises RequestFailed (retryable) for a body without content. ``usage.input`` holds what was read from and written to the API's cache, too.
    """
    content, model, stop = body.get("content"), body.get("model"), body.get("stop_reason")
    if not isinstance(content, list):
        raise no_message(connection, body)
    blocks = [block for block in content if isinstance(block, Mapping)]
    calls = [block["input"] for block in blocks if block.get("type") == "tool_use" and block.get("name") == TOOL and "input" in block]
    texts = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
    text = json.dumps(calls[0], ensure_ascii=False) if calls else "".join(texts)
    counts = body.get("usage")
    counts = counts if isinstance(counts, Mapping) else {}
    cached = count(counts.get("cache_read_input_tokens"))
    total = count(counts.get("input_tokens")) + cached + count(counts.get("cache_creation_input_tokens"))
    finish = FINISH.get(stop, stop) if isinstance(stop, str) else "stop"
    return ChatReply(text, Usage(total, cached, count(counts.get("output_tokens"))), model if isinstance(model, str) else "", finish)
