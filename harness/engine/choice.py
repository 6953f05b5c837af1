"""Opening a run's engine: a new one is named here, and in :data:`harness.engine.base.VERSIONS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.engine.base import VERSIONS, Engine
from harness.errors import UnknownNameError

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

DEFAULT = "torch"
"""The engine of a run."""


def open_engine(model: SubjectModel, name: str = DEFAULT) -> Engine:
    """Return the engine ``name`` on a loaded model.

    Raises:
        UnknownNameError: there is no such engine.
    """
    if name not in VERSIONS:
        raise UnknownNameError("engine", name, VERSIONS)
    from harness.engine.torch_loop import TorchEngine

    return TorchEngine(model)
