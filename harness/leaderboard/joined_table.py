"""Two joined columns and their rank correlation, and a dictionary's metrics beside what its features do, as tables and lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.leaderboard.columns import MISSING, number, significant
from harness.leaderboard.joined import Board, Joined, Per, Point, shared_points
from harness.leaderboard.layout import Column, Grid, Line
from harness.types import Json

if TYPE_CHECKING:
    from harness.scoring.rank_correlation import Coefficient, RankCorrelation

OUTCOMES = ("detection.auroc", "steering.overall")
"""Columns that stand beside a dictionary's metrics."""
BESIDE = "metrics beside what the dictionaries' features do"
"""What a table of the two is called."""
_PLURAL = {"dictionary": "dictionaries", "feature": "features"}


@dataclass(frozen=True)
class Correlated:
    """Two columns over the points that both have, ordered by the first."""

    first: Joined
    second: Joined
    points: tuple[Point, ...]
    found: RankCorrelation

    def lines(self) -> list[str]:
        """Return the result for people; a single line where there are too few points."""
        per, n = self.first.per, self.found.n
        about = f"{self.first.name} and {self.second.name}, over {n} {_PLURAL[per] if n != 1 else per}"
        if self.found.tau.value is None:
            return [f"{self.first.name} and {self.second.name}: no correlation ({self.found.reason})"]
        level = f"{100 * self.found.level:g} % intervals, a bootstrap over {_PLURAL[per]}"
        lines = [about, f"Kendall tau-b  {_shown(self.found.tau)}", f"Spearman rho   {_shown(self.found.rho)}", level]
        lines += [self.found.reason] if self.found.reason else []
        tasks = sorted(self.first.tasks | self.second.tasks)
        return [*lines, f"from {len(tasks)} tasks: {', '.join(tasks)}"] if len(tasks) > 1 else lines

    def as_json(self, board: Board) -> Json:
        """Return everything, with each point."""
        points: list[Json] = [
            {"digest": digest, "dictionary": board.names.get(digest, ""), "feature": feature or None,
             "first": self.first.values[digest, feature], "second": self.second.values[digest, feature]}
            for digest, feature in self.points
        ]  # fmt: skip
        coefficients: dict[str, Json] = {
            name: {"value": one.value, "low": one.low, "high": one.high} for name, one in (("tau_b", self.found.tau), ("rho", self.found.rho))
        }
        about: dict[str, Json] = {"first": self.first.name, "second": self.second.name, "per": self.first.per, "n": self.found.n}
        tasks: Json = sorted(self.first.tasks | self.second.tasks)
        return {**about, **coefficients, "level": self.found.level, "reason": self.found.reason, "tasks": tasks, "points": points}


def correlated(board: Board, first: str, second: str, per: Per) -> Correlated:
    """Return two columns of a board with their rank correlation. Raises UnknownNameError for a column that it has not."""
    from harness.scoring.rank_correlation import rank_correlation

    x, y = board.column(first, per), board.column(second, per)
    points = sorted(shared_points(x, y), key=lambda point: (-x.values[point], point))
    found = rank_correlation([x.values[point] for point in points], [y.values[point] for point in points])
    return Correlated(x, y, tuple(points), found)


def points_grid(board: Board, found: Correlated, most: int) -> Grid:
    """Return the points with both numbers, the first ``most``."""
    heads = [Column("dictionary", name=True), *([Column("feature")] if found.first.per == "feature" else [])]
    lines = [
        Line((
            board.names.get(digest, digest), *([feature] if feature else []), significant(found.first.values[digest, feature]),
            significant(found.second.values[digest, feature]),
        ))
        for digest, feature in found.points[:most]
    ]  # fmt: skip
    return Grid([*heads, Column(found.first.name), Column(found.second.name)], lines)


def beside_metrics(board: Board) -> Grid | None:
    """Return a line for each dictionary that has a metric and an outcome of its features: values side by side; None where there is none."""
    columns = board.columns["dictionary"]
    metrics = [name for name in columns if not name.startswith(("detection.", "steering.")) and "." not in name]
    outcomes = [name for name in OUTCOMES if name in columns]
    measured = {digest for name in metrics for digest, _ in columns[name].values}
    digests = sorted(measured & {digest for name in outcomes for digest, _ in columns[name].values}, key=lambda digest: board.names[digest])
    if not digests:
        return None
    shown = [*metrics, *outcomes]
    heads = [Column("dictionary", name=True), *(Column(_heading(name)) for name in shown)]
    return Grid(heads, [Line((board.names[digest], *_cells(columns, shown, digest))) for digest in digests])


def _cells(columns: object, shown: Sequence[str], digest: str) -> list[str]:
    assert isinstance(columns, dict)
    values = [columns[name].values.get((digest, "")) for name in shown]
    return [MISSING if value is None else significant(value) for value in values]


def _heading(name: str) -> str:
    return {"detection.auroc": "best features' AUROC", "steering.overall": "steering score"}.get(name, name)


def _shown(found: Coefficient) -> str:
    return number(found.value) + (f" [{number(found.low)}, {number(found.high)}]" if found.low is not None else "")
