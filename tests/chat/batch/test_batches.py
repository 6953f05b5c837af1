"""The batch APIs against a real server on loopback: handing in, polling, results in any order, what is lost on the way."""

from __future__ import annotations

import json
import logging
import random
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers import server as api

from harness.chat.batch.anthropic import AnthropicBatches
from harness.chat.batch.base import PAGES
from harness.chat.batch.openai import OpenAIBatches
from harness.chat.providers.anthropic import AnthropicProvider
from harness.chat.providers.openai import OpenAIProvider
from harness.chat.values import (
    AcceptanceUnknown,
    BatchProvider,
    BatchState,
    ChatReply,
    ChatRequest,
    Message,
    NotReached,
    RequestFailed,
    SchemaRefused,
    UnconfirmedBatch,
    Usage,
)

MODEL = "gpt-4o-mini"
KEY = "sk-proj-0123456789abcdefghijKLMNOP"


def request(number: int = 0, model: str = MODEL) -> ChatRequest:
    return ChatRequest(model, (Message("system", "Rate."), Message("user", f"Text {number}, groß 🌧")), max_tokens=40)


REQUESTS = {f"r-{number}": request(number) for number in range(6)}


@pytest.fixture
def server() -> Iterator[Any]:
    with api.ApiServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_BASE_URL",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def openai(server: Any) -> OpenAIBatches:
    return OpenAIBatches(OpenAIProvider(base_url=f"{server.url}/v1", timeout=5.0), MODEL, wait=0.01)


@pytest.fixture
def anthropic(server: Any) -> AnthropicBatches:
    return AnthropicBatches(AnthropicProvider(base_url=server.url, timeout=5.0), MODEL, wait=0.01)


def chat_line(name: str, text: str = "Rating: [[2]]", status: int = 200, body: Any = None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "x", "body": body or api.completion(f"{text} {name}")}
    return {"id": f"batch_req_{name}", "custom_id": name, "response": response, "error": None}


def message_line(name: str, kind: str = "succeeded", **result: Any) -> dict[str, Any]:
    result = result or ({"message": api.message(f"Rating: [[2]] {name}")} if kind == "succeeded" else {})
    return {"custom_id": name, "result": {"type": kind, **result}}


def shuffled(lines: list[Any]) -> list[Any]:
    return random.Random(5).sample(lines, len(lines))


# ---------------------------------------------------------------------------------------------------- OpenAI


def test_openai_batch_from_handing_in_to_results_in_a_later_process(server: Any, openai: OpenAIBatches) -> None:
    assert isinstance(openai, BatchProvider)
    batch_id = openai.submit(REQUESTS)
    lines = [json.loads(line) for line in server.files["file_0"].decode().splitlines()]
    assert [line["custom_id"] for line in lines] == list(REQUESTS)
    assert (lines[2]["method"], lines[2]["url"]) == ("POST", "/v1/chat/completions")
    assert lines[2]["body"]["messages"][1]["content"] == "Text 2, groß 🌧"
    assert openai.poll(batch_id) == BatchState("running", 0, 6)
    with pytest.raises(RequestFailed) as caught:
        list(openai.results(batch_id))
    assert (caught.value.given, caught.value.retryable) == ("running", True)
    assert batch_id in caught.value.reason
    server.end_openai(batch_id, shuffled([chat_line(name) for name in REQUESTS]))
    later = OpenAIBatches(OpenAIProvider(base_url=f"{server.url}/v1"), MODEL)
    assert later.poll(batch_id) == BatchState("ended", 6, 6)
    results = dict(later.results(batch_id))
    assert results == {name: ChatReply(f"Rating: [[2]] {name}", Usage(20, 8, 5), "served-model") for name in REQUESTS}
    assert later.notes == ()


def test_openai_items_that_failed_expired_or_got_lost(server: Any, openai: OpenAIBatches) -> None:
    batch_id = openai.submit(REQUESTS)
    errors = [
        {
            "custom_id": "r-1",
            "response": None,
            "error": {"code": "batch_expired", "message": "This request could not be executed in time."},
        },
        chat_line("r-2", status=500, body={"error": {"message": "server had an error"}}),
        chat_line("r-3", status=400, body={"error": {"message": "context too long", "code": "context_length_exceeded"}}),
        chat_line("r-4", body={"choices": []}),
    ]
    server.end_openai(batch_id, [chat_line("r-0")], errors, status="expired")
    assert openai.poll(batch_id).status == "ended"
    results = dict(openai.results(batch_id))
    assert set(results) == set(REQUESTS) - {"r-5"}, "what has no line is missing"
    assert isinstance(results["r-0"], ChatReply)
    failures = {name: result for name, result in results.items() if isinstance(result, RequestFailed)}
    assert {name: failed.retryable for name, failed in failures.items()} == {
        "r-1": True,
        "r-2": True,
        "r-3": False,
        "r-4": True,
    }
    assert "batch_expired" in failures["r-1"].reason


