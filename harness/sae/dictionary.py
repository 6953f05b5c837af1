"""A sparse autoencoder as a dictionary of features, and the arithmetic of single features.

For a residual vector x a dictionary gives activations f(x) ``[d_sae]`` and an affine decoder

    x̂(f) = (Σ_j f_j · d̃_j + b) · s(x) + m(x)

with the effective decoder rows d̃_j, an output scale s(x) and an output shift m(x) per token. Because the decoder is affine, setting feature
j to the target c and keeping the reconstruction error moves x by (c − f_j(x)) · s(x) · d̃_j. That is all of clamping: one dot product
for f_j(x) and one scaled row, in place of two matrix products of the dictionary's full width.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from harness.errors import DictionaryError
from harness.types import Json, canonical_json

FULL_ENCODING = frozenset({"topk", "abstopk", "matching_pursuit", "ensemble"})
"""Architectures in which one feature's activation depends on all the others'."""

SIGNED = frozenset({"abstopk"})
"""Architectures whose activations may be negative; one that is not 0 is active, whatever its sign."""

ARCHITECTURES = frozenset({"standard", "jumprelu", "gated"}) | FULL_ENCODING
"""SAELens' inference architectures that we load (BatchTopK and Matryoshka dictionaries are saved as ``jumprelu``), and our ensembles."""

NORMALIZATIONS = frozenset({"none", "layer_norm", "constant_norm_rescale"})
"""Input normalisations that need nothing but the token itself."""

CHUNK_ELEMENTS = 1 << 25
"""Full encodings are made this many activations at a time (128 MB in float32), whatever the batch and the width."""

_LAYER_NORM_EPS = 1e-5
"""SAELens' own; it enters the input's normalisation but not the output scale."""


