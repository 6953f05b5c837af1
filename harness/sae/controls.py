"""Dictionaries to hold trained ones against, made without training: as many active features per token, and nothing or little learnt.

A number of a dictionary says little alone: random directions, many at a time, reconstruct a good part of any vector. What a trained dictionary
is worth is what it has beyond its control (Korznikov et al. 2026, arXiv 2602.14111).

All have one form: the encoder is tied to the decoder's unit rows, the bias is the mean of the vectors that they are matched on, one threshold holds
for all features, and one factor for all activations. They differ in their rows:

random
    Isotropic random directions, as many as the dictionary has features.
untrained
    The directions that training with the same recipe and seed would begin from: SAELens' initialisation of the architecture.
pca
    The principal components of the vectors and their opposites, the strongest first.
neurons
    The residual stream's own basis and its opposites, the dimensions of largest variance first.

The last two have at most 2 · d_in features: where the dictionary is wider, they are narrower than it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import torch
from torch import Tensor

from harness.errors import DictionaryError, UnknownNameError
from harness.sae.corpus.counts import Meter, slice_tokens
from harness.sae.dictionary import Dictionary
from harness.sae.drawn import unit_rows
from harness.sae.training.export import exact_threshold

CONTROL_TOKENS = 8192
"""Tokens that a control is matched on: enough for L0 to about a percent."""


@dataclass(frozen=True)
class Fitted:
    """What a control takes from the vectors that it was matched on; with the seed it makes the control anew.

    Attributes:
        mean: ``[d_in]`` float32, the vectors' mean: the decoder's bias.
        threshold: above which a feature is active.
        scale: factor on all activations.
        l0: active features per token that the threshold was chosen for.
        rows: ``[features, d_in]`` float32 unit vectors, of a control whose rows come from the vectors; None where the seed gives them.
    """

    mean: Tensor
    threshold: float
    scale: float
    l0: float
    rows: Tensor | None = None


def random_rows(dictionary: Dictionary, seed: int) -> Tensor:
    """Return isotropic random unit vectors, ``[d_sae, d_in]`` float32, for a dictionary's shape and layer; drawn a block of rows at a time."""
    d_sae, d_in = dictionary.d_sae, dictionary.d_in
    return unit_rows(d_sae, d_in, seed, "random-dictionary", f"layer {dictionary.layer}, {d_sae} x {d_in}, ")


def untrained_rows(dictionary: Dictionary, seed: int) -> Tensor:
    """Return the unit decoder rows that a dictionary's training begins from with this seed, ``[d_sae, d_in]`` float32.

    They are SAELens' initialisation of the dictionary's recipe where it states one, else of its architecture and width.
    """
    from harness.sae.training.config import Architecture, TrainConfig
    from harness.sae.training.fit import config_of, initial_rows

    config = config_of(dictionary.cfg["metadata"].get("harness_training") or {})
    if config is None:
        architecture: Any = dictionary.architecture if dictionary.architecture in get_args(Architecture) else "batchtopk"
        config = TrainConfig(architecture=architecture, width=dictionary.d_sae, k=min(32, dictionary.d_sae - 1))
    return initial_rows(dictionary.d_in, replace(config, width=dictionary.d_sae, control="none"), seed)


def principal_rows(dictionary: Dictionary, x: Tensor) -> Tensor:
    """Return the principal components of ``x`` and their opposites, the strongest first: ``[at most d_sae, d_in]`` float32."""
    centred = (x - x.mean(dim=0)).double()
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    return _both_ways(vectors.T.flip(0).float(), dictionary.d_sae)


def neuron_rows(dictionary: Dictionary, x: Tensor) -> Tensor:
    """Return the residual stream's basis and its opposites, dimensions of the largest variance first: ``[at most d_sae, d_in]`` float32."""
    order = x.double().var(dim=0).argsort(descending=True, stable=True)
    return _both_ways(torch.eye(dictionary.d_in)[order.cpu()], dictionary.d_sae)


def _both_ways(rows: Tensor, most: int) -> Tensor:
    """Return each row followed by its opposite, ``most`` in all at most."""
    return torch.stack([rows, -rows], dim=1).reshape(-1, rows.shape[1])[:most].contiguous().cpu()


