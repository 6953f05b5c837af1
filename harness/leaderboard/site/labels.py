"""What a page shows of labels: scores on the texts that chose them and on others, where their features fire, whether both halves agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.leaderboard.columns import heading
from harness.leaderboard.site.details import Label, LabelFeature, Labels, RunDetails, Snippet
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.site.tables import Cell, Head, Table, plain, rows_of, significant, words
from harness.types import Json

_STEPS = 6
"""Shades of a token's activation, 0 for none."""


def labels_of(details: RunDetails, limits: Limits) -> list[dict[str, Any]]:
    """Return what is shown of each labeler."""
    return [_labeler(place, one, limits) for place, one in enumerate(details.labels)]


def _labeler(place: int, one: Labels, limits: Limits) -> dict[str, Any]:
    shown = spread_out(one.labels, limits.rows)
    limits.note(len(shown), len(one.labels), f"labels of {one.labeler}")
    passages = [label for label in one.labels if any(feature.snippets for feature in label.features)]
    seen = spread_out(passages, limits.texts)
    limits.note(len(seen), len(passages), f"labels of {one.labeler} with passages")
    return {
        "labeler": one.labeler,
        "agreement": one.agreement,
        "n_compared": one.n_compared,
        "table": _table(place, one.labeler, shown),
        "passages": [{"text": label.text, "features": [_passages(feature, limits) for feature in label.features]} for label in seen],
    }


def _table(place: int, labeler: str, labels: list[Label]) -> Table:
    measures = list(dict.fromkeys(feature.measure for label in labels for feature in label.features if feature.measure))
    compared = any(feature.other_half for label in labels for feature in label.features)
    heads = [
        Head("concept", True),
        Head("feature", True),
        Head("score on the texts that chose"),
        Head("on the others"),
        Head("precision there"),
    ]
    heads += [Head("recall there"), Head("AUROC there"), Head("texts with the concept there"), Head("fires on, % of tokens")]
    heads += [Head("chosen on the other half", True)] if compared else []
    lines = []
    for label in labels:
        if not label.features:
            lines.append([words(label.text), words(f"abstained: {label.reason}"), *[Cell("–")] * (len(heads) - 2)])
        for number, feature in enumerate(label.features):
            held = feature.held_out
            cells = [
                words(label.text),
                words(feature.feature),
                plain(_value(feature.chosen_on, "score", label.score if not number else None)),
            ]
            auroc = "auroc_maximum" if feature.measure == "auroc_maximum" else "auroc_frequency"
            cells += [plain(_value(held, name)) for name in ("score", "precision", "recall", auroc)]
            cells += [significant(_value(held, "support")), significant(None if feature.density is None else 100 * feature.density)]
            if compared:
                same = feature.other_half == feature.feature
                cells.append(Cell("the same" if same else feature.other_half or "–", css="good" if same else ""))
            lines.append(cells)
    by = f" by {' and '.join(map(heading, measures))}" if measures else ""
    return Table(f"labels-{place}", f"Labels of {labeler}{by}", tuple(heads), rows_of(lines))


def _value(table: Mapping[str, Json], name: str, default: float | None = None) -> float | None:
    found = table.get(name, default)
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def _passages(feature: LabelFeature, limits: Limits) -> dict[str, Any]:
    return {
        "feature": feature.feature,
        "promotes": feature.promotes,
        "snippets": [_snippet(snippet, limits) for snippet in feature.snippets],
    }


def _snippet(snippet: Snippet, limits: Limits) -> dict[str, Any]:
    """Return a passage with a shade for each token, from 0 to the last at its largest activation."""
    top = max((abs(value) for _, value in snippet.tokens if value is not None), default=0.0)
    tokens = [
        {
            "text": limits.cut(text),
            "shade": 0 if value is None or not top else round(_STEPS * abs(value) / top),
            "value": "" if value is None else f"{value:.3g}",
        }
        for text, value in snippet.tokens
    ]
    return {"text_id": snippet.text_id, "labels": ", ".join(snippet.labels), "maximum": f"{snippet.maximum:.3g}", "tokens": tokens}
