"""Executors: who generates the chunks. The local one does it here, one after the other; see :mod:`harness.engine.spreading` for others."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from harness.engine.base import Chunk, Engine, Executor, Generated, check_requests
from harness.types import Decoding, Json


class LocalExecutor:
    """Generates the chunks in this process, in their order. Implements :class:`harness.engine.base.Executor`."""

    def map(self, engine: Engine, chunks: Sequence[Chunk], decoding: Decoding) -> Iterator[Generated]:
        """Return the texts of all chunks. Every chunk is checked before the first is begun.

        Raises:
            EngineError: see :meth:`harness.engine.base.Engine.run`.
        """
        check_requests(engine, [request for chunk in chunks for request in chunk])
        return self._texts_of([engine.run(chunk, decoding) for chunk in chunks])

    def facts(self) -> dict[str, Json]:
        """Return nothing: what this machine is, the manifest says."""
        return {}

    def close(self) -> None:
        """Do nothing: nothing was begun."""

    def _texts_of(self, runs: Sequence[Iterator[Generated]]) -> Iterator[Generated]:
        for run in runs:
            yield from run


def generate(
    engine: Engine, executor: Executor, requests: Chunk, decoding: Decoding, only: Container[str] | None = None
) -> Iterator[Generated]:
    """Return a text for each request, in any order.

    Args:
        engine: whose texts.
        executor: who spreads the work.
        requests: all of them, those that have a text already included: what is generated together depends on them.
        decoding: the same for every request.
        only: the ids whose texts are wanted; None means all. A chunk that holds one of them is generated again as a whole.

    Raises:
        EngineError: before anything is generated, for a request that the engine does not take.
    """
    chunks = engine.chunks(requests)
    if only is None:
        return executor.map(engine, chunks, decoding)
    wanted = [chunk for chunk in chunks if any(request.id in only for request in chunk)]
    return (text for text in executor.map(engine, wanted, decoding) if text.id in only)
