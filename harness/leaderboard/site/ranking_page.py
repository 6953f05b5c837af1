"""From rankings to plain page data: the one place that knows how :mod:`harness.leaderboard.ranking` holds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.leaderboard.bridge import Bridge
from harness.leaderboard.columns import KINDS, heading, number
from harness.leaderboard.comparisons import AgainstControl
from harness.leaderboard.entry import STEERING_METRICS
from harness.leaderboard.notices import OFFLINE_NOTICE, abstention_notices, gone_judge, rough_scores
from harness.leaderboard.places import Group, Place
from harness.leaderboard.side_effects import NAMES, TITLES
from harness.leaderboard.site.limits import Limits
from harness.leaderboard.site.ranking_figures import dictionaries_of, figure_of, sparsity_of, sparsity_points
from harness.leaderboard.site.scores import ends
from harness.leaderboard.site.tables import Cell, Head, Line, Table, plain, significant
from harness.leaderboard.summary import pair_lines, spread_lines, verdict_of, verdicts, who_is_ahead
from harness.types import judge_title


@dataclass(frozen=True)
class Standing:
    """How a row of an entry stands in a ranking of a site."""

    ranking: str
    href: str
    name: str
    rank: str
    n: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """A ranking as the first page shows it. ``data`` is what filters find it by."""

    id: str
    title: str
    about: str
    kind: str
    data: dict[str, str]
    table: Table
    figures: dict[str, Any]
    notes: tuple[tuple[bool, str], ...]
    """True marks what must not be overlooked."""
    sentences: tuple[str, ...] = ()
    """Who is ahead of whom, and who beats its controls."""
    cautions: tuple[str, ...] = ()
    """What to be careful of in reading comparisons and verdicts."""
    pairs: tuple[str, ...] = ()
    """How the methods compare, pair by pair."""
    criteria: tuple[str, ...] = ()
    """When two count as apart, and when a method beats a control."""


RANDOM = "random"
"""What a method's own random control is called in a verdict (:class:`harness.leaderboard.comparisons.AgainstControl`)."""
_SHORT = 28
"""Letters."""
SENTENCES = 3
"""Methods that have a sentence on their controls above the table; the table has all."""

FILTERS = (("task", "task"), ("kind", "kind"), ("model", "model"), ("layer", "layer"), ("sae", "SAE"), ("judge", "judge"))
"""Names of what rows are filtered by, with what people call it."""
_BETWEEN = "\n"
"""Between the values of a row that has several, e.g. layers."""


def rankings(groups: Sequence[Group], pages: dict[str, str], limits: Limits, bridges: Sequence[Bridge] = ()) -> list[Ranking]:
    """Return what the first page shows of ``groups``.

    Args:
        groups: the best first within each.
        pages: the address of each entry's page, by the entry's id.
        limits: rows that are shown over all groups.
        bridges: between judges; each stands beside the rankings of either.
    """
    total = sum(len(group.places) for group in groups)
    share = min(1.0, limits.rows / total) if total else 1.0
    sparsity = sparsity_of(place.entry for group in groups for place in group.places)
    found = [_ranking(at, group, pages, sparsity, limits, share) for at, group in enumerate(groups, 1)]
    lines = [tuple((False, bridge.line(group.key)) for bridge in bridges if bridge.concerns(group.key)) for group in groups]
    return [replace(ranking, notes=(*ranking.notes, *own)) for ranking, own in zip(found, lines, strict=True)]


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Return rankings by task, those with the newest entries first, a task's kinds together."""
    newest: dict[tuple[str, str], str] = {}
    listed = list(groups)
    for group in listed:
        key = (group.key.task, group.key.version)
        newest[key] = max([newest.get(key, ""), *(entry.created for entry in group.entries)])
    kinds = sorted(listed, key=lambda group: KINDS.index(group.key.kind))
    return sorted(kinds, key=lambda group: (newest[group.key.task, group.key.version], group.key.task, group.key.version), reverse=True)


def filters(found: Sequence[Ranking]) -> dict[str, list[str]]:
    """Return what can be chosen of each filter, in order."""
    values: dict[str, dict[str, None]] = {name: {} for name, _ in FILTERS}
    for ranking in found:
        for line in ranking.table.lines:
            for name, value in {**ranking.data, **line.data}.items():
                if name in values:
                    values[name] |= dict.fromkeys(part for part in value.split(_BETWEEN) if part)
    return {name: sorted(own, key=lambda value: (len(value), value) if value.isdigit() else (0, value)) for name, own in values.items()}


def standings(groups: Sequence[Group]) -> dict[str, list[Standing]]:
    """Return how the rows of each entry stand, by the entry's id."""
    found: dict[str, list[Standing]] = {}
    for at, group in enumerate(groups, 1):
        n = sum(place.rank is not None for place in group.places)
        for place in group.places:
            notes = [line] if (line := verdict_of(place)) else []
            notes += [f"mean of {len(place.runs)} runs" for _ in [0] if len(place.runs) > 1]
            for run in place.runs:
                href = f"../index.html#ranking-{at}"
                found.setdefault(run.entry.id, []).append(Standing(_title(group), href, place.name, place.rank_text, n, tuple(notes)))
    return found


