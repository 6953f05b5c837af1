"""What a run's identity says of model and dictionaries, without their weights: to see that a run is finished loads none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files.artifacts import ArtifactCache
from harness.files.atomic import write_atomically
from harness.files.hashing import path_digest
from harness.store.manifest import DictionaryRef, ModelRef
from harness.tasks.dictionaries import DictionaryTable
from harness.tasks.schema import Task

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.sae.dictionary import Dictionary

_VERSION = 2


def model_ref(task: Task, device: str | None, dtype: str | None) -> ModelRef | None:
    """Return the name, digest, number format and device of the task's subject model as they would be loaded here; None where only loading tells.

    Raises OptionError for an unknown device or dtype.
    """
    from harness.model.devices import choose_device, choose_dtype
    from harness.model.locating import local_identity

    if task.file.synthetic is not None:
        config = task.file.synthetic.config
        return ModelRef(name=config.title, digest=config.digest, dtype="float32", device=str(choose_device(device)))
    table = task.file.language_model
    local = str(task.path(table.name)) if table.name.startswith((".", "/", "~")) else table.name
    found = local_identity(local, table.revision)
    if found is None:
        return None
    where = choose_device(device)
    place = f"{where.type}:{where.index or 0}" if where.type == "cuda" else str(where)
    return ModelRef(name=found[0], digest=found[1], dtype=str(choose_dtype(dtype, where)).removeprefix("torch."), device=place)


def dictionary_ref(task: Task, table: DictionaryTable, cache: ArtifactCache, model_name: str, load: Callable[[], Dictionary]) -> DictionaryRef:
    """Return a dictionary of the task. The weights are read once: what they say is kept in the cache, by the digest of their files.

    Args:
        task: the task.
        table: the dictionary's table in it.
        cache: where it is kept.
        model_name: the subject model's name, for the note on a dictionary that was made for another model.
        load: loads the dictionary, where it is not known yet.
    """
    key = _key(task, table)
    if key is not None:

        def compute(folder: Path) -> None:
            write_atomically(folder / "facts.json", json.dumps(_facts(load())), "facts of a dictionary")

        facts = json.loads((cache.get(key, compute, "facts of a dictionary") / "facts.json").read_text(encoding="utf-8"))
    else:
        facts = _facts(load())
    return _ref(table, model_name, facts)


def known_dictionary(task: Task, table: DictionaryTable, cache: ArtifactCache, model_name: str) -> DictionaryRef | None:
    """Return a dictionary of the task as :func:`dictionary_ref` does; None where only its weights would tell: on the hub, or never read here."""
    key = _key(task, table)
    if key is None:
        return None
    try:
        facts = json.loads((cache.path(key) / "facts.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _ref(table, model_name, facts)


def _key(task: Task, table: DictionaryTable) -> dict[str, object] | None:
    """Return under which key the cache has what a dictionary's weights say; None for one that is not on this machine's disk."""
    source = Path(task.local_source(table))
    if not source.exists():
        return None
    return {"kind": "dictionary-facts", "version": _VERSION, "files": path_digest(source), "layer": table.layer, "for": table.trained_on}


def _ref(table: DictionaryTable, model_name: str, facts: Mapping[str, Any]) -> DictionaryRef:
    note = f"made for {table.trained_on}, used on {model_name}" if table.trained_on else ""
    return DictionaryRef(name=table.name, source=table.source, digest=facts["digest"], layer=table.layer, d_sae=facts["d_sae"], note=note)


def _facts(dictionary: Dictionary) -> dict[str, object]:
    return {"digest": dictionary.digest, "d_sae": dictionary.d_sae}
