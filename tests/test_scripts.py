"""The scripts of docs/scripts: valid bash, and what they call is what harness takes. The commands are stand-ins that write down their words."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.cli.evaluate import command

SCRIPTS = Path(__file__).resolve().parents[1] / "docs" / "scripts"
STAND_INS = {
    "harness": 'exit "${HARNESS_CODE:-0}"',
    "ray": '[[ -z "${NOTED:-}" ]] || echo "$1 ${RAY_AUTH_MODE:-none}" >> "$NOTED"',
    "srun": "",
    "sleep": "",
    "scontrol": '[[ "$1 $2" == "show hostnames" ]] && printf "n1\\nn2\\n" || true',
    "python": 'echo "${SLURM_JOB_NUM_NODES:-1}"',
}
ASKED = ("--task", "my task", "--labeler", "calibf1")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, list[list[str]]]]:
    """A function that runs a script, and returns its exit code and the words of all commands that it called."""
    words = tmp_path / "words"
    for name, does in STAND_INS.items():
        stand_in = tmp_path / name
        note = f'{{ printf "%s\\037" {name} "$@"; echo; }} >> {words}'
        stand_in.write_text(f"#!/bin/bash\n{note}\n{does}\n", encoding="utf-8")
        stand_in.chmod(0o755)

    def called(script: str, *arguments: str, **environment: str) -> tuple[int, list[list[str]]]:
        words.write_text("", encoding="utf-8")
        env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **environment}
        done = subprocess.run(["bash", str(SCRIPTS / script), *arguments], env=env, capture_output=True, timeout=60)
        return done.returncode, [line.split("\037")[:-1] for line in words.read_text(encoding="utf-8").splitlines()]

    return called


def asked(words: list[str]) -> dict[str, object]:
    """The options that the command line makes of the words of ``harness eval``."""
    assert words[:2] == ["harness", "eval"]
    values: dict[str, object] = command.make_context("eval", words[2:]).params
    assert values["task_name"] == "my task"
    return {name: values[name] for name in ("executor", "workers", "ray_address")}


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.iterdir()))
def test_they_are_valid_bash(script: str) -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPTS / script)], capture_output=True).stderr == b""
    assert os.access(SCRIPTS / script, os.X_OK)


def test_several_gpus(run: Callable[..., tuple[int, list[list[str]]]]) -> None:
    code, (called,) = run("several-gpus.sh", *ASKED)
    assert (code, asked(called)) == (0, {"executor": "processes", "workers": None, "ray_address": None})
    code, (called,) = run("several-gpus.sh", *ASKED, WORKERS="cuda:1,cuda:2", HARNESS_CODE="2")
    assert (code, asked(called)["workers"]) == (2, "cuda:1,cuda:2")


def test_ray_cluster(run: Callable[..., tuple[int, list[list[str]]]]) -> None:
    assert run("ray-cluster.sh", "head") == (0, [["ray", "start", "--head", "--port=6379"]])
    assert run("ray-cluster.sh", "join", "n1", RAY_PORT="7") == (0, [["ray", "start", "--address=n1:7"]])
    code, (called,) = run("ray-cluster.sh", "eval", *ASKED)
    assert (code, asked(called)) == (0, {"executor": "ray", "workers": None, "ray_address": "auto"})
    assert run("ray-cluster.sh", "join")[0] != 0
    assert run("ray-cluster.sh") == (2, [])


def test_all_of_a_ray_cluster_show_the_token_that_its_head_asks_for(run: Callable[..., tuple[int, list[list[str]]]], tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("secret", encoding="utf-8")
    for place, more in (("nowhere", {}), ("", {}), ("", {"RAY_AUTH_MODE": "disabled"})):
        run("ray-cluster.sh", "join", "n1", HOME=str(tmp_path / place), NOTED=str(noted), **more)
    assert noted.read_text(encoding="utf-8").split("\n")[:-1] == ["start none", "start token", "start disabled"]


def test_slurm_on_one_machine(run: Callable[..., tuple[int, list[list[str]]]]) -> None:
    code, (called,) = run("slurm.sbatch", *ASKED, SLURM_JOB_NUM_NODES="1", SLURM_JOB_ID="5")
    assert (code, asked(called)["executor"]) == (0, "processes")
    code, (_, requeued) = run("slurm.sbatch", *ASKED, SLURM_JOB_ID="5", HARNESS_CODE="143")
    assert (code, requeued) == (143, ["scontrol", "requeue", "5"])
    assert run("slurm.sbatch", *ASKED, SLURM_JOB_ID="5", HARNESS_CODE="2")[1][1:] == []


def test_slurm_on_several_machines(run: Callable[..., tuple[int, list[list[str]]]]) -> None:
    code, called = run("slurm.sbatch", *ASKED, SLURM_JOB_NUM_NODES="2", SLURM_JOB_NODELIST="n[1-2]", SLURM_CPUS_PER_TASK="4")
    assert code == 0
    (evaluated,) = [words for words in called if words[0] == "harness"]
    assert asked(evaluated) == {"executor": "ray", "workers": None, "ray_address": "n1:6379"}
    (head,) = [words for words in called if words[:3] == ["ray", "start", "--head"]]
    assert "--node-ip-address=n1" in head
    (others,) = [words for words in called if words[0] == "srun"]
    assert "--exclude=n1" in others
    assert "--address=n1:6379" in others
    assert ["ray", "stop"] in called
