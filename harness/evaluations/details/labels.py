"""What labelers answered, and the evidence that they gave, as far as it has the form of our own labelers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaderboard.site.details import Label, LabelFeature, Labels, Snippet
from harness.store import RunStore
from harness.store.manifest import Manifest, PluginRef
from harness.types import Abstention, Json, Labeling

MOST_SNIPPETS = 3


def labels(manifest: Manifest, store: RunStore) -> tuple[Labels, ...]:
    """Return the answers of each labeler that a method was asked for with; controls draw theirs at random and have no evidence."""
    asked = {m.labeler.key for m in manifest.methods if m.labeler is not None and m.role == "method"}
    return tuple(_labels(labeler, store) for labeler in manifest.labelers if labeler.key in asked)


def _labels(labeler: PluginRef, store: RunStore) -> Labels:
    found = tuple(_label(answer) for answer in store.labelings(labeler.key) or ())
    firsts = [label.features[0] for label in found if label.features and label.features[0].other_half]
    agreement = sum(first.feature == first.other_half for first in firsts) / len(firsts) if firsts else None
    return Labels(labeler.title, found, agreement, len(firsts))


def _label(answer: Labeling | Abstention) -> Label:
    if isinstance(answer, Abstention):
        return Label(answer.concept.id, answer.concept.text, reason=answer.reason)
    counted, about = _rows(answer.evidence, "features"), _rows(answer.evidence, "about")
    features = []
    for place, feature in enumerate(answer.features):
        own = counted[place] if place < len(counted) else {}
        seen = about[place] if place < len(about) else {}
        features.append(_feature(str(feature), feature.dictionary, own, seen))
    return Label(answer.concept.id, answer.concept.text, answer.score, tuple(features))


def _feature(name: str, dictionary: str, own: Mapping[str, Json], seen: Mapping[str, Json]) -> LabelFeature:
    promotes, snippets = seen.get("promotes"), seen.get("snippets")
    return LabelFeature(
        name,
        measure=str(own.get("measure", "")),
        chosen_on=_table(own.get("chosen_on")),
        held_out=_table(own.get("held_out")),
        other_half=_other_half(own, dictionary),
        density=_number(own.get("density", seen.get("density"))),
        maximum=_number(own.get("maximum", seen.get("maximum"))),
        promotes=tuple(map(str, promotes)) if isinstance(promotes, list) else (),
        snippets=tuple(_snippet(row) for row in _rows({"rows": snippets}, "rows")[:MOST_SNIPPETS]),
    )


def _other_half(own: Mapping[str, Json], dictionary: str) -> str:
    """Return the feature that was chosen on the other half, ``none`` where none was, and nothing where that was not asked."""
    if "other_half" not in own:
        return ""
    other = own["other_half"]
    return f"{dictionary}/{other}" if isinstance(other, int) and not isinstance(other, bool) else "none"


def _snippet(row: Mapping[str, Json]) -> Snippet:
    """A passage: tokens with activations where they were kept, else the strongest token between what stands before and after it."""
    tokens = row.get("tokens")
    maximum = _number(row.get("activation")) or 0.0
    if isinstance(tokens, list) and all(isinstance(token, list) and len(token) == 2 for token in tokens):
        parts: Sequence[tuple[str, float | None]] = [(str(text), _number(value)) for text, value in tokens]
    else:
        parts = [(str(row.get("before", "")), None), (str(row.get("token", "")), maximum), (str(row.get("after", "")), None)]
    given = row.get("labels")
    return Snippet(str(row.get("text", "")), tuple(map(str, given)) if isinstance(given, list) else (), maximum, tuple(parts))


def _rows(evidence: Mapping[str, Json], name: str) -> list[Mapping[str, Json]]:
    """Return a list of objects of a labeler's evidence, which is any JSON; empty for anything else."""
    found = evidence.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _table(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None
