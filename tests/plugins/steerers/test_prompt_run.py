"""Prompts that an API writes, from the command line to run and entry: approved before, counted after, and the same when a run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.store import RunStore

SECRET = "sk-loopback-0123456789abcdef"
REFUSES = "I'm sorry, but I can't help with that."


@pytest.fixture
def api(api_servers: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server that writes prompts of all but zebras, and rates every text 2."""
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def answer(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if "Write an instruction" not in asked:
            return "Fine. Rating: [[2]]"
        return REFUSES if "zebra" in asked else f"Sure!\n\nAlways speak of {asked.split('answer: ')[1].split('.')[0]}."

    with api_servers.ApiServer(answer) as server:
        yield server


@pytest.fixture
def run(harness: Callable[..., Any], api: Any, tiny_task: Path, tmp_path: Path) -> Callable[..., Any]:
    """``run(*more)``: the tiny evaluation with prompts that the API writes, in a cache of its own."""

    def command(*more: str, env: dict[str, str] | None = None) -> Any:
        writer = ("-S", "writer=openai", "-S", f"base_url={api.url}/v1", "-S", "key_name=MY_KEY")
        base = ("eval", "--steerer", "prompt", *writer, "--no-controls", "--task", tiny_task, "--out", tmp_path)
        return harness(*base, *more, env={"MY_KEY": SECRET, "HARNESS_CACHE": str(tmp_path / "cache"), **(env or {})})

    return command


@pytest.fixture
def priced(api: Any, tmp_path: Path) -> dict[str, str]:
    path = tmp_path / "prices.toml"
    name = f"openai@{api.url.removeprefix('http://')}"
    models = '"gpt-4o-mini" = { input = 100.0, output = 100.0 }\n"gpt-4o" = { input = 100.0, output = 100.0 }\n'
    path.write_text(f'["{name}".models]\n{models}', encoding="utf-8")
    return {"HARNESS_PRICES": str(path)}


def stored(tmp_path: Path) -> RunStore:
    (folder,) = (tmp_path / "runs").iterdir()
    return RunStore.open(folder, read_only=True)


def test_nothing_is_sent_before_writer_and_judge_are_approved_together(run: Callable[..., Any], api: Any, priced: dict[str, str]) -> None:
    unknown = run("-S", "base_url=https://api.example.test/v1")
    assert "the steerer prompt may cost an unknown amount, and nobody can be asked here; write the price into" in unknown.error
    assert '["openai@api.example.test".models]\n"gpt-4o-mini" = {' in unknown.err
    judge = ("--judge", "openai", "-J", f"base_url={api.url}/v1", "-J", "key_name=MY_KEY")
    dear = run(*judge, env=priced)
    assert "the steerer prompt and judge may cost up to $" in dear.error
    assert "steerer prompt: 4 calls, at most" in dear.err
    assert "with repeats of unreadable replies at most 12 calls" in dear.err
    assert "judge: " in dear.err
    assert not api.seen
    plan = " ".join(run(*judge, "--dry-run", env=priced).out.split())
    assert "steerer prompt: 4 calls, at most" in plan
    assert not api.seen


def test_run_and_entry_say_who_wrote_what_and_what_it_cost(
    run: Callable[..., Any], api: Any, priced: dict[str, str], tmp_path: Path
) -> None:
    entry = run("--yes", "--json", env=priced).json
    assert len(api.seen) == 3 + 3  # a zebra three times
    (row,) = entry["rows"]
    options = row["subject"]["steerer_options"]
    assert options["given"] == {"writer": "openai", "base_url": f"{api.url}/v1"}  # which variable holds the key is nobody's business
    assert options["default"]["writer_model"] == "gpt-4o-mini"
    (warning,) = [warning for warning in entry["warnings"] if "fixed template" in warning]
    assert (
        "openai gpt-4o-mini wrote no usable prompt for 1 of 4 concepts, which got the fixed template (a zebra: the model refused" in warning
    )
    with stored(tmp_path) as store:
        (record,) = [note.value for note in store.notes("steerer prompt")]
        (usage,) = [note.value for note in store.notes("usage: steerer prompt")]
        prompts = [generation.prompt for generation in store.generations().values()]
    assert (record["writer"], record["model"]) == ("openai", "gpt-4o-mini")
    assert record["prompts"]["a girl"] == {"text": "Always speak of a girl.", "by": "served-model", "asked": 1}
    assert (record["prompts"]["a zebra"]["text"], record["prompts"]["a zebra"]["by"]) == ("Your answer must be about a zebra.", "template")
    assert (usage["input"], usage["output"], usage["from_cache"]) == (120, 30, 0)
    assert usage["dollars"] == pytest.approx((120 + 30) * 100 / 1e6)
    texts = [prompt["text"] for prompt in record["prompts"].values()]
    assert len(prompts) == 16
    assert all(any(text in prompt for text in texts) for prompt in prompts)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_run_that_goes_on_has_its_own_prompts_whatever_became_of_the_caches(run: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    first = run("--yes", "--json").json
    (folder,) = (tmp_path / "runs").iterdir()
    with RunStore.open(folder) as store, store._database.transaction("as after a kill half-way"):
        before = store.counts()
        some = "SELECT item_id FROM outcomes WHERE stage = 'generate' ORDER BY item_id LIMIT 6"
        store._database.execute(f"DELETE FROM outcomes WHERE item_id IN ({some})")
        assert store.counts()["generations"] == before["generations"] - 6
    shutil.rmtree(tmp_path / "cache")
    api.answer = lambda body: "Say something else entirely."
    sent = len(api.seen)
    again = run("--yes", "--json").json
    assert len(api.seen) == sent
    assert again["rows"] == first["rows"]
    with stored(tmp_path) as store:
        assert len(store.notes("steerer prompt")) == 1
        assert not any("something else" in generation.prompt for generation in store.generations().values())


def test_how_a_prompt_is_fetched_makes_no_other_run(run: Callable[..., Any], api: Any, tmp_path: Path) -> None:
    run("--yes", "--quiet")
    sent = len(api.seen)
    assert run("--yes", "--quiet", "-S", "timeout=77", "-S", "key_name=OTHER_KEY", env={"OTHER_KEY": SECRET}).code == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert len(api.seen) == sent
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "leaderboard" / "entries").glob("*.json")]
    assert len(entries) == 1
