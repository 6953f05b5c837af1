"""The engine of a worker: its model is watched as the driver's is, so no text is kept that a model gave which an edit has changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from harness.run.guard import Guard

if TYPE_CHECKING:
    from harness.engine.base import Chunk, Engine, Generated
    from harness.engine.spreading.recipe import Recipe
    from harness.types import Decoding

_T = TypeVar("_T")


class GuardedEngine:
    """An engine whose model is compared with what it was while edits are at work.

    Args:
        engine: generates; all that is not generation is its own.
        guard: watches its model.
    """

    def __init__(self, engine: Engine, guard: Guard) -> None:
        self._engine, self._guard = engine, guard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        """See :meth:`harness.engine.base.Engine.run`. Raises ChangedModelError in place of texts that were made since the last comparison."""
        names = ["a steerer's edit"] if any(request.edits for request in requests) else []
        return self._guard.compared(names, self._engine.run(requests, decoding), lambda text: text.moment)

    def compared(self, who: str, items: Iterator[_T]) -> Iterator[_T]:
        """See :meth:`harness.engine.spreading.work.Watches.compared`."""
        return self._guard.compared([who], items, doing="a worker")


def open_guarded(recipe: Recipe, device: str) -> Any:
    """Return the recipe's engine, watched. A worker opens its engine by this."""
    engine: Any = recipe.open(device)
    if engine.model is None:
        return engine
    guard = Guard()
    guard.watch("the subject model of a worker", engine.model.hf, lambda: None, [engine.model.tokenizer])
    return GuardedEngine(engine, guard)
