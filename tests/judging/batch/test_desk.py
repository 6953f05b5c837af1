"""Rating through a batch API that a test writes: what is handed in, what is never handed in twice, what is made of what comes back."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.waiting import wait_for

from harness.chat.batch.anthropic import AnthropicBatches
from harness.chat.batch.openai import OpenAIBatches
from harness.chat.client.cache import Entry, ReplyCache
from harness.chat.providers.anthropic import AnthropicProvider
from harness.chat.providers.openai import OpenAIProvider
from harness.chat.values import AcceptanceUnknown, BatchState, ChatReply, ChatRequest, RequestFailed, UnconfirmedBatch, Usage
from harness.contracts import Work
from harness.errors import JudgeError
from harness.judging.batch.tickets import Ticket
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import APIJudgeOptions
from harness.types import JudgeItem, Rating

Reply = Callable[[ChatRequest], "str | ChatReply | RequestFailed | None"]

BEES = JudgeItem("bees", "beekeeping", "Explain tea.", "Honey goes well with tea.")
CHESS = JudgeItem("chess", "chess", "Say hello.", "Hello there.")
EMPTY = JudgeItem("empty", "chess", "Say hello.", " \n")
MANY = [JudgeItem(f"item {i}", "chess", "Say hello.", f"Hello number {i}.") for i in range(4)]


def aspect_of(request: ChatRequest) -> str:
    """Which rating the default rubric asks for."""
    user = request.messages[-1].content
    return "concept" if "Concept:" in user else "instruction" if "<instruction>" in user else "fluency"


def by_id(ratings: Any) -> dict[str, Rating]:
    found = list(ratings)
    assert len({rating.item_id for rating in found}) == len(found)
    return {rating.item_id: rating for rating in found}


@dataclass
class Batches:
    """A batch API in memory, whose state a test sets."""

    name: str = "fake"
    max_requests: int = 100
    max_bytes: int = 10**6
    notes: tuple[str, ...] = ()
    handed_in: dict[str, dict[str, ChatRequest]] = field(default_factory=dict)
    answers: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    states: dict[str, BatchState] = field(default_factory=dict)
    refuse: RequestFailed | None = None
    schema: bool = True

    def takes_schema(self, model: str) -> bool:
        return self.schema

    def find(self, unconfirmed: UnconfirmedBatch) -> list[str]:
        raise RequestFailed("no list")

    def submit(self, requests: Mapping[str, ChatRequest]) -> str:
        if self.refuse is not None:
            raise self.refuse
        assert 0 < len(requests) <= self.max_requests
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in requests)
        name = f"batch_{len(self.handed_in)}"
        self.handed_in[name] = dict(requests)
        return name

    def poll(self, batch_id: str) -> BatchState:
        if batch_id not in self.handed_in:
            raise RequestFailed(f"no batch {batch_id}", status=404)
        return self.states.get(batch_id, BatchState("ended" if batch_id in self.answers else "running"))

    def results(self, batch_id: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        yield from reversed(self.answers[batch_id])

    def end(self, batch_id: str, reply: Reply) -> None:
        """The batch ends with these replies; a request whose reply is None expired."""
        given = ((name, reply(request)) for name, request in self.handed_in[batch_id].items())
        self.answers[batch_id] = [
            (name, ChatReply(said, Usage(10, 0, 5), "gpt-4o") if isinstance(said, str) else said)
            for name, said in given
            if said is not None
        ]

    @property
    def sent(self) -> list[str]:
        """The keys of all requests that were handed in."""
        return [key for requests in self.handed_in.values() for key in requests]


def no_calls(cache: Any, seed: int) -> Any:
    raise AssertionError("a batch judge sends nothing one by one")


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LLMJudge]:
    """A new process's judge on the same API and the same cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    def make(api: Batches, **options: Any) -> LLMJudge:
        judge = LLMJudge(APIJudgeOptions(model="gpt-4o", mode="batch", **options), no_calls, lambda: api)
        judge.prepare(SimpleNamespace(seed=5, warn=lambda message: None))  # type: ignore[arg-type]
        return judge

    return make


def tickets_of(ratings: Sequence[Rating]) -> list[str]:
    assert {rating.status for rating in ratings} == {"pending"}
    return [rating.ticket for rating in ratings]


