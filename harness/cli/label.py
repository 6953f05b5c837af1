"""``harness label``: which features carry which concepts, as a table and a file; ``harness label compare``: two such files side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from harness.cli.common import (
    assignments,
    echo,
    json_option,
    load_host,
    make_bench,
    plugin_files_option,
    plugin_option,
    print_json,
    print_table,
    quiet_option,
    task_options,
)
from harness.cli.option_groups import grouped
from harness.run.choices import Choices

SHOWN = 20


@click.group("label", invoke_without_command=True)
@click.option("--labeler", help="A labeler, NAME[:option=value,…], e.g. calibf1 (calibrated F1); see `harness plugins`.")
@plugin_option("-L", "labeler")
@plugin_files_option
@task_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all labels to a .jsonl, .csv or .parquet file.")
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows of the table.")
@click.option("--pi0", type=float, default=1e-3, show_default=True, help="π0 of the counts beside labels whose labeler does not count.")
@click.option("--snippets", type=click.IntRange(min=0), default=3, show_default=True, help="Best-activating texts kept of each feature.")
@json_option
@quiet_option
@grouped(choices=Choices)
@click.pass_context
def command(
    context: click.Context,
    labeler: str | None,
    labeler_options: tuple[str, ...],
    plugin_files: tuple[Path, ...],
    task_name: str,
    choices: Choices,
    output: Path | None,
    show: int,
    pi0: float,
    snippets: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Label features with a task's concepts; `harness label compare A B` compares two label files."""
    if context.invoked_subcommand is not None:
        return
    from harness.files.rows import check_suffix, write_rows
    from harness.labelling.describe import Settings, describe
    from harness.labelling.files import label_rows
    from harness.run.concept_check import explained
    from harness.run.label import checked
    from harness.run.plan import plan_one
    from harness.run.sources import check_sources
    from harness.sae.identity import identity
    from harness.tasks.find import find_task
    from harness.types import Labeling

    if labeler is None:
        raise click.UsageError("Missing option '--labeler'.", context)
    if output is not None:
        check_suffix(output)
    host = load_host(plugin_files)
    task = find_task(host, task_name)
    planned = plan_one(host, task, "labeler", labeler, assignments(labeler_options, "-L"))
    bench = make_bench(task, choices, quiet or as_json)
    check_sources(bench)
    answers = explained(checked(planned, planned.instance.label(bench, bench.concepts), bench), bench)
    built = planned.registered.build_options(planned.options)
    selects_on = planned.instance.traits.selects_on
    answers = describe(bench, answers[: choices.limit if bench.concept_mode == "chosen" else None], Settings.of(built, snippets, pi0, selects_on))
    if output is not None:
        made = {
            "labeler": planned.registered.name,
            "options": dict(planned.options),
            "task": f"{task.name} {task.file.version}",
            "corpus": bench.corpus_digest,
            "model": bench.model.name,
            "dtype": str(bench.model.dtype).removeprefix("torch."),
            "seed": choices.seed,
        }
        used = dict.fromkeys(feature.dictionary for answer in answers if isinstance(answer, Labeling) for feature in answer.features)
        write_rows(label_rows(answers, {name: identity(bench.dictionaries[name]) for name in used}, made), output)
    rows = [_row(answer) for answer in answers]
    if as_json:
        named = {"labeler": planned.registered.name, "label": planned.label, "options": dict(planned.options)}
        print_json({**named, "task": task.name, "labels": rows, "warnings": bench.warnings.messages})
        return
    shown, held_out = rows[:show], any(row.get("held_out") for answer in rows for row in _counted(answer))
    print_table(
        f"{planned.label} on task {task.name}: {len(rows)} answers, the first {len(shown)}",
        ("concept", "feature", "score", *(["held out"] if held_out else []), "output score", "confidence change", "promotes", "fires most at"),
        [cells for row in shown for cells in _cells(row, held_out)],
    )
    if held_out:
        measures = dict.fromkeys(str(row["measure"]) for answer in rows for row in _counted(answer) if row.get("held_out") and row.get("measure"))
        echo(f"held out: {', '.join(measures)} on the texts that chose nothing")
    elif selects_on == "all":
        echo(f"nothing is held out: {planned.label} chose by all texts, or does not say by which")
    if compared := [row for answer in rows for row in _counted(answer) if "other_half" in row]:
        same = sum(row["other_half"] == row.get("feature") for row in compared)
        echo(f"halves: for {same} of {len(compared)} concepts ({same / len(compared):.0%}) the other half of the corpus chooses the same feature")
    if output is not None and not quiet:
        echo(f"labels: {output}")
    for warning in bench.warnings.messages:
        echo(f"warning: {warning}", err=True)