def test_lines_that_are_garbled_or_repeated(server: Any, openai: OpenAIBatches) -> None:
    batch_id = openai.submit({"r-0": request(), "r-1": request(1)})
    odd_lines = [b'{"custom_id": "r-1", "resp', b"[]", {"custom_id": 7}, chat_line("r-9"), chat_line("r-0", "again"), b""]
    server.end_openai(batch_id, [chat_line("r-0"), *odd_lines])
    results = dict(openai.results(batch_id))
    assert results["r-0"].text == "Rating: [[2]] r-0"  # type: ignore[union-attr]
    assert set(results) == {"r-0", "r-9"}, "whose a line is, its reader has to know"
    (note,) = openai.notes
    assert f"4 lines of 6 in the results of {batch_id} passed over" in note
    assert "line 2 (cannot be read), line 3 (cannot be read), line 4 (has no custom_id), line 6 (repeats r-0)" in note


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
@pytest.mark.parametrize("bad", [b'{"custom_id": "r-1", "resp', b"\xff\xfe\x00", b'{"custom_id": "r-1", "x": ' + b"[" * 100_000])
def test_a_batch_with_an_unreadable_line_is_collected_wherever_it_stands(
    server: Any, openai: OpenAIBatches, anthropic: AnthropicBatches, kind: str, bad: bytes
) -> None:
    batches: Any = openai if kind == "openai" else anthropic
    line, end = (chat_line, server.end_openai) if kind == "openai" else (message_line, server.end_anthropic)
    for place in (0, 2, 5):
        batch_id = batches.submit(REQUESTS)
        lines: list[Any] = [line(name) for name in REQUESTS]
        lines[place] = bad
        end(batch_id, lines)
        for name in server.files:
            if name.startswith(batch_id):
                server.files[name] = server.files[name].removesuffix(b"\n")  # the last line may look like a cut download
        assert {name for name, _ in batches.results(batch_id)} == set(REQUESTS) - {list(REQUESTS)[place]}
        assert f"1 line of 6 in the results of {batch_id} passed over: line {place + 1} (cannot be read)" in batches.notes[-1]


def test_a_file_that_is_cut_in_the_same_place_twice_is_still_incomplete(server: Any, openai: OpenAIBatches) -> None:
    """A proxy that cuts at a size: what is missing was answered and paid for, so it must not look as if it had expired."""
    batch_id = openai.submit(REQUESTS)
    server.end_openai(batch_id, [chat_line(name) for name in REQUESTS])
    content = server.files[f"{batch_id}_output_file_id"]
    server.files[f"{batch_id}_output_file_id"] = content[: len(content) // 2 + 10]
    with pytest.raises(RequestFailed) as caught:
        list(openai.results(batch_id))
    assert (caught.value.given, caught.value.retryable) == (4, True)
    assert batch_id in caught.value.reason
    assert "6" in caught.value.reason.replace(batch_id, "")


def test_a_parameter_refused_in_a_batch_is_left_out_of_the_next(server: Any, tmp_path: Path) -> None:
    openai = OpenAIBatches(OpenAIProvider(base_url=f"{server.url}/v1", memory=tmp_path / "refusals.json"), "o9", wait=0.01)
    reasoning = {name: request(1, "o9") for name in ("a", "b")}
    batch_id = openai.submit(reasoning)
    text = "Unsupported value: 'temperature' does not support 0 with this model."
    body = {"error": {"message": text, "param": "temperature", "code": "unsupported_value"}}
    server.end_openai(batch_id, [], [chat_line(name, status=400, body=body) for name in reasoning])
    assert all(failed.retryable for _, failed in openai.results(batch_id))  # type: ignore[union-attr]
    openai.submit({**reasoning, "c": request(2, "gpt-4o")})
    lines = [json.loads(line)["body"] for line in server.files["file_1"].splitlines()]
    assert [("temperature" in line) for line in lines] == [False, False, True]
    assert "o9 refuses temperature" in openai.notes[0]
    (known,) = json.loads((tmp_path / "refusals.json").read_text(encoding="utf-8")).values()
    assert known == {"o9": ["temperature"]}


def test_an_openai_batch_that_does_not_validate_says_why(server: Any, openai: OpenAIBatches) -> None:
    batch_id = openai.submit(REQUESTS)
    server.batches[batch_id] |= {
        "status": "failed",
        "errors": {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]},
    }
    state = openai.poll(batch_id)
    assert state.status == "failed"
    assert "Enqueued token limit reached" in state.reason
    with pytest.raises(RequestFailed) as caught:
        list(openai.results(batch_id))
    assert (caught.value.given, caught.value.reason, caught.value.retryable) == ("failed", state.reason, False)


