"""``harness sae train`` of several seeds and controls, and ``harness data tokens``, on the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.sae import planned_trainings
from harness.errors import OptionError, UnknownNameError

SETTINGS = ("width=96", "k=8", "batch_size=256", "epochs=3", "fast=false")
SMALL = (*(part for setting in SETTINGS for part in ("-T", setting)), "--dtype", "float32", "--device", "cpu", "--quiet")


def test_several_seeds_and_controls_in_one_command(
    harness: Callable[..., Any], tiny_task: Path, tiny_model_path: Path, tmp_path: Path
) -> None:
    command = (
        "sae", "train", tiny_task / "corpus.jsonl", "-o", tmp_path / "all", "--model", tiny_model_path, "--layer", "1", *SMALL,
        "--seeds", "0,1", "--control", "none,frozen-decoder", "--random-rows", "covariance",
    )  # fmt: skip
    done = harness(*command)
    assert done.code == 0, done.err
    names = ["trained-0", "trained-1", "frozen-decoder-0", "frozen-decoder-1"]
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == sorted(names)
    assert all(name in done.out for name in names)
    assert "L0 is matched" in done.out
    again = harness(*command, "--json")
    assert [Path(row["folder"]).name for row in again.json] == names
    assert all(row["l0"] == pytest.approx(8, rel=0.1) for row in again.json)
    joined = harness("sae", "ensemble", tmp_path / "all" / "trained-0", tmp_path / "all" / "trained-1", "-o", tmp_path / "bag")
    assert joined.code == 0, joined.err
    assert "192 features" in joined.out
    assert harness("sae", "info", tmp_path / "bag", "--json").json["d_sae"] == 192
    assert harness("sae", "ensemble", tmp_path / "all" / "trained-0", "-o", tmp_path / "one").code == 2
    trained, frozen = again.json[0], again.json[2]
    assert trained["explained_variance"] > frozen["explained_variance"]
    assert {row["control"] for row in again.json} == {"none", "frozen-decoder"}


def test_settings_of_several() -> None:
    found = planned_trainings({"width": "64", "k": "4"}, "2,0", ("none,frozen-encoder", "soft-frozen-decoder"))
    assert list(found) == ["trained-2", "trained-0", "frozen-encoder-2", "frozen-encoder-0", "soft-frozen-decoder-2", "soft-frozen-decoder-0"]
    assert [found["frozen-encoder-0"].control, found["frozen-encoder-0"].seed] == ["frozen-encoder", 0]
    assert list(planned_trainings({"seed": "7"})) == ["trained-7"]
    assert list(planned_trainings({"control": "frozen-decoder"})) == ["frozen-decoder-0"]
    for given, seeds, controls in (({"seed": "1"}, "0", ()), ({"control": "none"}, "", ("none",)), ({}, "0,x", ()), ({}, "-1", ())):
        with pytest.raises(OptionError):
            planned_trainings(given, seeds, controls)
    with pytest.raises(OptionError) as error:
        planned_trainings({}, "", ("frozen",))
    assert "frozen-decoder" in str(error.value)
    with pytest.raises(UnknownNameError):
        planned_trainings({"widht": "64"})


def test_token_ids_of_a_corpus(harness: Callable[..., Any], tiny_task: Path, tiny_model_path: Path, tmp_path: Path) -> None:
    from harness.model.token_file import read_token_file

    out = tmp_path / "tokens.npz"
    command = ("data", "tokens", tiny_task / "corpus.jsonl", "-o", out, "--model", tiny_model_path, "--quiet")
    done = harness(*command, "--total", "1000", "--max-tokens", "40", "--json")
    assert done.code == 0, done.err
    found = read_token_file(out)
    assert 900 < sum(len(row) - 1 for row in found.rows) <= 1000
    assert max(len(row) for row in found.rows) == 40
    assert (done.json["texts"], done.json["digest"], done.json["source"]) == (len(found.lengths), found.digest, "corpus.jsonl")
    assert harness(*command, "--total", "1000", "--max-tokens", "40", "--seed", "1", "--json").json["digest"] != found.digest
    assert harness(*command).code == 0
    assert len(read_token_file(out).lengths) == 160
    wrong = harness("data", "tokens", tiny_task / "corpus.jsonl", "-o", tmp_path / "t.bin", "--model", tiny_model_path)
    assert wrong.code == 2
