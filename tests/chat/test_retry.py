"""Trying again: what is tried again, how long the pauses are, and when it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.chat.retry import tried
from harness.chat.values import NotReached, RequestFailed


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, in place of sleeping."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


def failing(failures: list[RequestFailed]) -> Callable[[], str]:
    """A call that fails so, one after the other, and then succeeds."""
    left: Iterator[RequestFailed] = iter(failures)

    def call() -> str:
        if (failure := next(left, None)) is not None:
            raise failure
        return "done"

    return call


def passing(wait: float | None = None) -> RequestFailed:
    return RequestFailed("busy", retryable=True, retry_after=wait)


def test_pauses_grow_and_are_reported(slept: list[float]) -> None:
    reported: list[tuple[int, float]] = []
    call = failing([passing()] * 3)
    assert tried(call, "x", attempts=lambda _: 4, pause=1.0, longest=60.0, waiting=lambda _, n, seconds: reported.append((n, seconds))) == "done"
    assert [n for n, _ in reported] == [1, 2, 3]
    assert [seconds for _, seconds in reported] == slept
    assert all(0.5 * 2**n <= seconds <= 1.5 * 2**n for n, seconds in enumerate(slept))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.floats(0, 1000), longest=st.floats(0, 100))
def test_the_wait_that_the_server_asks_for_is_kept_up_to_the_longest(slept: list[float], asked: float, longest: float) -> None:
    slept.clear()
    tried(failing([passing(asked)]), "x", attempts=lambda _: 2, pause=1.0, longest=longest)
    assert min(asked, longest) <= sum(slept) <= min(asked + 1.0, longest)


def test_the_last_failure_is_raised_as_it_is_and_by_its_kind(slept: list[float]) -> None:
    last = passing()
    with pytest.raises(RequestFailed) as caught:
        tried(failing([passing(), passing(), last, passing()]), "x", attempts=lambda _: 3, pause=1.0, longest=60.0)
    assert caught.value is last
    assert caught.value.__context__ is None
    assert len(slept) == 2
    unreached = NotReached("nobody", retryable=True)
    with pytest.raises(NotReached):
        tried(failing([unreached] * 9), "x", attempts=lambda failure: 1 if isinstance(failure, NotReached) else 9, pause=1.0, longest=60.0)
    assert len(slept) == 2


@pytest.mark.parametrize("error", [RequestFailed("no such model", status=404), ValueError("a defect")])
def test_what_will_not_heal_is_not_tried_again(slept: list[float], error: Exception) -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        tried(call, "x", attempts=lambda _: 9, pause=1.0, longest=60.0)
    assert caught.value is error
    assert (len(calls), slept) == (1, [])
