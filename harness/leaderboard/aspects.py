"""How robust a detector is against other concepts in a text, as an entry has it: numbers over base texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import Field, model_validator

from harness.leaderboard.values import TOLERANCE, MetricValue, metric_value
from harness.scoring.aspects import AUROCS, NAMES, RIGHT
from harness.store.manifest import Part, Text

TITLES = {
    AUROCS[0]: "AUROC, target removed", AUROCS[1]: "AUROC, others removed", AUROCS[2]: "AUROC, further added", RIGHT: "right in all variants",
}  # fmt: skip
TRIVIAL = {**dict.fromkeys(AUROCS, 0.5), RIGHT: 0.0}


class AspectItem(Part):
    """What a method got on one base text and its variants (of draws, the mean)."""

    id: Text
    concept: Text
    values: dict[Text, float | None] = Field(default_factory=dict)
    """By :data:`harness.scoring.aspects.NAMES`; null where there is no threshold."""


class Aspects(Part):
    """A method on a set of base texts and their variants; a concept that it abstains from counts as a constant score does."""

    texts: Text
    """Digest of the set."""
    metrics: dict[Text, MetricValue]
    items: tuple[AspectItem, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Aspects:
        for name, metric in self.metrics.items():
            known = [value for item in self.items if (value := item.values.get(name)) is not None]
            if metric.value is not None and known and abs(math.fsum(known) / len(known) - metric.value) > TOLERANCE:
                raise ValueError(f"{name} is {metric.value}, but the base texts' average to {math.fsum(known) / len(known)}")
        return self

    @property
    def line(self) -> str:
        """Return what was asked, for people."""
        return (
            f"aspects: {len(self.items)} base texts; AUROC of the texts with the target (base text; without the others; with further concepts) "
            "against those without it; right in all variants at the threshold of F1 at 1:1, which the threshold part chose; intervals over base texts"
        )


def over_texts(digest: str, items: Sequence[AspectItem], seed: int = 0) -> Aspects:
    """Return the numbers of a method from what it got on each base text, with intervals over base texts."""
    metrics = {}
    for name in NAMES:
        values = [item.values.get(name) for item in items]
        metrics[name] = metric_value(
            values, title=TITLES[name], bounds=(0.0, 1.0), higher_is_better=True, trivial=TRIVIAL[name], seed=seed, item="base text",
            empty="no base text has one of the concepts",
        )  # fmt: skip
    return Aspects(texts=digest, metrics=metrics, items=tuple(items))


def merged(parts: Sequence[Aspects | None]) -> Aspects | None:
    """Return several runs of one method as one, each base text's values their means; None where the texts differ."""
    known = [part for part in parts if part is not None]
    if not known or len({part.texts for part in known}) > 1:
        return None
    by_text: dict[str, list[AspectItem]] = {}
    for part in known:
        for item in part.items:
            by_text.setdefault(item.id, []).append(item)
    return known[0] if len(known) == 1 else over_texts(known[0].texts, [mean_of(own) for own in by_text.values()])


def mean_of(parts: Sequence[AspectItem]) -> AspectItem:
    """Return the mean of one base text's draws or runs."""
    values: dict[str, float | None] = {}
    for name in NAMES:
        known = [value for part in parts if (value := part.values.get(name)) is not None]
        values[name] = math.fsum(known) / len(known) if known else None
    return AspectItem(id=parts[0].id, concept=parts[0].concept, values=values)
