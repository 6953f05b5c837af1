"""``harness data``: look at a corpus, write it as one of ours, and have the subject model write one."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from harness.cli.common import context_fields, echo, json_option, print_json, print_table, quiet_option, spending_options
from harness.cli.data_fetch import command as fetch_command
from harness.cli.data_tokens import command as tokens_command
from harness.data.corpora.corpus import Format
from harness.errors import DataError, OptionError

if TYPE_CHECKING:
    from harness.data import Corpus, CorpusStats
    from harness.data.corpora.stats import SupportClass

F = TypeVar("F", bound=Callable[..., Any])

_SHOWN = 25
"""So many labels are listed for people; ``--json`` has them all."""
_EXAMPLES = 10
_BAR = 50
_FIELDS = ("text_field", "label_field", "id_field", "label_separator", "instruction_field", "genre_field", "part_field")


def corpus_options(function: F) -> F:
    """Return the options that say how a corpus is read."""
    options = [
        click.option("--format", "form", type=click.Choice(get_args(Format)), help="Format (default: recognised by the content)."),
        click.option("--text-field", help="Name of the text column."),
        click.option("--label-field", help="Name of the label column."),
        click.option("--id-field", help="Name of the id column."),
        click.option("--label-separator", help="Splits a label column that is one string, e.g. ','."),
        *context_fields(),
        click.option("--no-comments", is_flag=True, help="Stack Exchange: leave out other users' comments."),
        click.option("--no-code", is_flag=True, help="Stack Exchange: leave out code blocks."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _open(
    path: Path, form: Format | None, given: Mapping[str, Any], no_comments: bool, no_code: bool, progress: Callable[[int, int], None]
) -> Corpus:
    """Return the corpus that PATH and :func:`corpus_options` mean; ``given`` are the values of the command's options, fields among them."""
    from harness.data import open_corpus

    return open_corpus(
        path,
        format=form,
        **{name: given[name] for name in _FIELDS},
        comments=not no_comments,
        code_blocks=not no_code,
        progress=progress,
    )


@click.group("data")
def command() -> None:
    """Labelled corpora: getting one, what is in one, one format for all, and how the demo's was made."""


command.add_command(fetch_command)
command.add_command(tokens_command)