def sentences_of(groups: Sequence[Group], kind: str) -> tuple[list[str], list[str]]:
    """Return what the groups of one kind say of who is ahead and who beats its controls, and how that was tested."""
    own = [group for group in groups if group.key.kind == kind]
    said = [line for group in own for line in (who_is_ahead(group), *verdicts(group)) if line]
    criteria = [
        line for group in own for line in (*pair_lines(group), group.criterion if group.tested else "", group.verdict_criterion) if line
    ]
    return said, list(dict.fromkeys([*criteria, *(warning for group in own for warning in group.warnings)]))


def _ranking(at: int, group: Group, pages: dict[str, str], sparsity: dict[str, float], limits: Limits, share: float) -> Ranking:
    places = group.places[: max(1, round(len(group.places) * share))] if limits.rows else group.places[:20]
    limits.note(len(places), len(group.places), f"rows of the ranking {_title(group)}")
    judge = group.places[0].entry.judge if group.key.judge_key else None
    shown_judge = "" if judge is None else judge_title(judge.name, judge.options)
    metric = group.places[0].row.metrics[group.key.metric]
    better = {True: "higher is better", False: "lower is better", None: "neither direction is better"}[group.higher_is_better]
    about = [f"by {metric.title or heading(group.key.metric)}, {better}"]
    about += [f"judge {shown_judge} ({judge.rubric})"] if judge is not None else []
    about += [f"protocol {group.key.protocol}"] if group.key.protocol else []
    about += [f"concepts {group.key.mode}"] if group.key.kind != "dictionary" else []
    figures: dict[str, Any] = {f"ranking-{at}-figure": figure_of(group, places)}
    points = sparsity_points(places, sparsity)
    if len({point["dictionary"] for point in points}) > 1:
        figures[f"ranking-{at}-sparsity"] = {"type": "sparsity", "label": metric.title or heading(group.key.metric), "points": points}
    lines = tuple(_line(place, group, places, pages) for place in places)
    return Ranking(
        id=f"ranking-{at}",
        title=_title(group),
        about=" · ".join(about),
        kind=group.key.kind,
        data={"task": f"{group.key.task} {group.key.version}", "kind": group.key.kind, "judge": shown_judge},
        table=Table(f"ranking-{at}-table", f"{_title(group)} · {' · '.join(about)}", _heads(group, places), lines, names=1),
        figures=figures,
        notes=tuple(_notes(group, places)),
        sentences=tuple(line for line in (who_is_ahead(group), *verdicts(group)[:SENTENCES]) if line),
        pairs=(*pair_lines(group), *spread_lines(group)),
        cautions=group.warnings,
        criteria=tuple(line for line in (group.criterion if group.tested else "", group.verdict_criterion) if line),
    )  # fmt: skip


def _title(group: Group) -> str:
    key = group.key
    return f"{key.task} {key.version}: {key.kind}" + (f", {heading(key.metric)}" if key.kind == "dictionary" else "") + f" ({key.split})"


# -------------------------------------------------------------------------------------------------------------------------- table


def _others(group: Group, places: Sequence[Place]) -> list[str]:
    """Return the metrics that stand beside the score."""
    if group.key.kind == "steering":
        return list(STEERING_METRICS[1:])
    found = dict.fromkeys(name for place in places for name in place.row.metrics)
    return [name for name in found if name != group.key.metric and not name.startswith(("precision", "recall"))][:6]


def _has_side_effects(places: Sequence[Place]) -> bool:
    return any(place.row.side_effects is not None for place in places)


def _heads(group: Group, places: Sequence[Place]) -> tuple[Head, ...]:
    metric = group.places[0].row.metrics
    score = metric[group.key.metric].title or heading(group.key.metric)
    dictionary = group.key.kind == "dictionary"
    heads = [Head("rank"), Head("dictionary" if dictionary else "method", True), Head(score), Head("95 % interval")]
    heads += [Head(metric[name].title or heading(name) if name in metric else heading(name)) for name in _others(group, places)]
    heads += [Head("trivial"), Head("random")] if dictionary else []
    heads += [Head(TITLES[name]) for name in NAMES] if _has_side_effects(places) else []
    heads += [Head("beats random", True), Head("beats the other controls", True)] if _has_verdicts(group) else []
    heads += [Head("win rate")] if any(place.win_rate is not None for place in group.places) else []
    heads += [Head("answered"), Head("model", True), Head("layer"), Head("SAE", True), Head("seed"), Head("date", True)]
    return tuple(heads)


