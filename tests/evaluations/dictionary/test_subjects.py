"""Whose numbers are measured: the task's dictionaries with their seeds and controls, listed cheaply, opened one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.benches import MetricBench

from harness.contracts import MetricTraits
from harness.errors import UnknownNameError
from harness.evaluations.dictionary import subjects as module
from harness.evaluations.dictionary.subjects import SubjectRef, list_subjects, open_subject, unmet

TRAIN = """schema = 2
"""
TABLE = """
[[train]]
name = "mini"
layer = 1
seeds = [3, 5]
width = 96
k = 8
batch_size = 256
epochs = 2
fast = false

[corpus]"""


@pytest.fixture
def trains(variant: Callable[..., Path]) -> Path:
    return variant(("schema = 1\n", TRAIN), ("\n[corpus]", TABLE))


def titles(refs: list[SubjectRef]) -> list[str]:
    return [ref.title for ref in refs]


def test_listing_trains_loads_and_draws_nothing(metric_bench: Callable[..., MetricBench], trains: Path) -> None:
    bench = metric_bench(trains)
    found = list_subjects(bench, control_seeds=2)
    assert titles(found) == [
        "sae", "sae: random (seed 0)", "sae: random (seed 1)",
        "mini (seed 3)", "mini (seed 5)", "mini: random (seed 0)", "mini: random (seed 1)",
    ]  # fmt: skip
    assert [ref.member for ref in found[3:5]] == ["mini", "mini@5"]
    assert [ref.layer for ref in found] == [2, 2, 2, 1, 1, 1, 1]
    assert len({ref.id for ref in found}) == len(found)
    assert "dictionaries" not in bench.bench.__dict__
    assert titles(list_subjects(bench, ["mini"], controls=())) == ["mini (seed 3)", "mini (seed 5)"]
    with pytest.raises(UnknownNameError) as error:
        list_subjects(bench, ["midi"])
    assert (error.value.given, error.value.near) == ("midi", "mini")
    with pytest.raises(UnknownNameError) as error:
        list_subjects(bench, controls=["randon"])
    assert (error.value.given, error.value.near) == ("randon", "random")


def test_a_trained_seed_knows_its_siblings_and_neighbours(metric_bench: Callable[..., MetricBench], trains: Path) -> None:
    bench = metric_bench(trains)
    refs = list_subjects(bench, control_seeds=2)
    by_title = {ref.title: open_subject(bench, ref, refs) for ref in refs}
    mini = by_title["mini (seed 5)"]
    assert (mini.name, mini.arm, mini.training_seed) == ("mini", "trained", 5)
    assert mini.recipe is not None
    assert (mini.recipe["seed"], mini.recipe["width"], mini.recipe["layer"]) == (5, 96, 1)
    assert [other.digest for other in mini.siblings] == [by_title["mini (seed 3)"].dictionary.digest]
    assert mini.siblings[0].digest != mini.dictionary.digest
    assert list(mini.neighbours) == [2]
    assert mini.neighbours[2] is bench.dictionaries["sae"]
    sae = by_title["sae"]
    assert (len(sae.siblings), list(sae.neighbours)) == (0, [1])
    assert sae.neighbours[1].digest == by_title["mini (seed 3)"].dictionary.digest
    drawn = by_title["mini: random (seed 1)"]
    assert (drawn.arm, drawn.training_seed) == ("random", 1)
    assert drawn.recipe == {"control": "random", "seed": 1}
    assert [other.digest for other in drawn.siblings[:]] == [by_title["mini: random (seed 0)"].dictionary.digest]
    assert drawn.neighbours[2].digest == by_title["sae: random (seed 1)"].dictionary.digest


def test_controls_of_a_train_table_are_arms_with_its_seeds(metric_bench: Callable[..., MetricBench], variant: Callable[..., Path]) -> None:
    table = TABLE.replace("fast = false", 'fast = false\ncontrols = ["frozen-decoder"]')
    bench = metric_bench(variant(("schema = 1\n", TRAIN), ("\n[corpus]", table)))
    refs = list_subjects(bench, controls=("random", "frozen-decoder"), control_seeds=1)
    assert titles(refs) == [
        "sae", "sae: random (seed 0)",
        "mini (seed 3)", "mini (seed 5)", "mini: random (seed 0)", "mini: frozen-decoder (seed 3)", "mini: frozen-decoder (seed 5)",
    ]  # fmt: skip
    assert [ref.member for ref in refs[-2:]] == ["mini@frozen-decoder", "mini@frozen-decoder@5"]
    frozen = open_subject(bench, refs[-1], refs)
    assert (frozen.arm, frozen.training_seed) == ("frozen-decoder", 5)
    assert frozen.recipe is not None
    assert (frozen.recipe["control"], frozen.recipe["seed"]) == ("frozen-decoder", 5)
    assert frozen.dictionary is bench.dictionaries["mini@frozen-decoder@5"]
    assert [other.digest for other in frozen.siblings] == [bench.dictionaries["mini@frozen-decoder"].digest]
    assert "frozen-decoder" in frozen.dictionary.source
    with pytest.raises(UnknownNameError):
        list_subjects(bench, controls=("frozen-encoder",))


def test_a_control_is_the_same_each_time_and_matched_once(metric_bench: Callable[..., MetricBench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench = metric_bench()
    refs = list_subjects(bench, control_seeds=2)
    first = open_subject(bench, refs[1], refs).dictionary
    n = bench.n_read
    assert n > 0
    again = open_subject(bench, refs[1], refs).dictionary
    assert again.digest == first.digest
    assert open_subject(bench, refs[2], refs).dictionary.digest != first.digest
    assert bench.n_read == n  # all draws are matched on the same vectors
    assert "random" in first.source


def test_controls_are_matched_on_training_texts(metric_bench: Callable[..., MetricBench], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, parts = metric_bench(), []
    real = module.sample_texts
    monkeypatch.setattr(module, "sample_texts", lambda bench, n, seed, part: parts.append(part) or real(bench, n, seed, part))
    refs = list_subjects(bench, control_seeds=1)
    open_subject(bench, refs[1], refs)
    assert parts == ["train"]


def test_what_a_metric_lacks_is_said(metric_bench: Callable[..., MetricBench], trains: Path) -> None:
    bench = metric_bench(trains)
    refs = list_subjects(bench, controls=())
    sae, mini = open_subject(bench, refs[0], refs), open_subject(bench, refs[1], refs)
    every = MetricTraits(needs=("model", "corpus", "siblings", "neighbours", "truth", "recipe"))
    assert unmet(MetricTraits(), sae, bench) == ""
    assert unmet(MetricTraits(needs=("siblings", "neighbours", "recipe")), mini, bench) == ""
    assert [word for word in ("seed", "layer", "true features", "trained is not known") if word in unmet(every, sae, bench)] == [
        "seed", "true features", "trained is not known",
    ]  # fmt: skip
    assert unmet(every, mini, bench) == "its true features are not known"
