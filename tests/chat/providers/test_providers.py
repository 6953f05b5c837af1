"""What both providers do: keys and headers go where they belong, refused parameters are remembered, and the key shows nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import html
import json
import logging
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from helpers import providers as shared
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.chat.client.cache import ReplyCache
from harness.chat.client.runner import Runner
from harness.chat.values import ChatReply, ChatRequest, Message, Provider, RequestFailed
from harness.errors import JudgeError

api, server, bare, local, ask, failure = shared.api, shared.server, shared.bare, shared.local, shared.ask, shared.failure
tls_server, expired_tls_server = shared.tls_server, shared.expired_tls_server
REQUEST, SCHEMA = shared.REQUEST, shared.SCHEMA
KEY = "sk-proj-0123456789abcdefghijKLMNOP"
pytestmark = [pytest.mark.usefixtures("bare")]
each = pytest.mark.parametrize("kind", shared.KINDS)


@each
def test_one_provider_serves_one_loop_after_another(server: Any, kind: str) -> None:
    provider = local(server, kind)
    assert isinstance(provider, Provider)
    assert ask(provider, REQUEST) == ask(provider, REQUEST)


@each
def test_nobody_listens_and_half_a_character(server: Any, kind: str) -> None:
    away = failure(type(local(server, kind))(base_url="http://127.0.0.1:9", timeout=2.0))
    assert away.retryable
    assert "connection failed" in away.reason
    half = failure(local(server, kind), ChatRequest("m", (Message("user", "\ud83d"),)))
    assert "lone surrogate" in half.reason
    assert not half.retryable


# ---------------------------------------------------------------------------------------------------- keys and headers


def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment as its owner has it for the APIs' own servers."""
    values = {
        "OPENAI_API_KEY": KEY,
        "OPENAI_ORG_ID": "org-PRIVATE",
        "OPENAI_PROJECT_ID": "proj-PRIVATE",
        "OPENAI_CUSTOM_HEADERS": "X-Mine: PRIVATE\nauthorization: Bearer PRIVATE",
        "ANTHROPIC_API_KEY": KEY,
        "ANTHROPIC_AUTH_TOKEN": "token-PRIVATE",
        "ANTHROPIC_CUSTOM_HEADERS": "X-Mine: PRIVATE\nx-api-key: PRIVATE\nAnthropic-Version: 1999-01-01",
        "GATEWAY": "gateway-key-of-mine",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@each
@pytest.mark.parametrize("stream", [False, True])
def test_another_server_gets_its_own_key_and_nothing_else_of_the_environment(
    server: Any, kind: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    surroundings(monkeypatch)
    ask(local(server, kind, stream=stream), REQUEST)
    ask(local(server, kind, stream=stream, key_name="GATEWAY"), REQUEST)
    without, with_key = (seen.headers for seen in server.seen)
    for headers in (without, with_key):
        shown = json.dumps(headers)
        assert "PRIVATE" not in shown
        assert KEY not in shown
        assert "x-mine" not in headers
        assert headers["content-type"] == "application/json"
    assert without["authorization"] == "Bearer none"
    assert with_key["authorization"] == "Bearer gateway-key-of-mine"


@each
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_takes_no_key_along(
    server: Any, kind: str, stream: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    with api.ApiServer() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        server.answer = lambda _: api.Reply(b"", status, {"location": f"{elsewhere}{shared.PATHS[kind]}?k={KEY}"})
        error = failure(local(server, kind, key_name="MY_SERVER", stream=stream))
        assert other.seen == []
    assert (error.status, error.retryable) == (status, False)
    assert f"it points to {elsewhere}{shared.PATHS[kind]}; redirects are not followed" in error.reason
    assert "give it as base_url" in error.reason
    assert KEY not in error.reason
    assert len(server.seen) == 1


def test_gateways_that_speak_as_anthropic_get_the_key_in_either_header(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some read ``X-Api-Key``, as the API's documentation has it; others the bearer token that the package sends."""
    surroundings(monkeypatch)

    def strict(_: Any) -> Any:
        return "2" if server.seen[-1].headers.get("x-api-key") == "gateway-key-of-mine" else shared.turned_down("no key", 401)

    server.answer = strict
    assert ask(local(server, "anthropic", key_name="GATEWAY"), REQUEST).text == "2"
    assert server.seen[0].headers["authorization"] == "Bearer gateway-key-of-mine"
    assert server.seen[0].headers["anthropic-version"] == "2023-06-01"


@each
def test_a_server_that_the_environment_names_gets_what_the_environment_has_for_it(
    server: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    surroundings(monkeypatch)
    monkeypatch.setenv(f"{kind.upper()}_CUSTOM_HEADERS", "X-Mine: PRIVATE")
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", f"{server.url}/v1/")
    ask(type(local(server, kind))(timeout=5.0), REQUEST)
    ask(local(server, kind), REQUEST)
    assert [KEY in seen.headers["authorization"] + seen.headers.get("x-api-key", "") for seen in server.seen] == [True, True]
    assert {seen.headers["x-mine"] for seen in server.seen} == {"PRIVATE"}


@each
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["whole", "reset", "cut", "drip"])
def test_the_key_shows_nowhere(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, stream: bool, how: str
) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    provider = local(server, kind, key_name="MY_SERVER", stream=stream, timeout=2.0)
    # A server that repeats the key in full, whole or cut, within a page or not.
    server.answer = lambda _: replace(shared.turned_down(f"Incorrect API key provided: {KEY}. Header: Bearer {KEY}", 401), how=how)
    for name in (None, "openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    error = failure(provider)
    assert KEY in server.seen[0].headers["authorization"]
    assert caplog.records, "the packages log something, or this test sees nothing"
    report = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    shown = [str(error), repr(error), error.reason, repr(vars(error)), report, caplog.text]
    shown += [repr([vars(record) for record in caplog.records]), provider.name]
    shown += [repr(provider), repr(vars(provider)), repr(provider.connection), repr(provider.dialect)]
    for text in shown:
        assert KEY not in text
        assert KEY[8:] not in text
    assert error.__cause__ is None
    assert error.__context__ is None, "a failure carries no exception of the package, whose request holds the key"


QUOTED = 'zz-"q\\w+e/r=t&y<u>i@o0123456789'
"""A key of characters that stand otherwise within JSON, an address or a page."""


@each
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("key", [KEY, QUOTED])
def test_a_key_that_a_server_repeats_in_any_part_of_a_reply_is_nowhere(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, kind: str, stream: bool, key: str, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_SERVER", key)
    for name in (None, "openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    spellings = (key, json.dumps(key)[1:-1], quote(key, safe=""), html.escape(key), repr(key)[1:-1])
    text = " and ".join(spellings)
    if kind == "openai":
        body = api.completion(text, finish=key, model=key, refusal=key)
        body |= {"id": key, "system_fingerprint": key, "usage": {**body["usage"], key: 3}}
    else:
        body = {**api.message(text, stop=key, model=key), "id": key}
    events = api.message_events(body) if kind == "anthropic" else [f"data: {json.dumps({**body, 'object': key})}\n\n"]
    echo = {"x-request-id": quote(key), "x-echo": key, "set-cookie": f"k={quote(key, safe='')}"}

    def answer(_: Any) -> Any:
        # Not `how="events"`, so that the headers go along.
        kinds = {"content-type": "text/event-stream"} if stream else {}
        return api.Reply("".join(events).encode() if stream else body, headers={**echo, **kinds})

    server.answer = answer
    provider = local(server, kind, key_name="MY_SERVER", stream=stream)
    replies = [reply for _, reply in Runner(provider, cache=ReplyCache(tmp_path / "replies.sqlite")).run({"a": REQUEST}, "r")]
    assert isinstance(replies[0], ChatReply)
    assert replies[0].text.count("[key]") == len(spellings)
    assert replies[0].model == replies[0].finish == "[key]"
    server.answer = lambda _: api.Reply(b"", 302, {**echo, "location": f"http://127.0.0.1:9/{quote(key, safe='')}?k={key}"})
    failed = failure(provider)
    server.answer = lambda _: api.Reply({"error": {"message": text, "code": key, "type": key, "param": key}}, 400, echo)
    failures = [failed, failure(provider), failure(provider, replace(REQUEST, schema=SCHEMA))]
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("replies"))
    assert b"[key]" in stored
    shown = [repr(replies), stored.decode("latin-1"), caplog.text, repr([vars(record) for record in caplog.records]), *provider.notes]
    for error in failures:
        shown += ["".join(traceback.TracebackException.from_exception(error, capture_locals=True).format()), repr(vars(error))]
    assert caplog.records
    for form in spellings:
        assert [text for text in shown if form in text] == [], form


@each
@pytest.mark.parametrize("where", ["https://{host}", "http://{host}:1", "//{host}:1/x", "/elsewhere", "http://me:pw@{host}:1/", "::", "http://[", ""])
def test_a_redirect_to_another_port_or_scheme_of_the_same_host_is_not_followed_either(
    server: Any, kind: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    server.answer = lambda _: api.Reply(b"", 307, {"location": where.format(host="127.0.0.1")})
    error = failure(local(server, kind, key_name="MY_SERVER"))
    assert (error.status, error.retryable, len(server.seen)) == (307, False, 1)
    assert "redirects are not followed" in error.reason
    assert "pw" not in error.reason


def test_the_packages_are_loaded_at_the_first_request_only() -> None:
    code = "import sys, harness.chat.batch.openai; print(sorted({'openai', 'anthropic', 'httpx', 'httpx2', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


# ---------------------------------------------------------------------------------------------------- clients that cannot be made


@each
def test_an_environment_in_which_no_client_can_be_made_is_said_before_anything_is_asked(
    server: Any, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks://me:secret@127.0.0.1:9")
    with pytest.raises(JudgeError) as caught:
        local(server, kind)
    assert caught.value.given == "socks"
    assert "ALL_PROXY" in caught.value.message
    assert "ALL_PROXY" in caught.value.hint
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert ask(local(server, kind), REQUEST).text.endswith("[[2]]"), "a server that is asked directly needs no proxy"
    monkeypatch.delenv("ALL_PROXY")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    assert ask(local(server, kind), REQUEST).text.endswith("[[2]]"), "nor does one without TLS need certificates"
    with pytest.raises(JudgeError) as caught:
        type(local(server, kind))(base_url="https://localhost:9/v1")
    assert str(caught.value.given).endswith("nothing.pem")
    assert "SSL_CERT_FILE" in caught.value.message
    assert "SSL_CERT_FILE" in caught.value.hint


@each
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a\x00b", "http://a\u200bb/v1", "http://\uff41.\uff42/v1", "http://xn--é.org", "http://127.0.0.1:9/a\x7f"])
def test_an_address_that_no_client_takes_is_said_before_anything_is_asked(server: Any, kind: str, url: str) -> None:
    with pytest.raises(JudgeError) as caught:
        type(local(server, kind))(base_url=url)
    assert caught.value.given == "base_url"
    assert "http://localhost:8000" in caught.value.hint


@each
@pytest.mark.parametrize("value", ["ä", "a\rb", "a\x01b", "\u2028"])
def test_headers_of_the_environment_that_cannot_be_sent_are_said_before_anything_is_asked(
    server: Any, kind: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", server.url)
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", KEY)
    made = type(local(server, kind))
    variable = f"{kind.upper()}_CUSTOM_HEADERS"
    for headers in (f"X-A: 1\nX-B: {value}", f"{value} x: 1"):
        monkeypatch.setenv(variable, headers)
        with pytest.raises(JudgeError) as caught:
            made()
        assert caught.value.given == variable
        assert value not in str(caught.value)
        assert local(SimpleNamespace(url="http://127.0.0.1:9"), kind), "they go to no other server"
        monkeypatch.setenv(variable, "X-A: 1\n\nno header\nX-B: a; b=c")
        made()


@each
def test_a_proxy_that_refuses_or_is_not_there_is_named(server: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = type(local(server, kind))
    for scheme, variable in (("http", "HTTP_PROXY"), ("https", "HTTPS_PROXY")):
        for proxy, status, heals in ((server.url, 407, False), ("http://127.0.0.1:9", None, True)):
            monkeypatch.setenv(variable, proxy)
            server.fail("/", api.Reply(b"", 407))
            error = failure(made(base_url=f"{scheme}://judge.example.org/v1", timeout=3.0))
            assert (error.status, error.retryable) == (status, heals)
            assert f"the proxy of {variable}: check that, or put judge.example.org into NO_PROXY" in error.reason


@each
def test_a_server_with_tls_that_is_not_trusted_says_so(kind: str, tls_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, certificate = tls_server
    provider_type = type(local(SimpleNamespace(url="http://127.0.0.1:9"), kind))
    error = failure(provider_type(base_url=url, timeout=5.0))
    assert "the TLS connection failed: the server's certificate is not trusted" in error.reason
    assert "put its authority's certificate into SSL_CERT_FILE" in error.reason
    assert not error.retryable
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    error = failure(provider_type(base_url=url, timeout=5.0))
    assert error.status == 404, "it is trusted now, and has nothing to say"
    error = failure(provider_type(base_url=url.replace("localhost", "127.0.0.1"), timeout=5.0))
    assert "the TLS connection failed: the server's certificate is another host's" in error.reason
    assert "base_url" in error.reason
    assert not error.retryable
    error = failure(provider_type(base_url=url.replace("https:", "http:"), timeout=5.0))
    assert "https://" in error.reason


@each
def test_a_certificate_that_has_expired_says_so(kind: str, expired_tls_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, certificate = expired_tls_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    error = failure(type(local(SimpleNamespace(url="http://127.0.0.1:9"), kind))(base_url=url, timeout=5.0))
    assert "the TLS connection failed: the server's certificate is not valid today" in error.reason
    assert not error.retryable


@each
def test_a_server_without_tls_that_is_asked_by_https_says_so(server: Any, kind: str) -> None:
    error = failure(type(local(server, kind))(base_url=server.url.replace("http:", "https:"), timeout=5.0))
    assert "the TLS connection failed: the server does not speak it" in error.reason
    assert "http:// in place of https://" in error.reason
    assert not error.retryable


# ---------------------------------------------------------------------------------------------------- streams that nobody asked for

SCALAR = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(["", "x", "error", "text"])
FIELDS = ["choices", "delta", "message", "content", "index", "finish_reason", "usage", "error", "content_block", "text", "model", "object"]
KINDS_OF_EVENTS = ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "tool_use"]
VALUES = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3), max_leaves=6)
ODD = VALUES | st.fixed_dictionaries({"type": st.sampled_from(KINDS_OF_EVENTS) | VALUES, "index": VALUES, "delta": VALUES, "content_block": VALUES})
"""Events of any shape, many of them nearly right."""

EVENTS = {"openai": api.chat_events("Short. Rating: [[1]]"), "anthropic": api.message_events(api.message("Short. Rating: [[1]]"))}


@each
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/event-stream", "text/html", ""])
def test_a_whole_reply_is_read_whatever_it_is_called_and_was_asked_for(server: Any, kind: str, content_type: str, stream: bool) -> None:
    body = api.completion("2") if kind == "openai" else api.message("2")
    server.answer = lambda _: api.Reply(b"\xef\xbb\xbf" + json.dumps(body).encode(), headers={"content-type": content_type})
    assert ask(local(server, kind, stream=stream), REQUEST).text == "2"


@each
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reply", "words", "retryable"),
    [
        (api.Reply(b""), "no JSON object (0 bytes)", True),
        (api.Reply(b"", 204), "no JSON object (0 bytes)", True),
        (api.Reply(b"garbage", headers={"content-encoding": "gzip"}), "garbled", True),
        (api.Reply(gzip.compress(b'{"choices": []}')[:20], headers={"content-encoding": "gzip"}), "no JSON object", True),
        (api.Reply(b"garbage", headers={"content-encoding": "x-unheard-of"}), "no JSON object", True),
        (api.Reply(b"<!doctype html><title>Log in</title>", headers={"content-type": "text/html"}), "an HTML page (Log in)", False),
        (api.Reply(b"<html><title>Log in</title>", headers={"content-type": "text/event-stream"}), "an HTML page (Log in)", False),
        (api.Reply(b"data: [DONE]\n\n", headers={"content-type": "text/event-stream"}), "no JSON object", True),
        (api.Reply({"error": "model not found"}), "model not found", True),
        (api.Reply({"object": "error", "message": "no such model", "code": 404}), "no such model", False),
        (api.Reply({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}), "529: busy", True),
        (api.Reply({"detail": "Not authenticated"}), "Not authenticated", True),
        (api.Reply({"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}), "insufficient balance (1008)", False),
        (api.Reply(b'data: {"object": "error", "message": "no such model", "code": 404}\n\n'), "no such model", False),
        (api.Reply(["data: " + "[" * 100_000 + "\n\n"], how="events"), "garbled", True),
    ],
)
def test_what_is_no_reply_is_a_failure_with_the_servers_words(
    server: Any, kind: str, stream: bool, reply: Any, words: str, retryable: bool
) -> None:
    server.answer = lambda _: reply
    error = failure(local(server, kind, stream=stream))
    assert words in error.reason
    assert error.retryable is retryable


@each
@pytest.mark.parametrize("stream", [False, True])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(ODD, max_size=3))
def test_a_stream_of_anything_is_a_reply_or_a_failure(kind: str, stream: bool, events: list[Any]) -> None:
    provider = local(SimpleNamespace(url="http://127.0.0.1:9"), kind, stream=stream)
    content = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events)

    class Response:
        http_response = SimpleNamespace(headers={"content-type": "text/event-stream"})

    async def read() -> bytes:
        return content

    async def sent(client: Any, body: Any) -> Any:
        Response.http_response.aread = read
        return Response

    provider._send = sent  # type: ignore[method-assign]
    with contextlib.suppress(RequestFailed):  # and nothing else
        assert isinstance(ask(provider, REQUEST).text, str)


def test_a_reply_that_is_an_error_among_choices_is_a_failure(server: Any) -> None:
    choice = {"error": {"code": 502, "message": "Provider disconnected"}, "finish_reason": "error", "message": {"content": "Rat"}}
    server.answer = lambda _: {"choices": [choice]}
    error = failure(local(server, "openai"))
    assert (error.status, error.retryable) == (502, True)
    assert "Provider disconnected" in error.reason


@each
@pytest.mark.parametrize("content_type", ["text/event-stream", "text/event-stream; charset=utf-8", "application/json", "text/plain"])
def test_a_server_that_streams_whatever_it_is_asked_is_read(server: Any, kind: str, content_type: str) -> None:
    body = b": a comment\n\n" * content_type.startswith("text/event") + "".join(EVENTS[kind]).replace("\n", "\r\n").encode()
    body = body if body.startswith(b":") else b"\xef\xbb\xbf" + body
    server.answer = lambda _: api.Reply(body, headers={"content-type": content_type})
    reply = ask(local(server, kind), REQUEST)
    assert (reply.text, reply.finish, reply.model, reply.usage.output) == ("Short. Rating: [[1]]", "stop", "served-model", 5)
    assert server.seen[0].body["stream"] is False, "it was told not to"


@each
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda events: events[:-2], "the stream ended before the reply did"),
        (lambda events: [*events[:3], "data: {\n\n"], "an event of the reply's stream is garbled"),
        (lambda events: ["data: " + "[" * 100_000 + "\n\n"], "an event of the reply's stream is garbled"),
        (lambda events: [*events[:3], 'data: {"error": {"message": "lost it", "type": "server_error"}}\n\n'], "lost it"),
    ],
    ids=["cut", "garbled", "deep", "error"],
)
def test_a_stream_that_nobody_asked_for_and_that_breaks_is_no_reply(server: Any, kind: str, change: Any, words: str) -> None:
    events = change(EVENTS[kind] if kind == "anthropic" or "ended" not in words else api.chat_events("Short.", usage=False))
    server.answer = lambda _: api.Reply("".join(events).encode(), headers={"content-type": "text/event-stream"})
    error = failure(local(server, kind))
    assert error.retryable
    assert words in error.reason


@each
@pytest.mark.parametrize(
    "words",
    [
        "Stream must be set to true",
        "`stream` must be true",
        "This model only supports streaming.",
        "parameter.enable_thinking must be set to false for non-streaming calls",
        "enable thinking can not be support when `stream=False`",
        "max_tokens above 4096 requires stream=true",
    ],
)
def test_a_server_that_only_streams_is_asked_for_streams_from_then_on(server: Any, kind: str, words: str) -> None:
    events = EVENTS[kind]
    server.answer = lambda body: api.Reply(events, how="events") if body["stream"] else shared.turned_down(words)
    provider = local(server, kind)
    assert [reply.text for reply in ask(provider, REQUEST, REQUEST)] == ["Short. Rating: [[1]]"] * 2
    assert [seen.body["stream"] for seen in server.seen] == [False, True, True]
    assert any("answers by streams alone" in note for note in provider.notes)


@each
@pytest.mark.parametrize("words", ["stream_options: unsupported", "messages: text is too long", "The upstream server only answers at night"])
def test_other_complaints_make_no_stream(server: Any, kind: str, words: str) -> None:
    server.answer = lambda _: shared.turned_down(words)
    assert failure(local(server, kind)).status == 400
    assert [seen.body["stream"] for seen in server.seen] == [False]


# ---------------------------------------------------------------------------------------------------- models that take no system text


def has_system(body: dict[str, Any]) -> bool:
    return "system" in body or any(message["role"] == "system" for message in body["messages"])


@each
@pytest.mark.parametrize(
    "words",
    [
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Only user and assistant roles are supported!",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
    ],
)
def test_a_model_without_a_system_role_gets_the_system_text_before_the_question(server: Any, kind: str, words: str) -> None:
    server.answer = lambda body: shared.turned_down(words) if has_system(body) else "2"
    provider = local(server, kind)
    examples = (REQUEST.messages[0], Message("user", "Q"), Message("assistant", "A"), Message("user", "Q2"))
    assert [reply.text for reply in ask(provider, REQUEST, replace(REQUEST, messages=examples))] == ["2", "2"]
    assert [has_system(seen.body) for seen in server.seen] == [True, False, False], "it is refused once"
    assert server.seen[1].body["messages"] == [{"role": "user", "content": f"Rate.\n\n{REQUEST.messages[1].content}"}]
    assert [message["content"] for message in server.seen[2].body["messages"]] == ["Rate.\n\nQ", "A", "Q2"]
    assert len(provider.notes) == 1
    assert "a-model refuses system: the system text stands before the user's message" in provider.notes[0]


@each
def test_a_complaint_of_the_system_text_where_there_is_none_ends(server: Any, kind: str) -> None:
    server.answer = lambda body: shared.turned_down("System role not supported")
    error = failure(local(server, kind))
    assert (error.status, error.retryable) == (400, False)
    assert len(server.seen) == 2


# ---------------------------------------------------------------------------------------------------- what later processes know


@each
def test_what_was_refused_is_noted_by_a_later_process_whose_replies_are_cached(server: Any, kind: str, tmp_path: Path) -> None:
    other = "seed" if kind == "openai" else "tool_choice"
    server.answer = lambda body: next(
        (shared.turned_down(f"{name}: unsupported") for name in ("temperature", other) if name in body), "Rating: [[1]]"
    )
    memory = tmp_path / "cache" / "refusals.json"
    request = replace(REQUEST, seed=3) if kind == "openai" else replace(REQUEST, schema=SCHEMA)
    first = local(server, kind, memory=memory)
    ask(first, request)
    later = local(server, kind, memory=memory)
    assert later.notes == ()
    later.recall(request)
    assert sorted(later.notes) == sorted(first.notes)
    assert len(later.notes) == 2
    sent = len(server.seen)
    ask(later, request)
    assert "temperature" in server.seen[sent].body, "a later process asks as it would: models change"
    assert sorted(later.notes) == sorted(first.notes), "and says nothing twice"


@each
def test_only_what_such_a_request_holds_is_recalled(server: Any, kind: str, tmp_path: Path) -> None:
    server.answer = lambda body: shared.turned_down("temperature: unsupported") if "temperature" in body else "1"
    ask(local(server, kind, memory=tmp_path / "refusals.json"), REQUEST)
    for request in (replace(REQUEST, temperature=None), replace(REQUEST, model="another")):
        later = local(server, kind, memory=tmp_path / "refusals.json")
        later.recall(request)
        assert later.notes == ()


def test_a_memory_that_cannot_be_written_or_read_stops_nothing(server: Any, tmp_path: Path) -> None:
    server.answer = lambda body: shared.turned_down("temperature: unsupported") if "temperature" in body else "1"
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    provider = local(server, "openai", memory=tmp_path / "file" / "refusals.json")
    assert ask(provider, REQUEST).text == "1"
    assert len(provider.notes) == 1
    for content in ("{", "[1]", '{"a": 2}', "null"):
        (tmp_path / "refusals.json").write_text(content, encoding="utf-8")
        provider = local(server, "openai", memory=tmp_path / "refusals.json")
        provider.recall(REQUEST)
        assert provider.notes == ()
        ask(provider, REQUEST)
        assert json.loads((tmp_path / "refusals.json").read_text(encoding="utf-8"))[provider.name] == {"a-model": ["temperature"]}


def test_several_requests_that_are_refused_together_are_noted_once(server: Any, tmp_path: Path) -> None:
    server.answer = lambda body: shared.turned_down("temperature: unsupported") if "temperature" in body else "1"
    provider = local(server, "openai", memory=tmp_path / "refusals.json")

    async def run() -> None:
        await asyncio.gather(*(provider.complete(REQUEST) for _ in range(8)))
        await provider.close()

    asyncio.run(run())
    assert len(provider.notes) == 1
