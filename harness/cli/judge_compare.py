"""``harness judge compare``: one set of texts, two or more judges or people, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import (
    assignments,
    cost_options,
    find_run,
    json_option,
    load_host,
    make_bench,
    out_option,
    plugin_option,
    print_json,
    print_table,
    quiet_libraries,
    quiet_option,
    show_pending,
)

if TYPE_CHECKING:
    from harness.cli.spending import Purse
    from harness.judging.agreement import Agreement, Figure, Rated
    from harness.judging.texts import Texts
    from harness.plugins import PluginHost
    from harness.store import RunStore
    from harness.types import Json

SHOWN = 5
DECIMALS = 2


@dataclass
class _Compared:
    """The texts, and each judge's ratings of them by the name it is shown under."""

    texts: Texts
    ratings: dict[str, list[Rated]] = field(default_factory=dict)


@click.command("compare")
@click.argument("source")
@click.argument("judges", nargs=-1)
@click.option(
    "--ratings",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of people's (or other) ratings of these texts, or a folder of sheets; repeatable.",
)
@plugin_option("-J", "judge", "[judge:]name=value")
@click.option("--limit", type=click.IntRange(min=1), help="Compare on a random part of so many texts.")
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Texts shown that they disagree on most.")
@click.option("--task", "task_name", help="For a file of texts: the task whose subject model a judge may need (default: demo).")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="Write texts and ratings (.jsonl, .csv, .parquet).")
@cost_options
@out_option
@json_option
@quiet_option
def compare_command(
    source: str,
    judges: tuple[str, ...],
    files: tuple[Path, ...],
    judge_options: tuple[str, ...],
    limit: int | None,
    show: int,
    task_name: str | None,
    output: Path | None,
    judge_mode: str | None,
    max_cost: float,
    yes: bool,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """How far judges and people agree on one set of texts, two by two: exact agreement, weighted κ, Spearman, bias, and where they differ most.

    SOURCE is a run, or a file of texts (.jsonl, .csv, .parquet) with the columns concept, instruction and text. JUDGES are names of judges, or
    NAME:option=value,… to have one of them twice; they rate what they have not rated yet. Without JUDGES, those that have rated the run are compared.
    """
    from harness.cli.spending import Purse
    from harness.errors import OptionError
    from harness.judging.agreement import compare
    from harness.plan import judges_asked
    from harness.tables import check_suffix

    if output is not None:
        check_suffix(output)
    quiet_libraries()
    host = load_host()
    given = assignments(judge_options, "-J")
    if judge_mode is not None:
        given.setdefault("mode", judge_mode)
    if given and not judges:
        raise OptionError(f"-J {next(iter(given))}=… is for a judge, and none was named; name one after {source}")
    purse = Purse(max_cost, yes, quiet or as_json)
    if _is_file(source):
        asked = judges_asked(host, judges, given)
        compared = _of_file(Path(source), asked, files, limit, host, task_name or "demo", purse, quiet or as_json)
    elif task_name is not None:
        raise OptionError(f"--task is for a file of texts; the run {source} has a task of its own: leave --task out")
    else:
        compared = _of_run(source, judges, given, files, limit, host, purse, out, quiet or as_json)
    if len(compared.ratings) < 2:
        known = ", ".join(compared.ratings) or "nobody"
        raise OptionError(
            f"agreement needs two, and these texts are rated by {known} alone; name a judge after {source}, or give --ratings FILE"
        )
    found = compare(compared.ratings, groups=compared.texts.concepts, top=max(show, 1))
    if output is not None:
        _write(compared, output)
    if as_json:
        print_json(_as_json(source, compared, found))
        return
    _print(compared, found, show)


def _is_file(source: str) -> bool:
    from harness.tables import SUFFIXES

    return Path(source).is_file() or Path(source).suffix.lower() in SUFFIXES


# ------------------------------------------------------------------------------------------------------------- where the ratings are from


def _of_file(
    path: Path,
    asked: Mapping[str, tuple[str, dict[str, str]]],
    files: Sequence[Path],
    limit: int | None,
    host: PluginHost,
    task_name: str,
    purse: Purse,
    quiet: bool,
) -> _Compared:
    from harness.bench import Choices
    from harness.judging.texts import read_texts
    from harness.plan import plan_judge
    from harness.rating import rate_texts
    from harness.tasks import find_task

    texts = _with_files(read_texts(path), files, limit)
    found = _Compared(texts, _given(texts))
    if asked:
        task = find_task(host, task_name)
        bench = make_bench(task, Choices(), quiet)
        planned = {spec: plan_judge(host, task, name, options) for spec, (name, options) in asked.items()}
        for spec, judge in planned.items():
            found.ratings[spec] = list(rate_texts(judge, texts.items, bench, purse.approve))
    return found


def _of_run(
    run: str,
    judges: Sequence[str],
    given: Mapping[str, str],
    files: Sequence[Path],
    limit: int | None,
    host: PluginHost,
    purse: Purse,
    out: Path,
    quiet: bool,
) -> _Compared:
    from harness.judging.texts import Texts
    from harness.plan import judges_asked
    from harness.rating import judge_items
    from harness.store import RunStore

    folder = find_run(run, out)
    with RunStore.open(folder, read_only=True) as store:
        texts = _with_files(Texts(tuple(judge_items(store))), files, limit)
        stored = _stored(store)
    # Only a name that says no options of its own ("openai (1a2b3c)") is taken as it stands; all others are asked for what they lack.
    taken = [name for name in judges if name in stored and name not in host.all("judge")] if judges else list(stored)
    asked = judges_asked(host, [name for name in judges if name not in taken], given)
    ids = {item.id for item in texts.items}
    keys = {name: stored[name] for name in taken}
    if asked:
        with RunStore.open(folder) as store:
            keys.update(_rate(store, asked, host, purse, ids, quiet))
            show_pending(store)
    found = _Compared(texts, _given(texts))
    with RunStore.open(folder, read_only=True) as store:
        for name in dict.fromkeys((*judges, *keys)):
            found.ratings[name] = [rating for i, rating in store.ratings(keys[name]).items() if i in ids]
    return found


def _rate(
    store: RunStore, asked: Mapping[str, tuple[str, dict[str, str]]], host: PluginHost, purse: Purse, ids: set[str], quiet: bool
) -> dict[str, str]:
    """Have judges rate these texts of a run; the key of each judge's ratings."""
    from harness.plan import plan_judge
    from harness.rating import rate
    from harness.reopen import reopen

    name, options = next(iter(asked.values()))
    _, bench, _ = reopen(store, host, quiet, name, options)
    planned = {spec: plan_judge(host, bench.task, name, options) for spec, (name, options) in asked.items()}
    keys = {}
    for spec, judge in planned.items():
        bench.warnings.clear()  # what one judge warns of has to be kept for the next, too
        keys[spec] = rate(judge, bench, host, store, purse.approve, ids).key
    return keys


def _stored(store: RunStore) -> dict[str, str]:
    """The keys of the judges of a run by name; where two have one name, by name and the end of the key."""
    records = store.judges()
    names = [record.name for record in records]
    return {f"{r.name} ({r.key[-6:]})" if names.count(r.name) > 1 else r.name: r.key for r in records}


def _with_files(texts: Texts, files: Sequence[Path], limit: int | None) -> Texts:
    """The texts (a random part of ``limit``, the same at every call) with the ratings of files."""
    from harness.types import rng

    for path in files:
        texts.add_ratings(path)
        if strangers := texts.strangers[str(path)]:
            click.echo(f"{path}: {strangers} rows are about other texts and were left out", err=True)
    if limit is None or limit >= len(texts.items):
        return texts
    ids = sorted(item.id for item in texts.items)
    return texts.part(ids[int(place)] for place in rng(0, "judges compared").permutation(len(ids))[:limit])


def _given(texts: Texts) -> dict[str, list[Rated]]:
    return {rater: list(ratings.values()) for rater, ratings in texts.given.items()}


# ------------------------------------------------------------------------------------------------------------------------- shown


def _print(compared: _Compared, found: Iterable[Agreement], show: int) -> None:
    items = {item.id: item for item in compared.texts.items}
    for pair in found:
        rows = [
            (aspect, str(part.n), str(part.n_missing), *(_figure(f) for f in (part.exact, part.kappa, part.spearman, part.bias)))
            for aspect, part in pair.aspects.items()
        ]
        groups = max(part.n_groups for part in pair.aspects.values())
        title = f"{pair.first} and {pair.second}: bias is the second less the first; 95 % intervals over {groups} concepts"
        print_table(title, ("rating", "texts", "missing", "exact", "weighted κ", "Spearman", "bias"), rows)
        for other in pair.disagreements[:show]:
            item = items[other.item_id]
            ratings = ", ".join(
                "/".join("–" if value is None else f"{value:g}" for value in values) for values in (other.first, other.second)
            )
            text = " ".join(item.text.split())[:240]
            click.echo(f"  {item.id} (concept/instruction/fluency: {ratings}) {' '.join(item.concept.split())[:80]}: {text}")
        click.echo("")


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "—"
    return f"{figure.value:.2f}" if figure.low is None else f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def _as_json(source: str, compared: _Compared, found: Iterable[Agreement]) -> dict[str, Json]:
    counts = {name: sum(_whole(rating) for rating in ratings) for name, ratings in compared.ratings.items()}
    return {"source": source, "texts": len(compared.texts.items), "rated": counts, "pairs": [pair.as_json() for pair in found]}


def _whole(rating: Rated) -> bool:
    return None not in (rating.concept, rating.instruction, rating.fluency)


def _write(compared: _Compared, path: Path) -> None:
    """A row for each text and judge, which ``--ratings`` and SOURCE read again."""
    from harness.tables import write_rows

    items = {item.id: item for item in compared.texts.items}
    rows: list[dict[str, Any]] = []
    for name, ratings in compared.ratings.items():
        for rating in ratings:
            item = items[rating.item_id]
            values = {"concept_rating": rating.concept, "instruction_rating": rating.instruction, "fluency_rating": rating.fluency}
            rows.append(
                {"id": item.id, "rater": name, "concept": item.concept, "instruction": item.instruction, "text": item.text, **values}
            )
    write_rows(rows, path)
