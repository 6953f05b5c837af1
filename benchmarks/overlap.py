"""An evaluation whose judge waits on a network: rating while texts are generated, against the longer of generating alone and judging alone.

    python benchmarks/overlap.py [--task demo] [--labeler calibf1] [--steerer sae-clamp diff-mean caa] [--limit N] [--latency 0.2] [--concurrency 64]
        [--rounds 3]

The judge is harness' own for OpenAI's API, before a server on loopback (that of ``judging.py``, in a process of its own) that answers after the
latency. In each round a run is made with overlap, and one without, whose two stages are what stands beside; the times are those that runs note
(``harness profile``). The aim is at most 1.1. Worst is where the two take equally long: ``--concurrency`` sets how long judging takes (with 8
requests at once about as long as generation on two cores). Texts that are decoded together and have the length that decoding allows end together,
so nothing is left beside which the last batch could be rated: a job of so many batches (of 256 rows on a CPU) takes by one part of so many longer
than judging alone, a job of one batch as long as both. On a machine without an accelerator the judge's own processor time (3 ms a reply) is taken
from generation.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from judging import served  # the script beside this one

import harness
from harness.evaluations.steering import meanwhile
from harness.run.profile import LOADING, STEERERS, stages_of
from harness.store import RunStore


def stages(args: argparse.Namespace, url: str, name: str) -> tuple[dict[str, float], int]:
    """Return the seconds of each stage of a run that is made anew, and its texts; ``name`` is that of the model that is asked, so nothing comes from
    the cache."""
    with tempfile.TemporaryDirectory() as out:
        options = {"base_url": url, "key_name": "BENCHMARK_KEY", "model": name, "concurrency": args.concurrency, "structured": False}
        plugins: dict[str, Any] = {"labelers": [args.labeler], "steerers": args.steerer, "judge": "openai", "options": {"judge": options}}
        run = harness.evaluate(args.task, **plugins, controls=False, out=out, limit=args.limit)
        with RunStore.open(Path(run.folder), read_only=True) as store:
            apart = {stage.stage: stage.wall - sum(stage.seconds.get(part, 0.0) for part in (LOADING, STEERERS)) for stage in stages_of(store)}
            return apart, len(store.generations())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--labeler", default="calibf1")
    parser.add_argument("--steerer", nargs="+", default=["sae-clamp", "diff-mean", "caa"])
    parser.add_argument("--limit", type=int, help="concepts; all of the task's without it")
    parser.add_argument("--latency", type=float, default=0.2, help="seconds of a reply")
    parser.add_argument("--concurrency", type=int, default=64, help="requests at once; harness' own default is 64, too")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    os.environ["BENCHMARK_KEY"] = "none"
    ratios = []
    with served(args.latency, False, 0.0) as url:
        for place in range(args.rounds):
            name = f"benchmark-{time.time_ns()}"
            together, texts = stages(args, url, f"{name}-a")
            with mock.patch.object(meanwhile, "rates_meanwhile", return_value=False):
                apart, _ = stages(args, url, f"{name}-b")
            generating, judging = apart["steering: generate"], apart["steering: rate"]
            whole = together["steering: generate"] + together.get("steering: rate", 0.0)
            ratios.append(whole / max(generating, judging))
            print(
                f"round {place + 1}, {texts} texts: generating {generating:.2f} s, judging {judging:.2f} s, one after the other "
                f"{generating + judging:.2f} s, together {whole:.2f} s: {ratios[-1]:.3f} of the longer",
                flush=True,
            )
    print(f"median of {args.rounds}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