def test_a_batch_is_handed_in_and_collected_by_another_process(desk: Callable[..., LLMJudge]) -> None:
    api = Batches(name="openai")
    tickets = tickets_of(list(desk(api).submit([BEES, CHESS])))
    assert [len(requests) for requests in api.handed_in.values()] == [6]
    later = desk(api)
    assert tickets_of(list(later.collect(tickets))) == tickets, "still running"
    api.end("batch_0", lambda request: f"Rating: [[{ {'concept': 2, 'instruction': 1, 'fluency': 0}[aspect_of(request)] }]]")
    found = by_id(later.collect(tickets))
    assert {name: (r.concept, r.instruction, r.fluency) for name, r in found.items()} == {"bees": (2, 1, 0), "chess": (2, 1, 0)}
    assert later.usage == Usage(60, 0, 30)
    assert later.cost == pytest.approx((60 * 2.5 + 30 * 10) / 1e6 / 2), "half the price"
    assert by_id(later.collect(tickets)) == found, "collected again: the same"
    assert later.usage == Usage(60, 0, 30), "and paid for once"
    again = by_id(desk(api).submit([BEES, CHESS]))
    assert {rating.status for rating in again.values()} == {"rated"}, "the cache answers"
    assert len(api.handed_in) == 1


def test_only_what_expired_failed_or_cannot_be_read_is_sent_again(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES, CHESS])))

    def first(request: ChatRequest) -> str | RequestFailed | None:
        if "Honey" in request.messages[-1].content:
            return None if aspect_of(request) == "concept" else "Rating: [[1]]"
        return {"concept": "hm", "instruction": RequestFailed("server error", retryable=True), "fluency": "Rating: 2"}[aspect_of(request)]

    api.end("batch_0", first)
    found = by_id(desk(api).collect(tickets))
    assert {rating.status for rating in found.values()} == {"unrated"}
    assert "concept: the request failed: the batch has no answer to it that can be read" in found["bees"].reason
    assert found["bees"].reason.endswith("; submitted again, it is sent again")
    assert "concept: the reply has no rating" in found["chess"].reason
    assert "instruction: the request failed: server error" in found["chess"].reason
    again = tickets_of(list(desk(api).submit([BEES, CHESS])))
    sent = api.handed_in["batch_1"].values()
    assert sorted((aspect_of(request), request.seed or 0) for request in sent) == [("concept", 0), ("concept", 1), ("instruction", 0)]
    api.end("batch_1", lambda request: "Rating: 0")
    found = by_id(desk(api).collect(again))
    assert {name: (r.concept, r.instruction, r.fluency) for name, r in found.items()} == {"bees": (0, 1, 1), "chess": (0, 0, 2)}


def test_a_schema_that_is_refused_in_a_batch_is_left_out_of_the_next(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))
    assert all(request.schema is not None for request in api.handed_in["batch_0"].values())
    api.end("batch_0", lambda request: RequestFailed("response_format: unsupported; the next batch asks in words alone", retryable=True, status=400))
    assert by_id(desk(api).collect(tickets))["bees"].status == "unrated"
    api.schema = False
    again = tickets_of(list(desk(api).submit([BEES])))
    assert len(api.handed_in["batch_1"]) == 3
    assert all(request.schema is None for request in api.handed_in["batch_1"].values())
    api.end("batch_1", lambda request: "Rating: [[1]]")
    assert by_id(desk(api).collect(again))["bees"].status == "rated"


def test_what_was_fetched_of_a_batch_is_rated_though_the_rest_of_it_is_gone(desk: Callable[..., LLMJudge]) -> None:
    """The file of errors has been deleted, say: the results of the other file are paid for and here."""
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES, CHESS])))
    api.end("batch_0", lambda request: None if "Hello" in request.messages[-1].content else "Rating: [[1]]")
    complete = api.results

    def results(batch_id: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        yield from complete(batch_id)
        raise RequestFailed("no such file", status=404)

    api.results = results  # type: ignore[method-assign]
    for _ in range(2):
        found = by_id(desk(api).collect(tickets))
        assert {name: rating.status for name, rating in found.items()} == {"bees": "rated", "chess": "pending"}
        assert "-J resend=true" in found["chess"].reason


def test_answers_to_what_was_not_asked_are_counted_named_and_passed_over(desk: Callable[..., LLMJudge], tmp_path: Path) -> None:
    """Neither an id of another kind nor the key of some other question: a server does not choose under which key a reply is kept."""
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES, CHESS])))
    api.end("batch_0", lambda request: "Rating: [[1]]")
    foreign = ["line-7", "f" * 64, "x\x1b[31m" + "y" * 100]
    api.answers["batch_0"] += [(name, ChatReply("Rating: [[2]]", Usage(1000, 0, 0), "gpt-4o")) for name in foreign]
    api.answers["batch_0"].insert(0, ("other", RequestFailed("400", status=400)))
    warned: list[str] = []
    later = desk(api)
    later.prepare(SimpleNamespace(seed=5, warn=warned.append))  # type: ignore[arg-type]
    assert {rating.status for rating in later.collect(tickets)} == {"rated"}
    assert later.usage == Usage(60, 0, 30), "what is not ours is not counted as ours"
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        assert len(cache) == 6
    (note,) = warned
    assert note.startswith("fake: 4 answers in the results of batch_0 to what was not asked, passed over: ")
    assert all(part in note for part in ("line-7", "f" * 39 + "…", "other"))
    assert "\x1b" not in note
    api.answers["batch_0"] = [("line-7", ChatReply("Rating: [[2]]", Usage(), "gpt-4o"))]
    with pytest.raises(JudgeError) as error:
        list(desk(api, max_tokens=9).collect([str(replace(Ticket.read(tickets[0]), keys=("0" * 64,) * 3))]))
    assert error.value.given == "batch_0"
    assert "the run it was made for" in error.value.hint


