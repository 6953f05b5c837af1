"""How often features fire: the share of dense ones, dead ones, and the quantiles between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.measuring.passes import reading_pass
from harness.measuring.texts import sample_texts
from harness.options import Options
from harness.types import Json, Measurement

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.subject import DictionarySubject

LISTED = 20
"""So many of the densest features at most are named in the details."""


class DensityOptions(Options):
    """Options of ``density``."""

    max_tokens: int = Field(65_536, ge=1)
    """Report texts are read up to this many tokens."""
    dense: float = Field(0.1, gt=0, lt=1)
    """A feature is dense when it fires on more than this share of the tokens."""
    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
    """Quantiles, over the features that fire at all, of their firing frequency; in the details."""


class Density:
    """See the module. Implements :class:`harness.contracts.Metric`."""

    def __init__(self, options: DensityOptions) -> None:
        self.options = options
        self.traits = MetricTraits(
            title="dense share",
            unit="share of features",
            bounds=(0.0, 1.0),
            higher_is_better=None,
            trivial=0.0,
            needs=("model", "corpus"),
            parts={
                "dead": NumberTraits("dead share", "share of features", (0.0, 1.0), False, 1.0),
                "median": NumberTraits("median frequency", "share of tokens", (0.0, 1.0), None, None),
            },
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        texts = sample_texts(bench, self.options.max_tokens, seed)
        found = reading_pass(bench, subject.dictionary, texts)
        frequency = found.fired / found.n_tokens
        live, dense = frequency[frequency > 0], np.flatnonzero(frequency > self.options.dense)
        densest = dense[np.argsort(-frequency[dense], kind="stable")][:LISTED]
        quantiles: dict[str, Json] = {f"{q:g}": float(np.quantile(live, q)) for q in self.options.quantiles} if len(live) else {}
        return Measurement(
            value=len(dense) / len(frequency),
            parts={"dead": 1 - len(live) / len(frequency), "median": float(np.median(live)) if len(live) else None},
            part_reasons={} if len(live) else {"median": "no feature fires on the texts that were read"},
            details={
                "texts": len(texts), "tokens": found.n_tokens, "n_features": len(frequency), "n_dense": len(dense),
                "n_dead": len(frequency) - len(live), "dense_above": self.options.dense, "quantiles": quantiles,
                "densest": [[int(feature), float(frequency[feature])] for feature in densest],
            },
        )  # fmt: skip


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("density", Density, options=DensityOptions, summary="share of dense features, dead features, quantiles of firing frequency")
