"""By how much does cross-validation on 20 instructions score above AxBench's protocol, the method being the same? Prints a table of docs/scoring.md.

    python benchmarks/protocol_gap.py [--concepts 2000]

AxBench (Wu et al. 2025): 10 instructions a concept, the strength with the best mean on 5 of them (ties: the smallest) is reported on the other 5.
The tasks of the papers here: 20 instructions, ten repeats of four folds, so that 15 choose and 5 are reported. Both report on what chose nothing; the
gap is that a mean of 15 texts finds the better strength more often than one of 5.

Concepts are made up: as a strength grows, the concept's rating rises and those of instruction and fluency fall, at strengths and to heights that
differ from concept to concept; each rating is a binomial draw of 0, 1 or 2. Both protocols see the same concepts, AxBench's the first ten
instructions. Seeded: the same arguments print the same table.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from harness.scoring import cross_validate, harmonic_mean
from harness.types import rng

STRENGTHS, INSTRUCTIONS = 14, 20
METHODS = {
    "steers seldom": (0.25, 4.0, 1.2),
    "steers sometimes": (0.5, 5.0, 1.2),
    "steers often": (0.8, 6.0, 1.2),
    "steers often, wide range of strengths": (0.8, 9.0, 0.6),
    "steers often, narrow range": (0.9, 6.0, 3.0),
}
"""Name -> mean height of the concept's rating (share of 2), place on the grid where the text breaks, and how steeply it does."""

Floats = NDArray[np.float64]


def scores(generator: np.random.Generator, height: float, breaks: float, steepness: float) -> Floats:
    """``[strengths, instructions]`` harmonic means of one concept."""
    place = np.arange(STRENGTHS)[:, None]
    top = generator.beta(4 * height, 4 * (1 - height))
    begins, ends = generator.normal(breaks - 1, 1.5), generator.normal(breaks, 1.0)
    # some instructions take the concept better than others, whatever the strength
    ease = generator.normal(0, 0.7, INSTRUCTIONS)[None, :]
    concept = top * expit(1.2 * (place - begins) + ease)
    instruction = 0.85 * expit(-steepness * (place - ends) / 1.5 + ease)
    fluency = 0.9 * expit(-steepness * (place - ends - 0.5) / 1.5)
    parts = [generator.binomial(2, np.broadcast_to(share, (STRENGTHS, INSTRUCTIONS))) for share in (concept, instruction, fluency)]
    return np.asarray(harmonic_mean(np.stack(parts, axis=-1)))


def hold_out(found: Floats, chooses: int = 5) -> float:
    """AxBench's score of a concept: the best strength on the first half of ten instructions, reported on the second."""
    chosen = int(found[:, :chooses].mean(axis=1).argmax())
    return float(found[chosen, chooses : 2 * chooses].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description="What the protocol alone is worth.")
    parser.add_argument("--concepts", type=int, default=2000, help="concepts a method")
    arguments = parser.parse_args()
    print("| method | AxBench's hold-out, 5 and 5 | cross-validation, 10 instructions | cross-validation, 20 | gap to the hold-out |")
    print("|---|---|---|---|---|")
    for name, shape in METHODS.items():
        generator = rng(0, "protocol gap", name)
        rows = []
        for number in range(arguments.concepts):
            found = scores(generator, *shape)
            rows.append((hold_out(found), cross_validate(found[:, :10], 10, 2, number).score, cross_validate(found, 10, 4, number).score))
        held, ten, twenty = np.mean(rows, axis=0)
        gaps = np.array([row[2] - row[0] for row in rows])
        error = gaps.std(ddof=1) / np.sqrt(len(gaps))
        print(f"| {name} | {held:.3f} | {ten:.3f} | {twenty:.3f} | {gaps.mean():+.3f} ± {error:.3f} |", flush=True)


if __name__ == "__main__":
    main()
