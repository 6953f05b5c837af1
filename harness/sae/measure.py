"""What a dictionary does on a stream of residual vectors: active features, L0, explained variance. Memory does not grow with the stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.sae.dictionary import CHUNK_ELEMENTS, Dictionary


@dataclass(frozen=True, eq=False)
class Active:
    """The active features (f_j > 0) of some tokens, token by token.

    Attributes:
        tokens: ``[active]`` int64, ascending.
        features: ``[active]`` int64.
        values: ``[active]``, positive.
    """

    tokens: Tensor
    features: Tensor
    values: Tensor


class Meter:
    """Sums over a stream of residual vectors; tokens that do not count must be left out by the caller.

    Attributes:
        n: tokens so far.
        fired: ``[d_sae]`` int64, on how many of them each feature is active.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary = dictionary
        self.n = 0
        self.fired = torch.zeros(dictionary.d_sae, dtype=torch.int64)
        self._norms = self._error = self._squares = 0.0
        self._sum = torch.zeros(dictionary.d_in, dtype=torch.float64)

    def add(self, x: Tensor) -> Iterator[tuple[int, Active]]:
        """Count ``x`` ``[tokens, d_in]``; answers with its active features, a slice at a time: (index of the slice's first token, active).

        The slices must be consumed for the counting to be complete.
        """
        step = max(1, CHUNK_ELEMENTS // self.dictionary.d_sae)
        for start in range(0, len(x), step):
            yield start, self._count(x[start : start + step].to(self.dictionary.device, self.dictionary.dtype))

    def count(self, x: Tensor) -> None:
        """As :meth:`add`, for who wants the sums only."""
        for _ in self.add(x):
            pass

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """Share of the tokens on which each feature is active, ``[d_sae]``."""
        return self.fired.numpy() / max(1, self.n)

    @property
    def l0(self) -> float:
        """Mean number of active features a token. NaN without tokens."""
        return float(self.fired.sum()) / self.n if self.n else float("nan")

    @property
    def mean_norm(self) -> float:
        """Mean Euclidean norm of the tokens. NaN without tokens."""
        return self._norms / self.n if self.n else float("nan")

    @property
    def explained_variance(self) -> float:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², over all tokens. NaN without variance."""
        variance = self._squares - float(self._sum.square().sum()) / max(1, self.n)
        return 1 - self._error / variance if variance > 0 else float("nan")

    def _count(self, x: Tensor) -> Active:
        f = self.dictionary.encode(x)
        tokens, features = (f > 0).nonzero(as_tuple=True)
        values = f[tokens, features]
        starts = torch.searchsorted(tokens, torch.arange(len(x) + 1, device=x.device))
        error = x - self._reconstruct(f, values, features, starts, x)
        self.n += len(x)
        self.fired += torch.bincount(features, minlength=self.dictionary.d_sae).cpu()
        self._norms += float(x.norm(dim=-1).sum())
        self._error += float(error.square().sum(dim=-1).cpu().double().sum())
        self._squares += float(x.square().sum(dim=-1).cpu().double().sum())
        self._sum += x.cpu().sum(dim=0, dtype=torch.float64)
        return Active(tokens, features, values)

    def _reconstruct(self, f: Tensor, values: Tensor, features: Tensor, starts: Tensor, x: Tensor) -> Tensor:
        if self.dictionary.architecture == "abstopk":  # negative activations reconstruct, too, though only positive ones count as active
            return self.dictionary.decode(f, like=x)
        return self.dictionary.decode_active(values, features, starts, like=x)
