"""Dictionaries beside their controls on a page: the figure with every seed, and the table of all differences."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from harness.leaderboard.against_arm import AgainstArm
from harness.leaderboard.arms import arm_of, seeds_of
from harness.leaderboard.arms_table import controls_of, metric_name
from harness.leaderboard.entry import Row
from harness.leaderboard.site.tables import Cell, Head, Table, rows_of, significant, words
from harness.leaderboard.subject import TRAINED

FIGURE = "dictionary-arms"
_BETTER = {True: "higher is better", False: "lower is better", None: "neither is better"}


def compared_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the trained dictionaries' rows that have a control beside them."""
    return [row for row in rows if arm_of(row) == TRAINED and row.against]


def arms_figure(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return a panel for each dictionary under each metric: the trained one and its controls, each seed a dot; None without a control."""
    compared = compared_rows(rows)
    names = {row.subject.dictionary for row in compared}  # type: ignore[union-attr]
    panels = [_panel(row, controls_of(row, rows), len(names) > 1) for row in compared]
    return {"type": "arms", "panels": panels} if panels else None


def _panel(row: Row, controls: dict[str, Row], several: bool) -> dict[str, Any]:
    score = row.score
    unit = f" ({score.unit})" if score.unit else ""
    random = controls.get("random")
    return {
        "title": metric_name(row) + unit + (f", {row.subject.dictionary}" if several else ""),  # type: ignore[union-attr]
        "better": _BETTER[score.higher_is_better],
        "bounds": list(score.bounds),
        "trivial": score.trivial,
        "random": random.score.value if random is not None else None,
        "arms": [_arm(TRAINED, row), *(_arm(name, control) for name, control in controls.items())],
    }


def _arm(name: str, row: Row) -> dict[str, Any]:
    seeds = [{"seed": seed, "value": fmean(own.values)} for seed, own in seeds_of(row).items() if own.values]
    return {"name": name, "control": name != TRAINED, "value": row.score.value, "low": row.score.low, "high": row.score.high, "seeds": seeds}


def arms_table(rows: Sequence[Row], name: str) -> Table:
    """Return a line for each arm of each metric: value, and how far the trained dictionary is ahead of it, over seeds and over items."""
    lines = []
    compared = compared_rows(rows)
    several = len({row.subject.dictionary for row in compared}) > 1  # type: ignore[union-attr]
    for row in compared:
        against = {one.arm: one for one in row.against}
        for arm, own in {TRAINED: row, **controls_of(row, rows)}.items():
            seeds = sum(bool(values.values) for values in seeds_of(own).values())
            cells = [words(metric_name(row)), *([words(row.subject.dictionary)] if several else []), Cell(arm, css="nowrap")]  # type: ignore[union-attr]
            cells += [significant(own.score.value), Cell(_ends(own.score.low, own.score.high)), Cell(str(seeds), float(seeds))]
            lines.append([*cells, *_against(against.get(arm), row.item), significant(own.score.trivial), words(_note(against.get(arm)))])
    heads = (
        Head("metric", True), *([Head("dictionary", True)] if several else []), Head("arm", True), Head("value"),
        Head("interval", title="over seeds"), Head("seeds"), Head("beats it", True, "whether the trained dictionary does"),
        Head("lead", title="of the trained dictionary, mean over pairs of seeds"),
        Head("over items", title="mean lead over items, with its interval"), Head("items"),
        Head("seeds ahead", title="pairs of seeds in which it leads"), Head("trivial", title="of the empty answer"), Head("note", True),
    )  # fmt: skip
    return Table(name, "Trained dictionaries beside their controls", heads, rows_of(lines))


def _against(found: AgainstArm | None, item: str) -> list[Cell]:
    if found is None:
        return [Cell("–")] * 5
    known = found.low is not None
    over_items = Cell(f"{_short(found.mean)} [{_short(found.low)}, {_short(found.high)}]" if known else "–", found.mean)
    items = Cell(f"{found.n_items} {item or 'item'}s" if known else "–", float(found.n_items))
    ahead = Cell(f"{found.n_ahead} of {len(found.pairs)}", float(found.n_ahead))
    return [Cell(found.answer, css="good" if found.answer == "yes" else "nowrap"), significant(found.difference), over_items, items, ahead]


def _note(found: AgainstArm | None) -> str:
    return "" if found is None else "; ".join(part for part in (found.reason, found.warning) if part)


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _ends(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"[{significant(low).text}, {significant(high).text}]"
