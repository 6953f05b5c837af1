"""What a steering run's page shows beyond its scores: curves, the trade-off, ratings, texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.leaderboard.columns import number
from harness.leaderboard.entry import Row
from harness.leaderboard.site.details import BINS, ConceptTexts, Curve, RunDetails, Text
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.scores import Method, Section
from harness.leaderboard.site.selection import spread_out
from harness.leaderboard.site.tables import Cell, Head, Table, plain, rows_of, words

ASPECTS = ("overall", "concept", "instruction", "fluency")


def add_curves(section: Section, details: RunDetails, limits: Limits) -> None:
    """Add the figures and tables of the ratings by strength, and of how they are distributed."""
    known = section.of_id
    curves = [curve for curve in details.curves if curve.method in known and any(row[0] is not None for row in curve.mean)]
    if not curves:
        return
    series = [_series(known[curve.method], curve) for curve in curves]
    section.figures["steering-curves"] = {"type": "curves", "aspects": ASPECTS, "series": series}
    section.figures["steering-tradeoff"] = {"type": "tradeoff", "series": series}
    section.figures["steering-multiples"] = _multiples(section, curves, limits)
    section.figures["steering-ratings"] = _ratings(known, curves)
    section.tables["strengths"] = _strengths(known, curves)
    section.tables["ratings"] = _counts(known, curves)


def _series(method: Method, curve: Curve) -> dict[str, Any]:
    points = [
        {"s": strength, **dict(zip(ASPECTS, map(_short, row), strict=True))}
        for strength, row in zip(curve.strengths, curve.mean, strict=True)
    ]
    return {**_named(method), "unit": _unit(curve.unit), "points": points}


def _unit(unit: str) -> str:
    return {"none": "", "residual-norm": "× residual norm"}.get(unit, unit.replace("-", " "))


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _multiples(section: Section, curves: Sequence[Curve], limits: Limits) -> dict[str, Any]:
    """Return the overall rating by strength of each concept; those of the methods that have several strengths."""
    known = section.of_id
    texts = {item.id: item.text for row in section.rows for item in row.items}
    best = _best_first(section.rows, [concept for concept in texts if any(concept in curve.concepts for curve in curves)])
    chosen = spread_out(best, limits.drawn)
    limits.note(len(chosen), len(best), "concepts with a chart of their own")
    wide = [curve for curve in curves if len(curve.strengths) > 1]
    return {
        "type": "multiples",
        "series": [{**_named(known[curve.method]), "strengths": curve.strengths} for curve in wide],
        "concepts": [
            {"name": texts[concept], "values": [[_short(row[0]) for row in curve.concepts.get(concept, ())] for curve in wide]}
            for concept in chosen
        ],
    }


def _named(method: Method) -> dict[str, Any]:
    return {"name": method.name, "colour": method.colour, "control": method.control}


def _best_first(rows: Sequence[Row], concepts: Sequence[str]) -> list[str]:
    """Return concepts in the order of the first method's score, the best first."""
    first = next((row for row in rows if row.role == "method"), rows[0])
    values = {item.id: item.values.get(first.primary) for item in first.items}
    return sorted(concepts, key=lambda concept: -(values.get(concept) or 0.0))


def _ratings(known: Mapping[str, Method], curves: Sequence[Curve]) -> dict[str, Any]:
    return {
        "type": "ratings",
        "aspects": ASPECTS,
        "bins": BINS,
        "rows": [{**_named(known[curve.method]), "counts": [list(curve.counts[name]) for name in ASPECTS]} for curve in curves],
    }


def _strengths(known: Mapping[str, Method], curves: Sequence[Curve]) -> Table:
    lines = [
        [words(known[curve.method].name), Cell(f"{strength:g}", strength), *(plain(value, 2) for value in row)]
        for curve in curves
        for strength, row in zip(curve.strengths, curve.mean, strict=True)
    ]
    heads = (Head("method", True), Head("strength"), *(Head(name) for name in ASPECTS))
    note = "Means over concepts of the means over their texts, without a choice of strength; the score above chooses one for each concept."
    return Table("steering-strengths", "Ratings by strength", heads, rows_of(lines), note)


def _counts(known: Mapping[str, Method], curves: Sequence[Curve]) -> Table:
    """Return how many texts got which rating; bins in which no text of any method lies are left out."""
    used = [place for place in range(len(BINS)) if any(curve.counts[name][place] for curve in curves for name in ASPECTS)]
    lines = [
        [words(known[curve.method].name), words(name), *(Cell(str(curve.counts[name][place]), curve.counts[name][place]) for place in used)]
        + [Cell(str(curve.n_unrated + curve.n_pending), curve.n_unrated + curve.n_pending)]
        for curve in curves
        for name in ASPECTS
    ]
    heads = (Head("method", True), Head("rating of", True), *(Head(f"{BINS[place]:g}") for place in used), Head("unrated"))
    return Table("steering-ratings-table", "Texts by rating", heads, rows_of(lines))


# -------------------------------------------------------------------------------------------------------------------------- texts


def texts_of(section: Section, details: RunDetails, limits: Limits) -> list[dict[str, Any]]:
    """Return the texts that a page shows, concept by concept."""
    known = section.of_id
    best = _best_first(section.rows, [one.concept for one in details.texts])
    by_concept = {one.concept: one for one in details.texts}
    chosen = spread_out(best, limits.texts)
    limits.note(len(chosen), details.n_concepts_with_texts, "concepts with texts")
    values = {
        method.id: {item.id: item.values.get(row.primary) for item in row.items}
        for method, row in zip(section.methods, section.rows, strict=True)
    }
    return [_concept(by_concept[concept], known, values, limits) for concept in chosen]


def _concept(
    one: ConceptTexts, known: Mapping[str, Method], values: Mapping[str, Mapping[str, float | None]], limits: Limits
) -> dict[str, Any]:
    scored = [(known[name], values[name].get(one.concept)) for name in one.methods if name in known]
    best = [f"{method.name} {number(value, 2)}" for method, value in scored if value is not None and not method.control]
    return {
        "concept": limits.cut(one.text),
        "instruction": limits.cut(one.instruction),
        "summary": ", ".join(best),
        "unsteered": None if one.unsteered is None else _text(one.unsteered, limits),
        "methods": [
            {"method": known[name], "texts": [_text(text, limits) for text in rows]} for name, rows in one.methods.items() if name in known
        ],
    }


def _text(text: Text, limits: Limits) -> dict[str, Any]:
    return {
        "strength": f"{text.strength:g}",
        "text": limits.cut(text.text),
        "overall": text.overall,
        "ratings": [] if text.ratings is None else list(zip(ASPECTS[1:], (f"{value:g}" for value in text.ratings), strict=True)),
        "said": limits.cut(text.said),
    }


def samples_of(rows: Sequence[Row], limits: Limits) -> list[dict[str, Any]]:
    """Return the few texts that an entry holds, for a page without the run's file."""
    found = []
    for row in rows:
        for sample in row.samples:
            ratings = [(name, f"{value:g}") for name, value in (sample.ratings or {}).items()]
            text = {
                "strength": f"{sample.strength:g}",
                "text": limits.cut(sample.text),
                "overall": sample.overall,
                "ratings": ratings,
                "said": "",
            }
            about = {"concept": limits.cut(sample.concept_text), "instruction": limits.cut(sample.instruction)}
            found.append({"method": row.subject.name, "place": sample.place or "", **about, "text": text})
    chosen = spread_out(found, limits.rows)
    limits.note(len(chosen), len(found), "sample texts")
    return chosen
