"""How long a site takes to build: an entry copied 200 times with changed numbers.

    python benchmarks/leaderboard_site.py [ENTRY.json] [--entries 200] [--keep FOLDER]

Of each method its items' values are moved by a random amount of its own for each copy (within the bounds), with another seed and run, and all
means are made again, so the copies rank differently.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entry, save_entry
from harness.types import digest, rng

ROOT = Path(__file__).resolve().parents[1]


def changed(entry: Entry, number: int) -> Entry:
    """Return a copy of an entry with other numbers, of another run."""
    value: dict[str, Any] = json.loads(json.dumps(entry.as_json()))
    random = rng(number, "benchmark")
    value |= {"id": "", "seal": "", "seed": number, "run_digest": digest(["copy", number])}
    value["model"]["name"] = f"model-{number % 7}"
    for one in value["dictionaries"]:
        one |= {"layer": number % 12, "d_sae": 2 ** (10 + number % 5), "digest": digest(["sae", number % 5])}
    for row in value["rows"]:
        move = float(random.normal(0, 0.2))
        if row["role"] == "method" and row["kind"] == "steering":
            row["subject"]["steerer_options"]["given"] = {"copy": number}
        for name, metric in row["metrics"].items():
            low, high = metric["bounds"]
            for item in row["items"]:
                if item["values"].get(name) is not None:
                    item["values"][name] = float(np.clip(item["values"][name] + move, low, high))
            own = [item["values"][name] for item in row["items"] if item["values"].get(name) is not None]
            _set(metric, float(np.mean(own)) if own else metric["value"])
        if row.get("ranked"):
            values = [item["values"][row["primary"]] if item["answered"] else row["ranked"]["trivial"] for item in row["items"]]
            _set(row["ranked"], float(np.mean(values)))
        if row.get("bounds"):
            row["bounds"] = {"low": 0, "high": 2, "reason": ""}
    return Entry.model_validate(value)


def _set(metric: dict[str, Any], mean: float | None) -> None:
    """Give a metric another value, with its interval moved along."""
    if mean is None:
        return
    low, high = metric["bounds"]
    if metric["low"] is not None:
        half = (metric["high"] - metric["low"]) / 2
        metric["low"], metric["high"] = float(np.clip(mean - half, low, high)), float(np.clip(mean + half, low, high))
    metric["value"] = mean


def newest() -> Path:
    """Return the newest entry of the repository."""
    return max((ROOT / "leaderboard" / "entries").glob("*.json"), key=lambda path: load_entry(path).created)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entry", nargs="?", type=Path, default=newest())
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    from harness.leaderboard.files import load_entries
    from harness.leaderboard.published import load_published
    from harness.leaderboard.site.build import build_site

    entry = load_entry(given.entry)
    with tempfile.TemporaryDirectory() as folder:
        work = given.keep or Path(folder)
        for number in range(given.entries):
            save_entry(changed(entry, number), work / "leaderboard" / "entries")
        started, worked = time.perf_counter(), time.process_time()
        entries, problems = load_entries(work / "leaderboard" / "entries")
        loaded = time.perf_counter()
        site = build_site(entries, work / "site", published=load_published(), problems=problems)
        done, worked = time.perf_counter(), time.process_time() - worked
        sizes = [path.stat().st_size for path in (work / "site").rglob("*") if path.is_file()]
        spent = f"{done - started:.1f} s ({worked:.1f} s of the processor), {loaded - started:.1f} s of them to read the entries"
        print(f"{len(entries)} entries: {spent}")
        print(f"{len(site.pages)} pages, {sum(sizes) / 1e6:.1f} MB; index {(work / 'site' / 'index.html').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