def _row(answer: Any) -> dict[str, Any]:
    from harness.types import Abstention

    concept = {"concept": answer.concept.id, "text": answer.concept.text}
    if isinstance(answer, Abstention):
        return {**concept, "features": [], "score": None, "abstained": answer.reason, "evidence": {}}
    return {
        **concept,
        "features": [str(feature) for feature in answer.features],
        "score": answer.score,
        "abstained": None,
        "evidence": dict(answer.evidence),
    }


def _cells(row: dict[str, Any], held_out: bool) -> Iterator[tuple[str, ...]]:
    """The rows of the table for one answer: one a feature, the concept before the first; ``held_out``: with that column."""
    concept = row["concept"] if "/" not in row["concept"] else row["text"]  # Neuronpedia's explanations go by model/source/index
    if row["abstained"] is not None:
        yield concept, f"— ({row['abstained']})", *[""] * (6 if held_out else 5)
    counted = _counted(row)
    for place, feature in enumerate(row["features"]):
        about: dict[str, Any] = row["evidence"]["about"][place]
        own = counted[place] if place < len(counted) else {}
        later = None if "counted_by" in own else (own.get("chosen_on") or {}).get("score")
        score = row["score"] if place == 0 else later
        yield (
            concept if place == 0 else "",
            feature,
            _decimal(score if row["score"] is not None else None),
            *([_decimal((own.get("held_out") or {}).get("score"))] if held_out else []),
            _decimal(about.get("output_score")),
            _decimal(about.get("confidence_change"), "+.2f"),
            " ".join(word.strip() for word in (about.get("promotes") or [])[:4]),
            _fires_at(about.get("snippets", [])),
        )


def _counted(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was counted of each feature, where it was."""
    counted = row["evidence"].get("features")
    return counted if isinstance(counted, list) and all(isinstance(item, dict) for item in counted) else []


def _decimal(value: float | None, form: str = ".3f") -> str:
    return "" if value is None else format(value, form)


def _fires_at(snippets: Sequence[dict[str, Any]]) -> str:
    """Return the strongest token of the best text in its surroundings, on one line."""
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

    files = read_labels(a), read_labels(b)
    found = compare(*files)
    if as_json:
        print_json(found.as_json())
        return
    counts = found.counts()
    echo(f"concepts in both: {len(found.concepts)}; in {a} alone: {len(found.only_a)}, in {b} alone: {len(found.only_b)}")
    for path, file in ((a, files[0]), (b, files[1])):
        if not file.identity:
            echo(f"warning: {path} does not say which SAE its features belong to", err=True)
    echo(
        f"of those in both, same features: {counts['same']}, some in common: {counts['overlap']}, none: {counts['different']}, "
        f"abstained from in one: {counts['abstained']}, in both: {counts['neither']}"
    )
    jaccard = "—" if found.jaccard is None else f"{found.jaccard:.3f}"
    echo(
        f"features labelled: {found.features_a} and {found.features_b}, in both {found.features_both}; (concept, feature) pairs: Jaccard {jaccard}"
    )
    if found.concepts and show:
        rows = [(p.concept, p.agreement, *(" ".join(map(str, part)) for part in (p.both, p.only_a, p.only_b))) for p in found.concepts[:show]]
        print_table("", ("concept", "agreement", "both", "first alone", "second alone"), rows)
    if found.relabelled and show:
        echo("")
        relabelled = [(str(feature), ", ".join(ours), ", ".join(theirs)) for feature, ours, theirs in found.relabelled[:show]]
        print_table("Features that carry other concepts in each file", ("feature", "first", "second"), relabelled)
