"""Dictionaries: loading, single-feature arithmetic, statistics over a corpus, training. Names are imported when first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.sae.causal import OutputScores, confidence_changes, logit_lens, output_scores
    from harness.sae.checks import check_fits, residual_layer
    from harness.sae.corpus.collect import CorpusStatistics, collect, measure
    from harness.sae.dictionary import Dictionary, FeatureColumns
    from harness.sae.identity import check_same
    from harness.sae.info import SaeInfo, describe
    from harness.sae.loading import check_registered, load
    from harness.sae.training.config import TrainConfig

_HOMES = {
    "CorpusStatistics": "corpus.collect",
    "Dictionary": "dictionary",
    "FeatureColumns": "dictionary",
    "OutputScores": "causal",
    "SaeInfo": "info",
    "TrainConfig": "training.config",
    "check_fits": "checks",
    "check_registered": "loading",
    "check_same": "identity",
    "collect": "corpus.collect",
    "confidence_changes": "causal",
    "describe": "info",
    "load": "loading",
    "logit_lens": "causal",
    "measure": "corpus.collect",
    "output_scores": "causal",
    "residual_layer": "checks",
}

__all__ = [
    "CorpusStatistics",
    "Dictionary",
    "FeatureColumns",
    "OutputScores",
    "SaeInfo",
    "TrainConfig",
    "check_fits",
    "check_registered",
    "check_same",
    "collect",
    "confidence_changes",
    "describe",
    "load",
    "logit_lens",
    "measure",
    "output_scores",
    "residual_layer",
]


def __getattr__(name: str) -> Any:
    # Importing torch takes a second, and `harness --help` must not.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
