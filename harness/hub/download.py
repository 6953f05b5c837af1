"""Fetching files of the hub into its cache, with progress."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files.progress import Progress, current_progress
from harness.hub.errors import explained, offline, unreachable
from harness.hub.session import bounded
from harness.hub.source import Source, cached, is_offline

_SHOWN = 2_000_000
"""Bytes from which on a file's progress is shown."""


@dataclass(frozen=True)
class Served:
    """What the hub serves of a source today.

    Attributes:
        commit: the commit behind its revision.
        gated: whether terms must be accepted to read it.
        sizes: bytes of each file by name; empty where the hub does not list them.
    """

    commit: str
    gated: bool
    sizes: dict[str, int]


def ask(source: Source) -> Served:
    """Ask the hub what it serves of a repository.

    Raises the source's error where it cannot be reached, or has no such repository or revision.
    """
    from huggingface_hub import HfApi

    if is_offline():
        raise offline(source)
    try:
        with bounded():
            found: Any = HfApi().repo_info(source.repo, repo_type=source.kind, revision=source.revision, files_metadata=True)
    except Exception as error:
        raise explained(error, source) from error
    return Served(str(found.sha), bool(found.gated), {file.rfilename: file.size or 0 for file in found.siblings or ()})


def head(source: Source, name: str) -> str:
    """Return the commit at which the hub serves a file of a repository; nothing of the file is fetched.

    Raises the source's error where there is no such file or it may not be read.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    if is_offline():
        raise offline(source, name)
    try:
        with bounded():
            url = hf_hub_url(source.repo, name, repo_type=source.kind, revision=source.revision)
            found = get_hf_file_metadata(url)
    except Exception as error:
        raise explained(error, source, name) from error
    if found.commit_hash is None:
        message = f"what answers at {source.url} is no hub: it names no commit for {name}"
        raise source.error(message, given=source.given, hint="check HF_ENDPOINT, and the proxy")
    return found.commit_hash


def has(source: Source, name: str) -> bool:
    """Return whether the cache holds a file of a repository, or the hub serves it; nothing of it is fetched.

    Raises the source's error where that cannot be known.
    """
    from huggingface_hub.errors import EntryNotFoundError

    if cached(source, name) is not None:
        return True
    try:
        head(source, name)
    except source.error as error:
        if isinstance(error.__cause__, EntryNotFoundError):
            return False
        raise
    return True


def raw_file(source: Source, name: str, progress: Progress | None = None) -> Path:
    """Return a file of a repository, fetched where the cache does not hold it; raises whatever the hub's client raises.

    For callers that go on where there is no such file; others call :func:`fetch`. Without ``progress`` it is shown where the command shows its own.
    """
    import huggingface_hub

    if (found := cached(source, name)) is not None:
        return found
    if is_offline():
        raise offline(source, name)
    place = None if source.cache_dir is None else str(source.cache_dir)
    bar = _Transfer(progress or current_progress(), f"downloading {Path(name).name} of {source.repo}")
    download = huggingface_hub.hf_hub_download
    count = {"tqdm_class": bar.tqdm_class} if "tqdm_class" in inspect.signature(download).parameters else {}  # older clients count for themselves
    try:
        with bounded():
            path = download(source.repo, name, repo_type=source.kind, revision=source.revision, cache_dir=place, **count)
    except Exception as error:
        if bar.done and not _is_an_answer(error):
            raise explained(error, source, name, bar.done, bar.total) from error
        raise
    finally:
        bar.close()
    return Path(path)


def fetch(source: Source, name: str, progress: Progress | None = None) -> Path:
    """Return a file of a repository, fetched where the cache does not hold it.

    Raises the source's error, in one line, for whatever goes wrong.
    """
    try:
        return raw_file(source, name, progress)
    except Exception as error:
        raise explained(error, source, name) from error


def fetch_all(source: Source, names: Iterable[str], progress: Progress | None = None, optional: bool = False) -> list[Path]:
    """Return files of a repository at one commit, each fetched where the cache does not hold it.

    Args:
        source: the repository; its revision is a commit, or all files are there already.
        names: the files, in the order in which they are fetched.
        progress: where it is shown.
        optional: leave out those that the repository does not have.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    found: list[Path] = []
    for name in names:
        try:
            found.append(raw_file(source, name, progress))
        except Exception as error:
            absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            if not (optional and absent):
                raise explained(error, source, name) from error
    return found


def listing(source: Source) -> tuple[str, ...]:
    """Return the names of a repository's files; none where the hub does not list them: its files can be fetched all the same.

    Raises the source's error where the hub cannot be reached.
    """
    from harness.errors import HarnessError

    try:
        return tuple(ask(source).sizes)
    except HarnessError as error:
        if unreachable(error):
            raise
        return ()


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _is_an_answer(error: Exception) -> bool:
    """Return whether an error is what the hub answered, and not the end of the line."""
    return getattr(error, "response", None) is not None


class _Transfer:
    """One file's transfer: hands what the hub's client counts to our progress.

    Attributes:
        done: bytes that have come.
        total: bytes in all, once they are known.
        tqdm_class: what the client is given to count with.
    """

    def __init__(self, progress: Progress, description: str) -> None:
        self._progress, self._description = progress, description
        self._context: Any = None
        self._advance: Callable[[int], None] | None = None
        self.done, self.total = 0, None  # type: int, int | None
        transfer = self

        class Counter:
            """What the client takes for a tqdm bar. Of xet's two bars the one that counts bytes on the line is passed over."""

            def __init__(self, *_: Any, **options: Any) -> None:
                self.n, self.total = int(options.get("initial") or 0), options.get("total")
                self.format_dict: dict[str, Any] = {}
                self._counts = "downloading bytes" not in str(options.get("desc", "")).lower()
                if self._counts:
                    transfer._begin(self.n, self.total)

            def update(self, n: float | None = 1) -> None:
                self.n += int(n or 0)
                if self._counts:
                    transfer._add(int(n or 0))

            def __enter__(self) -> Counter:
                return self

            def __exit__(self, *_: object) -> None: ...

            def __getattr__(self, name: str) -> Callable[..., None]:
                """Whatever else a bar can do shows something."""
                if name.startswith("__") or name == "update_transfer":
                    raise AttributeError(name)
                return lambda *_, **__: None

        self.tqdm_class: Any = Counter

    def _begin(self, initial: int, total: int | None) -> None:
        self.done, self.total = initial, total
        if self._context is None and (total is None or total >= _SHOWN):
            self._context = self._progress.transfer(self._description, total)
            self._advance = self._context.__enter__()

    def _add(self, n: int) -> None:
        self.done += n
        if self._advance is not None:
            self._advance(n)

    def close(self) -> None:
        if self._context is not None:
            self._context.__exit__(None, None, None)
            self._context = None
