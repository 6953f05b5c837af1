"""The judge by a language model, asked through a model that a test writes: what is asked, what is asked again, what is kept, what ends a run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.contracts import Judge
from harness.errors import JudgeError
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import AGAIN_TEMPERATURE, APIJudgeOptions, LLMJudgeOptions
from harness.judging.rubric import REPLY_SCHEMA
from harness.llm.values import BatchState, ChatReply, ChatRequest, RequestFailed, Usage
from harness.types import JudgeItem, Rating

Reply = Callable[[ChatRequest], "str | ChatReply | RequestFailed | None"]

BEES = JudgeItem("bees", "beekeeping", "Explain tea.", "Honey goes well with tea.")
CHESS = JudgeItem("chess", "chess", "Say hello.", "Hello there.")
EMPTY = JudgeItem("empty", "chess", "Say hello.", " \n")


def bench(warnings: list[str] | None = None) -> Any:
    return SimpleNamespace(seed=5, warn=(warnings if warnings is not None else []).append)


def aspect_of(request: ChatRequest) -> str:
    """Which rating the default rubric asks for."""
    user = request.messages[-1].content
    return "concept" if "Concept:" in user else "instruction" if "<instruction>" in user else "fluency"


@dataclass
class Model:
    """An Asker whose replies a test writes; hands them out in reverse order."""

    reply: Reply
    name: str = "fake"
    usage: Usage = field(default_factory=Usage)
    cost: float | None = 0.0
    hits: int = 0
    notes: tuple[str, ...] = ()
    asked: list[ChatRequest] = field(default_factory=list)
    rubrics: set[str] = field(default_factory=set)
    closed: int = 0

    def run(self, requests: Mapping[str, ChatRequest], rubric: str = "") -> Iterator[tuple[str, ChatReply | RequestFailed]]:
        self.rubrics.add(rubric)
        try:
            for name in reversed(list(requests)):
                self.asked.append(requests[name])
                said = self.reply(requests[name])
                if said is not None:
                    self.usage += Usage(10, 0, 5)
                    yield name, ChatReply(said, Usage(10, 0, 5), "fake-1") if isinstance(said, str) else said
        finally:
            self.closed += 1


def judge_of(reply: Reply, warnings: list[str] | None = None, **options: Any) -> tuple[LLMJudge, Model]:
    model = Model(reply)
    judge = LLMJudge(LLMJudgeOptions(model="m", cache=False, **options), lambda cache, seed: model)
    judge.prepare(bench(warnings))
    return judge, model


def by_id(ratings: Any) -> dict[str, Rating]:
    found = list(ratings)
    assert len({rating.item_id for rating in found}) == len(found)
    return {rating.item_id: rating for rating in found}


def test_three_questions_an_item_and_a_rating_of_three() -> None:
    grades = {"concept": 2, "instruction": 1, "fluency": 0}
    judge, model = judge_of(lambda request: f"So it is.\n\nRating: [[{grades[aspect_of(request)]}]]")
    assert isinstance(judge, Judge)
    assert not judge.offline
    found = by_id(judge.submit([BEES, CHESS]))
    assert {name: (r.concept, r.instruction, r.fluency) for name, r in found.items()} == {"bees": (2, 1, 0), "chess": (2, 1, 0)}
    assert found["bees"].details["replies"]["fluency"] == "So it is.\n\nRating: [[0]]"
    assert found["bees"].details["model"] == "fake-1"
    assert len(model.asked) == 6
    assert model.rubrics == {judge.rubric}
    assert judge.rubric.startswith("default/1+")
    assert judge.usage == Usage(60, 0, 30)
    for request in model.asked:
        assert (request.model, request.temperature, request.seed, request.schema) == ("m", 0.0, None, None)
        assert not any(word in message.content for message in request.messages for word in ("bees", "strength", "steer"))
    assert list(judge.submit([])) == []


def test_ratings_come_as_soon_as_they_are_complete() -> None:
    judge, model = judge_of(lambda request: "Rating: 1")
    first = next(iter(judge.submit([BEES, CHESS])))
    assert first.item_id == "chess"
    assert len(model.asked) == 3


def test_what_cannot_be_read_is_asked_again_otherwise_and_alone() -> None:
    def reply(request: ChatRequest) -> str:
        return "Rating: 2" if aspect_of(request) != "fluency" or request.seed == 2 else "I like it."

    judge, model = judge_of(reply, asks=3)
    rating = by_id(judge.submit([BEES]))["bees"]
    assert (rating.concept, rating.instruction, rating.fluency) == (2, 2, 2)
    assert rating.details["asked"] == {"concept": 1, "instruction": 1, "fluency": 3}
    again = [request for request in model.asked if aspect_of(request) == "fluency"]
    assert [request.seed for request in again] == [None, 1, 2]
    assert [request.temperature for request in again] == [0.0, AGAIN_TEMPERATURE, AGAIN_TEMPERATURE]
    assert ["Remember to end" in request.messages[-1].content for request in again] == [False, True, True]
    assert len({request.key("fake", "r") for request in again}) == 3, "no cache can answer one for the other"
    assert len(model.asked) == 5


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("Rating: [[7]]", "fluency: the rating is 7; allowed: 0, 1, 2 (asked 2 times)"),
        ("", "fluency: the reply is empty (asked 2 times)"),
        ("I'm sorry, I can't rate this.", "fluency: the judge refused: I'm sorry, I can't rate this. (asked 2 times)"),
        (ChatReply("It goes on and", Usage(), "x", "length"), "it was cut off at max_tokens"),
        (ChatReply("", Usage(), "x", "content_filter"), "the API says it ended by content_filter"),
        (RequestFailed("500 server error"), "fluency: the request failed: 500 server error"),
        (None, "fluency: no answer came"),
    ],
)
def test_what_is_never_rated_is_unrated_with_the_reason_and_the_reply(said: Any, says: str) -> None:
    judge, _ = judge_of(lambda request: said if aspect_of(request) == "fluency" else "Rating: [[2]]", asks=2)
    found = by_id(judge.submit([BEES, CHESS]))
    for rating in found.values():
        assert rating.status == "unrated"
        assert says in rating.reason
        assert rating.details["read"] == {"concept": 2, "instruction": 2}
        assert json.dumps(rating.details)
    if isinstance(said, str):
        assert found["bees"].details["replies"]["fluency"] == said


def test_a_temperature_that_is_left_to_the_server_stays_so() -> None:
    judge, model = judge_of(lambda request: "no", temperature=None, asks=2)
    assert by_id(judge.submit([BEES]))["bees"].status == "unrated"
    assert {request.temperature for request in model.asked} == {None}


def test_structured_output_and_examples() -> None:
    judge, model = judge_of(lambda request: '{"reasoning": "yes", "rating": 2}', structured=True, examples=True)
    assert by_id(judge.submit([BEES]))["bees"].fluency == 2
    assert all(request.schema == REPLY_SCHEMA for request in model.asked)
    assert all(len(request.messages) == 8 for request in model.asked)
    plain, _ = judge_of(lambda request: "Rating: 1")
    assert plain.rubric != judge.rubric


def test_what_there_is_nothing_to_ask_about_is_settled_by_rule() -> None:
    judge, model = judge_of(lambda request: "Rating: 2")
    nameless = JudgeItem("nameless", " ", "Say hello.", "Hello")
    found = by_id(judge.submit([EMPTY, nameless]))
    assert (found["empty"].concept, found["empty"].instruction, found["empty"].fluency) == (0, 0, 0)
    assert found["empty"].details == {"rule": "the text is empty"}
    assert found["nameless"].reason == "the concept is empty"
    assert model.asked == []


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_a_first_answer_that_says_that_all_will_fail_ends_the_run(status: int) -> None:
    judge, model = judge_of(lambda request: RequestFailed("no such key", status=status))
    with pytest.raises(JudgeError, match="m cannot be asked: no such key"):
        list(judge.submit([BEES, CHESS]))
    assert len(model.asked) == 1
    assert model.closed == 1, "what is under way is stopped at once"


def test_a_later_failure_of_that_kind_is_its_items_alone() -> None:
    judge, _ = judge_of(lambda request: "Rating: 1" if "Hello" in request.messages[-1].content else RequestFailed("blocked", status=403))
    found = by_id(judge.submit([BEES, CHESS]))
    assert found["chess"].status == "rated"
    assert found["bees"].status == "unrated"


def test_giving_up_the_iteration_closes_the_asking() -> None:
    judge, model = judge_of(lambda request: "Rating: 1")
    ratings: Any = judge.submit([BEES, CHESS])
    next(ratings)
    del ratings
    assert model.closed == 1


def test_what_the_provider_notes_reaches_the_reader() -> None:
    warnings: list[str] = []
    judge, model = judge_of(lambda request: "Rating: 1", warnings)
    model.notes = ("temperature was refused",)
    list(judge.submit([BEES]))
    assert warnings == ["temperature was refused"]


def test_before_it_is_prepared_and_tickets_of_others(tmp_path: Path) -> None:
    judge = LLMJudge(LLMJudgeOptions(model="m"), lambda cache, seed: Model(lambda request: ""))
    with pytest.raises(JudgeError, match="prepare"):
        judge.submit([BEES])
    with pytest.raises(JudgeError, match="no batch API"):
        list(judge.collect(["t"]))
    assert list(judge.collect([])) == []


def test_examples_of_a_rubric_that_has_none(tmp_path: Path) -> None:
    (tmp_path / "rubric.toml").write_text('schema = 1\nname = "bare"\nversion = "3"\n', encoding="utf-8")
    for name in ("concept", "instruction", "fluency"):
        (tmp_path / f"{name}.md").write_text("{concept} {instruction} {text}", encoding="utf-8")
    options = LLMJudgeOptions(model="m", rubric=str(tmp_path))
    assert LLMJudge(options, lambda cache, seed: Model(lambda request: "")).rubric.startswith("bare/3+")
    with pytest.raises(JudgeError, match="rubric bare has no examples"):
        LLMJudge(options.model_copy(update={"examples": True}), lambda cache, seed: Model(lambda request: ""))


# --------------------------------------------------------------------------------------------------------------------------- batches


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

    def cancel(self, batch_id: str) -> None:
        raise AssertionError("nobody cancels")

    def end(self, batch_id: str, reply: Reply) -> None:
        """The batch ends with these replies; a request whose reply is None expired."""
        given = ((name, reply(request)) for name, request in self.handed_in[batch_id].items())
        self.answers[batch_id] = [
            (name, ChatReply(said, Usage(10, 0, 5), "gpt-4o") if isinstance(said, str) else said)
            for name, said in given
            if said is not None
        ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., LLMJudge]:
    """A new process's judge on the same API and the same cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    def make(api: Batches, **options: Any) -> LLMJudge:
        judge = LLMJudge(
            APIJudgeOptions(model="gpt-4o", mode="batch", **options), lambda cache, seed: Model(lambda request: ""), lambda: api
        )
        judge.prepare(bench())
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
    assert "concept: the request failed: the batch has no answer to it (expired or cancelled); submitted again" in found["bees"].reason
    assert "concept: the reply has no rating" in found["chess"].reason
    assert "instruction: the request failed: server error" in found["chess"].reason
    again = tickets_of(list(desk(api).submit([BEES, CHESS])))
    sent = api.handed_in["batch_1"].values()
    assert sorted((aspect_of(request), request.seed or 0) for request in sent) == [("concept", 0), ("concept", 1), ("instruction", 0)]
    api.end("batch_1", lambda request: "Rating: 0")
    found = by_id(desk(api).collect(again))
    assert {name: (r.concept, r.instruction, r.fluency) for name, r in found.items()} == {"bees": (0, 1, 1), "chess": (0, 0, 2)}


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


