"""Who does which piece of work, and what happens when a worker is slow, dies, or fails.

Pieces are handed out in their order. A worker with nothing left to do takes over one that another has had for longer than pieces usually take; the
first part of a name that comes is the one that counts, and all are the same. A piece whose worker dies or fails is done again by another; after
:data:`TRIES` failures it is set aside, the others go on, and it is reported at the end.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from harness.engine.spreading.station import Failure
from harness.engine.spreading.work import Underway, Work
from harness.errors import EngineError

logger = logging.getLogger(__name__)

TRIES = 3
"""So often a piece of work may fail, and a worker fail to begin."""
_NAMED = 3
"""So many requests are named in an error."""


@dataclass(frozen=True)
class Event:
    """Something that a worker has said, or that has happened to it.

    Attributes:
        place: the worker's number.
        kind: ``ready``: it has begun; ``part``: a part of its work; ``done``: its work; ``failed``: it raised; ``lost``: it is no more.
        job: the number of the work that it is about; -1 for none.
        value: the facts, (name, part), None, a :class:`Failure`, why.
    """

    place: int
    kind: Literal["ready", "part", "done", "failed", "lost"]
    job: int = -1
    value: Any = None


class Pool(Protocol):
    """Workers, by their numbers."""

    @property
    def size(self) -> int:
        """Return how many there are to be."""
        ...

    def begin(self, place: int) -> None:
        """Have a worker begin, in place of one that was there; it says ``ready``, ``failed`` or is ``lost``."""
        ...

    def send(self, place: int, job: int, work: Work) -> None:
        """Give a worker work. One that has just died is reported by :meth:`wait`."""
        ...

    def cancel(self, place: int, job: int) -> None:
        """Tell a worker that its work is no longer needed; it says ``done`` when it has stopped."""
        ...

    def wait(self, seconds: float | None) -> Sequence[Event]:
        """Return what has happened, waiting for it so long at most; None: for as long as it takes."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


class QuarantinedError(EngineError):
    """Work that failed on several workers and was set aside; everything else was done.

    Args:
        why: what happened.
        missing: the names of the parts that did not come; they are ``given``.
        called: what people call them, where that is something else.
    """

    def __init__(self, why: str, missing: Sequence[str], called: Mapping[str, str] | None = None) -> None:
        self.why, self.missing = why, tuple(missing)
        names = list(dict.fromkeys((called or {}).get(name, name) for name in missing))
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        super().__init__(
            f"{why}, so {len(self.missing)} results are missing: {', '.join(names[:_NAMED])}{more}",
            given=self.missing,
            hint="all others are kept; the same command tries these again, with --executor single in this process",
        )

    def naming(self, called: Mapping[str, str]) -> QuarantinedError:
        """Return this error with names for people."""
        return QuarantinedError(self.why, self.missing, called)


@dataclass(eq=False)
class _Piece:
    """A piece of work and what has become of it."""

    work: Work
    left: set[str]
    failures: list[str] = field(default_factory=list)
    trace: str = ""
    begun: dict[int, float] = field(default_factory=dict)
    """When each worker that has it under way was given it."""

    @property
    def open(self) -> bool:
        return bool(self.left) and len(self.failures) < TRIES


@dataclass
class Counts:
    """What happened along the way, for the run's notes."""

    taken_over: int = 0
    """Pieces that a second worker has begun, since the first was slow."""
    repeated: int = 0
    """Times that a piece was done again after a failure."""
    replaced: int = 0
    """Workers that began in place of one that died or failed."""


