"""Answers of the batch APIs that are not what they should be: whatever a server sends, the good is kept, and the rest is a failure with a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import providers as shared
from helpers import server as api
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.chat.batch.anthropic import AnthropicBatches
from harness.chat.batch.base import Batches
from harness.chat.batch.openai import OpenAIBatches
from harness.chat.values import ChatReply, ChatRequest, Message, RequestFailed, UnconfirmedBatch

KEY = "sk-proj-0123456789abcdefghijKLMNOP"
NAMES = ("r-0", "r-1", "r-2")
REQUESTS = {name: ChatRequest("m", (Message("user", name),), max_tokens=9) for name in NAMES}
each = pytest.mark.parametrize("kind", shared.KINDS)
bare = shared.bare
pytestmark = pytest.mark.usefixtures("bare")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with api.ApiServer() as running:
        yield running


def batches_of(server: Any, kind: str, **options: Any) -> Batches:
    provider: Any = shared.local(server, kind, **options)
    return (OpenAIBatches if kind == "openai" else AnthropicBatches)(provider, "m", wait=0.001)


def line(kind: str, name: str, text: str = "Rating: [[2]]") -> dict[str, Any]:
    if kind == "openai":
        return {"custom_id": name, "response": {"status_code": 200, "body": api.completion(text)}, "error": None}
    return {"custom_id": name, "result": {"type": "succeeded", "message": api.message(text)}}


def end(server: Any, kind: str, batch_id: str, lines: list[Any], errors: list[Any] = ()) -> None:  # type: ignore[assignment]
    if kind == "openai":
        server.end_openai(batch_id, lines, errors)
    else:
        server.end_anthropic(batch_id, [*lines, *errors])


ODD_LINES = {
    "cut": b'{"custom_id": "r-1", "resp',
    "not JSON": b"<html>",
    "no UTF-8": b'{"custom_id": "\xff\xfe"}',
    "deep": b'{"custom_id": "r-1", "x": ' + b'{"a":[' * 60_000,
    "deep and whole": b'{"custom_id": "r-1", "x": ' + b"[" * 60_000 + b"]" * 60_000 + b"}",
    "large number": b'{"custom_id": "r-1", "x": ' + b"9" * 5000 + b"}",
    "no object": b"[1, 2]",
    "no id": b"{}",
    "an id of another type": b'{"custom_id": ["r-1"]}',
    "repeated": b'{"custom_id": "r-0"}',
    "a key for its id": json.dumps({"custom_id": KEY}).encode(),
    "half a character": b'{"custom_id": "\\ud83d"}',
}


@each
@pytest.mark.parametrize("where", ["results", "errors"])
@pytest.mark.parametrize("odd", ODD_LINES)
def test_one_odd_line_costs_no_other(server: Any, kind: str, where: str, odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    batches = batches_of(server, kind, key_name="MY_SERVER")
    batch_id = batches.submit(REQUESTS)
    lines: list[Any] = [line(kind, "r-0"), line(kind, "r-2")]
    end(server, kind, batch_id, lines if where == "errors" else [*lines, ODD_LINES[odd]], [ODD_LINES[odd]] if where == "errors" else [])
    found = dict(batches.results(batch_id))
    assert all(isinstance(found[name], ChatReply) for name in ("r-0", "r-2"))
    named = set(found) - {"r-0", "r-2"}
    if named:  # whose it is, its reader has to know
        assert odd in ("a key for its id", "half a character")
    else:
        (note,) = batches.notes
        assert f"1 line of 3 in the results of {batch_id} passed over: line 3 (" in note
        assert KEY not in note


@each
@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x1c", "\x0b", "\x0c", "\x1e"])
def test_a_line_ends_at_a_line_break_alone(server: Any, kind: str, separator: str) -> None:
    batches = batches_of(server, kind)
    batch_id = batches.submit(REQUESTS)
    text = f"One{separator}two. Rating: [[2]]"
    raw = json.dumps(line(kind, "r-0", text), ensure_ascii=not separator.isprintable() and separator < " ")
    end(server, kind, batch_id, [raw.encode(), line(kind, "r-1")])
    found = dict(batches.results(batch_id))
    assert set(found) == {"r-0", "r-1"}
    assert found["r-0"].text.startswith("One")  # type: ignore[union-attr]
    assert found["r-0"].text.endswith("two. Rating: [[2]]")  # type: ignore[union-attr]
    assert batches.notes == ()


@each
def test_of_an_answer_and_an_error_to_one_request_the_answer_counts(server: Any, kind: str) -> None:
    batches = batches_of(server, kind)
    batch_id = batches.submit(REQUESTS)
    failed = {"custom_id": "r-0", "response": None, "error": {"code": "batch_expired"}, "result": {"type": "expired"}}
    end(server, kind, batch_id, [line(kind, "r-0"), line(kind, "r-1")], [failed, failed])
    found = dict(batches.results(batch_id))
    assert isinstance(found["r-0"], ChatReply)
    assert "2 lines of 4" in batches.notes[0]


@each
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["https://{host}", "http://{host}:1", "/elsewhere"])
def test_no_redirect_is_followed_by_any_call(
    server: Any, kind: str, status: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVER", KEY)
    batches = batches_of(server, kind, key_name="MY_SERVER")
    batch_id = batches.submit(REQUESTS)
    end(server, kind, batch_id, [])
    away = api.Reply(b"elsewhere", status, {"location": where.format(host="127.0.0.1")})
    for call in (lambda: batches.submit(REQUESTS), lambda: batches.poll(batch_id), lambda: list(batches.results(batch_id))):
        server.fail("/v1", away)
        before = len(server.seen)
        with pytest.raises(RequestFailed) as caught:
            call()
        assert (caught.value.status, caught.value.retryable, len(server.seen)) == (status, False, before + 1)


def test_the_results_are_fetched_from_the_server_that_is_asked(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch names the address of its results: another server that it names, or a gateway repeats, must not get the key."""
    monkeypatch.setenv("MY_SERVER", KEY)
    batches = batches_of(server, "anthropic", key_name="MY_SERVER")
    batch_id = batches.submit(REQUESTS)
    end(server, "anthropic", batch_id, [line("anthropic", name) for name in NAMES])
    with api.ApiServer() as other:
        for url in (f"{other.url}/v1/messages/batches/{batch_id}/results", "", None, 7):
            server.batches[batch_id]["results_url"] = url
            assert {name for name, _ in batches.results(batch_id)} == set(NAMES)
        assert other.seen == []
    assert server.seen[-1].headers["x-api-key"] == KEY
    assert server.seen[-1].headers["anthropic-version"] == "2023-06-01"


