"""A repository of the hub as something of ours names it, and what the cache holds of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.errors import DataError, HarnessError

HUB_PREFIX = "hub:"
"""Begins the name of a file of a dataset: ``hub:owner/name/path/in/dataset``."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Source:
    """A repository of the hub.

    Attributes:
        repo: ``owner/name``, or the name alone.
        what: what it is to the reader of a message: ``model``, ``dictionary``, ``instructions``, ``dataset``, …
        given: how the user named it.
        revision: branch, tag or commit; None for the hub's default.
        kind: which of the hub's collections it is in.
        error: class of the errors about it.
        instead: what may be given in its place, for hints, e.g. ``give a folder``.
        cache_dir: in place of the hub's own cache.
    """

    repo: str
    what: str
    given: str
    revision: str | None = None
    kind: Literal["model", "dataset"] = "model"
    error: type[HarnessError] = HarnessError
    instead: str = "give a path on this machine"
    cache_dir: str | Path | None = None

    @property
    def url(self) -> str:
        """Return its page."""
        import huggingface_hub.constants as constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"

    @property
    def title(self) -> str:
        """Return what messages call it."""
        return f"{self.what} {self.given!r}"

    def at(self, revision: str | None) -> Source:
        """Return the same repository at another revision."""
        return replace(self, revision=revision)


def hub_source(source: str, revision: str | None, what: str = "file") -> tuple[Source, str]:
    """Return the repository and the file that ``hub:owner/name/path/in/dataset`` means. Raises DataError for another text."""
    parts = source.removeprefix(HUB_PREFIX).split("/")
    owner, name, rest = "/".join(parts[:1]), "/".join(parts[1:2]), parts[2:]
    if not rest or any(part in ("", ".", "..") for part in parts):
        raise DataError(f"{source!r} does not name a file", given=source, hint="write hub:owner/dataset/path")
    instead = "download it yourself and give the file's path"
    return Source(f"{owner}/{name}", what, source, revision, kind="dataset", error=DataError, instead=instead), "/".join(rest)


def is_offline() -> bool:
    """Return whether ``HF_HUB_OFFLINE`` (or ``TRANSFORMERS_OFFLINE``) forbids to ask the hub."""
    import huggingface_hub.constants as constants

    return bool(constants.HF_HUB_OFFLINE)


def is_commit(revision: str | None) -> bool:
    """Return whether a revision names a commit in full, which never changes."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def commit_in(path: str | Path) -> str | None:
    """Return the commit in the path of a file of the hub's (or of the ``datasets`` library's) cache; None for any other path."""
    return next((part for part in reversed(Path(path).parts) if is_commit(part)), None)


def cached(source: Source, name: str) -> Path | None:
    """Return where the cache holds a file of a repository at its revision; None where it does not. Nothing is asked of the hub."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    place = None if source.cache_dir is None else str(source.cache_dir)
    try:
        found = try_to_load_from_cache(source.repo, name, cache_dir=place, revision=source.revision, repo_type=source.kind)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
