"""``harness eval --executor processes`` with metrics: the run of the single process, its dictionaries trained and measured by workers."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.copied_workers import copied_workers
from helpers.runs import run_of
from helpers.synthetic import write_task

from harness.engine.spreading.processes import ProcessPool
from harness.store import RunStore

PLUGIN = '''
import os
import signal
import threading
from pathlib import Path

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.types import Measurement

DRIVER, ONCE, LOCK = {driver}, Path({once!r}), threading.Lock()


class Reading:
    """Reads the corpus by the model, draws, warns; the first worker dies of it."""

    traits = MetricTraits(parts={{"drawn": NumberTraits()}})

    def __init__(self, options): pass

    def measure(self, bench, subject, seed):
        if os.getpid() != DRIVER and not ONCE.exists():
            ONCE.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        bench.warn(f"{{subject.name}} was read")
        acts = sum(float(subject.dictionary.encode(x).sum()) for _, x in bench.activations(texts=None))
        drawn = float(bench.rng("reading", subject.name).random())
        alike = [float(other.sae.W_dec.sum()) for other in subject.siblings]
        return Measurement(acts, parts={{"drawn": drawn}}, details={{"siblings": alike, "worker": os.getpid() != DRIVER}})


class Locking:
    """Cannot be sent: it holds a lock."""

    traits = MetricTraits(needs=())

    def __init__(self, options): pass

    def measure(self, bench, subject, seed):
        with LOCK:
            return Measurement(float(subject.dictionary.d_sae), details={{"worker": os.getpid() != DRIVER}})


@hookimpl
def harness_register_metrics(registry):
    registry.add("reading", Reading, summary="a sum, and a draw")
    registry.add("locking", Locking, summary="a width")
'''
TABLE = """
[[train]]
name = "mini"
layer = 1
seeds = [0, 1]
width = 48
k = 4
batch_size = 256
epochs = 2.0
fast = false
architecture = "topk"

[corpus]"""


def test_dictionaries_are_those_of_one_process(
    harness: Callable[..., Any], variant: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, of which one dies; one metric that they cannot have."""
    copied_workers(monkeypatch)
    plugin = tmp_path / "own.py"
    plugin.write_text(PLUGIN.format(driver=os.getpid(), once=str(tmp_path / "once")), encoding="utf-8")
    task = variant(("schema = 1\n", "schema = 2\n"), ("\n[corpus]", TABLE))
    command = ("eval", "--task", task, "--metric", "reading", "--metric", "density", "--metric", "locking", "--plugin", plugin)
    opened, real = [], ProcessPool.open
    monkeypatch.setattr(ProcessPool, "open", classmethod(lambda kind, *given: (opened.append(1), real(*given))[1]))
    entries, stored = [], []
    for name, further in (("alone", ()), ("spread", ("--executor", "processes", "--workers", "2"))):
        done = harness(*command, *further, "--out", tmp_path / name, env={"HARNESS_CACHE": str(tmp_path / f"cache-{name}")})
        assert done.code == 0, done.err
        entries.append(json.loads((run_of(tmp_path / name) / "entry.json").read_text(encoding="utf-8")))
        with RunStore.open(run_of(tmp_path / name), read_only=True) as store:
            stored.append({one.item_id: dict(one.value) for one in store.outcomes("measure")})
            executors = store.notes("executor")
    assert "locking is measured in this process: " in done.err
    assert "training 2 dictionaries by workers" in done.err
    assert len(opened) == 1
    (facts,) = [note.value for note in executors]
    assert (facts["workers"], facts["replaced"], facts["repeated"]) == (2, 1, 1)
    by_workers = {name: value["details"].pop("worker", None) for name, value in stored[1].items()}
    assert {value["details"].pop("worker", None) for value in stored[0].values()} == {False, None}
    assert stored[0] == stored[1]
    assert sorted(map(str, by_workers.values())) == sorted(["True", "None", "False"] * (len(by_workers) // 3))
    assert sorted(entries[0]["warnings"]) == sorted(entries[1]["warnings"])
    assert any("mini was read" in line for line in entries[1]["warnings"])


def test_an_error_of_a_metric_is_the_one_of_a_single_process(
    harness: Callable[..., Any], tiny_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied_workers(monkeypatch)
    plugin = tmp_path / "own.py"
    plugin.write_text(
        "from harness import hookimpl\nfrom harness.contracts import MetricTraits\n\nclass Broken:\n    traits = MetricTraits()\n"
        "    def __init__(self, options): pass\n    def measure(self, bench, subject, seed): return 1 / 0\n\n"
        "@hookimpl\ndef harness_register_metrics(registry):\n    registry.add('broken', Broken, summary='raises')\n",
        encoding="utf-8",
    )
    command = ("eval", "--task", tiny_task, "--metric", "broken", "--plugin", plugin, "--quiet")
    said = [harness(*command, "--out", tmp_path / name, *further).error for name, further in (("a", ()), ("b", ("--executor", "processes")))]
    assert said[0].partition("(")[0] == said[1].partition("(")[0]  # then follows the line, which code that was sent does not know
    assert "ZeroDivisionError" in said[0]


def test_synthetic_activations_need_no_model(harness: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied_workers(monkeypatch)
    task, stored = write_task(tmp_path / "known"), []
    for name, further in (("alone", ()), ("spread", ("--executor", "processes", "--workers", "2"))):
        done = harness("eval", "--task", task, "--out", tmp_path / name, *further, env={"HARNESS_CACHE": str(tmp_path / f"cache-{name}")})
        assert done.code == 0, done.err
        with RunStore.open(run_of(tmp_path / name), read_only=True) as store:
            stored.append({one.item_id: one.value for one in store.outcomes("measure")})
            assert [note.value["workers"] for note in store.notes("executor")] == ([2] if further else [])
    assert stored[0] == stored[1] != {}
    assert "training 2 dictionaries by workers" in done.err
    assert "measuring dictionaries by workers" in done.err
