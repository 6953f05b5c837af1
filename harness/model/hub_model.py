"""A subject model of the hub: which of its files are needed, where the cache has them, fetching them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import ModelError
from harness.files.progress import Progress
from harness.hub.download import fetch, fetch_all, has, listing
from harness.hub.errors import offline
from harness.hub.source import Source, cached, commit_in, is_offline
from harness.model.embedded import embedded_names

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tekken.json")
_SMALL = (
    CONFIG, "generation_config.json", "tokenizer_config.json", *_TOKENIZERS, "merges.txt", "special_tokens_map.json", "added_tokens.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
"""What is asked for where the hub does not list a repository's files."""
_SUFFIXES = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_NOT_NEEDED = ("README", "LICENSE", "NOTICE", "requirements")


def model_source(name: str, revision: str | None = None, cache_dir: str | Path | None = None) -> Source:
    """Return a subject model's repository."""
    instead = f"give a folder, or one of: {', '.join(embedded_names())}"
    return Source(name, "model", name, revision, error=ModelError, instead=instead, cache_dir=cache_dir)


def cached_model(source: Source) -> Path | None:
    """Return the folder of a model in the hub's cache, if its configuration, a tokenizer and all of its weights are there."""
    found = cached(source, CONFIG)
    if found is None:
        return None
    folder = found.parent
    if not any((folder / name).exists() for name in (*_TOKENIZERS, "tokenizer_config.json")):
        return None
    if any((folder / name).exists() for name in _WEIGHTS):
        return folder
    for index in _INDEXES:
        if (folder / index).exists():
            return folder if all((folder / shard).exists() for shard in _shards(folder / index, source)) else None
    return None


def fetch_model(source: Source, progress: Progress | None = None) -> Path:
    """Return the folder of a model, of one commit, fetched where the cache does not hold all of it: what is small first.

    Raises:
        ModelError: no such model, revision or file, a gated one, no hub, a transfer that broke off; each in one line.
    """
    if (folder := cached_model(source)) is not None:
        return folder
    config = fetch(source, CONFIG)  # the cache notes by it which commit the revision is
    if is_offline():
        raise offline(source, "a part")
    pinned = source.at(commit_in(config))
    listed = listing(pinned)
    fetch_all(pinned, _small(listed), optional=True)
    fetch_all(pinned, _weights(pinned, listed), progress)
    return config.parent


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _small(listed: Sequence[str]) -> Iterable[str]:
    """Return names of a model's files beside the weights."""
    if not listed:
        return _SMALL
    templates = [name for name in listed if name.startswith("additional_chat_templates/") and name.endswith(".jinja")]
    top = [name for name in listed if "/" not in name and name.endswith(_SUFFIXES) and not name.startswith(_NOT_NEEDED)]
    return [*(name for name in top if name not in _INDEXES), *templates]


def _weights(source: Source, listed: Sequence[str]) -> list[str]:
    """Return names of the files of weights, as transformers chooses them: safetensors before pickles, one file before shards."""
    for whole, index in zip(_WEIGHTS, _INDEXES, strict=True):
        if listed:
            if whole in listed:
                return [whole]
            if index in listed:
                return sorted(_shards(fetch(source, index), source))
            continue
        if has(source, whole):
            return [whole]
        if fetch_all(source, [index], optional=True):
            return sorted(_shards(fetch(source, index), source))
    message = f"model {source.given!r} has no weights on the hub that transformers loads"
    raise ModelError(message, given=source.given, allowed=" or ".join(_WEIGHTS), hint="give a repository in transformers' format")


def _shards(index: Path, source: Source) -> set[str]:
    """Return the files that an index of weights names."""
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"{index.name} of model {source.given!r} is not an index of weights"
        raise ModelError(message, given=source.given, hint="remove the model from the hub cache and fetch it again") from error
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ModelError(f"{index.name} of model {source.given!r} names files outside of its folder", given=source.given, hint="use another model")
    return names
