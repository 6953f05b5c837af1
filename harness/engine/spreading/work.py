"""What is handed to a worker: a piece of work that yields parts by name, and gives the same parts wherever and however often it is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

from harness.engine.base import Chunk, Engine, Generated
from harness.types import Decoding

if TYPE_CHECKING:
    import torch

    from harness.model.loading import SubjectModel

_T = TypeVar("_T")


@dataclass(frozen=True)
class Underway:
    """How a part is coming on, told in its name before it comes, any number of times; where the work is done again, from the start once more.

    Attributes:
        value: what is told.
    """

    value: Any


class Work(Protocol):
    """A piece of work. It travels to workers, with all that it holds."""

    @property
    def names(self) -> Sequence[str]:
        """Return the names of the parts that it yields, each once."""
        ...

    def do(self, engine: Any) -> Iterator[tuple[str, Any]]:
        """Yield the parts, each with its name, in any order; of long ones also, in between, how they are coming on (:class:`Underway`).

        A worker whose work is no longer needed stops when something is yielded.

        Args:
            engine: the worker's, which has its ``model``.
        """
        ...


class HasModel(Protocol):
    """A worker's engine, as far as work needs one that generates nothing."""

    model: SubjectModel


def device_of(engine: Any) -> torch.device:
    """Return where a worker's engine computes, one of no model among them."""
    found: torch.device = engine.device if engine.model is None else engine.model.device
    return found


@runtime_checkable
class Watches(Protocol):
    """A worker's engine whose model is compared with what it was while code of plugins is at work."""

    def compared(self, who: str, items: Iterator[_T]) -> Iterator[_T]:
        """Yield ``items``, each after a comparison. Raises PluginError in place of items that a model gave which ``who`` has changed."""
        ...


def compared(engine: object, who: str, items: Iterator[_T]) -> Iterator[_T]:
    """Yield what code of plugins makes with a worker's model, as :meth:`Watches.compared` where the engine watches its model."""
    return engine.compared(who, items) if isinstance(engine, Watches) else items


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
