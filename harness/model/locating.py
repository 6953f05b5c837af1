"""Where a model lies on this machine, and what it is, without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from harness.model.embedded import ASSETS, embedded_names, identity
from harness.model.identity import folder_digest

_SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def local_identity(spec: str, revision: str | None = None) -> tuple[str, str] | None:
    """Return (name, digest) of a model as :func:`harness.model.loading.load_model` would give them; None where it must be loaded to know.

    Args:
        spec: an embedded name, a local folder, or a hub name.
        revision: branch, tag or commit of a hub name.

    Raises:
        ModelError: a file of a local folder cannot be read.
    """
    if spec in embedded_names():
        return spec, ASSETS[spec].identity
    folder = Path(spec).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            return None  # loading says what is wrong
        folder = folder.resolve()
        return folder.name, identity(folder) or folder_digest(folder)
    snapshot = _cached_snapshot(spec, revision)
    return None if snapshot is None else (spec, folder_digest(snapshot))


def _cached_snapshot(name: str, revision: str | None) -> Path | None:
    """Return the folder of a hub model in transformers' cache, if all of its weights are there."""
    if name.count("/") != 1:
        return None
    from transformers.utils import cached_file

    try:
        found = cached_file(name, "config.json", revision=revision, local_files_only=True)
    except OSError:
        return None
    if found is None:
        return None
    folder = Path(found).parent
    if any((folder / name).exists() for name in _SINGLE_FILES):
        return folder
    for index in _INDEXES:
        if (folder / index).exists():
            shards = set(json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values())
            return folder if all((folder / shard).exists() for shard in shards) else None
    return None
