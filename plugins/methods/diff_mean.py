"""Difference of means (DiffMean; Marks & Tegmark 2023, AxBench's strongest simple direction): mean(positives) − mean(negatives).

``level=token`` is AxBench's (Wu et al. 2025): means over tokens of a concept's texts and of as many without it; a text's score is its largest
token's.
``level=text`` takes every other training text as a negative, and scores a text by its mean residual. Needs no dictionary and no feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness import hookimpl
from harness.errors import OptionError
from harness.fitting.directions import (
    DetectOptions,
    DirectionDetector,
    DirectionMethod,
    DirectionSteerer,
    Fit,
    FitOptions,
    SteerOptions,
    TokensOf,
    oriented,
)
from harness.fitting.texts import ConceptTexts
from harness.interventions import Site
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet


class DiffMeanFit(FitOptions):
    """Options of the fit of ``diff-mean``."""

    level: Literal["token", "text"] = "token"
    """Over what means are taken: the tokens of a concept's texts and of as many without it (AxBench), or those of all training texts."""


class DiffMeanSteerOptions(DiffMeanFit, SteerOptions):
    """Options of steerer ``diff-mean``."""


class DiffMeanDetectOptions(DiffMeanFit, DetectOptions):
    """Options of detector ``diff-mean``; a text's score is always its mean with ``level=text``."""


class _DiffMean(DirectionMethod):
    name = "diff-mean"

    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        x = TokensOf(bench, site, texts)
        names = [one.concept.id for one in texts]
        if self.options.level == "text":  # type: ignore[attr-defined]
            return oriented(names, _of_texts(bench, site, texts), x, texts, self.name)
        differences = [(positive.double().mean(dim=0) - negative.double().mean(dim=0)).cpu().numpy() for positive, negative in map(x, texts)]
        return oriented(names, np.stack(differences), x, texts, self.name)


def _of_texts(bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> NDArray[np.float64]:
    """Return each concept's difference of means over all training texts, ``[concepts, d_model]``, from the texts' mean residuals."""
    from harness.labelling.splits import positives
    from harness.sae.directions import mean_differences

    if site != bench.site:
        message = f"level=text reads the corpus' mean residuals, which are of {bench.site}"
        raise OptionError(message, given=str(site), allowed=str(bench.site), hint="leave layer out, or take level=token")
    residuals = bench.residual_means()
    has = positives(bench, [one.concept for one in texts])
    return mean_differences(residuals.means, residuals.n_tokens, has, bench.split.train)


class DiffMeanSteerer(_DiffMean, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""


class DiffMeanDetector(_DiffMean, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`; a score is a length in the residual stream, with a sign."""

    def scores(self, labelings: Sequence[Labeling], texts: TextSet) -> NDArray[np.float64]:
        if self.options.level == "token":  # type: ignore[attr-defined]
            return super().scores(labelings, texts)
        from harness.labelling.pooling import mean_residuals

        rows = [self._row[labeling.concept.id] for labeling in labelings]
        return np.asarray(self._fit.directions[rows] @ mean_residuals(self._bench, texts).astype(np.float64).T)


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("diff-mean", DiffMeanSteerer, options=DiffMeanSteerOptions, summary="add the concept's difference of means (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("diff-mean", DiffMeanDetector, options=DiffMeanDetectOptions, summary="tokens along the concept's difference of means (no SAE)")
