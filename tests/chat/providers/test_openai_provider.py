"""The OpenAI provider against a real server on loopback: what is sent, what is read, what each failure means, and where keys go."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import providers as shared
from hypothesis import given
from hypothesis import strategies as st

from harness.chat.providers.openai import OpenAIProvider, chat_reply
from harness.chat.providers.servers import Connection
from harness.chat.values import THOUGHTS_ALONE, ChatReply, ChatRequest, Provider, RequestFailed, SchemaRefused, Usage

api, server, ask, failure, turned_down = shared.api, shared.server, shared.ask, shared.failure, shared.turned_down
pytestmark = pytest.mark.usefixtures("bare")
bare = shared.bare
REQUEST = replace(shared.REQUEST, model="gpt-4o")
KEY = "sk-proj-0123456789abcdefghijKLMNOP"
SCHEMA = shared.SCHEMA
NOWHERE = Connection("openai", "http://127.0.0.1:9", None, None, 1.0, False)


def local(server: Any, **options: Any) -> OpenAIProvider:
    provider: OpenAIProvider = shared.local(server, "openai", **options)
    return provider


# ---------------------------------------------------------------------------------------------------- what is sent and read


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_is_read_whole_or_streamed(server: Any, stream: bool) -> None:
    provider = local(server, stream=stream)
    assert isinstance(provider, Provider)
    assert ask(provider, REQUEST) == ChatReply("Short reasoning. Rating: [[2]]", Usage(20, 8, 5), "served-model", "stop")
    sent = server.seen[0].body
    assert sent["messages"] == [{"role": "system", "content": "Rate."}, {"role": "user", "content": "Ein Text – übers Wetter 🌧."}]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("gpt-4o", 0.0, 50)
    assert "seed" not in sent
    assert "response_format" not in sent
    assert sent.get("stream", False) is stream
    assert provider.notes == ()


def test_options_of_a_request_are_sent(server: Any) -> None:
    ask(local(server), ChatRequest("m", REQUEST.messages, temperature=None, seed=7, schema=SCHEMA))
    sent = server.seen[0].body
    assert "temperature" not in sent
    assert sent["seed"] == 7
    assert sent["response_format"] == {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("body", "text", "finish"),
    [
        (api.completion("cut", finish="length"), "cut", "length"),
        (api.completion(None, finish="stop", refusal="I can't rate that."), "I can't rate that.", "refusal"),
        (api.completion("", finish="content_filter"), "", "content_filter"),
        (api.completion(None, finish="length"), "", "length"),
        (api.completion(None, finish="length", reasoning_content="Let me see"), "", "length"),
        (api.completion("", reasoning_content="It is a 2."), "", THOUGHTS_ALONE),
        (api.completion(None, reasoning="It is a 2."), "", THOUGHTS_ALONE),
        (api.completion("Rating: [[2]]", reasoning_content="It is a 2."), "Rating: [[2]]", "stop"),
        (api.completion("", reasoning_content=""), "", "stop"),
        (api.completion([{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]), "two parts", "stop"),
    ],
)
def test_ends_of_a_reply(server: Any, body: dict[str, Any], text: str, finish: str) -> None:
    server.answer = lambda _: body
    reply = ask(local(server), REQUEST)
    assert (reply.text, reply.finish, reply.usage.output) == (text, finish, 5)


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_is_nothing_but_thoughts_is_noted_with_what_to_do(server: Any, stream: bool) -> None:
    events = [event.replace('"content"', '"reasoning_content"') for event in api.chat_events("It is a 2.")]
    server.answer = lambda body: api.Reply(events, how="events") if body["stream"] else api.completion(None, reasoning="It is a 2.")
    provider = local(server, stream=stream)
    assert {(reply.text, reply.finish) for reply in ask(provider, REQUEST, REQUEST)} == {("", THOUGHTS_ALONE)}
    (note,) = provider.notes
    assert "gpt-4o answers in reasoning_content alone, which is not read; switch its thinking" in note


def test_a_streamed_refusal_and_usage_that_is_not_reported(server: Any) -> None:
    events = [event.replace('"content"', '"refusal"') for event in api.chat_events("No.", usage=False)]
    server.answer = lambda _: api.Reply(events, how="events")
    provider = local(server, stream=True)
    reply = ask(provider, REQUEST)
    assert (reply.text, reply.finish, reply.usage) == ("No.", "refusal", Usage())
    assert "reports no usage" in provider.notes[0]


def test_cancelling_a_request_is_no_failure_of_it(server: Any) -> None:
    server.fail("/v1/chat", api.Reply(how="drip", pause=0.2))

    async def run() -> None:
        provider = local(server)
        task = asyncio.create_task(provider.complete(REQUEST))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await provider.close()

    asyncio.run(run())


# ---------------------------------------------------------------------------------------------------- what a model refuses


def test_a_refused_limit_and_temperature_are_left_out_once_and_noted(server: Any) -> None:
    def reasoning(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
            return turned_down(text, param="max_tokens", code="unsupported_parameter")
        if "temperature" in body:
            text = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported."
            return turned_down(text, param="temperature", code="unsupported_value")
        return "Rating: [[1]]"

    server.answer = reasoning
    provider = local(server)
    replies = ask(provider, *[REQUEST] * 4)
    assert {reply.text for reply in replies} == {"Rating: [[1]]"}
    assert len(server.seen) == 6, "each refusal costs one request, once"
    assert server.seen[-1].body["max_completion_tokens"] == 50
    assert [note.split("refuses ")[1].split(":")[0] for note in provider.notes] == ["max_tokens", "temperature"]


def test_what_one_model_refuses_is_still_sent_to_another(server: Any) -> None:
    server.answer = lambda body: turned_down("temperature: unsupported") if body["model"] == "o9" and "temperature" in body else "ok"
    ask(local(server), ChatRequest("o9", REQUEST.messages), REQUEST)
    assert [("temperature" in seen.body) for seen in server.seen] == [True, False, True]


@pytest.mark.parametrize(
    "refusal",
    [
        turned_down("Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        api.Reply(
            {
                "detail": [
                    {"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs are not permitted", "input": {}}
                ]
            },
            422,
        ),
        api.Reply({"object": "error", "message": "unknown field: response_format", "code": 400}, 400),
        api.Reply(b"response_format: unsupported", 400),
    ],
)
def test_a_server_without_structured_output_says_so_once(server: Any, refusal: Any, tmp_path: Path) -> None:
    """Whoever asked may ask in words, which is another question: it is not for the provider to leave the schema out."""
    server.answer = lambda body: refusal if "response_format" in body else "2"
    provider, request = local(server, memory=tmp_path / "refusals.json"), ChatRequest("m", REQUEST.messages, schema=SCHEMA)
    assert provider.takes_schema("m")
    for _ in range(2):
        assert isinstance(failure(provider, request), SchemaRefused)
    assert len(server.seen) == 1
    assert "in words alone" in provider.notes[0]
    later = local(server, memory=tmp_path / "refusals.json")
    assert (provider.takes_schema("m"), later.takes_schema("m"), later.takes_schema("other")) == (False, False, True)
    server.answer = lambda body: "2"
    assert ask(later, request).text == "2", "who insists is not kept from it"
    assert later.takes_schema("m"), "and what is taken now is refused no more"
    assert local(server, memory=tmp_path / "refusals.json").takes_schema("m")


def test_stream_options_are_left_out_where_they_are_refused(server: Any) -> None:
    server.answer = lambda body: turned_down("Unrecognized request argument supplied: stream_options") if "stream_options" in body else "ok"
    provider = local(server, stream=True)
    assert ask(provider, REQUEST).text == "ok"
    assert "usage is not reported" in provider.notes[0]


def test_a_reply_without_a_bound_is_never_asked_for(server: Any) -> None:
    server.answer = lambda body: turned_down(f"unsupported: {'max_tokens' if 'max_tokens' in body else 'max_completion_tokens'}")
    error = failure(local(server))
    assert "without a bound" in error.reason
    assert not error.retryable
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "reply",
    [
        turned_down("Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3 instead.", param="temperature"),
        turned_down("Invalid schema for response_format 'reply': 'minimum' is not permitted.", param="response_format"),
        turned_down("This model's maximum context length is 8192 tokens; max_tokens is too large."),
        api.Reply(
            {"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required", "input": "temperature is not supported"}]},
            422,
        ),
        api.Reply({"error": {"message": "temperature: unsupported"}}, 404),
    ],
)
def test_a_mistake_of_ours_is_not_taken_for_a_refusal(server: Any, reply: Any) -> None:
    server.answer = lambda _: reply
    provider = local(server)
    assert not failure(provider, ChatRequest("m", REQUEST.messages, temperature=3.0, schema=SCHEMA)).retryable
    assert len(server.seen) == 1
    assert provider.notes == ()


# ---------------------------------------------------------------------------------------------------- failures

FAILURES: list[tuple[Any, bool, int | None, str]] = [
    (
        api.Reply({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, {"retry-after": "7"}),
        True,
        429,
        "429 Too Many Requests: slow down",
    ),
    (
        api.Reply({"error": {"message": "no money", "code": "insufficient_quota"}}, 429, {"retry-after": "7"}),
        False,
        429,
        "insufficient_quota",
    ),
    (api.Reply({"error": {"message": "broken"}}, 500), True, 500, "500 Internal Server Error: broken"),
    (api.Reply({"error": {"message": "overloaded"}}, 529), True, 529, "529: overloaded"),
    (
        api.Reply(b"<html><head><title>502 Bad\n Gateway</title></head></html>", 502, {"content-type": "text/html"}),
        True,
        502,
        "HTML page (502 Bad Gateway)",
    ),
    (api.Reply(b"", 503), True, 503, "no reason given"),
    (api.Reply({"error": {"message": "Incorrect API key provided"}}, 401), False, 401, "name the variable"),
    (api.Reply({"error": {"message": "The model `gpt-9` does not exist", "code": "model_not_found"}}, 404), False, 404, "gpt-9"),
    (api.Reply({"error": "model 'x' not found"}, 404), False, 404, "model 'x' not found"),
    (api.Reply({"detail": "Not Found"}, 404), False, 404, "Not Found"),
    (api.Reply(b"<!DOCTYPE html><p>login"), False, None, "an HTML page in place of JSON"),
    (api.Reply(b'{"choices": [{"mess'), True, None, "no JSON object"),
    (api.Reply(b"[]"), True, None, "no JSON object"),
    (api.Reply(b'{"model": "m", "message": {"content": "It"}}\n{"done": true}\n'), False, None, "a stream of JSON lines"),
    (api.Reply(b'{"a":' * 100_000), True, None, "no JSON object"),
    (api.Reply(b"[" * 100_000, 500), True, 500, "500 Internal Server Error"),
    (api.Reply(b"\xff\xfe\xfa\xfb"), True, None, "no JSON object"),
    (api.Reply({"choices": []}), True, None, "no message"),
    (api.Reply({"choices": [{"message": {"content": 5}}]}), True, None, "int, not text"),
    (api.Reply({"error": {"code": 429, "message": "upstream is busy"}}), True, 429, "upstream is busy"),
    (api.Reply(how="cut"), True, None, "connection failed"),
    (api.Reply(how="reset"), True, None, "connection failed"),
    (api.Reply(how="drip", pause=0.05), True, None, "no reply within 2 s"),
]


@pytest.mark.parametrize(("reply", "retryable", "status", "words"), FAILURES, ids=[words for *_, words in FAILURES])
def test_each_failure_is_one_line_and_says_whether_to_try_again(
    server: Any, reply: Any, retryable: bool, status: int | None, words: str
) -> None:
    server.fail("/v1/chat", reply)
    began = time.monotonic()
    error = failure(local(server, timeout=2.0))
    assert (error.retryable, error.status) == (retryable, status)
    assert words in error.reason
    assert "\n" not in error.reason
    assert error.retry_after == (7.0 if "retry-after" in reply.headers else None)
    assert len(server.seen) == 1, "the provider tries once"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (api.Reply(api.chat_events("half", finish=None), how="events"), "stream ended before the reply"),
        (api.Reply(api.chat_events("half", finish=None), how="torn"), "connection"),
        (api.Reply(['data: {"choices": [{"de\n\n'], how="events"), "garbled"),
        (
            api.Reply(
                [*api.chat_events("a", finish=None), 'data: {"error": {"message": "lost it", "type": "server_error"}}\n\n'], how="events"
            ),
            "lost it",
        ),
    ],
)
def test_a_stream_that_breaks_is_no_reply(server: Any, reply: Any, words: str) -> None:
    server.answer = lambda _: reply
    error = failure(local(server, stream=True))
    assert error.retryable
    assert words in error.reason


def test_nobody_listens(server: Any) -> None:
    error = failure(OpenAIProvider(base_url="http://127.0.0.1:9/v1", timeout=2.0))
    assert error.retryable
    assert "connection failed" in error.reason


# ---------------------------------------------------------------------------------------------------- addresses and keys


def test_keys_go_where_they_belong(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_SERVER", "another-key-of-mine")
    ask(local(server), REQUEST)
    ask(local(server, key_name="MY_SERVER"), REQUEST)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    ask(OpenAIProvider(timeout=5.0), REQUEST)
    assert [seen.headers["authorization"] for seen in server.seen] == ["Bearer none", "Bearer another-key-of-mine", f"Bearer {KEY}"]


def test_names_tell_servers_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert OpenAIProvider().name == "openai"
    assert OpenAIProvider(base_url="https://api.openai.com/v1/").name == "openai"
    assert OpenAIProvider(base_url="http://localhost:8000/v1/").name == "openai@localhost:8000"
    assert OpenAIProvider(base_url="https://openrouter.ai/api/v1").name == "openai@openrouter.ai/api"
    regional = OpenAIProvider(base_url="https://eu.api.openai.com/v1")
    assert (regional.name, regional.connection.key_name) == ("openai@eu.api.openai.com", "OPENAI_API_KEY")
    assert "max_completion_tokens" in regional.body(REQUEST)
    assert OpenAIProvider(base_url="http://api.openai.com/v1").connection.key_name is None, "no key over an open line"
    assert OpenAIProvider(base_url="https://api.openai.com.evil.org/v1").connection.key_name is None


# ---------------------------------------------------------------------------------------------------- arithmetic and fuzz

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "message",
                    "content",
                    "text",
                    "usage",
                    "error",
                    "detail",
                    "model",
                    "finish_reason",
                    "refusal",
                    "code",
                    "loc",
                    "msg",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(body=st.dictionaries(st.sampled_from(["choices", "usage", "error", "model"]), JSON))
def test_any_json_is_a_reply_or_a_failure(body: dict[str, Any]) -> None:
    try:
        reply = chat_reply(NOWHERE, body)
    except RequestFailed:
        return
    assert isinstance(reply.text, str)
    assert isinstance(reply.finish, str)
    assert min(reply.usage.input, reply.usage.cached_input, reply.usage.output) >= 0
