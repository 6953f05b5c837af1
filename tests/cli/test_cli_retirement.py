"""A judge retires: warned of before its day, refused from it on, its ratings still used; and a bridge to its successor."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.chat import retirement
from harness.chat.providers.servers import HOMES

BEFORE, AFTER = date(2026, 12, 1), date(2027, 1, 14)
RUN = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--steerer", "prompt", "--no-controls", "--yes")


@pytest.fixture
def api(api_servers: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server in the place of OpenAI's own, whose ratings depend on model and question."""

    def answer(body: dict[str, Any]) -> str:
        drawn = hashlib.sha256(json.dumps([body["model"], body["messages"]]).encode()).digest()[0]
        return f"It is read. Rating: [[{drawn % 3}]]"

    with api_servers.ApiServer(answer) as server:
        monkeypatch.setitem(HOMES, "openai", f"{server.url}/v1")  # type: ignore[misc]
        monkeypatch.setenv("OPENAI_API_KEY", "sk-loopback-0123456789abcdef")
        monkeypatch.delenv("HARNESS_PRICES", raising=False)
        monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
        yield server


def asked(api: Any, model: str) -> list[dict[str, Any]]:
    return [seen.body for seen in api.seen if seen.method == "POST" and seen.body["model"] == model]


def test_a_judge_that_retires_is_bridged_to_its_successor(
    harness: Callable[..., Any], api: Any, tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}

    def command(*arguments: Any) -> Any:
        return harness(*arguments, "--out", tmp_path, env=env)

    def evaluate(judge: str, *more: str) -> Any:
        return command(*RUN, "--judge", judge, "--task", tiny_task, *more)

    old = "openai:model=gpt-4o-mini"
    monkeypatch.setattr(retirement, "today", lambda: BEFORE)
    assert "2027-01-14" in " ".join(evaluate(old, "--dry-run").out.split())
    entry = evaluate(old, "--json").json
    assert any("2027-01-14" in line and "gpt-6-luna" in line for line in entry["warnings"])
    assert api.count("GET", "/v1/models") == 1
    (run,) = (tmp_path / "runs").iterdir()

    monkeypatch.setattr(retirement, "today", lambda: AFTER)
    sent, rated = len(api.seen), len(asked(api, "gpt-4o-mini"))
    shown = evaluate(old)
    assert shown.code == 0, "stored ratings stay usable"
    assert "the judge is gone" in " ".join(shown.out.split())
    for refused in (
        evaluate(old, "--fresh"),
        evaluate(old, "--seed", "7"),
        command("judge", run.name, "--judge", "gpt-4o", "--yes"),
    ):
        assert refused.code == 2
        assert "gpt-6-luna" in refused.error
        assert "2027-01-14" in refused.error
        assert "\n" not in refused.error.strip()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.name], "nothing was begun or set aside"
    assert len(api.seen) == sent
    assert "this would end the run" in evaluate(old, "--seed", "7", "--dry-run").out

    bridge = command("judge", "bridge", run.name, "--from", "gpt-4o-mini", "--to", "gpt-6-luna", "--yes", "--json").json
    assert len(asked(api, "gpt-4o-mini")) == rated > 0, "the run's own ratings are used"
    bodies = asked(api, "gpt-6-luna")
    assert bodies
    assert all("temperature" not in body and body["max_completion_tokens"] == 2400 for body in bodies), "room for thoughts"
    check_bridge(bridge)
    n = len(api.seen)
    again = command("judge", "bridge", run.name, "--from", "gpt-4o-mini", "--to", "gpt-6-luna", "--json").json
    assert len(api.seen) == n, "nothing is asked twice"
    assert again["id"] == bridge["id"]
    board = " ".join(command("leaderboard").out.split())
    assert board.count("bridge openai gpt-4o-mini → openai gpt-6-luna") == 2, "beside the rankings of either judge"
    assert board.count("the judge is gone") == 1
    assert command("leaderboard", "--json").json["bridges"][0]["id"] == bridge["id"]
    harness("leaderboard", "build", "--out", tmp_path / "site", "--from", tmp_path, env=env)
    page = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert page.count("bridge openai gpt-4o-mini → openai gpt-6-luna") == 2
    assert "the judge is gone" in page
    same = command("judge", "bridge", run.name, "--from", "gpt-4o-mini", "--to", "openai:model=gpt-4o-mini")
    assert same.code == 2

    shot = command("judge", "bridge", run.name, "--from", "gpt-6-luna", "--to", "openai:model=gpt-6-luna,examples=true", "--yes", "--json").json
    assert shot["first"]["rubric"] != shot["second"]["rubric"], "another rubric is a bridge, too"
    path = Path(bridge["file"])
    path.write_text(path.read_text().replace('"n_missing": 0', '"n_missing": 1'), encoding="utf-8")
    assert "changed after it was written" in " ".join(command("leaderboard").out.split())


def check_bridge(bridge: dict[str, Any]) -> None:
    """Shifts are differences of the two judges' scores, and shifts of differences those of the methods' shifts."""
    shifts = {shift["name"]: shift for shift in bridge["methods"]}
    assert len(shifts) == 2
    for shift in shifts.values():
        assert shift["shift"] == pytest.approx(shift["second"] - shift["first"])
        assert shift["n"] == 4
    (difference,) = bridge["differences"]
    upper, lower = shifts[difference["upper"]], shifts[difference["lower"]]
    assert difference["first"] == pytest.approx(upper["first"] - lower["first"])
    assert difference["shift"] == pytest.approx(upper["shift"] - lower["shift"])
    assert bridge["agreement"]["overall"]["n"] > 0
    assert bridge["agreement"]["concept"]["kappa"] is not None


def test_plugins_and_doctor_say_until_when_a_judge_answers(harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    env = {"HARNESS_CACHE": str(tmp_path)}
    assert "2027-01-14" in harness("plugins", "show", "gpt-4o", env=env).out
    assert "2027-01-14" in harness("doctor", env=env).out
    (judge,) = harness("plugins", "show", "offline", "--json", env=env).json
    assert judge["retirement"] is None