def test_asking_in_batches_ends(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    for round_ in range(2):
        tickets = tickets_of(list(desk(api, asks=2).submit([BEES])))
        api.end(f"batch_{round_}", lambda request: "no")
        assert by_id(desk(api, asks=2).collect(tickets))["bees"].status == "unrated"
    (rating,) = desk(api, asks=2).submit([BEES])
    assert rating.status == "unrated"
    assert "asked 2 times" in rating.reason
    assert len(api.handed_in) == 2


def test_batches_are_as_large_as_the_api_takes_and_never_part_an_item(desk: Callable[..., LLMJudge]) -> None:
    items = [JudgeItem(f"item {i}/…", "chess", "Say hello.", f"Hello number {i}.") for i in range(10)]
    api = Batches(max_requests=7)
    ratings = list(desk(api).submit(items))
    assert [len(requests) for requests in api.handed_in.values()] == [6, 6, 6, 6, 6]
    for batch in api.handed_in:
        api.end(batch, lambda request: "Rating: 1")
    assert sorted(by_id(desk(api).collect(tickets_of(ratings)))) == sorted(item.id for item in items)
    small = Batches(max_bytes=12_000)
    list(desk(small, temperature=1).submit(items))
    assert len(small.handed_in) > 1


def test_a_batch_that_fails_is_sent_again_by_the_next_run_and_one_that_is_not_taken_says_why(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([MANY[0]])))
    api.end("batch_0", lambda request: "Rating: 1")
    list(desk(api).collect(tickets))
    tickets = tickets_of(list(desk(api).submit([BEES])))
    api.states["batch_1"] = BatchState("failed", reason="the file is invalid")
    judge = desk(api)
    (rating,) = judge.collect(tickets)
    assert rating.status == "unrated"
    assert "batch batch_1 failed: the file is invalid; submitted again, it is sent again" in rating.reason
    found = by_id(judge.submit([BEES, CHESS]))
    assert (found["bees"], found["chess"].status, len(api.handed_in)) == (rating, "pending", 3), (
        "what failed just now is not handed in again"
    )
    tickets = tickets_of(list(desk(api).submit([BEES])))
    assert (len(api.handed_in), Ticket.read(tickets[0]).batches) == (4, ("batch_3",) * 3), "a failed batch holds nothing back"
    api.refuse = RequestFailed("too many batches", retryable=True, status=429)
    (rating,) = desk(api).submit([MANY[1]])
    assert rating.status == "unrated"
    assert "too many batches" in rating.reason
    for status in (401, 403):
        api.refuse = RequestFailed("wrong key", status=status)
        with pytest.raises(JudgeError) as error:
            list(desk(api).submit([MANY[1]]))
        assert error.value.given == "fake"
        assert "wrong key" in error.value.message
        assert "key, account and the option model" in error.value.hint


@pytest.mark.parametrize("status", [404, 410, None])
def test_a_batch_that_the_server_does_not_know_is_not_paid_for_twice(
    desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch, status: int | None
) -> None:
    """The key of another project, say: with the right one it is all there."""
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))

    def unknown(batch_id: str) -> BatchState:
        raise RequestFailed(f"no batch {batch_id}", status=status)

    monkeypatch.setattr(api, "poll", unknown)
    (rating,) = desk(api).collect(tickets)
    assert (rating.status, rating.ticket) == ("pending", tickets[0])
    assert "batch batch_0 cannot be fetched: no batch batch_0; use the key of the project that handed it in" in rating.reason
    assert "-J resend=true" in rating.reason
    assert tickets_of(list(desk(api).submit([BEES]))) == tickets
    assert len(api.handed_in) == 1
    lost = desk(api, resend=True)
    (rating,) = lost.collect(tickets)
    assert rating.status == "unrated"
    assert tickets_of(list(lost.submit([BEES]))) != tickets
    assert len(api.handed_in) == 2


def test_a_server_that_cannot_be_reached_leaves_the_ticket(desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))

    def down(batch_id: str) -> BatchState:
        raise RequestFailed("connection refused", retryable=True)

    monkeypatch.setattr(api, "poll", down)
    assert tickets_of(list(desk(api).collect(tickets))) == tickets


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_that_is_refused_when_collecting_is_said_at_once(
    desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))

    def refused(batch_id: str) -> BatchState:
        raise RequestFailed("forbidden", status=status)

    monkeypatch.setattr(api, "poll", refused)
    with pytest.raises(JudgeError) as error:
        list(desk(api).collect(tickets))
    assert error.value.given == "batch_0"
    assert "forbidden" in error.value.message
    assert "key and account" in error.value.hint


