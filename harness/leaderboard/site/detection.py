"""What a detection run's page shows beyond its scores: ROC curves and histograms of scores."""

from __future__ import annotations

from harness.leaderboard.site.details import Detected, RunDetails
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.scores import Section
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.site.tables import Head, Table, plain, rows_of, words

_AT = (0.01, 0.05, 0.1, 0.2, 0.5)
"""False positive rates of the table."""


def add_detected(section: Section, details: RunDetails, limits: Limits) -> None:
    """Add ROC curves, as a figure and a table, and histograms of scores."""
    known = section.of_id
    found = [one for one in details.detected if one.method in known]
    if not found:
        return
    texts = {item.id: item.text for row in section.rows for item in row.items}
    all_of_them = list(dict.fromkeys(concept for one in found for concept in one.concepts))
    concepts = spread_out(all_of_them, limits.drawn)
    limits.note(len(concepts), len([item for item in texts if item]), "concepts with a ROC curve and a histogram")
    section.figures["detection-roc"] = {
        "type": "roc",
        "concepts": [texts.get(concept, concept) for concept in concepts],
        "series": [
            {
                "name": known[one.method].name,
                "colour": known[one.method].colour,
                "control": known[one.method].control,
                "mean": one.roc,
                "concepts": [one.concepts[concept].roc if concept in one.concepts else None for concept in concepts],
            }
            for one in found
        ],
    }
    section.figures["detection-histogram"] = {
        "type": "histogram",
        "concepts": [texts.get(concept, concept) for concept in concepts],
        "series": [
            {
                "name": known[one.method].name,
                "concepts": [
                    None
                    if concept not in one.concepts
                    else {
                        "edges": one.concepts[concept].edges,
                        "positives": one.concepts[concept].positives,
                        "negatives": one.concepts[concept].negatives,
                    }
                    for concept in concepts
                ],
            }
            for one in found
        ],
    }
    section.tables["roc"] = _table(section, found)


def _table(section: Section, found: list[Detected]) -> Table:
    """Return the true positive rate of each method at a few false positive rates."""
    lines = [[words(section.of_id[one.method].name), *(plain(_at(one, rate)) for rate in _AT)] for one in found]
    heads = (Head("method", True), *(Head(f"at {rate:g}") for rate in _AT))
    return Table("detection-roc-table", "True positive rate at a false positive rate, mean over concepts", heads, rows_of(lines))


def _at(one: Detected, rate: float) -> float:
    """Return the true positive rate at a false positive rate, between the points of the curve by a line."""
    points = one.roc[1:]  # the first stands for the corner
    after = next(place for place, (x, _) in enumerate(points) if x >= rate)
    (x0, y0), (x1, y1) = points[max(after - 1, 0)], points[after]
    return y1 if x1 == x0 else y0 + (y1 - y0) * (rate - x0) / (x1 - x0)
