"""Ratings a second through the runner, against a loopback server with the latency of an API.

    python benchmarks/judging.py [--ratings 5000] [--concurrency 64] [--latency 0.2] [--timeout 60] [--retry-after 0]
        [--client openai|raw] [--no-peers]

The server runs in a process of its own and answers every chat completion after the latency; it can serve far more than it is asked. In the
second round it refuses 5 % of the requests at once (429, with a Retry-After where ``--retry-after`` gives the seconds), fails 2 % after the latency
(500), and never answers 1 %. The ideal is concurrency ÷ latency. The aims: 95 % of it, and 85 % with failures; every rating exactly once.

Peers: a plain ``asyncio.gather`` with a semaphore (no cache, no retries: with failures it loses ratings), and one request after the other (fewer
of them, at the same pace). Clients: harness' provider on the ``openai`` package, which is what users run, or httpx alone (``raw``), which shows how
much of the client's CPU time is the package's.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from harness.chat.client.cache import ReplyCache
from harness.chat.client.runner import Runner
from harness.chat.providers.openai import OpenAIProvider
from harness.chat.values import ChatReply, ChatRequest, Message, Provider, RequestFailed, Usage

REFUSED, FAILED, HUNG = 0.05, 0.02, 0.01
RUBRIC = "Say in a sentence how well the text brings in the concept, then end with the rating from 0 to 2. " * 12


class Server(asyncio.Protocol):
    """HTTP/1.1 with kept connections, as little work a request as possible. ``GET /answered`` tells how often each text got a reply."""

    latency = 0.0
    failures = False
    retry_after = 0.0
    count = 0
    answered: ClassVar[collections.Counter[str]] = collections.Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length: ")
            size = int(head[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + size:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + size], self.buffer[end + 4 + size :]
            self.asked(head, body)

    def asked(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /answered"):
            self.send(200, json.dumps(Server.answered).encode())
            Server.answered.clear()
            return
        loop = asyncio.get_running_loop()
        Server.count += 1
        draw = int.from_bytes(hashlib.sha256(f"{Server.count}".encode()).digest()[:4], "big") / 2**32 if Server.failures else 1.0
        if draw < REFUSED:
            header = b"Retry-After: %g\r\n" % Server.retry_after if Server.retry_after else b""
            self.send(429, b'{"error": {"message": "Rate limit reached", "type": "requests"}}', header)
        elif draw < REFUSED + FAILED:
            loop.call_later(Server.latency, self.send, 500, b'{"error": {"message": "The server had an error"}}')
        elif draw >= REFUSED + FAILED + HUNG:
            loop.call_later(Server.latency, self.reply, json.loads(body)["messages"][-1]["content"])

    def reply(self, text: str) -> None:
        if self.transport.is_closing():
            return
        Server.answered[text] += 1
        message = {"role": "assistant", "content": f"{text}: it does, throughout.\nRating: [[2]]"}
        usage = {"prompt_tokens": 350, "completion_tokens": 20, "total_tokens": 370}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.send(
            200,
            json.dumps(
                {"id": "1", "object": "chat.completion", "created": 0, "model": "m-1", "choices": [choice], "usage": usage}
            ).encode(),
        )

    def send(self, status: int, body: bytes, more: bytes = b"") -> None:
        if not self.transport.is_closing():
            head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), more)
            self.transport.write(head + body)


async def serve(latency: float, failures: bool, retry_after: float) -> None:
    Server.latency, Server.failures, Server.retry_after = latency, failures, retry_after
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def served(latency: float, failures: bool, retry_after: float) -> Iterator[str]:
    command = [
        sys.executable,
        __file__,
        "--serve",
        str(latency),
        "--failures" if failures else "--no-failures",
        f"--retry-after={retry_after}",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


class Raw:
    """A provider on httpx alone."""

    name = "raw"
    notes: tuple[str, ...] = ()

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Any = None

    def takes_schema(self, model: str) -> bool:
        return True

    async def complete(self, request: ChatRequest) -> ChatReply:
        import httpx

        if self._client is None:
            self._client = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None))
        body = {"model": request.model, "messages": [{"role": m.role, "content": m.content} for m in request.messages]}
        answer = await self._client.post(self.url + "/chat/completions", json=body)
        if answer.status_code != 200:
            wait = answer.headers.get("Retry-After")
            status = answer.status_code
            raise RequestFailed(f"HTTP {status}", retryable=True, status=status, retry_after=float(wait) if wait else None)
        content = answer.json()
        usage = Usage(content["usage"]["prompt_tokens"], 0, content["usage"]["completion_tokens"])
        return ChatReply(content["choices"][0]["message"]["content"], usage, content["model"])

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()
        self._client = None


@dataclass(frozen=True)
class Result:
    """A round: how long it took, the client's CPU time, the answers by id, and how often the server answered each text."""

    name: str
    seconds: float
    cpu: float
    asked: int
    replies: int
    wrong: int
    repeated: int


