"""The first principal component of a concept's tokens (AxBench's PCA, Wu et al. 2025; Zou et al. 2023).

It is that of the positives' token activations alone. A component has no sign: AxBench leaves it as it comes, here it is the one that gives the
positives' tokens a higher mean score than the negatives'.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import hookimpl
from harness.fitting.components import first_component
from harness.fitting.directions import (
    DirectionDetector,
    DirectionMethod,
    DirectionSteerer,
    Fit,
    FitDetectOptions,
    FitSteerOptions,
    TokensOf,
    oriented,
)
from harness.fitting.texts import ConceptTexts
from harness.interventions import Site

if TYPE_CHECKING:
    from harness.contracts import Bench


class _Pca(DirectionMethod):
    name = "pca"

    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        x = TokensOf(bench, site, texts)
        found = [first_component(x(one)[0]) for one in bench.track(texts, "principal components", len(texts))]
        return oriented([one.concept.id for one in texts], np.stack(found), x, texts, self.name)


class PcaSteerer(_Pca, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""


class PcaDetector(_Pca, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`."""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("pca", PcaSteerer, options=FitSteerOptions, summary="add the first principal component of the concept's tokens (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("pca", PcaDetector, options=FitDetectOptions, summary="tokens along the first principal component of the concept's tokens")
