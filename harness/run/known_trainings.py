"""Which of the dictionaries that a task trains the cache holds: noted by real runs, what a ``--dry-run`` goes by, which loads no model."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import StoreError
from harness.files.atomic import write_atomically
from harness.files.cache_dir import cache_root
from harness.run.choices import Choices
from harness.run.training_data import VERSION
from harness.tasks.dictionaries import TrainTable
from harness.tasks.schema import Task
from harness.types import digest

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary

FILE = "trained.json"


def note_trained(task: Task, choices: Choices, table: TrainTable, name: str, folder: Path, dictionary: Dictionary) -> None:
    """Keep where the cache has a dictionary of a task, and of how many tokens it was trained. A cache that cannot be written stops no run."""
    recipe = (dictionary.cfg.get("metadata") or {}).get("harness_training") or {}
    known, key = _read(), _key(task, choices, table, name)
    entry = {"folder": str(folder), "tokens": recipe.get("distinct_tokens")}
    if known.get(key) != entry:
        with contextlib.suppress(StoreError):
            write_atomically(cache_root() / FILE, json.dumps({**known, key: entry}, indent=1) + "\n", "list of trained dictionaries")


def find_trained(task: Task, choices: Choices, table: TrainTable, name: str) -> tuple[bool, int | None]:
    """Return whether the cache holds a dictionary of a task, and how many distinct tokens an earlier training had; None where nobody knows."""
    entry = _read().get(_key(task, choices, table, name))
    if not isinstance(entry, dict):
        return False, None
    tokens = entry.get("tokens")
    return Path(str(entry.get("folder"))).is_dir(), tokens if isinstance(tokens, int) else None


def _key(task: Task, choices: Choices, table: TrainTable, name: str) -> str:
    """Identifies a dictionary by all that it is made of, as far as that is known without the model."""
    texts = None if task.file.synthetic is not None or table.tokens is not None else [choices.corpus, choices.seed]
    return digest([VERSION, task.digest(), texts, choices.device, choices.dtype, name])


def _read() -> dict[str, Any]:
    try:
        value = json.loads((cache_root() / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
