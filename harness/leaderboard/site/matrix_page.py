"""The page of a matrix: its tables and figures, and the commands that give each cell's own page."""

from __future__ import annotations

import shlex

from harness.leaderboard.columns import heading
from harness.leaderboard.matrix import Matrix
from harness.leaderboard.matrix_figure import figure
from harness.leaderboard.matrix_table import about, grid_of, notes
from harness.leaderboard.site.pages import inlined, render
from harness.leaderboard.site.tables import of_grid
from harness.types import EvaluationKind

FIGURES: tuple[EvaluationKind, ...] = ("steering", "detection")
"""Kinds that have a figure: the metrics of dictionaries have no scale in common."""


def matrix_page(matrix: Matrix) -> str:
    """Return the page as HTML; it stands alone."""
    from markupsafe import Markup

    sections = [
        {
            "kind": kind,
            "table": of_grid(f"{kind}-cells", f"{kind}: {', '.join(dict.fromkeys(heading(r.metric) for r in matrix.rows if r.kind == kind))}", grid),
            "svg": Markup(figure(matrix, kind)) if kind in FIGURES else "",
        }
        for kind in matrix.kinds
        for grid in [grid_of(matrix, kind)]
    ]
    lines = notes(matrix)
    runs = [(entry.task.name, f"harness report {shlex.quote(f'{entry.task.name}-{entry.run_digest[:12]}')}") for entry in matrix.entries]
    return render(
        "matrix.html.jinja",
        title=f"{matrix.name} {matrix.version}",
        about=about(matrix),
        sections=sections,
        notices=[line for notice, line in lines if notice],
        notes=[line for notice, line in lines if not notice],
        runs=runs,
        alone=True,
        root="",
        **inlined(("tables.js",)),
    )
