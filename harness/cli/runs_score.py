"""``harness runs score RUN --protocol X``: the entry of a stored run by another protocol, without generating or rating anything."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.common import json_option, load_host, out_option, protocol_options, quiet_option, show_entry
from harness.types import Aggregation, ProtocolName


@click.command("score")
@click.argument("run")
@protocol_options
@click.option("--judge", "judge_key", help="Key or name of the judge whose ratings count (default: the run's own).")
@out_option
@json_option
@quiet_option
def score_command(
    run: str,
    protocol: ProtocolName | None,
    aggregation: Aggregation | None,
    judge_key: str | None,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score the stored ratings of RUN by a protocol; makes an entry of its own, and generates and rates nothing.

    cv chooses each concept's strength by cross-validation; axbench by the first half of the instructions, and reports the second half.
    """
    from harness.evaluations.evaluate import conclude
    from harness.evaluations.steering.stored import check_generated
    from harness.run.run import Run
    from harness.store.listing import find_run

    folder = find_run(run, out)
    with Run.reopen(folder, load_host(), quiet or as_json) as stored:
        check_generated(stored.manifest, stored.store)
        record = stored.store.judge_named(judge_key)
        entry = conclude(stored, record, stored.manifest.protocol.named(protocol, aggregation))
    show_entry(entry, out, folder, as_json)