@pytest.mark.parametrize("ticket", ["sheet-7", "[1, 2, 3]", '["b", "i", []]', "{}", "null"])
def test_a_ticket_of_another_judge_is_refused(desk: Callable[..., LLMJudge], ticket: str) -> None:
    with pytest.raises(JudgeError) as error:
        list(desk(Batches()).collect([ticket]))
    assert error.value.given == ticket
    assert repr(ticket) in error.value.message
    assert "the judge that gave it" in error.value.hint


def test_batches_need_the_cache(desk: Callable[..., LLMJudge]) -> None:
    with pytest.raises(JudgeError) as error:
        desk(Batches(), cache=False)
    assert error.value.given is False
    assert "mode=batch" in error.value.message
    assert "cache at true" in error.value.hint


def test_the_estimate_is_of_what_would_be_sent(desk: Callable[..., LLMJudge]) -> None:
    api = Batches(name="openai")
    judge = desk(api)
    found = judge.estimate(Work(items=[BEES, CHESS, EMPTY]))
    assert found.calls == 6
    assert found.output_tokens == 6 * judge.options.max_tokens
    assert found.cost is not None
    assert found.cost > 0
    assert api.handed_in == {}
    tickets = tickets_of(list(judge.submit([BEES])))
    api.end("batch_0", lambda request: "Rating: 1")
    list(judge.collect(tickets))
    rest = judge.estimate(Work(items=[BEES, CHESS, EMPTY]))
    assert (rest.calls, rest.cached) == (3, 3)


def test_a_batch_that_fails_before_anything_was_answered_ends_the_run(desk: Callable[..., LLMJudge]) -> None:
    """A wrong model, say: OpenAI takes such a batch, and each run would wait for the next one."""
    api = Batches()
    tickets = tickets_of(list(desk(api, batch_size=6).submit(MANY)))
    failed = BatchState("failed", reason="The model does not exist. (model_not_found)")
    api.states["batch_0"] = failed
    judge = desk(api, batch_size=6)
    assert [rating.status for rating in judge.collect(tickets)] == ["unrated"] * 2 + ["pending"] * 2, "another one still runs"
    assert [rating.status for rating in judge.submit(MANY[:2])] == ["unrated"] * 2
    api.states["batch_1"] = failed
    ratings: Any = iter(desk(api, batch_size=6).collect(tickets))
    assert [next(ratings).status for _ in MANY] == ["unrated"] * 4
    with pytest.raises(JudgeError) as error:
        next(ratings)
    assert error.value.given == "gpt-4o"
    assert all(part in error.value.message for part in ("gpt-4o", "batch_0", failed.reason))
    assert "option model" in error.value.hint
    assert "anew" in error.value.hint
    assert len(api.handed_in) == 2


# ------------------------------------------------------------------------------------------------------------ handed in only once