class Dictionary:
    """A trained SAE of a residual site, made by :func:`harness.sae.load`. Two dictionaries are equal when their content is.

    Arithmetic is float32 (or float64 where it was loaded so), whatever the dtype of the stored weights or of ``x``; no parameter needs a
    gradient.

    Args:
        sae: a SAELens inference SAE whose weights are float32 or float64.
        layer: zero-based layer whose output the dictionary reads.
        source: where it came from, for messages and entries.
        commit: of the hub's repository that it came from; empty for one that lies elsewhere.

    Attributes:
        sae: the SAELens SAE.
        cfg: its configuration as JSON, metadata included.
    """

    def __init__(self, sae: Any, layer: int, source: str, commit: str = "") -> None:
        self.sae = sae.eval().requires_grad_(False)
        # Loading keeps a file's strides, and gathering rows of a decoder that was stored transposed takes a hundred times as long.
        self.sae.W_dec.data = self.sae.W_dec.data.contiguous()
        self.layer = layer
        self.source = source
        self.commit = commit
        self.cfg: Mapping[str, Json] = sae.cfg.to_dict()
        self._seen: Tensor | None = None

    # -- what it is

    @property
    def architecture(self) -> str:
        return str(self.sae.cfg.architecture())

    @property
    def d_in(self) -> int:
        """Return the width of the residual stream."""
        return int(self.sae.cfg.d_in)

    @property
    def d_sae(self) -> int:
        """Return the number of features."""
        return int(self.sae.cfg.d_sae)

    @property
    def hook_name(self) -> str:
        """Return the site as its maker named it, e.g. ``blocks.12.hook_resid_post``; :attr:`layer` is what it means."""
        return str(self.sae.cfg.metadata.hook_name)

    @property
    def model_name(self) -> str:
        """Return the model it was trained on, as its maker named it; empty where the configuration does not say."""
        return str(self.sae.cfg.metadata.model_name or "")

    @property
    def device(self) -> torch.device:
        return self.sae.W_dec.device  # type: ignore[no-any-return]

    def check_device(self, device: torch.device) -> None:
        """Raise DictionaryError where the dictionary is on another device than the model, which is on ``device``."""
        here = self.device
        if (here.type, here.index or 0) != (device.type, device.index or 0):
            message, hint = f"{self.source} is on {here}, the model on {device}", f"load it with device={str(device)!r}"
            raise DictionaryError(message, given=str(here), allowed=str(device), hint=hint)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the arithmetic."""
        return self.sae.W_dec.dtype  # type: ignore[no-any-return]

    @property
    def needs_full_encoding(self) -> bool:
        """Return whether one feature's activation needs the whole encoding (TopK): exact all the same, but slow, so a run warns."""
        return self.architecture in FULL_ENCODING

    @property
    def signed(self) -> bool:
        """Return whether activations may be negative; see :data:`SIGNED`."""
        return self.architecture in SIGNED

    @cached_property
    def digest(self) -> str:
        """Return the SHA-256 (first 16 digits) of the weights as float32 and of what the arithmetic, the site and the model depend on."""
        cfg, sha = self.cfg, hashlib.sha256()
        if self.signed:
            # statistics, labels and runs of the time when negative activations were not counted must not be taken for today's
            sha.update(b"active: not 0")
        kept = {key: value for key, value in cfg.items() if key not in ("dtype", "device", "metadata")}
        sha.update(canonical_json([kept, self.hook_name, self.model_name]).encode())
        for name, tensor in sorted(self.sae.state_dict().items()):
            sha.update(f"{name}{tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().data)
        return sha.hexdigest()[:16]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dictionary) and (self is other or self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Dictionary({self.source!r}, {self.architecture}, d_in={self.d_in}, d_sae={self.d_sae}, layer={self.layer})"

    def to(self, device: torch.device | str) -> Dictionary:
        """This dictionary on another device (the weights move, they are not copied twice)."""
        self.sae.to(device=torch.device(device))
        self._seen = None
        self.__dict__.pop("in_float64", None)
        return self

    @cached_property
    def in_float64(self) -> Dictionary:
        """This dictionary with float64 arithmetic: what single-feature arithmetic is compared with. A copy of twice the memory, made once."""
        return self if self.dtype == torch.float64 else Dictionary(copy.deepcopy(self.sae).to(dtype=torch.float64), self.layer, self.source)

    # -- encoding and decoding

    def encode(self, x: Tensor) -> Tensor:
        """Return activations of all features: ``[..., d_in]`` → ``[..., d_sae]``, SAELens' own encoding."""
        x = self._checked(x)
        self._seen = None if self._normalization == "none" else x
        f: Tensor = self.sae.encode(self._finite(x).reshape(-1, self.d_in))
        return f.reshape(*x.shape[:-1], self.d_sae)

    def decode(self, f: Tensor, like: Tensor | None = None) -> Tensor:
        """Return the reconstruction from activations: ``[..., d_sae]`` → ``[..., d_in]``.

        Args:
            f: activations.
            like: the x that ``f`` came from, ``[..., d_in]``. Only a dictionary that normalises each token needs it, to undo that; without
                it the x encoded last serves, as in SAELens (which forgets it after one decode; here any number of decodes may follow).

        Raises:
            DictionaryError: the dictionary normalises each token, and there is no x of this shape to undo it with.
        """
        if f.shape[-1] != self.d_sae:
            shape = tuple(f.shape)
            raise DictionaryError(f"{self.source} got activations of the shape {shape}", given=shape, allowed=f"[..., {self.d_sae}]")
        f = f.to(self.device, self.dtype)
        if self._rescales:
            f = f / self.sae.W_dec.norm(dim=-1)
        return self.undo_normalization(f @ self.sae.W_dec, like)

    def decode_active(self, values: Tensor, features: Tensor, starts: Tensor, like: Tensor | None = None) -> Tensor:
        """As :meth:`decode`, from the active features alone, which is some hundred times less work: → ``[tokens, d_in]``.

        Args:
            values: activations ``[active]``, token by token.
            features: their features ``[active]``, int64.
            starts: ``[tokens + 1]`` int64; token t's are ``starts[t]:starts[t + 1]``.
            like: see :meth:`decode`, ``[tokens, d_in]``.
        """
        if self._rescales:
            values = values / self.sae.W_dec.norm(dim=-1)[features]
        summed = embedding_bag(
            features, self.sae.W_dec, offsets=starts, mode="sum", per_sample_weights=values.to(self.dtype), include_last_offset=True
        )
        return self.undo_normalization(summed, like)

    def undo_normalization(self, combined: Tensor, like: Tensor | None = None) -> Tensor:
        """From Σ_j f_j · d̃_j ``[..., d_in]`` to the reconstruction: the decoder's bias added, then the input's own scale and shift.

        ``like`` as in :meth:`decode`.
        """
        out = combined + self._output_bias
        if self._normalization == "none":
            return out
        like = self._seen if like is None else self._checked(like)
        if like is None or like.shape != out.shape:
            found = "no x was encoded" if like is None else f"the x encoded last has the shape {tuple(like.shape)}"
            raise DictionaryError(
                f"{self.source} normalises each token, and {found}",
                given=None if like is None else tuple(like.shape),
                allowed=f"an x of the shape {tuple(out.shape)}",
                hint="call decode(f, like=x) with the x that f came from",
            )
        out = out * self.scale(like)
        return out + like.mean(dim=-1, keepdim=True) if self._normalization == "layer_norm" else out

    def scale(self, x: Tensor) -> Tensor:
        """Return the output scale s(x), ``[..., 1]``: what a decoder row is multiplied by at each token.

        1 without normalisation; the token's standard deviation (unbiased) for ``layer_norm``; ‖x‖/√d_in for ``constant_norm_rescale``.
        """
        x = self._checked(x)
        if self._normalization == "layer_norm":
            return x.std(dim=-1, keepdim=True)
        if self._normalization == "constant_norm_rescale":
            length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True) / math.sqrt(self.d_in)
            return length
        return torch.ones_like(x[..., :1])

    # -- single features

    def feature(self, x: Tensor, j: int | Sequence[int]) -> Tensor:
        """Return the activation of feature ``j``: ``[..., d_in]`` → ``[...]``; of several features: → ``[..., len(j)]``.

        One dot product per feature where the architecture allows; else by the full encoding (see :attr:`needs_full_encoding`).
        """
        if isinstance(j, (int, np.integer)):
            return self.columns([int(j)]).activations(x)[..., 0]
        return self.columns(j).activations(x)

    def clamp(self, x: Tensor, j: int | Sequence[int], target: float | Sequence[float]) -> Tensor:
        """x with feature ``j`` (or each of several, at once) clamped to ``target``, the reconstruction error kept; ``[..., d_in]``.

        Equal to encode, set, decode and add the error. A target may be negative or 0 (0 ablates the feature). dtype is the arithmetic's.
        """
        indices = [int(j)] if isinstance(j, (int, np.integer)) else [int(i) for i in j]
        targets = (
            [float(target)] * len(indices) if isinstance(target, (int, float, np.integer, np.floating)) else [float(c) for c in target]
        )
        if len(targets) != len(indices):
            message = f"{len(targets)} targets were given for {len(indices)} features"
            raise DictionaryError(message, given=len(targets), allowed="one target for each feature, or one for all")
        if len(set(indices)) != len(indices):
            raise DictionaryError(f"a feature occurs twice in {indices}", given=tuple(indices), allowed="each feature once")
        return self.columns(indices).clamp(x, torch.tensor(targets, device=self.device, dtype=self.dtype))

    def decoder_row(self, j: int) -> Tensor:
        """Return the effective decoder row d̃_j ``[d_in]``: W_dec[j], divided by its norm where the SAE rescales activations by the decoder norm."""
        return self.columns([j]).rows[0]

    def decoder_norms(self) -> Tensor:
        """Return ‖d̃_j‖ of all features, ``[d_sae]``."""
        norms: Tensor = self.sae.W_dec.norm(dim=-1)
        return torch.ones_like(norms) if self._rescales else norms

    def columns(self, indices: Iterable[int] | Tensor) -> FeatureColumns:
        """Return the parts of the dictionary that features ``indices`` (any shape ``[..., n]``) need.

        Raises:
            DictionaryError: an index that does not exist.
        """
        index = indices if isinstance(indices, Tensor) else torch.tensor(list(indices), dtype=torch.long)
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= self.d_sae):
            bad = int(index.min()) if int(index.min()) < 0 else int(index.max())
            raise DictionaryError(f"{self.source} has no feature {bad}", given=bad, allowed=f"0 to {self.d_sae - 1}")
        index = index.to(self.device)
        rows = self.sae.W_dec[index]
        if self._rescales:
            rows = rows / rows.norm(dim=-1, keepdim=True)
        return FeatureColumns(self, index, rows)

    # -- inside

    @property
    def _normalization(self) -> str:
        return str(self.sae.cfg.normalize_activations)

    @property
    def _rescales(self) -> bool:
        return bool(getattr(self.sae.cfg, "rescale_acts_by_decoder_norm", False))

    @property
    def _output_bias(self) -> Tensor:
        # matching pursuit encodes x − b with a tied dictionary: its bias leaves only where it entered
        skipped = self.architecture == "matching_pursuit" and not self.sae.cfg.apply_b_dec_to_input
        bias: Tensor = self.sae.b_dec
        return torch.zeros_like(bias) if skipped else bias

    def _checked(self, x: Tensor) -> Tensor:
        if x.shape[-1] != self.d_in:
            shape = tuple(x.shape)
            message = f"{self.source} got residual vectors of the shape {shape}"
            raise DictionaryError(message, given=shape, allowed=f"[..., {self.d_in}], the width of the residual stream that it reads")
        return x.to(self.device, self.dtype)

    def _finite(self, x: Tensor) -> Tensor:
        """x with all-zero tokens (padding) nudged, where normalising would divide 0 by 0."""
        if self._normalization != "constant_norm_rescale":
            return x
        return torch.where((x == 0).all(dim=-1, keepdim=True), torch.full_like(x, 1e-12), x)

    def _encoder_input(self, x: Tensor) -> Tensor:
        """Return what SAELens' encoder multiplies: x normalised, minus the decoder's bias where the SAE subtracts it."""
        if self._normalization == "layer_norm":
            x = x - x.mean(dim=-1, keepdim=True)
            x = x / (x.std(dim=-1, keepdim=True) + _LAYER_NORM_EPS)
        elif self._normalization == "constant_norm_rescale":
            x = x * (math.sqrt(self.d_in) / self._finite(x).norm(dim=-1, keepdim=True))
        return x - self.sae.b_dec if self.sae.cfg.apply_b_dec_to_input else x


