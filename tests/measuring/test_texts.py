"""Which texts a metric reads: whole ones of one part of the split, drawn by the seed alone, more of them only added."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from helpers.benches import MetricBench

from harness.data.split import TextSplit
from harness.errors import DataError
from harness.measuring.texts import sample_texts


def test_texts_are_whole_of_their_part_and_within_the_limit(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    for part in ("train", "report"):
        found = sample_texts(bench, 500, 3, part)
        assert found.name == part
        assert found.places is not None
        assert set(found.places.tolist()) <= set(bench.split.part(part).tolist())
        assert found.places.tolist() == sorted(found.places.tolist())
        assert [row.tolist() for row in found.tokens] == [bench.corpus_tokens[int(place)].tolist() for place in found.places]
        assert list(found.texts) == [bench.corpus[int(place)].text for place in found.places]
        assert found.texts[1:3] == [found.texts[1], found.texts[2]]
        counted = [len(row) - 1 for row in found.tokens]
        assert 500 - 70 < sum(counted) <= 500


def test_a_larger_limit_adds_texts_and_the_seed_draws(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    small, large = sample_texts(bench, 300, 0), sample_texts(bench, 900, 0)
    assert small.places is not None
    assert large.places is not None
    assert set(small.places.tolist()) < set(large.places.tolist())
    assert small.digest != large.digest
    assert sample_texts(bench, 300, 0).digest == small.digest
    assert sample_texts(bench, 300, 1).digest != small.digest
    everything = sample_texts(bench, 10**9, 0)
    assert everything.places is not None
    assert everything.places.tolist() == bench.split.report.tolist()
    assert len(sample_texts(bench, 1, 0)) == 1


def test_a_part_without_tokens_is_refused(metric_bench: Callable[..., MetricBench]) -> None:
    bench = metric_bench()
    none = np.empty(0, dtype=np.int64)
    bench.split = TextSplit(np.arange(10), none, none)
    with pytest.raises(DataError) as error:
        sample_texts(bench, 100, 0)
    assert error.value.given == "report"
    assert error.value.hint