def test_an_interrupt_before_the_tickets_are_kept_loses_nothing(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    ratings: Any = desk(api).submit([BEES, CHESS])
    first = next(ratings)
    del ratings
    again = list(desk(api).submit([BEES, CHESS]))
    assert len(api.sent) == 6
    assert first.ticket in tickets_of(again)
    assert {Ticket.read(rating.ticket).batches for rating in again} == {("batch_0",) * 3}
    api.end("batch_0", lambda request: "Rating: 1")
    assert {rating.status for rating in desk(api).collect(tickets_of(again))} == {"rated"}


def test_ctrl_c_while_a_batch_is_handed_in_is_heeded_when_it_is_noted(
    desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    api = Batches()
    hand_in = api.submit

    def slow(requests: Mapping[str, ChatRequest]) -> str:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(0.4)
        return hand_in(requests)

    monkeypatch.setattr(api, "submit", slow)
    with pytest.raises(KeyboardInterrupt):
        list(desk(api).submit([BEES, CHESS]))
    assert len(api.sent) == 6
    assert len(tickets_of(list(desk(api).submit([BEES, CHESS])))) == 2
    assert len(api.sent) == 6, "what the interrupted process handed in is known"


def test_no_other_process_hands_in_while_an_interrupted_one_still_does(
    desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A second Ctrl-C cannot stop the upload, so the lock is held until its end is noted."""
    api = Batches()
    hand_in = api.submit

    def slow(requests: Mapping[str, ChatRequest]) -> str:
        for pause in (0.1, 0.3):
            threading.Timer(pause, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(0.7)
        return hand_in(requests)

    monkeypatch.setattr(api, "submit", slow)
    with pytest.raises(KeyboardInterrupt):
        list(desk(api).submit([BEES, CHESS]))
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        assert len(api.sent) == 6, "heeded when all is over"
        assert {cache.batch_of(key) for key in api.sent} == {"batch_0"}
    assert [record.getMessage() for record in caplog.records if "Ctrl-C" in record.getMessage()] == [
        "a batch is being handed in; Ctrl-C is heeded when it is noted, else it would be paid for twice"
    ]


def test_who_waits_for_another_process_is_warned(
    desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("harness.judging.batch.rate.PATIENCE", 0.1)
    api = Batches()
    list(desk(api).submit([BEES]))
    assert "waiting" not in caplog.text
    other = ReplyCache(tmp_path / "replies.sqlite")
    with other.handing_in():
        waiting = threading.Thread(target=lambda: list(desk(api).submit([CHESS])))
        waiting.start()
        wait_for(lambda: "waiting" in caplog.text)
        assert "waiting for another process that is handing in batches" in caplog.text
        assert len(api.handed_in) == 1
    waiting.join()
    assert len(api.handed_in) == 2


def test_a_reply_that_another_process_fetches_between_two_looks_is_not_paid_for_again(
    desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not in the cache at the first look, and in no batch any more at the second."""
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))
    api.end("batch_0", lambda request: "Rating: 1")
    batch_of = ReplyCache.batch_of
    collected: list[bool] = []

    def after_the_other(cache: ReplyCache, key: str) -> str | None:
        if not collected:
            collected.append(True)
            assert [rating.status for rating in desk(api).collect(tickets)] == ["rated"]
        return batch_of(cache, key)

    monkeypatch.setattr(ReplyCache, "batch_of", after_the_other)
    plan = desk(api)._open_desk()._plan(BEES)
    assert (plan.requests, plan.batches, plan.hits) == ({}, {}, 3)
    assert len(api.handed_in) == 1


def test_equal_requests_are_handed_in_once_whoever_asks(desk: Callable[..., LLMJudge]) -> None:
    """Fluency shows the text alone, the instruction's rating text and instruction: texts share requests, in several batches, calls and runs."""
    asked = [
        JudgeItem(f"{c} {i} {t}", c, i, t) for c, i, t in (("bees", "x", "T"), ("bees", "y", "U"), ("chess", "x", "T"), ("chess", "z", "U"))
    ]
    api = Batches(max_requests=6)
    first = list(desk(api).submit(asked[:3]))
    second = list(desk(api).submit(asked))
    assert len(api.sent) == len(set(api.sent)) == 9
    for batch in api.handed_in:
        api.end(batch, lambda request: "Rating: 1")
    for ratings in (first, second):
        assert {rating.status for rating in desk(api).collect(tickets_of(ratings))} == {"rated"}
    assert {rating.status for rating in desk(api).submit(asked)} == {"rated"}


def test_two_processes_that_hand_in_at_once_share_the_work(desk: Callable[..., LLMJudge]) -> None:
    api = Batches(max_requests=6)
    ours: Any = desk(api).submit(MANY)
    mine = [next(ours)]  # its first batch is handed in, the rest is planned
    theirs = tickets_of(list(desk(api).submit(MANY)))
    mine += ours
    assert len(api.sent) == len(set(api.sent)) == 12
    assert sorted(tickets_of(mine)) == sorted(theirs)


def test_an_item_waits_for_all_its_batches(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    list(desk(api).submit([JudgeItem("other", "chess", BEES.instruction, BEES.text)]))
    (rating,) = desk(api).submit([BEES])
    assert Ticket.read(rating.ticket).batches == ("batch_1", "batch_0", "batch_0")
    assert (rating.reason, len(api.sent)) == ("batch batch_0, batch_1 has not ended", 4)
    api.end("batch_1", lambda request: "Rating: 2")
    assert tickets_of(list(desk(api).collect([rating.ticket]))) == [rating.ticket]
    api.end("batch_0", lambda request: "Rating: 0")
    (found,) = desk(api).collect([rating.ticket])
    assert (found.concept, found.instruction, found.fluency) == (2, 0, 0)


def test_what_expired_is_open_no_more(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))
    api.end("batch_0", lambda request: None)
    assert [rating.status for rating in desk(api).collect(tickets)] == ["unrated"]
    assert len(tickets_of(list(desk(api).submit([BEES])))) == 1
    assert len(api.sent) == 6


def test_tickets_of_an_earlier_version_are_collected(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    (rating,) = desk(api).submit([BEES])
    ticket = Ticket.read(rating.ticket)
    api.end("batch_0", lambda request: "Rating: 1")
    (found,) = desk(api).collect([json.dumps(["batch_0", "bees", ticket.keys])])
    assert (found.item_id, found.status) == ("bees", "rated")


# ------------------------------------------------------------------------------------------------------------ unconfirmed batches


@pytest.fixture
def server(api_servers: Any) -> Iterator[Any]:
    with api_servers.ApiServer() as running:
        yield running


def anthropic(server: Any) -> Any:
    return AnthropicBatches(AnthropicProvider(base_url=server.url, timeout=5.0), "gpt-4o", wait=0.01)


def end(server: Any, batch: str, rating: int = 1) -> None:
    lines = [
        {"custom_id": one["custom_id"], "result": {"type": "succeeded", "message": server_message(f"Rating: {rating}")}}
        for one in server.batches[batch]["requests"]
    ]
    server.end_anthropic(batch, lines)


def server_message(text: str) -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    usage = {"input_tokens": 9, "output_tokens": 5}
    return {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": content, "stop_reason": "end_turn", "usage": usage}


def test_a_batch_whose_acceptance_got_lost_is_found_and_paid_for_once(desk: Callable[..., LLMJudge], server: Any, api_servers: Any) -> None:
    server.fail("/v1/messages/batches", api_servers.Reply(how="reset"))
    first = list(desk(anthropic(server)).submit([BEES, CHESS]))
    tickets = tickets_of(first)
    (reason,) = {rating.reason for rating in first}
    assert "whether the batch was taken is unknown" in reason
    assert "looks for it in the API's list" in reason
    assert "?" not in reason, "no name of ours is shown to people"
    for judge in (desk(anthropic(server)), desk(anthropic(server), resend=True)):
        still = [*judge.collect(tickets), *judge.submit([BEES, CHESS])]
        assert tickets_of(still) == tickets * 2
        assert all(
            rating.reason.startswith("batch msgbatch_0 has not ended; it seems to be the batch of 6 requests of ") for rating in still
        )
    end(server, "msgbatch_0", 2)
    judge = desk(anthropic(server))
    assert [(rating.status, rating.concept) for rating in judge.collect(tickets)] == [("rated", 2)] * 2
    assert judge.usage == Usage(54, 0, 30)
    assert {rating.status for rating in desk(anthropic(server)).submit([BEES, CHESS])} == {"rated"}
    assert server.count("POST", "/v1/messages/batches") == 1


def test_a_run_without_tickets_finds_it_as_well(desk: Callable[..., LLMJudge], server: Any, api_servers: Any) -> None:
    server.fail("/v1/messages/batches", api_servers.Reply(how="cut"))
    list(desk(anthropic(server)).submit([BEES]))
    end(server, "msgbatch_0")
    (rating,) = desk(anthropic(server)).submit([BEES])
    assert Ticket.read(rating.ticket).batches == ("msgbatch_0",) * 3
    assert [rating.status for rating in desk(anthropic(server)).collect([rating.ticket])] == ["rated"]
    assert len(server.batches) == 1


def test_a_batch_that_is_not_found_waits_until_it_is_given_up(desk: Callable[..., LLMJudge], server: Any, api_servers: Any) -> None:
    server.fail("/v1/messages/batches", api_servers.Reply(b"", 502))
    tickets = tickets_of(list(desk(anthropic(server)).submit([BEES])))
    assert server.batches == {}
    list(desk(anthropic(server)).submit([CHESS]))  # as large, made at that time, but known
    judge = desk(anthropic(server))
    (rating,) = judge.collect(tickets)
    assert (rating.status, rating.ticket) == ("pending", tickets[0])
    assert "was taken is unknown: none in the API's list fits; look there, and where it is missing, -J resend=true has it" in rating.reason
    assert tickets_of(list(judge.submit([BEES]))) == tickets
    assert len(server.batches) == 1
    server.fail("/v1/messages/batches", api_servers.Reply({"error": {"message": "no"}}, 403))
    (rating,) = desk(anthropic(server), resend=True).collect(tickets)
    assert rating.status == "pending", "a key that sees no list gives up nothing"
    assert "the API's list of batches cannot be read (anthropic" in rating.reason
    judge = desk(anthropic(server), resend=True)
    assert [rating.status for rating in judge.collect(tickets)] == ["unrated"]
    (rating,) = judge.submit([BEES])
    assert Ticket.read(rating.ticket).batches == ("msgbatch_1",) * 3
    end(server, "msgbatch_1")
    assert [rating.status for rating in desk(anthropic(server)).collect([rating.ticket])] == ["rated"]


def test_of_several_that_fit_the_answers_decide(desk: Callable[..., LLMJudge], server: Any, api_servers: Any) -> None:
    """A colleague with the same account, and another cache, hands in as many at that time."""
    colleague = anthropic(server)
    colleague.submit({f"x{number}": ChatRequest("m", ()) for number in range(3)})
    server.fail("/v1/messages/batches", api_servers.Reply(how="reset"))
    tickets = tickets_of(list(desk(anthropic(server)).submit([BEES])))
    (rating,) = desk(anthropic(server)).collect(tickets)
    assert "2 batches in the API's list fit (msgbatch_1, msgbatch_0); look there" in rating.reason
    end(server, "msgbatch_0")
    (rating,) = desk(anthropic(server)).collect(tickets)
    assert "batch msgbatch_1 has not ended; it seems to be" in rating.reason
    end(server, "msgbatch_1", 2)
    assert [(rating.status, rating.concept) for rating in desk(anthropic(server)).collect(tickets)] == [("rated", 2)]
    assert len(server.batches) == 2


def test_an_unconfirmed_openai_batch_is_known_by_its_file(desk: Callable[..., LLMJudge], server: Any, api_servers: Any) -> None:
    def openai() -> OpenAIBatches:
        return OpenAIBatches(OpenAIProvider(base_url=f"{server.url}/v1", timeout=5.0), "gpt-4o", wait=0.01)

    server.fail("/v1/batches", *[api_servers.Reply(how="reset")] * 5)
    first = list(desk(openai()).submit([BEES]))
    assert "whether the batch was taken is unknown" in first[0].reason
    (rating,) = desk(openai()).collect(tickets_of(first))
    assert (rating.status, rating.reason) == ("pending", "batch batch_0 has not ended"), "found while it runs"
    assert Ticket.read(rating.ticket).batches == ("batch_0",) * 3
    assert server.count("POST", "/v1/batches") == 1


def test_after_an_unconfirmed_batch_nothing_more_is_handed_in_by_this_process(desk: Callable[..., LLMJudge], tmp_path: Path) -> None:
    """And an API of one's own without a list leaves the rest to people."""
    api = Batches(max_requests=6, refuse=AcceptanceUnknown("the line broke; it is unknown", UnconfirmedBatch(1e9, 1e9 + 9, 6)))
    ratings = list(desk(api).submit(MANY))
    tickets = tickets_of(ratings)
    assert [rating.reason.partition(";")[0] for rating in ratings] == ["the line broke"] * 2 + [
        "not handed in, since it is unknown whether the batch before it was taken"
    ] * 2
    api.refuse = None
    judge = desk(api)
    found = by_id(judge.collect(tickets))
    assert [rating.status for rating in found.values()] == ["pending"] * 2 + ["unrated"] * 2
    assert (
        "whether the batch of 6 requests of 2001-09-09 01:46 UTC was taken is unknown: the API's list of batches" in found["item 0"].reason
    )
    list(judge.submit(MANY))
    assert [len(requests) for requests in api.handed_in.values()] == [6], "what was held back, and no more"


# ------------------------------------------------------------------------------------------------------------ sizes and limits


def test_a_batch_may_be_bounded(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    list(desk(api, batch_size=7).submit(MANY))
    assert [len(requests) for requests in api.handed_in.values()] == [6, 6]
    assert desk(api, batch_size=7).questions.identity == desk(api).questions.identity


LIMIT = "429 Too Many Requests: Enqueued token limit reached for gpt-4o. Limit: 90,000 enqueued tokens (token_limit_exceeded)"


def test_what_the_account_cannot_enqueue_waits(desk: Callable[..., LLMJudge]) -> None:
    """OpenAI takes such a batch and fails it later. Handed in again at once, at the same size, it fails again."""
    api = Batches(max_requests=6)
    tickets = tickets_of(list(desk(api).submit(MANY)))
    api.states["batch_1"] = BatchState("failed", reason=LIMIT)
    judge = desk(api)
    found = by_id(judge.collect(tickets))
    waiting = [rating for rating in found.values() if "Enqueued token limit" in rating.reason]
    assert [rating.status for rating in found.values()] == ["pending"] * 4
    assert len(waiting) == 2
    (line,) = {rating.reason for rating in waiting}
    assert "run the same command again when other batches have ended, or lower -J batch_size (now 6)" in line
    (fresh,) = judge.submit([BEES])
    assert (fresh.status, fresh.reason) == ("pending", line), "nothing more is handed in by this process"
    assert len(api.handed_in) == 2
    later = desk(api, batch_size=3)
    again = by_id(later.collect([rating.ticket for rating in (*waiting, fresh)]))
    assert {rating.status for rating in again.values()} == {"unrated"}
    assert "not been handed in yet" in again["bees"].reason
    assert len(tickets_of(list(later.submit([BEES, *(item for item in MANY if item.id in again)])))) == 3
    assert [len(requests) for requests in api.handed_in.values()] == [6, 6, 3, 3, 3]


def test_a_batch_that_is_refused_for_that_limit_waits_as_well(desk: Callable[..., LLMJudge]) -> None:
    api = Batches(max_requests=6, refuse=RequestFailed(LIMIT, retryable=True, status=429))
    judge = desk(api)
    assert {(rating.status, "lower -J batch_size" in rating.reason) for rating in judge.submit(MANY)} == {("pending", True)}
    api.refuse = None
    tickets = tickets_of(list(judge.submit([BEES])))
    assert api.handed_in == {}
    assert [rating.status for rating in desk(api).collect(tickets)] == ["unrated"]
    assert len(tickets_of(list(desk(api).submit([BEES])))) == len(api.handed_in) == 1


def test_a_batch_of_which_every_line_is_refused_is_not_sent_again_at_once(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit(MANY)))
    api.end("batch_0", lambda request: RequestFailed(f"400: no such rubric (request req_{id(request)})", status=400))
    judge = desk(api)
    assert {rating.status for rating in judge.collect(tickets)} == {"unrated"}
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY))
    assert error.value.given == "gpt-4o"
    assert "400: no such rubric" in error.value.message
    assert "check the rubric" in error.value.hint
    assert len(api.handed_in) == 1


def test_texts_that_are_refused_are_no_such_case(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([*MANY, BEES])))
    api.end("batch_0", lambda request: "Rating: 1" if "Honey" in str(request) else RequestFailed("400: blocked", status=400))
    judge = desk(api)
    assert by_id(judge.collect(tickets))["bees"].status == "rated"
    assert len(tickets_of(list(judge.submit(MANY)))) == 4


