"""Opening a run's engine: a new one is named here, and in :data:`harness.engine.base.VERSIONS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.engine.base import VERSIONS, Engine
from harness.errors import UnknownNameError

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

DEFAULT = "torch"
"""The engine of a run."""

SUMMARIES = {
    "torch": "our own loop over the transformers model, in this process",
    "nnsight": "the same loop, each forward pass a trace of nnsight, which applies the edits",
    "ndif": "nnsight with remote=True: texts come from a model that NDIF serves (NDIF_API_KEY)",
}


def check_engine_name(name: str) -> str:
    """Return the name of an engine. Raises UnknownNameError for any other."""
    if name not in VERSIONS:
        raise UnknownNameError("engine", name, VERSIONS)
    return name


def open_engine(model: SubjectModel, name: str = DEFAULT, *, use_cache: bool = True, batch_size: int | None = None) -> Engine:
    """Return the engine ``name`` on a loaded model.

    Args:
        model: the subject model.
        name: one of :data:`~harness.engine.base.VERSIONS`.
        use_cache: False recomputes whole texts at every step, where the engine can (for checks).
        batch_size: rows decoded together; None takes the engine's own. NDIF's server has its own.

    Raises:
        UnknownNameError: there is no such engine.
        EngineError: its library is missing, or what it needs to be reached is.
    """
    check_engine_name(name)
    rows = {} if batch_size is None else {"batch_size": batch_size}
    if name == "nnsight":
        from harness.engine.traced import NNsightEngine

        return NNsightEngine(model, use_cache=use_cache, **rows)
    if name == "ndif":
        from harness.engine.ndif import NdifEngine

        return NdifEngine(model, use_cache=use_cache)
    from harness.engine.torch_loop import TorchEngine

    return TorchEngine(model, use_cache=use_cache, **rows)
