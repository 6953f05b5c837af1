"""Where a feature fires most: a few words around the strongest token of the texts in which it reaches its largest activations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.types import Json

if TYPE_CHECKING:
    from harness.contracts import Bench

CONTEXT = 12
"""Tokens shown before and after the strongest."""


def snippets(bench: Bench, dictionary: str, features: Sequence[int], n: int = 3, context: int = CONTEXT) -> dict[int, list[dict[str, Json]]]:
    """Return the ``n`` best-activating texts of each feature, best first, around their strongest token.

    The corpus' statistics name these texts; the model reads only them again, to find the token.

    Returns:
        By feature, a list of ``{"text": id, "labels": […], "activation", "before", "token", "after", "tokens"}``; shorter for a feature that
        fires in fewer texts, empty with ``n`` 0. ``tokens`` are all of the passage, each as ``[text, activation]``.
    """
    wanted = _best_texts(bench, dictionary, features, n)
    of_text: dict[int, list[int]] = {}
    for feature, texts in wanted.items():
        for text in texts:
            of_text.setdefault(text, []).append(feature)
    found = {(text, row["index"]): row for text, rows in _read(bench, dictionary, of_text, context) for row in rows}
    shown: dict[int, list[dict[str, Json]]] = {}
    for feature in features:
        shown[feature] = []
        for text in wanted[feature]:
            document, row = bench.corpus[text], found[text, feature]
            parts = {name: row[name] for name in ("activation", "before", "token", "after", "tokens")}
            shown[feature].append({"text": document.id, "labels": sorted(document.labels), **parts})
    return shown


def _best_texts(bench: Bench, dictionary: str, features: Sequence[int], n: int) -> dict[int, list[int]]:
    """Return, by feature, the texts with its largest activations, best first, ties in the order of the corpus."""
    maxima = bench.statistics(dictionary).texts_of(features, "maxima")
    chosen = {}
    for place, feature in enumerate(features):
        part = slice(maxima.indptr[place], maxima.indptr[place + 1])
        order = np.lexsort((maxima.indices[part], -maxima.data[part]))[:n]
        chosen[feature] = [int(text) for text in maxima.indices[part][order]]
    return chosen


def _read(bench: Bench, dictionary: str, of_text: dict[int, list[int]], context: int) -> list[tuple[int, list[dict[str, Any]]]]:
    """Find the strongest token of each feature of each text, among the tokens that the statistics count."""
    from harness.interventions import Site
    from harness.sae.corpus.sweep import sweep

    target, model = bench.dictionaries[dictionary], bench.model
    found = []
    for batch in sweep(model, bench.corpus_tokens, Site(target.layer), texts=list(of_text), skip=bench.statistics(dictionary).skip):
        for place, text in enumerate(batch.rows):
            features, ids = of_text[text], list(bench.corpus_tokens[text])
            activations = target.feature(batch.x[place, : len(ids)], features)
            strength = activations.abs() if target.signed else activations.clone()
            strength[~batch.counted[place, : len(ids)].to(strength.device)] = float("-inf")
            strongest = strength.max(dim=0).indices.tolist()
            columns = activations.T.tolist()
            found.append((text, [_snippet_json(model, ids, *item, context) for item in zip(features, strongest, columns, strict=True)]))
    return found


def _snippet_json(model: Any, ids: list[int], feature: int, at: int, activations: list[float], context: int) -> dict[str, Any]:
    first, last = max(0, at - context), at + 1 + context
    values = [float(f"{value:.4g}") for value in activations[first:last]]
    return {
        "index": feature,
        "activation": activations[at],
        "before": model.decode(ids[first:at]),
        "token": model.decode(ids[at : at + 1]),
        "after": model.decode(ids[at + 1 : last]),
        "tokens": [list(pair) for pair in zip(_pieces(model, ids[first:last]), values, strict=True)],
    }


def _pieces(model: Any, ids: list[int]) -> list[str]:
    """Return the text of each token such that all together are the text of the passage; a letter of several tokens is the last one's."""
    pieces, done = [], ""
    for end in range(1, len(ids) + 1):
        text = model.decode(ids[:end])
        ready = text.startswith(done) and (end == len(ids) or not text.endswith("\ufffd"))
        pieces.append(text[len(done) :] if ready else "")
        done = text if ready else done
    return pieces
