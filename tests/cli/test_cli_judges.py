"""Judges behind APIs, from the command line to the entry: a real HTTP server on loopback answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.store import RunStore

SECRET = "sk-loopback-0123456789abcdef"
CLAMP = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp", "--no-controls")


@pytest.fixture(scope="module")
def api(api_servers: Any) -> Iterator[Any]:
    """An OpenAI-compatible server: every text gets the ratings 2, 1 and 2."""

    def answer(body: dict[str, Any]) -> str:
        asked = json.dumps(body["messages"])
        return "It is read. Rating: [[1]]" if "instruction" in asked.split("Rating")[0][:400].lower() else "It is read. Rating: [[2]]"

    with api_servers.ApiServer(answer) as server:
        yield server


@pytest.fixture
def judged(harness: Callable[..., Any], api: Any, tiny_task: Path, tmp_path: Path) -> Callable[..., Any]:
    """``judged(*more)``: the tiny evaluation with the API's judge, in a cache of its own."""

    def run(*more: str, env: dict[str, str] | None = None) -> Any:
        options = ("--judge", "openai", "-J", f"base_url={api.url}/v1", "-J", "key_name=MY_KEY", "--task", tiny_task, "--out", tmp_path)
        environment = {"MY_KEY": SECRET, "HARNESS_CACHE": str(tmp_path / "cache"), **(env or {})}
        return harness(*CLAMP, *options, *more, env=environment)

    return run