Way = Callable[[Provider, dict[str, ChatRequest], argparse.Namespace], Iterator[tuple[str, ChatReply | RequestFailed]]]


def by_runner(
    provider: Provider, requests: dict[str, ChatRequest], args: argparse.Namespace
) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
    with tempfile.TemporaryDirectory() as folder, ReplyCache(Path(folder) / "replies.sqlite") as cache:
        yield from Runner(provider, cache=cache, concurrency=args.concurrency, timeout=args.timeout).run(requests, "r/1")


def by_gather(
    provider: Provider, requests: dict[str, ChatRequest], args: argparse.Namespace
) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
    async def all_of_them() -> list[tuple[str, ChatReply | RequestFailed]]:
        places = asyncio.Semaphore(args.concurrency)

        async def one(item: str, request: ChatRequest) -> tuple[str, ChatReply | RequestFailed]:
            async with places:
                try:
                    return item, await asyncio.wait_for(provider.complete(request), args.timeout)
                except RequestFailed as failure:
                    return item, failure
                except asyncio.TimeoutError:
                    return item, RequestFailed("timeout")

        found = await asyncio.gather(*(one(item, request) for item, request in requests.items()))
        await provider.close()
        return found

    yield from asyncio.run(all_of_them())


def one_by_one(
    provider: Provider, requests: dict[str, ChatRequest], args: argparse.Namespace
) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
    yield from by_gather(provider, requests, argparse.Namespace(**{**vars(args), "concurrency": 1}))


def measure(name: str, way: Way, url: str, n: int, args: argparse.Namespace) -> Result:
    import httpx

    provider: Provider = OpenAIProvider(base_url=url) if args.client == "openai" else Raw(url)
    texts = [f"text {i}" for i in range(n)]
    requests = {f"id{i}": ChatRequest("m", (Message("system", RUBRIC), Message("user", text))) for i, text in enumerate(texts)}
    httpx.get(url.removesuffix("/v1") + "/answered")
    start, cpu = time.perf_counter(), time.process_time()
    answers = list(way(provider, requests, args))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    answered = httpx.get(url.removesuffix("/v1") + "/answered").json()
    given = collections.Counter(item for item, _ in answers)
    replies = {item: reply for item, reply in answers if isinstance(reply, ChatReply)}
    wrong = sum(not reply.text.startswith(f"text {item[2:]}:") for item, reply in replies.items())
    wrong += sum(given[item] != 1 for item in requests) + len(set(given) - set(requests))
    return Result(name, seconds, cpu, n, len(replies), wrong, sum(times - 1 for times in answered.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--ratings", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds that the server takes")
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        help="seconds for one attempt at most; what hangs is given up earlier by the runner, not by its peers",
    )
    parser.add_argument("--retry-after", type=float, default=0.0, help="seconds that a refusal asks to wait (0: it does not say)")
    parser.add_argument("--client", choices=["openai", "raw"], default="openai")
    parser.add_argument("--no-peers", action="store_true", help="the runner alone")
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--failures", action=argparse.BooleanOptionalAction, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(serve(args.serve, bool(args.failures), args.retry_after))
        return
    ideal = args.concurrency / args.latency
    where = f"{args.concurrency} at once, {args.latency * 1000:.0f} ms, client {args.client}, {os.cpu_count()} cores"
    print(f"{args.ratings} ratings, {where}; ideal {ideal:.0f}/s")
    print("| round | seconds | ratings/s | of the ideal | rated | asked but not rated | given wrongly | paid twice | client CPU a rating |")
    print("|---|---|---|---|---|---|---|---|---|")
    for failures in (False, True):
        with served(args.latency, failures, args.retry_after) as url:
            measure("warm-up", by_gather, url, 2 * args.concurrency, args)
            ways: list[tuple[str, Way, int]] = [("harness' runner, with its cache", by_runner, args.ratings)]
            if not args.no_peers:
                ways += [("gather and semaphore", by_gather, args.ratings), ("one by one", one_by_one, 50)]
            for name, way, n in ways:
                found = measure(f"{name}{', failures' if failures else ''}", way, url, n, args)
                rate = found.replies / found.seconds
                print(
                    f"| {found.name} | {found.seconds:.1f} | {rate:.0f} | {rate / ideal:.3f} | {found.replies} | {found.asked - found.replies} | "
                    f"{found.wrong} | {found.repeated} | {1000 * found.cpu / found.asked:.2f} ms |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