# ------------------------------------------------------------------------------------------------------------ what comes back


def test_no_further_ask_is_promised_when_all_are_used_up(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    said = []
    for number in range(2):
        tickets = tickets_of(list(desk(api, asks=2).submit([BEES])))
        api.end(f"batch_{number}", lambda request: "no")
        (rating,) = desk(api, asks=2).collect(tickets)
        said.append(rating)
    assert ["it is sent again" in rating.reason for rating in said] == [True, False]
    assert "(asked 2 times)" in said[1].reason
    assert said[1].details["asked"] == {"concept": 2, "instruction": 2, "fluency": 2}


def test_a_reply_that_was_cut_off_is_not_asked_for_again(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))
    api.end("batch_0", lambda request: ChatReply("", Usage(10, 0, 400), "o9", "length"))
    (rating,) = desk(api).collect(tickets)
    assert "raise -J max_tokens" in rating.reason
    assert "sent again" not in rating.reason
    assert [rating.status for rating in desk(api).submit([BEES])] == ["unrated"]
    assert len(api.handed_in) == 1


def test_a_reply_that_came_another_way_counts_though_the_batch_failed_at_it(desk: Callable[..., LLMJudge], tmp_path: Path) -> None:
    api = Batches()
    (rating,) = desk(api).submit([BEES])
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put(Ticket.read(rating.ticket).keys[0], ChatReply("Rating: 2", Usage(7, 0, 7), "gpt-4o"))
    api.end("batch_0", lambda request: RequestFailed("server error", retryable=True) if aspect_of(request) == "concept" else "Rating: 1")
    (found,) = desk(api).collect([rating.ticket])
    assert (found.concept, found.instruction, found.fluency) == (2, 1, 1)


