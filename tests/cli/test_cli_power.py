"""``harness power``: the stored run alone says how many concepts a difference needs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(evaluation: tuple[Path, Any]) -> Path:
    (found,) = (evaluation[0] / "runs").iterdir()
    return found


def test_a_pair_for_each_method_and_control(harness: Callable[..., Any], evaluation: tuple[Path, Any], run: Path) -> None:
    found = harness("power", run, "--json", "--difference", "0.1,0.5", "--instructions", "4,16").json
    rows = [row for row in evaluation[1]["rows"] if row["kind"] == "steering"]
    methods, controls = (sum(row["role"] == role for row in rows) for role in ("method", "control"))
    assert len([pair for pair in found if pair["kind"] == "steering"]) == methods * controls
    for pair in found:
        if pair["kind"] == "steering":
            cells = {(cell["difference"], cell["instructions"]): cell["concepts"] for cell in pair["needed"]}
            assert set(cells) == {(0.1, 4), (0.1, 16), (0.5, 4), (0.5, 16)}
            assert 12 <= cells[0.5, 16] <= cells[0.5, 4] <= cells[0.1, 4]


def test_the_screen_names_the_pair_and_what_the_run_could_tell(harness: Callable[..., Any], run: Path) -> None:
    out = harness("power", run).out
    assert "with power 0.8" in out
    assert "concepts needed" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_protocol_is_named_and_asked_for(harness: Callable[..., Any], run: Path) -> None:
    assert {pair["protocol"] for pair in harness("power", run, "--json").json} == {"cv, mean of harmonic means"}
    other = ("--protocol", "axbench", "--aggregation", "harmonic-mean-of-means")
    assert {pair["protocol"] for pair in harness("power", run, *other, "--json").json} == {"axbench, harmonic mean of means"}
    assert "(axbench, harmonic mean of means)" in harness("power", run, *other).out


@pytest.mark.parametrize("arguments", [["--difference", "0"], ["--difference", "a"], ["--instructions", "-3"], ["--judge", "nobody"]])
def test_wrong_values_are_one_line(harness: Callable[..., Any], run: Path, arguments: list[str]) -> None:
    assert arguments[1] in harness("power", run, *arguments).error
