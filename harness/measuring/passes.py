"""Passes over texts that several metrics share: kept as artifacts, so the second metric, dictionary or run finds them made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.interventions import Intervention
from harness.measuring import VERSION
from harness.measuring.vectors import kept_vectors
from harness.plugin.source import depends_on_plugin
from harness.types import Json

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts import Bench
    from harness.data.texts import TextSet
    from harness.sae.corpus.counts import Meter
    from harness.sae.dictionary import Dictionary


@dataclass(frozen=True, eq=False)
class ReadingPass:
    """What a dictionary does on the counted tokens of some texts.

    Attributes:
        n_tokens: tokens.
        l0: mean number of active features (f_j ≠ 0) per token.
        explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖² over tokens, with x̄ their mean; NaN where all tokens are one vector.
        fired: ``[d_sae]`` int64, on how many of the tokens each feature is active.
        mean: ``[d_in]`` float64, x̄.
        errors: ``[texts]`` float64, each text's Σ‖x − x̂‖² over its tokens.
        variances: ``[texts]`` float64, each text's Σ‖x − x̄‖², with x̄ the mean over the tokens of all texts.
    """

    n_tokens: int
    l0: float
    explained_variance: float
    fired: np.ndarray[Any, np.dtype[np.int64]]
    mean: np.ndarray[Any, np.dtype[np.float64]]
    errors: np.ndarray[Any, np.dtype[np.float64]]
    variances: np.ndarray[Any, np.dtype[np.float64]]


def reading_pass(bench: Bench, dictionary: Dictionary, texts: TextSet) -> ReadingPass:
    """Read ``texts`` at the dictionary's site and count. Memory holds some thousand tokens and a few numbers per feature.

    Raises:
        ModelError: a counted token's vector is not finite.
    """
    from harness.sae.corpus.counts import Meter

    def compute(folder: Path) -> None:
        meter, vectors, done = Meter(dictionary, each=True), kept_vectors(bench, dictionary.layer, texts), 0
        errors: list[NDArray[np.float64]] = []
        if (folder / _SO_FAR).is_file():
            with np.load(folder / _SO_FAR, allow_pickle=False) as saved:
                meter.include(saved["sums"], saved["fired"])
                errors.append(saved["errors"])
            done = meter.n
        for number, x in enumerate(vectors.following(done), 1):
            meter.count(x)
            errors.append(meter.take_errors())
            if number % _KEPT_EVERY == 0:
                _keep_counts(folder / _SO_FAR, meter, errors=np.concatenate(errors))
        mean = meter.sums[-dictionary.d_in :] / max(1, meter.n)
        around = [_around(x.to(dictionary.device, dictionary.dtype), mean) for x in vectors]
        by_text = [_by_text(parts, vectors.rows, len(texts)) for parts in (errors, around)]
        _keep_counts(folder / "pass.npz", meter, by_text=np.stack(by_text))
        (folder / _SO_FAR).unlink(missing_ok=True)

    key = {"kind": "reading-pass", "version": VERSION, "dictionary": dictionary.digest, "layer": dictionary.layer, "texts": texts.digest}
    with np.load(bench.artifact(key, compute) / "pass.npz", allow_pickle=False) as saved:
        meter = Meter(dictionary)
        meter.include(saved["sums"], saved["fired"])
        errors_by_text, variances = saved["by_text"]
    mean = meter.sums[-dictionary.d_in :] / max(1, meter.n)
    return ReadingPass(meter.n, meter.l0, meter.explained_variance, meter.fired.numpy(), mean, errors_by_text, variances)


_SO_FAR = "so-far.npz"
_KEPT_EVERY = 4
"""After so many parts of the vectors, what is counted is kept for a pass that goes on."""


def _keep_counts(path: Path, meter: Meter, **more: NDArray[np.float64]) -> None:
    from harness.files.shards import replace_file

    replace_file(path, lambda file: np.savez(file, sums=meter.sums, fired=meter.fired.numpy(), **more))  # type: ignore[arg-type]


def _around(x: Tensor, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each token's ‖x − mean‖²."""
    centred = np.asarray(x.double().cpu().numpy()) - mean
    return np.asarray(np.square(centred).sum(axis=-1), dtype=np.float64)


def _by_text(parts: Sequence[NDArray[np.float64]], rows: Sequence[tuple[int, int]], n_texts: int) -> NDArray[np.float64]:
    """Return the sums over each text's tokens ``[texts]`` of numbers of tokens, in the order of ``rows``; 0 for a text without a token."""
    texts = np.repeat([place for place, _ in rows], [count for _, count in rows])
    return np.bincount(texts, weights=np.concatenate(parts), minlength=n_texts).astype(np.float64)


@dataclass(frozen=True)
class CrossEntropy:
    """The model's cross-entropy on texts, in nats per token: the mean over ``n_tokens`` predicted tokens. NaN without any, or after broken logits."""

    mean: float
    n_tokens: int


def cross_entropy(bench: Bench, texts: TextSet, intervention: Intervention | None = None, *, key: Json = None, what: str = "") -> CrossEntropy:
    """Return the cross-entropy of the tokens of ``texts``, each predicted from those before it.

    The predictions made at a text's first token are left out, as that token is everywhere: edits spare it.

    Args:
        bench: the task's bench.
        texts: what is read.
        intervention: edits, or None for the model alone.
        key: all that the intervention depends on beside the texts, as JSON, to keep the result as an artifact; None makes it anew.
        what: for the progress shown.
    """

    def compute() -> CrossEntropy:
        total, n = 0.0, 0
        rows = bench.logits([row.tolist() for row in texts.tokens], intervention)
        for ids, logits in zip(texts.tokens, bench.track(rows, f"cross-entropy{what and ', '}{what}", len(texts)), strict=True):
            total += _surprise(ids, logits, bench.skip)
            n += max(0, len(ids) - bench.skip - 1)
        return CrossEntropy(total / n if n else float("nan"), n)

    if key is None:
        return compute()
    full: Json = {"kind": "cross-entropy", "version": VERSION, "texts": texts.digest, "edit": key}
    return _kept_cross_entropy(bench, full, compute, by_plugin=intervention is not None)


def _surprise(ids: np.ndarray[Any, Any], logits: Tensor, skip: int) -> float:
    """Return −Σ log p of the tokens that are predicted from one that counts."""
    import torch

    if len(ids) < skip + 2:
        return 0.0
    wanted = torch.as_tensor(ids[skip + 1 :], device=logits.device)[:, None]
    found = logits[skip:-1].float().log_softmax(dim=-1).gather(1, wanted)
    return -float(found.sum(dtype=torch.float64))


def _kept_cross_entropy(bench: Bench, key: Json, compute: Callable[[], CrossEntropy], by_plugin: bool) -> CrossEntropy:
    """Return what is kept under ``key``; ``by_plugin``: the plugin at work has made the edit, so its code is part of the key."""

    def fill(folder: Path) -> None:
        made = compute()
        mean = made.mean if np.isfinite(made.mean) else None
        (folder / "cross-entropy.json").write_text(json.dumps([mean, made.n_tokens]), encoding="utf-8")

    filler = depends_on_plugin(fill) if by_plugin else fill
    mean, n = json.loads((bench.artifact(key, filler) / "cross-entropy.json").read_text(encoding="utf-8"))
    return CrossEntropy(float("nan") if mean is None else mean, n)
