"""Replies that come piece by piece (server-sent events): asked for, or sent by a server that streams whatever it is asked."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from harness.chat.values import RequestFailed
from harness.files.json_text import parse_json
from harness.types import Json

THOUGHTS = ("reasoning_content", "reasoning")
"""The fields in which servers put what a model thinks before it answers."""

_LINE_END = re.compile(r"\r\n|\n|\r")  # no other: U+2028 may stand within a JSON text


class Assembler(Protocol):
    """Puts the pieces of a streamed reply together."""

    def add(self, piece: Mapping[str, Json]) -> None:
        """Take in the next piece."""
        ...

    def reply(self) -> Mapping[str, Json] | None:
        """Return the reply in the form that it has when it is not streamed; None where the stream ended before the reply did."""
        ...


def is_stream(content_type: str, body: bytes) -> bool:
    """Return whether a reply came as server-sent events, by its type, or by how it begins."""
    begin = body.removeprefix(BOM_UTF8).lstrip()[:6]
    return content_type.partition(";")[0].strip().lower() == "text/event-stream" or begin.startswith((b"data:", b"event:"))


def read_events(server: str, body: bytes) -> Iterator[dict[str, Json]]:
    """Yield the JSON objects of a stream that came as one body; what is not one (``[DONE]``, comments) is left out.

    Raises RequestFailed (retryable) for an event that is cut or garbled.
    """
    data: list[str] = []
    for line in [*_LINE_END.split(body.removeprefix(BOM_UTF8).decode("utf-8", "replace")), ""]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line.strip() and data:
            text, data = "\n".join(data), []
            if text.strip() == "[DONE]":
                continue
            try:
                value = parse_json(text, surrogates="replace")
            except ValueError:
                raise RequestFailed(f"{server}: an event of the reply's stream is garbled", retryable=True) from None
            if isinstance(value, dict):
                yield value


class ChatAssembler:
    """Chunks of a chat completion.

    Args:
        model: what was asked; stands in the reply where no chunk names a model.
    """

    def __init__(self, model: str) -> None:
        self._model, self._usage, self._finish = model, None, None
        self._parts: dict[str, list[str]] = {name: [] for name in ("content", "refusal", *THOUGHTS)}

    def add(self, piece: Mapping[str, Json]) -> None:
        """See :class:`Assembler`."""
        self._model, self._usage = piece.get("model") or self._model, piece.get("usage") or self._usage
        choices = piece.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, Mapping) or choice.get("index") not in (0, None):
                continue
            self._finish = choice.get("finish_reason") or self._finish
            # Some servers send the last piece, or all, in the form of a whole reply.
            delta = choice.get("delta") or choice.get("message")
            for name, texts in self._parts.items():
                text = delta.get(name) if isinstance(delta, Mapping) else None
                if isinstance(text, str):
                    texts.append(text)

    def reply(self) -> Mapping[str, Json] | None:
        """See :class:`Assembler`."""
        if self._finish is None:
            return None
        message = {name: "".join(texts) or None for name, texts in self._parts.items()}
        return {"model": self._model, "usage": self._usage, "choices": [{"message": message, "finish_reason": self._finish}]}


class MessageAssembler:
    """Events of a message of Anthropic's API."""

    def __init__(self) -> None:
        self._message: dict[str, Json] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._ended = False

    def add(self, piece: Mapping[str, Json]) -> None:
        """See :class:`Assembler`."""
        kind, index = piece.get("type"), piece.get("index")
        if kind == "message_start":
            self._message = dict(_mapping(piece.get("message")))
        elif kind == "content_block_start" and isinstance(index, int):
            self._blocks[index] = {**_mapping(piece.get("content_block")), "pieces": []}
        elif kind == "content_block_delta" and isinstance(index, int) and index in self._blocks:
            delta = _mapping(piece.get("delta"))
            text = delta.get("text") or delta.get("partial_json")
            self._blocks[index]["pieces"].append(text if isinstance(text, str) else "")
        elif kind == "message_delta":
            self._message.update(_mapping(piece.get("delta")))
            # Of the counts, those of the end hold: they are running totals.
            counts = {name: n for name, n in _mapping(piece.get("usage")).items() if n is not None}
            self._message["usage"] = {**_mapping(self._message.get("usage")), **counts}
        elif kind == "message_stop":
            self._ended = True

    def reply(self) -> Mapping[str, Json] | None:
        """See :class:`Assembler`."""
        if not self._ended:
            return None
        return {**self._message, "content": [_assembled_block(block) for _, block in sorted(self._blocks.items())]}


def _assembled_block(block: Mapping[str, Any]) -> dict[str, Json]:
    text = "".join(block["pieces"])
    if block.get("type") == "text":
        begun = block.get("text")
        return {"type": "text", "text": (begun if isinstance(begun, str) else "") + text}
    if block.get("type") == "tool_use" and text:
        try:
            return {"type": "tool_use", "name": block.get("name"), "input": parse_json(text, surrogates="replace")}
        except ValueError:  # cut by the bound on the reply: what there is, is shown as text
            return {"type": "text", "text": text}
    return dict(block)


def assembled(assembler: Assembler, pieces: Iterable[Mapping[str, Json]]) -> Mapping[str, Json] | None:
    """Return the reply that ``pieces`` make; see :meth:`Assembler.reply`."""
    for piece in pieces:
        assembler.add(piece)
    return assembler.reply()


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}
