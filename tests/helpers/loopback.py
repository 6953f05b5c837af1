"""A small real HTTP server on the loopback interface, whose answers a test writes: asyncio streams in a thread, hundreds of connections at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from harness.chat.values import ChatReply, ChatRequest, RequestFailed, Usage

HANG = float("inf")
RESET = 0


class Answer(NamedTuple):
    """What to answer. Status :data:`RESET` cuts the connection without a word; a delay of :data:`HANG` never answers."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: bytes = b""
    delay: float = 0.0


Handler = Callable[[str, bytes], Answer]


def chat_answer(text: str, *, tokens_in: int = 100, tokens_out: int = 10, delay: float = 0.0, model: str = "tiny-1") -> Answer:
    """A chat completion as OpenAI's API sends it."""
    content = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }  # fmt: skip
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(content).encode(), delay)


class HttpProvider:
    """A provider of a few lines over httpx: posts the last message's text, reads a chat completion."""

    name = "loopback"
    notes: tuple[str, ...] = ()

    def __init__(self, url: str) -> None:
        self.url = url
        self.closed = 0
        self._client: Any = None

    def takes_schema(self, model: str) -> bool:
        return True

    async def complete(self, request: ChatRequest) -> ChatReply:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None))
        try:
            answer = await self._client.post(self.url + "/chat", json={"text": request.messages[-1].content})
        except httpx.TransportError as error:
            raise RequestFailed(f"connection: {type(error).__name__}", retryable=True) from None
        if answer.status_code != 200:
            wait = answer.headers.get("Retry-After")
            retryable = answer.status_code in (429, 529) or answer.status_code >= 500
            status = answer.status_code
            raise RequestFailed(f"HTTP {status}", retryable=retryable, retry_after=float(wait) if wait else None, status=status)
        body = answer.json()
        usage = Usage(body["usage"]["prompt_tokens"], 0, body["usage"]["completion_tokens"])
        return ChatReply(body["choices"][0]["message"]["content"], usage, body["model"])

    async def close(self) -> None:
        self.closed += 1
        if self._client is not None:
            await self._client.aclose()
        self._client = None


class Loopback:
    """The server. ``with Loopback(handler) as server: server.url``; ``requests`` holds (path, body) of everything that was asked.

    ``handler(path, body)`` runs in the server's thread and must not block.
    """

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests: list[tuple[str, bytes]] = []
        self.open = 0
        self.most_open = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Loopback:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024), self._loop
        ).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> list[Any]:
        """The bodies of all requests, read as JSON."""
        return [json.loads(body) for _, body in self.requests]

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
                body = await reader.readexactly(int(fields.get("content-length", "0")))
                self.requests.append((path, body))
                self.open += 1
                self.most_open = max(self.most_open, self.open)
                try:
                    answer = self.handler(path, body)
                    if answer.delay == HANG:
                        await asyncio.Event().wait()
                    await asyncio.sleep(answer.delay)
                finally:
                    self.open -= 1
                if answer.status == RESET:
                    break
                headers = {"Content-Length": str(len(answer.body)), **answer.headers}
                lines = [f"HTTP/1.1 {answer.status} Answer", *(f"{name}: {value}" for name, value in headers.items())]
                writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body)
                await writer.drain()
        with contextlib.suppress(Exception):
            writer.transport.abort()
