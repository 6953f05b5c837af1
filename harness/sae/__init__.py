"""Dictionaries: loading, single-feature arithmetic, statistics over a corpus, training. Names are imported when first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary, FeatureColumns
    from harness.sae.edits import ClampFeature
    from harness.sae.info import SaeInfo, describe
    from harness.sae.loading import check_fits, check_registered, load, residual_layer
    from harness.sae.statistics import CorpusStatistics, collect
    from harness.sae.train import TrainConfig

_HOMES = {
    "ClampFeature": "edits",
    "CorpusStatistics": "statistics",
    "Dictionary": "dictionary",
    "FeatureColumns": "dictionary",
    "SaeInfo": "info",
    "TrainConfig": "train",
    "check_fits": "loading",
    "check_registered": "loading",
    "collect": "statistics",
    "describe": "info",
    "load": "loading",
    "residual_layer": "loading",
}

__all__ = [
    "ClampFeature",
    "CorpusStatistics",
    "Dictionary",
    "FeatureColumns",
    "SaeInfo",
    "TrainConfig",
    "check_fits",
    "check_registered",
    "collect",
    "describe",
    "load",
    "residual_layer",
]


def __getattr__(name: str) -> Any:
    # Importing torch takes a second, and `harness --help` must not.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
