"""A linear probe (AxBench's Probe, Wu et al. 2025): token-level logistic regression with the text's label, its weight kept at unit norm.

Concepts are trained side by side, each on its own batches: what comes out for one does not depend on the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

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
from harness.types import Json

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench

_DIVERGED = 10.0
"""A loss so many times that of the start is no progress any more."""
_AT_ONCE = 1 << 27
"""Numbers of activations that are in memory together."""


class ProbeFit(FitOptions):
    """Options of the fit of ``probe``: AxBench's values for Gemma-2 2B; for 9B lr is .001 and weight_decay .0001."""

    epochs: int = Field(24, ge=1)
    """Passes over the training texts."""
    batch: int = Field(12, ge=1)
    """Texts of a concept in one step."""
    lr: float = Field(0.005, gt=0, le=100)
    """AdamW's learning rate at the first step."""
    decay: Literal["linear", "constant"] = "linear"
    """Whether the learning rate falls to 0 over the training (ours where nothing is published), or stays."""
    weight_decay: float = Field(0.001, ge=0)
    """AdamW's weight decay."""
    unit_norm: bool = True
    """Put the weight back to unit norm after each step; false leaves it free (the direction is of unit norm in any case)."""
    held_out: float = Field(0.125, ge=0, lt=1)
    """Share of the training texts that are left out for the curve of the loss; 0 trains on all, as AxBench does."""


class ProbeSteerOptions(ProbeFit, SteerOptions):
    """Options of steerer ``probe``."""


class ProbeDetectOptions(ProbeFit, DetectOptions):
    """Options of detector ``probe``."""


@dataclass(frozen=True, eq=False)
class _Trained:
    weights: torch.Tensor
    """``[concepts, d_model]``."""
    offsets: torch.Tensor
    """``[concepts]``."""
    curves: list[dict[str, list[float]]]
    stopped: list[int]
    """The epoch after which a concept's training diverged; 0 where it did not."""


@dataclass(frozen=True, eq=False)
class _Data:
    """The tokens of one concept: ``x`` is ``[tokens, d_model]``, ``has`` ``[tokens]`` whether the text has the concept, ``text`` whose each is."""

    x: torch.Tensor
    has: torch.Tensor
    text: torch.Tensor
    learned: np.ndarray[Any, np.dtype[np.int64]]
    held_out: np.ndarray[Any, np.dtype[np.int64]]


