"""Random dictionaries to hold trained ones against: same width, same number of active features per token, nothing learnt.

A number of a dictionary says little alone: random directions, many at a time, reconstruct a good part of any vector. What a trained dictionary
is worth is what it has beyond its control (Korznikov et al. 2026, arXiv 2602.14111).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
    """

    mean: Tensor
    threshold: float
    scale: float
    l0: float


def random_rows(dictionary: Dictionary, seed: int) -> Tensor:
    """Return isotropic random unit vectors, ``[d_sae, d_in]`` float32, for a dictionary's shape and layer; drawn a block of rows at a time."""
    d_sae, d_in = dictionary.d_sae, dictionary.d_in
    return unit_rows(d_sae, d_in, seed, "random-dictionary", f"layer {dictionary.layer}, {d_sae} x {d_in}, ")


def fit_random(like: Dictionary, x: Tensor, seed: int) -> Fitted:
    """Match a random dictionary to ``like`` on vectors ``x``.

    The threshold is the one at which as many features are active per token, on average, as in ``like``. One factor for all activations is
    chosen by least squares: the active features of a random dictionary overlap, so their sum overshoots, and without it the control would be
    worse than its directions are.

    Args:
        like: the trained dictionary.
        x: ``[tokens, d_in]``, of texts that nothing is reported on.
        seed: of the random rows.

    Raises:
        DictionaryError: no feature of ``like`` is active on ``x``, so there is no L0 to match.
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
    control = random_dictionary(like, seed, Fitted(mean, 0.0, 1.0, meter.l0))
    threshold = exact_threshold(control, x, meter.l0)
    control.sae.threshold.data.fill_(threshold)
    return Fitted(mean, threshold, _least_squares(control, x), meter.l0)


def random_dictionary(like: Dictionary, seed: int, fitted: Fitted) -> Dictionary:
    """Return a dictionary of ``like``'s width and layer: random unit decoder rows, the encoder tied to them, one threshold for all features.

    f_j(x) = scale · d_j·(x − mean) where d_j·(x − mean) exceeds the threshold, else 0; x̂ = Σ_j f_j · d_j + mean.
    """
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(model_name=like.model_name, hook_name=like.hook_name)
    config: Any = JumpReLUSAEConfig(
        d_in=like.d_in, d_sae=like.d_sae, dtype="float32", device=str(like.device), apply_b_dec_to_input=True, metadata=metadata
    )
    with torch.random.fork_rng(devices=[]):  # SAELens draws weights that are replaced below; other random draws must not change by it
        sae: Any = JumpReLUSAE(config)
    rows = random_rows(like, seed).to(like.device)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_(fitted.scale * rows.T)
        sae.b_enc.zero_()
        sae.b_dec.copy_(fitted.mean)
        sae.threshold.fill_(fitted.scale * fitted.threshold)
    return Dictionary(sae, like.layer, f"random, seed {seed}, matched to {like.source}")


@dataclass(frozen=True)
class Control:
    """A kind of control: ``fit(like, vectors, seed)`` matches it to a dictionary, ``make(like, seed, fitted)`` makes it."""

    fit: Callable[[Dictionary, Tensor, int], Fitted]
    make: Callable[[Dictionary, int, Fitted], Dictionary]


CONTROLS: Mapping[str, Control] = {"random": Control(fit_random, random_dictionary)}
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
