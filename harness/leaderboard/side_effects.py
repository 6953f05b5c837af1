"""What steering costs beside the concept, as an entry has it: numbers over concepts, each at its chosen strength, beside the unsteered model's."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from harness.leaderboard.values import TOLERANCE, Limits, MetricValue, metric_value
from harness.store.manifest import Count, Part, Text

if TYPE_CHECKING:
    from harness.scoring.checks import IntArray

KL, PERPLEXITY, ACCURACY = "kl", "perplexity_ratio", "accuracy_change"
NAMES = (KL, PERPLEXITY, ACCURACY)
TITLES = {KL: "KL, nats per token", PERPLEXITY: "perplexity ratio", ACCURACY: "accuracy change"}
NOT_MEASURABLE = "not measurable"
_LARGEST = 300.0
"""A log of a ratio beyond which nothing is told apart."""
_BOUNDS: Mapping[str, Limits] = {KL: (0.0, None), PERPLEXITY: (0.0, None), ACCURACY: (-1.0, 1.0)}
_TRIVIAL = {KL: 0.0, PERPLEXITY: 1.0, ACCURACY: 0.0}


class SideEffectItem(Part):
    """What was measured for one concept, the mean over its draws where it has several (of perplexity ratios the geometric one)."""

    id: Text
    strength: float | None = None
    """The strength that was measured; null where draws differ, and where none was."""
    values: dict[Text, float | None] = Field(default_factory=dict)
    """``kl``, ``perplexity_ratio``, ``accuracy_change``; null where it could not be measured."""
    reason: str = ""
    """Why a number is missing."""

    @model_validator(mode="after")
    def _explained(self) -> SideEffectItem:
        if any(self.values.get(name) is None for name in NAMES) and not self.reason:
            raise ValueError(f"side effects of {self.id!r}: a missing number needs a reason")
        return self


class SideEffects(Part):
    """Side effects of one method, at the strength of each concept that its ratings have chosen; nothing is chosen by them."""

    texts: Text
    """Digest of the passages and questions, and of how they are read: other digests are not to be compared."""
    n_passages: Count
    n_tokens: Count
    n_questions: Count
    perplexity: Annotated[float, Field(gt=0)]
    """Of the unsteered model on the passages."""
    accuracy: MetricValue
    """Of the unsteered model on the questions, its interval over questions; ``trivial`` is the accuracy of guessing."""
    metrics: dict[Text, MetricValue]
    """``kl``: mean KL(unsteered ‖ steered), nats per token. ``perplexity_ratio``: steered by unsteered. ``accuracy_change``: less unsteered."""
    items: tuple[SideEffectItem, ...]
    """One for each concept that was answered."""

    @model_validator(mode="after")
    def _consistent(self) -> SideEffects:
        if set(self.metrics) != set(NAMES):
            raise ValueError(f"side effects have the metrics {', '.join(NAMES)}; there are {', '.join(self.metrics) or 'none'}")
        for name, metric in self.metrics.items():
            if metric.value is not None and (mean := _mean(name, self.items)) is not None and not math.isclose(
                mean, metric.value, rel_tol=TOLERANCE, abs_tol=TOLERANCE
            ):
                raise ValueError(f"{name} is {metric.value}, but the concepts' average to {mean}")
        return self

    @property
    def line(self) -> str:
        """Return what was measured, for people."""
        accuracy = self.accuracy
        ends = "" if accuracy.low is None else f" [{accuracy.low:.2f}, {accuracy.high:.2f}]"
        return (
            f"side effects at each concept's chosen strength, which they do not choose: KL and perplexity on {self.n_passages} neutral passages of "
            f"{self.n_tokens:,} tokens (unsteered perplexity {self.perplexity:.1f}), accuracy on {self.n_questions} questions (unsteered "
            f"{accuracy.value:.2f}{ends}, chance {accuracy.trivial:.2f})"
        )


def over_concepts(
    items: Sequence[SideEffectItem], clusters: Sequence[Hashable] | IntArray | None, seed: int, not_measurable: str = ""
) -> dict[str, MetricValue]:
    """Return the numbers of a method, with intervals over concepts; the perplexity ratio is the geometric mean.

    Args:
        items: of its concepts.
        clusters: which of them belong together.
        seed: of the bootstrap.
        not_measurable: why accuracy cannot be measured; empty where it can.
    """
    found = {}
    for name in NAMES:
        scale: dict[str, Any] = {"title": TITLES[name], "unit": "nats" if name == KL else "", "bounds": _BOUNDS[name], "trivial": _TRIVIAL[name]}
        scale["higher_is_better"] = name == ACCURACY
        if name == ACCURACY and not_measurable:
            found[name] = MetricValue.model_validate({"value": None, "reason": not_measurable, **scale})
        elif name == PERPLEXITY:
            logs = [None if (value := item.values.get(name)) is None else math.log(value) for item in items]
            log = metric_value(logs, clusters, seed=seed, empty="no concept was measured")
            ends = {end: None if (value := getattr(log, end)) is None else math.exp(min(value, _LARGEST)) for end in ("value", "low", "high")}
            about = {"interval_method": log.interval_method, "reason": log.reason, "warning": log.warning}
            found[name] = MetricValue.model_validate({**ends, **scale, **about})
        else:
            values = [item.values.get(name) for item in items]
            found[name] = metric_value(values, clusters, seed=seed, empty="no concept was measured", **scale)
    return found


def merged(parts: Sequence[SideEffects | None], seed: int = 0) -> SideEffects | None:
    """Return the side effects of several runs of one method as one: each concept's values are means over the runs; None where texts differ."""
    known = [part for part in parts if part is not None]
    if not known or len({part.texts for part in known}) > 1:
        return None
    if len(known) == 1:
        return known[0]
    by_concept: dict[str, list[SideEffectItem]] = {}
    for part in known:
        for item in part.items:
            by_concept.setdefault(item.id, []).append(item)
    items = tuple(mean_of(name, own) for name, own in by_concept.items())
    why = next((metric.reason for part in known if (metric := part.metrics[ACCURACY]).value is None), "")
    return known[-1].model_copy(update={"items": items, "metrics": over_concepts(items, None, seed, why if why.startswith(NOT_MEASURABLE) else "")})


def mean_of(concept: str, parts: Sequence[SideEffectItem]) -> SideEffectItem:
    """Return the mean of a concept's draws or runs."""
    values = {name: _mean(name, parts) for name in NAMES}
    strengths = {part.strength for part in parts}
    reasons = list(dict.fromkeys(part.reason for part in parts if part.reason))
    strength = strengths.pop() if len(strengths) == 1 else None
    return SideEffectItem(id=concept, strength=strength, values=values, reason="; ".join(reasons) if None in values.values() else "")


def _mean(name: str, items: Sequence[SideEffectItem]) -> float | None:
    known = [value for item in items if (value := item.values.get(name)) is not None]
    if not known:
        return None
    if name == PERPLEXITY:
        return math.exp(min(math.fsum(math.log(value) for value in known) / len(known), _LARGEST))
    return math.fsum(known) / len(known)
