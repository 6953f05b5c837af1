"""Putting something in the residual stream's place: a dictionary's reconstruction (splicing), or one fixed vector (ablation).

Both touch the tokens that statistics count: outliers stay as they are (see :mod:`harness.sae.corpus.outliers`; no dictionary was made for them), and
so does the first token with positions that spare it. The edits are for whole texts read at once: a token is an outlier in comparison with
the other tokens of its text, and while a text is generated there is one token alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.interventions import EditContext, Positions, Site
from harness.sae.corpus.counts import slice_tokens
from harness.sae.corpus.outliers import OUTLIER, usual_tokens
from harness.sae.dictionary import Dictionary
from harness.types import digest

COUNTED = Positions(prompt=True, generated=True, first_token=False)
"""All tokens but the first."""


def reconstruct(dictionary: Dictionary, x: Tensor) -> Tensor:
    """Return a dictionary's reconstruction of ``x``, ``[tokens, d_in]`` → ``[tokens, d_in]`` in the dictionary's dtype; some tokens at a time."""
    parts = [dictionary.decode(dictionary.encode(part), like=part) for part in x.split(slice_tokens(dictionary))]  # type: ignore[no-untyped-call]
    return torch.cat(parts) if parts else x.to(dictionary.device, dictionary.dtype)


@dataclass(frozen=True, eq=False)
class Splice:
    """The dictionary's reconstruction in place of the residual stream, its error dropped: x' = decode(encode(x)).

    Attributes:
        dictionary: what reconstructs; read and written at its own layer.
        positions: which tokens.
        outlier: as in :func:`~harness.sae.corpus.outliers.usual_tokens`; 0 replaces outliers, too.
    """

    dictionary: Dictionary
    positions: Positions = COUNTED
    outlier: float = OUTLIER

    @property
    def sites(self) -> tuple[Site, ...]:
        return (Site(self.dictionary.layer),)

    @property
    def batch_key(self) -> str:
        return "splice:" + digest([self.dictionary.digest, self.dictionary.layer, self.positions, self.outlier])

    def stack(self, rows: Sequence[Splice], device: torch.device) -> StackedSplice:
        self.dictionary.check_device(device)
        return StackedSplice(self.dictionary, self.positions, self.outlier)


@dataclass(frozen=True, eq=False)
class StackedSplice:
    """One dictionary for all rows."""

    dictionary: Dictionary
    positions: Positions
    outlier: float

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        replaced = usual_tokens(x, ctx.touched(self.positions), self.outlier)
        spliced = x.clone()
        spliced[replaced] = reconstruct(self.dictionary, x[replaced]).to(x)
        return spliced


@dataclass(frozen=True, eq=False)
class Ablate:
    """One vector in place of the residual stream at every token: x' = v, e.g. the mean over the corpus, or zeros.

    Attributes:
        site: where.
        vector: ``[d_model]``.
        positions: which tokens.
        outlier: as in :class:`Splice`.
    """

    site: Site
    vector: Tensor = field(repr=False)
    positions: Positions = COUNTED
    outlier: float = OUTLIER

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        content = hashlib.sha256(self.vector.detach().to("cpu", torch.float32).contiguous().numpy().tobytes()).hexdigest()
        return "ablate:" + digest([self.site, content, self.positions, self.outlier])

    def stack(self, rows: Sequence[Ablate], device: torch.device) -> StackedAblate:
        return StackedAblate(self.vector.to(device=device, dtype=torch.float32), self.positions, self.outlier)


@dataclass(frozen=True, eq=False)
class StackedAblate:
    """One vector ``[d_model]`` float32 for all rows."""

    vector: Tensor
    positions: Positions
    outlier: float

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        replaced = usual_tokens(x, ctx.touched(self.positions), self.outlier)
        return torch.where(replaced[..., None], self.vector, x)
