"""What can be said of a feature whoever named it: how often and where it fires, what it promotes, what it does to the next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.labelling.options import PROMPT
from harness.labelling.snippets import snippets
from harness.types import Abstention, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench

PROMOTED = 8
"""Tokens shown that a feature's decoder row promotes most."""


def describe(bench: Bench, answers: Sequence[Labeling | Abstention], n_snippets: int = 3, prompt: str = PROMPT) -> list[Labeling | Abstention]:
    """``answers`` with a description of every feature under ``evidence["about"]``, in the order of the labeling's features.

    Each has ``feature`` (name/index), ``density`` (share of the corpus' tokens on which it fires), ``maximum`` (largest activation there),
    ``output_score`` and ``output_rank`` (Arad et al. 2025), ``confidence_change`` (ΔC of Wang et al. 2025, in nats), ``promotes`` (the
    tokens that its decoder row promotes most) and ``snippets`` (see :func:`harness.labelling.snippets.snippets`).

    Args:
        bench: whose model, dictionaries and corpus are used.
        answers: any labeler's.
        n_snippets: best-activating texts a feature; 0 for none.
        prompt: the neutral prompt of both causal scores.
    """
    about: dict[str, dict[str, Json]] = {}
    for name in sorted({feature.dictionary for answer in answers if isinstance(answer, Labeling) for feature in answer.features}):
        wanted = {f.index for answer in answers if isinstance(answer, Labeling) for f in answer.features if f.dictionary == name}
        about.update((f"{name}/{row['index']}", row) for row in _about(bench, name, sorted(wanted), n_snippets, prompt))
    described: list[Labeling | Abstention] = []
    for answer in answers:
        if isinstance(answer, Labeling):
            rows = [{"feature": str(feature), **about[str(feature)]} for feature in answer.features]
            answer = replace(answer, evidence={**answer.evidence, "about": rows})
        described.append(answer)
    return described


def _about(bench: Bench, name: str, features: list[int], n_snippets: int, prompt: str) -> list[dict[str, Json]]:
    from harness.sae.causal import confidence_changes, output_scores

    model, dictionary, statistics = bench.model, bench.dictionaries[name], bench.statistics(name)
    effect = output_scores(model, dictionary, features, prompt=prompt)
    change = confidence_changes(model, dictionary, features, prompt=prompt)
    seen = snippets(bench, name, features, n_snippets)
    return [
        {
            "index": feature,
            "density": float(statistics.density[feature]),
            "maximum": float(statistics.maximum[feature]),
            "output_score": float(effect.score[place]),
            "output_rank": int(effect.rank[place]),
            "confidence_change": float(change[place]),
            "promotes": [model.tokenizer.decode([token]) for token in effect.tokens[place][:PROMOTED].tolist() if token >= 0],
            "snippets": seen[feature],
        }
        for place, feature in enumerate(features)
    ]
