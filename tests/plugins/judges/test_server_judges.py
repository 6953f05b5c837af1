"""What the judges behind APIs know of their server: which it is, and what its models refused, also where the cache answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness_plugins.judges.anthropic import AnthropicJudge, AnthropicOptions
from harness_plugins.judges.openai import GPT4oOptions, OpenAIJudge, OpenAIOptions

from harness.chat.providers.servers import HOMES
from harness.judging.llm_judge import LLMJudge
from harness.options import as_json, build, transport_names
from harness.types import JudgeItem

KINDS = ["openai", "anthropic"]
BEES = JudgeItem("bees", "beekeeping", "Explain tea.", "Honey goes well with tea.")


@pytest.fixture
def server(api_servers: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A server whose model takes no temperature, and an empty cache."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "sk-mine-0123456789abcdef")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("ANTHROPIC_BASE_URL", raising=False)
    refusal = api_servers.Reply({"error": {"type": "invalid_request_error", "message": "temperature: unsupported with this model"}}, 400)
    with api_servers.ApiServer(lambda body: refusal if "temperature" in body else "Rating: [[1]]") as running:
        yield running


def judge(kind: str, warnings: list[str], **options: Any) -> LLMJudge:
    made: LLMJudge = OpenAIJudge(OpenAIOptions(**options)) if kind == "openai" else AnthropicJudge(AnthropicOptions(**options))
    bench: Any = SimpleNamespace(seed=0, warn=warnings.append)
    made.prepare(bench)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_the_cache_answers_says_what_was_refused_when_it_was_paid_for(server: Any, kind: str) -> None:
    url = f"{server.url}/v1"
    first: list[str] = []
    assert [rating.status for rating in judge(kind, first, base_url=url).submit([BEES])] == ["rated"]
    sent = len(server.seen)
    later: list[str] = []
    again = judge(kind, later, base_url=url)
    assert [rating.status for rating in again.submit([BEES])] == ["rated"]
    assert (len(server.seen), again.hits) == (sent, 3)
    assert set(later) == set(first)
    assert any("refuses temperature" in line for line in later)
    without: list[str] = []
    list(judge(kind, without, base_url=url, temperature=None).submit([BEES]))
    assert without == [], "a judge that asks without a temperature lost nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_of_the_environment_is_asked_and_named(server: Any, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", f"{server.url}/v1")
    found = judge(kind, [])
    assert [rating.status for rating in found.submit([BEES])] == ["rated"]
    assert as_json(found.options)["base_url"].startswith(server.url)
    key = server.seen[0].headers["authorization"]
    assert key == "Bearer sk-mine-0123456789abcdef", "the standard key goes there, as the variable says"


@pytest.mark.parametrize("kind", KINDS)
def test_the_apis_own_server_is_asked_where_it_is_named_whatever_the_environment_says(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv(f"{kind.upper()}_API_KEY", "sk-mine-0123456789abcdef")
    monkeypatch.setenv(f"{kind.upper()}_BASE_URL", "http://127.0.0.1:9/v1")
    made: Any = OpenAIJudge if kind == "openai" else AnthropicJudge
    options = build(OpenAIOptions if kind == "openai" else AnthropicOptions, {"base_url": HOMES[kind]}, "judge x")
    link = made(options)._provider().connection
    assert (as_json(options)["base_url"], link.url, link.server, link.own) == (None, HOMES[kind], kind, True)


def test_a_parameter_refused_in_a_batch_is_noted_by_later_processes(server: Any, tmp_path: Path) -> None:
    warnings: list[str] = []
    first = judge("openai", warnings, base_url=f"{server.url}/v1", mode="batch")
    (pending,) = first.submit([BEES])
    (batch,) = server.batches
    said = {"error": {"message": "Unsupported parameter: 'temperature' is not supported with this model.", "param": "temperature"}}
    names = [json.loads(line)["custom_id"] for line in server.files["file_0"].splitlines()]
    lines = [{"custom_id": name, "response": {"status_code": 400, "body": said}, "error": None} for name in names]
    server.end_openai(batch, [], lines)
    assert [rating.status for rating in judge("openai", warnings, base_url=f"{server.url}/v1", mode="batch").collect([pending.ticket])] == [
        "unrated"
    ]
    (note,) = warnings
    assert "gpt-4o refuses temperature" in note
    (models,) = json.loads((tmp_path / "cache" / "refusals.json").read_text(encoding="utf-8")).values()
    assert models == {"gpt-4o": ["temperature"]}
    later: list[str] = []
    list(judge("openai", later, base_url=f"{server.url}/v1", mode="batch").submit([BEES]))
    assert later == [note]


def test_who_judges_is_model_and_server_not_the_name_of_a_key() -> None:
    for options in (OpenAIOptions, GPT4oOptions, AnthropicOptions):
        built = build(options, {"base_url": "http://localhost:8000/v1/", "key_name": "MY_KEY"}, "judge x")
        left_out = transport_names(options)
        assert "key_name" in left_out
        assert not {"base_url", "model", "rubric"} & set(left_out)
        assert as_json(built)["key_name"] == "MY_KEY"
