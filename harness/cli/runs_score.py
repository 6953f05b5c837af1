"""``harness runs score RUN --protocol X``: a stored run by another protocol, without generating or rating anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.common import echo, json_option, load_host, out_option, protocol_options, quiet_option, show_entry
from harness.types import Aggregation, ProtocolName

if TYPE_CHECKING:
    from harness.leaderboard.entry import Entry


@click.command("score")
@click.argument("run")
@protocol_options
@click.option("--judge", "judge_key", help="Key or name of the judge whose ratings count (default: the run's own).")
@click.option("--add", is_flag=True, help="Keep the entry beside the run, and put it on the board below --out, in leaderboard/entries/.")
@out_option
@json_option
@quiet_option
def score_command(
    run: str,
    protocol: ProtocolName | None,
    aggregation: Aggregation | None,
    judge_key: str | None,
    add: bool,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score the stored ratings of RUN by a protocol, and print the scores; generates and rates nothing, and writes nothing without --add.

    cv chooses each concept's strength by cross-validation; axbench by the first half of the instructions, and reports the second half.
    """
    from harness.store.listing import find_run

    folder = find_run(run, out)
    by = judge_key, protocol, aggregation
    entry = _kept(folder, *by, quiet=quiet or as_json) if add else _scored(folder, *by)
    show_entry(entry, out, folder, as_json, keep=add)
    if not add and not as_json:
        echo("nothing was written; --add keeps this entry beside the run and puts it on the board")


def _scored(folder: Path, judge_key: str | None, protocol: ProtocolName | None, aggregation: Aggregation | None) -> Entry:
    """The run's entry, of a file that is only read."""
    from harness.evaluations.entry import make_entry
    from harness.evaluations.steering.stored import check_generated
    from harness.run.run import with_protocol
    from harness.store import RunStore

    with RunStore.open(folder, read_only=True) as store:
        manifest = with_protocol(store.manifest, load_host(), folder)
        check_generated(manifest, store)
        return make_entry(manifest, store, store.judge_named(judge_key), manifest.protocol.named(protocol, aggregation))


def _kept(folder: Path, judge_key: str | None, protocol: ProtocolName | None, aggregation: Aggregation | None, quiet: bool) -> Entry:
    """The run's entry, kept beside it."""
    from harness.evaluations.evaluate import conclude
    from harness.evaluations.steering.stored import check_generated
    from harness.run.run import Run

    with Run.reopen(folder, load_host(), quiet) as stored:
        check_generated(stored.manifest, stored.store)
        return conclude(stored, stored.store.judge_named(judge_key), stored.manifest.protocol.named(protocol, aggregation))
