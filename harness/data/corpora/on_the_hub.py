"""Corpora that lie as files in a dataset of the hub: ``hub:owner/dataset/path`` of a file, or of a folder of one of the known forms."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from harness.data.corpora.axbench import LAYOUTS, METADATA
from harness.data.corpora.reading import DATASET_PREFIX
from harness.data.corpora.stackexchange import POSTS
from harness.errors import DataError
from harness.files.progress import Progress
from harness.hub.download import fetch, fetch_all, has, listing
from harness.hub.errors import offline
from harness.hub.source import HUB_PREFIX, Source, cached, commit_in, hub_source, is_offline

_DUMP = ("Comments.xml", POSTS)
_FORMS = (_DUMP, *((evaluation, train) for train, evaluation in LAYOUTS))
"""Files of a folder that is a corpus, in the order in which they are fetched: once the last is there, all are."""


def hub_name(source: str) -> str | None:
    """Return ``hub:owner/dataset/path`` for the name of a corpus that lies as files on the hub; None for any other name.

    ``hf:owner/dataset/path`` means the same: the ``datasets`` library knows no folders of a dataset.
    """
    if source.startswith(HUB_PREFIX):
        return source
    name = source.removeprefix(DATASET_PREFIX)
    inside = name != source and not name.startswith(("/", ".", "~")) and name.count("/") > 1
    return HUB_PREFIX + name if inside and not Path(name).is_absolute() else None


def key_files(path: str) -> tuple[str, ...]:
    """Return files of a dataset by any of which it is known that there is a corpus at ``path``."""
    return (path, *(f"{path}/{names[-1]}" for names in _FORMS))


def fetch_corpus(source: str, revision: str | None = None, progress: Progress | None = None, what: str = "corpus") -> Path:
    """Return the file or folder that ``hub:owner/dataset/path`` names, fetched where the hub's cache does not hold it.

    Raises:
        DataError: it names no file, there is nothing of the kind, or the hub cannot give it.
    """
    where, path = hub_source(source, revision, what)
    for name in key_files(path):
        if (found := cached(where, name)) is not None:
            return _place(found, path, name)
    if is_offline():
        raise offline(where, path)
    listed = listing(where)
    names = _names(where, path, listed)
    key = names.pop()
    first = fetch(where, names[0] if names else key, progress)  # the cache notes by it which commit the revision is
    at = where.at(commit_in(first))
    fetch_all(at, names[1:], progress)
    fetch_all(at, [name for name in (f"{path}/{file}" for file in METADATA) if name in listed], progress)
    return _place(fetch(at, key, progress), path, key)


def _names(where: Source, path: str, listed: tuple[str, ...]) -> list[str]:
    """Return the files that make the corpus, the key last. Raises DataError where there is none."""
    if path in listed or (not listed and has(where, path)):
        return [path]
    for form in _FORMS:
        names = [f"{path}/{file}" for file in form]
        found = [name for name in names if (name in listed if listed else has(where, name))]
        if found:
            return found
    beside = sorted({name for name in listed if path in map(str, PurePosixPath(name).parents)})
    shown = f"{', '.join(beside[:6])}{', …' if len(beside) > 6 else ''}"
    message = f"the dataset {where.repo} has no corpus at {path!r}"
    allowed = "a file, a folder of AxBench's, or a folder with Posts.xml"
    raise DataError(message, given=where.given, allowed=allowed, hint=f"it holds {shown}" if beside else f"see {where.url}/tree/main")


def _place(found: Path, path: str, name: str) -> Path:
    """Return where ``path`` lies, by the place of a file of it."""
    depth = len(PurePosixPath(name).parts) - len(PurePosixPath(path).parts)
    return found if depth == 0 else found.parents[depth - 1]
