"""BatchTopK training on a CPU in a fraction of the time: SAELens' BatchTopK SAE with the same values and gradients, computed sparsely.

Of a batch's ``tokens × d_sae`` activations BatchTopK (Bussmann et al. 2024, arXiv 2412.06410) keeps ``k`` per token. SAELens sorts, scatters,
decodes and differentiates all of them. Here the encoder's product is the only dense one: the kept activations are found by a threshold that
is guessed from the batch before and then made exact, and decoding and all gradients touch the kept ones alone. SAELens' class keeps the
weights, its ``training_forward_pass``, losses, folding and export.

On a GPU the dense products are cheap and SAELens' own class is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

GUESS = 0.8
"""Candidates are the activations above this share of the last batch's threshold; too few, and all positive ones are."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The activations that BatchTopK kept, token by token.

    Attributes:
        values: ``[kept]`` float32, positive.
        tokens: ``[kept]`` int64, ascending.
        features: ``[kept]`` int64.
        starts: ``[n_tokens + 1]`` int64: token t's are ``starts[t]:starts[t + 1]``.
        by_feature: ``[kept]`` int64, the order that sorts them by feature.
        feature_starts: ``[d_sae + 1]`` int64, as ``starts``, after sorting by feature.
    """

    values: Tensor
    tokens: Tensor
    features: Tensor
    starts: Tensor
    by_feature: Tensor
    feature_starts: Tensor


def select(hidden: Tensor, take: int, guess: float) -> Tensor:
    """Return flat indices, ascending, of the ``take`` largest positive entries of ``hidden`` (all positive ones where there are fewer).

    The result does not depend on ``guess``, which is a value believed to be near the smallest entry taken, or 0; only the speed does.
    Among equal values at the border the first are taken.
    """
    flat = hidden.reshape(-1)
    candidates = (flat > max(GUESS * guess, 0.0)).nonzero().squeeze(1)
    if len(candidates) < take and guess > 0:
        candidates = (flat > 0).nonzero().squeeze(1)
    if len(candidates) <= take:
        return candidates
    values = flat[candidates].float()
    border = values.kthvalue(len(values) - take + 1).values
    keep = values > border
    ties = (values == border).nonzero().squeeze(1)
    keep[ties[: take - int(keep.sum())]] = True
    return candidates[keep]


class _Encode(torch.autograd.Function):
    """Values of the selected entries of ``x @ weight + bias``; gradients for weight and bias, by the selected entries."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, take: int, guess: float, dtype: torch.dtype) -> tuple[Tensor, ...]:
        hidden = torch.addmm(bias.to(dtype), x.to(dtype), weight.to(dtype))
        flat = select(hidden, take, guess)
        d_sae = hidden.shape[1]
        tokens = torch.div(flat, d_sae, rounding_mode="floor")
        features = flat - tokens * d_sae
        by_feature = torch.argsort(features, stable=True)
        starts = torch.searchsorted(tokens, torch.arange(len(x) + 1))
        feature_starts = torch.searchsorted(features[by_feature], torch.arange(d_sae + 1))
        ctx.save_for_backward(x, tokens, features, by_feature, feature_starts)
        others = (tokens, features, starts, by_feature, feature_starts)
        ctx.mark_non_differentiable(*others)
        return (hidden.reshape(-1)[flat].float(), *others)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, tokens, features, by_feature, feature_starts = ctx.saved_tensors
        of_values = gradients[0]
        of_weight = _sum_by_feature(x, tokens, of_values, by_feature, feature_starts).T if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros(len(feature_starts) - 1).index_add_(0, features, of_values)
        return None, of_weight, of_bias, None, None, None


class _Decode(torch.autograd.Function):
    """Σ_j f_j · rows[j] for every token."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, rows: Tensor, tokens: Tensor, features: Tensor, starts: Tensor, by_feature: Tensor, feature_starts: Tensor
    ) -> Tensor:
        ctx.save_for_backward(values, rows, tokens, features, starts, by_feature, feature_starts)
        return embedding_bag(features, rows, offsets=starts, mode="sum", per_sample_weights=values, include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, rows, tokens, features, starts, by_feature, feature_starts = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        pattern = torch.sparse_csr_tensor(starts, features, torch.zeros_like(values), (len(gradient), len(rows)), check_invariants=False)
        of_values = torch.sparse.sampled_addmm(pattern, gradient, rows.T, beta=0.0).values()
        of_rows = _sum_by_feature(gradient, tokens, values, by_feature, feature_starts) if ctx.needs_input_grad[1] else None
        return of_values, of_rows, None, None, None, None, None


def _sum_by_feature(x: Tensor, tokens: Tensor, weights: Tensor, by_feature: Tensor, feature_starts: Tensor) -> Tensor:
    """Return σ over a feature's kept entries of weight · x[token], ``[d_sae, d_in]``."""
    return embedding_bag(
        tokens[by_feature], x, offsets=feature_starts, mode="sum", per_sample_weights=weights[by_feature], include_last_offset=True
    )


def encode(x: Tensor, weight: Tensor, bias: Tensor, take: int, guess: float, dtype: torch.dtype) -> Kept:
    """Return BatchTopK of ``x @ weight + bias``, differentiable in weight and bias.

    Args:
        x: ``[tokens, d_in]`` float32.
        weight: ``[d_in, d_sae]``.
        bias: ``[d_sae]``.
        take: how many activations to keep.
        guess: see :func:`select`.
        dtype: of the product.
    """
    kept: tuple[Tensor, ...] = _Encode.apply(x, weight, bias, take, guess, dtype)  # type: ignore[no-untyped-call]
    return Kept(*kept)


