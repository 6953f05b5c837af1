"""The runner against a real server on loopback: every id once, paid once, as fast as allowed, whatever the server and the user do."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from helpers.forks import begun, ended
from helpers.waiting import wait_for
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chat.client.cache import ReplyCache
from harness.chat.client.limits import FLOOR, GAP, LATE, Clock, Latency, TokenBucket, Window, pause_before
from harness.chat.client.runner import Runner
from harness.chat.cost import load_prices
from harness.chat.values import ChatReply, ChatRequest, Message, RequestFailed, Usage
from harness.errors import OptionError, StoreError

Serve = Callable[[Callable[[str, bytes], Any]], Any]


def requests_for(texts: list[str]) -> dict[str, ChatRequest]:
    return {f"id{n}": ChatRequest("tiny", (Message("user", text),)) for n, text in enumerate(texts)}


def text_of(body: bytes) -> str:
    return str(json.loads(body)["text"])


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    with ReplyCache(tmp_path / "replies.sqlite") as opened:
        yield opened


def echo(loopback: ModuleType, delay: float = 0.0) -> Callable[[str, bytes], Any]:
    return lambda path, body: loopback.chat_answer("re: " + text_of(body), delay=delay)


# ------------------------------------------------------------------------------------------------------------------ once and once only


def test_every_id_is_answered_once_and_equal_requests_are_sent_once(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    server = serve(echo(loopback, 0.02))
    runner = Runner(loopback.HttpProvider(server.url), cache=cache, concurrency=8)
    requests = requests_for([f"text {n % 100}" for n in range(300)])
    answers = list(runner.run(requests))
    assert sorted(item for item, _ in answers) == sorted(requests)
    assert all(isinstance(reply, ChatReply) and reply.text == "re: " + requests[item].messages[0].content for item, reply in answers)
    assert len(server.requests) == 100
    assert runner.hits == 200
    assert sum(not reply.from_cache for _, reply in answers if isinstance(reply, ChatReply)) == 100
    assert runner.usage == Usage(100 * 100, 0, 100 * 10)
    assert server.most_open == 8

    again = dict(runner.run(requests))
    assert len(server.requests) == 100
    assert all(reply.from_cache for reply in again.values() if isinstance(reply, ChatReply))
    assert runner.usage == Usage(100 * 100, 0, 100 * 10)
    assert runner.hits == 500


def test_another_rubric_never_meets_an_old_reply(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    server = serve(echo(loopback))
    runner = Runner(loopback.HttpProvider(server.url), cache=cache)
    for rubric in ("r/1", "r/2", "r/1"):
        assert len(list(runner.run(requests_for(["a", "b"]), rubric))) == 2
    assert len(server.requests) == 4


def test_without_a_cache_repeats_within_a_run_are_still_saved(loopback: ModuleType, serve: Serve) -> None:
    server = serve(echo(loopback))
    runner = Runner(loopback.HttpProvider(server.url), concurrency=2)
    assert len(list(runner.run(requests_for(["a", "b", "c", "d", "a", "b"])))) == 6
    assert len(server.requests) == 4
    assert len(list(runner.run(requests_for(["a"])))) == 1
    assert len(server.requests) == 5


def test_nothing_asked_nothing_sent() -> None:
    assert list(Runner(None, cache=None).run({})) == []  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------------- failures


def test_passing_failures_are_retried_and_every_id_comes_once(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    seen: collections.Counter[str] = collections.Counter()

    def handler(path: str, body: bytes) -> Any:
        text = text_of(body)
        seen[text] += 1
        n = int(text.split()[1])
        if seen[text] == 1 and n % 5 < 4:
            return [
                loopback.Answer(429, {"Retry-After": "0.1"}),
                loopback.Answer(500, body=b"<html>"),
                loopback.Answer(loopback.RESET),
                loopback.Answer(delay=loopback.HANG),
            ][n % 5]
        return loopback.chat_answer("ok")

    server = serve(handler)
    runner = Runner(loopback.HttpProvider(server.url), cache=cache, concurrency=16, timeout=2.0)
    requests = requests_for([f"text {n}" for n in range(40)])
    answers = list(runner.run(requests))
    assert sorted(item for item, _ in answers) == sorted(requests)
    assert all(isinstance(reply, ChatReply) for _, reply in answers)
    assert sorted(seen.values()) == [1] * 8 + [2] * 32
    assert runner.usage.output == 400


@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_what_will_not_heal_is_not_retried(loopback: ModuleType, serve: Serve, cache: ReplyCache, status: int) -> None:
    server = serve(lambda path, body: loopback.Answer(status))
    ((item, failure),) = Runner(loopback.HttpProvider(server.url), cache=cache).run(requests_for(["a"]))
    assert isinstance(failure, RequestFailed)
    assert (item, failure.status, len(server.requests), len(cache)) == ("id0", status, 1, 0)


def test_it_gives_up_after_its_attempts_and_says_so(loopback: ModuleType, serve: Serve) -> None:
    server = serve(lambda path, body: loopback.Answer(500))
    ((_, failure),) = Runner(loopback.HttpProvider(server.url), attempts=2).run(requests_for(["a"]))
    assert isinstance(failure, RequestFailed)
    assert failure.reason == "HTTP 500; given up after 2 attempts"
    assert failure.retryable
    assert len(server.requests) == 2


def test_an_attempt_that_hangs_ends_at_the_time_limit(loopback: ModuleType, serve: Serve) -> None:
    server = serve(lambda path, body: loopback.Answer(delay=loopback.HANG))
    start = time.monotonic()
    ((_, failure),) = Runner(loopback.HttpProvider(server.url), attempts=1, timeout=0.3).run(requests_for(["a"]))
    assert "no answer within 0.3 s" in str(failure)
    assert 0.3 <= time.monotonic() - start < 60


def test_what_hangs_is_asked_again_long_before_the_time_limit_once_it_is_known_how_long_replies_take(
    loopback: ModuleType, serve: Serve, cache: ReplyCache
) -> None:
    seen: collections.Counter[str] = collections.Counter()

    def handler(path: str, body: bytes) -> Any:
        text = text_of(body)
        seen[text] += 1
        hangs = seen[text] == 1 and int(text.split()[1]) % 50 == 7
        return loopback.Answer(delay=loopback.HANG) if hangs else loopback.chat_answer("ok", delay=0.02)

    server = serve(handler)
    requests = requests_for([f"text {n}" for n in range(300)])
    start = time.monotonic()
    answers = dict(Runner(loopback.HttpProvider(server.url), cache=cache, concurrency=16, timeout=120.0).run(requests))
    assert time.monotonic() - start < 60  # one hang alone would take 120 s
    assert len(answers) == 300
    assert all(isinstance(reply, ChatReply) for reply in answers.values())
    assert {int(text.split()[1]) for text, times in seen.items() if times == 2} >= {7, 57, 107, 157, 207, 257}


def test_a_server_that_becomes_slow_is_waited_for(loopback: ModuleType, serve: Serve) -> None:
    served = 0

    def handler(path: str, body: bytes) -> Any:
        nonlocal served
        served += 1
        return loopback.chat_answer("ok", delay=0.02 if served <= 150 else 1.2)

    server = serve(handler)
    answers = list(Runner(loopback.HttpProvider(server.url), concurrency=32).run(requests_for([f"text {n}" for n in range(300)])))
    assert all(isinstance(reply, ChatReply) for _, reply in answers)
    assert len(server.requests) < 450  # those under way when it became slow, twice, not all of them again and again


@given(st.lists(st.floats(0.001, 200), max_size=400), st.integers(0, 40), st.booleans())
def test_patience_is_bounded_and_grows_with_each_attempt(times: list[float], given_up: int, last: bool) -> None:
    latency = Latency(120.0, 64)
    for seconds in times:
        latency.took(min(seconds, 120.0))
    patience = latency.patience(given_up, last=last)
    assert FLOOR <= patience <= 120.0
    assert patience <= latency.patience(given_up + 1, last=last)
    assert latency.patience(given_up, last=True) <= latency.patience(given_up)
    assert 0 < latency.gap <= GAP
    if len(times) < 100 and not last:
        assert patience == 120.0


def test_patience_follows_what_replies_take_and_comes_back_when_many_are_given_up() -> None:
    latency = Latency(120.0, 64)
    for n in range(1024):
        latency.took(1.0 if n % 64 else 50.0)
    assert latency.patience(0) == 3.0
    assert latency.patience(2) == 12.0
    assert latency.patience(0, last=True) == 1.5
    for _ in range(32):
        latency.gave_up()
    assert latency.patience(0) == 120.0
    assert latency.given_up == 32


@given(st.lists(st.tuples(st.one_of(st.floats(0.05, 0.069), st.floats(0.071, 5)), st.floats(0, 1)), min_size=1, max_size=60))
def test_the_clock_stands_still_while_the_loop_is_late(beats: list[tuple[float, float]]) -> None:
    clock, now, on_time = Clock(0.05), 100.0, 0.0
    clock.beat(now)
    for pause, share in beats:
        assert clock.at(now + share * pause) == pytest.approx(on_time + min(share * pause, 0.05 + LATE))
        now, on_time = now + pause, on_time + (pause if pause <= 0.05 + LATE else 0.0)
        clock.beat(now)
        assert clock.at(now) == pytest.approx(on_time)


def stop_once(loop: asyncio.AbstractEventLoop) -> None:
    """The loop does nothing for a while, as when the process is stopped."""
    time.sleep(1.5)


def toil(loop: asyncio.AbstractEventLoop, until: float = float("inf")) -> None:
    """For seconds the loop is at other work nine tenths of the time, never for long: whatever a reply needs of it comes late."""
    until = min(until, loop.time() + 2.5)
    time.sleep(0.045)
    if loop.time() < until:
        loop.call_later(0.005, toil, loop, until)


@pytest.mark.parametrize("work", [stop_once, toil])
def test_a_client_that_is_late_gives_up_nothing_and_sends_all_once(
    loopback: ModuleType, serve: Serve, cache: ReplyCache, work: Callable[[asyncio.AbstractEventLoop], None]
) -> None:
    server = serve(echo(loopback, 0.1))

    class Late(loopback.HttpProvider):  # type: ignore[misc,name-defined]
        asked = 0

        async def complete(self, request: ChatRequest) -> ChatReply:
            self.asked += 1
            if self.asked == 150:  # by then it is known that replies take a tenth of a second
                loop = asyncio.get_running_loop()
                loop.call_later(0.02, work, loop)
            return await super().complete(request)  # type: ignore[no-any-return]

    runner = Runner(Late(server.url), cache=cache, concurrency=32)
    answers = dict(runner.run(requests_for([str(n) for n in range(400)])))
    assert all(isinstance(reply, ChatReply) for reply in answers.values())
    assert (len(answers), len(server.requests), runner.unanswered) == (400, 400, 0)


def test_what_often_takes_long_is_not_given_up_again_and_again(loopback: ModuleType, serve: Serve) -> None:
    server = serve(lambda path, body: loopback.chat_answer("ok", delay=1.5 if int(text_of(body).split()[1]) % 15 == 3 else 0.01))
    runner = Runner(loopback.HttpProvider(server.url), concurrency=32)
    answers = list(runner.run(requests_for([f"text {n}" for n in range(1500)])))
    assert all(isinstance(reply, ChatReply) for _, reply in answers)
    assert len(server.requests) - 1500 <= runner.latency.given_up < 40  # of 100 slow ones: those before it was known


def test_a_refused_key_ends_the_run_early_yet_answers_every_id(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    server = serve(echo(loopback))
    provider = loopback.HttpProvider(server.url)
    list(Runner(provider, cache=cache).run(requests_for(["known"])))
    server.handler = lambda path, body: loopback.Answer(401, delay=0.01)
    requests = requests_for([f"text {n}" for n in range(500)] + ["known"])
    answers = dict(Runner(provider, cache=cache, concurrency=4).run(requests))
    assert set(answers) == set(requests)
    assert len(server.requests) < 20
    known = answers.pop("id500")
    assert isinstance(known, ChatReply)
    assert known.from_cache
    assert all(isinstance(failure, RequestFailed) and failure.status == 401 for failure in answers.values())
    assert sum("the rest was not sent" in str(failure) for failure in answers.values()) > 450


def test_bad_requests_do_not_stop_the_others(loopback: ModuleType, serve: Serve) -> None:
    server = serve(lambda path, body: loopback.chat_answer("ok") if int(text_of(body)) >= 30 else loopback.Answer(400))
    answers = dict(Runner(loopback.HttpProvider(server.url), concurrency=1).run(requests_for([str(n) for n in range(40)])))
    assert sum(isinstance(answer, ChatReply) for answer in answers.values()) == 10
    assert len(server.requests) == 40


def test_a_dead_server_is_not_asked_for_ever(loopback: ModuleType) -> None:
    with loopback.Loopback(echo(loopback)) as server:
        url = server.url
    start = time.monotonic()
    answers = dict(Runner(loopback.HttpProvider(url), attempts=2).run(requests_for([str(n) for n in range(2000)])))
    assert len(answers) == 2000
    assert time.monotonic() - start < 60


# ------------------------------------------------------------------------------------------------------------------------- rate limits


def test_retry_after_is_honoured(loopback: ModuleType, serve: Serve) -> None:
    times: list[float] = []

    def handler(path: str, body: bytes) -> Any:
        times.append(time.monotonic())
        return loopback.Answer(429, {"Retry-After": "0.7"}) if len(times) == 1 else loopback.chat_answer("ok")

    server = serve(handler)
    ((_, reply),) = Runner(loopback.HttpProvider(server.url)).run(requests_for(["a"]))
    assert isinstance(reply, ChatReply)
    assert 0.7 <= times[1] - times[0] < 60


def test_a_wait_until_tomorrow_is_not_waited_for(loopback: ModuleType, serve: Serve) -> None:
    server = serve(lambda path, body: loopback.Answer(429, {"Retry-After": "86400"}))
    ((_, failure),) = Runner(loopback.HttpProvider(server.url)).run(requests_for(["a"]))
    assert "asks to wait 86400 s" in str(failure)
    assert len(server.requests) == 1


def test_a_server_that_is_overrun_gets_fewer_requests_and_a_pause(loopback: ModuleType, serve: Serve) -> None:
    seen: list[float] = []

    def handler(path: str, body: bytes) -> Any:
        """Overrun for a while from the first request on, and for eight of them however late they come."""
        seen.append(time.monotonic())
        overrun = seen[-1] - seen[0] < 0.8 or len(seen) <= 8
        return loopback.Answer(429, {"Retry-After": "0.4"}) if overrun else loopback.chat_answer("ok", delay=0.02)

    server = serve(handler)
    runner = Runner(loopback.HttpProvider(server.url), concurrency=32)
    answers = dict(runner.run(requests_for([str(n) for n in range(300)])))
    assert all(isinstance(reply, ChatReply) for reply in answers.values())
    refused = len(server.requests) - 300
    assert 8 <= refused < 130  # without the pause each of 32 places would be refused every few milliseconds


def test_a_limit_a_minute_is_kept(loopback: ModuleType, serve: Serve) -> None:
    server = serve(echo(loopback))
    start = time.monotonic()
    list(Runner(loopback.HttpProvider(server.url), requests_per_minute=1200).run(requests_for([str(n) for n in range(40)])))
    assert 20 / 20 * 0.95 <= time.monotonic() - start < 30  # a second's worth at once, then 20 a second


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 5000), st.lists(st.floats(0.01, 3), min_size=1, max_size=200), st.lists(st.floats(0, 30), min_size=1, max_size=200))
def test_no_minute_sees_more_than_the_bucket_allows(per_minute: float, shares: list[float], idle: list[float]) -> None:
    bucket, now, passed = TokenBucket(per_minute), 0.0, list[tuple[float, float]]()
    for share, rest in zip(shares, idle, strict=False):
        amount = min(share, 1.0) * bucket.capacity
        now += rest
        wait = bucket.wait(amount, now)
        now += wait
        assert bucket.wait(amount, now) < 1e-6
        bucket.take(amount, now)
        passed.append((now, amount))
    for at, _ in passed:
        assert sum(amount for when, amount in passed if at <= when < at + 60) <= per_minute * (1 + 1e-6)


@given(st.integers(1, 10_000), st.one_of(st.none(), st.floats(0, 600)), st.floats(0, 1))
def test_pauses_grow_to_a_bound_and_never_undercut_the_server(attempt: int, asked: float | None, draw: float) -> None:
    pause = pause_before(attempt, asked, draw)
    if asked:
        assert asked <= pause <= asked * 1.1 + 1e-9
    else:
        assert 0.125 <= pause <= 30
        assert pause <= pause_before(attempt + 1, asked, draw)


def test_a_demand_above_the_bucket_passes_and_is_paid_off() -> None:
    bucket = TokenBucket(61)
    assert bucket.wait(10, 100.0) == 0
    bucket.take(10, 100.0)
    assert bucket.wait(1, 100.0) == pytest.approx(10)


def test_the_window_ignores_scattered_refusals_and_halves_for_many() -> None:
    window = Window(64)
    for n in range(2000):
        if n % 20 == 0:
            window.refused(n, n, 1.0)
        else:
            window.succeeded()
    assert window.size == 64
    assert window.resume_at == 0
    shrank = [window.refused(started=5000.0, now=5000.1, pause=2.0) for _ in range(64)]
    assert shrank.count(True) == 1
    assert window.size == 32
    assert window.resume_at == pytest.approx(5002.1)
    for _ in range(3000):
        window.succeeded()
    assert window.size == 64


@pytest.mark.parametrize(
    "options", [{"concurrency": 0}, {"attempts": 0}, {"timeout": 0.0}, {"requests_per_minute": -1.0}, {"tokens_per_minute": float("nan")}]
)
def test_limits_without_sense_are_refused(options: dict[str, Any]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(OptionError) as error:
        Runner(None, **options)  # type: ignore[arg-type]
    assert error.value.given is value
    assert error.value.allowed
    assert name in error.value.message


# --------------------------------------------------------------------------------------------------------------------- stopped under way


def test_closing_the_iteration_keeps_what_is_paid_for(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    server = serve(echo(loopback, 0.2))
    provider = loopback.HttpProvider(server.url)
    requests = requests_for([str(n) for n in range(200)])
    run = Runner(provider, cache=cache, concurrency=16).run(requests)
    next(run)
    run.close()  # type: ignore[attr-defined]
    sent = len(server.requests)
    assert 16 <= sent <= 48
    assert len(cache) == sent
    assert provider.closed == 1
    rest = dict(Runner(provider, cache=cache, concurrency=64).run(requests))
    assert len(rest) == 200
    assert len(server.requests) == 200


def test_what_does_not_end_within_the_grace_is_cancelled(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    before = threading.active_count()  # of servers and libraries of other tests
    server = serve(lambda path, body: loopback.Answer(delay=loopback.HANG) if text_of(body) != "0" else loopback.chat_answer("ok"))
    run = Runner(loopback.HttpProvider(server.url), cache=cache, grace=0.3).run(requests_for(["0", "1", "2"]))
    next(run)
    start = time.monotonic()
    run.close()  # type: ignore[attr-defined]
    assert 0.25 < time.monotonic() - start < 60
    assert threading.active_count() - before < 10


PROGRAM = """
import importlib.util, json, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("loopback", sys.argv[1])
loopback = importlib.util.module_from_spec(spec)
sys.modules["loopback"] = loopback
spec.loader.exec_module(loopback)
from harness.chat.client.cache import ReplyCache
from harness.chat.client.runner import Runner
from harness.chat.values import ChatRequest, Message
url, path, n, concurrency, ending = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]), sys.argv[6]
requests = {str(i): ChatRequest("tiny", (Message("user", str(i)),)) for i in range(n)}
runner = Runner(loopback.HttpProvider(url), cache=ReplyCache(path), concurrency=concurrency)
answers = runner.run(requests)
for item, reply in answers:
    print(item, flush=True)
    if ending == "leave":
        sys.exit(0)
