"""Ensembles of dictionaries as one dictionary (Gadgil et al. 2025, arXiv 2505.16077): bagging and boosting.

bagging
    Members of one recipe with other seeds, x̂ = (1/J) Σ_i x̂_i: features and rows are concatenated, each row times 1/J.
boosting
    Each member is trained on what those before it left over, x̂ = Σ_i x̂_i.

Both are exact. A member's bias that its encoder subtracts, its decoder norms where it rescales by them, and its thresholds are folded in. Where
thresholds alone say which features are active, a bagged ensemble is a plain JumpReLU SAE, which any tool loads; all others are of
:mod:`harness.sae.ensemble_sae`, whose single features need the full encoding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.sae.dictionary import Dictionary

if TYPE_CHECKING:
    from harness.sae.training.activations import Harvest

_SLICE = 16_384


@dataclass(frozen=True)
class _Member:
    """A dictionary with everything folded in, float64: h = x @ encoder + bias; f = relu(h) above the threshold; x̂ = f @ rows + offset."""

    encoder: Tensor
    bias: Tensor
    threshold: Tensor
    k: int
    rows: Tensor
    offset: Tensor


def bagged(members: Sequence[Dictionary], source: str = "") -> Dictionary:
    """Return the mean of dictionaries as one, with all their features.

    Raises:
        DictionaryError: fewer than two, of different sites, or one that can't be a member.
    """
    parts = _checked(members)
    share = 1 / len(parts)
    return _join(members, parts, share, [share * part.offset for part in parts], boosted=False, source=source or _named("bagging", members))


def boosted(members: Sequence[Dictionary], source: str = "") -> Dictionary:
    """Return the sum of dictionaries as one, each of which reads what those before it leave over.

    Raises:
        DictionaryError: as :func:`bagged`.
    """
    parts, before = _checked(members), torch.zeros(members[0].d_in, dtype=torch.float64)
    folded = []
    for part in parts:
        # what the earlier members' biases take from the input
        folded.append(_Member(part.encoder, part.bias - before @ part.encoder, part.threshold, part.k, part.rows, part.offset))
        before = before + part.offset
    return _join(members, folded, 1.0, [part.offset for part in parts], boosted=True, source=source or _named("boosting", members))


def save_dictionary(dictionary: Dictionary, folder: Path) -> None:
    """Write a dictionary as a SAELens folder, which :func:`harness.sae.load` opens.

    Raises:
        DictionaryError: the folder holds something already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DictionaryError(f"{folder} holds something already", given=folder, hint="remove it, or choose another folder")
    dictionary.sae.save_model(folder)


def left_over(activations: Harvest, dictionary: Dictionary, folder: Path) -> Harvest:
    """Return what a dictionary's reconstruction leaves of collected vectors, as float16 in ``folder`` (made anew).

    Raises:
        DictionaryError: float16 cannot hold it.
        OSError: the disk is full or cannot be written.
    """
    from harness.sae.training.activations import DATA

    folder.mkdir(parents=True, exist_ok=True)
    unit, norms = 0.0, 0.0
    with (folder / DATA).open("wb") as file, torch.no_grad():
        for start in range(0, activations.n, _SLICE):
            x = activations.take(np.arange(start, min(start + _SLICE, activations.n)))
            error = torch.cat([part - dictionary.decode(dictionary.encode(part), part).cpu() for part in x.split(1024)])  # type: ignore[no-untyped-call]
            norm = float(error.norm(dim=-1).mean())
            unit = unit or 2.0 ** round(math.log2(max(norm, 1e-30) / math.sqrt(activations.d)))
            stored = (error / unit).half()
            if not bool(torch.isfinite(stored).all()):
                message = f"what {dictionary.source} leaves over is not finite, or some of it exceeds the rest 10,000-fold"
                raise DictionaryError(message, given=dictionary.source, hint="leave outliers out")
            file.write(stored.numpy().tobytes())
            norms += norm * len(error)
    return replace(activations, folder=folder, unit=unit, mean_norm=norms / activations.n)


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _checked(members: Sequence[Dictionary]) -> list[_Member]:
    if len(members) < 2:
        raise DictionaryError(f"an ensemble of {len(members)}", given=len(members), allowed="two members or more")
    first = members[0]
    for other in members[1:]:
        if (other.d_in, other.layer) != (first.d_in, first.layer):
            raise DictionaryError(
                f"{other.source} reads layer {other.layer} of width {other.d_in}, {first.source} layer {first.layer} of width {first.d_in}",
                given=other.source,
                hint="give dictionaries of one site",
            )
    return [_member(dictionary) for dictionary in members]


def _member(dictionary: Dictionary) -> _Member:
    sae, architecture = dictionary.sae, dictionary.architecture
    if architecture not in ("standard", "jumprelu", "topk") or str(sae.cfg.normalize_activations) != "none":
        why = f"is of architecture {architecture}" if architecture not in ("standard", "jumprelu", "topk") else "normalises each token"
        message = f"{dictionary.source} {why}, and cannot be a member of an ensemble"
        raise DictionaryError(message, given=architecture, allowed="standard, jumprelu, topk, without normalisation")
    encoder, bias, rows, offset = (getattr(sae, name).detach().cpu().double() for name in ("W_enc", "b_enc", "W_dec", "b_dec"))
    if bool(getattr(sae.cfg, "rescale_acts_by_decoder_norm", False)):
        norms = rows.norm(dim=-1)
        encoder, bias, rows = encoder * norms, bias * norms, rows / norms[:, None]
    if sae.cfg.apply_b_dec_to_input:
        bias = bias - offset @ encoder
    threshold = sae.threshold.detach().cpu().double() if architecture == "jumprelu" else torch.zeros_like(bias)
    return _Member(encoder, bias, threshold, int(sae.cfg.k) if architecture == "topk" else 0, rows, offset)


def _join(
    members: Sequence[Dictionary], parts: Sequence[_Member], share: float, offsets: Sequence[Tensor], *, boosted: bool, source: str
) -> Dictionary:
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    from harness.sae.ensemble_sae import ensemble_classes

    first, widths, ks = members[0], [len(part.rows) for part in parts], [part.k for part in parts]
    how = {"kind": "boosting" if boosted else "bagging", "members": [member.digest for member in members], "widths": widths}
    metadata = SAEMetadata(model_name=first.model_name, hook_name=first.hook_name, harness_ensemble=how)
    options: dict[str, Any] = {
        "d_in": first.d_in, "d_sae": sum(widths), "dtype": "float32", "device": "cpu", "apply_b_dec_to_input": False, "metadata": metadata,
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        if boosted or any(ks):
            sae_class, config_class = ensemble_classes()
            sae = sae_class(config_class(**options, widths=widths, ks=ks, boosted=boosted))
        else:
            sae = JumpReLUSAE(JumpReLUSAEConfig(**options))
    with torch.no_grad():
        sae.W_enc.copy_(torch.cat([part.encoder for part in parts], dim=1))
        sae.b_enc.copy_(torch.cat([part.bias for part in parts]))
        sae.threshold.copy_(torch.cat([part.threshold for part in parts]))
        sae.W_dec.copy_(share * torch.cat([part.rows for part in parts]))
        sae.b_dec.copy_(torch.stack(list(offsets)).sum(dim=0))
    return Dictionary(sae, first.layer, source).to(first.device)


def _named(kind: str, members: Sequence[Dictionary]) -> str:
    return f"{kind} of {' + '.join(member.source for member in members)}"
