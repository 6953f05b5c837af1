"""``harness eval --executor processes``: the run of the single process, made by workers; what they cannot do is said, and tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.copied_workers import copied_workers
from helpers.runs import run_of

from harness.engine.spreading.processes import ProcessPool
from harness.evaluations.steering import evaluation as steering
from harness.store import RunStore

EVAL = ("eval", "--labeler", "calibf1", "--steerer", "sae-clamp")
POISON = '''
import os
from dataclasses import dataclass
from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention, Positions, Site

OWN = os.getpid()

@dataclass(frozen=True)
class Nothing:
    site: Site
    poisoned: bool
    driver: int
    positions: Positions = Positions()
    batch_key = "nothing"
    @property
    def sites(self):
        return (self.site,)
    def stack(self, rows, device):
        if os.getpid() != self.driver and any(row.poisoned for row in rows):
            raise RuntimeError("poison")
        return self
    def apply(self, x, ctx):
        return x

class Steerer:
    traits = SteererTraits(unit="none", grid=(1.0, 2.0), neutral=None, needs_features=True)
    def __init__(self, options): pass
    def prepare(self, bench, labelings):
        self.site = bench.site
    def intervene(self, labeling, strength):
        return Intervention(edits=(Nothing(self.site, strength == 2.0, OWN),))

@hookimpl
def harness_register_steerers(registry):
    registry.add("poison", Steerer, summary="nothing, and in workers an error")
'''


def texts(out: Path) -> dict[str, Any]:
    """What was generated below ``out``, by trial."""
    with RunStore.open(run_of(out), read_only=True) as store:
        return store.generations()


def test_a_run_made_by_workers_is_the_run(
    harness: Callable[..., Any], tiny_task: Path, evaluation: tuple[Path, Any], tmp_path: Path, measured: Any, monkeypatch: Any
) -> None:
    """Corpus and texts are read and made by one worker; the driver could not read a shard."""
    monkeypatch.setattr("harness.sae.corpus.shard.ShardReader.read", None)
    given = ("--task", tiny_task, "--out", tmp_path, "--executor", "processes", "--workers", "1", "--json")
    done = harness(*EVAL, *given, env={"HARNESS_CACHE": str(tmp_path / "cache")})
    assert done.code == 0, done.err
    assert run_of(tmp_path).name == run_of(evaluation[0]).name
    assert texts(tmp_path) == texts(evaluation[0])
    assert measured(done.json) == measured(evaluation[1])
    with RunStore.open(run_of(tmp_path), read_only=True) as store:
        (facts,) = [note.value for note in store.notes("executor")]
        assert (facts["executor"], facts["workers"], facts["devices"]) == ("processes", 1, ["cpu"])
        assert "executor" not in store.manifest.command["choices"]


def test_workers_begin_once_for_all_that_a_run_asks_of_them(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on, on a machine that would decode other rows together, without the fit: reading, texts and detection by the same worker."""
    copied_workers(monkeypatch)
    command = ("eval", "--steerer", "diff-mean", "--detector", "diff-mean", "--task", tiny_task, "--concepts", "girl,big", "--no-controls", "--quiet")
    monkeypatch.setattr("harness.engine.torch_loop.usual_rows", lambda model: 6)
    assert harness(*command, "--out", tmp_path / "whole").code == 0
    with monkeypatch.context() as patch:
        left, real = iter(range(3)), steering.text_outcome

        def three(text: Any) -> Any:
            if next(left, None) is None:
                raise KeyboardInterrupt
            return real(text)

        patch.setattr(steering, "text_outcome", three)
        assert harness(*command, "--out", tmp_path / "on").code != 0
    assert len(texts(tmp_path / "on")) == 3
    begun, ended, real_begin, real_end = [], [], ProcessPool.begin, ProcessPool.close
    monkeypatch.setattr(ProcessPool, "begin", lambda pool, place: (begun.append(place), real_begin(pool, place)))
    monkeypatch.setattr(ProcessPool, "close", lambda pool: (ended.append(pool), real_end(pool)))
    monkeypatch.setattr("harness.engine.torch_loop.usual_rows", lambda model: 5)
    monkeypatch.setattr(steering, "ratings", lambda *given: (ended.append("rating"), iter(()))[1])
    spread = ("--out", tmp_path / "on", "--executor", "processes", "--workers", "1")
    assert harness(*command, *spread, env={"HARNESS_CACHE": str(tmp_path / "cache")}).code == 0
    assert begun == [0]
    assert ended[-1] == "rating"
    assert len(ended) == 2, "it ends before texts are rated"
    assert texts(tmp_path / "on") == texts(tmp_path / "whole")
    found = []
    for out in ("whole", "on"):
        with RunStore.open(run_of(tmp_path / out), read_only=True) as store:
            found.append({one.item_id: one.value for one in store.outcomes("detect")})
            assert len(store.notes("executor")) == (out == "on")
    assert found[0] == found[1] != {}


def test_what_workers_cannot_do_is_one_line_and_is_done_by_the_next_run(harness: Callable[..., Any], tiny_task: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "poison.py"
    plugin.write_text(POISON, encoding="utf-8")
    command = ("eval", "--labeler", "calibf1", "--steerer", "poison", "--plugin", plugin, "--task", tiny_task, "--no-controls", "--out", tmp_path)
    failed = harness(*command, "--executor", "processes", "--workers", "1", "--quiet")
    assert "RuntimeError: poison" in failed.error
    assert "3 times" in failed.error
    assert "poison at strength" in failed.error  # not the ids of trials
    assert harness(*command, "--quiet").code == 0
    with RunStore.open(run_of(tmp_path), read_only=True) as store:
        counts = store.counts()
        assert counts["generations"] == counts["trials"] > 0


def test_executors_that_make_no_sense_are_refused(harness: Callable[..., Any]) -> None:
    for given, said in [
        (("--executor", "slurm"), "processes"),
        (("--workers", "4"), "--executor"),
        (("--executor", "processes", "--ray-address", "auto"), "ray"),
        (("--executor", "processes", "--workers", "0"), "--workers"),
    ]:
        assert said in harness(*EVAL, *given).error
