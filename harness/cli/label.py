"""``harness label``: which features carry which concepts, as a table and a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness.cli.common import (
    assignments,
    choices_from,
    json_option,
    load_host,
    make_bench,
    plugin_option,
    print_json,
    print_table,
    quiet_option,
    task_options,
)

SHOWN = 20


@click.command("label")
@click.option("--labeler", required=True, help="A labeler (see `harness plugins`).")
@plugin_option("-L", "labeler")
@task_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all labels to a .jsonl, .csv or .parquet file.")
@json_option
@quiet_option
def command(
    labeler: str,
    labeler_options: tuple[str, ...],
    task_name: str,
    corpus: str | None,
    instructions: str | None,
    split: str | None,
    limit: int | None,
    seed: int,
    device: str | None,
    dtype: str | None,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Label features with a task's concepts."""
    from harness.evaluate import check_answers
    from harness.options import as_json as options_json
    from harness.tables import check_suffix, write_rows
    from harness.tasks import find_task, options_of

    if output is not None:
        check_suffix(output)
    host = load_host()
    task = find_task(host, task_name)
    registered = host.get("labeler", labeler)
    given = {**options_of(task, "labeler").get(labeler, {}), **assignments(labeler_options, "-L")}
    instance = registered.create(given)
    bench = make_bench(task, choices_from(corpus, instructions, split, limit, device, dtype, seed), quiet or as_json)
    answers = list(instance.label(bench, bench.concepts))
    check_answers(labeler, answers, bench)
    rows = [_row(answer) for answer in answers][: limit if bench.concept_mode == "chosen" else None]
    if output is not None:
        write_rows(rows, output)
    if as_json:
        options = options_json(registered.build_options(given))
        print_json({"labeler": labeler, "options": options, "task": task.name, "labels": rows, "warnings": bench.warnings})
        return
    cells = [
        (
            str(row["concept"]),
            " ".join(row["features"]) or f"— ({row['abstained']})",
            "" if row["score"] is None else f"{row['score']:.3f}",
            _held_out(row),
        )
        for row in rows[:SHOWN]
    ]
    print_table(f"{labeler} on task {task.name}: {len(rows)} answers, best {len(cells)}", ("concept", "features", "score", "held out"), cells)
    for warning in bench.warnings:
        click.echo(f"warning: {warning}", err=True)


def _row(answer: Any) -> dict[str, Any]:
    from harness.types import Abstention

    if isinstance(answer, Abstention):
        return {"concept": answer.concept.id, "features": [], "score": None, "abstained": answer.reason, "evidence": {}}
    return {
        "concept": answer.concept.id,
        "features": [str(feature) for feature in answer.features],
        "score": answer.score,
        "abstained": None,
        "evidence": dict(answer.evidence),
    }


def _held_out(row: dict[str, Any]) -> str:
    found = [item.get("held_out", {}).get("calibrated_f1") for item in row["evidence"].get("features", [])]
    return " ".join("—" if value is None else f"{value:.3f}" for value in found)
