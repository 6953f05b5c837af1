"""Numbers of one protocol under another's name: whole ratings tell them apart, and no entry is taken for what it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.steered import steered_run

from harness.evaluations.entry import make_entry
from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.entry import Entry
from harness.leaderboard.relabelled import relabelled
from harness.store import RunStore

PROTOCOLS = [(name, way) for name in ("cv", "axbench") for way in ("mean-of-harmonic-means", "harmonic-mean-of-means")]


def named(entry: Entry, **changes: Any) -> Entry:
    value = entry.as_json()
    value["protocol"].update(changes)
    return Entry.model_validate({**value, "id": "", "seal": ""})


@pytest.mark.parametrize(("seed", "n_concepts", "n_instructions"), [(0, 12, 4), (1, 12, 7)])
def test_numbers_of_another_protocol_are_told(tmp_path: Path, seed: int, n_concepts: int, n_instructions: int) -> None:
    draw = np.random.default_rng(seed)
    shares = draw.dirichlet([1, 1, 1], size=3)
    steered_run(
        tmp_path / "run",
        lambda *_: tuple(float(draw.choice(3, p=share)) for share in shares),  # type: ignore[arg-type, return-value]
        n_concepts=n_concepts,
        n_instructions=n_instructions,
    )
    with RunStore.open(tmp_path / "run", read_only=True) as store:
        manifest = store.manifest
        entries = {key: make_entry(manifest, store, store.own_judge(), manifest.protocol.named(*key)) for key in PROTOCOLS}  # type: ignore[arg-type]
    for (name, way), entry in entries.items():
        assert list(relabelled(entry)) == [], (name, way)
        other = next(other for other in ("cv", "axbench") if other != name)
        assert list(relabelled(named(entry, name=other))), f"{name} as {other}, {way}"
        if way == "harmonic-mean-of-means":
            assert list(relabelled(named(entry, aggregation="mean-of-harmonic-means"))), name
    other_way = named(entries["cv", "mean-of-harmonic-means"], aggregation="harmonic-mean-of-means")
    assert any("is not the harmonic mean" in finding.message for finding in inconsistencies(other_way))


def test_ratings_that_are_no_whole_numbers_tell_nothing(tmp_path: Path) -> None:
    """Means of several raters: under axbench, too, they average to anything; and texts rated in one proportion have one score by either way."""
    draw = np.random.default_rng(0)
    steered_run(tmp_path / "run", lambda *_: tuple(draw.uniform(0, 2, 3)), n_concepts=12, n_instructions=4)  # type: ignore[arg-type, return-value]
    steered_run(tmp_path / "alike", lambda method, concept, *_: (0.1 * concept + 0.05, 1.0, 1.5), n_concepts=12, n_instructions=4)
    for name in ("run", "alike"):
        with RunStore.open(tmp_path / name, read_only=True) as store:
            entry = make_entry(store.manifest, store, store.own_judge(), store.manifest.protocol.named("axbench"))
        assert list(relabelled(entry)) == list(relabelled(named(entry, name="cv"))) == []
