"""Steerers joined by ``+`` from the command line: real texts, what is kept and shown of them, what is paid for once, what is refused."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from harness import load_task
from harness.files.version import DISTRIBUTION
from harness.store import RunStore

JOINED, FIXED = "prompt+sae-clamp", "sae-add:strength=40.0,unit=residual-norm+sae-clamp"
ADAPTERS = """
from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention

class Adapter:
    traits = SteererTraits(unit="none", grid=(1.0,))
    def __init__(self, options): pass
    def prepare(self, bench, labelings): pass
    def intervene(self, labeling, strength):
        from pathlib import Path
        return Intervention(adapter=str(Path(__file__).parent))

class Silent(Adapter):
    def intervene(self, labeling, strength): return None

@hookimpl
def harness_register_steerers(registry):
    registry.add("one", Adapter, summary="an adapter")
    registry.add("other", Adapter, summary="another")
    registry.add("silent", Silent, summary="gives nothing")
"""


@pytest.fixture
def greedy(variant: Callable[..., Path]) -> Path:
    """The tiny task without sampling: what steers alike writes alike."""
    return variant(("temperature = 0.7", "temperature = 0.0"))


def texts(out: Path) -> dict[str, dict[tuple[str, str, float], tuple[str, str]]]:
    """By method: prompt and text for each concept, instruction and strength."""
    (folder,) = (out / "runs").iterdir()
    found: dict[str, dict[tuple[str, str, float], tuple[str, str]]] = {}
    with RunStore.open(folder, read_only=True) as store:
        names, made = {method.id: method.name for method in store.manifest.methods}, store.generations()
        for trial in store.trials():
            place = trial.concept_id, trial.instruction_id, trial.strength
            found.setdefault(names[trial.method_id], {})[place] = made[trial.id].prompt, made[trial.id].text
    return found


def test_a_whole_run(harness: Callable[..., Any], greedy: Path, tmp_path: Path) -> None:
    asked = (JOINED, FIXED, "sae-clamp+sae-add:strength=40.0,unit=residual-norm", "sae-add:strength=0.0+sae-clamp", "sae-clamp", "prompt")
    steerers = [word for steerer in asked for word in ("--steerer", steerer)]
    command = ("eval", "--labeler", "calibf1", *steerers, "--no-controls", "--concepts", "girl,big", "--task", greedy, "--out", tmp_path)
    entry = harness(*command, "--json").json
    rows = {row["subject"].get("label") or f"{row['subject']['labeler']} × {row['subject']['steerer']}": row for row in entry["rows"]}
    first, fixed = rows[f"calibf1 × {JOINED}"], rows[f"calibf1 × {FIXED}"]
    assert (first["subject"]["strength_unit"], first["subject"]["grid"]) == ("max-activation", [0.5, 1.0])
    assert fixed["subject"]["steerer"] == "sae-add+sae-clamp"
    assert fixed["subject"]["steerer_options"]["given"] == {"sae-add:strength": 40.0, "sae-add:unit": "residual-norm"}
    assert set(entry["plugins"]) == {DISTRIBUTION, "harness-sample"}  # of the parts and the judge

    found = texts(tmp_path)
    clamp = found["calibf1 × sae-clamp"]
    for place, (prompt, text) in found["calibf1 × sae-add:strength=0.0+sae-clamp"].items():
        assert (prompt, text) == clamp[place]
    said = found[f"calibf1 × {JOINED}"]
    plain = {place[:2]: prompt for place, (prompt, _) in found["prompt"].items()}
    assert all(prompt == plain[place[:2]] != clamp[place][0] for place, (prompt, _) in said.items())
    for one, other in ((said, clamp), (said, {p: found["prompt"][(*p[:2], 1.0)] for p in said}), (found[f"calibf1 × {FIXED}"], clamp)):
        assert any(one[place][1] != other[place][1] for place in one)
    ways = [text for _, text in found[f"calibf1 × {FIXED}"].values()], [
        text for _, text in found["calibf1 × sae-clamp+sae-add:strength=40.0,unit=residual-norm"].values()
    ]
    assert ways[0] != ways[1]  # at one site, the order says what the model reads in the end

    (folder,) = (tmp_path / "runs").iterdir()
    shown = harness("runs", "show", folder.name, "--out", tmp_path, "--json").json
    (method,) = [method for method in shown["methods"] if method["name"] == f"calibf1 × {FIXED}"]
    assert method["plugin"]["given"] == {"sae-add:strength": 40.0, "sae-add:unit": "residual-norm"}
    assert harness(*shlex.split(shown["command"])[1:], "--json").json["rows"] == entry["rows"]
    screen = harness("runs", "show", folder.name, "--out", tmp_path).out
    assert "steerer sae-add+sae-clamp: sae-add:strength=40, sae-add:unit=residual-norm; sae-add:quantile=1" in " ".join(screen.split())
    for name in (JOINED, FIXED):
        assert name in " ".join(harness("leaderboard", "--out", tmp_path, env={"COLUMNS": "300"}).out.split())


def test_the_command_that_is_proposed_asks_for_the_same(harness: Callable[..., Any], greedy: Path, tmp_path: Path) -> None:
    from harness.leaderboard.entry import Entry
    from harness.leaderboard.next_step import Sources, eval_command

    entry = harness(
        "eval", "--labeler", "calibf1", "--steerer", FIXED, "--no-controls", "--limit", "1", "--task", greedy, "--out", tmp_path, "--json"
    ).json
    stored = Entry.model_validate(entry)
    command = eval_command(stored, [stored.rows[0]], Sources(task=str(greedy)))
    plan = harness(*shlex.split(command)[1:], "--dry-run", "--json").json
    assert [method["method"] for method in plan["methods"] if method["role"] == "method"] == [f"calibf1 × {FIXED}"]


def test_prompts_are_written_and_paid_for_once(harness: Callable[..., Any], api_servers: Any, tiny_task: Path, tmp_path: Path) -> None:
    """Alone, as a part, and as a part of the control."""
    with api_servers.ApiServer(lambda body: "Always speak of it.") as api:
        writer = ("-S", "writer=openai", "-S", f"base_url={api.url}/v1", "-S", "key_name=MY_KEY")
        command = ("eval", "--labeler", "calibf1", "--steerer", JOINED, *writer, "--task", tiny_task, "--out", tmp_path, "--yes")
        environment = {"MY_KEY": "sk-loopback-0123456789abcdef", "HARNESS_CACHE": str(tmp_path / "cache")}
        planned = harness(*command, "--dry-run", env=environment)
        assert "steerer prompt: 4 calls, at most" in " ".join(planned.out.split())
        harness(*command, "--json", env=environment).json  # noqa: B018
        assert len(api.seen) == 4
        (folder,) = (tmp_path / "runs").iterdir()
        with RunStore.open(folder, read_only=True) as store:
            (record,) = [note.value for note in store.notes("steerer prompt")]
            (usage,) = [note.value for note in store.notes("usage: steerer prompt")]
        assert len(record["prompts"]) == 4
        assert usage["output"] == 4 * 5
        wordy = {name.partition(" × ")[0]: made for name, made in texts(tmp_path).items() if "prompt" in name}
        assert list(wordy)[:2] == ["calibf1", "random"]
        assert len(wordy) == 3
        assert all("Always speak of it." in prompt for made in wordy.values() for prompt, _ in made.values())
        step = harness("steer", "Once", "--feature", "7", "--steerer", JOINED, *writer, "--strength", "1", "--task", tiny_task, env=environment)
        assert "steerer prompt: 1 call, at most" in step.err
        assert len(api.seen) == 5


def test_steer_shows_what_they_do_together(
    harness: Callable[..., Any], tiny_task: Path, cache_folder: Path, sample_site: Path, installed: Callable[..., Any]
) -> None:
    base = ("steer", "Once upon a time", "--feature", "7", "--task", tiny_task, "--json")
    found = harness(*base, "--steerer", f"{JOINED}:unit=residual-norm", "--strength", "0.5,400").json
    assert (found["steerer"], found["strength_unit"]) == (f"{JOINED}:unit=residual-norm", "residual-norm")
    assert [text["strength"] for text in found["texts"]] == [None, 0.5, 400.0]
    assert len({text["text"] for text in found["texts"]}) == 3
    assert [text["strength"] for text in harness(*base, "--steerer", "prompt+none").json["texts"]] == [None, 1.0]
    with installed(sample_site), mock.patch.dict(os.environ, {"HARNESS_CACHE": str(cache_folder)}):
        task = load_task(tiny_task)
        script = task.steer(f"{JOINED}:unit=residual-norm", task.feature(7), [0.5, 400.0], ["Once upon a time"])
    assert [text.text for text in script] == [text["text"] for text in found["texts"][1:]]


@pytest.mark.parametrize(
    ("steerer", "said"),
    [
        ("one+prompt+other", "steerers one and other each bring an adapter, and the model wears one at a time; join at most one"),
        ("prompt+silent", "steerer 'silent' of other-dist: intervene gave None"),
        ("sae-add+sae-clamp", "fix all but one, e.g. sae-add:strength=0.5"),
        ("prompt+sae-clmp", "did you mean 'sae-clamp'?"),
        ("prompt:template=a+b", "joins"),
        ("prompt+none", None),
    ],
)
def test_what_is_refused_names_the_part(
    harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, steerer: str, said: str | None, tmp_path: Path
) -> None:
    site = install(ADAPTERS)
    named = ("--feature", "7") if said else ("--concept", "dragons", "--strength", "0.5")
    found = harness("steer", "Once upon a time", *named, "--steerer", steerer, "--task", tiny_task, sites=(site,))
    assert (said or "steerer 'prompt+none' has no strength to choose") in found.error or "A value that holds a + is written as JSON" in found.error