@pytest.mark.parametrize("lost", [api.Reply(how="reset"), api.Reply(how="cut"), api.Reply(b"<html>", 502)])
def test_an_openai_batch_whose_acceptance_gets_lost_is_not_paid_twice(server: Any, openai: OpenAIBatches, lost: Any) -> None:
    openai.submit({"old": request()})
    server.fail("/v1/batches", lost)
    batch_id = openai.submit(REQUESTS)
    taken = [name for name, batch in server.batches.items() if batch["input_file_id"] == "file_1"]
    assert taken == [batch_id], "one batch of the file, whether the lost call made it or the second"
    assert server.count("POST", "/v1/files") == 2


def test_where_the_server_cannot_say_it_is_not_handed_in_again(server: Any, openai: OpenAIBatches) -> None:
    server.fail("/v1/batches", *[api.Reply(how="reset")] * 5)
    with pytest.raises(AcceptanceUnknown) as caught:
        openai.submit(REQUESTS)
    assert not caught.value.retryable
    assert (caught.value.unconfirmed.file, caught.value.unconfirmed.count) == ("file_0", 6)
    assert server.count("POST", "/v1/batches") == 1
    openai.submit({"other": request()})
    assert openai.find(caught.value.unconfirmed) == ["batch_0"]


def test_a_batch_that_was_never_sent_is_not_unconfirmed(openai: OpenAIBatches, anthropic: AnthropicBatches, server: Any) -> None:
    server.__exit__()
    for batches in (openai, anthropic):
        with pytest.raises(NotReached) as caught:
            batches.submit(REQUESTS)
        assert (caught.value.retryable, caught.value.status) == (True, None)
        assert caught.value.reason.startswith(f"{batches.name}: ")


def test_an_unconfirmed_batch_has_a_name_that_is_read_back() -> None:
    unconfirmed = UnconfirmedBatch(1.5, 2.25, 7, "file-ä")
    assert UnconfirmedBatch.read(str(unconfirmed)) == unconfirmed
    assert [UnconfirmedBatch.read(name) for name in ("msgbatch_1", "", "?", "?[1]", "?[1,2,[],4]")] == [None] * 5


def test_an_unconfirmed_batch_is_looked_for_by_size_and_time_on_all_pages(server: Any, anthropic: AnthropicBatches) -> None:
    now = time.time()

    def one(name: str, age: float, size: int = 6) -> dict[str, Any]:
        made = datetime.fromtimestamp(now - age, timezone.utc).isoformat().replace("+00:00", "Z")
        return {"id": name, "created_at": made, "request_counts": {"processing": 0, "succeeded": size - 1, "errored": 1}}

    pages = [
        {"data": [one("late", -5000), one("a", 1), one("small", 2, 5)], "has_more": True},
        {"data": [one("b", 100), one("old", 5000), one("older", 1)], "has_more": True},
    ]
    server.fail("/v1/messages/batches", *map(api.Reply, pages))
    assert anthropic.find(UnconfirmedBatch(now - 10, now, 6)) == ["a", "b"]
    assert server.count("GET", "/v1/messages/batches") == 2
    endless = {"data": [one("small", 2, 5)], "has_more": True}
    server.fail("/v1/messages/batches", *[api.Reply(endless)] * PAGES)
    with pytest.raises(RequestFailed) as caught:
        anthropic.find(UnconfirmedBatch(now - 10, now, 6))
    assert (caught.value.allowed, caught.value.retryable) == ("5,000 at most", False)