SCALAR = st.none() | st.booleans() | st.integers(-2, 300) | st.floats(allow_nan=False) | st.text(max_size=4) | st.just(KEY)
NAMED = ["error", "errors", "data", "message", "content", "status", "status_code", "body", "choices", "usage", "type", "code", "model", "text"]
VALUES = st.recursive(SCALAR, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMED), inner, max_size=3), max_leaves=8)
FIELDS = ["status", "processing_status", "request_counts", "errors", "output_file_id", "error_file_id", "created_at", "input_file_id"]
lean = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@each
@lean
@given(changes=st.dictionaries(st.sampled_from(FIELDS), VALUES, min_size=1, max_size=3), listed=VALUES)
def test_a_batch_of_any_shape_is_read_or_is_a_failure(server: Any, kind: str, changes: dict[str, Any], listed: Any) -> None:
    batches = batches_of(server, kind)
    name, server.batches["odd"] = "odd", {"id": "odd", "status": "failed", "processing_status": "ended", **changes}
    server.files.setdefault("odd", b"")
    unconfirmed = UnconfirmedBatch(0.0, 9e9, 3, "file_0")
    for call in (lambda: batches.poll(name), lambda: list(batches.results(name)), lambda: batches.find(unconfirmed)):
        try:
            call()
        except RequestFailed as failure:
            assert failure.reason  # noqa: PT017 (either is right)
    server.fail("/v1/batches" if kind == "openai" else "/v1/messages/batches", api.Reply(json.dumps({"data": listed}).encode()))
    try:
        assert isinstance(batches.find(unconfirmed), list)
    finally:
        server.batches.pop("odd")
        server._faults.clear()


@each
@lean
@given(entry=st.fixed_dictionaries({"response": VALUES, "error": VALUES, "result": VALUES}), inner=VALUES)
def test_a_line_of_any_shape_is_an_answer_or_a_failure(kind: str, entry: dict[str, Any], inner: Any) -> None:
    batches = batches_of(type("Nowhere", (), {"url": "http://127.0.0.1:9"}), kind)
    body = {"choices": [{"message": {"content": inner}, "finish_reason": inner}], "usage": inner, "model": inner}
    message = {"content": [inner, {"type": "text", "text": inner}], "stop_reason": inner, "usage": inner, "model": inner}
    nearly = {"response": {"status_code": 200, "body": body}, "result": {"type": "succeeded", "message": message}}
    errored = {"response": {"status_code": inner, "body": inner}, "result": {"type": "errored", "error": inner}}
    for one in (entry, nearly, errored):
        assert isinstance(batches._answer(one), ChatReply | RequestFailed)
