"""What the commands share: options, output, and the way from a command line to a bench."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from harness.cli.standard_streams import holds_unicode
from harness.files.allocator import keep_freed_memory
from harness.files.json_output import json_text
from harness.files.visible import visible
from harness.types import Aggregation, ProtocolName

if TYPE_CHECKING:
    from rich.console import Console

    from harness.leaderboard.entry import Entry
    from harness.plugin.host import PluginHost
    from harness.run.bench import Choices, TaskBench
    from harness.store import RunStore
    from harness.tasks.schema import Task
    from harness.types import Json

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, and nothing else there.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Show no progress.")
out_option = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("."), help="Folder for runs/ and leaderboard/entries/ (default: here)."
)

def target_option(kind: click.Path, help_text: str, default: Path | None = None) -> Callable[[F], F]:
    """Return ``-o``, ``--output``, ``--out``: where a command writes that reads runs from another folder, or none."""
    return click.option("-o", "--output", "--out", "output", type=kind, default=default, show_default=default is not None, help=help_text)


plugin_files_option = click.option(
    "--plugin",
    "plugin_files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A Python file whose plugins are used beside the installed ones, e.g. ./my_method.py; repeatable.",
)


def protocol_options(function: F) -> F:
    """Return --protocol and --aggregation: how scores are made of ratings."""
    name = click.option("--protocol", type=click.Choice(get_args(ProtocolName)), help="Who chooses a strength and who reports (default: the task's).")
    ratings = click.option(
        "--aggregation", type=click.Choice(get_args(Aggregation)), help="How three ratings become one score (default: the task's)."
    )
    return name(ratings(function))


def cost_options(function: F) -> F:
    """Return the options of commands that may spend money: --judge-mode, --max-cost, --yes. :class:`harness.cli.spending.Purse` takes them."""
    mode = click.option("--judge-mode", type=click.Choice(["live", "batch"]), help="batch: half the price, ratings come later (-J mode=batch).")
    return mode(spending_options(function))


def spending_options(function: F) -> F:
    """Return --max-cost and --yes."""
    options = [
        click.option("--max-cost", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Ask before more dollars may be spent."),
        click.option("--yes", is_flag=True, help="Do not ask."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def context_fields() -> list[Callable[[Any], Any]]:
    """Return the options that name the columns of what a text answers, of its genre, and of what it is for."""
    return [
        click.option("--instruction-field", help="Name of the column with what a text answers (default: the first usual name)."),
        click.option("--genre-field", help="Name of the column with a text's genre."),
        click.option("--part-field", help="Name of the column that says what a text is for: train, evaluation, or nothing."),
    ]


def task_options(function: F) -> F:
    """Return the options that say what is evaluated: --task, --corpus and its columns, --instructions, --split, --limit, --concepts, --seed, ….

    All but --task are what :class:`harness.run.choices.Choices` has (:func:`harness.cli.option_groups.grouped`).
    """
    options = [
        click.option("--task", "task_name", default="demo", show_default=True, help="A task's name, or a folder with a task.toml."),
        click.option("--corpus", type=click.Path(), help="Labelled texts to use instead of the task's."),
        click.option("--text-field", help="Name of the text column of --corpus (default: the first usual name)."),
        click.option("--label-field", help="Name of its label column."),
        click.option("--label-separator", help="Splits a label column that is one text, e.g. ','."),
        *context_fields(),
        click.option("--instructions", type=click.Path(), help="Instructions to use instead of the task's."),
        click.option("--split", help="Split of concepts and instructions, e.g. development; 'all' for all."),
        click.option("--limit", type=click.IntRange(min=1), help="Use the first so many concepts only."),
        click.option("--concepts", multiple=True, metavar="A,B", help="Use these concepts only, by id, text or label; repeatable."),
        click.option("--seed", type=int, default=0, show_default=True, help="Seed of every random draw."),
        click.option("--device", help="cpu, cuda, cuda:1, mps; cuda:0+cuda:1 for one model on both (default: the best there is)."),
        click.option("--dtype", help="float32, bfloat16, float16 (default: what the device is fast with)."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def engine_option(function: F) -> F:
    """Return --engine: what generates."""

    def known(ctx: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
        if value is not None:
            from harness.engine.choice import check_engine_name

            check_engine_name(value)
        return value

    help_text = "What generates: torch, nnsight or ndif (default: torch; see `harness engines`)."
    return click.option("--engine", metavar="NAME", callback=known, help=help_text)(function)


def executor_options(function: F) -> F:
    """Return --executor, --workers and --ray-address: who does the engine's work."""
    options = [
        click.option("--executor", metavar="NAME", help="Who generates, trains and reads: single, processes (one a device) or ray."),
        click.option("--workers", metavar="N|DEVICES", help="Of that executor: how many, or their devices, e.g. cuda:1,cuda:2 (default: all GPUs)."),
        click.option("--ray-address", metavar="ADDRESS", help="Of the Ray cluster (default: RAY_ADDRESS, else this machine alone)."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def plugin_option(short: str, kind: str, form: str = "name=value") -> Callable[[F], F]:
    """Return ``-L name=value`` and its like, repeatable."""
    return click.option(short, f"{kind}_options", multiple=True, metavar=form, help=f"Option of the {kind}; repeatable (see `harness plugins show`).")


def assignments(values: Sequence[str], flag: str) -> dict[str, str]:
    """``name=value`` pairs of the command line; of a name with two values the last counts, which is said. Raises OptionError for anything else."""
    from harness.options import parse_assignment

    found: dict[str, str] = {}
    for name, value in (parse_assignment(text, flag) for text in values):
        if found.get(name, value) != value:
            echo(f"{flag} {name} is given twice: the last one counts (for a plugin with both, write NAME:option=value for each)", err=True)
        found[name] = value
    return found


def judge_assignments(values: Sequence[str], mode: str | None) -> dict[str, str]:
    """The judge's options; ``--judge-mode`` is short for ``-J mode=…``."""
    return assignments([*values, *([] if mode is None else [f"mode={mode}"])], "-J")


def show_pending(store: RunStore, judges: Iterable[str]) -> None:
    """Say where ratings of these judges (by key) are still waited for (people's sheets, batches), and how they are collected."""
    reasons = sorted({rating.reason for key in judges for rating in store.pending(key) if rating.reason})
    for reason in reasons[:5]:
        echo(f"pending: {reason}", err=True)
    if reasons:
        echo("pending: the same command collects what is there by then", err=True)


def keep_entry(entry: Entry, out: Path) -> Path:
    """Save an entry below ``out``, and return where it is."""
    from harness.leaderboard.files import save_entry

    return save_entry(entry, out / "leaderboard" / "entries" / entry.file_name)


def show_entry(entry: Entry, out: Path, folder: Path, as_json: bool, task: str | None = None, keep: bool = True) -> None:
    """Print an entry: as JSON, or as tables with the places of entry and run.

    Args:
        entry: the entry.
        out: below it the entry is saved, before it is printed.
        folder: of its run.
        as_json: print JSON alone.
        task: what --task was given.
        keep: False: it is printed, and not saved.
    """
    from harness.cli.proposals import stored_runs
    from harness.leaderboard.result import render_entry

    path = keep_entry(entry, out) if keep else None
    if as_json:
        print_json(entry.as_json())
        return
    console().print(render_entry(entry, sources=stored_runs(out, task)), crop=False)
    if path is not None:
        echo(f"entry: {path}")
    echo(f"run:   {folder}")
    if path is not None and entry.compares_arms:
        echo(f"page:  {_write_page(folder, out)}")


def _write_page(folder: Path, out: Path) -> Path:
    """Write the page of a run whose dictionaries stand beside several controls: there the figure is the answer."""
    from harness.evaluations.details import report_of
    from harness.files.atomic import write_atomically
    from harness.leaderboard.site.entry_page import entry_page
    from harness.store import RunStore

    with RunStore.open(folder, read_only=True) as store:
        entry, details = report_of(store, None)
        target = out / f"report-{store.id}.html"
    write_atomically(target, entry_page(entry, details), "report")
    return target


def show_published(ids: Sequence[str], as_json: bool) -> None:
    """Print published tables below a result; with JSON, which is the result's alone, nothing. Raises UnknownNameError for one that does not exist."""
    from harness.errors import UnknownNameError
    from harness.leaderboard.published import load_published
    from harness.leaderboard.table import render_published

    tables = {table.id: table for table in load_published()} if ids and not as_json else {}
    for name in ids if tables else ():
        if name not in tables:
            raise UnknownNameError("published table", name, tables)
        echo("")
        console().print(render_published(tables[name]), crop=False)


def make_bench(task: Task, choices: Choices, quiet: bool) -> TaskBench:
    """Return the bench of a task, with the artifact cache of this user."""
    from harness.run.bench import open_bench

    keep_freed_memory()
    return open_bench(task, choices, quiet)


def load_host(plugin_files: Sequence[Path] = ()) -> PluginHost:
    """Return all plugins of this installation, and those of ``--plugin``."""
    from harness.plugin.host import PluginHost

    return PluginHost.load(plugin_files)


def echo(message: object = "", *, err: bool = False) -> None:
    """A line on standard output (``err``: on standard error). What it holds is shown, and never acts on the terminal."""
    click.echo(visible(str(message)), err=err)


def print_json(value: Json) -> None:
    """JSON on standard output: what it holds is kept as it is, and what a terminal would act on stands there escaped."""
    echo(json_text(value, indent=2, plain=not holds_unicode(sys.stdout)))


def console() -> Console:
    """Return standard output for tables and text."""
    from harness.files.screen import screen

    return screen()


def print_table(title: str, columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table, laid out by the width there is: the first column names the row, and no figure is cut."""
    from harness.leaderboard.layout import text_table

    console().print(text_table(title, list(columns), [tuple(row) for row in rows]))