def test_cheap_calls_are_tried_again_and_others_are_not(server: Any, openai: OpenAIBatches) -> None:
    server.fail("/v1/files", api.Reply(b"", 500), api.Reply(how="reset"))
    batch_id = openai.submit(REQUESTS)
    assert server.count("POST", "/v1/files") == 3
    server.fail(f"/v1/batches/{batch_id}", api.Reply({"error": {"message": "busy"}}, 429, {"retry-after": "0.01"}), api.Reply(how="cut"))
    assert openai.poll(batch_id).status == "running"
    with pytest.raises(RequestFailed) as caught:
        openai.poll("batch_of_another_key")
    assert (caught.value.status, caught.value.retryable) == (404, False)
    assert "batch_of_another_key" in caught.value.reason
    server.fail("/v1/batches", api.Reply({"error": {"message": "no"}}, 403))
    with pytest.raises(RequestFailed) as caught:
        openai.submit(REQUESTS)
    assert (caught.value.status, caught.value.retryable) == (403, False)
    assert server.count("POST", "/v1/batches") == 2


def test_a_download_that_breaks_is_fetched_again_completely(server: Any, openai: OpenAIBatches) -> None:
    batch_id = openai.submit(REQUESTS)
    server.end_openai(batch_id, shuffled([chat_line(name) for name in REQUESTS]))
    content = server.files[f"{batch_id}_output_file_id"]
    server.fail("/v1/files", api.Reply(how="cut"), api.Reply(b"", 503), api.Reply(content[:-40]))
    results = list(openai.results(batch_id))
    assert sorted(name for name, _ in results) == sorted(REQUESTS), "each once, though the first downloads broke"
    assert all(isinstance(result, ChatReply) for _, result in results)
    server.fail("/v1/files", *[api.Reply(how="cut")] * 9)
    with pytest.raises(RequestFailed) as caught:
        list(openai.results(batch_id))
    assert caught.value.retryable, "lost on the way is not missing: nothing may be paid for again"


def test_a_file_without_a_line_end_at_its_end_is_complete(server: Any, openai: OpenAIBatches) -> None:
    batch_id = openai.submit({"a": request()})
    server.end_openai(batch_id, [chat_line("a")])
    server.files[f"{batch_id}_output_file_id"] = server.files[f"{batch_id}_output_file_id"].rstrip(b"\n")
    assert [name for name, _ in openai.results(batch_id)] == ["a"]


def test_a_closed_one_opens_again(server: Any, openai: OpenAIBatches, anthropic: AnthropicBatches) -> None:
    for batches in (openai, anthropic):
        batch_id = batches.submit(REQUESTS)
        batches.close()
        assert batches.poll(batch_id).status == "running"


def test_a_server_that_refuses_one_name_of_the_bound_is_sent_the_other(server: Any, openai: OpenAIBatches) -> None:
    """The complaint names both; only the one that was sent is refused."""
    batch_id = openai.submit({"a": request(), "b": request(1)})
    text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    lines = [chat_line(name, status=400, body={"error": {"message": text, "param": "max_tokens"}}) for name in ("a", "b")]
    server.end_openai(batch_id, [], lines)
    assert [failed.retryable for _, failed in openai.results(batch_id)] == [True, True]  # type: ignore[union-attr]
    openai.submit({"a": request()})
    assert json.loads(server.files["file_1"])["body"]["max_completion_tokens"] == 40


def test_a_system_text_refused_in_a_batch_goes_before_the_users_message(server: Any, openai: OpenAIBatches) -> None:
    batch_id = openai.submit({"a": request()})
    server.end_openai(batch_id, [], [chat_line("a", status=400, body={"error": {"message": "System role not supported"}})])
    assert [failed.retryable for _, failed in openai.results(batch_id)] == [True]  # type: ignore[union-attr]
    openai.submit({"a": request()})
    (message,) = json.loads(server.files["file_1"])["body"]["messages"]
    assert message["content"].startswith("Rate.\n\nText 0")


# ---------------------------------------------------------------------------------------------------- Anthropic


