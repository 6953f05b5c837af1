"""From measurements to rows: means over seeds, intervals where there are enough, trivial and random values beside, and no number from a failure."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.contracts import NumberTraits
from harness.evaluations.dictionary.score import DictionaryRow, Measured, rows
from harness.types import Measurement

VALUE = NumberTraits("explained variance", "share", (None, 1.0), True, 0.0)
PARTS = {"l0": NumberTraits("L0", "features a token", (0.0, None), None, None)}


def one(value: float | None, arm: str = "trained", seed: int | None = None, metric_seed: int = 0, name: str = "sae", **more: object) -> Measured:
    found = Measurement(value, reason="" if value is not None else "no variance", parts={"l0": 8.0}, **more)  # type: ignore[arg-type]
    return Measured(name, arm, seed, metric_seed, found)


def score(*measured: Measured, traits: NumberTraits = VALUE) -> list[DictionaryRow]:
    return rows(measured, traits, PARTS)


def test_one_dictionary_measured_once() -> None:
    (row,) = score(one(0.8))
    number = row.numbers["value"]
    assert (row.dictionary, row.arm, row.role, row.training_seeds, row.reasons) == ("sae", "trained", "method", (), ())
    assert (number.value, number.low, number.high, number.interval_method) == (0.8, None, None, "")
    assert "takes 3" in number.reason
    assert (number.title, number.unit, number.bounds, number.higher_is_better) == ("explained variance", "share", (None, 1.0), True)
    assert (number.trivial, number.random) == (0.0, None)
    assert list(row.numbers) == ["value", "l0"]
    assert [(item.id, dict(item.values)) for item in row.items] == [("measured once", {"value": 0.8, "l0": 8.0})]


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=8, unique=True))
def test_the_interval_is_students_over_training_seeds(values: list[float]) -> None:
    (row,) = score(*(one(value, seed=seed) for seed, value in enumerate(values)), traits=NumberTraits())
    number = row.numbers["value"]
    n, mean = len(values), sum(values) / len(values)
    half = stats.t.ppf(0.975, n - 1) * stats.sem(values)
    assert number.value == pytest.approx(mean, abs=1e-12)
    if half > 1e-9:
        assert number.low == pytest.approx(mean - half, rel=1e-6, abs=1e-9)
        assert number.high == pytest.approx(mean + half, rel=1e-6, abs=1e-9)
        assert number.interval_method == f"t, 95 %, over {n} training seeds"
    assert row.training_seeds == tuple(range(n))
    assert row.numbers["l0"].value == 8.0
    assert row.numbers["l0"].low is None
    assert row.numbers["l0"].reason


def test_the_metrics_seeds_are_averaged_within_each_training() -> None:
    measured = (one(float(10 * seed + draw), seed=seed, metric_seed=draw) for seed in range(3) for draw in (0, 2))
    (row,) = score(*measured, traits=NumberTraits())
    number = row.numbers["value"]
    assert number.value == 11
    assert number.high == pytest.approx(11 + stats.t.ppf(0.975, 2) * stats.sem([1, 11, 21]))
    assert [item.id for item in row.items] == [f"seed {seed}, metric seed {draw}" for seed in range(3) for draw in (0, 2)]


def test_no_end_leaves_the_metrics_scale() -> None:
    (row,) = score(*(one(value, seed=seed) for seed, value in enumerate((0.5, 0.9, 1.0))))
    number = row.numbers["value"]
    assert number.low is not None
    assert number.high == 1.0


def test_one_dictionary_has_an_interval_over_the_metrics_seeds() -> None:
    (row,) = score(*(one(value, metric_seed=draw) for draw, value in enumerate((0.7, 0.8, 0.9))))
    assert row.numbers["value"].interval_method == "t, 95 %, over 3 of the metric's seeds"
    (two,) = score(one(0.7, seed=0), one(0.8, seed=1))
    assert two.numbers["value"].low is None
    assert two.numbers["value"].value == pytest.approx(0.75)


def test_the_random_value_stands_beside_the_trained_one_and_rows_come_in_order() -> None:
    found = score(
        one(0.1, "random", 0, name="b"), one(0.9, name="b"), one(0.2, "random", 0), one(0.4, "random", 1), one(0.8), one(0.5, "pca"),
    )  # fmt: skip
    assert [(row.dictionary, row.arm, row.role) for row in found] == [
        ("b", "trained", "method"), ("b", "random", "control"), ("sae", "trained", "method"), ("sae", "random", "control"), ("sae", "pca", "control"),
    ]  # fmt: skip
    assert [row.numbers["value"].random for row in found] == pytest.approx([0.1, None, 0.3, None, 0.3])
    (drawn,) = score(*(one(0.1 * seed, "random", seed) for seed in range(4)))
    assert drawn.numbers["value"].interval_method == "t, 95 %, over 4 draws"
    assert found[2].numbers["l0"].random == 8.0


@pytest.mark.parametrize(
    "broken", [one(None, seed=1), Measured("sae", "trained", 1, 0, None, "it crashed"), Measured("sae", "trained", 1, 0, None)]
)
def test_a_seed_without_the_number_leaves_the_row_without_it(broken: Measured) -> None:
    (row,) = score(one(0.8, seed=0), broken, one(0.9, seed=2))
    number = row.numbers["value"]
    assert (number.value, number.low, number.high) == (None, None, None)
    assert "seed 1" in number.reason
    assert "1 of 3" in number.reason
    assert len(row.reasons) == 1
    assert (row.numbers["l0"].value is None) == (broken.measurement is None)
    assert row.items[1].reason
    assert row.items[0].reason == ""


def test_a_missing_random_value_is_none_and_a_missing_part_has_its_reason() -> None:
    gone = Measurement(0.5, parts={"l0": None}, part_reasons={"l0": "nothing fired"})
    trained, _ = score(Measured("sae", "trained", None, 0, gone), Measured("sae", "random", 0, 0, None, "stopped"))
    assert trained.numbers["value"].random is None
    assert trained.numbers["l0"].value is None
    assert trained.numbers["l0"].reason == "nothing fired"
    assert trained.reasons == ()


def test_what_a_value_is_made_of_and_the_datas_own_trivial_value_are_kept() -> None:
    found = [one(0.5, seed=seed, per_item={"layer 1": 0.4, "layer 2": None}, trivial={"value": 0.1 * (seed + 1)}) for seed in range(2)]
    (row,) = score(*found)
    assert [(item.id, dict(item.values), dict(item.per_item)) for item in row.items] == [
        (f"seed {seed}", {"value": 0.5, "l0": 8.0}, {"layer 1": 0.4, "layer 2": None}) for seed in range(2)
    ]
    assert row.numbers["value"].trivial == pytest.approx(0.15)
    assert not math.isnan(row.numbers["value"].trivial or math.nan)


def test_scoring_needs_no_torch() -> None:
    script = "import sys, harness.evaluations.dictionary.score\nprint(sorted({'torch', 'transformers', 'sae_lens', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
