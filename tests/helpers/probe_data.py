"""A folder in the form of sae-probes' data: made-up texts for tests of probes."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa

from harness.types import rng

PEOPLE = ("girl", "boy")


def packed_csv(rows: list[tuple[str, str]], columns: tuple[str, ...] = ("prompt", "target")) -> bytes:
    """A table as the wheel has it."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(rows)
    return bytes(pa.compress(text.getvalue().encode(), codec="zstd", asbytes=True))


def probe_folder(path: Path, n: int = 120) -> Path:
    """Data sets of ``n`` short texts: ``1_person`` says who comes last, ``2_coin`` nothing; the first with an OOD variant, a third one is tiny."""
    places = ("park", "tree", "house", "lake", "shop")
    things = ("big", "red", "sad", "new", "old", "nice")
    seen = [f"{'there' if i % 3 else 'here'} was a {things[i // 5 % 6]} {things[i // 30 % 6]}" for i in range(n)]
    texts = [f"At the {places[i % 5]} {what} {PEOPLE[i % 2]}" for i, what in enumerate(seen)]
    coins = rng(0, "coins").permutation(n) % 2
    (path / "cleaned_data").mkdir(parents=True)
    (path / "OOD data").mkdir()
    sets = {
        "1_person": [(text, str(int(i % 2 == 0))) for i, text in enumerate(texts)],
        "2_coin": [(text, "heads" if side else "tails") for text, side in zip(texts, coins, strict=True)],
        "3_tiny": [("a cat", "1"), ("a dog", "0"), ("the cat", "1")],
    }
    for name, rows in sets.items():
        (path / "cleaned_data" / f"{name}.csv.zst").write_bytes(packed_csv(rows))
    other = [(f"Tom saw one {person}", str(int(person == "girl"))) for person in PEOPLE * 10]
    (path / "OOD data" / "1_person_OOD.csv.zst").write_bytes(packed_csv(other))
    return path
