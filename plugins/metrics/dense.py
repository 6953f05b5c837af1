"""Dense latents: how many fire on much of all text, and what they follow there: the place in the text, the main direction, its two ends, doubt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.measuring.texts import sample_texts
from harness.options import Options
from harness.types import Json, Measurement

if TYPE_CHECKING:
    import torch

    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.measuring.readings import Readings
    from harness.sae.dictionary import Dictionary
    from harness.sae.subject import DictionarySubject

Floats = NDArray[np.float64]

FOLLOWED = ("position", "component", "start", "end", "entropy")
MOST = 2048
"""So many dense latents at most are correlated; the densest ones."""


class DenseOptions(Options):
    """Options of ``dense``."""

    max_tokens: int = Field(32_768, ge=2)
    """Report texts are read up to this many tokens."""
    frequency: float = Field(0.1, gt=0, lt=1)
    """A latent is dense when it fires on more than this share of the tokens."""
    correlation: float = Field(0.3, gt=0, lt=1)
    """A latent follows something when its activation correlates with it at least this much, in either direction (Pearson)."""
    edge: int = Field(3, ge=1)
    """A text's first and last so many counted tokens are its start and end."""
    entropy_tokens: int = Field(8_192, ge=0)
    """On so many of these tokens the entropy of the model's next-token distribution is read; 0 leaves it out."""


