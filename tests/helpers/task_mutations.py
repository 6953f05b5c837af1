"""Mutated task files, and what may come of one: it is checked without a foreign error, and one without problems has a digest and a plan.

The suite tries some of them. ``python tests/helpers/task_mutations.py 2000 [first seed]`` (with ``tests`` on ``PYTHONPATH``) tries many.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from harness.plugin.host import PluginHost

TASKS = Path(__file__).resolve().parents[2] / "tasks"

VALUES: tuple[Any, ...] = (
    True, False, 0, 1, -1, 2, 10, 10**9, 10**18, 10**40, 0.0, 0.5, -0.5, 1.0, 1e308, -1e308, float("nan"), float("inf"), "", " ", "x", "x" * 5000,
    "\x00", "a\x00b", "../../../etc/passwd", "/dev/zero", "/", ".", "~", "~nobody/x", "hub:", "hub:a", "hub:a/b/c", "hf:", "hf:a/b", "a/b", "a:b",
    "\u2028\x1b[31m\n", "sae", "demo", "fixed", "chosen", "sae-clamp", "calibf1", "random", "offline", "jsonl", [], [1], [[]], ["x"], [0.1, 0.2],
    [0.2, 0.1], [float("nan")], {}, {"x": 1}, {"": {}}, [{}], [{"name": "a"}], "concepts.jsonl", "instructions.jsonl", "corpus.jsonl",
)  # fmt: skip


@cache
def host() -> PluginHost:
    return PluginHost.load()


def trial(seed: int) -> str:
    """One mutated task file; returns what was done and what is wrong, or nothing."""
    draw = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="harness-task-mutations-"))
    try:
        source = draw.choice(sorted(path.parent for path in TASKS.glob("*/task.toml")))
        for item in source.iterdir():
            if item.name != "task.toml":
                (root / item.name).symlink_to(item)
        done = _mutate(source / "task.toml", root / "task.toml", draw)
        wrong = fault(root)
        return f"seed {seed} ({source.name}): {done}: {wrong}" if wrong else ""
    finally:
        shutil.rmtree(root, ignore_errors=True)


def fault(folder: Path) -> str:
    """What is wrong with how a task is taken."""
    from harness.errors import HarnessError
    from harness.run.check_task import check_task
    from harness.tasks.find import load_task

    try:
        report = check_task(host(), str(folder))
    except Exception as error:
        return f"validate: {type(error).__name__}: {error}"
    lines = [*report["problems"], *report["notes"], *report["estimates"]]
    odd = next((line for line in lines if not line.isprintable() or len(line) > 3000), None)
    if odd is not None:
        return f"not one short line: {odd[:200]!r}"
    if report["problems"]:
        return ""
    try:
        task = load_task(folder)
        json.dumps([task.digest(), task.file.model_dump(mode="json", by_alias=True)], allow_nan=False).encode()
    except HarnessError as error:
        return f"accepted, and then: {error}"
    except Exception as error:
        return f"accepted, and then: {type(error).__name__}: {error}"
    return ""


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _mutate(source: Path, target: Path, draw: random.Random) -> str:
    import tomllib

    text = source.read_text(encoding="utf-8")
    if draw.random() < 0.15:
        kinds = {
            "half": text[: draw.randrange(len(text))].encode(), "utf-16": text.encode("utf-16"), "bom": b"\xef\xbb\xbf" + text.encode(),
            "latin-1": text.replace("a", "\xe4", 1).encode("latin-1", "replace"), "empty": b"", "deep": b"x = " + b"[" * 20_000,
            "nul": text.encode().replace(b"e", b"\0", 1), "twice": (text + "\n" + text).encode(), "crlf": text.replace("\n", "\r\n").encode(),
            "surrogate": text.replace('"', '"\\ud800', 1).encode(), "digits": f"version = {'9' * 6000}\n{text}".encode(),
        }  # fmt: skip
        kind = draw.choice(list(kinds))
        target.write_bytes(kinds[kind])
        return kind
    content = tomllib.loads(text)
    done = [_change(content, draw) for _ in range(draw.choice([1, 1, 2, 3]))]
    target.write_text("".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in content.items()), encoding="utf-8")
    return ", ".join(done)


def _change(content: Any, draw: random.Random) -> str:
    """Set, remove or add one key, somewhere in a tree of tables and lists."""
    place, path = content, ""
    while True:
        inner = [key for key, value in _items(place) if isinstance(value, (dict, list)) and value]
        if not inner or draw.random() < 0.4:
            break
        key = draw.choice(inner)
        place, path = place[key], f"{path}{key}."
    keys = [key for key, _ in _items(place)]
    if isinstance(place, dict) and (draw.random() < 0.2 or not keys):
        key = draw.choice(["x", "", "name", "source", "layer", "width", "split", "k", "options", "labeler", "steerer", "ключ", "a.b"])
        place[key] = draw.choice(VALUES)
    elif draw.random() < 0.1:
        key = draw.choice(keys)
        del place[key]
        return f"without {path}{key}"
    else:
        key = draw.choice(keys)
        place[key] = draw.choice(VALUES)
    return f"{path}{key} = {place[key]!r:.60}"


def _items(place: Any) -> list[tuple[Any, Any]]:
    return list(place.items()) if isinstance(place, dict) else list(enumerate(place))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "nan" if math.isnan(value) else "inf"
    return json.dumps(value)


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    faults = [wrong for seed in range(first, first + count) if (wrong := trial(seed))]
    print("\n".join(faults))
    print(f"{len(faults)} of {count} mutated task files are taken wrongly (seeds {first} to {first + count - 1})")