def _decode_top(x: Tensor, weight: Tensor, bias: Tensor, rows: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """Return TopK of some features alone, densely: encoded, the ``k`` largest per token kept where positive, decoded."""
    hidden = ((x.to(dtype) @ weight.to(dtype)).float() + bias).relu()
    top = hidden.topk(min(k, hidden.shape[1]), sorted=False)
    acts = torch.zeros_like(hidden).scatter(-1, top.indices, top.values)
    return (acts.to(dtype) @ rows.to(dtype)).float()


def decode(kept: Kept, rows: Tensor) -> Tensor:
    """Return σ_j f_j · rows[j], ``[tokens, d_in]``, differentiable in the values and the rows."""
    index = (kept.tokens, kept.features, kept.starts, kept.by_feature, kept.feature_starts)
    decoded: Tensor = _Decode.apply(kept.values, rows, *index)  # type: ignore[no-untyped-call]
    return decoded


@cache
def reviving_class(base: Any) -> Any:
    """Return a training SAE of SAELens' TopK family whose auxiliary loss (Gao et al. 2024, arXiv 2406.04093, A.2) decodes positive activations only.

    SAELens decodes the dead features' pre-activations as they are. Where few features are dead all of them enter, strongly negative ones
    too: on SmolLM2, at a learning rate of 4e-3, that loss rose to two hundred times the reconstruction's just before the latter broke out.
    """

    class RevivingTrainingSAE(base):  # type: ignore[misc]
        def calculate_topk_aux_loss(self, sae_in: Tensor, sae_out: Tensor, hidden_pre: Tensor, dead_neuron_mask: Tensor | None) -> Tensor:
            loss: Tensor = super().calculate_topk_aux_loss(sae_in, sae_out, hidden_pre.relu(), dead_neuron_mask)
            return loss

    return RevivingTrainingSAE


@cache
def sparse_batchtopk_class() -> Any:
    """Return SAELens' ``BatchTopKTrainingSAE`` with the sparse arithmetic of this module (a function, since importing SAELens takes seconds)."""
    from sae_lens import BatchTopKTrainingSAE

    class SparseBatchTopKTrainingSAE(BatchTopKTrainingSAE):  # type: ignore[misc]
        """``feature_acts`` is :class:`Kept`, and ``hidden_pre`` is not made; two attributes trade precision for speed.

        Attributes:
            product_dtype: of the dense products.
            aux_stride: the loss that revives dead features is taken over every ``aux_stride``-th token: a mean over fewer tokens, at a
                fraction of the cost (it is a dense product, and with many dead features the dearest part).
        """

        product_dtype = torch.float32
        aux_stride = 1
        _guess = 0.0

        def _effective(self) -> tuple[Tensor, Tensor, Tensor]:
            """Return encoder, bias and decoder rows with the decoder's norms folded in."""
            norms = self.W_dec.norm(dim=-1) if self.cfg.rescale_acts_by_decoder_norm else torch.ones(())
            weight, bias = self.W_enc * norms, self.b_enc * norms
            if self.cfg.apply_b_dec_to_input:
                # its value is 0: the tokens come centred; its gradient is that of subtracting b_dec from every one of them
                bias = bias - (self.b_dec - self.b_dec.detach()) @ weight
            return weight, bias, self.W_dec / norms.unsqueeze(-1)

        def _centred(self, x: Tensor) -> Tensor:
            centred: Tensor = x - self.b_dec.detach() if self.cfg.apply_b_dec_to_input else x
            return centred

        def encode_with_hidden_pre(self, x: Tensor) -> tuple[Kept, Tensor]:
            weight, bias, self._rows = self._effective()
            self._hidden = (weight, bias)
            kept = encode(self._centred(x), weight, bias, int(self.cfg.k * len(x)), self._guess, self.product_dtype)
            if len(kept.values):
                self._guess = float(kept.values.detach().min())
            return kept, x.new_empty(0)

        def decode(self, feature_acts: Kept) -> Tensor:
            reconstruction: Tensor = decode(feature_acts, self._rows) + self.b_dec
            return reconstruction

        def update_topk_threshold(self, acts_topk: Kept) -> None:
            super().update_topk_threshold(acts_topk.values.detach())

        def calculate_topk_aux_loss(self, sae_in: Tensor, sae_out: Tensor, hidden_pre: Tensor, dead_neuron_mask: Tensor | None) -> Tensor:
            """As in :func:`reviving_class`, from the dead features' columns alone."""
            n_dead = 0 if dead_neuron_mask is None else int(dead_neuron_mask.sum())
            if not n_dead:
                return sae_out.new_tensor(0.0)
            weight, bias = self._hidden
            half = sae_in.shape[-1] // 2
            sae_in, sae_out = sae_in[:: self.aux_stride], sae_out[:: self.aux_stride]
            recons = _decode_top(
                self._centred(sae_in),
                weight[:, dead_neuron_mask],
                bias[dead_neuron_mask],
                self._rows[dead_neuron_mask],
                half,
                self.product_dtype,
            )
            error = (recons - (sae_in - sae_out).detach()).pow(2).sum(dim=-1).mean()
            loss: Tensor = self.cfg.aux_loss_coefficient * min(n_dead / half, 1.0) * error
            return loss

    return SparseBatchTopKTrainingSAE
