"""The clock of parts: a part's seconds are its own."""

from __future__ import annotations

import threading

import pytest

from harness.files import timing
from harness.files.timing import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock on a time that passes by a second with each reading."""
    seconds = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(seconds)))
    return Clock()


def test_what_a_part_within_takes_is_not_counted_twice(clock: Clock) -> None:
    with clock.part("model", rows=3):  # 0 … 5
        with clock.part("edits"):  # 1 … 2
            pass
        with clock.part("edits"):  # 3 … 4
            pass
    assert clock.spent.seconds == {"model": 3.0, "edits": 2.0}
    assert (clock.spent.calls, clock.spent.rows) == ({"model": 1, "edits": 2}, {"model": 3})


def test_a_whole_part_has_what_parts_within_take(clock: Clock) -> None:
    with clock.part("judge", whole=True), clock.part("model", rows=3), clock.part("tokenizer"):  # 0 … 1
        pass
    with clock.part("model", rows=2):
        pass
    assert clock.spent == timing.Spent({"judge": 1.0, "model": 1.0}, {"judge": 1, "model": 1}, {"model": 2})


def test_a_part_that_fails_is_counted_and_closed(clock: Clock) -> None:
    with pytest.raises(KeyError), clock.part("model"):
        raise KeyError
    with pytest.raises(KeyError), clock.part("whole", whole=True):
        raise KeyError
    with clock.part("sampling"):
        pass
    assert clock.spent.seconds == {"model": 1.0, "whole": 1.0, "sampling": 1.0}


def test_what_was_spent_since_leaves_out_what_was_not(clock: Clock) -> None:
    with clock.part("model", rows=2):
        pass
    before = clock.spent.copy()
    with clock.part("store"):
        pass
    assert clock.spent.less(before) == timing.Spent({"store": 1.0}, {"store": 1}, {})


def test_each_thread_has_its_own(clock: Clock) -> None:
    def work() -> None:
        with clock.part("elsewhere"):
            pass

    thread = threading.Thread(target=work)
    with clock.part("here"):
        thread.start()
        thread.join()
    assert set(clock.spent.seconds) == {"here"}
