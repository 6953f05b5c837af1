"""What a dictionary does on a stream of residual vectors: active features, L0, explained variance. Memory does not grow with the stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.lm.activations import is_out_of_memory
from harness.sae.dictionary import CHUNK_ELEMENTS, Dictionary

_N, _NORMS, _ERROR, _SQUARES, _TOTAL = 0, 1, 2, 3, 4


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
        sums: ``[4 + d_in]`` float64: number of tokens, Σ‖x‖, Σ‖x − x̂‖², Σ‖x‖², and Σx. Those of two streams may be added.
        fired: ``[d_sae]`` int64, on how many of them each feature is active.
    """

    def __init__(self, dictionary: Dictionary) -> None:
        self.dictionary = dictionary
        self.sums = np.zeros(_TOTAL + dictionary.d_in)
        self.fired = torch.zeros(dictionary.d_sae, dtype=torch.int64)
        self._step = max(1, CHUNK_ELEMENTS // dictionary.d_sae)
        self._hidden: tuple[Tensor, Tensor] | None = None

    def add(self, x: Tensor) -> Iterator[tuple[int, Active]]:
        """Count ``x`` ``[tokens, d_in]``; answers with its active features, a slice at a time: (index of the slice's first token, active).

        The slices must be consumed for the counting to be complete. One that does not fit into memory is halved, and so are those after it.

        Raises:
            DictionaryError: a single token's activations do not fit into memory.
        """
        start = 0
        while start < len(x):
            part = x[start : start + self._step]
            active = self._try_count(part)
            if active is None:
                if len(part) == 1:
                    raise DictionaryError(
                        f"the activations of one token do not fit into the memory of {self.dictionary.device}; "
                        f"use another device, or a narrower dictionary than {self.dictionary.source} (d_sae {self.dictionary.d_sae})"
                    )
                self._step = len(part) // 2
                continue
            yield start, active
            start += len(part)

    def count(self, x: Tensor) -> None:
        """As :meth:`add`, for who wants the sums only."""
        for _ in self.add(x):
            pass

    def clear(self) -> None:
        """Begin anew."""
        self.sums[:] = 0
        self.fired.zero_()

    @property
    def n(self) -> int:
        """Tokens so far."""
        return int(self.sums[_N])

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
        return float(self.sums[_NORMS]) / self.n if self.n else float("nan")

    @property
    def explained_variance(self) -> float:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², over all tokens. NaN without variance."""
        variance = float(self.sums[_SQUARES]) - float(np.square(self.sums[_TOTAL:]).sum()) / max(1, self.n)
        return 1 - float(self.sums[_ERROR]) / variance if variance > 0 else float("nan")

    # -- inside

    def _try_count(self, x: Tensor) -> Active | None:
        """The active features of ``x``, or None if memory does not suffice; then nothing was counted."""
        try:
            return self._count(x.to(self.dictionary.device, self.dictionary.dtype))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        self._hidden = None
        if self.dictionary.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.no_grad()
    def _count(self, x: Tensor) -> Active:
        active, f = self._active(x)
        starts = torch.searchsorted(active.tokens, torch.arange(len(x) + 1, device=x.device))
        error = x - self._reconstruct(f, active, starts, x)
        parts = [x.norm(dim=-1), error.square().sum(dim=-1), x.square().sum(dim=-1)]
        # on the CPU: not every device has float64
        sums = [len(x), *(float(part.cpu().sum(dtype=torch.float64)) for part in parts)]
        total = x.cpu().sum(dim=0, dtype=torch.float64).numpy()
        self.fired += torch.bincount(active.features, minlength=self.dictionary.d_sae).cpu()
        self.sums += np.concatenate([sums, total])
        return active

    def _active(self, x: Tensor) -> tuple[Active, Tensor | None]:
        """The active features, and the whole encoding where one was made.

        Where a feature is active exactly when what the encoder gives exceeds a bound, the encoding itself (0 but for one in some hundred) is
        never made: in a wide dictionary the passes over it took a quarter of the encoder's matrix product. Same numbers, to the bit.
        """
        dictionary, sae = self.dictionary, self.dictionary.sae
        if dictionary.architecture not in ("standard", "jumprelu"):
            f = dictionary.encode(x)
            return _taken(f, f > 0), f
        hidden, mask = self._space(x)
        torch.mm(dictionary._encoder_input(x), sae.W_enc, out=hidden)
        hidden += sae.b_enc
        bound = sae.threshold.clamp_min(0) if dictionary.architecture == "jumprelu" else torch.zeros((), dtype=x.dtype, device=x.device)
        return _taken(hidden, torch.gt(hidden, bound, out=mask)), None

    def _space(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Room for what the encoder gives and for a mask of it, kept from slice to slice: fresh pages cost as much as writing them."""
        if self._hidden is None or len(self._hidden[0]) < len(x):
            self._hidden = None
            shape = (len(x), self.dictionary.d_sae)
            self._hidden = x.new_empty(shape), x.new_empty(shape, dtype=torch.bool)
        hidden, mask = self._hidden
        return hidden[: len(x)], mask[: len(x)]

    def _reconstruct(self, f: Tensor | None, active: Active, starts: Tensor, x: Tensor) -> Tensor:
        if self.dictionary.architecture == "abstopk":  # negative activations reconstruct, too, though only positive ones count as active
            assert f is not None
            return self.dictionary.decode(f, like=x)
        return self.dictionary.decode_active(active.values, active.features, starts, like=x)


class TextMeter:
    """What each text of a shard holds, from batches in whatever order.

    Args:
        meter: where sums over all tokens go.
        n_docs: texts of the shard.
        d_model: width of the residual stream.
    """

    def __init__(self, meter: Meter, n_docs: int, d_model: int) -> None:
        self.meter = meter
        self.n_tokens = np.zeros(n_docs, dtype=np.int64)
        self.means = np.zeros((n_docs, d_model), dtype=np.float32)
        self._active = np.zeros(n_docs, dtype=np.int64)
        self._batches: list[tuple[Sequence[int], npt.NDArray[np.int64], tuple[npt.NDArray[Any], ...]]] = []

    def add(self, docs: Sequence[int], x: Tensor, counted: Tensor) -> None:
        """A batch of texts ``docs``: their residual vectors ``[texts, tokens, d_model]``, of which ``counted`` ones enter."""
        d_sae, where = self.meter.dictionary.d_sae, list(docs)
        lengths = counted.sum(dim=1)
        total = torch.where(counted[..., None], x, 0).sum(dim=1, dtype=torch.float32)
        self.means[where] = (total / lengths.clamp_min(1)[:, None]).cpu().numpy()
        self.n_tokens[where] = lengths.cpu().numpy()
        owner = torch.arange(len(where), device=x.device).repeat_interleave(lengths).to(self.meter.dictionary.device)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for start, active in self.meter.add(x[counted]):
            keys = owner[active.tokens + start] * d_sae + active.features
            found.append(_grouped(keys, torch.ones_like(keys), active.values))
        if not found:
            return
        # a text that was cut between two slices is in both
        keys, counts, maxima = found[0] if len(found) == 1 else _grouped(*map(torch.cat, zip(*found, strict=True)))
        places = keys.cpu().numpy()
        owners = places // d_sae
        borders = np.searchsorted(owners, np.arange(len(where) + 1))
        self._active[where] = np.diff(borders)
        parts = (places - owners * d_sae).astype("<i4"), counts.cpu().numpy().astype("<i4"), maxima.float().cpu().numpy()
        self._batches.append((where, borders, parts))

    def rows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """The rows of the sparse matrices, text by text: where each text's end, features (ascending within a text), shares, maxima."""
        ends = np.cumsum(self._active)
        size = int(ends[-1]) if len(ends) else 0
        features, counts, maxima = np.empty(size, "<i4"), np.empty(size, "<i4"), np.empty(size, "<f4")
        for docs, borders, parts in self._batches:
            for place, doc in enumerate(docs):
                row = slice(ends[doc] - self._active[doc], ends[doc])
                for whole, part in zip((features, counts, maxima), parts, strict=True):
                    whole[row] = part[borders[place] : borders[place + 1]]
        shares = (counts / np.repeat(self.n_tokens, self._active)).astype("<f4")
        return ends, features, shares, maxima


def _taken(values: Tensor, mask: Tensor) -> Active:
    """The places of ``mask`` ``[tokens, d_sae]`` and the values there."""
    if mask.device.type == "cpu":
        # numpy finds them some five times as fast as torch
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
        tokens = flat // mask.shape[1]
        return Active(tokens, flat - tokens * mask.shape[1], values.reshape(-1)[flat])
    tokens, features = mask.nonzero(as_tuple=True)
    return Active(tokens, features, values[tokens, features])


def _grouped(keys: Tensor, counts: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each key once, ascending, with the sum of its counts and the largest of its values."""
    unique, place = torch.unique(keys, return_inverse=True)
    summed = torch.zeros_like(unique).scatter_add_(0, place, counts)
    largest = values.new_zeros(len(unique)).scatter_reduce_(0, place, values, "amax")
    return unique, summed, largest
