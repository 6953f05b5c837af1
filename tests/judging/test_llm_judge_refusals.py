"""The judge by a language model and failures: what ends a run, and what is its text's alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.judges import BEES, CHESS, MANY, Model, aspect_of, bench, by_id, judge_of

from harness.chat.client.cache import ReplyCache
from harness.chat.values import IN_A_ROW, ChatReply, ChatRequest, RequestFailed, Usage
from harness.errors import JudgeError
from harness.judging.llm_judge import LLMJudge
from harness.judging.questions import LLMJudgeOptions, advice
from harness.types import JudgeItem, Rating


def counted(judge: LLMJudge, items: list[JudgeItem]) -> int:
    """How many ratings came before the run was ended."""
    came: list[Rating] = []
    with pytest.raises(JudgeError) as caught:
        came.extend(judge.submit(items))
    assert "\n" not in str(caught.value)
    assert caught.value.given == judge.options.model
    assert "what was rated is kept" in caught.value.hint
    return len(came)


def test_an_account_that_is_empty_from_the_start_ends_the_run_at_once() -> None:
    judge, model = judge_of(lambda request: RequestFailed("400 Bad Request: Your credit balance is too low", status=402))
    assert counted(judge, MANY) == 0
    assert len(model.asked) == 1


@pytest.mark.parametrize("status", [401, 402, 404, 407])
def test_a_first_answer_that_says_that_all_will_fail_ends_the_run(status: int) -> None:
    failure = RequestFailed("no such key", status=status)
    judge, model = judge_of(lambda request: failure)
    with pytest.raises(JudgeError) as error:
        list(judge.submit([BEES, CHESS]))
    assert (error.value.given, error.value.hint) == ("m", advice(failure))
    assert "no such key" in error.value.message
    assert len(model.asked) == 1
    assert model.closed == 1, "what is under way is stopped at once"


def test_a_later_failure_of_that_kind_is_its_items_alone() -> None:
    judge, _ = judge_of(lambda request: "Rating: 1" if "Hello" in request.messages[-1].content else RequestFailed("blocked", status=403))
    found = by_id(judge.submit([BEES, CHESS]))
    assert found["chess"].status == "rated"
    assert found["bees"].status == "unrated"


@pytest.mark.parametrize(
    "failure",
    [
        RequestFailed("400: System role not supported", status=400),
        RequestFailed("429: You exceeded your current quota (insufficient_quota)", status=429),
        RequestFailed("no answer within 30 s; given up after 6 attempts", retryable=True),
    ],
)
def test_a_server_that_refuses_everything_is_asked_ten_times(failure: RequestFailed) -> None:
    judge, model = judge_of(lambda request: failure, concurrency=1)
    assert counted(judge, MANY) == 3
    assert len(model.asked) == IN_A_ROW


def test_ids_in_the_reasons_do_not_hide_that_they_are_the_same() -> None:
    judge, model = judge_of(
        lambda request: RequestFailed(f"400: no ({len(model.asked)}, request req_{id(request)}a)", status=400), concurrency=1
    )
    assert counted(judge, MANY) == 3
    assert len(model.asked) == IN_A_ROW


def test_refusals_that_are_faster_than_the_first_replies_are_waited_out() -> None:
    """A filter answers at once, a model after a while: with 64 requests under way, many refusals may come before the first reply."""

    def reply(request: ChatRequest) -> Any:
        return RequestFailed("400: blocked", status=400) if len(model.asked) <= 72 else "Rating: 1"

    judge, model = judge_of(reply)
    assert sum(rating.status == "rated" for rating in judge.submit(MANY)) == 76
    judge, model = judge_of(reply)
    assert counted(judge, MANY[:20]) == 20, "all were refused: no entry is made of them, though they were fewer than may be under way"
    judge, model = judge_of(reply)
    assert {rating.status for rating in judge.submit(MANY[:3])} == {"unrated"}, "too few to tell"


def test_refusals_of_texts_are_those_texts_alone() -> None:
    """Other reasons, replies between them, or a model that has replied before: each says that the next text may be taken."""

    def mixed(request: ChatRequest) -> Any:
        n = int(re.findall(r"number (\d+)", request.messages[-1].content)[0])
        return "Rating: 1" if n % 4 == 0 else RequestFailed("400: blocked", status=400)

    judge, _ = judge_of(mixed)
    assert sum(rating.status == "unrated" for rating in judge.submit(MANY)) == 75
    kinds = iter("abcdefghijklmnopqrstuvwxyz" * 12)
    judge, _ = judge_of(lambda request: RequestFailed(f"400: blocked, kind {next(kinds)}", status=400))
    assert {rating.status for rating in judge.submit(MANY)} == {"unrated"}


def test_a_model_that_has_replied_before_refuses_texts_not_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is asked again in a later run is just what was refused before; it must not keep the run from its entry."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    reply = ChatReply("Rating: 1", Usage(), "m")
    options = LLMJudgeOptions(model="m", concurrency=1)
    judge = LLMJudge(options, lambda cache, seed: Model(lambda request: RequestFailed("400: blocked", status=400)))
    judge.prepare(bench())
    assert counted(judge, MANY) == 3
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put("0" * 64, reply, provider="fake", model="m", rubric=judge.traits.rubric)
    judge.prepare(bench())
    assert {rating.status for rating in judge.submit(MANY)} == {"unrated"}


def test_an_account_that_runs_dry_ends_the_run_wherever_it_is() -> None:
    def reply(request: ChatRequest) -> Any:
        return "Rating: 1" if len(model.asked) <= 150 else RequestFailed("429: quota (insufficient_quota)", status=429)

    judge, model = judge_of(reply)
    assert counted(judge, MANY) == 53
    assert len(model.asked) == 160


def test_replies_from_the_cache_say_nothing_of_the_server() -> None:
    def reply(request: ChatRequest) -> Any:
        cached = replace(ChatReply("Rating: 1", Usage(), "m"), from_cache=True)
        return cached if aspect_of(request) == "fluency" else RequestFailed("wrong key", status=401)

    judge, model = judge_of(reply)
    assert counted(judge, MANY) == 0
    assert len(model.asked) == 2
