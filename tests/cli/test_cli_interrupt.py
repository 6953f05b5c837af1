"""Killed, interrupted or out of disk at any moment: what was computed is kept, and the same command goes on to the same result."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.forks import killed
from helpers.noisy import NOISY, beside_its_errors
from helpers.runs import run_of
from helpers.users import as_nobody

from harness.engine.sizing import MANY
from harness.store import RunStore

ROOT = Path(__file__).resolve().parents[2]

BOMB = '''
"""A plugin that sends its own process a signal at the n-th moment of a kind: BOMB="apply:12:9" is SIGKILL at the twelfth edit."""
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any
from harness import hookimpl
from harness.contracts import LabelerTraits, SteererTraits
from harness.interventions import Intervention, Positions, Site
from harness.types import FeatureRef, Labeling

moments = Counter()

def moment(kind):
    moments[kind] += 1
    wanted, place, number = os.environ.get("BOMB", "none:0:0").split(":")
    if kind == wanted and moments[kind] == int(place):
        os.kill(os.getpid(), int(number))

@dataclass(frozen=True)
class Nothing:
    site: Site
    positions: Positions = Positions()
    batch_key = "nothing"
    @property
    def sites(self):
        return (self.site,)
    def stack(self, rows, device):
        return self
    def apply(self, x, ctx):
        moment("apply")
        return x

class Steerer:
    traits = SteererTraits(unit="none", grid=(1.0, 2.0), neutral=None, needs_features=True)
    def __init__(self, options): pass
    def prepare(self, bench, labelings):
        moment("prepare")
        self.site = bench.site
    def intervene(self, labeling, strength):
        return Intervention(edits=(Nothing(self.site),))

class Labeler:
    def __init__(self, options): pass
    traits = LabelerTraits()
    def label(self, bench, concepts):
        moment("label")
        return [Labeling(concept, (FeatureRef("sae", place),)) for place, concept in enumerate(concepts)]

@hookimpl
def harness_register_steerers(registry):
    registry.add("bomb", Steerer, summary="nothing")
@hookimpl
def harness_register_labelers(registry):
    registry.add("bomb", Labeler, summary="the first features")
@hookimpl
def harness_trial_done(trial):
    moment("rated")
'''
EVAL = ("eval", "--labeler", "bomb", "--steerer", "bomb")


@pytest.fixture(scope="module")
def bomb(install_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_in(tmp_path_factory.mktemp("bomb"), BOMB, "bomb", "bomb-dist")


@pytest.fixture(scope="module", autouse=True)
def few_rows() -> Iterator[None]:
    """Batches of 64 texts in this process: of 80 some are stored when others are interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.engine.sizing.MANY", 64)
        yield


@pytest.fixture(scope="module")
def task(tiny_task: Path) -> Path:
    """80 texts."""
    return tiny_task


@pytest.fixture(scope="module")
def undisturbed(
    harness: Callable[..., Any], bomb: Path, task: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, list[Any]]:
    """Entry and rows of a run that nothing interrupts."""
    out = tmp_path_factory.mktemp("undisturbed")
    return harness(*EVAL, "--task", task, "--out", out, "--json", sites=(bomb,)).json, rows(out)


def rows(out: Path) -> list[Any]:
    """All that a run below ``out`` holds of its trials."""
    with RunStore.open(run_of(out), read_only=True) as store:
        return list(store.records(store.judges()[0].key))


# ----------------------------------------------------------------------------------------------------------------------------- killed


def test_a_killed_run_goes_on_to_the_undisturbed_result(
    harness: Callable[..., Any], measured: Callable[..., Any], undisturbed: tuple[Any, list[Any]], bomb: Path, task: Path, tmp_path: Path
) -> None:
    """Killed in the generation, and in the rating; each in a process of its own."""
    entry, expected = undisturbed
    for name, moment, texts, ratings in (("apply", 15, 64, 0), ("rated", 40, 80, 40)):
        out = tmp_path / name
        bombed = {"BOMB": f"{name}:{moment}:{int(signal.SIGKILL)}"}
        assert killed(lambda: harness(*EVAL, "--task", task, "--out", out, sites=(bomb,), env=bombed))  # noqa: B023
        with RunStore.open(run_of(out), read_only=True) as store:
            assert store.counts() == {"trials": 80, "generations": texts}
            assert sum(store.rating_counts(judge.key)["rated"] for judge in store.judges()) == ratings
            assert store.status == "interrupted"
        assert not (out / "leaderboard").exists()
        again = harness(*EVAL, "--task", task, "--out", out, "--json", sites=(bomb,)).json
        assert measured(again) == measured(entry)
        assert rows(out) == expected
        with RunStore.open(run_of(out), read_only=True) as store:
            assert sum(note.value["texts"] for note in store.notes("generated")) == (80 - texts or 80)


