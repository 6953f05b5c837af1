"""Δ token confidence: how far a latent, amplified on a neutral prompt, changes how sure the model is of its next token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.errors import DictionaryError
from harness.options import Options
from harness.types import Measurement, rng

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.subject import DictionarySubject

QUANTILE = 0.95


class TokenConfidenceOptions(Options):
    """Options of ``token-confidence``."""

    latents: int = Field(200, ge=2)
    """So many latents are drawn, from all that the dictionary has."""
    prompt: str = "From my experience,"
    """The neutral prompt."""
    alpha: float = Field(10.0, gt=0)
    """What the unit of a code is multiplied by."""
    top: int = Field(1, ge=1)
    """The number of most probable tokens whose log probabilities are averaged."""
    others: Literal["zero", "keep"] = "zero"
    """All other latents at zero, the reconstruction error dropped; or ``keep``: as they are."""
    unit: Literal["largest", "own", "one"] = "largest"
    """What alpha multiplies: the largest activation of any latent at the token, the latent's own, or one."""


class TokenConfidence:
    """See the module. Implements :class:`harness.contracts.Metric`."""

    def __init__(self, options: TokenConfidenceOptions) -> None:
        self.options = options
        self.traits = MetricTraits(
            title="mean |Δ token confidence|",
            unit="nats",
            bounds=(0.0, None),
            higher_is_better=None,
            trivial=0.0,
            needs=("model",),
            parts={
                "random_direction": NumberTraits("the same of random directions", "nats", (0.0, None), None, None),
                "stronger": NumberTraits("stronger than 95 % of random directions", "share of latents", (0.0, 1.0), None, 1 - QUANTILE),
                "surer": NumberTraits("makes the model surer", "share of latents", (0.0, 1.0), None, None),
            },
            item="latent",
            items_shared=False,
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        import torch

        from harness.sae.causal import confidence_changes

        dictionary, given = subject.dictionary, self.options
        drawn = np.sort(rng(seed, "confidence-latents", str(dictionary.d_sae)).permutation(dictionary.d_sae)[: given.latents])
        directions = torch.from_numpy(rng(seed, "confidence-directions").standard_normal((len(drawn), dictionary.d_in))).float()

        def changes(along: torch.Tensor | None) -> np.ndarray[Any, np.dtype[np.float64]]:
            return confidence_changes(
                bench.model, dictionary, drawn, prompt=given.prompt, alpha=given.alpha, k=given.top, others=given.others, unit=given.unit,
                directions=along,
            )  # fmt: skip

        try:
            found, null = changes(None), changes(directions)
        except DictionaryError as error:  # no latent is active at the prompt's last token: there is nothing to amplify by
            return self._missing(error.message)
        usable = np.isfinite(found)
        if not usable.any() or not np.isfinite(null).any():
            return self._missing("the logits of every latent that was amplified are not finite in this dtype; use --dtype float32")
        size, size_null = np.abs(found[usable]), np.abs(null[np.isfinite(null)])
        return Measurement(
            value=float(size.mean()),
            per_item={str(latent): abs(float(change)) if np.isfinite(change) else None for latent, change in zip(drawn.tolist(), found, strict=True)},
            parts={
                "random_direction": float(size_null.mean()),
                "stronger": float((size > np.quantile(size_null, QUANTILE)).mean()),
                "surer": float((found[usable] < 0).mean()),
            },
            details={
                "latents": len(drawn), "n_not_finite": int((~usable).sum()), "median": float(np.median(size)),
                "random_direction_median": float(np.median(size_null)), "prompt": given.prompt, "alpha": given.alpha,
                "others": given.others, "unit": given.unit,
            },
        )  # fmt: skip

    def _missing(self, why: str) -> Measurement:
        return Measurement(None, reason=why, parts=dict.fromkeys(self.traits.parts), part_reasons=dict.fromkeys(self.traits.parts, why))


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add(
        "token-confidence", TokenConfidence, options=TokenConfidenceOptions,
        summary="how far amplified latents change how sure the model is of its next token",
    )  # fmt: skip
