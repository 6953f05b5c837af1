"""How many of the true features a dictionary has found, on synthetic activations whose features are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.measuring.matching import matched, nearest, unit_rows
from harness.options import Options
from harness.types import Measurement

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.sae.subject import DictionarySubject

GROUPS = 10
"""True features are shown in so many groups of equal size, by how often they fire."""


class RecoveryOptions(Options):
    """Options of ``recovery``."""

    cosine: float = Field(0.8, gt=0, lt=1)
    """A true feature is recovered when its largest cosine with a decoder row exceeds this (.8 in Korznikov et al. 2026)."""
    samples: int = Field(65_536, ge=2)
    """Explained variance, L0 and dead features are taken over so many samples that no dictionary was trained on."""


class Recovery:
    """See the module. Implements :class:`harness.contracts.Metric`; trivial values are those of a dictionary that never fires, its bias the mean."""

    def __init__(self, options: RecoveryOptions) -> None:
        self.options = options
        share = (0.0, 1.0)
        self.traits = MetricTraits(
            title="recovered",
            unit="share of true features",
            bounds=share,
            higher_is_better=True,
            trivial=0.0,
            needs=("truth",),
            parts={
                "max_cosine": NumberTraits("mean max cosine", "cosine", (-1.0, 1.0), True),
                "mcc": NumberTraits("MCC", "cosine", share, True),
                "ev": NumberTraits("explained variance", "share", (None, 1.0), True, 0.0),
                "l0": NumberTraits("L0", "features per sample", (0.0, None), None, 0.0),
                "dead": NumberTraits("dead share", "share", share, False, 1.0),
            },
            item="firing decile",
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        from harness.sae.corpus.counts import Meter
        from harness.sae.synthetic.source import Samples

        source, truth = bench.synthetic, subject.truth
        assert source is not None  # the core asks for no measurement without it
        assert truth is not None
        truth, rows = truth.cpu(), unit_rows(subject.dictionary)
        cosines = nearest(truth, rows)
        recovered = cosines > self.options.cosine
        meter = Meter(subject.dictionary)
        for _, x in bench.activations(texts=Samples(f"fresh {seed}", 0, self.options.samples)):
            meter.count(x)
        n_dead = int((meter.fired == 0).sum())
        ev: float | None = meter.explained_variance
        why = ""
        if not np.isfinite(meter.explained_variance):
            ev, why = None, f"the {meter.n} samples are one vector, which has no variance"
        return Measurement(
            value=float(recovered.mean()),
            per_item=_by_frequency(recovered, source.probabilities.numpy()),
            parts={
                "max_cosine": float(cosines.mean()), "mcc": float(matched(truth, rows, absolute=True).mean()), "ev": ev, "l0": meter.l0,
                "dead": n_dead / subject.dictionary.d_sae,
            },
            part_reasons={"ev": why} if why else {},
            details={
                "recovered": int(recovered.sum()), "true_features": len(truth), "samples": meter.n, "above": self.options.cosine,
                "true_l0": float(source.probabilities.sum()), "n_dead": n_dead,
                "max_cosine_quantiles": {f"{q:g}": float(np.quantile(cosines, q)) for q in (0.1, 0.5, 0.9)},
            },
        )  # fmt: skip


def _by_frequency(recovered: np.ndarray[Any, Any], probabilities: np.ndarray[Any, Any]) -> dict[str, float | None]:
    """Return the share recovered of each tenth of the features, the rarest first; nothing where all fire alike."""
    if probabilities.min() == probabilities.max() or len(probabilities) < GROUPS:
        return {}
    parts = np.array_split(np.argsort(probabilities, kind="stable"), GROUPS)
    return {
        f"{number} (p {probabilities[part].min():.1e} to {probabilities[part].max():.1e})": float(recovered[part].mean())
        for number, part in enumerate(parts, 1)
    }


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("recovery", Recovery, options=RecoveryOptions, summary="share of true features found, on synthetic activations")
