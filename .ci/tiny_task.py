"""A whole task on the 1 MB model of the shared test data, written in a moment.

    python .ci/tiny_task.py FOLDER DATA JUDGE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

NOUNS = ("dog", "ball", "tree", "cake")
FRAMES = (
    "Once upon a time there was a {noun}. The {noun} was big and red. {name} liked the {noun} very much.",
    "{name} went to the park with mom. They saw a {noun} there. {name} said, I want this {noun}.",
    "One day {name} had a {noun}. The {noun} was new. All day long {name} was happy with the {noun}.",
)
NAMES = ("Lily", "Tom", "Ben", "Sue", "Max", "Amy", "Tim", "Mia")
OPENINGS = ("Once upon a time", "One day", "There was a", "Tom and", "The big", "Lily saw", "A little", "In the park")

TASK = """schema = 1
name = "tiny"
version = 1
summary = "a model of 260,032 parameters that writes stories for small children"
judge = "{judge}"

[model]
name = "{data}/lm/stories260K"
parameters = 260032

[[dictionaries]]
source = "{data}/sae/stories260K_l2_batchtopk"
layer = 2
width = 512

[corpus]
source = "corpus.jsonl"

[concepts]
mode = "fixed"
file = "concepts.jsonl"
min_support = 20

[instructions]
source = "instructions.jsonl"
per_concept = 4

[decoding]
max_new_tokens = 16
temperature = 0.7

[steering.grids]
sae-clamp = [0.5, 1.0, 2.0]

[[controls]]
labeler = "random"
steerer = "sae-clamp"

[[controls]]
steerer = "none"

[evaluation]
repeats = 2
splits = 2
"""


def make_tiny_task(folder: Path, data: Path, judge: str) -> Path:
    """Write the task into ``folder``; ``data`` is the shared test data."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(TASK.format(data=data.resolve().as_posix(), judge=judge), encoding="utf-8")
    texts = [(noun, frame.format(noun=noun, name=name)) for noun in NOUNS for frame in FRAMES for name in NAMES]
    _write(folder / "corpus.jsonl", [{"id": str(i), "text": text, "labels": [noun]} for i, (noun, text) in enumerate(texts)])
    _write(folder / "concepts.jsonl", [{"id": noun, "text": f"a {noun}", "label": noun} for noun in NOUNS])
    _write(folder / "instructions.jsonl", [{"id": str(i), "text": text} for i, text in enumerate(OPENINGS)])
    return folder


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    print(make_tiny_task(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