def test_anthropic_batch_from_handing_in_to_results(server: Any, anthropic: AnthropicBatches) -> None:
    assert isinstance(anthropic, BatchProvider)
    batch_id = anthropic.submit(REQUESTS)
    handed = server.batches[batch_id]["requests"]
    assert [one["custom_id"] for one in handed] == list(REQUESTS)
    assert handed[1]["params"] == {
        "model": "gpt-4o-mini",
        "max_tokens": 40,
        "temperature": 0.0,
        "system": "Rate.",
        "messages": [{"role": "user", "content": "Text 1, groß 🌧"}],
    }
    assert server.seen[0].headers["anthropic-version"] == "2023-06-01"
    assert anthropic.poll(batch_id) == BatchState("running", 0, 6)
    with pytest.raises(RequestFailed) as caught:
        list(anthropic.results(batch_id))
    assert (caught.value.given, caught.value.retryable) == ("running", True)
    assert batch_id in caught.value.reason
    server.end_anthropic(batch_id, shuffled([message_line(name) for name in REQUESTS]))
    later = AnthropicBatches(AnthropicProvider(base_url=server.url), MODEL)
    assert later.poll(batch_id) == BatchState("ended", 6, 6)
    assert {name: result.text for name, result in later.results(batch_id)} == {name: f"Rating: [[2]] {name}" for name in REQUESTS}  # type: ignore[union-attr]


def test_anthropic_items_that_errored_expired_or_got_lost(server: Any, anthropic: AnthropicBatches) -> None:
    batch_id = anthropic.submit(REQUESTS)

    def error(kind: str, message: str) -> dict[str, Any]:
        return {"type": "error", "error": {"type": kind, "message": message}}

    lines = [
        message_line("r-0"),
        message_line("r-1", "expired"),
        message_line("r-2", "canceled"),
        message_line("r-3", "errored", error=error("invalid_request_error", "messages: too long")),
        message_line("r-4", "errored", error=error("api_error", "internal")),
    ]
    server.end_anthropic(batch_id, lines)
    results = dict(anthropic.results(batch_id))
    failures = {name: result for name, result in results.items() if isinstance(result, RequestFailed)}
    assert {name: failed.retryable for name, failed in failures.items()} == {
        "r-1": True,
        "r-2": True,
        "r-3": False,
        "r-4": True,
    }
    assert "expired" in failures["r-1"].reason
    assert "too long" in failures["r-3"].reason


def test_a_temperature_refused_in_a_batch_is_left_out_of_the_next(server: Any, anthropic: AnthropicBatches) -> None:
    batch_id = anthropic.submit({"a": request()})
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "`temperature` is deprecated for this model."}}
    server.end_anthropic(batch_id, [message_line("a", "errored", error=error)])
    [(_, failed)] = anthropic.results(batch_id)
    assert failed.retryable  # type: ignore[union-attr]
    again = anthropic.submit({"a": request()})
    assert "temperature" not in server.batches[again]["requests"][0]["params"]
    assert "gpt-4o-mini refuses temperature" in anthropic.notes[0]


@pytest.mark.parametrize(
    ("lost", "retryable", "unknown"),
    [
        (api.Reply(how="reset"), False, True),
        (api.Reply(b"", 500), False, True),
        (api.Reply(b"", 429), True, False),
        (api.Reply(b"", 529), True, False),
        (api.Reply({"type": "error", "error": {"type": "invalid_request_error", "message": "no"}}, 400), False, False),
    ],
)
def test_an_anthropic_batch_is_handed_in_once(server: Any, anthropic: AnthropicBatches, lost: Any, retryable: bool, unknown: bool) -> None:
    server.fail("/v1/messages/batches", lost)
    with pytest.raises(RequestFailed) as caught:
        anthropic.submit(REQUESTS)
    assert (caught.value.retryable, "is unknown" in caught.value.reason, isinstance(caught.value, AcceptanceUnknown)) == (retryable, unknown, unknown)
    assert server.count("POST", "/v1/messages/batches") == 1


@pytest.mark.parametrize("name", ["", "a/b", "ä", "x" * 65, "a b", "a\n"])
def test_ids_that_anthropic_does_not_take(server: Any, anthropic: AnthropicBatches, name: str) -> None:
    with pytest.raises(RequestFailed) as caught:
        anthropic.submit({name: request()})
    assert (caught.value.given, caught.value.retryable) == (name, False)
    assert "64" in str(caught.value.allowed)
    assert server.seen == []