def test_half_a_character_in_a_reply_blocks_nothing(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))
    api.end("batch_0", lambda request: ChatReply("half \ud83d Rating: [[1]]", Usage(10**25, 0, 5), "x\ud83d"))
    (rating,) = desk(api).collect(tickets)
    assert rating.status == "rated"
    json.dumps(rating.details, ensure_ascii=False).encode()


def test_what_a_batch_cost_is_counted_once(desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A download that breaks, and one reply that another process has paid for one by one meanwhile."""
    api = Batches()
    (rating,) = desk(api).submit([BEES])
    keys = Ticket.read(rating.ticket).keys
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put_many([Entry(keys[0], ChatReply("Rating: 2", Usage(7, 0, 7), "gpt-4o"))])
    api.end("batch_0", lambda request: "Rating: 1")
    complete = api.results

    def torn(batch_id: str) -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        yield from itertools.islice(complete(batch_id), 2)
        raise RequestFailed("the connection broke", retryable=True)

    judge = desk(api)
    with monkeypatch.context() as patch:
        patch.setattr(api, "results", torn)
        (still,) = judge.collect([rating.ticket])
    assert still.status == "pending"
    assert judge.usage == Usage(20, 0, 10)
    (found,) = judge.collect([rating.ticket])
    assert (found.concept, found.instruction, found.fluency) == (2, 1, 1)
    assert judge.usage == Usage(30, 0, 15)


def test_what_is_open_in_a_batch_costs_nothing_more(desk: Callable[..., LLMJudge]) -> None:
    api = Batches(name="openai")
    judge = desk(api)
    list(judge.submit([BEES]))
    found = desk(api).estimate(Work(items=[BEES, CHESS]))
    assert (found.calls, found.cached, found.most.calls) == (3, 3, 9)
    assert desk(api).estimate(Work(items=[BEES])).most.calls == 0
