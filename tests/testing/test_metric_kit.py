"""The contract kit for metrics: it passes what keeps the contract, and says in a sentence what does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.benches import MetricBench

from harness.contracts import MetricTraits, NumberTraits
from harness.evaluations.dictionary.subjects import list_subjects, open_subject
from harness.plugin.host import PluginHost
from harness.testing import check_metric, toy_bench
from harness.types import Measurement


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return MetricBench(toy_bench(tmp_path_factory.mktemp("toy")))


@pytest.fixture(scope="module")
def host(sample_site: Path, installed: Callable[..., Any]) -> Iterator[PluginHost]:
    with installed(sample_site):
        yield PluginHost.load()


@pytest.mark.parametrize("name", ["reconstruction", "overlap"])
def test_metrics_keep_it(host: PluginHost, bench: Any, name: str) -> None:
    registered = host.get("metric", name)
    found = check_metric(registered.create, bench)
    assert found.value is not None
    assert set(found.parts) == set(registered.create().traits.parts)
    refs = list_subjects(bench, control_seeds=1)
    check_metric(registered.create, bench, open_subject(bench, refs[1], refs), seed=4)


@dataclass
class SomeMetric:
    """Measures as it is named."""

    answer: Callable[[], Any]
    traits: Any = MetricTraits(bounds=(0.0, 1.0), trivial=0.5, parts={"n": NumberTraits(bounds=(0.0, None))})  # noqa: RUF009

    def measure(self, bench: Any, subject: Any, seed: int) -> Any:
        return self.answer()


def good(**changed: Any) -> Measurement:
    return Measurement(**{"value": 0.5, "parts": {"n": 1.0}, **changed})


def fails(check: Callable[[], Any], named: str) -> None:
    with pytest.raises(AssertionError) as error:
        check()
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (lambda: 0.5, "measure gave float"),
        (lambda: good(value=1.5), "the value is 1.5, outside of its bounds 0.0 to 1.0"),
        (lambda: good(parts={"n": -1.0}), "part 'n' is -1.0, outside"),
        (lambda: good(parts={}), "the parts are none, but the traits name n"),
        (lambda: good(parts={"n": 1.0, "m": 1.0}), "the parts are n, m"),
        (lambda: good(per_item={"layer 1": 2.0}), "item 'layer 1' is 2.0, outside"),
        (lambda: good(trivial={"x": 0.5}), "trivial value for 'x'"),
        (lambda: good(trivial={"value": 1.5}), "the trivial value of 'value' is 1.5, outside"),
        (lambda: good(details={"x": {1}}), "the measurement is not a JSON value"),
        (lambda: good(details={"x": (1, 2)}), None),
        (lambda: Measurement(None, reason=" ", parts={"n": 1.0}), "None without a reason"),
        (lambda: good(parts={"n": None}, part_reasons={"n": "why", "m": "why"}), "a reason is given for part 'm'"),
        (lambda: good(value=float(np.random.default_rng().random())), "a second metric measured something else"),
    ],
)
def test_a_measurement_that_breaks_it(bench: Any, answer: Any, named: str | None) -> None:
    if named is None:
        assert check_metric(lambda: SomeMetric(answer), bench).value == 0.5
    else:
        fails(lambda: check_metric(lambda: SomeMetric(answer), bench), named)


@pytest.mark.parametrize(
    ("traits", "named"),
    [
        (None, "traits is NoneType"),
        (NumberTraits(), "traits is NumberTraits"),
        (MetricTraits(bounds=(1.0, 0.0)), "the bounds of the value are 1.0 and 0.0"),
        (MetricTraits(bounds=(0.0, float("inf"))), "hold inf"),
        (MetricTraits(bounds=(0.0, 1.0), trivial=2.0), "the trivial value of the value is 2.0"),
        (MetricTraits(needs=("time",)), "needs names time; known: model"),  # type: ignore[arg-type]
        (MetricTraits(parts={"value": NumberTraits()}), "a part is called 'value'"),
        (MetricTraits(parts={"n": MetricTraits()}), "part 'n' is MetricTraits"),
        (MetricTraits(parts={"n": NumberTraits(trivial=float("nan"))}), "part 'n' hold nan"),
        (MetricTraits(higher_is_better="yes"), "higher_is_better of the value is 'yes'"),  # type: ignore[arg-type]
        (MetricTraits(needs=("siblings",)), "the subject lacks what the metric needs (there is no dictionary of another seed"),
    ],
)
def test_traits_that_break_it(bench: Any, traits: Any, named: str) -> None:
    fails(lambda: check_metric(lambda: SomeMetric(good, traits), bench), named)
