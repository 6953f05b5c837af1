"""From stored scores of aspect texts to a method's numbers; what a run keeps of these texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.data.aspects import VARIANTS, AspectText
from harness.evaluations.detection.records import unpack
from harness.evaluations.detection.score import ConceptScore
from harness.leaderboard.aspects import AspectItem, Aspects, mean_of, over_texts
from harness.scoring.aspects import NAMES, abstained, aspect_scores
from harness.scoring.checks import FloatArray
from harness.types import Json

ASPECTS = "aspects"
"""The set of texts, in a run's record and in an outcome: the four variants of each base text of the concept, one after the other."""


def aspects_record(digest: str, texts: Mapping[str, Sequence[AspectText]]) -> dict[str, Json]:
    """Return what is kept once per run: the set's digest, and the ids of the base texts by concept, in the order of their scores."""
    return {"digest": digest, "texts": {concept: [one.id for one in own] for concept, own in texts.items()}}


def variants_of(texts: Sequence[AspectText]) -> list[str]:
    """Return all variants, text by text, in the order of :data:`VARIANTS`."""
    return [variant for one in texts for variant in one.variants]


def draw_items(concept: str, ids: Sequence[str], packed: Json, score: ConceptScore) -> list[AspectItem]:
    """Return what one labeling of a concept got on its base texts, at the threshold that its row has for F1 at 1:1."""
    at = score.details.get("at")
    chosen = at.get("f1_balanced") if isinstance(at, Mapping) else None
    threshold = None if not isinstance(chosen, Mapping) else float(chosen["threshold"])
    return _items(concept, ids, aspect_scores(unpack(str(packed)).reshape(-1, len(VARIANTS)), threshold))


def aspects_of(record: Mapping[str, Json], found: Mapping[str, Sequence[Sequence[AspectItem]]], answered: Sequence[str], seed: int) -> Aspects | None:
    """Return a method's numbers; None where the run has no aspect texts.

    Args:
        record: of :func:`aspects_record`, by way of the run.
        found: by concept, the items of each draw.
        answered: the concepts that the method is asked for: those among them that are not in ``found`` count as a constant score.
        seed: of the intervals.
    """
    texts: Mapping[str, Sequence[str]] = record.get("texts") or {}
    if not texts:
        return None
    items: list[AspectItem] = []
    for concept, ids in texts.items():
        if concept in found:
            draws = found[concept]
            items += [mean_of([draw[place] for draw in draws]) if len(draws) > 1 else draws[0][place] for place in range(len(ids))]
        elif concept in answered:
            items += _items(concept, ids, abstained(len(ids)))
    return over_texts(str(record["digest"]), items, seed) if items else None


def _items(concept: str, ids: Sequence[str], values: Mapping[str, FloatArray]) -> list[AspectItem]:
    def of(name: str, place: int) -> float | None:
        value = float(values[name][place])
        return None if np.isnan(value) else value

    return [AspectItem(id=name, concept=concept, values={part: of(part, place) for part in NAMES}) for place, name in enumerate(ids)]
