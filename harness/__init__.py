"""harness: labelers, steerers and judges of sparse-autoencoder features, compared on equal terms."""

from __future__ import annotations

from pluggy import HookimplMarker

__version__ = "0.1.0"
hookimpl = HookimplMarker("harness")
"""Marks a function of a plugin as an implementation of one of the hooks in :mod:`harness.plugin.spec`."""

__all__ = ["__version__", "hookimpl"]
