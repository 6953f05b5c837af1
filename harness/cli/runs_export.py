"""``harness runs export``: a stored run as a table for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from harness.cli.common import echo, out_option
from harness.files.tables import FORMATS
from harness.types import EvaluationKind

if TYPE_CHECKING:
    from harness.evaluations.export import Layout


@click.command("export")
@click.argument("run")
@click.argument("output", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "table_format", type=click.Choice(FORMATS), help="Format of OUTPUT (default: by its ending).")
@click.option("--layout", type=click.Choice(["rows", "axbench"]), default="rows", show_default=True, help="axbench: as its steering_data.parquet.")
@click.option("--judge", "judge_key", help="Key or name of the judge whose ratings are exported (default: the run's own).")
@click.option("--kind", type=click.Choice(get_args(EvaluationKind)), default="steering", show_default=True, help="The kind of evaluation.")
@out_option
def export_command(
    run: str, output: Path, table_format: str | None, layout: Layout, judge_key: str | None, kind: EvaluationKind, out: Path
) -> None:
    """Write RUN to OUTPUT (.parquet, .csv or .jsonl), one row per text with its method, strength, ratings and overall score.

    Detection and dictionary metrics get one row per item and outcome. With --layout axbench there is a row for each concept, instruction and
    strength, and columns for each method, one of which says what a cell without a text or rating means.
    """
    from harness.evaluations.export import export
    from harness.store import RunStore
    from harness.store.listing import find_run

    with RunStore.open(find_run(run, out), read_only=True) as store:
        count = export(store, output, judge_key, kind, table_format, layout)
    echo(f"{count} rows: {output}")
