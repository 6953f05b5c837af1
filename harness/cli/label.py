"""``harness label``: which features carry which concepts, as a table and a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import (
    assignments,
    echo,
    executor_options,
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
from harness.cli.label_compare import SHOWN, compare_command
from harness.cli.option_groups import grouped
from harness.run.choices import Choices

if TYPE_CHECKING:
    from harness.run.bench import TaskBench
    from harness.run.plan import PlannedPlugin
    from harness.types import Abstention, Labeling


@dataclass(frozen=True)
class LabelOptions:
    """What is labelled by whom, and what is shown of it, each as the command line has it."""

    labeler: str | None
    labeler_options: tuple[str, ...]
    plugin_files: tuple[Path, ...]
    task_name: str
    output: Path | None
    show: int
    pi0: float
    snippets: int
    as_json: bool
    quiet: bool


@dataclass(frozen=True)
class _Labelled:
    """A labeler's answers, and what they were made on."""

    planned: PlannedPlugin
    bench: TaskBench
    answers: Sequence[Labeling | Abstention]

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Return the answers as JSON."""
        return [_row(answer) for answer in self.answers]


@click.group("label", invoke_without_command=True)
@click.option("--labeler", help="A labeler, NAME[:option=value,…], e.g. calibf1 (calibrated F1); see `harness plugins`.")
@plugin_option("-L", "labeler")
@plugin_files_option
@task_options
@executor_options
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write all labels to a .jsonl, .csv or .parquet file.")
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Rows of the table.")
@click.option("--pi0", type=float, default=1e-3, show_default=True, help="π0 of the counts beside labels whose labeler does not count.")
@click.option("--snippets", type=click.IntRange(min=0), default=3, show_default=True, help="Best-activating texts kept of each feature.")
@json_option
@quiet_option
@grouped(choices=Choices, options=LabelOptions)
@click.pass_context
def command(context: click.Context, choices: Choices, options: LabelOptions) -> None:
    """Label features with a task's concepts; `harness label compare A B` compares two label files."""
    if context.invoked_subcommand is not None:
        return
    from harness.files.rows import check_suffix

    if options.labeler is None:
        raise click.UsageError("Missing option '--labeler'.", context)
    if options.output is not None:
        check_suffix(options.output)
    done = _label(options.labeler, options, choices)
    if options.output is not None:
        _write(done, options.output)
    if options.as_json:
        _print_json(done)
        return
    _show(done, options.show)
    if options.output is not None and not options.quiet:
        echo(f"labels: {options.output}")
    for warning in done.bench.warnings.messages:
        echo(f"warning: {warning}", err=True)


def _label(labeler: str, options: LabelOptions, choices: Choices) -> _Labelled:
    """Return a labeler's answers, described: with counts, snippets and what their features do."""
    from harness.labelling.describe import Settings, describe
    from harness.run.concept_check import explained
    from harness.run.label import checked
    from harness.run.plan import plan_one
    from harness.run.sources import check_sources
    from harness.tasks.find import find_task

    host = load_host(options.plugin_files)
    task = find_task(host, options.task_name)
    planned = plan_one(host, task, "labeler", labeler, assignments(options.labeler_options, "-L"))
    bench = make_bench(task, choices, options.quiet or options.as_json)
    check_sources(bench)
    answers = explained(checked(planned, planned.instance.label(bench, bench.concepts), bench), bench)
    built = planned.registered.build_options(planned.options)
    settings = Settings.of(built, options.snippets, options.pi0, planned.instance.traits.selects_on)
    return _Labelled(planned, bench, describe(bench, answers[: choices.limit if bench.concept_mode == "chosen" else None], settings))


def _write(done: _Labelled, output: Path) -> None:
    """Write the labels to a file, with what they were made by and of."""
    from harness.files.rows import write_rows
    from harness.labelling.files import label_rows
    from harness.sae.identity import identity
    from harness.types import Labeling

    planned, bench = done.planned, done.bench
    made = {
        "labeler": planned.registered.name,
        "options": dict(planned.options),
        "task": f"{bench.task.name} {bench.task.file.version}",
        "corpus": bench.corpus_digest,
        "model": bench.model.name,
        "dtype": str(bench.model.dtype).removeprefix("torch."),
        "seed": bench.seed,
    }
    used = dict.fromkeys(feature.dictionary for answer in done.answers if isinstance(answer, Labeling) for feature in answer.features)
    write_rows(label_rows(done.answers, {name: identity(bench.dictionaries[name]) for name in used}, made), output)


def _print_json(done: _Labelled) -> None:
    planned, bench = done.planned, done.bench
    named = {"labeler": planned.registered.name, "label": planned.label, "options": dict(planned.options)}
    print_json({**named, "task": bench.task.name, "labels": done.rows, "warnings": bench.warnings.messages})


def _show(done: _Labelled, n: int) -> None:
    """Print the first ``n`` answers as a table, and below it what was held out."""
    rows, label = done.rows, done.planned.label
    shown, held_out = rows[:n], any(row.get("held_out") for answer in rows for row in _counted(answer))
    print_table(
        f"{label} on task {done.bench.task.name}: {len(rows)} answers, the first {len(shown)}",
        ("concept", "feature", "score", *(["held out"] if held_out else []), "output score", "confidence change", "promotes", "fires most at"),
        [cells for row in shown for cells in _cells(row, held_out)],
    )
    if held_out:
        measures = dict.fromkeys(str(row["measure"]) for answer in rows for row in _counted(answer) if row.get("held_out") and row.get("measure"))
        echo(f"held out: {', '.join(measures)} on the texts that chose nothing")
    elif done.planned.instance.traits.selects_on == "all":
        echo(f"nothing is held out: {label} chose by all texts, or does not say by which")
    if compared := [row for answer in rows for row in _counted(answer) if "other_half" in row]:
        same = sum(row["other_half"] == row.get("feature") for row in compared)
        echo(f"halves: for {same} of {len(compared)} concepts ({same / len(compared):.0%}) the other half of the corpus chooses the same feature")


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


command.add_command(compare_command)
