"""Who does what: pieces in their order, again elsewhere after a failure, twice where a worker is slow, and set aside after three failures."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.engine.spreading.schedule import TRIES, Event, QuarantinedError, Schedule
from harness.engine.spreading.station import Failure
from harness.engine.spreading.work import Underway, Work
from harness.errors import EngineError, HarnessError, ModelError


@dataclass(frozen=True)
class Parts:
    """Work with the named parts."""

    names: Sequence[str]

    def do(self, engine: Any) -> Iterator[tuple[str, Any]]:
        raise AssertionError("the workers of these tests answer by script")


Answer = Callable[[int, int, Work], list[Event]]


def completes(place: int, job: int, work: Work) -> list[Event]:
    return [*(Event(place, "part", job, (name, f"{name} by {place}")) for name in work.names), Event(place, "done", job)]


@dataclass
class Scripted:
    """A pool whose workers answer as they are told, one event at a time; time stands still unless all wait."""

    size: int = 2
    answer: Answer = completes
    opened: Callable[[int], list[Event]] = lambda place: [Event(place, "ready")]
    events: deque[Event] = field(default_factory=deque)
    sent: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    closed: bool = False
    now: float = 0.0

    def begin(self, place: int) -> None:
        self.begun.append(place)
        self.events.extend(self.opened(place))

    def send(self, place: int, job: int, work: Work) -> None:
        self.sent.append((place, tuple(work.names)))
        self.events.extend(self.answer(place, job, work))

    def cancel(self, place: int, job: int) -> None:
        self.cancelled.append(place)

    def wait(self, seconds: float | None) -> Sequence[Event]:
        if self.events:
            self.now += 1.0
            return [self.events.popleft()]
        assert seconds is not None, "all wait for each other"
        self.now += seconds + 0.001
        return []

    def close(self) -> None:
        self.closed = True


def scheduled(pool: Scripted) -> Schedule:
    return Schedule(pool, lambda: pool.now)


def works(*lengths: int) -> list[Work]:
    return [Parts([f"{number}.{part}" for part in range(length)]) for number, length in enumerate(lengths)]


FAILING = st.dictionaries(st.integers(0, 20), st.sampled_from(["lost", "failed"]), max_size=2)


@given(st.lists(st.integers(1, 4), max_size=8), st.integers(1, 4), FAILING)
def test_every_part_comes_once_whoever_fails(lengths: list[int], size: int, failing: dict[int, str]) -> None:
    def answer(place: int, job: int, work: Work) -> list[Event]:
        found = completes(place, job, work)
        if job not in failing:
            return found
        failed = Event(place, "failed", job, Failure("OSError", "…", spoilt=job % 2 == 0))
        return [*found[: len(found) // 2], Event(place, "lost", value="killed") if failing[job] == "lost" else failed]

    pool = Scripted(size, answer)
    parts = [name for name, _ in scheduled(pool).run(works(*lengths))]
    assert sorted(parts) == sorted(name for work in works(*lengths) for name in work.names)
    assert len(set(pool.begun)) == min(size, len(lengths))
    assert not pool.closed


def test_an_error_in_work_that_another_has_done_meanwhile_is_nobodys() -> None:
    def answer(place: int, job: int, work: Work) -> list[Event]:
        if job in (0, 2):
            return []  # slow
        late = [Event(0, "failed", 0, Failure.of(ModelError("too late")))] if job == 3 else []
        return [*completes(place, job, work), *late]

    pool = Scripted(3, answer)
    parts = [name for name, _ in scheduled(pool).run(works(1, 1, 1))]
    assert parts == ["1.0", "0.0", "2.0"]
    assert (0, ("0.0",)) in pool.sent
    assert (1, ("0.0",)) in pool.sent


def test_work_of_a_worker_that_died_is_done_again_and_it_is_replaced() -> None:
    dies = iter([True])
    pool = Scripted(1, lambda place, job, work: [Event(place, "lost", value="killed")] if next(dies, False) else completes(place, job, work))
    schedule = scheduled(pool)
    assert len(list(schedule.run(works(2, 2)))) == 4
    assert pool.sent == [(0, ("0.0", "0.1")), (0, ("1.0", "1.1")), (0, ("0.0", "0.1"))]
    assert pool.begun == [0, 0]
    assert (schedule.counts.repeated, schedule.counts.replaced) == (1, 1)
    assert len(list(schedule.run(works(1)))) == 1  # the workers are those of before
    assert pool.begun == [0, 0]


@pytest.mark.parametrize("kind", ["lost", "failed"])
def test_work_that_fails_three_times_is_set_aside_and_the_rest_goes_on(kind: str) -> None:
    def answer(place: int, job: int, work: Work) -> list[Event]:
        if work.names[0] != "1.0":
            return completes(place, job, work)
        first = Event(place, "part", job, ("1.0", "came before"))
        return [first, Event(place, "lost", value="killed by SIGKILL") if kind == "lost" else Event(place, "failed", job, Failure("bad", "trace"))]

    pool, found = Scripted(2, answer), []
    with pytest.raises(QuarantinedError) as error:
        found.extend(scheduled(pool).run(works(1, 3, 1, 1)))
    assert sorted(name for name, _ in found) == ["0.0", "1.0", "2.0", "3.0"]
    assert error.value.given == ("1.1", "1.2")
    assert "1.1, 1.2" in str(error.value)
    assert ("killed by SIGKILL" if kind == "lost" else "bad") in str(error.value)
    assert len([names for _, names in pool.sent if names[0] == "1.0"]) == TRIES
    assert not pool.closed


def test_an_error_of_the_users_is_raised_at_once_as_it_is() -> None:
    sent = Failure.of(EngineError("the logits of request 7 are not finite", given="7", hint="use weaker edits"))
    pool = Scripted(1, lambda place, job, work: [Event(place, "failed", job, sent)])
    with pytest.raises(EngineError) as error:
        list(scheduled(pool).run(works(1, 1)))
    assert type(error.value) is EngineError
    assert (error.value.given, error.value.hint) == ("7", "use weaker edits")
    assert pool.closed
    assert len(pool.sent) == 1


def test_a_slow_worker_is_helped_and_the_first_result_counts() -> None:
    """Worker 0 says nothing after its first text; the other has done its own piece, and after that time again takes the first one over."""

    def answer(place: int, job: int, work: Work) -> list[Event]:
        return [Event(place, "part", job, (work.names[0], "by 0"))] if place == 0 else completes(place, job, work)

    pool = Scripted(2, answer)
    schedule = scheduled(pool)
    found = dict(schedule.run(works(2, 2)))
    assert found == {"0.0": "by 0", "0.1": "0.1 by 1", "1.0": "1.0 by 1", "1.1": "1.1 by 1"}
    assert pool.sent[-1] == (1, ("0.0", "0.1"))
    assert schedule.counts.taken_over == 1
    assert 0 in pool.cancelled
    pool.events.append(Event(0, "part", 0, ("0.1", "late")))  # it comes to itself while the next work is under way
    pool.events.append(Event(0, "done", 0))
    assert dict(schedule.run(works(1))) == {"0.0": "0.0 by 1"}


def test_no_worker_that_begins_is_an_error_and_some_that_do_not_are_not() -> None:
    pool = Scripted(2, opened=lambda place: [Event(place, "lost", value="ended with exit code 1")])
    with pytest.raises(EngineError, match="exit code 1"):
        list(scheduled(pool).run(works(1, 1)))
    assert len(pool.begun) == 2 * TRIES
    half = Scripted(2, opened=lambda place: [Event(place, "ready")] if place else [Event(place, "lost", value="no memory")])
    assert len(list(scheduled(half).run(works(1, 1, 1)))) == 3
    refuses = Scripted(1, opened=lambda place: [Event(place, "failed", -1, Failure.of(ModelError("not found", given="m")))])
    with pytest.raises(ModelError):
        list(scheduled(refuses).run(works(1)))


def test_workers_end_with_an_iteration_that_is_given_up() -> None:
    pool = Scripted(1)
    parts = scheduled(pool).run(works(2))
    next(parts)
    del parts
    assert pool.closed


def test_errors_travel_with_their_fields() -> None:
    from harness.errors import UnknownNameError

    for error in (UnknownNameError("label", "x", ["a"]), ModelError("m", given=b"1", allowed=("a", 1), hint="h")):
        found = Failure.of(error).error()
        assert isinstance(found, HarnessError)
        assert type(found) is type(error)
        assert str(found) == str(error)
        assert found.hint == error.hint
    defect = Failure.of(ZeroDivisionError("x"))
    assert defect.error() is None
    assert defect.text == "ZeroDivisionError: x"


def test_how_a_part_is_coming_on_is_handed_on_and_is_no_part() -> None:
    """Of work that is done again it is told from the start once more; behind the part nothing is told of it."""

    def answer(place: int, job: int, work: Work) -> list[Event]:
        told = [Event(place, "part", job, ("0.0", Underway(step))) for step in range(2)]
        return [*told, Event(place, "failed", job, Failure("E", ""))] if job == 0 else [*told, *completes(place, job, work)]

    pool = Scripted(size=1, answer=answer)
    found = list(scheduled(pool).run(works(1)))
    assert found == [("0.0", Underway(0)), ("0.0", Underway(1)), ("0.0", Underway(0)), ("0.0", Underway(1)), ("0.0", "0.0 by 0")]
