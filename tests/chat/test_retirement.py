"""Until when models answer: the shipped table, the user's over it, what an API's list says; and which models think before they reply."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from helpers import providers as shared
from hypothesis import given
from hypothesis import strategies as st

from harness.chat import model_list, retirement
from harness.chat.batch.openai import OpenAIBatches
from harness.chat.providers.openai import OpenAIProvider
from harness.chat.providers.servers import HOMES, retiring_name
from harness.chat.reasoning import load_patterns, reasons
from harness.chat.retirement import ModelRetired, Retirements, load_retirements
from harness.chat.values import ChatRequest, Message
from harness.errors import OptionError

server, ask, bare = shared.server, shared.ask, shared.bare
api = shared.api
pytestmark = pytest.mark.usefixtures("bare")
KEY = "sk-proj-0123456789abcdefghijKLMNOP"
BEFORE, AFTER = date(2026, 12, 1), date(2027, 1, 14)


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_PRICES", raising=False)


def at(monkeypatch: pytest.MonkeyPatch, day: date) -> None:
    monkeypatch.setattr(retirement, "today", lambda: day)


def request(model: str) -> ChatRequest:
    return ChatRequest(model, (Message("user", "Rate."),), max_tokens=50)


@pytest.fixture
def own(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The loopback server in the place of the API's own."""
    monkeypatch.setitem(HOMES, "openai", f"{server.url}/v1")  # type: ignore[misc]
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return server


# ------------------------------------------------------------------------------------------------------------------- the table


def test_snapshots_follow_their_model_unless_they_have_a_row() -> None:
    known = load_retirements()
    for model in ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18", "gpt-4.1"):
        found = known.of("openai", model)
        assert found is not None
        assert (found.day, found.successor) == (date(2027, 1, 14), "gpt-6-luna")
    early = known.of("openai", "gpt-4o-2024-05-13")
    assert early is not None
    assert early.day == date(2026, 10, 23)
    assert known.of("openai", "gpt-6-luna") is None
    assert known.of("openai@localhost:8000", "gpt-4o") is None, "another server goes on"


def test_a_model_is_gone_from_its_day_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_retirements().of("openai", "gpt-4o")
    assert found is not None
    at(monkeypatch, AFTER - timedelta(days=1))
    line = found.warning
    assert not found.gone
    at(monkeypatch, AFTER)
    assert found.gone
    assert found.warning == line, "a stored warning stays true"


def test_the_users_file_adds_rows_and_replaces_them(tmp_path: Path) -> None:
    rows = '[openai.shutdown]\n"gpt-4o" = { date = "2030-01-01" }\n["openai@host".shutdown]\n"m" = { date = 2031-02-03, successor = "n" }\n'
    (tmp_path / "prices.toml").write_text(rows, encoding="utf-8")
    known = load_retirements(tmp_path)
    replaced, added = known.of("openai", "gpt-4o"), known.of("openai@host", "m")
    assert replaced is not None
    assert added is not None
    assert (replaced.day, replaced.successor) == (date(2030, 1, 1), "")
    assert (added.day, added.successor) == (date(2031, 2, 3), "n")
    assert known.of("openai", "gpt-4o-mini") is not None


@pytest.mark.parametrize(
    "row", ['{ date = "soon" }', "{ date = 2027-01-14T00:00:00 }", "1", '{ successor = "x" }', "{ date = 2027-01-14, to = 1 }"]
)
def test_a_row_that_is_no_date_is_one_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "prices.toml").write_text(f'[openai.shutdown]\n"m" = {row}\n', encoding="utf-8")
    with pytest.raises(OptionError) as caught:
        load_retirements(tmp_path)
    assert "[openai.shutdown] m" in caught.value.message


@given(st.dates(date(2020, 1, 1), date(2040, 1, 1)), st.dates(date(2020, 1, 1), date(2040, 1, 1)))
def test_what_the_list_says_comes_before_the_table(listed: date, stated: date) -> None:
    row = retirement.Retirement("openai", "m", stated, "n")
    found = Retirements({("openai", "m"): row}, {("openai", "m"): listed}).of("openai", "m")
    assert found is not None
    assert (found.day, found.successor) == (listed, "n")


# -------------------------------------------------------------------------------------------------------------- nothing is sent


def test_nothing_is_sent_to_a_model_that_is_gone(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, AFTER)
    provider = OpenAIProvider()
    assert provider.name == "openai"
    with pytest.raises(ModelRetired) as caught:
        ask(provider, request("gpt-4o-2024-08-06"))
    assert not caught.value.retryable
    assert "gpt-6-luna" in str(caught.value)
    with pytest.raises(ModelRetired):
        OpenAIBatches(provider, "gpt-4o").submit({"a": request("gpt-4o")})
    assert own.seen == []
    ask(provider, request("gpt-6-luna"))
    assert own.count("POST", "/v1/chat/completions") == 1


