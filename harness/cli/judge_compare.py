"""``harness judge compare``: one set of texts, two or more judges or people, and how far they agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import echo, make_bench, print_json, print_table, show_pending
from harness.cli.rating import RatingOptions, rating_options

if TYPE_CHECKING:
    from harness.cli.spending import Purse
    from harness.judging.agreement import Agreement, Figure, Rated
    from harness.judging.texts import Texts
    from harness.plugin.grammar import PluginRequest
    from harness.plugin.host import PluginHost
    from harness.run.run import Run
    from harness.store import JudgeRecord, RunStore
    from harness.types import Goal, Json

SHOWN = 5
ROUGH_BELOW = 20
"""Concepts below which an interval is a rough one, as on the leaderboard."""


@dataclass
class _Compared:
    """The texts, and each judge's ratings of them by the name it is shown under."""

    texts: Texts
    ratings: dict[str, list[Rated]] = field(default_factory=dict)
    goal: Goal = "express"
    """What the texts were steered for."""

    def check_names(self, judges: Iterable[str]) -> None:
        """Raise OptionError for a judge that is called as somebody whose ratings come from a file."""
        from harness.errors import OptionError

        if clash := [name for name in judges if name in self.ratings]:
            message = f"a file has ratings by {clash[0]!r}, as a judge here is called"
            raise OptionError(message, given=clash[0], hint="rename that rater in the file, or leave the judge out")


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
@click.option("--limit", type=click.IntRange(min=1), help="Compare on a random part of so many texts.")
@click.option("--show", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Texts shown that they disagree on most.")
@click.option("--task", "task_name", help="For a file of texts: the task whose subject model a judge may need (default: demo).")
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write texts and ratings (.jsonl, .csv, .parquet).")
@rating_options("[judge:]name=value")
def compare_command(
    source: str,
    judges: tuple[str, ...],
    files: tuple[Path, ...],
    limit: int | None,
    show: int,
    task_name: str | None,
    output: Path | None,
    options: RatingOptions,
) -> None:
    """How far judges and people agree on one set of texts, two by two: exact agreement, weighted κ, Spearman, bias, and where they differ most.

    SOURCE is a run, or a file of texts (.jsonl, .csv, .parquet) with the columns concept, instruction and text. JUDGES are names of judges, or
    NAME:option=value,… to have one of them twice; they rate what they have not rated yet. Without JUDGES, those that have rated the run are compared.
    """
    from harness.errors import OptionError
    from harness.files.rows import check_suffix
    from harness.judging.agreement import compare
    from harness.run.plan import judges_asked

    if output is not None:
        check_suffix(output)
    host, given = options.host, options.given
    if given and not judges:
        option = next(iter(given))
        raise OptionError(f"-J {option}=… is for a judge, and none was named", given=option, hint=f"name one after {source}")
    if _is_file(source):
        asked = judges_asked(host, judges, given)
        compared = _of_file(Path(source), asked, files, limit, task_name or "demo", options)
    elif task_name is not None:
        message = f"--task is for a file of texts; the run {source} has a task of its own"
        raise OptionError(message, given=task_name, hint="leave --task out")
    else:
        compared = _of_run(source, judges, files, limit, options)
    if len(compared.ratings) < 2:
        raters = ", ".join(compared.ratings) or "nobody"
        message = f"agreement needs two, and these texts are rated by {raters} alone"
        raise OptionError(message, given=tuple(compared.ratings), hint=f"name a judge after {source}, or give --ratings FILE")
    found = compare(compared.ratings, groups=compared.texts.concepts, top=max(show, 1), goal=compared.goal)
    if output is not None:
        _write(compared, output)
    if options.as_json:
        print_json(_as_json(source, compared, found))
        return
    _print(compared, found, show)


def _is_file(source: str) -> bool:
    from harness.files.rows import SUFFIXES

    return Path(source).is_file() or Path(source).suffix.lower() in SUFFIXES


# ------------------------------------------------------------------------------------------------------------- where the ratings are from


def _of_file(
    path: Path, asked: Mapping[str, PluginRequest], files: Sequence[Path], limit: int | None, task_name: str, options: RatingOptions
) -> _Compared:
    from harness.contracts import Priced, Work
    from harness.evaluations.steering.rate import check_answers_at_once, rate_texts
    from harness.judging.texts import read_texts
    from harness.run.bench import Choices
    from harness.run.plan import plan_judge
    from harness.tasks.find import find_task

    texts = _with_files(read_texts(path), files, limit)
    found = _Compared(texts, _ratings_of_files(texts))
    found.check_names(asked)
    if asked:
        task = find_task(options.host, task_name)
        every = {spec: plan_judge(options.host, task, request, {}) for spec, request in asked.items()}
        for judge in every.values():
            check_answers_at_once(judge)
        planned = {spec: every[spec] for spec in _each_once({spec: judge.same for spec, judge in every.items()})}
        priced = {spec: judge.instance for spec, judge in planned.items() if isinstance(judge.instance, Priced)}
        options.purse.approve_all(
            {f"judge {spec}": judge.estimate(Work(items=texts.items)) for spec, judge in priced.items()}
        )  # all of them, before one is paid
        bench = make_bench(task, Choices(), options.silent)
        for spec, judge in planned.items():
            found.ratings[spec] = list(rate_texts(judge, texts.items, bench))
    return found


def _of_run(run: str, judges: Sequence[str], files: Sequence[Path], limit: int | None, options: RatingOptions) -> _Compared:
    from harness.evaluations.steering.rate import judge_items
    from harness.judging.texts import Texts
    from harness.run.run import Run
    from harness.store import RunStore
    from harness.store.listing import find_run

    folder, given = find_run(run, options.out), options.given
    with RunStore.open(folder, read_only=True) as store:
        texts = _with_files(Texts(tuple(judge_items(store))), files, limit)
        stored = _stored(store)
        goal: Goal = "express" if store.incomplete else store.manifest.protocol.goal
        ids = {item.id for item in texts.items}
        done = {} if given else {name: record.key for name, record in stored.items() if _has_rated(store, record, ids)}
    asked, taken = _asked(options.host, judges, stored, done, given) if judges else ({}, {name: record.key for name, record in stored.items()})
    found = _Compared(texts, _ratings_of_files(texts), goal)
    found.check_names((*asked, *taken))
    keys = dict(taken)
    if asked:
        with Run.reopen(folder, options.host, options.silent) as stored_run:
            keys.update(_rate(stored_run, asked, options.purse, ids))
            show_pending(stored_run.store, keys.values())
    with RunStore.open(folder, read_only=True) as store:
        for name, key in _each_once({name: keys[name] for name in dict.fromkeys((*judges, *keys))}).items():
            found.ratings[name] = [rating for i, rating in store.ratings(key).items() if i in ids]
    return found


def _asked(
    host: PluginHost, judges: Sequence[str], stored: Mapping[str, JudgeRecord], done: Mapping[str, str], given: Mapping[str, str]
) -> tuple[dict[str, PluginRequest], dict[str, str]]:
    """Return who is to be asked, with which options, and the keys of judges of the run who need not be asked, or cannot.

    Those are the ones who have rated every text (``done``), and those whose plugin is not here.

    A bare name is the judge that has rated the run under it, with its options; what it lacks (a part of the texts, a batch that is due) is asked for.
    """
    from harness.plugin.grammar import PluginRequest
    from harness.run.plan import judges_asked

    installed = host.all("judge")
    taken = {name: stored[name].key for name in judges if name in stored and (name in done or stored[name].name not in installed)}
    names = {spec: stored[spec].name if spec in stored else spec for spec in judges if spec not in taken}
    known = judges_asked(host, list(names.values()), given)
    asked: dict[str, PluginRequest] = {}
    for spec, name in names.items():
        options = {**(stored[spec].options if spec in stored else {}), **known[name].options}
        asked[spec] = PluginRequest(known[name].name, options)
    return asked, taken


def _has_rated(store: RunStore, record: JudgeRecord, ids: set[str]) -> bool:
    """Whether a judge of the run has rated every one of these texts."""
    rated = store.ratings(record.key)
    return all(i in rated and rated[i].status == "rated" for i in ids)


def _each_once(digests: Mapping[str, str]) -> dict[str, str]:
    """Judges by how they were asked for, with a digest each, without those that are another one in other words, which is said."""
    first: dict[str, str] = {}
    for spec, digest in digests.items():
        if first.setdefault(digest, spec) != spec:
            echo(f"{spec} is judge {first[digest]} with the same options: it is compared once", err=True)
    return {spec: digest for digest, spec in first.items()}


def _rate(run: Run, asked: Mapping[str, PluginRequest], purse: Purse, ids: set[str]) -> dict[str, str]:
    """Have judges rate these texts of a run; the key of each judge's ratings."""
    from harness.evaluations.steering.judge_record import judge_record
    from harness.evaluations.steering.rate import rate
    from harness.evaluations.steering.stored import check_generated
    from harness.run.plan import plan_stored_judge

    check_generated(run.manifest, run.store)
    planned = {spec: plan_stored_judge(run.host, run.manifest, request, {}) for spec, request in asked.items()}
    keys = {spec: judge_record(run, judge).key for spec, judge in planned.items()}
    for spec, judge in {judge.same: (spec, judge) for spec, judge in planned.items()}.values():
        run.approve = lambda estimate, who="judge", spec=spec: purse.approve(estimate, f"judge {spec}")
        rate(run, judge, ids)
    return keys


def _stored(store: RunStore) -> dict[str, JudgeRecord]:
    """Return the judges of a run by name; where two have one name, by name and the end of the key."""
    records = store.judges()
    names = [record.name for record in records]
    return {f"{r.name} ({r.key[-6:]})" if names.count(r.name) > 1 else r.name: r for r in records}


def _with_files(texts: Texts, files: Sequence[Path], limit: int | None) -> Texts:
    """Return the texts (a random part of ``limit``, the same at every call) with the ratings of files."""
    from harness.types import rng

    for path in files:
        texts.add_ratings(path)
        if unmatched := texts.unmatched[str(path)]:
            echo(f"{path}: {unmatched} rows are about other texts and were left out", err=True)
    if limit is None or limit >= len(texts.items):
        return texts
    ids = sorted(item.id for item in texts.items)
    return texts.part(ids[int(place)] for place in rng(0, "judges compared").permutation(len(ids))[:limit])


def _ratings_of_files(texts: Texts) -> dict[str, list[Rated]]:
    return {rater: list(ratings.values()) for rater, ratings in texts.given.items()}


# ------------------------------------------------------------------------------------------------------------------------- shown


def _print(compared: _Compared, found: Iterable[Agreement], show: int) -> None:
    from harness.evaluations.steering.rate import why_unrated
    from harness.types import Rating

    items = {item.id: item for item in compared.texts.items}
    for pair in found:
        rows = [
            (aspect, str(part.n), str(part.n_missing), *(_figure(f) for f in (part.exact, part.kappa, part.spearman, part.bias)))
            for aspect, part in pair.aspects.items()
        ]
        groups = max(part.n_groups for part in pair.aspects.values())
        rough = f", rough below {ROUGH_BELOW}" if groups < ROUGH_BELOW else ""
        echo(f"{pair.first} and {pair.second}: bias is the second less the first; 95 % intervals over {groups} concepts{rough}")
        print_table("", ("rating", "texts", "missing", "exact", "weighted κ", "Spearman", "bias"), rows)
        for other in pair.disagreements[:show]:
            item = items[other.item_id]
            grades = ", ".join(
                "/".join("–" if value is None else f"{value:g}" for value in values) for values in (other.first, other.second)
            )
            text = " ".join(item.text.split())[:240]
            echo(f"  {item.id} (concept/instruction/fluency: {grades}) {' '.join(item.concept.split())[:80]}: {text}")
        echo("")
    for name, ratings in compared.ratings.items():
        unrated = [rating for rating in ratings if isinstance(rating, Rating) and rating.status == "unrated"]
        if unrated:
            echo(f"{name} left {len(unrated)} of {len(items)} texts unrated: {why_unrated(unrated)}")


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "—"
    value, *ends = (f"{round(number, 2) + 0.0:.2f}" for number in (figure.value, figure.low, figure.high) if number is not None)  # no -0.00
    return f"{value} [{', '.join(ends)}]" if ends else value


def _as_json(source: str, compared: _Compared, found: Iterable[Agreement]) -> dict[str, Json]:
    counts = {name: sum(_is_complete(rating) for rating in ratings) for name, ratings in compared.ratings.items()}
    return {"source": source, "texts": len(compared.texts.items), "rated": counts, "pairs": [pair.as_json() for pair in found]}


def _is_complete(rating: Rated) -> bool:
    return None not in (rating.concept, rating.instruction, rating.fluency)


def _write(compared: _Compared, path: Path) -> None:
    """A row for each text and judge, which ``--ratings`` and SOURCE read again."""
    from harness.files.rows import write_rows

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
