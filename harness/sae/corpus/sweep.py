"""The one walk over a corpus' counted tokens: it settles for all readers what counts, what is refused and what happens without memory.

A token counts when it is real, not among the first ``skip`` of its text, and not an outlier (:mod:`harness.sae.corpus.outliers`). Statistics,
training, difference of means, snippets and metrics all read through :func:`sweep`, so none of them counts otherwise than the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from harness.interventions import Site
from harness.model.activations import ResidualBatch, Row, check_finite, in_parts, residuals, row_lengths
from harness.model.memory import TokenBudget
from harness.sae.corpus.outliers import OUTLIER, usual_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from harness.model.loading import SubjectModel

BLOCK = 2048
"""Number of texts whose token ids are in memory at a time, where a sweep goes block by block."""

BUDGET = 4096
"""Tokens per forward pass, unless the caller gives another number."""

SHARD_TOKENS = 1 << 14
"""Tokens of the forward passes after which a long sweep commits what it has found: what it loses at most when it is interrupted."""


def sweep(
    model: SubjectModel,
    rows: Sequence[Row],
    site: Site,
    *,
    texts: Sequence[int] | npt.NDArray[np.integer] | None = None,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int | TokenBudget = BUDGET,
    block: int | None = None,
    offset: int = 0,
    numbers: npt.NDArray[np.int64] | None = None,
) -> Iterator[ResidualBatch]:
    """Yield the residual stream of texts at ``site``, batch by batch, with the tokens that count marked.

    Texts without a token past the first ``skip`` are passed over. Within a block the longest texts come first. A batch that does not fit into
    memory is halved, and so is the budget from then on; what the caller does with a batch may go through
    :func:`harness.model.activations.in_parts` for the same reason.

    Args:
        model: the subject model.
        rows: token ids of the corpus' texts; may lie on disk.
        site: the layer whose output is read.
        texts: places in ``rows`` of the texts to read; None for all.
        skip: leading tokens of each text that do not count.
        outlier: as in :func:`~harness.sae.corpus.outliers.usual_tokens`; 0 counts outliers, too.
        token_budget: tokens per forward pass; a :class:`TokenBudget` keeps for the next call what an error has halved.
        block: texts that are sorted by length and held in memory together; None for all.
        offset: number of ``rows[0]`` in the corpus, for messages.
        numbers: of all ``rows`` in the corpus, for messages, where they do not follow each other.

    Yields:
        Batches whose ``rows`` are places in the ``rows`` given, and whose ``counted`` marks the tokens that count (outliers are not among them).

    Raises:
        ModelError: the layer does not exist; a counted token's vector is not finite; one text alone does not fit into memory.
        DataError: a text is longer than the model's context.
        OptionError: ``token_budget`` or ``skip`` is out of range.
    """
    wanted = _with_counted(rows, texts, skip)
    budget = token_budget if isinstance(token_budget, TokenBudget) else TokenBudget(token_budget)
    size = block or max(1, len(wanted))
    for start in range(0, len(wanted), size):
        part = wanted[start : start + size]
        for batch in residuals(model, [rows[int(text)] for text in part], site, token_budget=budget, skip=skip):
            yield from _counted(batch, model, part, outlier, budget, part + offset if numbers is None else numbers[part])


def activations(
    model: SubjectModel,
    rows: Sequence[Row],
    site: Site,
    *,
    texts: Sequence[int] | npt.NDArray[np.integer] | None = None,
    skip: int = 1,
    outlier: float = OUTLIER,
    numbers: npt.NDArray[np.int64] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """As :func:`sweep`, text by text: its place in ``rows`` and its counted tokens' vectors, float32 ``[tokens, d_model]`` on the model's device.

    Texts come block by block, the longest of a block first; those without a counted token do not come.
    """
    for batch in sweep(model, rows, site, texts=texts, skip=skip, outlier=outlier, block=BLOCK, numbers=numbers):
        for place, x, counted in zip(batch.rows, batch.x, batch.counted, strict=True):
            yield place, x[counted].float()


def sweep_shards(
    rows: Sequence[Row], *, skip: int = 1, token_budget: int = BUDGET, block: int | None = None, tokens: int | None = None
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the texts that a sweep with these arguments reads, in its order, in shards of whole forward passes: places in ``rows``.

    ``tokens`` are those of a shard's forward passes, by default :data:`SHARD_TOKENS`.

    A sweep over the shards, one after the other, makes the batches of one over all texts. So a pass that commits each shard, and goes on after
    the last one committed, finds what an undisturbed one finds, to the last bit (unless memory runs out: then a batch is halved).
    """
    lengths, wanted = row_lengths(rows), _with_counted(rows, None, skip)
    passes = max(1, (SHARD_TOKENS if tokens is None else tokens) // token_budget)
    size, budget = block or max(1, len(wanted)), TokenBudget(token_budget)
    for start in range(0, len(wanted), size):
        part = wanted[start : start + size]
        part = part[np.argsort(-lengths[part], kind="stable")]  # as the forward passes take them
        first = stop = n = 0
        while stop < len(part):
            stop += budget.take(len(part) - stop, int(lengths[part[stop]]))
            n += 1
            if n == passes or stop == len(part):
                yield part[first:stop]
                first, n = stop, 0


def n_past(rows: Sequence[Row], skip: int = 1) -> int:
    """Return tokens of ``rows`` past the first ``skip`` of each: those that count, and outliers."""
    return int((row_lengths(rows) - skip).clip(min=0).sum())


def _with_counted(
    rows: Sequence[Row], texts: Sequence[int] | npt.NDArray[np.integer] | None, skip: int
) -> npt.NDArray[np.int64]:
    lengths = row_lengths(rows)
    wanted = np.arange(len(rows), dtype=np.int64) if texts is None else np.asarray(texts, dtype=np.int64)
    return wanted[lengths[wanted] > skip]


def _counted(
    batch: ResidualBatch,
    model: SubjectModel,
    texts: npt.NDArray[np.int64],
    outlier: float,
    budget: TokenBudget,
    numbers: npt.NDArray[np.int64],
) -> list[ResidualBatch]:
    """Return the batch, or its halves where memory is short, with outliers taken out of ``counted`` and places of the corpus as ``rows``."""
    found: list[ResidualBatch] = []

    def mark(part: ResidualBatch) -> None:
        check_finite(part, model, numbers)
        usual = usual_tokens(part.x, part.counted, outlier)
        places = tuple(int(text) for text in texts[list(part.rows)])
        found.append(dataclasses.replace(part, rows=places, counted=usual))

    in_parts(batch, mark, budget)
    return found
