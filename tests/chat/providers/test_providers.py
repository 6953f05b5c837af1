"""What both providers do: keys and headers go where they belong, refused parameters are remembered, and the key shows nowhere."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers import providers as shared

from harness.chat.values import ChatRequest, Message, Provider
from harness.errors import JudgeError

api, server, bare, local, ask, failure = shared.api, shared.server, shared.bare, shared.local, shared.ask, shared.failure
tls_server = shared.tls_server
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


@each
def test_a_server_without_tls_that_is_asked_by_https_says_so(server: Any, kind: str) -> None:
    error = failure(type(local(server, kind))(base_url=server.url.replace("http:", "https:"), timeout=5.0))
    assert "the TLS connection failed: the server does not speak it" in error.reason
    assert "http:// in place of https://" in error.reason
    assert not error.retryable


# ---------------------------------------------------------------------------------------------------- streams that nobody asked for

EVENTS = {"openai": api.chat_events("Short. Rating: [[1]]"), "anthropic": api.message_events(api.message("Short. Rating: [[1]]"))}


@each
@pytest.mark.parametrize("content_type", ["text/event-stream", "text/event-stream; charset=utf-8", "application/json", "text/plain"])
def test_a_server_that_streams_whatever_it_is_asked_is_read(server: Any, kind: str, content_type: str) -> None:
    body = b": a comment\n\n" * content_type.startswith("text/event") + "".join(EVENTS[kind]).replace("\n", "\r\n").encode()
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