def test_cost_is_shown_and_asked_for_before_anything_is_sent(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    before = len(api.seen)
    refused = judged("-J", "base_url=https://api.example.test/v1")
    place = tmp_path / "cache" / "prices.toml"
    assert f"the judge may cost an unknown amount, and nobody can be asked here; write the price into {place}" in refused.error
    assert "\n" not in refused.error.strip()
    assert "cost unknown: no price for openai@api.example.test/gpt-4o" in refused.err
    assert '["openai@api.example.test".models]\n"gpt-4o" = { input = 0.00, output = 0.00 }\n' in refused.err
    plan = judged("--dry-run")
    assert "free unless the price file says otherwise" in " ".join(plan.out.split()), "a loopback server"
    prices = tmp_path / "prices.toml"
    name = f"openai@{api.url.removeprefix('http://')}"
    prices.write_text(f'["{name}".models]\n"gpt-4o" = {{ input = 1000.0, output = 1000.0 }}\n', encoding="utf-8")
    dear = judged(env={"HARNESS_PRICES": str(prices)})
    assert "the judge may cost up to $" in dear.error
    assert "if every reply can be read), more than --max-cost 1" in dear.error, "the likely figure stands beside the upper bound"
    assert len(api.seen) == before
    plan = judged("--dry-run", env={"HARNESS_PRICES": str(prices)}).out
    assert "96 calls, at most" in " ".join(plan.split())  # 4 concepts × 2 strengths × 4 instructions × 3 ratings
    assert "at most $" in plan
    assert "with repeats of unreadable replies at most 288 calls and $" in " ".join(plan.split())
    likely = float(dear.error.split("($")[1].split(" ")[0].replace(",", ""))
    between = judged("--max-cost", str(2 * likely), env={"HARNESS_PRICES": str(prices)})
    assert "the judge may cost up to $" in between.error, "approved is the larger one, three times as much"
    assert len(api.seen) == before


def test_a_run_is_rated_by_an_api_and_never_paid_for_twice(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    before = len(api.seen)
    entry = judged("--yes", "--json").json
    sent = len(api.seen) - before
    assert 3 <= sent <= 72
    assert (entry["judge"]["name"], entry["judge"]["offline"]) == ("openai", False)
    assert entry["judge"]["rubric"].startswith("default/1")
    (row,) = entry["rows"]
    assert (row["n_texts"], row["n_unrated"]) == (24, 0)
    assert row["metrics"]["instruction"]["value"] is not None
    again = judged("--yes", "--json").json
    assert len(api.seen) - before == sent
    assert again["rows"] == entry["rows"]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_proxy_that_cannot_be_used_is_one_line_before_anything_is_computed(judged: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    before = len(api.seen)
    refused = judged("--yes", env={"ALL_PROXY": "socks://me:secret@127.0.0.1:9", "NO_PROXY": ""})
    assert "ALL_PROXY names a proxy of the kind 'socks', which cannot be used here" in refused.error
    assert "secret" not in refused.err
    assert "generating" not in refused.err
    assert "rating with" not in refused.err
    assert len(api.seen) == before


@pytest.mark.parametrize("mode", ["live", "batch"])
def test_a_server_that_repeats_the_key_in_any_field_gets_it_stored_nowhere(
    judged: Callable[..., Any], api: Any, api_servers: Any, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(range(10_000))

    def echo(body: dict[str, Any]) -> Any:
        """The key in every field that a reply has; now and then as an error."""
        if next(said) % 5 == 4:
            return api_servers.Reply({"error": {"message": f"no {SECRET}", "code": SECRET, "type": SECRET, "param": f"x {SECRET}"}}, 400)
        whole = api_servers.completion(f"Bearer {SECRET}. Rating: [[1]]", finish=f"stop {SECRET}", model=f"model-{SECRET}-1")
        return {**whole, "id": SECRET, "system_fingerprint": SECRET, "usage": {**whole["usage"], SECRET: 1, "prompt_tokens": 7}}

    monkeypatch.setattr(api, "answer", echo)
    done = [judged("--yes", "--judge-mode", mode)]
    if mode == "batch":
        for name, batch in api.batches.items():
            rows = [json.loads(line) for line in api.files[batch["input_file_id"]].splitlines()]
            bodies = [(row["custom_id"], echo(row["body"])) for row in rows]
            answers = [
                {"custom_id": key, "response": {"status_code": getattr(body, "status", 200), "body": getattr(body, "body", body)}}
                for key, body in bodies
            ]
            api.end_openai(name, [*answers, {"custom_id": SECRET, "response": answers[0]["response"]}])
        done.append(judged("--yes", "--judge-mode", mode))
    shown = "".join(one.out + one.err for one in done)
    assert "[key]" in shown or "unrated" in shown
    assert SECRET[:12] not in shown
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    contents = {path: path.read_bytes() for path in files}
    assert any(b"model-[key]" in content for content in contents.values()), "what was kept is the cleaned word"
    assert [path for path, content in contents.items() if SECRET[:12].encode() in content] == []


def test_a_batch_is_collected_by_the_same_command(judged: Callable[..., Any], api: Any) -> None:
    first = judged("--yes", "--judge-mode", "batch", "--json").json
    assert first["rows"][0]["n_pending"] == 24
    for name, batch in api.batches.items():
        asked = [json.loads(line)["custom_id"] for line in api.files[batch["input_file_id"]].splitlines()]
        body = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Rating: [[2]]"}, "finish_reason": "stop"}],
            "model": "m",
        }
        api.end_openai(name, [{"custom_id": key, "response": {"status_code": 200, "body": body}, "error": None} for key in reversed(asked)])
    done = judged("--yes", "--judge-mode", "batch", "--json").json
    assert (done["rows"][0]["n_pending"], done["rows"][0]["n_unrated"]) == (0, 0)


def test_a_batch_of_a_model_that_refuses_a_parameter_is_sent_again_without_it(judged: Callable[..., Any], api: Any) -> None:
    """Reasoning models refuse a temperature, which a batch says a day later, line by line."""
    before = set(api.batches)

    def newest() -> tuple[str, dict[str, dict[str, Any]]]:
        name = next(name for name in reversed(api.batches) if name not in before)
        lines = [json.loads(line) for line in api.files[api.batches[name]["input_file_id"]].splitlines()]
        return name, {line["custom_id"]: line["body"] for line in lines}

    def collect() -> Any:
        return judged("--yes", "--judge-mode", "batch", "--json").json

    collect()
    name, first = newest()
    assert all("temperature" in body for body in first.values())
    said = {"error": {"message": "Unsupported value: 'temperature' does not support 0 with this model.", "param": "temperature"}}
    api.end_openai(name, [], [{"custom_id": key, "response": {"status_code": 400, "body": said}, "error": None} for key in first])
    before.add(name)
    entry = collect()
    assert (entry["rows"][0]["n_pending"], entry["rows"][0]["n_unrated"]) == (24, 0)
    assert any("refuses temperature: the model's own temperature is used" in warning for warning in entry["warnings"])
    name, second = newest()
    assert second == {key: {k: v for k, v in body.items() if k != "temperature"} for key, body in first.items()}
    message = {"message": {"role": "assistant", "content": "Rating: [[2]]"}, "finish_reason": "stop"}
    api.end_openai(
        name, [{"custom_id": key, "response": {"status_code": 200, "body": {"choices": [message]}}, "error": None} for key in second]
    )
    before.add(name)
    done = collect()
    assert (done["rows"][0]["n_pending"], done["rows"][0]["n_unrated"]) == (0, 0)
    assert set(api.batches) <= before


@pytest.mark.parametrize("status", [400, 429])
def test_a_server_that_refuses_everything_ends_the_run_in_one_line(
    judged: Callable[..., Any], api: Any, tmp_path: Path, status: int
) -> None:
    rated = api.answer
    said = {"message": "The chat template has no place for this.", "code": "insufficient_quota" if status == 429 else None}
    before = len(api.seen)
    api.answer = lambda body: sys.modules["helpers.server"].Reply({"error": said}, status)
    try:
        stopped = judged("--yes", "-J", "concurrency=4")
    finally:
        api.answer = rated
    assert "gpt-4o cannot be asked: openai@" in stopped.error
    assert "what was rated is kept, and the same command goes on from there" in stopped.error
    assert len(api.seen) - before < 24, "of up to 72"
    assert not (tmp_path / "leaderboard").exists(), "no entry of unrated texts"
    entry = judged("--yes", "-J", "concurrency=4", "--json").json
    assert entry["rows"][0]["n_unrated"] == 0


def test_odd_values_from_a_server_end_nothing(judged: Callable[..., Any], api: Any) -> None:
    """Half a character, which JSON carries as an escape, and a count beyond 64 bits."""
    rated = api.answer

    def odd(body: dict[str, Any]) -> dict[str, Any]:
        said = sys.modules["helpers.server"].completion("half \ud83d\n\nRating: [[1]]", finish="st\ud83dop", model="x\ud83d")
        return {**said, "usage": {"prompt_tokens": 10**25, "completion_tokens": 1e25}}

    api.answer = odd
    try:
        entry = judged("--yes", "--json").json
    finally:
        api.answer = rated
    assert entry["rows"][0]["n_unrated"] == 0


def test_the_selftest_marks_a_judge_that_fails(judged: Callable[..., Any], harness: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    env = {"MY_KEY": SECRET, "HARNESS_CACHE": str(tmp_path / "cache")}
    options = ("-J", f"base_url={api.url}/v1", "-J", "key_name=MY_KEY")
    done = harness("judge", "selftest", "openai", *options, "--yes", "--json", env=env)
    assert done.code == 1
    found = json.loads(done.out)
    assert (found["passed"], found["texts"] >= 60) == (False, True)
    assert sum(map(sum, found["confusion"]["concept"])) >= 18
    entry = judged("--yes", "--json").json
    assert any(f"judge openai gpt-4o at {api.url}/v1 fails the self-test" in warning for warning in entry["warnings"])


def test_the_cache_of_replies(judged: Callable[..., Any], harness: Callable[..., Any], tmp_path: Path) -> None:
    judged("--yes", "--quiet")
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    stats = harness("judge", "cache", "stats", "--json", env=env).json
    assert stats["entries"] > 0
    assert "gpt-4o" in harness("judge", "cache", "stats", env=env).out
    assert harness("judge", "cache", "export", "-o", tmp_path / "replies.jsonl", env=env).code == 0
    assert len((tmp_path / "replies.jsonl").read_text(encoding="utf-8").splitlines()) == stats["entries"]
    assert "--days N" in harness("judge", "cache", "prune", env=env).error
    assert f"{stats['entries']:,} replies removed" in harness("judge", "cache", "prune", "--model", "gpt-4o", env=env).out


def test_people_rate_a_run(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    """The run ends pending, and the same command collects what people have written."""
    command = (*CLAMP, "--task", tiny_task, "--out", tmp_path, "--judge", "human", "-J", f"folder={tmp_path / 'sheets'}")
    first = harness(*command)
    assert first.code == 0, first.err
    assert "pending: waits for raters" in first.err
    (sheet,) = (tmp_path / "sheets").glob("*.csv")
    lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    assert len(lines) >= 2
    import csv

    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update(concept_rating="2", instruction_rating="1", fluency_rating="2")
    with sheet.with_name("sheet-1-anna.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    entry = harness(*command, "--json").json
    (row,) = entry["rows"]
    assert (row["n_pending"], row["n_unrated"]) == (0, 0)
    assert row["metrics"]["concept"]["value"] == 2.0


@pytest.mark.parametrize("writer", ["subject", "openai"])
def test_prompts_are_written_for_each_concept(harness: Callable[..., Any], api: Any, tiny_task: Path, tmp_path: Path, writer: str) -> None:
    env = {"MY_KEY": SECRET, "HARNESS_CACHE": str(tmp_path / "cache")}
    server = ("-S", "prompt:max_tokens=48") if writer == "subject" else ("-S", f"prompt:base_url={api.url}/v1", "-S", "prompt:key_name=MY_KEY")
    command = (
        "eval",
        "--steerer",
        "prompt",
        "-S",
        f"prompt:writer={writer}",
        *server,
        "--task",
        tiny_task,
        "--no-controls",
        "--yes",
        "--out",
        tmp_path,
    )
    before = len(api.seen)
    entry = harness(*command, "--json", env=env).json
    assert entry["rows"][0]["subject"]["steerer_options"]["given"]["writer"] == writer
    assert len(api.seen) - before == (0 if writer == "subject" else 4)
    assert harness(*command, "--json", env=env).json["rows"] == entry["rows"]
    assert len(api.seen) - before == (0 if writer == "subject" else 4)
    (run,) = (tmp_path / "runs").iterdir()
    with RunStore.open(run, read_only=True) as store:
        prompts = [generation.prompt for generation in store.generations().values()]
    if writer == "openai":
        assert all(prompt.removeprefix("<s>").strip().startswith("It is read. Rating: [[1]]") for prompt in prompts)


def test_a_plan_without_a_key_is_shown_all_the_same(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    out = harness(*CLAMP, "--judge", "gpt-4o", "--task", tiny_task, "--dry-run").out
    assert "ratings by gpt-4o" in " ".join(out.split())
    assert "cost not estimated: no API key: OPENAI_API_KEY" in " ".join(out.split())