"""


def client(loopback: ModuleType, url: str, path: Path, n: int, concurrency: int, ending: str = "") -> subprocess.Popen[str]:
    arguments = [str(loopback.__file__), url, str(path), str(n), str(concurrency), ending]
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("ending", ["interrupt", "leave"])
def test_ctrl_c_and_a_forgotten_iterator_keep_what_is_paid_for(loopback: ModuleType, serve: Serve, tmp_path: Path, ending: str) -> None:
    server = serve(echo(loopback, 0.3))
    process = client(loopback, server.url, tmp_path / "replies.sqlite", 500, 16, ending)
    assert process.stdout is not None
    process.stdout.readline()
    if ending == "interrupt":
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert ("KeyboardInterrupt" in errors) == (ending == "interrupt")
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        assert len(cache) == len(server.requests) < 100


def test_ten_kills_lose_nothing_and_pay_nothing_twice_beyond_what_was_under_way(loopback: ModuleType, serve: Serve, tmp_path: Path) -> None:
    total, concurrency, kills = 1500, 8, 10
    server = serve(echo(loopback, 0.01))
    path = tmp_path / "replies.sqlite"
    pauses = [0.05 + 0.03 * n for n in (3, 0, 7, 1, 5, 2, 8, 4, 6, 9)]
    said = tmp_path / "said"

    def run() -> None:
        answers = Runner(loopback.HttpProvider(server.url), cache=ReplyCache(path), concurrency=concurrency)
        with said.open("a", encoding="utf-8") as file:
            for item, _ in answers.run({str(n): ChatRequest("tiny", (Message("user", str(n)),)) for n in range(total)}):
                print(item, file=file, flush=True)

    for pause in pauses:
        before = len(server.requests)
        copy = begun(run)
        wait_for(lambda: len(server.requests) > before)  # noqa: B023 (called at once)
        time.sleep(pause)
        os.kill(copy, signal.SIGKILL)
        assert ended(copy) == -signal.SIGKILL
        announced = set(said.read_text(encoding="utf-8").split("\n")[:-1])
        with ReplyCache(path) as cache:  # whatever the caller was announced is kept
            kept = {str(n) for n in range(total) if ChatRequest("tiny", (Message("user", str(n)),)).key("loopback", "") in cache}
        assert announced <= kept
        asked_before = collections.Counter(text_of(body) for _, body in server.requests)
    assert 0 < len(kept) < total, "the kills should hit the middle of the run"
    process = client(loopback, server.url, path, total, concurrency)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert sorted(out.split(), key=int) == [str(n) for n in range(total)]
    counts = collections.Counter(text_of(body) for _, body in server.requests)
    assert set(counts) == {str(n) for n in range(total)}
    assert sum(counts.values()) - total <= kills * concurrency
    assert all(counts[text] == asked_before[text] for text in kept), "a reply that was kept was asked for again"


# --------------------------------------------------------------------------------------------------------------------- defects and size


class Instant:
    """A provider without a network, for what is about scheduling alone."""

    name = "instant"
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.sent = 0
        self.most_tasks = 0

    def takes_schema(self, model: str) -> bool:
        return True

    async def complete(self, request: ChatRequest) -> ChatReply:
        self.sent += 1
        if self.sent % 100 == 0:
            self.most_tasks = max(self.most_tasks, len(asyncio.all_tasks()))
        await asyncio.sleep(0)
        return ChatReply("ok", Usage(10, 0, 1), request.model)

    async def close(self) -> None: ...


def gather(answers: Iterator[tuple[str, Any]], into: list[str]) -> None:
    """The ids that come before an exception does."""
    for item, _ in answers:
        into.append(item)


class Broken(Instant):
    async def complete(self, request: ChatRequest) -> ChatReply:
        if self.sent == 50:
            raise ZeroDivisionError("a defect of the provider")
        return await super().complete(request)


class Lazy(Mapping[str, ChatRequest]):
    """Many requests that are made when they are asked for."""

    def __init__(self, n: int, fail_at: int | None = None) -> None:
        self.n, self.made, self.fail_at = n, 0, fail_at

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[str]:
        return map(str, range(self.n))

    def __getitem__(self, key: str) -> ChatRequest:
        self.made += 1
        if self.made == self.fail_at:
            raise RuntimeError("a defect of the caller")
        return ChatRequest("tiny", (Message("user", key),))


def test_many_requests_are_taken_as_they_are_sent() -> None:
    provider, requests = Instant(), Lazy(20_000)
    answers = Runner(provider, concurrency=16).run(requests)
    next(answers)
    time.sleep(0.7)  # a caller that is busy: no more than a backlog piles up
    assert requests.made < 5000
    assert sum(1 for _ in answers) == 19_999
    assert provider.most_tasks <= 16 + 3


@pytest.mark.parametrize(("provider", "fail_at", "error"), [(Broken(), None, ZeroDivisionError), (Instant(), 60, RuntimeError)])
def test_a_defect_comes_out_with_its_traceback_after_what_was_paid(
    provider: Instant, fail_at: int | None, error: type[Exception], cache: ReplyCache
) -> None:
    got: list[str] = []
    with pytest.raises(error, match="a defect of") as caught:
        gather(Runner(provider, cache=cache, concurrency=4).run(Lazy(1000, fail_at)), got)
    assert len(got) == len(set(got)) == len(cache) == provider.sent >= 45
    assert caught.traceback[-1].name in ("complete", "__getitem__")


def test_a_cache_that_cannot_be_written_ends_the_run_with_what_came(cache: ReplyCache, monkeypatch: pytest.MonkeyPatch) -> None:
    full = StoreError("cannot store replies: the disk is full")

    def refuse(entries: object) -> None:
        raise full

    monkeypatch.setattr(cache, "put_many", refuse)
    provider, got = Instant(), list[str]()
    with pytest.raises(StoreError) as error:
        gather(Runner(provider, cache=cache, concurrency=4).run(Lazy(10_000)), got)
    assert error.value is full
    assert len(got) == provider.sent < 1000


def test_half_a_character_in_a_reply_spoils_nothing(loopback: ModuleType, serve: Serve, cache: ReplyCache) -> None:
    server = serve(lambda path, body: loopback.chat_answer("half \ud83d of it"))
    ((_, reply),) = Runner(loopback.HttpProvider(server.url), cache=cache).run(requests_for(["a"]))
    assert isinstance(reply, ChatReply)
    assert reply.text == "half ? of it"
    ((_, again),) = Runner(loopback.HttpProvider(server.url), cache=cache).run(requests_for(["a"]))
    assert isinstance(again, ChatReply)
    assert again.text == reply.text


def test_the_cost_is_counted_as_it_is_paid_and_unknown_is_none(cache: ReplyCache) -> None:
    prices, requests = (
        load_prices(),
        {"a": ChatRequest("gpt-4o", (Message("user", "a"),)), "b": ChatRequest("tiny", (Message("user", "b"),))},
    )
    runner = Runner(Instant(), cache=cache, prices=prices)
    assert runner.cost == 0
    provider = Instant()
    provider.name = "openai"  # type: ignore[misc]
    runner = Runner(provider, cache=cache, prices=prices)
    list(runner.run({"a": requests["a"]}))
    assert runner.cost == pytest.approx((10 * 2.5 + 1 * 10) / 1e6)
    list(runner.run({"a": requests["a"]}))
    assert runner.cost == pytest.approx((10 * 2.5 + 1 * 10) / 1e6)
    list(runner.run(requests))
    assert runner.cost is None
    assert Runner(provider).cost is None


def test_no_thread_is_left_behind(cache: ReplyCache) -> None:
    before = threading.active_count()
    list(Runner(Instant(), cache=cache).run(Lazy(10)))
    assert threading.active_count() == before
