"""How long `harness view` takes to answer over a run of 100,000 texts, beside a plain scan of the run's file in the same process.

    python benchmarks/view.py [--texts 100000] [--folder FOLDER]

Makes the run with the store's own calls (some minutes; one that is in FOLDER is used again), starts the server, and times requests: the first page
at once, while the index is being made, and filters and searches when it is ready. Each figure is the median of five requests that differ in what
they ask (so that nothing is remembered), and is shown as a ratio to the scan, too.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np

from harness.store import JudgeRecord, Manifest, RunStore
from harness.store.manifest import MethodRecord, ModelRef, PluginRef, TaskRef
from harness.store.values import trial_item
from harness.types import Concept, Decoding, FeatureRef, Generation, Instruction, Labeling, Method, Rating, Trial, rng

INSTRUCTIONS, PER_CONCEPT, WORDS = 80, 10, 60
GRIDS = {"sae-clamp": 14, "diff-mean": 4, "prompt": 1, "none": 1}
"""Steerers of the run, and how many strengths each has."""
LIMITS = {"first page": 1.0, "filter": 0.5, "search": 0.5}
JUDGES = (JudgeRecord("first", "bench/1"), JudgeRecord("second", "bench/1"))


def make_run(folder: Path, texts: int) -> None:
    """Store a run of about so many texts, each rated by two judges."""
    draw = rng(0, "benchmark of view")
    vocabulary = _vocabulary(draw)
    n_concepts = max(1, round(texts / PER_CONCEPT / sum(GRIDS.values())))
    concepts = [Concept(f"c{place}", " ".join(vocabulary[place : place + 2])) for place in range(n_concepts)]
    instructions = [Instruction(f"i{place:03d}", " ".join(draw.choice(vocabulary, 12))) for place in range(INSTRUCTIONS)]
    methods = {name: Method("calibf1" if name == "sae-clamp" else None, name) for name in GRIDS}
    with RunStore.create_or_open(folder, _manifest(methods, texts)) as store:
        store.add_concepts(concepts)
        store.add_instructions(instructions)
        store.add_methods(methods.values())
        labelings = [Labeling(concept, (FeatureRef("sae", place),), 0.5) for place, concept in enumerate(concepts)]
        store.add_labelings("calibf1", labelings)
        trials = [
            Trial(method.id, labeling.id if method.labeler else f"l{place}", labeling.concept.id, float(strength), f"i{(place + n) % INSTRUCTIONS:03d}", 0)
            for name, method in methods.items()
            for place, labeling in enumerate(labelings)
            for strength in np.arange(GRIDS[name]) / 10 + (name != "none")
            for n in range(PER_CONCEPT)
        ]  # fmt: skip
        keys = [store.add_judge(judge) for judge in JUDGES]
        for portion in range(0, len(trials), 5000):
            part = trials[portion : portion + 5000]
            with store._database.transaction("store a portion"):  # one commit a portion; a real run commits each value
                store._insert_items(map(trial_item, part))
                for trial, text in zip(part, _texts(draw, vocabulary, len(part)), strict=True):
                    store.add_generation(Generation(trial.id, f"<user> {trial.instruction_id} <assistant>", text, WORDS, "length"))
                for key in keys:
                    store.add_ratings(key, (_rating(trial.id, *draw.integers(0, 3, 3)) for trial in part))
        store.finish()


def _vocabulary(draw: np.random.Generator) -> list[str]:
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return list(dict.fromkeys("".join(draw.choice(letters, size)) for size in draw.integers(2, 10, 20_000)))


def _texts(draw: np.random.Generator, vocabulary: Sequence[str], n: int) -> list[str]:
    """Texts whose words are as frequent as words are (Zipf)."""
    places = np.minimum(draw.zipf(1.3, (n, WORDS)) - 1, len(vocabulary) - 1)
    return [" ".join(vocabulary[place] for place in row) for row in places]


def _rating(trial_id: str, concept: int, instruction: int, fluency: int) -> Rating:
    replies = {aspect: f"Rating: [[{value}]]" for aspect, value in (("concept", concept), ("instruction", instruction), ("fluency", fluency))}
    return Rating(trial_id, "rated", float(concept), float(instruction), float(fluency), details={"replies": replies, "model": "bench"})


def _manifest(methods: dict[str, Method], texts: int) -> Manifest:
    def record(name: str, method: Method) -> MethodRecord:
        plugin = PluginRef(kind="steerer", name=name, key=name, distribution="")
        labeler = PluginRef(kind="labeler", name="calibf1", key="calibf1", distribution="") if method.labeler else None
        grid = tuple(float(value) for value in np.arange(GRIDS[name]) / 10 + (name != "none"))
        unit = "none" if name in ("none", "prompt") else "residual-norm"
        return MethodRecord(kind="steering", id=method.id, name=method.name, role="method", plugin=plugin, labeler=labeler, grid=grid, strength_unit=unit)  # fmt: skip

    return Manifest(
        identity={"task": {"name": "bench", "version": "1"}, "texts": texts},
        harness_version="0",
        task=TaskRef(name="bench", version="1", digest="0", split="all", mode="fixed"),
        model=ModelRef(name="bench", digest="0", dtype="float32", device="cpu"),
        instruction_set_digest="0",
        decoding=Decoding(),
        seed=0,
        methods=tuple(record(name, method) for name, method in methods.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keep the run here (default: a temporary folder)")
    parser.add_argument("--make-only", action="store_true")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        base = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = base / "runs" / f"bench-{given.texts}"
        if not (folder / "run.sqlite").exists():
            begun = time.perf_counter()
            make_run(folder, given.texts)
            print(f"made the run in {time.perf_counter() - begun:.0f} s")
        if not given.make_only:
            pass


if __name__ == "__main__":
    main()
