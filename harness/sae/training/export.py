"""From a trained SAELens SAE to a folder: scale folded in, weights rounded, threshold made exact, L0 checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.sae.corpus.counts import Meter
from harness.sae.dictionary import CHUNK_ELEMENTS, Dictionary
from harness.sae.loading import CFG_FILE, WEIGHTS_FILE, load

if TYPE_CHECKING:
    from harness.sae.training.config import TrainConfig


def export(sae: Any, folder: Path, scale: float, config: TrainConfig, calibration: Tensor, check: Tensor, tolerance: float) -> None:
    """Write a trained SAE as a SAELens inference folder.

    Args:
        sae: a SAELens training SAE, trained on inputs times ``scale``.
        folder: where to.
        scale: folded into the weights, so that the dictionary reads the residual stream as it is.
        config: the training's settings.
        calibration: held-out vectors ``[tokens, d_in]`` that thresholds are taken from: of BatchTopK and Matryoshka one for all features, of JumpReLU
            a factor on all that were learnt.
        check: other held-out vectors, for L0, explained variance and dead features.
        tolerance: how far the L0 on ``check`` of a dictionary with such thresholds may be from k, as a share of k; twice the standard error of two
            samples' difference comes on top, so that few held-out tokens refuse nothing by chance.

    Raises:
        DictionaryError: the L0 is further from k.
    """
    with torch.no_grad():
        sae.fold_activation_norm_scaling_factor(scale)
        sae.save_inference_model(folder)
    _rewrite(folder, config.save_dtype)
    facts: dict[str, float] = {}
    if config.matches_l0:
        # on the weights as they are on disk: rounding moves activations across the border, too
        dictionary = load(folder, device=sae.device)
        learnt = dictionary.sae.threshold.clone() if config.architecture == "jumprelu" else None
        threshold = exact_threshold(dictionary, calibration, config.k, learnt)
        _rewrite(folder, config.save_dtype, threshold, factor=learnt is not None)
        if learnt is not None:
            facts["threshold_factor"] = threshold
    dictionary = load(folder, device=sae.device)
    meter = Meter(dictionary)
    meter.count(check)
    if config.matches_l0 and tolerance < float("inf"):
        allowed = tolerance * config.k + 2 * _standard_error(dictionary, check, len(calibration))
        if not abs(meter.l0 - config.k) <= allowed:
            raise DictionaryError(
                f"L0 is {meter.l0:.1f} on {meter.n} held-out tokens",
                given=meter.l0,
                allowed=f"{config.k - allowed:.1f} to {config.k + allowed:.1f} (k = {config.k})",
                hint="train on more tokens",
            )
    facts |= {"l0": round(meter.l0, 4), "explained_variance": round(meter.explained_variance, 6), "held_out_tokens": meter.n}
    _note(folder, facts | {"dead_on_held_out": int((meter.fired == 0).sum())})


def _standard_error(dictionary: Dictionary, x: Tensor, others: int) -> float:
    """Return the standard error of the difference between the L0 on ``x`` and on so many other tokens of the same kind."""
    step = max(1, CHUNK_ELEMENTS // dictionary.d_sae)
    active = torch.cat([(dictionary.encode(part) != 0).sum(dim=-1).cpu() for part in x.split(step)])  # type: ignore[no-untyped-call]
    return float(active.double().std()) * (1 / len(x) + 1 / max(1, others)) ** 0.5 if len(x) > 1 else float("inf")


def exact_threshold(dictionary: Dictionary, x: Tensor, k: float, units: Tensor | None = None) -> float:
    """Return the threshold above which the tokens ``x`` have ``k`` activations on average.

    It lies halfway between the last activation that counts and the first that does not. Memory: k activations per token.
    With ``units`` ``[d_sae]``, each feature's activations are measured in its own: the result is a factor on them.
    """
    take = round(k * len(x))
    largest = torch.empty(0)
    threshold = dictionary.sae.threshold.data.clone()
    dictionary.sae.threshold.data.zero_()
    step = max(1, CHUNK_ELEMENTS // dictionary.d_sae)
    for start in range(0, len(x), step):
        f = dictionary.encode(x[start : start + step])
        f = (f if units is None else f / units.clamp_min(1e-12)).flatten()
        # what is below the smallest of those kept can never count
        f = f[f > (largest.min() if len(largest) > take else 0.0)].cpu()
        largest = torch.cat([largest, f])
        if len(largest) > take + 1:
            largest = largest.topk(take + 1, sorted=False).values
    dictionary.sae.threshold.data.copy_(threshold)
    border = np.sort(largest.numpy())[:2] if len(largest) > take else np.zeros(2)
    return float(border.mean(dtype=np.float64))


def _rewrite(folder: Path, dtype: str, threshold: float | None = None, factor: bool = False) -> None:
    """Rounds the weights on disk to ``dtype`` and notes it in the configuration; optionally with one threshold (or factor on it) for all features."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / WEIGHTS_FILE)
    if threshold is not None:
        tensors["threshold"] = threshold * (tensors["threshold"] if factor else torch.ones_like(tensors["threshold"]))
    save_file({name: tensor.to(getattr(torch, dtype)).contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS_FILE)
    cfg = json.loads((folder / CFG_FILE).read_text(encoding="utf-8"))
    cfg |= {"dtype": dtype, "device": "cpu"}
    (folder / CFG_FILE).write_text(json.dumps(cfg, indent=1) + "\n", encoding="utf-8")


def _note(folder: Path, facts: dict[str, float]) -> None:
    cfg = json.loads((folder / CFG_FILE).read_text(encoding="utf-8"))
    cfg["metadata"] |= facts
    (folder / CFG_FILE).write_text(json.dumps(cfg, indent=1) + "\n", encoding="utf-8")
