"""``harness label``: which features carry which concepts, as a table and a file; ``harness label compare``: two such files side by side."""

from __future__ import annotations

from collections.abc import Sequence
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


@click.group("label", invoke_without_command=True)
@click.option("--labeler", help="A labeler (see `harness plugins`).")
@plugin_option("-L", "labeler")
@task_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all labels to a .jsonl, .csv or .parquet file.")
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows of the table.")
@click.option("--snippets", type=click.IntRange(min=0), default=3, show_default=True, help="Best-activating texts kept of each feature.")
@json_option
@quiet_option
@click.pass_context
def command(
    context: click.Context,
    labeler: str | None,
    labeler_options: tuple[str, ...],
    task_name: str,
    corpus: str | None,
    text_field: str | None,
    label_field: str | None,
    label_separator: str | None,
    instructions: str | None,
    split: str | None,
    limit: int | None,
    seed: int,
    device: str | None,
    dtype: str | None,
    output: Path | None,
    show: int,
    snippets: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Label features with a task's concepts; `harness label compare A B` compares two label files."""
    if context.invoked_subcommand is not None:
        return
    from harness.evaluate import check_answers
    from harness.labelling.describe import Settings, describe
    from harness.labelling.files import label_rows
    from harness.options import as_json as options_json
    from harness.sae import identity
    from harness.tables import check_suffix, write_rows
    from harness.tasks import find_task, options_of

    if labeler is None:
        raise click.UsageError("Missing option '--labeler'.", context)
    if output is not None:
        check_suffix(output)
    host = load_host()
    task = find_task(host, task_name)
    registered = host.get("labeler", labeler)
    given = {**options_of(task, "labeler").get(labeler, {}), **assignments(labeler_options, "-L")}
    instance = registered.create(given)
    bench = make_bench(task, choices_from(click.get_current_context().params), quiet or as_json)
    answers = list(instance.label(bench, bench.concepts))
    check_answers(labeler, answers, bench)
    built = registered.build_options(given)
    answers = describe(bench, answers[: limit if bench.concept_mode == "chosen" else None], Settings.of(built, snippets))
    if output is not None:
        write_rows(label_rows(answers, {name: identity(d) for name, d in bench.dictionaries.items()}, labeler), output)
    rows = [_row(answer) for answer in answers]
    if as_json:
        options = options_json(built)
        print_json({"labeler": labeler, "options": options, "task": task.name, "labels": rows, "warnings": bench.warnings})
        return
    shown = rows[:show]
    print_table(
        f"{labeler} on task {task.name}: {len(rows)} answers, the first {len(shown)}",
        ("concept", "feature", "score", "held out", "output score", "ΔC", "promotes", "fires most at"),
        [_cells(row) for row in shown],
    )
    if output is not None and not quiet:
        click.echo(f"labels: {output}")
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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row of the table. Of several features of one answer, the first is shown whole."""
    if row["abstained"] is not None:
        return row["concept"], f"— ({row['abstained']})", "", "", "", "", "", ""
    about: dict[str, Any] = next(iter(row["evidence"].get("about", [])), {})
    return (
        row["concept"],
        " ".join(row["features"]),
        _decimal(row["score"]),
        _held_out(row),
        _decimal(about.get("output_score")),
        _decimal(about.get("confidence_change"), "+.2f"),
        " ".join(word.strip() for word in about.get("promotes", [])[:4]),
        _fires_at(about.get("snippets", [])),
    )


def _decimal(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def _held_out(row: dict[str, Any]) -> str:
    """The score of the answer's first feature on the texts that chose nothing, where its labeler gives one."""
    counted = row["evidence"].get("features")
    first = counted[0] if isinstance(counted, list) and counted and isinstance(counted[0], dict) else {}
    return _decimal((first.get("held_out") or {}).get("score"))


def _fires_at(snippets: Sequence[dict[str, Any]]) -> str:
    """The strongest token of the best text in its surroundings, on one line."""
    if not snippets:
        return ""
    best = snippets[0]
    before, after = " ".join(best["before"].split()[-4:]), " ".join(best["after"].split()[:3])
    token = best["token"].strip() or repr(best["token"])[1:-1].replace(" ", "␣")  # white space, shown
    spaces = " " if best["token"][:1].isspace() else "", "" if best["after"][:1].isalnum() else " "
    return f"{before}{spaces[0]}«{token}»{spaces[1]}{after}".strip()


@command.command("compare")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows of each table.")
@json_option
def compare_command(a: Path, b: Path, show: int, as_json: bool) -> None:
    """Which features and labels two label files of one SAE agree on."""
    from harness.labelling.compare import compare
    from harness.labelling.files import read_labels

    found = compare(read_labels(a), read_labels(b))
    if as_json:
        print_json(found.as_json())
        return
    counts = found.counts()
    click.echo(f"concepts in both: {len(found.concepts)}; in {a} alone: {len(found.only_a)}, in {b} alone: {len(found.only_b)}")
    click.echo(
        f"of those in both, same features: {counts['same']}, some in common: {counts['overlap']}, none: {counts['different']}, "
        f"abstained from in one: {counts['abstained']}"
    )
    jaccard = "—" if found.jaccard is None else f"{found.jaccard:.3f}"
    click.echo(
        f"features labelled: {found.features_a} and {found.features_b}, in both {found.features_both}; (concept, feature) pairs: Jaccard {jaccard}"
    )
    if found.concepts and show:
        rows = [(p.concept, p.agreement, *(" ".join(map(str, part)) for part in (p.both, p.only_a, p.only_b))) for p in found.concepts[:show]]
        print_table("", ("concept", "agreement", "both", "first alone", "second alone"), rows)
    if found.relabelled and show:
        click.echo("")
        relabelled = [(str(feature), ", ".join(ours), ", ".join(theirs)) for feature, ours, theirs in found.relabelled[:show]]
        print_table("Features that carry other concepts in each file", ("feature", "first", "second"), relabelled)
