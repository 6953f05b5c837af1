"""``harness judge bridge RUN --from A --to B``: by how much scores shift from one judge to another, over texts that both have rated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, keep_entry, print_json, print_table, show_pending
from harness.cli.rating import RatingOptions, rating_options

if TYPE_CHECKING:
    from harness.leaderboard.bridge import Bridge, Shifted


@click.command("bridge")
@click.argument("run")
@click.option(
    "--from", "first", required=True, help="The earlier judge: NAME[:option=value,…], a model's name, or the key of one that has rated RUN."
)
@click.option("--to", "second", required=True, help="The judge that comes after it, in the same form; or the same one with another rubric.")
@rating_options("[judge:]name=value")
def bridge_command(run: str, first: str, second: str, options: RatingOptions) -> None:
    """Have the texts of RUN rated by two judges, and report by how much each method's score, and each difference between methods, shifts.

    Ratings that the run or the cache holds are used, and only missing ones are asked for. The bridge is kept below --out, where `harness leaderboard`
    shows it beside the rankings of either judge; no number is converted.
    """
    from harness.evaluations.evaluate import conclude
    from harness.evaluations.steering.bridge import make_bridge
    from harness.evaluations.steering.bridged import bridged_judges
    from harness.evaluations.steering.stored import check_generated
    from harness.leaderboard.bridge import save_bridge
    from harness.run.run import Run
    from harness.store.listing import find_run

    host, folder = options.host, find_run(run, options.out)
    with Run.reopen(folder, host, options.silent, options.purse.approve) as stored:
        check_generated(stored.manifest, stored.store)
        records, asked = bridged_judges(stored, (first, second), options.given)
        for record in asked:
            keep_entry(conclude(stored, record), options.out)
        show_pending(stored.store, [record.key for record in records])
        bridge = make_bridge(stored.manifest, stored.store, *records)
    path = save_bridge(bridge, options.out)
    if options.as_json:
        print_json({**bridge.as_json(), "file": str(path)})
        return
    _print(bridge)
    echo(f"bridge: {path}")


def _print(bridge: Bridge) -> None:
    echo(f"{bridge.title}: shifts are {bridge.second.name} less {bridge.first.name}, with 95 % intervals over concepts")
    columns = ("first", "second", "shift", "95 % interval", "concepts")
    print_table("scores", ("method", *columns), [(shift.name, *_cells(shift)) for shift in bridge.methods])
    if bridge.differences:
        rows = [(f"{shift.upper} − {shift.lower}", *_cells(shift)) for shift in bridge.differences]
        print_table("differences between methods", ("methods", *columns), rows)
    agreement = [
        (
            name,
            str(part.n),
            str(part.n_missing),
            _number(part.exact),
            _number(part.kappa),
            _ends(part.kappa_low, part.kappa_high),
            _number(part.bias),
        )
        for name, part in bridge.agreement.items()
    ]
    print_table("agreement", ("rating", "texts", "missing", "exact", "weighted κ", "95 % interval", "bias"), agreement)
    warnings = dict.fromkeys(shift.warning for shift in (*bridge.methods, *bridge.differences) if shift.warning)
    for warning in warnings:
        echo(warning)
    echo("no number is converted: scores of the two judges stay in rankings of their own")


def _cells(shift: Shifted) -> tuple[str, ...]:
    change = "–" if shift.shift is None else f"{shift.shift + 0.0:+.3f}"
    return _number(shift.first, 3), _number(shift.second, 3), change, _ends(shift.low, shift.high, 3), str(shift.n)


def _number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def _ends(low: float | None, high: float | None, digits: int = 2) -> str:
    return "–" if low is None or high is None else f"[{_number(low, digits)}, {_number(high, digits)}]"