def _line(place: Place, group: Group, places: Sequence[Place], pages: dict[str, str]) -> Line:
    row, entry, number_of = place.row, place.entry, significant if group.key.kind == "dictionary" else plain
    own = dictionaries_of(entry, row)
    score = place.score
    cells = [Cell(place.rank_text, None if place.rank is None else sum(place.rank) / 2), _name(place, pages)]
    cells += [number_of(score.value), Cell(_ends(place), score.low)]
    cells += [number_of(row.metrics[name].value if name in row.metrics else None) for name in _others(group, places)]
    if group.key.kind == "dictionary":
        cells += [significant(score.trivial), significant(score.random)]
    if _has_side_effects(places):
        beside = row.side_effects.metrics if row.side_effects is not None else {}
        cells += [significant(beside[name].value if name in beside else None) for name in NAMES]
    if _has_verdicts(group):
        cells += [
            _verdict([found for found in place.against if found.name == RANDOM]),
            _verdict([found for found in place.against if found.name != RANDOM]),
        ]
    if any(other.win_rate is not None for other in group.places):
        cells.append(plain(None if place.win_rate is None else place.win_rate.value, 2))
    layers = ", ".join(str(layer) for layer in sorted({one.layer for one in own}))
    cells += [
        Cell(f"{row.n_answered}/{row.n_items}", row.coverage),
        _short_words(entry.model.name),
        Cell(layers or "–", float(own[0].layer) if own else None),
    ]
    cells += [_short_words(", ".join(one.name for one in own)), _seeds(place), _short_words(entry.created[:10])]
    data = {
        "model": entry.model.name,
        "layer": _BETWEEN.join(str(one.layer) for one in own),
        "sae": _BETWEEN.join(one.name for one in own),
    }
    css = "control" if place.standing == "control" else "dim" if place.standing == "ineligible" else ""
    return Line(tuple(cells), data, css)


def _short_words(text: str) -> Cell:
    """Return a cell that is not folded, unless it is long."""
    return Cell(text or "–", css="nowrap" if len(text) <= _SHORT else "")


def _has_verdicts(group: Group) -> bool:
    return any(place.against for place in group.places)


def _verdict(found: Sequence[AgainstControl]) -> Cell:
    """Return the answers against some controls; each control's name stands behind its answer where it is not the method's own."""
    if not found:
        return Cell("–")
    css = "good" if all(one.answer == "yes" for one in found) else ""
    if all(one.name == RANDOM for one in found):
        return Cell(", ".join(dict.fromkeys(one.answer for one in found)), css=css, mark=" ".join(_lead(one) for one in found))
    answers: dict[str, list[str]] = {}
    for one in found:
        answers.setdefault(one.answer, []).append(one.name)
    return Cell("; ".join(f"{answer}: {', '.join(names)}" for answer, names in answers.items()), css=f"verdict {css}".strip())


def _lead(found: AgainstControl) -> str:
    interval = "" if found.low is None else f" {ends(found.low, found.high, 2)}"
    return "" if found.difference is None else f"{number(found.difference, 2)}{interval}"


def _seeds(place: Place) -> Cell:
    """Return the seeds of a method's runs, with the spread of their scores."""
    seeds = list(dict.fromkeys(run.entry.seed for run in place.runs))
    shown = ", ".join(map(str, seeds[:4])) + (", …" if len(seeds) > 4 else "")
    spread = "" if place.spread.sd is None else f"SD {number(place.spread.sd)} of {place.spread.n} runs"
    return Cell(shown, float(seeds[0]), mark=spread)


def _name(place: Place, pages: dict[str, str]) -> Cell:
    marks = {"control": "control", "unpaired": "unpaired", "ineligible": "in-sample" if place.row.in_sample else "not eligible"}
    return Cell(place.name, href=pages.get(place.entry.id, ""), mark=marks.get(place.standing, ""))


def _ends(place: Place) -> str:
    score = place.score
    if place.row.kind != "dictionary" or score.low is None:
        return ends(score.low, score.high, 2)
    return f"[{significant(score.low).text}, {significant(score.high).text}]"


# -------------------------------------------------------------------------------------------------------------------------- notes


def _notes(group: Group, places: Sequence[Place]) -> list[tuple[bool, str]]:
    found = [(True, OFFLINE_NOTICE)] if group.offline else []
    found += [(True, line) for line in gone_judge(group.places[0].entry.judge if group.key.judge_key else None)]
    if group.unpaired:
        found.append((True, "unpaired: other methods of this task chose other concepts; these rankings are not held against each other"))
    if group.varies:
        found.append((True, f"these entries differ in: {', '.join(group.varies)}"))
    found += [(False, line) for line in abstention_notices(place.row for place in places)]
    found += [(False, line) for line in rough_scores(places)]
    found += [(False, f"{place.name} is not eligible: {'; '.join(place.reasons)}") for place in places if place.standing == "ineligible"]
    return found
