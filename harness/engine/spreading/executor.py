"""The executor that spreads chunks over workers. The driver alone writes the store: workers send texts back as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from harness.engine.base import Chunk, Engine, Generated, check_requests
from harness.engine.spreading.choice import Spread
from harness.engine.spreading.recipe import NoModel, Opener, Portable, Recipe, open_plainly, recipe_of
from harness.engine.spreading.schedule import Schedule
from harness.engine.spreading.station import Facts
from harness.engine.spreading.work import Generate, Work
from harness.errors import EngineError
from harness.types import Decoding, Json

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

OpenPool: TypeAlias = "Callable[[Spread, Recipe, Opener, SubjectModel | None], Any]"


class SpreadExecutor:
    """Hands chunks to workers, each with an engine like the driver's. Implements :class:`harness.engine.base.Executor`.

    The workers begin with the first chunks, stay for the next ones, and end with :meth:`close` or with the executor.

    Args:
        spread: what was asked for.
        open_pool: opens the workers.
        opener: opens a worker's engine.
    """

    def __init__(self, spread: Spread, open_pool: OpenPool, opener: Opener | None = None) -> None:
        self.spread, self._open_pool, self._opener = spread, open_pool, opener or open_plainly
        self._pool: Any = None
        self._schedule: Schedule | None = None
        self._recipe: Recipe | None = None
        self._model: SubjectModel | None = None
        self._facts: dict[str, Json] = {}

    def map(self, engine: Engine, chunks: Sequence[Chunk], decoding: Decoding) -> Iterator[Generated]:
        """Return the texts of all chunks. Every chunk is checked here before the first is sent.

        Raises:
            EngineError: see :meth:`harness.engine.base.Engine.run`; for an engine that cannot be opened by workers.
            QuarantinedError: while iterating, at the end, for chunks that failed on several workers.
        """
        recipe_of(engine)
        check_requests(engine, [request for chunk in chunks for request in chunk])
        for chunk in chunks:
            engine.run(chunk, decoding)  # checked, and never iterated
        return (text for _, text in self.spread_out(engine, [Generate(chunk, decoding) for chunk in chunks]))

    def spread_out(self, engine: Engine | NoModel, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
        """Yield the parts of pieces of work, done by engines like this one; see :meth:`harness.engine.spreading.schedule.Schedule.run`."""
        if not works:
            return
        recipe = recipe_of(engine)
        assert isinstance(engine, Portable | NoModel)
        if self._pool is None or recipe != self._recipe or engine.model is not self._model:
            self.close()
            self._pool, self._recipe, self._model = self._open_pool(self.spread, recipe, self._opener, engine.model), recipe, engine.model
            self._schedule = Schedule(self._pool)
        assert self._schedule is not None
        try:
            yield from self._schedule.run(works)
        except BaseException:
            self.close()
            raise
        finally:
            self._note()

    def facts(self) -> dict[str, Json]:
        """Return what a reader of the run may want to know: workers, machines, devices, threads, and what happened to them."""
        self._note()
        return self._facts

    def close(self) -> None:
        """End the workers. The next chunks begin new ones."""
        self._note()
        if self._pool is not None:
            self._pool.close()
        self._pool = self._schedule = None

    def _note(self) -> None:
        if self._pool is None or self._schedule is None:
            return
        found: Sequence[Facts] = [facts for _, facts in sorted(self._pool.facts.items())]
        self._facts = {
            "executor": self.spread.executor,
            "workers": self._pool.size,
            "hosts": sorted({one.host for one in found}),
            "devices": sorted({one.device for one in found}),
            "threads": sorted({one.threads for one in found}),
            **asdict(self._schedule.counts),
        }


@dataclass(frozen=True)
class EngineWorkers:
    """The workers of an executor, each with an engine like the driver's. Implements :class:`harness.contracts.Workers`.

    Attributes:
        executor: whose workers.
        engine: the driver's.
    """

    executor: SpreadExecutor
    engine: Engine | NoModel

    def refuses(self, work: Work) -> str | None:
        from harness.engine.spreading.packing import refusal

        try:
            recipe_of(self.engine)
        except EngineError as error:
            return error.message
        if isinstance(self.engine, NoModel):
            return refusal(work, self.engine.device)
        assert isinstance(self.engine, Portable)
        return refusal(work, self.engine.model.device, self.engine.model)

    def do(self, works: Sequence[Work]) -> Iterator[tuple[str, Any]]:
        return self.executor.spread_out(self.engine, works)


def check_same_code(facts: Facts) -> None:
    """Raise EngineError where a worker on another machine has other code than the driver: its texts would be of another run."""
    from harness.plugin.source import core_digest

    if facts.code != core_digest():
        message = f"the worker on {facts.host} has another harness installed than this machine"
        raise EngineError(message, given=facts.code, allowed=core_digest(), hint="install the same version on all machines")