def test_another_server_serves_a_model_of_that_name_for_ever(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, date(2099, 1, 1))
    assert ask(OpenAIProvider(base_url=f"{server.url}/v1"), request("gpt-4o")).text
    assert retiring_name("openai", "https://eu.api.openai.com/v1") == "openai", "a region is the API's own"


def test_a_day_that_is_to_come_is_noted(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, BEFORE)
    provider = OpenAIProvider()
    ask(provider, request("gpt-4o"))
    assert any("2027-01-14" in note and "gpt-6-luna" in note for note in provider.notes)


# ------------------------------------------------------------------------------------------------------------------- the list


def test_the_list_is_asked_for_once_a_day(own: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at(monkeypatch, BEFORE)
    own.models = [{"id": "m", "shutdown_date": "2026-12-01"}, {"id": "n", "shutdown_date": None}, {"id": "o", "shutdown_date": "?"}, 3]
    for _ in range(2):
        with pytest.raises(ModelRetired):
            ask(OpenAIProvider(folder=tmp_path), request("m"))
    assert own.count("GET", "/v1/models") == 1
    assert model_list.listed_dates(tmp_path) == {("openai", "m"): BEFORE}
    tomorrow = datetime.now(timezone.utc) + timedelta(days=1, minutes=1)
    monkeypatch.setattr(model_list, "now", lambda: tomorrow)
    ask(OpenAIProvider(folder=tmp_path), request("n"))
    assert own.count("GET", "/v1/models") == 2
    assert KEY not in (tmp_path / model_list.FILE_NAME).read_text()


@pytest.mark.parametrize("reply", [({"error": {"message": "no"}}, 500), ({"data": 3}, 200), ({}, 401)])
def test_a_list_that_cannot_be_had_is_no_obstacle(own: Any, tmp_path: Path, reply: tuple[Any, int]) -> None:
    model_list.keep(tmp_path, "openai", datetime(2020, 1, 1, tzinfo=timezone.utc), {"data": [{"id": "m", "shutdown_date": "2099-01-01"}]})
    own.fail("/v1/models", api.Reply(*reply))
    provider = OpenAIProvider(folder=tmp_path)
    assert ask(provider, request("n")).text
    assert own.count("GET", "/v1/models") == 1
    assert model_list.listed_dates(tmp_path) == {("openai", "m"): date(2099, 1, 1)}, "what was known stays"


def test_no_server_of_ones_own_is_asked_for_its_list(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    ask(OpenAIProvider(base_url=f"{server.url}/v1", key_name="MY_KEY", folder=tmp_path), request("m"))
    assert server.count("GET", "/v1/models") == 0


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"openai": 3}), json.dumps({"openai": {"asked": 1, "shutdown": {"m": 2}}})])
def test_a_kept_list_that_is_damaged_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / model_list.FILE_NAME).write_text(content)
    assert model_list.listed_dates(tmp_path) == {}
    assert not model_list.was_asked(tmp_path, "openai", model_list.now())


# --------------------------------------------------------------------------------------------------------------- models that think


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        ("gpt-5", True), ("gpt-5-mini-2025-08-07", True), ("gpt-6-luna", True), ("openai/gpt-6.1-sol", True), ("o1", True), ("o3-mini", True),
        ("o4-mini-2025-04-16", True), ("gpt-4o", False), ("gpt-4.1-mini", False), ("gpt-3.5-turbo", False), ("gpt-5-chat-latest", False),
        ("gpt-oss-20b", False), ("o9", False), ("Qwen/Qwen3-8B", False),
    ],
)  # fmt: skip
def test_models_that_think_are_known_by_their_names(model: str, thinks: bool) -> None:
    assert reasons(model, load_patterns("openai")) is thinks


def test_the_users_patterns_come_last(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text('[openai]\nreasoning = ["my-*", "!gpt-5.1*"]\n', encoding="utf-8")
    patterns = load_patterns("openai", tmp_path)
    assert [reasons(model, patterns) for model in ("my-model", "gpt-5.1", "gpt-5")] == [True, False, True]
    (tmp_path / "prices.toml").write_text("[openai]\nreasoning = 3\n", encoding="utf-8")
    with pytest.raises(OptionError):
        load_patterns("openai", tmp_path)


def test_a_model_that_thinks_is_asked_as_it_must_be_from_the_start(server: Any) -> None:
    provider = OpenAIProvider(base_url=f"{server.url}/v1")
    ask(provider, request("gpt-6-luna"))
    (sent,) = [seen.body for seen in server.seen]
    assert "temperature" not in sent
    assert (sent["max_completion_tokens"], "max_tokens" in sent) == (50, False)
    assert any("temperature" in note for note in provider.notes)
