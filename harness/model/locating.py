"""Where a model lies on this machine, and what it is, without loading it."""

from __future__ import annotations

from pathlib import Path

from harness.errors import ModelError
from harness.model.embedded import ASSETS, embedded_names, identity
from harness.model.hub_model import cached_model, model_source
from harness.model.identity import folder_digest


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
    snapshot = None if spec.count("/") > 1 else cached_model(model_source(spec, revision))
    return None if snapshot is None else (spec, folder_digest(snapshot))


def check_local_model(spec: str) -> None:
    """Raise ModelError for the name of a folder that is not there, or holds no model; any other name is one of the hub or embedded."""
    if spec in embedded_names():
        return
    folder = Path(spec).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"folder {folder} has no config.json", given=folder, hint="give a folder that transformers' save_pretrained wrote")
    elif folder.is_absolute() or spec.startswith((".", "~")) or spec.count("/") > 1:
        allowed = f"a folder, a hub name, or one of: {', '.join(embedded_names())}"
        what = "is a file" if folder.exists() else "does not exist"
        raise ModelError(f"model folder {folder} {what}", given=folder, allowed=allowed)
