"""A whole run: dictionaries that the task trains beside random ones, by texts, from measuring to the verdict of the entry and the screen."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import run_of

from harness.evaluations.dictionary.rows import known_digests
from harness.leaderboard.consistency import inconsistencies
from harness.leaderboard.entry import Entry
from harness.leaderboard.joined import join
from harness.store import RunStore

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

[[metrics]]
metric = "reconstruction"
options = {max_tokens = 700, spliced_tokens = 0}
dictionaries = ["mini"]

[corpus]"""


@pytest.fixture
def trains(variant: Callable[..., Path]) -> Path:
    return variant(("schema = 1\n", "schema = 2\n"), ("\n[corpus]", TABLE))


def test_trained_seeds_are_crossed_with_draws_text_by_text(harness: Callable[..., Any], trains: Path, tmp_path: Path) -> None:
    done = harness("eval", "--task", trains, "--out", tmp_path, "--json")
    entry = Entry.model_validate(done.json)
    trained, random = entry.rows
    assert (trained.item, trained.items_shared) == ("text", True)
    (found,) = trained.against
    assert [(pair.seed, pair.control_seed) for pair in found.pairs] == [(seed, draw) for seed in ("3", "5") for draw in ("0", "1", "2")]
    texts = set(trained.items[0].per_item)
    assert found.n_items == len(texts) > 3
    assert all(set(item.per_item) == texts for row in (trained, random) for item in row.items)  # one draw of texts for all
    assert found.low is not None
    assert found.low < (found.mean or 0) < (found.high or 0)
    assert (found.answer == "yes") == (found.n_ahead == 6 and found.low > 0)  # so little training may well be worth nothing
    digests = [item.digest for row in entry.rows for item in row.items]
    assert len(set(digests)) == 5  # two trainings, three draws
    assert set(join([entry]).column("reconstruction", "dictionary").values) == {(digest, "") for digest in digests[:2]}
    assert [finding.message for finding in inconsistencies(entry)] == []
    with RunStore.open(run_of(tmp_path), read_only=True) as store:
        assert sorted(known_digests(store).values()) == sorted(digests)
    shown = harness("eval", "--task", trains, "--out", tmp_path, env={"COLUMNS": "120"})
    assert re.search(rf"reconstruction × mini (beats|against) random: {found.answer}", " ".join(shown.out.split()))