class Schedule:
    """Hands pieces of work to a pool's workers, time and again; the workers stay between two calls of :meth:`run`."""

    def __init__(self, pool: Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = Counts()
        self._pool, self._clock = pool, clock
        self._ready: set[int] = set()
        self._vacant: set[int] = set()
        """Places of workers that died or failed; others begin there when there is work for them."""
        self._jobs: dict[int, tuple[int, _Piece | None]] = {}
        """Of each worker that is at work, the number of its job and its piece; None for one of an earlier call that others have done."""
        self._misses: dict[int, int] = {}
        """How often in a row each worker was told to begin and did not; those that were given up have TRIES."""
        self._next_job = 0
        self._took: list[float] = []
        self._pieces: list[_Piece] = []
        self._waiting: deque[_Piece] = deque()

    def run(self, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
        """Yield the parts of all pieces, each once and as soon as it comes, and before that how it is coming on, where its worker says so.

        Raises:
            QuarantinedError: at the end, for pieces that failed :data:`TRIES` times.
            HarnessError: at once, one that a worker has raised: it is the user's.
            EngineError: at once, where no worker can begin.
        """
        self._pieces, self._took = [_Piece(work, set(work.names)) for work in works], []
        self._waiting = deque(self._pieces)
        try:
            for place in range(min(self._pool.size, len(works))):
                if place not in self._misses:
                    self._begin(place)
            while any(piece.open for piece in self._pieces):
                for event in self._pool.wait(self._hand_out()):
                    yield from self._heard(event)
        except BaseException:  # given up by whoever iterates, too: nothing goes on in the background
            self._pool.close()
            raise
        for place, (job, _) in list(self._jobs.items()):  # others have done what is still under way; its workers are free when they have stopped
            self._pool.cancel(place, job)
            self._jobs[place] = job, None
        self._report()

    def _begin(self, place: int) -> None:
        self._ready.discard(place)
        self._misses.setdefault(place, 0)
        self._pool.begin(place)

    def _hand_out(self) -> float | None:
        """Give work to all workers that are free. Returns after how many seconds one might take over another's; None: not of itself."""
        for place in sorted(self._vacant) if any(piece.open for piece in self._waiting) else ():
            self._vacant.discard(place)
            self.counts.replaced += 1
            self._begin(place)
        for place in sorted(self._ready - self._jobs.keys()):
            piece = next((piece for piece in self._popped() if piece.open), None)
            if piece is None:
                slow, patience = self._slowest()
                if slow is None or patience > 0:
                    return None if slow is None else patience
                self.counts.taken_over += 1
                piece = slow
            piece.begun[place] = self._clock()
            self._jobs[place] = self._next_job, piece
            self._next_job += 1
            self._pool.send(place, self._jobs[place][0], piece.work)
        return None

    def _popped(self) -> Iterator[_Piece]:
        while self._waiting:
            yield self._waiting.popleft()

    def _slowest(self) -> tuple[_Piece | None, float]:
        """Return what a second worker may take over, and in how many seconds: not a piece that has failed, which would take down two at once."""
        alone = [piece for piece in self._pieces if piece.open and len(piece.begun) == 1 and not piece.failures]
        if not alone or not self._took:
            return None, 0.0
        slow = min(alone, key=lambda piece: next(iter(piece.begun.values())))
        return slow, next(iter(slow.begun.values())) + statistics.median(self._took) - self._clock()

    def _heard(self, event: Event) -> Iterator[tuple[str, Any]]:
        place, (job, piece) = event.place, self._jobs.get(event.place, (-1, None))
        if event.kind == "ready":
            self._ready.add(place)
            self._misses[place] = 0
        elif event.kind == "lost":
            self._lost(place, str(event.value), self._free(place))
        elif event.kind == "failed" and event.job < 0:
            _raise_users(event.value)
            self._not_begun(place, event.value.text)
        elif event.job != job:
            return  # of a job that another worker has done meanwhile
        elif event.kind == "part":
            name, part = event.value
            if piece is not None and name in piece.left:
                if not isinstance(part, Underway):
                    piece.left.discard(name)
                yield name, part
        elif event.kind == "done":
            self._free(place)
            if piece is not None:
                self._done(piece, place)
        elif event.kind == "failed":
            self._free(place)
            if piece is not None and piece.left:  # else another worker has done it meanwhile
                _raise_users(event.value)
                piece.trace = event.value.trace
                self._fail(piece, event.value.text)
            if event.value.spoilt:
                self._ready.discard(place)
                self._vacant.add(place)

    def _free(self, place: int) -> _Piece | None:
        _, piece = self._jobs.pop(place, (-1, None))
        return piece

    def _done(self, piece: _Piece, place: int) -> None:
        self._took.append(self._clock() - piece.begun.pop(place))
        if piece.left:
            self._fail(piece, f"{len(piece.left)} parts did not come")
        for other in piece.begun:
            self._pool.cancel(other, self._jobs[other][0])

    def _lost(self, place: int, why: str, piece: _Piece | None) -> None:
        was_ready = place in self._ready
        self._ready.discard(place)
        if piece is not None:
            piece.begun.pop(place, None)
            self._fail(piece, why)
        if was_ready:
            self._vacant.add(place)
        else:
            self._not_begun(place, why)

    def _fail(self, piece: _Piece, why: str) -> None:
        if not piece.left:
            return
        piece.failures.append(why)
        if piece.open:
            self.counts.repeated += 1
            self._waiting.append(piece)

    def _not_begun(self, place: int, why: str) -> None:
        """A worker has not begun: it is told again, and given up after some tries."""
        if self._misses[place] >= TRIES:
            return
        self._misses[place] += 1
        if self._misses[place] < TRIES:
            self._begin(place)
            return
        logger.warning("worker %d cannot begin (%s); the others do its work", place, why)
        if all(times >= TRIES for times in self._misses.values()):
            raise EngineError(f"no worker can begin: {why}", given=why, hint="leave --executor out to see the error here")

    def _report(self) -> None:
        bad = [piece for piece in self._pieces if piece.left]
        self._pieces = []
        if not bad:
            return
        missing = [name for piece in bad for name in piece.work.names if name in piece.left]
        reasons = "; ".join(dict.fromkeys(why for piece in bad for why in piece.failures))
        what = "a piece of work" if len(bad) == 1 else f"{len(bad)} pieces of work"
        raised = next((RuntimeError(piece.trace) for piece in bad if piece.trace), None)
        raise QuarantinedError(f"{what} failed {TRIES} times on workers ({reasons})", missing) from raised


def _raise_users(failure: Failure) -> None:
    """Raise what a worker has raised where it is an error of the user's: another worker would raise it, too."""
    error = failure.error()
    if error is not None:
        raise error
