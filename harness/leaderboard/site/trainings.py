"""What a run's page shows of trainings: losses over steps as a figure, and in a table how they began and ended."""

from __future__ import annotations

from typing import Any

from harness.leaderboard.site.details import LossCurve, RunDetails
from harness.leaderboard.site.tables import Cell, Head, Table, plain, rows_of, words

FIGURE = "training-losses"
_SHOWN = 10
NAMES = {"loss": "training", "held_out": "held out"}


def training_figure(details: RunDetails | None) -> dict[str, Any] | None:
    """Return the figure of the losses, a panel for each plugin; None for a run without trainings."""
    if details is None or not details.trainings:
        return None
    panels = [
        {"name": one.name, "points": [{"loss": title, **point} for key, title in NAMES.items() for point in _points(one.steps, getattr(one, key))]}
        for one in details.trainings
    ]
    return {"type": "training", "panels": panels}


def training_table(details: RunDetails | None) -> Table | None:
    """Return how each plugin's trainings began and ended, means over concepts; None for a run without trainings."""
    if details is None or not details.trainings:
        return None
    ends = [Head(f"{title}, {end}") for title in NAMES.values() for end in ("first", "last")]
    heads = (Head("trained", True), Head("concepts"), Head("steps"), *ends, Head("diverged", True))
    lines = [
        [words(one.name), plain(one.concepts, 0), plain(one.steps[-1], 0), *_ends(one.loss), *_ends(one.held_out), words(_named(one.diverged))]
        for one in details.trainings
    ]
    return Table("training-table", "Losses in training and on held-out examples, means over concepts", heads, rows_of(lines))


def _named(concepts: tuple[str, ...]) -> str:
    more = f" and {len(concepts) - _SHOWN} more" if len(concepts) > _SHOWN else ""
    return f"{', '.join(concepts[:_SHOWN])}{more}"


def _points(steps: tuple[float, ...], curve: LossCurve) -> list[dict[str, float]]:
    return [
        {"step": step, "mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}
        for step, mean, low, high in zip(steps, curve.mean, curve.low, curve.high, strict=True)
        if mean is not None and low is not None and high is not None
    ]


def _ends(curve: LossCurve) -> list[Cell]:
    known = [value for value in curve.mean if value is not None]
    return [plain(known[0]), plain(known[-1])] if known else [Cell("–"), Cell("–")]
