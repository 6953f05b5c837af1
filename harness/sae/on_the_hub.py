"""Dictionaries that lie in a folder of a hub repository, in one of the published formats: ``owner/repo:folder``, ``hub:owner/repo/folder``."""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import DictionaryError
from harness.files.progress import Progress
from harness.hub.download import fetch, fetch_all, has, listing
from harness.hub.errors import offline
from harness.hub.source import Source, cached, commit_in, is_offline
from harness.sae.formats import open_published

_PREFIX = "hub:"
_NAMED = re.compile(r"(?P<repo>[^/:]+/[^/:]+):(?P<folder>.*)")
_CONFIGURATIONS = ("cfg.json", "config.json")
_WEIGHTS = ("sae_weights.safetensors", "sae.safetensors", "params.safetensors", "params.npz")
_SUFFIXES = (".json", ".safetensors", ".npz")


def is_repository(name: str) -> bool:
    """Return whether a name is of a folder of a hub repository, and not of SAELens' registry."""
    return name.startswith(_PREFIX) or _NAMED.fullmatch(name) is not None


def repository(name: str, revision: str | None = None) -> tuple[Source, str]:
    """Return the repository that a name means, and the folder in it (empty for the repository itself).

    Raises:
        DictionaryError: it names no repository.
    """
    if name.startswith(_PREFIX):
        owner, _, rest = name.removeprefix(_PREFIX).partition("/")
        repo, _, folder = rest.replace(":", "/").partition("/")
        repo = f"{owner}/{repo}"
    else:
        repo, _, folder = name.partition(":")
    folder = folder.strip("/")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo) or any(part in ("", ".", "..") for part in folder.split("/") if folder):
        raise DictionaryError(f"{name!r} does not name a folder of the hub", given=name, allowed="hub:owner/repo/folder, owner/repo:folder")
    return Source(repo, "dictionary", name, revision, error=DictionaryError, instead="give a folder on this machine"), folder


def key_file(name: str, revision: str | None = None) -> tuple[Source, tuple[str, ...]]:
    """Return the repository of a name, and files by any of which it is known that its dictionary is there."""
    source, folder = repository(name, revision)
    return source, tuple(_inside(folder, file) for file in (*_CONFIGURATIONS, *_WEIGHTS))


def fetch_folder(name: str, revision: str | None = None, progress: Progress | None = None) -> Path:
    """Return the folder of a dictionary in the hub's cache, fetched where it is not there.

    Raises:
        DictionaryError: it names no repository, or the hub cannot give it.
    """
    return fetch_from(*repository(name, revision), progress)


def fetch_from(source: Source, folder: str, progress: Progress | None = None) -> Path:
    """Return the folder of a dictionary of a repository in the hub's cache, fetched where it is not there.

    Raises:
        DictionaryError: the hub cannot give it.
    """
    if (found := _cached_folder(source, folder)) is not None:
        return found
    if is_offline():
        raise offline(source)
    names = sorted(_names(source, folder), key=lambda file: not file.endswith(".json"))
    first = fetch(source, names[0], progress)  # the cache notes by it which commit the revision is
    fetch_all(source.at(commit_in(first)), names[1:], progress)
    return first.parent


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _names(source: Source, folder: str) -> list[str]:
    """Return the files of a dictionary's folder. Raises DictionaryError where there are no weights among them."""
    listed = listing(source)
    if not listed:
        found = [name for file in (*_CONFIGURATIONS, *_WEIGHTS) if has(source, name := _inside(folder, file))]
    else:
        found = [file for file in listed if str(Path(file).parent) == (folder or ".") and file.endswith(_SUFFIXES)]
    if not any(file.endswith((".safetensors", ".npz")) for file in found):
        raise _nothing_there(source, folder, listed)
    return found


def _inside(folder: str, file: str) -> str:
    return f"{folder}/{file}" if folder else file


def _cached_folder(source: Source, folder: str) -> Path | None:
    """Return the folder in the cache, if a whole dictionary is there."""
    for file in (*_CONFIGURATIONS, *_WEIGHTS):
        found = cached(source, _inside(folder, file))
        if found is not None:
            try:
                open_published(found.parent)
            except DictionaryError:
                return None
            return found.parent
    return None


def _nothing_there(source: Source, folder: str, listed: tuple[str, ...]) -> DictionaryError:
    folders = sorted({str(Path(file).parent) for file in listed if file.endswith((".safetensors", ".npz"))})
    where = f"folder {folder!r}" if folder else "top folder"
    message = f"the {where} of {source.repo} on the hub holds no dictionary"
    shown = f"{', '.join(folders[:4])}{', …' if len(folders) > 4 else ''}"
    hint = f"folders with weights: {shown}" if folders else f"see {source.url}/tree/{source.revision or 'main'}"
    return DictionaryError(message, given=source.given, hint=hint)