@dataclass(frozen=True)
class Control:
    """A kind of control, by where its rows come from.

    Attributes:
        drawn: makes the rows of a dictionary and a seed; None where nothing is drawn.
        found: makes the rows of a dictionary and the vectors that it is matched on.
    """

    drawn: Callable[[Dictionary, int], Tensor] | None = None
    found: Callable[[Dictionary, Tensor], Tensor] | None = None

    def fit(self, like: Dictionary, x: Tensor, seed: int) -> Fitted:
        """Match a control to ``like`` on vectors ``x``.

        The threshold is the one at which as many features are active per token, on average, as in ``like``. One factor for all activations is
        chosen by least squares: the active features of a random dictionary overlap, so their sum overshoots, and without it the control would be
        worse than its directions are.

        Args:
            like: the trained dictionary.
            x: ``[tokens, d_in]``, of texts that nothing is reported on.
            seed: of the rows.

        Raises:
            DictionaryError: no feature of ``like`` is active on ``x``, so there is no L0 to match, or the control cannot have so many.
        """
        meter = Meter(like)
        meter.count(x)
        if not meter.n or not meter.l0 > 0:
            raise DictionaryError(
                f"no feature of {like.source} is active on the {len(x)} tokens that its control is to be matched on",
                given=len(x),
                hint="give more or other texts",
            )
        mean = x.mean(dim=0, dtype=torch.float32).cpu()
        rows = None if self.found is None else self.found(like, x)
        control = self.make(like, seed, Fitted(mean, 0.0, 1.0, meter.l0, rows))
        threshold = exact_threshold(control, x, meter.l0)
        control.sae.threshold.data.fill_(threshold)
        if threshold == 0:  # every feature on its positive side may be too few
            own = Meter(control)
            own.count(x)
            if own.l0 < 0.9 * meter.l0:
                message = f"{like.source} has {meter.l0:.1f} active features a token, and {control.source.split(',')[0]} has at most {own.l0:.1f}"
                raise DictionaryError(message, given=meter.l0, allowed=f"at most {own.l0:.1f}", hint="leave this control out")
        return Fitted(mean, threshold, _least_squares(control, x), meter.l0, rows)

    def make(self, like: Dictionary, seed: int, fitted: Fitted) -> Dictionary:
        """Return a control of ``like``'s layer: unit decoder rows, the encoder tied to them, one threshold for all features.

        f_j(x) = scale · d_j·(x − mean) where d_j·(x − mean) exceeds the threshold, else 0; x̂ = Σ_j f_j · d_j + mean.
        """
        from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
        from sae_lens.saes.sae import SAEMetadata

        rows = fitted.rows
        if rows is None:
            assert self.drawn is not None
            rows = self.drawn(like, seed)
        rows = rows.to(like.device)
        metadata = SAEMetadata(model_name=like.model_name, hook_name=like.hook_name)
        config: Any = JumpReLUSAEConfig(
            d_in=like.d_in, d_sae=len(rows), dtype="float32", device=str(like.device), apply_b_dec_to_input=True, metadata=metadata
        )
        with torch.random.fork_rng(devices=[]):  # SAELens draws weights that are replaced below; other random draws must not change by it
            sae: Any = JumpReLUSAE(config)
        with torch.no_grad():
            sae.W_dec.copy_(rows)
            sae.W_enc.copy_(fitted.scale * rows.T)
            sae.b_enc.zero_()
            sae.b_dec.copy_(fitted.mean)
            sae.threshold.fill_(fitted.scale * fitted.threshold)
        name = next(name for name, kind in CONTROLS.items() if kind == self)
        narrower = f", {len(rows)} of {like.d_sae} features" if len(rows) < like.d_sae else ""
        drawn = f", seed {seed}" if self.drawn is not None else ""
        return Dictionary(sae, like.layer, f"{name}{drawn}{narrower}, matched to {like.source}")


CONTROLS: Mapping[str, Control] = {
    "random": Control(drawn=random_rows),
    "untrained": Control(drawn=untrained_rows),
    "pca": Control(found=principal_rows),
    "neurons": Control(found=neuron_rows),
}
"""Controls that need no training, by the name of their arm."""


def control(name: str) -> Control:
    """Return a control by its name. Raises UnknownNameError."""
    if name not in CONTROLS:
        raise UnknownNameError("control of dictionaries", name, CONTROLS)
    return CONTROLS[name]


def _least_squares(dictionary: Dictionary, x: Tensor) -> float:
    """Return the factor on Σ_j f_j · d_j that brings the reconstruction nearest to ``x``; 1 where nothing is active."""
    along = length = 0.0
    for part in x.split(slice_tokens(dictionary)):  # type: ignore[no-untyped-call]
        part = part.to(dictionary.device, dictionary.dtype)
        sums = dictionary.decode(dictionary.encode(part)) - dictionary.sae.b_dec
        along += float((sums * (part - dictionary.sae.b_dec)).sum(dtype=torch.float64))
        length += float(sums.square().sum(dtype=torch.float64))
    return along / length if length > 0 else 1.0
