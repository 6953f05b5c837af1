"""What is handed to a worker: a piece of work that yields parts by name, and gives the same parts wherever and however often it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from harness.engine.base import Chunk, Engine, Generated
from harness.types import Decoding


class Work(Protocol):
    """A piece of work. It travels to workers, with all that it holds."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the parts that it yields, each once."""
        ...

    def do(self, engine: Engine) -> Iterator[tuple[str, Any]]:
        """Yield the parts, each with its name, in any order."""
        ...


@dataclass(frozen=True)
class Generate:
    """A chunk of texts. Implements :class:`Work`; its parts are :class:`~harness.engine.base.Generated` by their ids."""

    requests: Chunk
    decoding: Decoding

    @property
    def names(self) -> Sequence[str]:
        return [request.id for request in self.requests]

    def do(self, engine: Engine) -> Iterator[tuple[str, Generated]]:
        for text in engine.run(self.requests, self.decoding):
            yield text.id, text
