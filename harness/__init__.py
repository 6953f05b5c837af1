"""harness: labelers, steerers, detectors, metrics and judges of sparse-autoencoder features, compared on equal terms.

In a script: ``from harness import evaluate, load_run, load_task, rate`` (docs/python.md). In a plugin: ``from harness import hookimpl``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pluggy import HookimplMarker

from harness.files.version import VERSION as __version__

if TYPE_CHECKING:
    from harness.evaluations.face import evaluate, load_run, load_task, rate

hookimpl = HookimplMarker("harness")
"""Marks a function of a plugin as an implementation of one of the hooks in :mod:`harness.plugin.spec`."""

__all__ = ["__version__", "evaluate", "hookimpl", "load_run", "load_task", "rate"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: `harness --help` and a plugin's import must stay quick.
    if name not in ("evaluate", "load_run", "load_task", "rate"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.evaluations import face

    return getattr(face, name)