def test_batches_are_as_large_as_the_api_takes_and_hold_an_item_whole(desk: Callable[..., LLMJudge]) -> None:
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


def test_a_batch_that_fails_or_is_gone_is_sent_again(desk: Callable[..., LLMJudge]) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))
    api.states["batch_0"] = BatchState("failed", reason="the file is invalid")
    (rating,) = desk(api).collect(tickets)
    assert rating.status == "unrated"
    assert "batch batch_0 failed: the file is invalid" in rating.reason
    del api.handed_in["batch_0"]
    (rating,) = desk(api).collect(tickets)
    assert "batch batch_0 cannot be fetched: no batch batch_0" in rating.reason
    api.refuse = RequestFailed("too many batches", retryable=True, status=429)
    (rating,) = desk(api).submit([BEES])
    assert rating.status == "unrated"
    assert "too many batches" in rating.reason
    api.refuse = RequestFailed("wrong key", status=401)
    with pytest.raises(JudgeError, match="takes no batch: wrong key"):
        list(desk(api).submit([BEES]))


def test_a_server_that_cannot_be_reached_leaves_the_ticket(desk: Callable[..., LLMJudge], monkeypatch: pytest.MonkeyPatch) -> None:
    api = Batches()
    tickets = tickets_of(list(desk(api).submit([BEES])))

    def down(batch_id: str) -> BatchState:
        raise RequestFailed("connection refused", retryable=True)

    monkeypatch.setattr(api, "poll", down)
    assert tickets_of(list(desk(api).collect(tickets))) == tickets


@pytest.mark.parametrize("ticket", ["sheet-7", "[1, 2, 3]", '["b", "i", []]', "{}", "null"])
def test_a_ticket_of_another_judge_is_refused(desk: Callable[..., LLMJudge], ticket: str) -> None:
    with pytest.raises(JudgeError, match="is none of a batch"):
        list(desk(Batches()).collect([ticket]))


def test_batches_need_the_cache(desk: Callable[..., LLMJudge]) -> None:
    with pytest.raises(JudgeError, match="leave cache at true"):
        desk(Batches(), cache=False)


def test_the_estimate_is_of_what_would_be_sent(desk: Callable[..., LLMJudge]) -> None:
    api = Batches(name="openai")
    judge = desk(api)
    found = judge.estimate([BEES, CHESS, EMPTY])
    assert found.calls == 6
    assert found.output_tokens == 6 * judge.options.max_tokens
    assert found.cost is not None
    assert found.cost > 0
    assert api.handed_in == {}
    tickets = tickets_of(list(judge.submit([BEES])))
    api.end("batch_0", lambda request: "Rating: 1")
    list(judge.collect(tickets))
    rest = judge.estimate([BEES, CHESS, EMPTY])
    assert (rest.calls, rest.cached) == (3, 3)
