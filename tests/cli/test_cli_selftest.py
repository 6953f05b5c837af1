"""``harness judge selftest`` and ``harness judge cache`` where things go wrong: one line, and no number made of a failure."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PASTED = "sk-proj-AbCdEf0123456789abcdef"


@pytest.fixture(scope="module")
def api(api_servers: Any) -> Iterator[Any]:
    """An OpenAI-compatible server that rates every text 1."""
    with api_servers.ApiServer(lambda body: "Rating: [[1]]") as server:
        server.module = api_servers
        yield server


@pytest.fixture
def judged(harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``judged(*arguments)``: harness judge …, in a cache and a working folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Any:
        return harness("judge", *arguments, env={"HARNESS_CACHE": str(tmp_path / "cache"), **(env or {})})

    return run


def kept(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "selftests").glob("*"))


def test_a_judge_that_cannot_be_reached_has_no_result(judged: Callable[..., Any], tmp_path: Path) -> None:
    done = judged("selftest", "openai", "-J", "base_url=http://127.0.0.1:9/v1", "-J", "attempts=1", "--yes")
    assert done.code == 2
    assert "the connection failed" in done.error
    assert "FAILED" not in done.out
    assert kept(tmp_path) == []


def test_a_question_that_the_server_drops_leaves_no_result(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    blocked = api.module.Reply({"error": {"message": "blocked by policy"}}, 400)
    api.answer = lambda body: blocked if "Mars" in json.dumps(body) or len(api.seen) % 50 == 7 else "Rating: [[1]]"
    done = judged("selftest", "openai", "-J", f"base_url={api.url}/v1", "--yes")
    assert done.code == 2
    assert "texts got no answer, which says nothing of the judge, so no result is kept" in done.error
    assert "blocked by policy" in done.error
    assert kept(tmp_path) == []
    api.answer = lambda body: "Rating: [[1]]"
    again = judged("selftest", "openai", "-J", f"base_url={api.url}/v1", "--yes")
    assert again.code == 1, "a judge that gives one rating to everything fails"
    assert f"openai gpt-4o at {api.url}/v1" in " ".join(again.out.split())
    assert len(kept(tmp_path)) == 1


def test_replies_that_cannot_be_read_count_as_wrong_and_are_told(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    api.answer = lambda body: "I would rather not say." if len(api.seen) % 9 == 4 else "Rating: [[1]]"
    done = judged("selftest", "openai", "-J", f"base_url={api.url}/v1", "-J", "asks=1", "--yes")
    assert done.code == 1
    told = " ".join(done.out.split())
    unrated = re.search(r"(\d+) of 66 texts were not rated, which counts as wrong; the first reason:", told)
    assert unrated is not None, told
    assert "paid $0.0000" in done.err, "a local server"
    (path,) = kept(tmp_path)
    assert f"judge openai gpt-4o at {api.url}/v1 fails the self-test" in json.loads(path.read_text(encoding="utf-8"))["warning"]
    assert f"{unrated[1]} of 66 texts unrated" in json.loads(path.read_text(encoding="utf-8"))["warning"]


def test_batches_are_refused_before_anything_is_handed_in(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    before = len(api.seen)
    done = judged("selftest", "openai", "-J", f"base_url={api.url}/v1", "-J", "mode=batch", "--yes")
    assert done.code == 2
    assert "mode=live" in done.error
    assert len(api.seen) == before
    assert kept(tmp_path) == []


def test_the_server_of_the_environment_is_another_judge(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    api.answer = lambda body: "Rating: [[1]]"
    env = {"OPENAI_BASE_URL": f"{api.url}/v1", "OPENAI_API_KEY": "sk-mine-0123456789abcdef"}
    assert json.loads(judged("selftest", "openai", "--yes", "--json", env=env).out)["passed"] is False
    assert api.seen[-1].headers["authorization"] == "Bearer sk-mine-0123456789abcdef"
    (from_environment,) = kept(tmp_path)
    assert judged("selftest", "openai", "-J", f"base_url={api.url}/v1/", "-J", "key_name=OPENAI_API_KEY", "--yes", env=env).code == 1
    assert kept(tmp_path) == [from_environment], "the same server by another word is the same judge"
    from harness_plugins.judges.openai import OpenAIOptions

    from harness.judging.rubric import load_rubric
    from harness.judging.selftest import Examined, _place
    from harness.options import as_json, transport_names

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
        options = {name: value for name, value in as_json(OpenAIOptions()).items() if name not in transport_names(OpenAIOptions)}
        known = json.loads(from_environment.read_text(encoding="utf-8"))["of"]
        own = Examined("openai", load_rubric("default").identity(), options, known["code"], known["files"])
        assert _place(own) != from_environment, "nor is it OpenAI's own"


@pytest.mark.parametrize("option", [f"key_name={PASTED}", f"base_url=https://me:{PASTED}@host/v1", f"base_url=http://h/v1?key={PASTED}"])
def test_a_secret_in_the_wrong_option_is_not_shown(judged: Callable[..., Any], option: str, tmp_path: Path) -> None:
    done = judged("selftest", "openai", "-J", option, "--yes")
    assert done.code == 2
    assert PASTED not in done.out + done.err
    assert PASTED[8:] not in done.out + done.err
    assert not any(PASTED.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_a_key_given_for_its_name_reaches_no_run(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    command = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--judge", "openai", "-J", f"key_name={PASTED}", "--yes")
    done = harness(*command, "--task", tiny_task, "--out", tmp_path)
    assert done.code == 2
    assert "key_name takes the name of an environment variable" in done.error
    assert PASTED not in done.out + done.err
    assert not any(PASTED.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


@pytest.mark.parametrize("days", ["1e12", "nan", "inf"])
def test_an_age_that_is_none(judged: Callable[..., Any], days: str) -> None:
    done = judged("cache", "prune", "--days", days)
    assert done.code == 2
    assert done.error.startswith("--days is ")
    assert "allowed: 0 to 36,500" in done.error
    assert judged("cache", "prune", "--days", "36500").code == 0


def test_a_file_that_cannot_be_written(judged: Callable[..., Any], tmp_path: Path) -> None:
    done = judged("cache", "export", "-o", tmp_path / "nowhere" / "x.jsonl")
    assert done.code == 2
    assert "cannot write the replies to" in done.error


@pytest.mark.parametrize(
    "arguments",
    [
        ("selftest", "openai", "-J", PASTED),
        ("selftest", "openai", "-J", f"concurrency={PASTED}"),
        ("selftest", "openai", "-J", f"mode={PASTED}"),
        ("selftest", "openai", "-J", f"rubric={PASTED}"),
        ("compare", PASTED),
        (PASTED, "--judge", "openai"),
    ],
)
def test_a_key_in_the_wrong_place_is_not_shown(judged: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    told = judged(*arguments)
    assert told.code == 2
    assert PASTED not in told.err + told.out
    assert told.error


def test_a_crash_report_shows_no_key(tmp_path: Path) -> None:
    program = "import sys; from harness.cli import main; import harness.plugin.host as p\ndef broken(*_): raise RuntimeError(sys.argv[-1])\n"
    program += "p.PluginHost.load = broken\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", program, "plugins", "show", PASTED], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 1
    assert "RuntimeError: [key]" in done.stderr
    assert PASTED not in done.stderr
