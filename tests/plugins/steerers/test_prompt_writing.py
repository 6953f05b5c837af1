"""Writers: asked again where nothing came, told apart from silence, what it costs known before; a real HTTP server on loopback answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from harness_plugins.steerers.prompt.writing import AGAIN, APIWriter, Commission, Written

from harness.chat.client.cache import ReplyCache
from harness.chat.cost import Price, Prices
from harness.chat.providers.openai import OpenAIProvider
from harness.chat.values import IN_A_ROW, ChatReply, ChatRequest, RequestFailed, Usage
from harness.errors import OptionError

WORK = Commission("Write of {concept}.", "tiny-1", "test/1")
REFUSES = "I'm sorry, but I can't help with that."
Reply = ChatReply | RequestFailed


def answering(
    answers: Mapping[str, list[Reply]], seen: list[ChatRequest]
) -> Callable[[Mapping[str, ChatRequest]], Iterator[tuple[str, Reply]]]:
    """A writer that gives each subject's answers one after the other, the last subject first."""
    left = {subject: list(replies) for subject, replies in answers.items()}

    def answer(requests: Mapping[str, ChatRequest]) -> Iterator[tuple[str, Reply]]:
        for subject in reversed(list(requests)):
            seen.append(requests[subject])
            yield subject, left[subject].pop(0)

    return answer


def said(text: str, finish: str = "stop", **more: Any) -> ChatReply:
    return ChatReply(text, Usage(10, 0, 5), "tiny-1-2026", finish, **more)


def test_what_is_not_written_is_asked_for_again_and_then_told() -> None:
    seen: list[ChatRequest] = []
    answers = {
        "bees": [said("Mention bees.")],
        "ants": [said(REFUSES), said("Instruction: Mention ants.")],
        "wasps": [said(REFUSES), said(""), said("Mention wasps and", "length")],
    }
    found = WORK.write(list(answers), answering(answers, seen))
    assert list(found) == ["bees", "ants", "wasps"]
    assert found["bees"] == Written("Mention bees.", "", "tiny-1-2026", 1)
    assert found["ants"] == Written("Mention ants.", "", "tiny-1-2026", 2)
    assert found["wasps"] == Written("", "the reply was cut off", "tiny-1-2026", 3)
    assert [len(request.messages) for request in seen] == [1] * 6
    asked = [request for request in seen if "wasps" in request.messages[0].content]
    assert [(request.temperature, request.seed) for request in asked] == [(0.0, None), (0.7, 1), (0.7, 2)]
    assert [request.messages[0].content.endswith(AGAIN) for request in asked] == [False, True, True]
    assert len({request.key("api", "test/1") for request in seen}) == 6


@pytest.mark.parametrize("status", [401, 402, 404])
def test_a_wrong_key_ends_the_work_whatever_the_cache_holds(status: int) -> None:
    wrong = RequestFailed("no such model", status=status)
    answers: dict[str, list[Reply]] = {"ants": [wrong], "bees": [said("Mention bees.", from_cache=True)]}
    with pytest.raises(OptionError) as told:
        WORK.write(list(answers), answering(answers, []))
    assert (told.value.given, told.value.hint) == ("tiny-1", WORK.advice)
    assert wrong.reason in told.value.message
    assert "\n" not in str(told.value)


def test_a_failure_that_passes_is_no_template() -> None:
    answers: dict[str, list[Reply]] = {"ants": [said("Mention ants.")], "bees": [RequestFailed("busy" * 300, retryable=True, status=503)]}
    with pytest.raises(RequestFailed) as told:
        WORK.write(list(answers), answering(answers, []))
    assert (told.value.given, told.value.status, told.value.retryable) == (["bees"], 503, True)
    assert all(part in told.value.reason for part in ("1 of 2", "tiny-1", "'bees'", "busy", told.value.hint))
    assert "same command" in told.value.hint


