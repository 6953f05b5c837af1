"""``harness power``: how many concepts and instructions a difference of a given size needs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, out_option, print_json, print_table, protocol_options
from harness.types import Aggregation, ProtocolName

if TYPE_CHECKING:
    from harness.evaluations.power import PowerPair
    from harness.types import Json

SIZES = (0.05, 0.1, 0.2, 0.4)
TIMES = (1, 2, 4)
"""Instructions are asked for as multiples of the run's."""


@click.command("power")
@click.argument("run")
@click.option("--difference", metavar="0.05,0.1", help="Differences to ask for (default: .05, .1, .2 and .4 of the score).")
@click.option("--power", type=click.FloatRange(0.05, 0.99), default=0.8, show_default=True, help="Chance to tell such a difference from 0.")
@click.option("--instructions", metavar="8,16", help="Instructions for each concept (default: those of the run, twice and four times as many).")
@click.option("--judge", "judge_key", help="Key or name of the judge whose ratings are read (default: the run's own).")
@protocol_options
@out_option
@json_option
def command(
    run: str,
    difference: str | None,
    power: float,
    instructions: str | None,
    judge_key: str | None,
    protocol: ProtocolName | None,
    aggregation: Aggregation | None,
    out: Path,
    as_json: bool,
) -> None:
    """Say how many concepts and instructions a difference of a given size needs, by what the scores of RUN vary.

    Each method of the run is set against the controls that the leaderboard compares it with. Reads the stored run alone: no model is loaded.
    """
    from harness.evaluations.power import power_pairs
    from harness.store import RunStore
    from harness.store.listing import find_run

    sizes = _numbers(difference, "--difference", SIZES)
    wanted = _numbers(instructions, "--instructions", ())
    with RunStore.open(find_run(run, out), read_only=True) as store:
        pairs = power_pairs(store.manifest, store, store.judge_named(judge_key), store.manifest.protocol.named(protocol, aggregation))
    if as_json:
        print_json([_as_json(pair, sizes, power, wanted) for pair in pairs])
        return
    for pair in pairs:
        _show(pair, sizes, power, wanted)


def _counts(pair: PowerPair, wanted: tuple[float, ...]) -> tuple[float | None, ...]:
    """The numbers of instructions to ask for; None alone where texts answer none."""
    if not pair.spread.n_instructions:
        return (None,)
    return wanted or tuple(pair.spread.n_instructions * times for times in TIMES)


def _show(pair: PowerPair, sizes: tuple[float, ...], power: float, wanted: tuple[float, ...]) -> None:
    about = pair.spread
    by = f" ({pair.protocol})" if pair.protocol else ""
    per_concept = f" × {about.n_instructions:g} instructions" if about.n_instructions else ""
    echo(f"{pair.kind}: {pair.method} against {pair.name}: {about.difference:+.3f} in {pair.metric}{by}")
    if not about.foresees:
        echo(f"nothing can be foreseen: the {about.n_concepts} concepts share features, and count as {about.effective:.1f} independent\n")
        return
    echo(f"this run ({about.n_concepts} concepts{per_concept}) tells a difference of {about.detectable(power):.2f} from 0 with power {power:g}")
    rows = [
        ("as in the run" if count is None else f"{count:g}", *[_cell(about.concepts_for(size, power, count)) for size in sizes])
        for count in _counts(pair, wanted)
    ]
    print_table("concepts needed", ("instructions", *[f"difference {size:g}" for size in sizes]), rows)
    share = about.within / about.n_instructions if about.n_instructions else 0.0
    if share + about.between > 0 and about.n_instructions:
        echo(f"of the spread over concepts {share / (share + about.between):.0%} is due to few instructions, the rest to the concepts")
    echo()


def _cell(count: int | None) -> str:
    from harness.scoring.power import MOST

    return f"over {MOST:,}" if count is None else f"{count:,}"


def _as_json(pair: PowerPair, sizes: tuple[float, ...], power: float, wanted: tuple[float, ...]) -> Json:
    about = pair.spread
    return {
        "kind": pair.kind,
        "method": pair.method,
        "control": pair.control,
        "name": pair.name,
        "metric": pair.metric,
        "protocol": pair.protocol or None,
        "pair": {name: value for name, value in asdict(pair.pair).items() if name not in ("first", "second")},
        "spread": asdict(about),
        "power": power,
        "detectable": about.detectable(power) if about.foresees else None,
        "needed": [
            {"difference": size, "instructions": count, "concepts": about.concepts_for(size, power, count)}
            for count in (_counts(pair, wanted) if about.foresees else ())
            for size in sizes
        ],
    }


def _numbers(text: str | None, flag: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Read numbers above 0, separated by commas. Raises OptionError for anything else."""
    from math import isfinite

    from harness.errors import OptionError

    if text is None:
        return default
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(isfinite(number) and number > 0 for number in found):
        raise OptionError(f"{flag} was given {text!r}", given=text, allowed="numbers above 0, separated by commas")
    return found
