"""Opening the executor that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.engine.spreading.choice import RAY, SINGLE, Spread, check_executor

if TYPE_CHECKING:
    from harness.engine.base import Executor
    from harness.engine.spreading.recipe import Opener


def open_executor(spread: Spread, opener: Opener | None = None) -> Executor:
    """Return the executor that was asked for; its workers begin when it is first given work.

    Args:
        spread: what was asked for.
        opener: makes of a recipe the engine that a worker uses; None opens it as it is.

    Raises:
        OptionError: this system, or this installation, lacks what the executor needs.
    """
    from harness.engine.executors import LocalExecutor

    check_executor(spread)
    if spread.executor == SINGLE:
        return LocalExecutor()
    from harness.engine.spreading.executor import SpreadExecutor

    if spread.executor == RAY:
        from harness.engine.spreading.ray_pool import RayPool

        return SpreadExecutor(spread, RayPool.open, opener)
    from harness.engine.spreading.processes import ProcessPool

    return SpreadExecutor(spread, ProcessPool.open, opener)