class Dense:
    """See the module. Implements :class:`harness.contracts.Metric`."""

    def __init__(self, options: DenseOptions) -> None:
        self.options = options
        parts = {name: _share(title) for name, title in _TITLES.items() if name != "entropy" or options.entropy_tokens}
        parts["unexplained"] = _share("dense, follows none of these")
        self.traits = MetricTraits(
            title="dense latents",
            unit="latents",
            bounds=(0.0, None),
            higher_is_better=None,
            trivial=0.0,
            needs=("model", "corpus"),
            parts=parts,
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        from harness.measuring.readings import every_token

        texts = sample_texts(bench, self.options.max_tokens, seed)
        readings = every_token(bench, subject.dictionary.layer, texts.tokens, bench.skip, "texts")
        n = readings.vectors.n
        frequency = _frequencies(subject.dictionary, readings)
        dense = np.flatnonzero(frequency > self.options.frequency)
        listed = dense[np.argsort(-frequency[dense], kind="stable")][:MOST]
        followed = self._followed(bench, readings, texts, seed)
        details: dict[str, Json] = {"texts": len(texts), "tokens": n, "n_features": len(frequency), "dense_above": self.options.frequency}
        if not len(dense):
            why = "no latent is dense"
            return Measurement(0.0, details=details, parts=dict.fromkeys(self.traits.parts), part_reasons=dict.fromkeys(self.traits.parts, why))
        correlations = _correlations(subject.dictionary, readings, listed, np.stack(list(followed.values())))
        hit = np.abs(correlations) >= self.options.correlation
        parts: dict[str, float | None] = {name: float(hit[:, place].mean()) for place, name in enumerate(followed)}
        parts["unexplained"] = float((~hit.any(axis=1)).mean())
        details["latents"] = {
            str(latent): {
                "frequency": round(float(frequency[latent]), 4),
                **{name: round(float(r), 3) for name, r in zip(followed, row, strict=True)},
            }
            for latent, row in zip(listed.tolist(), correlations, strict=True)
        }
        return Measurement(float(len(dense)), details=details, parts=parts)

    def _followed(self, bench: Bench, readings: Readings, texts: TextSet, seed: int) -> dict[str, Floats]:
        """Return what a latent may follow, ``[tokens]`` each; NaN at tokens that do not count for it."""
        lengths = np.array([len(row) for row in texts.tokens])
        place = (readings.places - bench.skip).astype(np.float64)
        from_end = lengths[readings.owners] - 1 - readings.places
        found = {
            "position": place,
            "component": _component(readings),
            "start": (place < self.options.edge).astype(np.float64),
            "end": (from_end < self.options.edge).astype(np.float64),
        }
        if self.options.entropy_tokens:
            found["entropy"] = self._entropy(bench, readings, texts, seed)
        return found

    def _entropy(self, bench: Bench, readings: Readings, texts: TextSet, seed: int) -> Floats:
        """Return the entropy of the model's next-token distribution, in nats, on texts that are among those that are read."""
        some = sample_texts(bench, min(self.options.entropy_tokens, self.options.max_tokens), seed)
        assert some.places is not None
        assert texts.places is not None
        by_place = {int(place): number for number, place in enumerate(texts.places)}
        numbers = [by_place[int(place)] for place in some.places]

        def compute(folder: Any) -> None:
            rows = bench.logits([row.tolist() for row in some.tokens])
            found = [_entropies(logits) for logits in bench.track(rows, "entropy of the next token", len(some))]
            np.save(folder / "entropy.npy", np.concatenate(found))

        flat = np.load(bench.artifact({"kind": "next-token-entropy", "texts": some.digest}, compute) / "entropy.npy", allow_pickle=False)
        starts = dict(zip(numbers, np.cumsum([0, *(len(row) for row in some.tokens[:-1])]).tolist(), strict=True))
        begin = np.array([starts.get(int(owner), -1) for owner in range(len(texts))])[readings.owners]
        return np.where(begin < 0, np.nan, flat[np.where(begin < 0, 0, begin + readings.places)])


_TITLES = {
    "position": "follows the position in the text",
    "component": "follows the first principal component",
    "start": "follows the text's first tokens",
    "end": "follows the text's last tokens",
    "entropy": "follows the entropy of the next token",
}


# ------------------------------------------------------------------------------------------------------------------------- inside


def _share(title: str) -> NumberTraits:
    return NumberTraits(title, "share of dense latents", (0.0, 1.0), None)


def _frequencies(dictionary: Dictionary, readings: Readings) -> Floats:
    from harness.sae.corpus.counts import Meter

    meter, fired = Meter(dictionary), np.zeros(dictionary.d_sae)
    for x, _ in readings.parts():
        for _, active in meter.active(x):
            fired += np.bincount(active.features.cpu().numpy(), minlength=dictionary.d_sae)
    return fired / max(1, readings.vectors.n)


def _component(readings: Readings) -> Floats:
    """Return each vector's coordinate along the first principal component of all, whose sign is that of its largest weight."""
    width, n = readings.vectors.width, readings.vectors.n
    total, products = np.zeros(width), np.zeros((width, width))
    for x, _ in readings.parts():
        rows = x.cpu().numpy().astype(np.float64)
        total += rows.sum(axis=0)
        products += rows.T @ rows
    mean = total / max(1, n)
    _, vectors = np.linalg.eigh(products - n * np.outer(mean, mean))
    first = vectors[:, -1]
    first = first * np.sign(first[np.abs(first).argmax()])
    return np.concatenate([(x.cpu().numpy().astype(np.float64) - mean) @ first for x, _ in readings.parts()])


@dataclass(eq=False)
class _Sums:
    """Sums over the tokens at which a target is known: their number, of targets t ``[targets]``, of activations f ``[latents, targets]``."""

    n: Floats
    t: Floats
    tt: Floats
    f: Floats
    ff: Floats
    ft: Floats


def _correlations(dictionary: Dictionary, readings: Readings, latents: NDArray[np.int64], targets: Floats) -> Floats:
    """Return Pearson's correlation of each latent's activation with each target over the tokens at which that is known; 0 where one is constant.

    ``targets`` is ``[targets, tokens]`` with NaN where it is not known; ``[latents, targets]`` comes back.
    """
    columns, known = dictionary.columns(latents.tolist()), ~np.isnan(targets)
    centred = np.where(known, targets - np.nanmean(targets, axis=1, keepdims=True), 0.0)
    shape = (len(latents), len(targets))
    of_targets = known.sum(axis=1).astype(np.float64), centred.sum(axis=1), np.square(centred).sum(axis=1)
    sums = _Sums(*of_targets, *(np.zeros(shape) for _ in range(3)))
    for x, numbers in readings.parts():
        f = columns.activations(x).double().cpu().numpy()
        weight = known[:, numbers].T.astype(np.float64)
        sums.f += f.T @ weight
        sums.ff += np.square(f).T @ weight
        sums.ft += f.T @ centred[:, numbers].T
    covariance = sums.ft - sums.f * sums.t / sums.n
    spread = (sums.ff - np.square(sums.f) / sums.n).clip(min=0) * (sums.tt - np.square(sums.t) / sums.n).clip(min=0)
    found = np.divide(covariance, np.sqrt(spread), out=np.zeros(shape), where=spread > 0)
    return np.asarray(found.clip(-1, 1))


def _entropies(logits: torch.Tensor) -> NDArray[np.float32]:
    log_p = logits.float().log_softmax(dim=-1)
    return np.asarray(-(log_p.exp() * log_p).sum(dim=-1).cpu().numpy(), dtype=np.float32)


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("dense", Dense, options=DenseOptions, summary="how many latents fire on much of all text, and what they follow there")