@pytest.mark.parametrize("status", [400, 403])
def test_a_subject_that_the_server_refuses_gets_nothing_and_a_reason(status: int) -> None:
    """Moderated text: 403 at OpenRouter. It is the first to be answered."""
    refused = RequestFailed("content policy", status=status)
    answers: dict[str, list[Reply]] = {"ants": [said("Mention ants.")], "bees": [refused]}
    found = WORK.write(list(answers), answering(answers, []))
    assert (found["bees"].text, found["bees"].reason) == ("", "the request failed: content policy")
    assert found["ants"].text == "Mention ants."
    with pytest.raises(OptionError) as told:  # all of them: not a matter of the subject
        WORK.write(["ants", "bees"], answering({"ants": [refused], "bees": [refused]}, []))
    assert (told.value.given, told.value.hint) == ("tiny-1", WORK.advice)
    assert refused.reason in told.value.message


def test_a_key_that_is_refused_everywhere_is_no_template_though_the_cache_answers_some() -> None:
    refused = RequestFailed("forbidden", status=403)
    answers: dict[str, list[Reply]] = {"bees": [said("Mention bees.", from_cache=True)]}
    answers |= {f"matter {number}": [refused] for number in range(IN_A_ROW - 1)}
    assert WORK.write(list(answers), answering(answers, []))["bees"].text == "Mention bees.", "so few may be a matter of the subjects"
    answers["one more"] = [refused]
    with pytest.raises(OptionError) as told:
        WORK.write(list(answers), answering(answers, []))
    assert (told.value.given, told.value.hint) == ("tiny-1", WORK.advice)
    assert refused.reason in told.value.message


def test_subjects_are_put_in_as_they_are() -> None:
    assert WORK.request("{braces} and \\1").messages[0].content == "Write of {braces} and \\1."


@pytest.fixture
def writer(serve: Callable[..., Any], loopback: Any, tmp_path: Path) -> Iterator[tuple[APIWriter, Any]]:
    """A writer whose server refuses whatever is about wasps, and the server."""

    def handle(path: str, raw: bytes) -> Any:
        question = json.loads(raw)["messages"][0]["content"]
        subject = question.split("Write of ")[1].split(".")[0]
        return loopback.chat_answer(REFUSES if subject == "wasps" else f"Sure!\n\nMention {subject} often.", tokens_in=40, tokens_out=9)

    server = serve(handle)
    provider = OpenAIProvider(base_url=f"{server.url}/v1")
    prices = Prices("2026-01-01", {(provider.name, "tiny-1"): Price(1.0, 2.0)})
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        yield APIWriter(provider, WORK, cache=cache, prices=prices, timeout=10.0), server


def test_the_bound_holds_and_what_is_paid_for_is_counted(writer: tuple[APIWriter, Any]) -> None:
    api, server = writer
    subjects = ["ants", "bees", "wasps"]
    before = api.estimate(subjects)
    assert (before.calls, before.most.calls, len(server.bodies())) == (3, 9, 0)
    found = api.write(subjects)
    assert [found[subject].text for subject in subjects] == ["Mention ants often.", "Mention bees often.", ""]
    assert len(server.bodies()) == 5  # wasps three times
    assert api.usage == Usage(5 * 40, 0, 5 * 9)
    assert api.cost == pytest.approx((5 * 40 + 2 * 5 * 9) / 1e6)
    assert before.most.cost is not None
    assert api.cost <= before.most.cost
    after = api.estimate([*subjects, "ants"])
    assert (after.calls, after.most.calls, after.cached) == (0, 0, 5)
    assert api.write(subjects) == found
    assert (len(server.bodies()), api.hits) == (5, 5)


def test_an_unusable_reply_in_the_cache_leaves_the_further_asks_to_be_paid(writer: tuple[APIWriter, Any], tmp_path: Path) -> None:
    api, _ = writer
    with ReplyCache(tmp_path / "replies.sqlite") as cache:
        cache.put(WORK.request("ants").key(api.name, WORK.version), said(REFUSES))
    found = api.estimate(["ants"])
    assert (found.calls, found.most.calls, found.cached) == (1, 2, 1)
