"""The judge by a language model: what it will cost at most, with every repeat, and what is not paid for again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.judges import BEES, EMPTY, MANY, bench

from harness.chat.values import ChatReply, ChatRequest, Usage
from harness.contracts import Work
from harness.errors import JudgeError
from harness.judging.llm_judge import UNREADABLE, LLMJudge, ask_api
from harness.judging.questions import LLMJudgeOptions
from harness.types import JudgeItem


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[LLMJudge, Any]]:
    """A judge on a runner and a cache, whose provider gives the same reply to everything: judge and provider."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))

    class Provider:
        name = "openai"
        notes: tuple[str, ...] = ()

        def __init__(self, text: str) -> None:
            self.text, self.sent = text, 0

        def takes_schema(self, model: str) -> bool:
            return True

        async def complete(self, request: ChatRequest) -> ChatReply:
            self.sent += 1
            return ChatReply(self.text, Usage(20, 0, request.max_tokens), "gpt-4o")

        async def close(self) -> None:
            pass

    def make(text: str = "I like it.", **options: Any) -> tuple[LLMJudge, Any]:
        provider = Provider(text)
        built = LLMJudgeOptions(model="gpt-4o", **options)
        judge = LLMJudge(built, lambda cache, seed: ask_api(provider, built, cache, seed))
        judge.prepare(bench())
        return judge, provider

    return make


@pytest.mark.parametrize("structured", ["auto", True, False])
def test_the_estimate_is_a_bound_with_every_repeat(
    paid: Callable[..., tuple[LLMJudge, Any]], monkeypatch: pytest.MonkeyPatch, structured: Any
) -> None:
    monkeypatch.setattr("harness.judging.llm_judge.UNREADABLE", 1000)
    items = MANY[:20]
    judge, provider = paid(structured=structured)
    found = judge.estimate(Work(items=items))
    assert (found.calls, found.most.calls) == (60, 180)
    assert (found.output_tokens, found.most.output_tokens) == (60 * 400, 180 * 400)
    assert found.cost is not None
    assert found.most.cost is not None
    assert 2.7 * found.cost < found.most.cost < 3.5 * found.cost, "a repeat says a little more, and has no schema"
    assert {rating.status for rating in judge.submit(items)} == {"unrated"}
    assert provider.sent == found.most.calls
    assert judge.usage.output == found.most.output_tokens
    assert judge.cost is not None
    assert judge.cost <= found.most.cost


def test_the_estimate_goes_on_where_the_asks_stopped(
    paid: Callable[..., tuple[LLMJudge, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First asks that are in the cache, unreadable: a kill between the rounds, or more asks allowed."""
    monkeypatch.setattr("harness.judging.llm_judge.UNREADABLE", 1000)
    items = MANY[:20]
    list(paid(asks=1)[0].submit(items))
    judge, provider = paid(asks=6)
    found = judge.estimate(Work(items=items))
    assert (found.calls, found.cached, found.most.calls) == (60, 60, 300)
    list(judge.submit(items))
    assert provider.sent == found.most.calls
    assert paid(asks=6)[0].estimate(Work(items=items)).most.calls == 0, "nothing is left to ask"
    readable, other = paid("Rating: 1", max_tokens=99)
    list(readable.submit(items))
    assert (readable.estimate(Work(items=items)).most.calls, other.sent) == (0, 60)


def test_equal_questions_count_once_in_an_estimate(paid: Callable[..., tuple[LLMJudge, Any]]) -> None:
    judge, _ = paid()
    same = [BEES, JudgeItem("again", BEES.concept, BEES.instruction, BEES.text), EMPTY]
    found = judge.estimate(Work(items=same))
    assert (found.calls, found.most.calls, found.cached) == (3, 9, 3)
    assert (paid(asks=1)[0].estimate(Work(items=same)).repeats, paid(asks=1)[0].estimate(Work(items=same)).most.calls) == (None, 3)


def test_a_model_that_gives_no_rating_is_not_paid_for_again_and_again(paid: Callable[..., tuple[LLMJudge, Any]]) -> None:
    judge, provider = paid(concurrency=4, structured=False)
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY[:40]))
    assert error.value.given == "I like it."
    assert all(part in error.value.message for part in (f"{UNREADABLE} replies", "gpt-4o", "'I like it.'"))
    assert "another model" in error.value.hint
    assert 20 <= provider.sent <= 30
    sent = provider.sent
    with pytest.raises(JudgeError) as error:
        list(judge.submit(MANY[:40]))  # the cache answers, so it is found out again for nothing
    assert error.value.given == "I like it."
    assert provider.sent - sent <= 10
