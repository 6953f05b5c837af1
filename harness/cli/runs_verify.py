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

    return {"file": entry.file.name, "reason": entry.reason, "differences": [{**asdict(one), "line": str(one)} for one in entry.differences]}


def _show(report: dict[str, Any]) -> None:
    echo(f"{report['run']}: {report['verdict']}")
    for problem in report["problems"]:
        echo(f"  {problem}")
    for entry in report["entries"]:
        if entry["reason"]:
            echo(in_cell(f"  {entry['file']} cannot be recomputed: {entry['reason']}"))
        for difference in entry["differences"][:MOST]:
            echo(in_cell(f"  {entry['file']}: {difference['line']}"))
        if len(entry["differences"]) > MOST:
            echo(f"  {entry['file']}: {len(entry['differences']) - MOST} more numbers differ; --json has all")
