"""A server may send so much and no more: stated, streamed without end, or packed a thousand times smaller."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import Any

import pytest
from helpers import providers as shared
from helpers.server import Reply, completion

from harness.chat import http
from harness.chat.http import http_client
from harness.chat.values import RequestFailed

server, bare = shared.server, shared.bare
pytestmark = [pytest.mark.usefixtures("bare")]
SMALL = 100_000
MESSAGE = json.dumps(completion("x" * 40_000)).encode()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http.http_client, "__defaults__", (SMALL,))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", shared.KINDS)
@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"[" + b" " * SMALL),
        Reply(gzip.compress(b" " * 50 * SMALL), headers={"Content-Encoding": "gzip"}),
        Reply(zlib.compress(b" " * 50 * SMALL), headers={"Content-Encoding": "deflate"}),
        Reply(["data: " + " " * 30_000] * 8, how="events"),
        Reply(b"x" * 2 * SMALL, status=500),
    ],
    ids=["stated", "gzip", "deflate", "events", "an error"],
)
def test_a_reply_that_is_too_large_is_one_failed_request(server: Any, kind: str, reply: Reply) -> None:
    server.fail("", reply)
    failed = shared.failure(shared.local(server, kind))
    assert "the reply has more than 0 MB" in failed.reason
    assert not failed.retryable
    assert len(server.seen) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("packing", ["", "gzip", "deflate", "raw deflate"])
def test_a_packed_reply_is_read(server: Any, packing: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "raw deflate": lambda content: zlib.compress(content)[2:-4], "": bytes}[packing]
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": packing.split()[-1]} if packing else {})
    server.fail("", Reply(pack(MESSAGE), headers=headers))
    assert shared.ask(shared.local(server, "openai"), shared.REQUEST).text == "x" * 40_000


def test_both_kinds_of_clients_are_limited(server: Any) -> None:
    import httpx

    server.fail("", *[Reply(b"x" * 1001)] * 3)
    with http_client(httpx.Client, "it", server.url, 5.0, 1000) as client, pytest.raises(RequestFailed):
        client.get(server.url)
    with http_client(httpx.Client, "it", server.url, 5.0, 1001) as client:
        assert len(client.get(server.url).content) == 1001

    async def ask() -> None:
        async with http_client(httpx.AsyncClient, "it", server.url, 5.0, 1000) as client:
            await client.get(server.url)

    with pytest.raises(RequestFailed):
        asyncio.run(ask())
