"""Executors as users write them."""

from __future__ import annotations

import pytest
import torch

from harness.engine.executors import LocalExecutor
from harness.engine.spreading.choice import Spread, parse_spread, places
from harness.engine.spreading.opening import open_executor
from harness.errors import OptionError, UnknownNameError


def test_what_is_written_is_what_is_meant() -> None:
    assert parse_spread() == Spread("single")
    assert parse_spread("processes") == Spread("processes")
    assert parse_spread("processes", "4") == Spread("processes", 4)
    assert parse_spread("processes", "cuda:1, cuda:2") == Spread("processes", 2, ("cuda:1", "cuda:2"))
    assert parse_spread("ray", 8, "10.0.0.1:6379") == Spread("ray", 8, address="10.0.0.1:6379")
    assert isinstance(open_executor(Spread()), LocalExecutor)


@pytest.mark.parametrize(
    ("executor", "workers", "address"),
    [(None, "2", None), ("single", "2", None), ("processes", "0", None), ("processes", "-1", None), ("processes", "2,,", None),
     ("processes", "2", "auto"), ("ray", "cuda:0", None), ("processes", "--5", None), ("processes", "²", None), ("ray", "٣", None),
     ("processes", "1001", None), ("ray", "99999999999", None), ("processes", "9" * 5000, None), ("processes", "", None)],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(executor: str | None, workers: str | None, address: str | None) -> None:
    with pytest.raises(OptionError) as error:
        parse_spread(executor, workers, address)
    assert len(error.value.message) < 100


def test_too_many_workers_are_refused_with_the_reason() -> None:
    assert parse_spread("processes", "1000").workers == 1000
    with pytest.raises(OptionError, match="--workers is 99999999999") as error:
        parse_spread("processes", "99999999999")
    assert "model of its own" in error.value.hint


def test_an_unknown_executor_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError) as error:
        parse_spread("process")
    assert error.value.near == "processes"


def test_workers_share_the_threads_and_stay_on_the_kind_of_device() -> None:
    cpu, before = torch.device("cpu"), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert [(place.device, place.threads) for place in places(Spread("processes", 2), cpu)] == [("cpu", 2), ("cpu", 2)]
        assert [place.threads for place in places(Spread("processes", 8), cpu)] == [1] * 8
    finally:
        torch.set_num_threads(before)
    with pytest.raises(OptionError):
        places(Spread("processes", 1, ("mps",)), cpu)
