"""A task whose texts answer instructions: the toy with a chat template, texts of three concepts and of none, in two genres and both parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.run.bench import Choices, TaskBench
from harness.tasks.find import load_task
from harness.testing.toy import LABELS, toy_task

TEMPLATE = "{{ bos_token }}{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}[assistant] "
"""The last bytes that all prompts share are ``[user] ``: with BOS eight tokens of a byte-level tokenizer."""
SHARED = 8
ASKED = ("What is new?", "Name a place.", "Tell me a story.", "Give me advice.", "Explain a rule.", "Who called?", "Where to?", "Why so late?")
PLAIN = ("Nothing to report.", "It depends on you.", "Once there was a king.", "Sleep on it.", "Ask first.", "Nobody.", "To the left.", "By train.")


def rows() -> list[dict[str, Any]]:
    """16 texts of each concept, half of them for training, and 16 of none, 8 of each genre."""
    found: list[dict[str, Any]] = []
    for part in ("train", "evaluation"):
        for label, sentences in LABELS.items():
            for number, asked in enumerate(ASKED):
                words = f"{sentences[number % 4]} {number} of {label}".split()
                text = " ".join(words if part == "train" else words[::-1])  # no near-copy of a training text
                found.append({"instruction": asked, "text": text, "labels": [label], "genre": "text", "part": part})
        for number, asked in enumerate(ASKED):
            genre = "text" if number % 2 else "code"
            text = f"{PLAIN[number]} {number}" if part == "train" else f"{number} {PLAIN[-number]}"
            found.append({"instruction": asked, "text": text, "labels": [], "genre": genre, "part": part})
    return [{"id": str(number), **row} for number, row in enumerate(found)]


def conversation_task(folder: Path, *, conversations: bool = True, template: bool = True, max_tokens: int = 64) -> Path:
    """Write the task into ``folder``, and return it."""
    toy_task(folder)
    if template:
        (folder / "model" / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    fields = f'genre_field = "genre"\npart_field = "part"\nconversations = {str(conversations).lower()}\nmax_tokens = {max_tokens}'
    text = (folder / "task.toml").read_text(encoding="utf-8").replace("max_tokens = 64", fields).replace("min_support = 10", "min_support = 5")
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return folder


def conversation_bench(folder: Path, **options: Any) -> TaskBench:
    """Return the bench of :func:`conversation_task`, with a cache of its own."""
    if not (folder / "task" / "task.toml").exists():
        conversation_task(folder / "task", **options)
    return TaskBench(load_task(folder / "task"), Choices(device="cpu", dtype="float32"), ArtifactCache(folder / "cache"), Progress(quiet=True))
