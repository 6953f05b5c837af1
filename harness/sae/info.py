"""Facts about a dictionary: what it is, and how it does on texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from harness.errors import DataError
from harness.interventions import Site
from harness.sae.checks import weight_notes
from harness.sae.corpus.counts import Meter
from harness.sae.corpus.outliers import OUTLIER

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel
    from harness.sae.dictionary import Dictionary


@dataclass(frozen=True)
class SaeInfo:
    """Facts about a dictionary; the last six need texts, and are None without.

    Attributes:
        source, digest: where it came from, and what it is.
        architecture: SAELens' name.
        d_in, d_sae: widths of the residual stream and of the dictionary.
        hook_name, layer: the site as its maker named it, and the zero-based layer whose output that is.
        model_name: the model it was made for, as its maker named it; empty where the files do not name it.
        normalize_activations: how a token is normalised before it is encoded.
        needs_full_encoding: whether reading one feature needs the whole encoding.
        decoder_norm_min, decoder_norm_median, decoder_norm_max: of the effective decoder rows.
        notes: what is odd about its weights, a line each.
        n_tokens: tokens measured on (the first of each text left out).
        l0: mean number of active features (f_j ≠ 0) per token.
        explained_variance: 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖².
        dead: features that are active on none of the tokens; with few tokens, rare features are among them.
        mean_norm: mean Euclidean norm of the residual vectors.
        n_outliers: tokens left out of all that (see :mod:`harness.sae.corpus.outliers`).
    """

    source: str
    digest: str
    architecture: str
    d_in: int
    d_sae: int
    hook_name: str
    layer: int
    model_name: str
    normalize_activations: str
    needs_full_encoding: bool
    decoder_norm_min: float
    decoder_norm_median: float
    decoder_norm_max: float
    notes: tuple[str, ...] = ()
    n_tokens: int | None = None
    l0: float | None = None
    explained_variance: float | None = None
    dead: int | None = None
    mean_norm: float | None = None
    n_outliers: int | None = None


def describe(
    dictionary: Dictionary,
    model: SubjectModel | None = None,
    token_rows: Sequence[Sequence[int]] = (),
    *,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int = 4096,
) -> SaeInfo:
    """Describe a dictionary; with a model and texts (token ids), measure it on them, too.

    Raises:
        DataError: texts were given, but none has more than ``skip`` tokens.
        ModelError: a counted token's vector is not finite.
    """
    meter, n_outliers = Meter(dictionary), 0
    if model is not None and len(token_rows):
        from harness.sae.corpus.sweep import n_past, sweep

        for batch in sweep(model, token_rows, Site(dictionary.layer), skip=skip, outlier=outlier, token_budget=token_budget):
            meter.count(batch.x[batch.counted])
        n_outliers = n_past(token_rows, skip) - meter.n
        if not meter.n:
            message = f"none of {len(token_rows)} texts has more than {skip} tokens, so there is nothing to measure"
            raise DataError(message, given=len(token_rows), hint="give longer texts")
    norms = dictionary.decoder_norms()
    measured = meter.n > 0
    return SaeInfo(
        source=dictionary.source,
        digest=dictionary.digest,
        architecture=dictionary.architecture,
        d_in=dictionary.d_in,
        d_sae=dictionary.d_sae,
        hook_name=dictionary.hook_name,
        layer=dictionary.layer,
        model_name=dictionary.model_name,
        normalize_activations=str(dictionary.cfg["normalize_activations"]),
        needs_full_encoding=dictionary.needs_full_encoding,
        decoder_norm_min=float(norms.min()),
        decoder_norm_median=float(torch.median(norms)),
        decoder_norm_max=float(norms.max()),
        notes=weight_notes(dictionary.sae),
        n_tokens=meter.n if measured else None,
        l0=meter.l0 if measured else None,
        explained_variance=meter.explained_variance if measured else None,
        dead=int((meter.fired == 0).sum()) if measured else None,
        mean_norm=meter.mean_norm if measured else None,
        n_outliers=n_outliers if measured else None,
    )
