"""``harness data``: look at a corpus, and have the subject model write one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from harness.cli.common import json_option, print_json, print_table, quiet_libraries, quiet_option
from harness.data.corpus import Format


@click.group("data")
def command() -> None:
    """Labelled corpora: what is in one, and how the demo's was made."""


@command.command("stats")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(get_args(Format)), help="Format (default: told from the content).")
@click.option("--text-field", help="Name of the text column.")
@click.option("--label-field", help="Name of the label column.")
@click.option("--min-support", type=click.IntRange(min=1), default=1, show_default=True, help="Show labels with at least so many texts.")
@json_option
def stats(path: Path, form: Format | None, text_field: str | None, label_field: str | None, min_support: int, as_json: bool) -> None:
    """Show documents, words, labels by support, and what was skipped and why."""
    from harness.data import corpus_stats, open_corpus

    corpus = open_corpus(path, format=form, text_field=text_field, label_field=label_field)
    found = corpus_stats(corpus)
    labels = found.with_support(min_support)
    if as_json:
        print_json({**asdict(found), "labels": {label: found.labels[label] for label in labels}, "format": corpus.format})
        return
    click.echo(
        f"{path} ({corpus.format}): {found.documents} texts, {found.words} words, {found.unlabelled} texts without a label, "
        f"{len(found.labels)} labels, {len(labels)} of them with at least {min_support} texts, {corpus.n_skipped} rows skipped"
    )
    for skipped in corpus.skipped[:10]:
        click.echo(f"skipped: {skipped}")
    print_table("", ("label", "texts"), [(label, str(found.labels[label])) for label in labels])


@command.command("generate")
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.argument("part", type=click.Choice(["corpus", "sae"]))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="JSONL file; an interrupted one is continued.")
@click.option("--model", "model_name", default="smollm2-135m-instruct", show_default=True, help="Subject model that writes.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many prompts.")
@click.option("--batch", type=click.IntRange(min=1), default=96, show_default=True, help="Texts written together.")
@click.option("--device", help="cpu, cuda, … (default: the best there is).")
@click.option("--dtype", help="float32, bfloat16, … (default: what the device is fast with).")
@quiet_option
def generate_command(
    recipe: Path, part: str, output: Path, model_name: str, limit: int | None, batch: int, device: str | None, dtype: str | None, quiet: bool
) -> None:
    """Have the subject model write the texts of RECIPE: PART is the labelled corpus, or the training texts of a dictionary."""
    quiet_libraries()
    from harness.data.generate import generate
    from harness.data.recipe import load_recipe, plan
    from harness.lm.model import load_model
    from harness.progress import Progress

    progress = Progress(quiet)
    loaded = load_recipe(recipe)
    table = loaded.corpus if part == "corpus" else loaded.sae
    prompts = plan(loaded, "corpus" if part == "corpus" else "sae")[:limit]
    model = load_model(model_name, device=device, dtype=dtype, progress=progress.step)
    with progress.gauge(f"writing {output.name}") as gauge:
        count = generate(model, prompts, table.decoding, output, seed=table.seed, batch=batch, progress=gauge)
    click.echo(f"{output}: {len(prompts)} texts, {count} of them written now")


@command.command("filter")
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.argument("raw", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="JSONL file of the texts that are kept.")
@json_option
def filter_command(recipe: Path, raw: Path, output: Path, as_json: bool) -> None:
    """Filter generated texts RAW by the rules of RECIPE: loops, refusals, near-duplicates, texts that do not show their label."""
    from harness.data.filtering import filter_corpus
    from harness.data.generate import read_rows, write_rows
    from harness.data.recipe import load_recipe

    report = filter_corpus(read_rows(raw), load_recipe(recipe))
    write_rows(output, report.rows)
    summary = report.summary()
    if as_json:
        print_json(summary)
    else:
        click.echo(summary if isinstance(summary, str) else json.dumps(summary, indent=2, ensure_ascii=False))
