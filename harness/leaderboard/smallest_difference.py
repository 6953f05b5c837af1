"""The smallest difference of interest of each metric: a method that is ahead by less is not worth choosing for it.

A verdict is *no* where the interval of a method's lead over its control lies wholly below this difference. The values are ours; each has its
reason beside it. They are also what ``harness power`` plans for.
"""

from __future__ import annotations

from harness.leaderboard.values import MetricValue
from harness.types import EvaluationKind

STEERING = 0.05
"""Of AxBench's scores, 0 to 2: a text in twenty that gains two points, or one in ten that gains one. The published prompt rows, which depend on no
layer, lie .03 apart between two layers of one model, and .01 to .02 from a user's rerun; less than these says little of a method."""

AUROC = 0.02
"""Every AUROC: two more of a hundred pairs of texts in the right order. The published bag of words, which depends on no layer, lies .02 apart
between two layers of one model."""

THRESHOLDED = 0.05
"""Average precision, F1 and the other figures of detection: they depend on the few texts at the top, or on one threshold, and so move more."""

SHARE = 0.05
"""Of a dictionary's metric: this share of the way from the empty answer's value to the best one."""


def smallest_difference(kind: EvaluationKind, metric: str, value: MetricValue) -> float | None:
    """Return the smallest difference of interest in a metric's own unit, above 0; None where the metric has none.

    A dictionary's metric has one where both ends of the way are known: the value of the empty answer (``trivial``), and the bound in the better
    direction. A metric in which neither direction is better has none.

    Args:
        kind: of evaluation.
        metric: its name.
        value: any of its values, for trivial value, bounds and direction.
    """
    if value.higher_is_better is None:
        return None
    if kind == "steering":
        return STEERING
    if kind == "detection":
        return AUROC if metric.startswith("auroc") else THRESHOLDED
    best = value.bounds[1] if value.higher_is_better else value.bounds[0]
    if best is None or value.trivial is None or best == value.trivial:
        return None
    return SHARE * abs(best - value.trivial)
