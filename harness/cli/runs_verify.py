"""``harness runs verify``: whether runs are as they were written, and whether their entries say what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.common import echo, json_option, out_option, print_json
from harness.files.visible import in_cell

if TYPE_CHECKING:
    from harness.evaluations.recompute import Recomputed

MOST = 20
"""So many differences of an entry are shown; --json has all."""
SAYS = {
    "intact": "every record is as it was written",
    "no digests": "an older harness wrote it, so a record that was changed could not be noticed",
}
"""What a verdict means, for one that needs it said."""
FAULTS = ("damaged", "scores differ")
"""Verdicts that end the command with exit code 2."""


@click.command("verify")
@click.argument("names", metavar="[RUN]...", nargs=-1)
@out_option
@json_option
def verify_command(names: tuple[str, ...], out: Path, as_json: bool) -> None:
    """Check every record of RUNs (default: all below --out) against the digests that were stored with it, and make every score again.

    Each entry beside a run is read, and its numbers are computed anew from the stored ratings, detections and measurements; what differs is named.
    Exit code 2 if a run is damaged or a score differs. A run that an older harness wrote has no digests; it gets them when it is next written to.
    """
    from harness.errors import StoreError
    from harness.store import list_runs
    from harness.store.listing import find_run

    folders = [find_run(name, out) for name in names] or [run.folder for run in list_runs(out / "runs")]
    reports = [_report(folder) for folder in folders]
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            _show(report)
        if not reports:
            echo(f"no runs below {out / 'runs'}")
    if broken := [str(report["run"]) for report in reports if report["verdict"] in FAULTS]:
        message = f"{len(broken)} of {len(reports)} runs are damaged or have other scores than their entries say: {', '.join(broken)}"
        raise StoreError(message, given=tuple(broken), hint="put copies back, or make them again")


def _report(folder: Path) -> dict[str, Any]:
    from harness.errors import StoreError
    from harness.evaluations.recompute import recompute_entries
    from harness.leaderboard.files import load_entry
    from harness.store import verify

    found = verify(folder)
    problems = [found.problem] if found.problem else []
    for path in sorted(folder.glob("entry*.json")):
        try:
            entry = load_entry(path)
        except StoreError as error:
            problems.append(str(error))
            continue
        if found.run_digest and entry.run_digest != found.run_digest and not entry.migrated_from:
            problems.append(f"{path} is the entry of another run; remove it, and run the run's command again")
    entries = recompute_entries(folder)
    problems += [f"{entry.file.name} cannot be recomputed: {entry.reason}" for entry in entries if entry.damaged]
    verdict: str = "damaged" if problems else found.verdict
    if not problems and any(entry.differences for entry in entries):
        verdict = "scores differ"
    elif not problems and any(entry.reason for entry in entries):
        verdict = "not recomputed"
    return {
        "run": found.id,
        "folder": str(folder),
        "verdict": verdict,
        "groups": list(found.groups),
        "problems": problems,
        "entries": [_entry(entry) for entry in entries],
    }


def _entry(entry: Recomputed) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "file": entry.file.name,
        "reason": entry.reason,
        "differences": [{**asdict(one), "line": str(one)} for one in entry.differences],
        "rows": 0 if entry.entry is None else len(entry.entry.rows),
        "made_of": dict(entry.made_of),
    }


def _show(report: dict[str, Any]) -> None:
    echo(f"{report['run']}: {report['verdict']}{_meaning(report)}")
    for problem in report["problems"]:
        echo(f"  {problem}")
    if not report["entries"] and report["verdict"] in SAYS:
        echo("  no entry lies beside it, so no score was made again")
    for entry in report["entries"]:
        if entry["reason"]:
            echo(in_cell(f"  {entry['file']} cannot be recomputed: {entry['reason']}"))
        elif not entry["differences"]:
            echo(in_cell(f"  {entry['file']}: every score is what the run gives: {_made_again(entry)}"))
        for difference in entry["differences"][:MOST]:
            echo(in_cell(f"  {entry['file']}: {difference['line']}"))
        if len(entry["differences"]) > MOST:
            echo(f"  {entry['file']}: {len(entry['differences']) - MOST} more numbers differ; --json has all")


def _meaning(report: dict[str, Any]) -> str:
    return f": {SAYS[report['verdict']]}" if report["verdict"] in SAYS else ""


def _made_again(entry: dict[str, Any]) -> str:
    """Return how many rows were made again, and of how much: ``4 rows made again from 192 ratings and 8 detections``."""
    rows = f"{entry['rows']:,} row{'s' * (entry['rows'] != 1)} made again"
    parts = [f"{count:,} {what if count != 1 else what.removesuffix('s')}" for what, count in entry["made_of"].items()]
    return f"{rows} from {', '.join(parts[:-1]) + ' and ' * (len(parts) > 1) + parts[-1]}" if parts else rows
