"""Notes along the way: what an API has to say, versions that made the parts of a run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from harness.chat.providers.keys import redact
from harness.files.progress import Progress
from harness.files.version import DISTRIBUTION, own_version

if TYPE_CHECKING:
    from pathlib import Path

    from harness.store import RunStore
    from harness.store.manifest import Manifest

VERDICT = "engine verified"
"""The note that holds what `harness engines verify` found."""
EXECUTOR = "executor"
"""The note that holds which workers made parts of a run, once for each time that they were begun."""


@contextlib.contextmanager
def chat_news(progress: Progress) -> Iterator[None]:
    """Show what the talk with an API has to say while it goes on: that a server refuses or fails, that replies under way are waited for."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress.step(redact(record.getMessage()))

    logger, handler = logging.getLogger("harness.chat"), Shown(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def note_verdict(store: RunStore, cache: Path, manifest: Manifest) -> None:
    """Keep what `harness engines verify` found of the run's engine with its model on this machine, where it was asked.

    Args:
        store: the run's store.
        cache: the cache folder of this user (:attr:`harness.run.bench.TaskBench.artifacts`).
        manifest: of the run.
    """
    from dataclasses import asdict

    from harness.engine.verified import find

    engine: Any = manifest.identity.get("engine")
    verdict = None if engine is None else find(cache, engine[0], engine[1], manifest.model.digest)
    if verdict is not None and asdict(verdict) not in [note.value for note in store.notes(VERDICT)]:
        store.note(VERDICT, asdict(verdict))


def note_versions(store: RunStore, warn: Callable[[str], None], part: str, distributions: Iterable[tuple[str, str]]) -> None:
    """Keep which versions make a part of the run; warn where an earlier version has made some of it.

    Args:
        store: the run's store.
        warn: called with a line where versions differ.
        part: ``labels``, ``texts``, ``ratings by X``.
        distributions: names and versions of the distributions whose plugins make it.
    """
    versions = {**dict(distributions), DISTRIBUTION: own_version()}
    notes = [note.value for note in store.notes(f"versions: {part}")]
    if versions not in notes:
        store.note(f"versions: {part}", versions)
        notes.append(versions)
    for distribution in sorted(versions):
        seen = list(dict.fromkeys(note[distribution] for note in notes if distribution in note))
        if len(seen) > 1:
            warn(f"{part}: made by several versions of {distribution}: {', '.join(seen)}")
