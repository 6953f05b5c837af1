"""Linear artificial tomography (LAT; Zou et al. 2023, as in AxBench): the first principal component of differences of a concept's tokens.

The positives' token activations are shuffled and halved; the component is that of the differences of the two halves, each of unit norm. Its sign is
the one that gives the positives' tokens a higher mean score than the negatives' (AxBench leaves it as it comes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import hookimpl
from harness.errors import DataError
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
    import torch

    from harness.contracts import Bench


class _Lat(DirectionMethod):
    name = "lat"

    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        x = TokensOf(bench, site, texts)
        found = [first_component(_differences(bench, one, x(one)[0])) for one in bench.track(texts, "principal components", len(texts))]
        return oriented([one.concept.id for one in texts], np.stack(found), x, texts, self.name)


def _differences(bench: Bench, texts: ConceptTexts, x: torch.Tensor) -> torch.Tensor:
    """Return the differences of shuffled halves, of unit norm, ``[tokens // 2, d_model]``; an odd token is left out, and so are equal ones."""
    import torch

    half = len(x) // 2
    order = torch.from_numpy(bench.rng("lat", texts.concept.id).permutation(len(x))).to(x.device)
    differences = x[order[:half]].double() - x[order[half : 2 * half]].double()
    lengths = differences.norm(dim=1, keepdim=True)
    differences, lengths = differences[lengths[:, 0] > 0], lengths[lengths[:, 0] > 0]
    if len(differences) < 2:
        message = f"lat needs four tokens that differ, and the training texts of concept {texts.concept.id!r} have {len(x)}"
        raise DataError(message, given=len(x), hint="leave the concept out, or give more texts")
    unit: torch.Tensor = differences / lengths
    return unit


class LatSteerer(_Lat, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""


class LatDetector(_Lat, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`."""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("lat", LatSteerer, options=FitSteerOptions, summary="add the first principal component of differences of the concept's tokens")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("lat", LatDetector, options=FitDetectOptions, summary="tokens along the first principal component of differences of tokens")
