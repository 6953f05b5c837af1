"""The likelihoods of the offline judge: packed rows whose common beginnings are read once, against padded rows.

    python benchmarks/likelihoods.py [--run RUN] [--texts 64] [--repeats 3]

Texts are those of a stored run (a folder with ``run.sqlite``; default: the judge's reference passages as replies), sorted as the judge sorts them.
The two ways take turns; printed are processor seconds, their ratio, and how many log-probabilities are the same to the last bit.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
from harness_plugins.judges.offline.likelihood import LikelihoodMeter
from harness_plugins.judges.offline.packed import Packed, Padded
from harness_plugins.judges.offline.references import REFERENCES

from harness.model.loading import load_model

Asked = tuple[str, str, str]


def texts_of(run: Path | None) -> list[Asked]:
    """Concept, instruction and text of each text of a run."""
    if run is None:
        return [("the weather", f"Tell me about number {i % 4}.", text) for i, text in enumerate(REFERENCES)]
    from harness.evaluations.steering.rate import judge_items
    from harness.store import RunStore

    items = judge_items(RunStore.open(run, read_only=True))
    return sorted((item.concept, item.instruction, item.text) for item in items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    model = load_model(args.model, device="cpu")
    asked = sorted(texts_of(args.run), key=lambda one: (one[1], one[2], one[0]))[: args.texts]
    meter = LikelihoodMeter(model, 512)
    seconds: dict[str, list[float]] = {"packed": [], "padded": []}
    found = {}
    for _ in range(args.repeats):
        for name, way in (("packed", Packed(model, 512)), ("padded", Padded(model, 512))):
            meter.use(way)
            start = time.process_time()
            found[name] = meter.measure(asked)
            seconds[name].append(time.process_time() - start)
    pairs = list(zip(found["packed"], found["padded"], strict=True))
    same = np.concatenate([getattr(one, part) == getattr(other, part) for one, other in pairs for part in ("alone", "reply", "topic")])
    packed, padded = (statistics.median(seconds[name]) for name in ("packed", "padded"))
    print(f"{model!r}, {len(asked)} texts, median of {args.repeats}: packed {packed:.1f} s, padded {padded:.1f} s, ratio {packed / padded:.2f}")
    print(f"{same.mean():.2%} of {len(same)} log-probabilities are the same to the last bit")


if __name__ == "__main__":
    main()
