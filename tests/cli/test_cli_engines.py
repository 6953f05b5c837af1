"""``harness engines``, ``harness engines verify``, and ``--engine``: the verdict is kept, and in the entry."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.engine.base import VERSIONS
from harness.engine.verified import Verdict, find, keep


def test_engines_are_listed_and_verified(harness: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    listed = harness("engines", "--json", env=env).json
    assert [row["name"] for row in listed] == ["torch", "nnsight", "ndif"]
    assert "nnsight 0." in listed[1]["version"]
    assert all(row["verified"] == [] for row in listed)

    shown = harness("engines", "verify", env=env)
    assert shown.code == 0
    assert "planted faults found: 3 of 3" in shown.out
    assert "torch is verified with toy" in shown.out
    assert harness("engines", env=env).out.count("toy (") == 1

    from harness.testing import engine_checks

    monkeypatch.setattr(engine_checks, "faults", lambda n_layers: {"nothing at all": list})
    blind = harness("engines", "verify", "--json", env=env)
    assert blind.code == 1
    report = json.loads(blind.out)
    assert report["failures"] == ["the planted fault was not found: nothing at all"]
    assert not report["passed"]
    assert "toy FAILED" in harness("engines", env=env).out


def test_an_empty_name_is_no_toy_model(harness: Any) -> None:
    assert "no config.json" in harness("engines", "verify", "--model", "").error


def test_an_unknown_engine_gets_the_nearest_name(harness: Any, tiny_task: Path) -> None:
    for command in (("engines", "verify", "nsight"), ("eval", "--task", tiny_task, "--engine", "nsight"), ("steer", "x", "--engine", "nsight")):
        assert "nnsight" in harness(*command).error


def test_a_run_says_what_generated_it_and_whether_that_was_verified(harness: Any, tiny_task: Path, tmp_path: Path) -> None:
    env = {"HARNESS_CACHE": str(tmp_path / "cache")}
    asked = ("--labeler", "calibf1", "--steerer", "sae-clamp", "--concepts", "girl", "--strengths", "0.5", "--no-controls")
    command = ("eval", *asked, "--task", tiny_task, "--dtype", "float32", "--device", "cpu", "--json", "--out", tmp_path / "out")

    def run(*more: str) -> dict[str, Any]:
        found: dict[str, Any] = harness(*command, *more, env=env).json
        return found

    plain, traced = run(), run("--engine", "nnsight")
    assert plain["engine"] == {"name": "torch", "version": VERSIONS["torch"], "verified": None}
    assert traced["engine"]["name"] == "nnsight"
    assert plain["run_digest"] != traced["run_digest"]
    assert plain["rows"][0]["metrics"] == traced["rows"][0]["metrics"], "in float32 both engines write the same texts"
    verdict = Verdict(
        "nnsight", traced["engine"]["version"], "tiny", traced["model"]["digest"], "float32", "cpu", "0.1", True, 1e-3, {"decoded": 2e-6}, 3, 3,
        "2026-01-31T12:00:00+00:00",
    )  # fmt: skip
    keep(tmp_path / "cache" / "artifacts", verdict)
    again = run("--engine", "nnsight")
    found = again["engine"]["verified"]
    assert found == {name: value for name, value in asdict(verdict).items() if name in found}
    assert {"passed", "date", "largest", "faults_found"} <= found.keys()
    assert again["run_digest"] == traced["run_digest"]
    assert find(tmp_path / "cache" / "artifacts", "torch", VERSIONS["torch"], traced["model"]["digest"]) is None, "another engine was verified"


def test_steer_by_another_engine(harness: Any, tiny_task: Path) -> None:
    command = ("steer", "Once upon a time", "--task", tiny_task, "--feature", "7", "--strength", "1", "--dtype", "float32", "--json")
    plain, traced = harness(*command).json, harness(*command, "--engine", "nnsight").json
    assert (plain["engine"], traced["engine"]) == ("torch", "nnsight")
    assert plain["texts"] == traced["texts"]