@dataclass(frozen=True, eq=False)
class FeatureColumns:
    """Some features of a dictionary: enough to read and to clamp them, for one text or for a batch with features of its own in each row.

    Attributes:
        dictionary: where they come from.
        index: features, ``[n]`` or ``[batch, n]``.
        rows: effective decoder rows d̃_j, ``[n, d_in]`` or ``[batch, n, d_in]``.
    """

    dictionary: Dictionary
    index: Tensor
    rows: Tensor

    def activations(self, x: Tensor) -> Tensor:
        """f_j(x): ``[..., d_in]`` → ``[..., n]`` for features ``[n]``; for ``[batch, n]``, row by row of ``[batch, tokens, d_in]``."""
        dictionary, sae = self.dictionary, self.dictionary.sae
        x = dictionary._checked(x)
        if dictionary.needs_full_encoding:
            return self._from_full_encoding(x)
        hidden = dictionary._encoder_input(x) @ self._encoder
        if dictionary.architecture == "gated":
            magnitude = hidden * self._rows_of(sae.r_mag).exp() + self._rows_of(sae.b_mag)
            return torch.where(hidden + self._rows_of(sae.b_gate) > 0, magnitude.relu(), 0.0)
        hidden = hidden + self._rows_of(sae.b_enc)
        if dictionary.architecture == "jumprelu":
            return torch.where(hidden > self._rows_of(sae.threshold), hidden.relu(), 0.0)
        return torch.relu(hidden)

    def clamp(self, x: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
        """x with every feature set to its target (``[n]`` or ``[batch, n]``), the reconstruction error kept.

        ``mask`` (bool, shaped as ``targets``) leaves features alone where False: rows of a batch may clamp different numbers of features.
        """
        x = self.dictionary._checked(x)
        if self.index.dim() > 1:
            targets, mask = targets.unsqueeze(-2), None if mask is None else mask.unsqueeze(-2)
        change = (targets - self.activations(x)) * self.dictionary.scale(x)
        return x + (change if mask is None else change * mask) @ self.rows

    @cached_property
    def _encoder(self) -> Tensor:
        """Return encoder columns, ``[..., d_in, n]``."""
        columns: Tensor = self.dictionary.sae.W_enc.T[self.index]
        return columns.transpose(-1, -2).contiguous()

    def _rows_of(self, parameter: Tensor) -> Tensor:
        values = parameter[self.index]
        return values if self.index.dim() == 1 else values.unsqueeze(-2)

    def _from_full_encoding(self, x: Tensor) -> Tensor:
        """By way of all features, a slice of tokens at a time, since ``[batch, tokens, d_sae]`` may not fit."""
        encode = self.dictionary.sae.encode
        index = self.index if self.index.dim() == 1 else self.index.unsqueeze(-2)
        index = index.expand(*x.shape[:-1], self.index.shape[-1]).reshape(-1, self.index.shape[-1])
        tokens = self.dictionary._finite(x).reshape(-1, self.dictionary.d_in)
        step = max(1, CHUNK_ELEMENTS // self.dictionary.d_sae)
        slices = [slice(start, start + step) for start in range(0, max(1, len(tokens)), step)]
        f = torch.cat([encode(tokens[part]).gather(-1, index[part]) for part in slices])
        return f.reshape(*x.shape[:-1], self.index.shape[-1])
