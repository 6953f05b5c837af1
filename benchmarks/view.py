"""How long `harness view` takes to answer over a run of 100,000 texts, beside a plain scan of the run's file in the same process.

    python benchmarks/view.py [--texts 100000] [--folder FOLDER]

Makes the run with the store's own calls (some minutes; one that is in FOLDER is used again), starts the server, and times requests: the first page
at once, while the index is being made, and filters and searches when it is ready. Each figure is the median of five requests that differ in what
they ask (so that nothing is remembered), and is shown as a ratio to the scan, too.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
LIMITS = {"first page": 1.0, "first page, without an index": 1.0, "filter": 0.5}
"""Seconds that a request may take; a search and all others as long as a filter."""
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
            Trial(methods[name].id, labeling.id, labeling.concept.id, strength, f"i{(place + n) % INSTRUCTIONS:03d}", 0)
            for name in GRIDS
            for place, labeling in enumerate(labelings)
            for strength in _grid(name)
            for n in range(PER_CONCEPT)
        ]
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


def _grid(name: str) -> tuple[float, ...]:
    return tuple(float(value) for value in np.arange(GRIDS[name]) / 10 + (name != "none"))


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
        facts = {"grid": _grid(name), "strength_unit": "none" if name in ("none", "prompt") else "residual-norm"}
        return MethodRecord(kind="steering", id=method.id, name=method.name, role="method", plugin=plugin, labeler=labeler, **facts)

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



# ---------------------------------------------------------------------------------------------------------------------- measuring


@contextlib.contextmanager
def server(base: Path, run: str, cache: Path) -> Iterator[str]:
    """Yield the address of a server of its own process, as users start it; with a cache of its own."""
    command = [sys.executable, "-c", "from harness.cli import main; main()", "view", run, "--out", str(base), "--no-browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HARNESS_CACHE": str(cache)})
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def scan_time(path: Path) -> float:
    """Seconds for reading all texts and ratings of the file once, by SQLite alone: the median of three."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT count(*), sum(length(value)), avg(concept) FROM outcomes").fetchone()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measure(get: Callable[[str], float], pages: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """Return the seconds of each request."""
    return {name: [get(page) for page in each] for name, each in pages.items()}


def requests_for(client: httpx.Client, home: str, vocabulary: Sequence[str]) -> dict[str, list[str]]:
    """Return addresses by what they stand for; no two are alike, so that nothing is answered from memory."""
    methods = re.findall(r'<option value="([0-9a-f]{16})">', client.get(home).text)
    return {
        "filter: concept": [f"{home}?concept=c{place}" for place in range(5)],
        "filter: method and rating": [f"{home}?method={methods[0]}&overall_min=1.{place}" for place in range(5)],
        "filter: rating, ordered by it": [f"{home}?concept_min=1&fluency_max=1.{place}&order=overall" for place in range(5)],
        "filter: chosen strength": [f"{home}?strength=chosen&fluency_min=0.{place}" for place in range(5)],
        "filter: judges disagree, most first": [f"{home}?differ=2&order=differ&concept_min=0.{place}" for place in range(5)],
        "filter: nothing fits": [f"{home}?status=unrated&overall_min=0.{place}" for place in range(5)],
        "search: frequent words": [f"{home}?q={word}" for word in vocabulary[:5]],
        "search: frequent, by rating": [f"{home}?q={word}&order=fluency-low" for word in vocabulary[5:10]],
        "search: rare words": [f"{home}?q={word}" for word in vocabulary[15_000:15_005]],
        "search: phrase": [f'{home}?q="{first} {second}"' for first, second in itertools.pairwise(vocabulary[:6])],
        "search: beginnings of words": [f"{home}?q={word[:3]}*" for word in vocabulary[100:105]],
        "search: letters": [f"{home}?q={sign}" for sign in ("日本", "語", "!!", "::", "%%")],
        "next page": [f"{home}?after={place}.0~{place}" for place in range(50, 50_000, 10_000)],
        "next page, by rating": [f"{home}?order=overall&after=1.0~{place}" for place in range(50, 50_000, 10_000)],
    }


def limit_of(name: str) -> float:
    """Return the seconds that a request may take."""
    return LIMITS.get(name.split(":")[0], LIMITS["filter"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="keep the run here (default: a temporary folder)")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        base = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = base / "runs" / f"bench-{given.texts}"
        if not (folder / "run.sqlite").exists():
            begun = time.perf_counter()
            make_run(folder, given.texts)
            print(f"made the run in {time.perf_counter() - begun:.0f} s")
        before = hashlib.sha256((folder / "run.sqlite").read_bytes()).hexdigest()
        scan = scan_time(folder / "run.sqlite")
        print(f"run: {(folder / 'run.sqlite').stat().st_size / 1e6:.0f} MB; a plain scan of its outcomes takes {scan:.3f} s")
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = stack.enter_context(server(base, folder.name, cache))
        client = stack.enter_context(httpx.Client(timeout=60))
        home = f"{root}run/{folder.name}/"

        def get(page: str) -> float:
            begun = time.perf_counter()
            client.get(page).raise_for_status()
            return time.perf_counter() - begun

        begun = time.perf_counter()
        found = {"first page, without an index": [get(home)]}
        found |= measure(get, {
            "while it is made: first page": [home] * 5,
            "while it is made: concept": [f"{home}?concept=c{place}" for place in range(5)],
            "while it is made: rating": [f"{home}?overall_min=1.{place}" for place in range(5)],
        })  # fmt: skip
        while client.get(f"{home}state").json()["share"] < 1:
            time.sleep(0.2)
        size = sum(path.stat().st_size for path in cache.rglob("*.sqlite"))
        print(f"the index: ready {time.perf_counter() - begun:.1f} s after the first request, {size / 1e6:.0f} MB")
        found["first page"] = [get(home) for _ in range(5)]
        found |= measure(get, requests_for(client, home, _vocabulary(rng(0, "benchmark of view"))))
        text = re.findall(r'href="(/run/[^"]*/text/[0-9a-f]+)"', client.get(home).text)
        found["one text"] = [get(f"{root.rstrip('/')}{page}") for page in dict.fromkeys(text[:5])]
        if hashlib.sha256((folder / "run.sqlite").read_bytes()).hexdigest() != before:
            raise SystemExit("the run's file has changed")
    late = False
    for name, times in found.items():
        median = statistics.median(times)
        late |= median > limit_of(name)
        verdict = "   TOO SLOW" if median > limit_of(name) else ""
        print(f"{name:38} {median:6.3f} s (slowest {max(times):.3f})   {median / scan:5.2f} × the scan{verdict}")
    print(f"aims: first page {LIMITS['first page']:g} s, a filter or search {LIMITS['filter']:g} s: {'missed' if late else 'met'}")
    raise SystemExit(late)


if __name__ == "__main__":
    main()
