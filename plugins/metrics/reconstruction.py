"""How well a dictionary stands for what it reads: explained variance, L0, dead features, and what the model loses with it spliced in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.interventions import Intervention, Site
from harness.measuring.passes import CrossEntropy, cross_entropy, reading_pass
from harness.measuring.texts import sample_texts
from harness.options import Options
from harness.types import Measurement

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.measuring.passes import ReadingPass
    from harness.sae.subject import DictionarySubject


class ReconstructionOptions(Options):
    """Options of ``reconstruction``."""

    max_tokens: int = Field(65_536, ge=1)
    """Report texts are read up to this many tokens; features that fire on none of them count as dead, so a dead share says little without it."""
    spliced_tokens: int = Field(8_192, ge=0)
    """Of these, so many tokens at most are read three times for the cross-entropy (plain, spliced, ablated); 0 leaves it out."""
    ablation: Literal["mean", "zero"] = "mean"
    """What stands for losing the layer: its mean vector over the texts that were read, or zeros."""


class Reconstruction:
    """See the module. Implements :class:`harness.contracts.Metric`; trivial values are those of a dictionary that never fires, its bias the mean."""

    def __init__(self, options: ReconstructionOptions) -> None:
        self.options = options
        self.traits = MetricTraits(
            title="explained variance",
            unit="share",
            bounds=(None, 1.0),
            higher_is_better=True,
            trivial=0.0,
            needs=("model", "corpus"),
            item="text",
            items_shared=True,
            parts={
                "l0": NumberTraits("L0", "features per token", (0.0, None), None, 0.0),
                "dead": NumberTraits("dead share", "share", (0.0, 1.0), False, 1.0),
                "ce_recovered": NumberTraits(
                    "cross-entropy recovered", "share", (None, None), True, 0.0 if options.ablation == "mean" else None
                ),
            },
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        texts = sample_texts(bench, self.options.max_tokens, seed)
        found = reading_pass(bench, subject.dictionary, texts)
        recovered, details, why = self._recovered(bench, subject, seed, found, texts.digest)
        n_dead = int((found.fired == 0).sum())
        value = None if math.isnan(found.explained_variance) else found.explained_variance
        return Measurement(
            value=value,
            per_item={} if value is None else _by_text(texts, found),
            reason="" if value is not None else f"the {found.n_tokens} tokens that were read are one vector, which has no variance",
            parts={"l0": found.l0, "dead": n_dead / subject.dictionary.d_sae, "ce_recovered": recovered},
            part_reasons={"ce_recovered": why} if why else {},
            details={
                "texts": len(texts), "tokens": found.n_tokens, "fraction_of_variance_unexplained": None if value is None else 1 - value,
                "n_dead": n_dead, "n_features": subject.dictionary.d_sae, **details,
            },
        )  # fmt: skip

    def _recovered(
        self, bench: Bench, subject: DictionarySubject, seed: int, found: ReadingPass, read: str
    ) -> tuple[float | None, dict[str, Any], str]:
        """Return the share of the cross-entropy recovered, what it is made of, and why it is missing."""
        if not self.options.spliced_tokens:
            return None, {}, "left out: spliced_tokens is 0"
        import torch

        from harness.sae.splicing import Ablate, Splice

        texts = sample_texts(bench, min(self.options.spliced_tokens, self.options.max_tokens), seed)
        layer, ablation = subject.dictionary.layer, self.options.ablation
        mean = torch.from_numpy(found.mean).float()
        ablate = Ablate(Site(layer), mean if ablation == "mean" else torch.zeros_like(mean))
        plain = cross_entropy(bench, texts, key="plain")
        # the mean is that of the tokens that were read, so their digest names it
        ablated = cross_entropy(
            bench, texts, Intervention(edits=(ablate,)), key=["ablated", layer, ablation, read if ablation == "mean" else ""], what="ablated"
        )
        splice = Intervention(edits=(Splice(subject.dictionary),))
        spliced = cross_entropy(bench, texts, splice, key=["spliced", layer, subject.dictionary.digest], what="spliced")
        share, why = _share(plain, spliced, ablated, ablation)
        means = {"plain": plain.mean, "spliced": spliced.mean, "ablated": ablated.mean}
        details = {f"cross_entropy_{name}": mean if math.isfinite(mean) else None for name, mean in means.items()}
        return share, {**details, "ablation": ablation, "spliced_texts": len(texts), "predicted_tokens": plain.n_tokens}, why


def _by_text(texts: TextSet, found: ReadingPass) -> dict[str, float | None]:
    """Return the explained variance of each text about the mean of all tokens.

    The value is their mean, weighted by the texts' shares of the variance; these are the same for every dictionary.
    """
    names = range(len(texts)) if texts.places is None else texts.places.tolist()
    pairs = zip(names, found.errors.tolist(), found.variances.tolist(), strict=True)
    return {f"text {name}": 1 - error / variance for name, error, variance in pairs if variance > 0}


def _share(plain: CrossEntropy, spliced: CrossEntropy, ablated: CrossEntropy, ablation: str) -> tuple[float | None, str]:
    if not plain.n_tokens:
        return None, "no text that was read has three tokens, so nothing is predicted past the first token"
    if not all(math.isfinite(one.mean) for one in (plain, spliced, ablated)):
        return None, "the logits are not finite in this dtype; use --dtype float32"
    lost = ablated.mean - plain.mean
    if lost <= 0:
        return None, f"{ablation} ablation does not raise the cross-entropy ({plain.mean:.4f} to {ablated.mean:.4f} nats): nothing to recover"
    return (ablated.mean - spliced.mean) / lost, ""


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add(
        "reconstruction", Reconstruction, options=ReconstructionOptions, summary="explained variance, L0, dead share, cross-entropy recovered"
    )
