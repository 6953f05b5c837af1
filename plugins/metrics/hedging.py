"""Does a dictionary mix features for want of room? Give it some more latents, train on, and see whether old decoder rows moved towards them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.options import Options
from harness.types import Measurement, rng

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.sae.subject import DictionarySubject
    from harness.sae.training.config import TrainConfig

VERSION = 1
SPANS = 50
"""Random spans whose mean projection is the base."""


class HedgingOptions(Options):
    """Options of ``hedging``."""

    added: int = Field(16, ge=1)
    """Latents that are added; fewer than the vectors have dimensions."""
    epochs: float = Field(0.5, gt=0)
    """Passes over the training vectors, with the recipe's other settings, that the wider dictionary is trained for."""


class Hedging:
    """See the module. Implements :class:`harness.contracts.Metric`."""

    def __init__(self, options: HedgingOptions) -> None:
        self.options = options
        self.traits = MetricTraits(
            title="hedging rate",
            unit="share",
            bounds=(0.0, 1.0),
            higher_is_better=False,
            trivial=0.0,
            needs=("recipe",),
            parts={
                "projection": NumberTraits("change along new rows", "row norms", (0.0, None), False, 0.0),
                "base": NumberTraits("change along random spans", "row norms", (0.0, None), None, 0.0),
                "change": NumberTraits("change", "row norms", (0.0, None), None, 0.0),
            },
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        from harness.sae.training.fit import config_of

        config, own = config_of(subject.recipe or {}), subject.dictionary
        if config is None or subject.vectors is None:
            return _none("it was not trained by the task, so it can't be trained on")
        if self.options.added >= own.d_in:
            return _none(f"{self.options.added} added latents span all {own.d_in} dimensions; give fewer (added)")
        wider = self._trained_on(bench, subject, config, seed)
        before, after = _rows(own), _rows(wider)
        return _hedged(before, after[: own.d_sae], after[own.d_sae :], seed)

    def _trained_on(self, bench: Bench, subject: DictionarySubject, config: TrainConfig, seed: int) -> Dictionary:
        """Return the dictionary with further latents, trained on; kept."""
        import torch

        import harness.sae
        from harness.sae.training.fit import take_over
        from harness.sae.training.train import train_on

        own, vectors = subject.dictionary, subject.vectors
        assert vectors is not None
        wide = replace(config, width=own.d_sae + self.options.added, epochs=self.options.epochs)

        def begin(sae: Any, scale: float) -> None:
            if seed:  # the recipe's own seed draws what is added; another one other latents
                _draw_again(sae, own.d_sae, seed)
            take_over(own, sae, scale)

        def compute(folder: Path) -> None:
            metadata = {"model_name": own.model_name, "hook_name": own.hook_name}
            device = torch.device("cuda" if own.device.type == "cuda" else "cpu")
            train_on(vectors(), wide, folder / "wider", metadata, device, lambda _: None, begin=begin, tolerance=float("inf"))

        key = {"kind": "hedging", "version": VERSION, "of": own.digest, "added": self.options.added, "epochs": self.options.epochs, "seed": seed}
        return harness.sae.load(bench.artifact(key, compute) / "wider", device=str(own.device))


def _draw_again(sae: Any, kept: int, seed: int) -> None:
    """Give the latents after the first ``kept`` other random directions of the same lengths."""
    import torch

    with torch.no_grad():
        shape = sae.W_dec[kept:].shape
        rows = torch.from_numpy(rng(seed, "hedging-latents").standard_normal(tuple(shape))).to(sae.W_dec)
        rows = rows / rows.norm(dim=-1, keepdim=True)
        sae.W_dec[kept:] = rows * sae.W_dec[kept:].norm(dim=-1, keepdim=True)
        sae.W_enc[:, kept:] = rows.T * sae.W_enc[:, kept:].norm(dim=0, keepdim=True)


def _rows(dictionary: Dictionary) -> Tensor:
    rows: Tensor = dictionary.sae.W_dec.detach().double().cpu()
    return rows


def _hedged(before: Tensor, after: Tensor, new: Tensor, seed: int) -> Measurement:
    """Return max(0, (p − b) / (1 − b)): p is the old rows' mean change within the span of the new ones, in row norms; b within random spans."""
    import torch

    norms = before.norm(dim=-1).clamp(min=1e-12)
    change = after - before

    def along(span: torch.Tensor) -> float:
        basis = torch.linalg.qr(span.T).Q
        return float(((change @ basis).norm(dim=-1) / norms).mean())

    live = new[new.norm(dim=-1) > 1e-9]
    p = along(live) if len(live) else 0.0
    random = rng(seed, "hedging-spans")
    spans = [torch.from_numpy(random.standard_normal((max(len(live), 1), new.shape[1]))) for _ in range(SPANS)]
    b = float(np.mean([along(span) for span in spans]))
    size = float((change.norm(dim=-1) / norms).mean())
    parts: dict[str, float | None] = {"projection": p, "base": b, "change": size}
    if b >= 1:
        return Measurement(None, reason="old rows changed by more than their length along random spans: the training went elsewhere", parts=parts)
    details = {"features": len(before), "added": len(new), "spans": SPANS, "share_of_change": p / size if size else None}
    return Measurement(max(0.0, min(1.0, (p - b) / (1 - b))), parts=parts, details=details)


def _none(why: str) -> Measurement:
    names = ("projection", "base", "change")
    return Measurement(None, reason=why, parts=dict.fromkeys(names), part_reasons=dict.fromkeys(names, why))


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("hedging", Hedging, options=HedgingOptions, summary="whether old features move towards latents that are added, when trained on")
