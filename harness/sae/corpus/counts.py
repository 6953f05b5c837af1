"""What a dictionary does on a stream of residual vectors: active features, L0, explained variance. Memory does not grow with the stream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.files.timing import CLOCK, ENCODING
from harness.model.memory import Budget, halving
from harness.sae.dictionary import CHUNK_ELEMENTS, Dictionary

CUDA_CHUNK_ELEMENTS = 1 << 27
"""As :data:`~harness.sae.dictionary.CHUNK_ELEMENTS`, on a GPU (512 MB in float32): the waits for what was found cost little beside a product of
that size, and a batch of 8,192 tokens is one slice up to 16,384 features."""

_N, _NORMS, _ERROR, _SQUARES, _TOTAL = 0, 1, 2, 3, 4


def slice_tokens(dictionary: Dictionary) -> int:
    """Return tokens whose activations are made at a time."""
    elements = CUDA_CHUNK_ELEMENTS if dictionary.device.type == "cuda" else CHUNK_ELEMENTS
    return max(1, elements // dictionary.d_sae)


@dataclass(frozen=True, eq=False)
class Active:
    """The active features (f_j ≠ 0) of some tokens, token by token.

    Attributes:
        tokens: ``[active]`` int64, ascending.
        features: ``[active]`` int64.
        values: ``[active]``; negative ones occur in a signed dictionary alone.
    """

    tokens: Tensor
    features: Tensor
    values: Tensor


class Meter:
    """Sums over a stream of residual vectors; tokens that do not count must be left out by the caller.

    The sums stay on the dictionary's device; asking for one of them waits for it.

    Args:
        dictionary: whose activations are counted.
        each: keep each token's error until :meth:`take_errors` is called.
    """

    def __init__(self, dictionary: Dictionary, *, each: bool = False) -> None:
        self.dictionary = dictionary
        # MPS has no float64: there they are on the CPU, and what enters them travels
        self._home = torch.device("cpu") if dictionary.device.type == "mps" else dictionary.device
        self._sums = torch.zeros(_TOTAL + dictionary.d_in, dtype=torch.float64, device=self._home)
        self._fired = torch.zeros(dictionary.d_sae, dtype=torch.int64, device=self._home)
        self._step = Budget(slice_tokens(dictionary))
        self._hidden: tuple[Tensor, Tensor] | None = None
        self._errors: list[Tensor] | None = [] if each else None

    def add(self, x: Tensor) -> Iterator[tuple[int, Active]]:
        """Counts ``x`` ``[tokens, d_in]`` and returns its active features, a slice at a time: (index of the slice's first token, active).

        The slices must be consumed for the counting to be complete. One that does not fit into memory is halved, and so are those after it.

        Raises:
            DictionaryError: a single token's activations do not fit into memory.
        """
        for part, active in halving(len(x), self._step, lambda part: self._count(x[part]), device=self.dictionary.device, alone=self._alone):
            yield part.start, active

    def active(self, x: Tensor) -> Iterator[tuple[int, Active]]:
        """Returns the active features of ``x`` as :meth:`add` does, without counting anything: no reconstruction is made."""
        for part, active in halving(len(x), self._step, lambda part: self._looked_at(x[part]), device=self.dictionary.device, alone=self._alone):
            yield part.start, active

    def count(self, x: Tensor) -> None:
        """Counts as :meth:`add` does, without returning the active features."""
        for _ in self.add(x):
            pass

    def include(self, sums: npt.NDArray[np.float64], fired: npt.NDArray[np.int64]) -> None:
        """Add the :attr:`sums` and :attr:`fired` of another stream."""
        self._sums += torch.from_numpy(sums).to(self._home)
        self._fired += torch.from_numpy(fired).to(self._home)

    def take_errors(self) -> npt.NDArray[np.float64]:
        """Return ‖x − x̂‖² of each token that was counted since the last call, in order; they are kept no longer."""
        assert self._errors is not None, "a Meter keeps errors with each=True"
        taken, self._errors = self._errors, []
        return np.concatenate([np.asarray(part.double().cpu().numpy()) for part in taken]) if taken else np.zeros(0)

    def clear(self) -> None:
        """Begin anew."""
        self._sums.zero_()
        self._fired.zero_()

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is counted within the context does not count if that fails, e.g. for want of memory; the room for encodings is free then."""
        before = self._sums.clone(), self._fired.clone()
        try:
            yield
        except BaseException:
            self._sums.copy_(before[0])
            self._fired.copy_(before[1])
            self._hidden = None
            raise

    @property
    def sums(self) -> npt.NDArray[np.float64]:
        """Return ``[4 + d_in]``: number of tokens, Σ‖x‖, Σ‖x − x̂‖², Σ‖x‖², and Σx."""
        return np.array(self._sums.cpu().numpy())

    @property
    def fired(self) -> Tensor:
        """Return ``[d_sae]`` int64, on the CPU: on how many tokens each feature is active."""
        return self._fired.cpu().clone()

    @property
    def n(self) -> int:
        """Return tokens so far."""
        return int(self._sums[_N])

    @property
    def density(self) -> npt.NDArray[np.float64]:
        """Return the share of the tokens on which each feature is active, ``[d_sae]``."""
        return self.fired.numpy() / max(1, self.n)

    @property
    def l0(self) -> float:
        """Return the mean number of active features per token. NaN without tokens."""
        n = self.n
        return int(self._fired.sum()) / n if n else float("nan")

    @property
    def mean_norm(self) -> float:
        """Return the mean Euclidean norm of the tokens. NaN without tokens."""
        n = self.n
        return float(self._sums[_NORMS]) / n if n else float("nan")

    @property
    def explained_variance(self) -> float:
        """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², over all tokens. NaN without variance."""
        sums = self.sums
        variance = float(sums[_SQUARES]) - float(np.square(sums[_TOTAL:]).sum()) / max(1, int(sums[_N]))
        return 1 - float(sums[_ERROR]) / variance if variance > 0 else float("nan")

    # -- inside

    def _alone(self, token: int) -> DictionaryError:
        return DictionaryError(
            f"the activations of one token do not fit into the memory of {self.dictionary.device}",
            given=self.dictionary.d_sae,
            hint=f"use another device, or a narrower dictionary than {self.dictionary.source} (d_sae {self.dictionary.d_sae})",
        )

    @torch.no_grad()
    def _looked_at(self, x: Tensor) -> Active:
        try:
            with CLOCK.part(ENCODING):
                return self._active(x.to(self.dictionary.device, self.dictionary.dtype))
        except BaseException:
            self._hidden = None
            raise

    @torch.no_grad()
    def _count(self, x: Tensor) -> Active:
        """Return the active features of ``x``. Where that fails, nothing was counted, and the room for encodings is free."""
        try:
            with CLOCK.part(ENCODING):  # on CUDA finding the active features waits for the device
                x = x.to(self.dictionary.device, self.dictionary.dtype)
                return self._counted(x, self._active(x))
        except BaseException:
            self._hidden = None
            raise

    def _counted(self, x: Tensor, active: Active) -> Active:
        starts = torch.searchsorted(active.tokens, torch.arange(len(x) + 1, device=x.device))
        error = x - self.dictionary.decode_active(active.values, active.features, starts, like=x)
        parts = [x.norm(dim=-1), error.square().sum(dim=-1), x.square().sum(dim=-1)]
        sums = [part.to(self._home).sum(dtype=torch.float64) for part in parts]
        total = x.to(self._home).sum(dim=0, dtype=torch.float64)
        found = torch.cat([torch.stack([torch.full_like(sums[0], len(x)), *sums]), total])
        features = active.features.to(self._home)
        # nothing on the way here waits for the device but finding the active features; what follows needs no memory
        self._fired.scatter_add_(0, features, torch.ones_like(features))
        self._sums += found
        if self._errors is not None:
            self._errors.append(parts[1])
        return active

    def _active(self, x: Tensor) -> Active:
        """Return the active features.

        Where a feature is active exactly when what the encoder gives exceeds a bound, the encoding itself (0 but for one in some hundred) is
        never made: in a wide dictionary the passes over it took a quarter of the encoder's matrix product. Same numbers, to the bit.
        """
        dictionary, sae = self.dictionary, self.dictionary.sae
        if dictionary.architecture not in ("standard", "jumprelu"):
            f = dictionary.encode(x)
            return _taken(f, f != 0 if dictionary.signed else f > 0)
        hidden, mask = self._space(x)
        torch.mm(dictionary._encoder_input(x), sae.W_enc, out=hidden)
        hidden += sae.b_enc
        bound = sae.threshold.clamp_min(0) if dictionary.architecture == "jumprelu" else torch.zeros((), dtype=x.dtype, device=x.device)
        return _taken(hidden, torch.gt(hidden, bound, out=mask))

    def _space(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return room for what the encoder gives and for a mask of it, kept from slice to slice: fresh pages cost as much as writing them."""
        if self._hidden is None or len(self._hidden[0]) < len(x):
            self._hidden = None
            shape = (len(x), self.dictionary.d_sae)
            self._hidden = x.new_empty(shape), x.new_empty(shape, dtype=torch.bool)
        hidden, mask = self._hidden
        return hidden[: len(x)], mask[: len(x)]


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
        """A batch of texts ``docs``: their residual vectors ``[texts, tokens, d_model]``, of which ``counted`` ones enter.

        Nothing enters if this fails, e.g. for want of memory: the same texts may be given again, in smaller batches.
        """
        with self.meter.all_or_nothing():
            self._add(list(docs), x, counted)

    def rows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the rows of the sparse matrices, text by text: where each text's end, features (ascending within a text), shares, maxima.

        What was collected is given up on the way, so that a shard's pairs of text and feature are hardly held twice.
        """
        ends = np.cumsum(self._active)
        size = int(ends[-1]) if len(ends) else 0
        features, shares, maxima = np.empty(size, "<i4"), np.empty(size, "<f4"), np.empty(size, "<f4")
        while self._batches:
            docs, borders, (columns, counts, largest) = self._batches.pop()
            for place, doc in enumerate(docs):
                row, own = slice(ends[doc] - self._active[doc], ends[doc]), slice(borders[place], borders[place + 1])
                features[row], maxima[row] = columns[own], largest[own]
                shares[row] = counts[own] / self.n_tokens[doc]
        return ends, features, shares, maxima

    # -- inside

    def _add(self, where: list[int], x: Tensor, counted: Tensor) -> None:
        lengths = counted.sum(dim=1)
        total = torch.where(counted[..., None], x, 0).sum(dim=1, dtype=torch.float32)
        means = (total / lengths.clamp_min(1)[:, None]).cpu().numpy()
        n_tokens = lengths.cpu().numpy()
        found = self._grouped(x[counted], lengths, int(n_tokens.sum()))
        if found is not None:
            d_sae = self.meter.dictionary.d_sae
            keys, counts, maxima = found[0].cpu().numpy(), found[1].cpu().numpy(), found[2].float().cpu().numpy()
            owners = keys // d_sae
            borders = np.searchsorted(owners, np.arange(len(where) + 1))
            parts = (keys - owners * d_sae).astype("<i4"), counts.astype("<i4"), maxima
            # only now, when nothing can run out of the device's memory any more
            self._active[where] = np.diff(borders)
            self._batches.append((where, borders, parts))
        self.means[where], self.n_tokens[where] = means, n_tokens

    def _grouped(self, x: Tensor, lengths: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the (text, feature) pairs that are active among ``n`` tokens ``x``, on how many tokens each is, and its largest activation.

        A pair is text · d_sae + feature; they ascend.

        The largest is that of the largest magnitude, with its sign. None without tokens. ``lengths`` ``[texts]``: how many of the tokens are
        each text's.
        """
        dictionary = self.meter.dictionary
        owner = torch.arange(len(lengths), device=x.device).repeat_interleave(lengths, output_size=n).to(dictionary.device)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for start, active in self.meter.add(x):
            keys = owner[active.tokens + start] * dictionary.d_sae + active.features
            found.append(_grouped(keys, torch.ones_like(keys), active.values, dictionary.signed))
        # a text that was cut between two slices is in both
        if len(found) > 1:
            keys, counts, values = map(torch.cat, zip(*found, strict=True))
            return _grouped(keys, counts, values, dictionary.signed)
        return found[0] if found else None


def _taken(values: Tensor, mask: Tensor) -> Active:
    """Return the places of ``mask`` ``[tokens, d_sae]`` and the values there."""
    if mask.device.type == "cpu":
        # numpy finds them some five times as fast as torch
        flat = torch.from_numpy(np.flatnonzero(mask.numpy()))
        tokens = flat // mask.shape[1]
        return Active(tokens, flat - tokens * mask.shape[1], values.reshape(-1)[flat])
    tokens, features = mask.nonzero(as_tuple=True)
    return Active(tokens, features, values[tokens, features])


def _grouped(keys: Tensor, counts: Tensor, values: Tensor, signed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return each key once, ascending, with the sum of its counts and the value of the largest magnitude, of two such the positive one."""
    unique, place = torch.unique(keys, return_inverse=True)
    summed = torch.zeros_like(unique).scatter_add_(0, place, counts)
    highest = values.new_zeros(len(unique)).scatter_reduce_(0, place, values, "amax")
    if not signed:
        return unique, summed, highest
    lowest = values.new_zeros(len(unique)).scatter_reduce_(0, place, values, "amin")
    return unique, summed, torch.where(-lowest > highest, lowest, highest)
