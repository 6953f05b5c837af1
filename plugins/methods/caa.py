"""Contrastive activation addition (CAA; Rimsky et al. 2024): the difference of means at the last token of contrastive answers.

Where a training instruction is answered both with and without the concept, these answers are the pairs, and no others count; else all positives stand
against all negatives. (A mean of differences is the difference of means, so who is paired with whom changes nothing.) The paper adds the difference
itself; here it has unit norm, as all directions, and strengths are multiples of a stated scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import hookimpl
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


class _Caa(DirectionMethod):
    name = "caa"

    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        x = TokensOf(bench, site, texts)
        found = []
        for one in texts:
            (positive, of_positive), (negative, of_negative) = x.with_owners(one)
            in_pairs = _contrastive(bench, one)
            ends = _last(positive, of_positive, in_pairs[0]), _last(negative, of_negative, in_pairs[1])
            found.append((ends[0].double().mean(dim=0) - ends[1].double().mean(dim=0)).cpu().numpy())
        return oriented([one.concept.id for one in texts], np.stack(found), x, texts, self.name)


def _contrastive(bench: Bench, texts: ConceptTexts) -> tuple[list[int], list[int]]:
    """Return which positives and which negatives answer an instruction that the other side answers, too; all where none does."""
    asked = [[bench.corpus[int(place)].instruction for place in places] for places in (texts.positive, texts.negative)]
    both = (set(asked[0]) & set(asked[1])) - {""}
    if not both:
        return list(range(len(asked[0]))), list(range(len(asked[1])))
    return tuple([row for row, instruction in enumerate(side) if instruction in both] for side in asked)  # type: ignore[return-value]


def _last(x: torch.Tensor, owner: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Return the last vector of each of some texts that has one, ``[texts, d_model]``; of all texts where none of these has."""
    import torch

    ends = torch.nonzero(torch.diff(owner, append=owner.new_tensor([-1])))[:, 0]
    wanted = ends[torch.isin(owner[ends], owner.new_tensor(list(rows)))]
    return x[wanted if len(wanted) else ends]


class CaaSteerer(_Caa, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""


class CaaDetector(_Caa, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`."""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("caa", CaaSteerer, options=FitSteerOptions, summary="add the difference of contrastive answers' last tokens (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("caa", CaaDetector, options=FitDetectOptions, summary="tokens along the difference of contrastive answers' last tokens")
