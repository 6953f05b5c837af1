"""Plugins that print, end the program, or leave the model changed, from the command line: one line, exit code 2, JSON alone on standard output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.store import RunStore

SOURCE = """
import sys
from dataclasses import dataclass
import torch
from harness import hookimpl
from harness.contracts import JudgeTraits, LabelerTraits, SteererTraits
from harness.interventions import Intervention, Positions
from harness.types import FeatureRef, Labeling, Rating

print("imported")

@dataclass(frozen=True)
class Loud:
    sites: tuple
    positions: Positions = Positions()
    batch_key = "loud"
    def stack(self, rows, device):
        print("stacking")
        return self
    def apply(self, x, ctx):
        print("applying")
        return x

class Labeler:
    traits = LabelerTraits(needs_corpus=False)
    def __init__(self, options): print("making a labeler")
    def label(self, bench, concepts):
        print("labelling")
        {label}
        return (Labeling(concept, (FeatureRef("sae", place),)) for place, concept in enumerate(concepts))

class Steerer:
    traits = SteererTraits(unit="none", grid=(1.0, 2.0), needs_features=True)
    def __init__(self, options): print("making a steerer")
    def prepare(self, bench, labelings):
        print("preparing")
        self.site = bench.site
        {prepare}
    def intervene(self, labeling, strength):
        print("intervening")
        return Intervention(edits=(Loud((self.site,)),))

class Judge:
    traits = JudgeTraits(rubric="loud/1", offline=True)
    def __init__(self, options): pass
    def prepare(self, bench): print("preparing", file=sys.stdout)
    def collect(self, tickets): return ()
    def submit(self, items):
        for place, item in enumerate(items):
            print("rating", item.id)
            {submit}
            yield Rating(item.id, "rated", 1.0, 1.0, 1.0)

@hookimpl
def harness_register_labelers(registry): registry.add("loud", Labeler, summary="loud")
@hookimpl
def harness_register_steerers(registry): registry.add("loud", Steerer, summary="loud")
@hookimpl
def harness_register_judges(registry): registry.add("loud", Judge, summary="loud")
@hookimpl
def harness_run_started(run, folder):
    print("started")
    {started}
"""
COMMAND = ("eval", "--labeler", "loud", "--steerer", "loud", "--judge", "loud", "--no-controls", "--json", "--quiet", "--limit", "2")


@pytest.fixture
def loud(harness: Callable[..., Any], install: Callable[..., Path], tiny_task: Path, tmp_path: Path) -> Callable[..., Any]:
    """Runs the loud plugin with statements put into its methods: ``loud(label="…")``."""

    def run(env: dict[str, str] | None = None, **statements: str) -> Any:
        source = SOURCE
        for name in ("label", "prepare", "submit", "started"):
            source = source.replace(f"{{{name}}}", statements.get(name, "pass"))
        site = install(source, "loud", f"loud-{len(list(tmp_path.glob('site-*')))}")
        return harness(*COMMAND, "--task", tiny_task, "--out", tmp_path / "out", sites=(site,), env=env)

    return run


def test_what_a_plugin_prints_is_on_standard_error_and_no_observer_stops_a_run(loud: Callable[..., Any]) -> None:
    done = loud(started="sys.exit(0)")
    assert len(done.json["rows"]) == 1
    printed = set(done.err.split("\n"))
    assert {"imported", "making a labeler", "labelling", "preparing", "intervening", "stacking", "applying", "started"} <= printed
    assert any(line.startswith("rating ") for line in printed)


def test_a_plugin_that_ends_the_program_is_an_error_and_what_was_computed_stays(loud: Callable[..., Any], tmp_path: Path) -> None:
    done = loud(submit="if place == 3: sys.exit(0)")
    assert done.error.startswith("judge 'loud' of loud-0 tried to end the program in submit (SystemExit: 0) (loud_0_module.py, line ")
    assert "Traceback" not in done.err
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    with RunStore.open(folder, read_only=True) as store:
        assert store.counts()["generations"] == store.counts()["trials"] > 0
        assert store.rating_counts(store.judges()[0].key)["rated"] == 3


def test_its_traceback_is_shown_when_asked_for(loud: Callable[..., Any]) -> None:
    done = loud(env={"HARNESS_TRACEBACK": "1"}, label="{}['x']")
    assert done.error.startswith("labeler 'loud' of loud-0 failed in label: KeyError: 'x' (loud_0_module.py, line ")
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    "statement", ["bench.model.layers[0].register_forward_hook(lambda *a: None)", "bench.model.unembedding.weight.data[7].zero_()"]
)
def test_a_changed_model_ends_the_run_with_nothing_of_that_call(loud: Callable[..., Any], tmp_path: Path, statement: str) -> None:
    error = loud(label=statement).error
    assert error.startswith("labeler 'loud' of loud-0 has changed the subject model in label: ")
    assert [*(tmp_path / "out" / "runs").iterdir()] == []  # no answer of that call, and nothing else was computed
