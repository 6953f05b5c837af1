"""``harness runs compare``: is A better than B, by how much, with what certainty; then concept by concept, and in texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from harness.cli.common import console, echo, json_option, out_option, print_json, protocol_options
from harness.cli.runs_list import folded
from harness.types import Aggregation, EvaluationKind, Goal, ProtocolName

if TYPE_CHECKING:
    from harness.evaluations.compare import Comparison, Side
    from harness.evaluations.compare_texts import TextPair
    from harness.evaluations.win_rates import WinRates
    from harness.store import RunStore
    from harness.store.run import Record

SHOWN = 3
_MOST_ITEMS = 40
"""So many concepts are listed; ``--json`` has all."""


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--kind", type=click.Choice(get_args(EvaluationKind)), help="The kind of evaluation (default: the first that both have).")
@click.option("--judge", help="Key or name of the judge whose ratings count (default: each run's own).")
@protocol_options
@click.option("--texts", "count", type=click.IntRange(min=0), default=SHOWN, show_default=True, help="Pairs of texts that differ most.")
@out_option
@json_option
def compare_command(
    first: str,
    second: str,
    kind: EvaluationKind | None,
    judge: str | None,
    protocol: ProtocolName | None,
    aggregation: Aggregation | None,
    count: int,
    out: Path,
    as_json: bool,
) -> None:
    """Say whether A is better than B, by how much and with what certainty: paired over the concepts that both have.

    A and B are runs, or RUN:METHOD for another than the run's first method; METHOD is its name, its number in `harness runs show`, or its labeler,
    steerer, detector or metric. Both may belong to one run.
    """
    from harness.evaluations.compare import compare
    from harness.evaluations.compare_texts import most_different, told_alike
    from harness.evaluations.win_rates import win_rates

    with contextlib.ExitStack() as stack:
        (store, method), (other, other_method) = (_open(text, out, stack) for text in (first, second))
        sides = _sides(_kinds(store, other, kind), (store, method), (other, other_method), judge, protocol, aggregation)
        found = told_alike(compare(*sides), store, other)
        texts, rates = most_different(found, store, other, count), win_rates(found, store, other)
    if as_json:
        print_json({**found.as_json(), "win_rates": rates.as_json(), "texts": [pair.as_json() for pair in texts]})
        return
    _print(found, rates, texts, count)


def _open(text: str, out: Path, stack: contextlib.ExitStack) -> tuple[RunStore, str]:
    """Return the run that is meant, open, and the method; a colon may belong to the run's path or to the method's options."""
    from harness.errors import UnknownNameError
    from harness.store import RunStore
    from harness.store.listing import find_run

    cuts = [len(text), *(place for place, letter in enumerate(text) if letter == ":")]
    for cut in cuts:
        try:
            folder = find_run(text[:cut], out)
        except UnknownNameError:
            continue
        return stack.enter_context(RunStore.open(folder, read_only=True)), text[cut + 1 :].strip()
    folder = find_run(text.partition(":")[0], out)  # says what is wrong
    return stack.enter_context(RunStore.open(folder, read_only=True)), ""


def _kinds(first: RunStore, second: RunStore, wanted: EvaluationKind | None) -> list[EvaluationKind]:
    """Return the kinds of evaluation that may be compared. Raises OptionError where one of the runs has none of them."""
    from harness.errors import OptionError
    from harness.evaluations.compare import kinds_of

    ours, theirs = kinds_of(first.manifest), kinds_of(second.manifest)
    both = [kind for kind in ours if kind in theirs]
    found = [kind for kind in both if wanted in (None, kind)]
    if not found:
        listed = f"{first.id} has {', '.join(ours) or 'none'}, {second.id} {', '.join(theirs) or 'none'}"
        what = "no kind of evaluation is in both runs" if wanted is None else f"{wanted} is not in both runs"
        raise OptionError(f"A and B may not be compared: {what} ({listed})", given=wanted, allowed=tuple(both) or "runs that share a kind")
    return found


def _sides(
    kinds: list[EvaluationKind],
    first: tuple[RunStore, str],
    second: tuple[RunStore, str],
    judge: str | None,
    protocol: ProtocolName | None,
    aggregation: Aggregation | None,
) -> tuple[Side, Side]:
    """Return the two sides, of the first kind in which both methods are found. Raises what the first kind raises where there is none."""
    from harness.errors import UnknownNameError
    from harness.evaluations.compare import load_side

    failed: UnknownNameError | None = None
    for kind in kinds:
        try:
            ours, theirs = (load_side(store, kind, method, judge, protocol, aggregation) for store, method in (first, second))
            return ours, theirs
        except UnknownNameError as error:
            failed = failed or error
    assert failed is not None, "there is a kind"
    raise failed


# ------------------------------------------------------------------------------------------------------------------------- shown


def _print(found: Comparison, rates: WinRates, texts: list[TextPair], wanted: int) -> None:
    """Print the answer, then what stands behind it; ``wanted`` is how many pairs of texts were asked for."""
    screen = console()
    echo(found.headline())
    echo("")
    for letter, side in (("A", found.first), ("B", found.second)):
        for line in folded([f"{letter}  {side.name}", side.run, *_score(side)], screen.width, ""):
            screen.print(line, soft_wrap=True)
    for note in (*_win_rates(rates), *_notes(found)):
        for line in folded([note], screen.width, "", "dim"):
            screen.print(line, soft_wrap=True)
    echo("")
    _print_items(found)
    if found.kind == "dictionary":
        _print_metrics(found)
    for pair in texts:
        _print_texts(pair)
    if found.kind == "steering" and not texts and wanted:
        echo("no text of one concept and instruction is rated otherwise at the chosen strengths")


def _win_rates(rates: WinRates) -> Iterator[str]:
    """Yield how often A is above B."""
    for name, rate in rates.named.items():
        ends = "" if rate.low is None or rate.high is None else f" [{rate.low:.2f}, {rate.high:.2f}]"
        yield f"{name}: A above B on {rate.value:.0%}{ends}: {rate.wins} wins, {rate.ties} ties, {rate.losses} losses"


def _score(side: Side) -> list[str]:
    score, row = side.row.score, side.row
    ends = "" if score.low is None or score.high is None else f" [{score.low:.3f}, {score.high:.3f}]"
    judge = [] if side.judge is None else [f"judge {side.judge.name}"]
    marks = ["control"] if row.role == "control" else []
    return [f"{score.value:.3f}{ends}" if score.value is not None else f"no score: {score.reason}", *judge, *marks]


def _notes(found: Comparison) -> Iterator[str]:
    """Yield what stands behind the answer, and what limits it."""
    ends, test = found.found.interval, found.found
    low, high = found.bounds
    scale = f", from {low:g} to {high:g}" if low is not None and high is not None else ""
    direction = {True: "more is better", False: "less is better", None: "neither direction is better"}[found.higher_is_better]
    protocol = f"; protocol {found.first.manifest.protocol.title}" if found.kind == "steering" else ""
    yield f"{found.title}{scale}, {direction}{protocol}"
    if ends.n:
        clusters = f" in {ends.n_clusters} clusters that share no feature, {ends.n_effective:.3g} effective ones"
        yield f"paired over {ends.n} {found.item}s{'' if found.kind == 'dictionary' else clusters}"
    if found.verdict != "nothing":
        flips = f"all {test.n_flips:,}" if test.exact else f"{test.n_flips:,} random"
        yield f"interval: {ends.method}, {100 * ends.level:g} %; p: {flips} sign patterns of whole clusters"
        if ends.warning:
            yield ends.warning
    lacking = [item for item in found.items if item.difference is None]
    if lacking:
        named = ", ".join(item.id for item in lacking[:8]) + (", …" if len(lacking) > 8 else "")
        yield f"left out, since one of the two has no score: {named}"
    for side, letter in ((found.first, "A"), (found.second, "B")):
        yield from (f"{letter} is not eligible for a ranking: {reason}" for reason in side.row.reasons)
    yield from (f"differs: {difference}" for difference in found.differs)


def _print_items(found: Comparison) -> None:
    from harness.leaderboard.columns import number, signed
    from harness.leaderboard.layout import Column, Grid, Line

    rows = [Line((item.text or item.id, number(item.first), number(item.second), signed(item.difference))) for item in found.items[:_MOST_ITEMS]]
    console().print(Grid([Column(found.item, name=True), Column("A"), Column("B"), Column("A − B")], rows, broad=True))
    if len(found.items) > _MOST_ITEMS:
        echo(f"{len(found.items) - _MOST_ITEMS} more {found.item}s with smaller differences; --json has all")
    echo("")


def _print_metrics(found: Comparison) -> None:
    """Print the further numbers of a metric, value by value."""
    from harness.leaderboard.columns import significant
    from harness.leaderboard.layout import Column, Grid, Line

    ours, theirs = found.first.row.metrics, found.second.row.metrics
    rows = []
    for name, metric in ours.items():
        other = theirs.get(name)
        values = (metric.value, None if other is None else other.value)
        apart = values[0] - values[1] if values[0] is not None and values[1] is not None else None
        better = {True: "higher", False: "lower", None: "–"}[metric.higher_is_better]
        rows.append(Line((metric.title or name, significant(values[0]), significant(values[1]), significant(apart, "+"), better)))
    columns = [Column("number", name=True), Column("A"), Column("B"), Column("A − B"), Column("better", left=True)]
    console().print(Grid(columns, rows, broad=True))


def _print_texts(pair: TextPair) -> None:
    from harness.cli.side_by_side import SideBySide
    from harness.leaderboard.columns import signed

    title = f"{pair.concept} · {' '.join(pair.instruction.split())} · A − B {signed(pair.difference)}"
    sides = [(_heading(letter, record), _body(record, pair.goal)) for letter, record in (("A", pair.first), ("B", pair.second))]
    console().print(SideBySide(title, sides))


def _heading(letter: str, record: Record) -> str:
    return f"{letter}, strength {record.trial.strength:g}"


def _body(record: Record, goal: Goal) -> str:
    """Return a text, and below it what the judge said of it."""
    from harness.evaluations.compare_texts import said
    from harness.evaluations.steering.choices import overall
    from harness.types import ASPECTS

    assert record.generation is not None
    rating, total = record.rating, overall(record.rating, goal)
    rated = [] if rating is None or total is None else [f"overall {total:.2f}", *(f"{aspect} {getattr(rating, aspect):g}" for aspect in ASPECTS)]
    judged = " · ".join(part for part in (", ".join(rated), _short(said(rating))) if part)
    return f"{record.generation.text}\n— {judged or 'not rated'}"


def _short(text: str, most: int = 600) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]}…"