class _Probe(DirectionMethod):
    name = "probe"

    def fit(self, bench: Bench, site: Site, texts: Sequence[ConceptTexts]) -> Fit:
        x = TokensOf(bench, site, texts)
        weights, offsets = np.empty((len(texts), bench.model.d_model)), np.empty(len(texts))
        curves: dict[str, Json] = {}
        notes = []
        for places in bench.track(list(self._groups(bench, texts)), "training probes"):
            concepts = [texts[place].concept.id for place in places]
            found = self._train(bench, concepts, [self._data(bench, x, texts[place]) for place in places])
            weights[places], offsets[places] = found.weights.double().cpu().numpy(), found.offsets.double().cpu().numpy()
            curves.update(zip(concepts, found.curves, strict=True))
            notes += [
                f"the training of concept {name!r} diverged after epoch {epoch}; its last finite state is used"
                for name, epoch in zip(concepts, found.stopped, strict=True)
                if epoch
            ]
        made = oriented([one.concept.id for one in texts], weights, x, texts, self.name)
        lengths, signs = np.linalg.norm(weights, axis=1), np.sign((made.directions * weights).sum(axis=1))
        # the intercept belongs to the weight as it was trained: on the scale of a unit direction it is divided by the length, and turned with it
        return Fit(made.names, made.directions, signs * offsets / lengths, made.largest, tuple(notes), curves)

    def _groups(self, bench: Bench, texts: Sequence[ConceptTexts]) -> Iterator[list[int]]:
        """Concepts that are trained together: of as many texts, so that they take as many steps, and as many as fit into memory."""
        sizes = [len(one.places) for one in texts]
        limit = bench.token_limit * bench.model.d_model
        for size in sorted(set(sizes)):
            same = [place for place, own in enumerate(sizes) if own == size]
            at_once = max(1, _AT_ONCE // (size * limit))
            yield from (same[start : start + at_once] for start in range(0, len(same), at_once))

    def _data(self, bench: Bench, x: TokensOf, texts: ConceptTexts) -> _Data:
        import torch

        (positive, of_positive), (negative, of_negative) = x.with_owners(texts)
        has = torch.cat([positive.new_ones(len(positive)), negative.new_zeros(len(negative))])
        n = len(texts.positive)
        order = bench.rng("probe-held-out", texts.concept.id).permutation(len(texts.places))
        share = self.options.held_out  # type: ignore[attr-defined]
        out = min(math.ceil(share * len(order)), len(order) - 1)
        return _Data(torch.cat([positive, negative]), has, torch.cat([of_positive, of_negative + n]), np.sort(order[out:]), np.sort(order[:out]))

    def _train(self, bench: Bench, concepts: Sequence[str], data: Sequence[_Data]) -> _Trained:
        """Train concepts of one number of texts side by side."""
        import torch

        options: ProbeFit = self.options  # type: ignore[assignment]
        device, width = data[0].x.device, data[0].x.shape[1]
        start = np.stack([bench.rng("probe-start", name).standard_normal(width) for name in concepts])
        first = start / np.linalg.norm(start, axis=1, keepdims=True) if options.unit_norm else 0 * start
        weight = torch.from_numpy(first).float().to(device).requires_grad_()
        offset = torch.zeros(len(data), device=device, requires_grad=True)
        optimizer = torch.optim.AdamW([weight, offset], lr=options.lr, weight_decay=options.weight_decay)
        steps = math.ceil(len(data[0].learned) / options.batch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / (steps * options.epochs) if options.decay == "linear" else 1.0)
        curves: list[dict[str, list[float]]] = [{"step": [], "loss": [], "held_out": []} for _ in data]
        good, stopped = (weight.detach().clone(), offset.detach().clone()), [0] * len(data)
        with torch.no_grad():
            limit = _DIVERGED * _losses(weight, offset, data, [one.learned for one in data]).double().cpu().numpy()
        with torch.enable_grad():
            for epoch in range(options.epochs):
                orders = [bench.rng("probe-order", f"{name}\x1f{epoch}").permutation(one.learned) for name, one in zip(concepts, data, strict=True)]
                total = np.zeros(len(data))
                for step in range(steps):
                    part = slice(step * options.batch, (step + 1) * options.batch)
                    losses = _losses(weight, offset, data, [order[part] for order in orders])
                    optimizer.zero_grad()
                    losses.sum().backward()  # type: ignore[no-untyped-call]
                    if options.unit_norm:
                        _off_the_sphere(weight)
                    optimizer.step()
                    schedule.step()
                    if options.unit_norm:
                        with torch.no_grad():
                            weight /= weight.norm(dim=1, keepdim=True)
                    total += losses.detach().double().cpu().numpy() / steps
                sound = (weight.detach().isfinite().all(dim=1) & offset.detach().isfinite()).cpu().numpy() & (total <= limit)  # false for NaN, too
                held_out = self._held_out(weight, offset, data)
                for place, curve in enumerate(curves):
                    if sound[place] and not stopped[place]:
                        good[0][place], good[1][place] = weight.detach()[place], offset.detach()[place]
                        curve["step"].append((epoch + 1) * steps)
                        curve["loss"].append(float(total[place]))
                        curve["held_out"] += [] if held_out is None else [float(held_out[place])]
                    elif not stopped[place]:
                        stopped[place] = self._last_good(concepts[place], epoch)
        return _Trained(*good, curves, stopped)

    def _last_good(self, concept: str, epochs: int) -> int:
        """Return how many epochs went well; raises OptionError where none did, so that there is nothing to go back to."""
        if epochs:
            return epochs
        lr = self.options.lr  # type: ignore[attr-defined]
        message = f"probe: the training of concept {concept!r} diverged in its first epoch with lr {lr:g}"
        raise OptionError(message, given=lr, allowed="a smaller learning rate", hint="AxBench's is .005")

    def _held_out(self, weight: torch.Tensor, offset: torch.Tensor, data: Sequence[_Data]) -> np.ndarray[Any, Any] | None:
        import torch

        if not all(len(one.held_out) for one in data):
            return None
        with torch.no_grad():
            return np.asarray(_losses(weight, offset, data, [one.held_out for one in data]).cpu().numpy())


def _losses(weight: torch.Tensor, offset: torch.Tensor, data: Sequence[_Data], texts: Sequence[Any]) -> torch.Tensor:
    """Return each concept's mean logistic loss over the tokens of some of its texts, ``[concepts]``; 0 where they have none."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits, pad

    chosen = [torch.isin(one.text, torch.as_tensor(part, device=one.text.device)) for one, part in zip(data, texts, strict=True)]
    most = max(1, max(int(mask.sum()) for mask in chosen))
    x = torch.stack([pad(one.x[mask], (0, 0, 0, most - int(mask.sum()))) for one, mask in zip(data, chosen, strict=True)])
    has = torch.stack([pad(one.has[mask], (0, most - int(mask.sum()))) for one, mask in zip(data, chosen, strict=True)])
    real = torch.stack([pad(torch.ones_like(one.has[mask]), (0, most - int(mask.sum()))) for one, mask in zip(data, chosen, strict=True)])
    logits = torch.einsum("ktd,kd->kt", x, weight) + offset[:, None]
    losses = binary_cross_entropy_with_logits(logits, has, weight=real, reduction="none")
    return losses.sum(dim=1) / real.sum(dim=1).clamp_min(1)


def _off_the_sphere(weight: torch.Tensor) -> None:
    """Take out of the gradient what would only change the weights' lengths, which are put back anyway."""
    assert weight.grad is not None
    along = (weight.grad * weight.detach()).sum(dim=1, keepdim=True)
    weight.grad -= along * weight.detach()


class ProbeSteerer(_Probe, DirectionSteerer):
    """See the module. Implements :class:`harness.contracts.Steerer`."""


class ProbeDetector(_Probe, DirectionDetector):
    """See the module. Implements :class:`harness.contracts.Detector`; a score is a log-odds, divided by the weight's length."""


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("probe", ProbeSteerer, options=ProbeSteerOptions, summary="add the weight of a linear probe on the concept's tokens (no SAE)")


@hookimpl
def harness_register_detectors(registry: Any) -> None:
    registry.add("probe", ProbeDetector, options=ProbeDetectOptions, summary="a linear probe on tokens, their largest log-odds")