@pytest.mark.parametrize("moment", ["label:1", "prepare:1", "apply:3", "rated:7"])
def test_ctrl_c_is_one_line_and_exit_code_130(
    harness: Callable[..., Any], measured: Callable[..., Any], undisturbed: tuple[Any, list[Any]], bomb: Path, task: Path,
    tmp_path: Path, moment: str,
) -> None:  # fmt: skip
    out = tmp_path / "interrupted"
    command = (*EVAL, "--task", task, "--out", out)
    done = harness(*command, "--quiet", sites=(bomb,), env={"BOMB": f"{moment}:{int(signal.SIGINT)}"})
    assert (done.code, done.out) == (130, "")
    assert done.err.strip() == "harness: interrupted; what was computed is kept, and the same command goes on from there"
    assert not (run_of(out) / "entry.json").exists()
    again = harness(*command, "--json", sites=(bomb,)).json
    assert measured(again) == measured(undisturbed[0])
    assert rows(out) == undisturbed[1]


def test_a_process_of_its_own_is_as_quiet_and_as_pure(
    harness: Callable[..., Any], bomb: Path, sample_site: Path, task: Path, cache_folder: Path, tmp_path: Path,
    measured: Callable[..., Any], install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What libraries print when they are first imported would show here: standard output is JSON alone, and on standard error are errors."""
    noisy = install(NOISY, "noisy", "noisy-dist")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [noisy, bomb, sample_site, ROOT])), "HARNESS_CACHE": str(cache_folder)}
    command = [sys.executable, "-c", "from harness.cli import main; main()", *EVAL, "--task", str(task), "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--json", "--quiet"], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert beside_its_errors(done.stderr) == []
    monkeypatch.setattr("harness.engine.sizing.MANY", MANY)  # as many rows as it has
    here = harness(*EVAL, "--task", task, "--out", tmp_path / "here", "--json", sites=(bomb,)).json
    assert measured(json.loads(done.stdout)) == measured(here)


# ------------------------------------------------------------------------------------------------------------------------------- disk


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond ``size`` bytes: the system refuses as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def small_disk(kilobytes: int) -> Iterator[tuple[Path, Callable[[int], None]]]:
    """A file system of so many kilobytes, and a function that makes it larger; skips where this process may not mount one."""
    folder = Path(tempfile.mkdtemp(prefix="harness-disk-"))
    mount = shutil.which("mount") or "false"
    command = [mount, "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        folder.rmdir()
        pytest.skip("this process may not mount a file system")
    try:
        yield folder, lambda size: subprocess.run([mount, "-o", f"remount,size={size}k", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@pytest.mark.parametrize("kilobytes", [4, 300, 420])
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(
    harness: Callable[..., Any], measured: Callable[..., Any], undisturbed: tuple[Any, list[Any]], bomb: Path, task: Path, kilobytes: int
) -> None:
    with small_disk(kilobytes) as (disk, grow):
        done = harness(*EVAL, "--task", task, "--out", disk, "--quiet", sites=(bomb,))
        assert "the disk is full" in done.error
        assert len(done.err.splitlines()) == 1
        grow(8000)
        again = harness(*EVAL, "--task", task, "--out", disk, "--json", sites=(bomb,)).json
        assert measured(again) == measured(undisturbed[0])
        assert rows(disk) == undisturbed[1]


@pytest.mark.parametrize("size", [100, 150_000, 250_000])
def test_a_file_that_may_not_grow_is_one_line_too(
    harness: Callable[..., Any], measured: Callable[..., Any], undisturbed: tuple[Any, list[Any]], bomb: Path, task: Path,
    tmp_path: Path, size: int,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with file_size_limit(size):
        done = harness(*EVAL, "--task", task, "--out", out, "--quiet", sites=(bomb,))
    assert done.error
    assert len(done.err.splitlines()) == 1
    again = harness(*EVAL, "--task", task, "--out", out, "--json", sites=(bomb,)).json
    assert measured(again) == measured(undisturbed[0])
    assert rows(out) == undisturbed[1]


@pytest.mark.parametrize("methods", [("--steerer", "prompt"), ("--labeler", "calibf1", "--steerer", "sae-clamp")])
def test_a_folder_that_cannot_be_written_to_is_one_line(
    harness: Callable[..., Any], evaluation: tuple[Path, Any], tiny_task: Path, tiny_model_path: Path, open_folder: Path,
    methods: tuple[str, ...],
) -> None:  # fmt: skip
    locked = open_folder / "locked"
    locked.mkdir(exist_ok=True)
    locked.chmod(0o555)
    command = ("eval", *methods, "--task", tiny_task, "--quiet", "--out")
    harness(*command, open_folder / "elsewhere", "--dry-run")  # reads the sample plugin, which lies where nobody else may read
    with as_nobody(tiny_model_path):
        done = harness(*command, locked)
    assert "permission denied" in done.error
    assert str(locked) in done.error
    assert len(done.err.splitlines()) == 1
    assert list(locked.iterdir()) == []
    assert "a part of that path is a file" in harness(*command, tiny_task / "task.toml" / "sub").error


def test_a_finished_run_is_shown_although_its_folder_cannot_be_written_to(
    harness: Callable[..., Any], evaluation: tuple[Path, Any], tiny_model_path: Path, open_folder: Path
) -> None:
    copy = open_folder / "read-only"
    shutil.copytree(evaluation[0], copy)
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with as_nobody(tiny_model_path):
        listed = harness("runs", "--out", copy, "--json").json
        assert (listed[0]["status"], listed[0]["generations"]) == ("finished", 72)
        assert "calibf1" in harness("leaderboard", "--out", copy, "--no-published").out
        assert "permission denied" in harness("judge", run_of(copy), "--judge", "words", "--out", copy).error
