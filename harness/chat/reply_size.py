"""How much a server may send: a reply that does not end would fill the memory, and one that is packed may be a thousand times what arrives."""

from __future__ import annotations

import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from harness.chat.values import RequestFailed

LARGEST_REPLY = 1 << 26
"""Bytes of a reply: some hundred times what the longest text takes, streamed word by word."""
LARGEST_FILE = 1 << 33
"""Bytes of a file of results, which goes to the disk."""
_FILES = ("/content", "/results")
"""How the addresses of such files end."""
_ZLIB = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_DENSEST = 1 << 10
"""So many bytes at most come out of one that arrives, in the packings whose content is not counted here."""
_BLOCK = 1 << 20


def limited(server: str, largest: int, asynchronous: bool) -> dict[str, list[Callable[[Any], Any]]]:
    """Return the event hooks with which an HTTP client refuses what is too large, before and while it arrives.

    Args:
        server: its name, for messages.
        largest: bytes of a reply, unpacked.
        asynchronous: for an asynchronous client.
    """

    def limit(response: Any) -> None:
        most = LARGEST_FILE if response.request.method == "GET" and response.request.url.path.endswith(_FILES) else largest
        stated = response.headers.get("content-length", "")
        if stated.isdigit() and int(stated) > most:
            raise _too_large(server, most)
        packing = response.headers.get("content-encoding", "identity").strip().lower()
        window = _ZLIB.get(packing)
        if window is not None:  # unpacked here, so that what comes out is counted, too
            del response.headers["content-encoding"]
            response.headers.pop("content-length", None)
        elif packing not in ("", "identity"):
            most //= _DENSEST
        httpx: Any = sys.modules[type(response).__module__.partition(".")[0]]  # or the package under which a client brings it
        base = httpx.AsyncByteStream if asynchronous else httpx.SyncByteStream
        kind = type("LimitedStream", (_AsyncStream if asynchronous else _Stream, base), {})
        response.stream = kind(response.stream, lambda: _Counted(server, most, window))

    async def limit_later(response: Any) -> None:
        limit(response)

    return {"response": [limit_later if asynchronous else limit]}


def _too_large(server: str, largest: int) -> RequestFailed:
    return RequestFailed(f"{server}: the reply has more than {largest >> 20} MB, which no reply to a question has; is the address right?")


class _Counted:
    """Blocks of a reply, unpacked and counted."""

    def __init__(self, server: str, largest: int, window: int | None) -> None:
        self._server, self._largest, self._left = server, largest, largest
        self._unpacker = None if window is None else zlib.decompressobj(window)
        self._begun = False

    def blocks(self, block: bytes) -> Iterator[bytes]:
        """Yield what a block holds. Raises RequestFailed where that is too much, or no such packing."""
        if self._unpacker is None:
            yield self._take(block)
            return
        try:
            while block:
                found = self._unpacker.decompress(block, _BLOCK)
                block, self._begun = self._unpacker.unconsumed_tail, True
                yield self._take(found)
        except zlib.error:
            if not self._begun:  # "deflate" without its header, as some servers send it
                self._unpacker, self._begun = zlib.decompressobj(-15), True
                yield from self.blocks(block)
                return
            raise RequestFailed(f"{self._server}: the reply is garbled (it cannot be unpacked)", retryable=True) from None

    def _take(self, block: bytes) -> bytes:
        self._left -= len(block)
        if self._left < 0:
            raise _too_large(self._server, self._largest)
        return block


class _Stream:
    def __init__(self, stream: Any, counted: Callable[[], _Counted]) -> None:
        self._stream, self._counted = stream, counted

    def __iter__(self) -> Iterator[bytes]:
        counted = self._counted()
        for block in self._stream:
            yield from counted.blocks(block)

    def close(self) -> None:
        self._stream.close()


class _AsyncStream:
    def __init__(self, stream: Any, counted: Callable[[], _Counted]) -> None:
        self._stream, self._counted = stream, counted

    async def __aiter__(self) -> AsyncIterator[bytes]:
        counted = self._counted()
        async for block in self._stream:
            for part in counted.blocks(block):
                yield part

    async def aclose(self) -> None:
        await self._stream.aclose()
