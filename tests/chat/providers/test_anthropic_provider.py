"""The Anthropic provider against a real server on loopback."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from helpers import providers as shared
from hypothesis import given
from hypothesis import strategies as st

from harness.chat.providers.anthropic import AnthropicProvider, message_reply
from harness.chat.providers.servers import Connection
from harness.chat.values import ChatReply, ChatRequest, Provider, RequestFailed, SchemaRefused, Usage
from harness.errors import JudgeError

api, server, ask, failure = shared.api, shared.server, shared.ask, shared.failure
pytestmark = pytest.mark.usefixtures("bare")
bare = shared.bare
REQUEST = replace(shared.REQUEST, model="claude-haiku", seed=3)
KEY = "sk-ant-api03-0123456789abcdefghijKLMNOP"
SCHEMA = shared.SCHEMA
CALL = {"type": "tool_use", "id": "t1", "name": "reply", "input": {"reasoning": "schön", "rating": 2}}
NOWHERE = Connection("anthropic", "http://127.0.0.1:9", None, None, 1.0, False)


def local(server: Any, **options: Any) -> AnthropicProvider:
    provider: AnthropicProvider = shared.local(server, "anthropic", **options)
    return provider


def turned_down(message: str, kind: str = "invalid_request_error", status: int = 400, **headers: str) -> Any:
    return shared.turned_down(message, status, headers, type=kind)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_is_read_whole_or_streamed(server: Any, stream: bool) -> None:
    provider = local(server, stream=stream)
    assert isinstance(provider, Provider)
    assert ask(provider, REQUEST) == ChatReply("Short reasoning. Rating: [[2]]", Usage(20, 8, 5), "served-model", "stop")
    sent = server.seen[0].body
    sent.pop("stream", None)
    assert sent == {
        "model": "claude-haiku",
        "max_tokens": 50,
        "temperature": 0.0,
        "system": "Rate.",
        "messages": [{"role": "user", "content": "Ein Text – übers Wetter 🌧."}],
    }
    assert server.seen[0].headers["anthropic-version"] == "2023-06-01"


def test_an_address_may_end_in_the_version_of_the_api(server: Any) -> None:
    ask(AnthropicProvider(base_url=f"{server.url}/v1/", timeout=5.0), REQUEST)
    assert server.seen[0].path == "/v1/messages"


@pytest.mark.parametrize("stream", [False, True])
def test_a_form_of_the_reply_is_had_by_a_forced_tool_call(server: Any, stream: bool) -> None:
    server.answer = lambda _: api.message("", stop="tool_use", **CALL)
    reply = ask(local(server, stream=stream), ChatRequest("m", REQUEST.messages, schema=SCHEMA))
    assert json.loads(reply.text) == CALL["input"]
    assert reply.finish == "stop"
    sent = server.seen[0].body
    assert sent["tools"][0]["input_schema"] == SCHEMA
    assert sent["tool_choice"] == {"type": "tool", "name": "reply"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("max_tokens", "length"),
        ("refusal", "refusal"),
        ("stop_sequence", "stop"),
        ("model_context_window_exceeded", "length"),
        ("new", "new"),
    ],
)
def test_ends_of_a_reply(server: Any, stream: bool, stop: str, finish: str) -> None:
    server.answer = lambda _: api.message("so far", stop=stop)
    reply = ask(local(server, stream=stream), REQUEST)
    assert (reply.text, reply.finish) == ("so far", finish)


def test_a_tool_call_that_was_cut_is_shown_as_text(server: Any) -> None:
    events = api.message_events(api.message("", stop="max_tokens", **CALL))
    server.answer = lambda _: api.Reply([event for event in events if '"partial_json": "}"' not in event], how="events")
    reply = ask(local(server, stream=True), ChatRequest("m", REQUEST.messages, schema=SCHEMA))
    assert reply.text.startswith('{"reasoning"')
    assert reply.finish == "length"


@pytest.mark.parametrize(
    "text",
    [
        "`temperature` is deprecated for this model.",
        "temperature: Extra inputs are not permitted",
        "`temperature` may only be set to 1 when thinking is enabled.",
    ],
)
def test_a_refused_temperature_is_left_out_once_and_noted(server: Any, text: str) -> None:
    server.answer = lambda body: turned_down(text) if "temperature" in body else "Rating: [[0]]"
    provider = local(server)
    assert [reply.text for reply in ask(provider, *[REQUEST] * 3)] == ["Rating: [[0]]"] * 3
    assert len(server.seen) == 4
    assert len(provider.notes) == 1
    assert "claude-haiku refuses temperature" in provider.notes[0]


def test_forms_are_tried_one_after_the_other(server: Any) -> None:
    def picky(body: dict[str, Any]) -> Any:
        if "tool_choice" in body:
            return turned_down("tool_choice: forced tool use is not supported with this model")
        return turned_down("output_config: Extra inputs are not permitted") if "output_config" in body else "2"

    server.answer = picky
    provider = local(server)
    assert isinstance(failure(provider, ChatRequest("m", REQUEST.messages, schema=SCHEMA)), SchemaRefused)
    assert server.seen[1].body["output_config"] == {"format": {"type": "json_schema", "schema": SCHEMA}}
    assert "tools" not in server.seen[1].body
    assert len(server.seen) == len(provider.notes) == 2
    assert not provider.takes_schema("m")


def test_a_temperature_that_the_api_does_not_have_is_said_not_changed(server: Any) -> None:
    error = failure(local(server), ChatRequest("m", REQUEST.messages, temperature=1.5))
    assert "above 1" in error.reason
    assert server.seen == []


FAILURES: list[tuple[Any, bool, int | None, str]] = [
    (turned_down("slow down", "rate_limit_error", 429, **{"retry-after": "3"}), True, 429, "slow down"),
    (turned_down("Overloaded", "overloaded_error", 529), True, 529, "Overloaded"),
    (turned_down("oops", "api_error", 500), True, 500, "oops"),
    (turned_down("invalid x-api-key", "authentication_error", 401), False, 401, "invalid x-api-key"),
    (turned_down("Your credit balance is too low"), False, 402, "400 Bad Request: Your credit balance"),
    (turned_down("model: claude-9", "not_found_error", 404), False, 404, "claude-9"),
    (api.Reply(b"<html><title>Bad gateway</title>", 502), True, 502, "HTML page (Bad gateway)"),
    (api.Reply(b"<html>welcome"), False, None, "HTML page"),
    (api.Reply(b'{"content": ['), True, None, "no JSON object"),
    (api.Reply({"type": "message"}), True, None, "no message"),
    (api.Reply(how="cut"), True, None, "connection failed"),
    (api.Reply(how="reset"), True, None, "connection failed"),
    (api.Reply(how="drip"), True, None, "no reply within 2 s"),
]


@pytest.mark.parametrize(("reply", "retryable", "status", "words"), FAILURES, ids=[words for *_, words in FAILURES])
def test_each_failure_is_one_line_and_says_whether_to_try_again(
    server: Any, reply: Any, retryable: bool, status: int | None, words: str
) -> None:
    server.fail("/v1/messages", reply)
    error = failure(local(server, timeout=2.0))
    assert (error.retryable, error.status) == (retryable, status)
    assert words in error.reason
    assert "\n" not in error.reason
    assert error.retry_after == (3.0 if "retry-after" in reply.headers else None)
    assert len(server.seen) == 1, "the provider tries once"


def _event(kind: str, message: str) -> str:
    return f"event: error\ndata: {json.dumps({'type': 'error', 'error': {'type': kind, 'message': message}})}\n\n"


WHOLE = api.message_events(api.message("half"))


@pytest.mark.parametrize(
    ("reply", "retryable", "status", "words"),
    [
        (api.Reply(WHOLE[:-1], how="events"), True, None, "stream ended before the reply"),
        (api.Reply(WHOLE[:4], how="torn"), True, None, "connection"),
        (api.Reply([*WHOLE[:4], "event: content_block_delta\ndata: {\n\n"], how="events"), True, None, "garbled"),
        (api.Reply([*WHOLE[:4], _event("overloaded_error", "too much")], how="events"), True, 529, "too much"),
        (api.Reply([_event("invalid_request_error", "too long")], how="events"), False, 400, "too long"),
    ],
)
def test_a_stream_that_breaks_is_no_reply(server: Any, reply: Any, retryable: bool, status: int | None, words: str) -> None:
    server.answer = lambda _: reply
    error = failure(local(server, stream=True))
    assert (error.retryable, error.status) == (retryable, status)
    assert words in error.reason


def test_names_and_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JudgeError) as caught:
        AnthropicProvider()
    assert (caught.value.given, bool(caught.value.hint)) == ("ANTHROPIC_API_KEY", True)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert AnthropicProvider().name == "anthropic"
    other = AnthropicProvider(base_url="http://localhost:4000/v1")
    assert (other.name, other.connection.key_name) == ("anthropic@localhost:4000", None)


JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "input", "name", "input_tokens", "output_tokens"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(body=st.dictionaries(st.sampled_from(["content", "usage", "model", "stop_reason"]), JSON))
def test_any_json_is_a_reply_or_a_failure(body: dict[str, Any]) -> None:
    try:
        reply = message_reply(NOWHERE, body)
    except RequestFailed:
        return
    assert isinstance(reply.text, str)
    assert isinstance(reply.finish, str)
    assert reply.usage.input >= reply.usage.cached_input >= 0