@command.command("stats")
@click.argument("path", type=click.Path(path_type=Path))
@corpus_options
@click.option("--min-support", type=click.IntRange(min=1), default=1, show_default=True, help="Show labels with at least so many texts.")
@click.option("--model", help="Count tokens of this model (default: the embedded model, if it is in the cache).")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many texts.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the labels by support into this .svg file.")
@json_option
@quiet_option
def stats(
    path: Path,
    form: Format | None,
    text_field: str | None,
    label_field: str | None,
    id_field: str | None,
    label_separator: str | None,
    instruction_field: str | None,
    genre_field: str | None,
    part_field: str | None,
    no_comments: bool,
    no_code: bool,
    min_support: int,
    model: str | None,
    limit: int | None,
    plot: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show documents, words, tokens, lengths, labels by support, and what was skipped and why.

    PATH is a file, a folder, or hf:owner/name, hf:owner/name:config@split, hf:/folder, stackexchange:FORUM.
    """
    if plot is not None and plot.suffix != ".svg":
        raise DataError(f"cannot draw {plot.name!r}", given=plot, allowed=".svg", hint="give a file name with that ending")
    from harness.data import corpus_stats
    from harness.data.corpora.stats import default_model, support_classes, support_svg, token_counter
    from harness.files.atomic import write_atomically
    from harness.files.progress import Progress

    name = model or default_model()
    counter = None if name is None else token_counter(name)
    with Progress(quiet or as_json or not sys.stderr.isatty()).gauge(f"indexing {path.name}") as gauge:
        corpus = _open(path, form, click.get_current_context().params, no_comments, no_code, gauge)
        corpus = corpus if limit is None else corpus.head(limit)
        found = corpus_stats(corpus, counter)
    classes = support_classes(list(found.labels.values()))
    if plot is not None:
        write_atomically(plot, support_svg(classes, f"{path.name}: {len(found.labels)} labels by support"), "plot")
    labels = {label: found.labels[label] for label in found.with_support(min_support)}
    if as_json:
        by_support = [asdict(one) for one in classes]
        examples = [{"file": one.file, "offset": one.offset, "reason": one.reason} for one in corpus.skipped[:_EXAMPLES]]
        more = {"labels_by_support": by_support, "skipped_examples": examples, "format": corpus.format, "digest": corpus.digest}
        print_json({**asdict(found), "labels": labels, "tokens_of": name, **more})
        return
    _show(corpus, found, classes, labels, min_support, name)


def _show(
    corpus: Corpus, found: CorpusStats, classes: list[SupportClass], labels: dict[str, int], min_support: int, model: str | None
) -> None:
    """Statistics for people."""
    echo(f"{corpus.path} ({corpus.format}): {found.documents:,} texts, {found.words:,} words, digest {corpus.digest}")
    if model is None:
        echo("tokens: not counted; name a model with --model, or get the embedded one with `harness models fetch`")
    else:
        echo(f"tokens: {found.tokens:,} ({model})")
    spreads = [("words a text", found.words_each), ("characters a text", found.characters), ("labels a text", found.labels_each)]
    if found.tokens_each is not None:
        spreads.insert(1, ("tokens a text", found.tokens_each))
    rows = [(name, f"{one.mean:.1f}", f"{one.median:.0f}", f"{one.p95:.0f}", f"{one.largest:,}") for name, one in spreads]
    print_table("", ("", "mean", "median", "95 %", "largest"), rows)
    echo(
        f"\n{len(found.labels):,} labels, {len(labels):,} of them with at least {min_support} texts; {found.unlabelled:,} texts without a label"
    )
    most = max((one.labels for one in classes), default=1) or 1
    bars = [(one.name, f"{one.labels:,}", "█" * math.ceil(_BAR * one.labels / most)) for one in classes]
    if bars:
        echo("labels by support")
        print_table("", ("texts", "labels", ""), bars)
    if labels:
        shown = list(labels.items())[:_SHOWN]
        rest = f" ({len(labels) - len(shown):,} more: --json)" if len(labels) > len(shown) else ""
        echo(f"\nmost frequent labels{rest}")
        print_table("", ("label", "texts"), [(label, f"{support:,}") for label, support in shown])
    for line in found.label_warnings:
        echo(f"warning: {line}")
    echo(f"\n{found.skipped:,} records skipped")
    for reason, count in found.skipped_by_reason.items():
        echo(f"  {count:,} × {reason}")
    for skipped in corpus.skipped[:_EXAMPLES]:
        echo(f"skipped: {skipped}")


@command.command("convert")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="A .jsonl, .csv or .parquet file.")
@corpus_options
@click.option("--min-support", type=click.IntRange(min=1), default=1, show_default=True, help="Keep labels with at least so many texts.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many texts.")
@quiet_option
def convert_command(
    path: Path,
    output: Path,
    form: Format | None,
    text_field: str | None,
    label_field: str | None,
    id_field: str | None,
    label_separator: str | None,
    instruction_field: str | None,
    genre_field: str | None,
    part_field: str | None,
    no_comments: bool,
    no_code: bool,
    min_support: int,
    limit: int | None,
    quiet: bool,
) -> None:
    """Write a corpus of any format that `stats` reads as rows of id, text and labels; of instruction, genre and part, too, where it has any."""
    from dataclasses import replace

    from harness.data.corpora.convert import check_suffix, convert
    from harness.files.progress import Progress

    check_suffix(output)
    if output.resolve() == path.resolve():
        message = f"{output} is the corpus itself, which would lose what is not converted"
        raise DataError(message, given=output, hint="give another name")
    progress = Progress(quiet or not sys.stderr.isatty())
    with progress.gauge(f"indexing {path.name}") as gauge:
        corpus = _open(path, form, click.get_current_context().params, no_comments, no_code, gauge)
        corpus = corpus if limit is None else corpus.head(limit)
        table = corpus.labels
    kept = frozenset(name for name, support in zip(table.names, table.support.tolist(), strict=True) if support >= min_support)
    with progress.task(f"writing {output.name}", len(corpus)) as advance:
        count = convert((replace(document, labels=document.labels & kept) for document in corpus), output, advance, _context(corpus))
    if not quiet:
        echo(f"{output}: {count:,} texts, {len(kept):,} labels; {corpus.n_skipped:,} records skipped")
    for line in corpus.label_warnings:
        echo(f"warning: {line}", err=True)
    for skipped in corpus.skipped[:_EXAMPLES]:
        echo(f"skipped: {skipped}", err=True)


def _context(corpus: Corpus) -> list[str]:
    """Return the columns beside id, text and labels that a corpus fills."""
    stated = ["genre", "part"] if corpus.parts is not None else ["genre"] if corpus.stated_digest else []
    return (["instruction"] if corpus.instructions_digest else []) + stated


@command.command("generate")
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.argument("part", type=click.Choice(["corpus", "sae", "pairs"]))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="JSONL file; an interrupted one is continued.")
@click.option("--model", "model_name", default="smollm2-135m-instruct", show_default=True, help="Subject model that writes.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many prompts; of pairs, concepts.")
@click.option("--batch", type=click.IntRange(min=1), default=96, show_default=True, help="Texts written together.")
@click.option("--device", help="cpu, cuda, … (default: the best there is).")
@click.option("--dtype", help="float32, bfloat16, … (default: what the device is fast with).")
@click.option("--writer", type=click.Choice(["openai", "anthropic"]), help="Pairs: have a model behind this API write, in place of the subject.")
@click.option("--writer-model", help="Its model (default: gpt-4o-mini, claude-haiku-4-5).")
@click.option("--base-url", help="Another server that speaks like the API.")
@click.option("--key-name", help="Name of the variable that holds that server's key.")
@spending_options
@quiet_option
def generate_command(
    recipe: Path,
    part: str,
    output: Path,
    model_name: str,
    limit: int | None,
    batch: int,
    device: str | None,
    dtype: str | None,
    writer: str | None,
    writer_model: str | None,
    base_url: str | None,
    key_name: str | None,
    max_cost: float,
    yes: bool,
    quiet: bool,
) -> None:
    """Have a model write the texts of RECIPE.

    PART is the labelled corpus, the training texts of a dictionary, or pairs: answers to instructions with a concept and without, for methods
    that are fitted.
    """
    from harness.cli.data_pairs import Writer, generate_pairs
    from harness.cli.spending import Purse
    from harness.data.written.generate import generate
    from harness.data.written.recipe import load_recipe, plan
    from harness.files.progress import Progress
    from harness.model.loading import load_model

    progress = Progress(quiet)
    if writer is None and (given := [name for name, value in (("--writer-model", writer_model), ("--base-url", base_url)) if value is not None]):
        raise OptionError(f"{given[0]} is of a writer behind an API, and none is named", given=given[0], hint="give --writer, too")
    if part == "pairs":
        api = None if writer is None else Writer(writer, writer_model, base_url, key_name)
        local = lambda: load_model(model_name, device=device, dtype=dtype, progress=progress.step, downloads=progress)  # noqa: E731
        generate_pairs(recipe, output, limit, batch, api, local, Purse(max_cost, yes, quiet), progress)
        return
    if writer is not None:
        raise OptionError("--writer is for pairs", given=writer, hint="leave it out: the subject model writes a corpus")
    loaded = load_recipe(recipe)
    table = loaded.corpus if part == "corpus" else loaded.sae
    prompts = plan(loaded, "corpus" if part == "corpus" else "sae")[:limit]
    model = load_model(model_name, device=device, dtype=dtype, progress=progress.step, downloads=progress)
    with progress.gauge(f"writing {output.name}") as gauge:
        count = generate(model, prompts, table.decoding, output, seed=table.seed, batch=batch, progress=gauge)
    echo(f"{output}: {len(prompts)} texts, {count} of them written now")


@command.command("filter")
@click.argument("recipe", type=click.Path(exists=True, path_type=Path))
@click.argument("raw", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="JSONL file of the texts that are kept.")
@json_option
def filter_command(recipe: Path, raw: Path, output: Path, as_json: bool) -> None:
    """Filter generated texts RAW by the rules of RECIPE: loops, refusals, near-duplicates, texts that do not show their label."""
    from harness.data.written.filtering import filter_corpus
    from harness.data.written.generate import read_rows, write_rows
    from harness.data.written.recipe import load_recipe

    report = filter_corpus(read_rows(raw), load_recipe(recipe))
    write_rows(output, report.rows)
    summary = report.summary()
    if as_json:
        print_json(summary)
    else:
        echo(summary) if isinstance(summary, str) else print_json(summary)
