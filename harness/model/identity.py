"""The content identity of a model folder: the same files give the same digest, whatever the folder is called and wherever it lies."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.errors import ModelError
from harness.files.hashing import sha256_file
from harness.files.json_text import parse_json

_FULL = 64 * 2**20
"""Weight files up to this size (bytes) are hashed whole."""
_SAMPLES, _SAMPLE = 256, 64 * 2**10
"""Of larger ones: this many evenly spaced pieces, of this many bytes each, and the first and last piece."""

_WEIGHTS = (".safetensors", ".bin", ".gguf")
_SMALL = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json", "chat_template.jinja")
_VOLATILE = ("_name_or_path", "_model_name_or_path", "transformers_version", "torch_dtype", "dtype")
"""Keys of ``config.json`` that say who wrote it, or in which precision to load it, and not what the model computes."""


def folder_digest(folder: Path) -> str:
    """Return the digest (16 hex digits of SHA-256) of what a model folder computes: configuration, tokenizer, chat template and weights.

    Weight files are hashed whole up to 64 MiB. Of larger ones the size, the header and 256 evenly spaced pieces of 64 KiB enter: enough
    to tell apart any two trained models, in well under a second.

    Raises:
        ModelError: a file cannot be read.
    """
    state = hashlib.sha256()
    try:
        for name in ("config.json", *_SMALL):
            file = folder / name
            if file.is_file():
                _add(state, name, _config(file) if name == "config.json" else file.read_bytes())
        for file in sorted(file for file in folder.iterdir() if file.suffix in _WEIGHTS):
            _add(state, file.suffix, _content(file))
    except OSError as error:
        message = f"model folder {folder} cannot be read: {error.strerror or error}"
        raise ModelError(message, given=folder, hint="check that its files are complete") from error
    return state.hexdigest()[:16]


def _add(state: hashlib._Hash, name: str, content: bytes) -> None:
    """Each part goes in by name and length, so that no two sequences of parts look alike."""
    state.update(f"{name}\0{len(content)}\0".encode())
    state.update(content)


def _config(file: Path) -> bytes:
    try:
        config = parse_json(file.read_bytes())
    except ValueError:
        return file.read_bytes()
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key not in _VOLATILE}
    return json.dumps(config, sort_keys=True).encode()


def _content(file: Path) -> bytes:
    """Return the digest of a weight file: of all of it, or of its size and samples."""
    size = file.stat().st_size
    if size <= _FULL:
        return bytes.fromhex(sha256_file(file))
    state = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for piece in range(_SAMPLES):
            stream.seek((size - _SAMPLE) * piece // (_SAMPLES - 1))
            state.update(stream.read(_SAMPLE))
    return state.digest()