def test_the_second_way_of_structured_output_may_be_refused_as_well(server: Any, anthropic: AnthropicBatches) -> None:
    asked = replace(request(), schema={"type": "object"})
    for number, named in enumerate(("tool_choice", "output_config")):
        batch_id = anthropic.submit({"a": asked})
        assert named in server.batches[batch_id]["requests"][0]["params"], number
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": f"{named}: not supported by this model"}}
        server.end_anthropic(batch_id, [message_line("a", "errored", error=error)])
        assert [failed.retryable for _, failed in anthropic.results(batch_id)] == [True]  # type: ignore[union-attr]
    with pytest.raises(SchemaRefused):
        anthropic.submit({"a": asked})
    assert not anthropic.takes_schema(MODEL)
    assert len(server.batches) == 2


# ---------------------------------------------------------------------------------------------------- sizes, keys


def test_batches_beyond_the_limits_are_not_sent(server: Any, openai: OpenAIBatches) -> None:
    openai.max_requests = 5
    with pytest.raises(RequestFailed) as caught:
        openai.submit(REQUESTS)
    assert (caught.value.given, caught.value.allowed, bool(caught.value.hint)) == (6, "5 at most", True)
    assert caught.value.allowed in caught.value.reason, "the reason is what batches are reported with"
    assert caught.value.hint in caught.value.reason
    openai.max_requests, openai.max_bytes = 6, 100
    with pytest.raises(RequestFailed) as caught:
        openai.submit(REQUESTS)
    assert (caught.value.allowed, bool(caught.value.hint)) == ("100 at most", True)
    assert caught.value.given > 100  # type: ignore[operator]
    with pytest.raises(RequestFailed) as caught:
        openai.submit({})
    assert (caught.value.given, caught.value.allowed) == (0, "1 to 6 requests")
    assert server.seen == []


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_no_call_follows_a_redirect(server: Any, monkeypatch: pytest.MonkeyPatch, openai: Any, anthropic: Any, kind: str) -> None:
    batches = openai if kind == "openai" else anthropic
    batch_id = batches.submit(REQUESTS)
    (server.end_openai if kind == "openai" else server.end_anthropic)(batch_id, [])
    with api.ApiServer() as other:
        away = api.Reply(b"elsewhere", 307, {"location": other.url.replace("127.0.0.1", "localhost")})
        for call in (lambda: batches.submit(REQUESTS), lambda: batches.poll(batch_id), lambda: list(batches.results(batch_id))):
            server.fail("/v1", away)
            with pytest.raises(RequestFailed) as caught:
                call()
            assert (caught.value.status, caught.value.retryable) == (307, False)
        assert other.seen == []


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_an_id_that_holds_the_key_is_not_kept(server: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    batches: Any
    if kind == "openai":
        batches = OpenAIBatches(OpenAIProvider(base_url=f"{server.url}/v1", key_name="MY_SERVER"), MODEL, wait=0.01)
    else:
        batches = AnthropicBatches(AnthropicProvider(base_url=server.url, key_name="MY_SERVER"), MODEL, wait=0.01)
    server.fail("/v1/batches" if kind == "openai" else "/v1/messages/batches", api.Reply({"id": f"batch_{KEY}"}))
    if kind == "openai":  # its list says what the batch is called
        assert KEY not in batches.submit(REQUESTS)
        return
    with pytest.raises(RequestFailed) as caught:
        batches.submit(REQUESTS)
    assert str(caught.value.given).startswith("batch_")
    assert KEY not in str(vars(caught.value))


@pytest.mark.parametrize("how", ["whole", "reset", "cut"])
@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_the_key_shows_nowhere(server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, how: str) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    for name in (None, "openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    batches: Any
    if kind == "openai":
        batches = OpenAIBatches(OpenAIProvider(base_url=f"{server.url}/v1", key_name="MY_SERVER"), MODEL, wait=0.01)
    else:
        batches = AnthropicBatches(AnthropicProvider(base_url=server.url, key_name="MY_SERVER"), MODEL, wait=0.01)
    server.fail("/v1", *[api.Reply({"error": {"message": f"bad key {KEY}"}}, 401, how=how)] * 9)
    for call in (lambda: batches.submit(REQUESTS), lambda: batches.poll("b"), lambda: list(batches.results("b"))):
        with pytest.raises(RequestFailed) as caught:
            call()
        report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
        assert KEY not in str(caught.value) + repr(vars(caught.value)) + report
        assert caught.value.__context__ is None or isinstance(caught.value.__context__, RequestFailed)
    assert any(KEY in text for seen in server.seen for text in seen.headers.values())
    assert KEY not in caplog.text + repr([vars(record) for record in caplog.records]) + repr(batches) + repr(vars(batches))
