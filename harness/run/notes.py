"""What is said along the way: warnings that the run keeps, versions that made its parts, observers that are told."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any

import harness
from harness.chat.providers.keys import redact
from harness.plugin.host import Observer, PluginHost
from harness.run.bench import TaskBench
from harness.run.plan import PlannedPlugin
from harness.store import RunStore


@contextlib.contextmanager
def llm_news(bench: TaskBench) -> Iterator[None]:
    """Show what the talk with an API has to say while it goes on: that a server refuses or fails, that replies under way are waited for."""

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            bench.progress.step(redact(record.getMessage()))

    logger, handler = logging.getLogger("harness.chat"), Shown(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level or logging.INFO, logging.INFO))
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def recall_warnings(bench: TaskBench, store: RunStore, kind: str = "warning") -> None:
    """Say again what earlier parts of the run had to say, and keep what is to come: a resumed run's entry is that of an undisturbed one."""
    bench.on_warning = None
    for note in store.notes(kind):
        bench.warn(str(note.value))
    bench.on_warning = lambda message: store.note(kind, message)


def tell(host: PluginHost, bench: TaskBench, store: RunStore, observer: Observer, **values: Any) -> None:
    """Tell the observers; one that fails is reported, and noted in the run, but stops nothing."""
    for failure in host.notify(observer, **values):
        if failure not in (note.value for note in store.notes("observer-failed")):
            store.note("observer-failed", failure)
            bench.progress.step(failure)


def note_versions(bench: TaskBench, store: RunStore, part: str, plugins: Iterable[PlannedPlugin]) -> None:
    """Keep which versions make a part of the run; warn where an earlier version has made some of it."""
    versions = {plugin.registered.distribution: plugin.registered.version for plugin in plugins}
    versions["harness"] = harness.__version__
    notes = [note.value for note in store.notes(f"versions: {part}")]
    if versions not in notes:
        store.note(f"versions: {part}", versions)
        notes.append(versions)
    for distribution in sorted(versions):
        seen = list(dict.fromkeys(note[distribution] for note in notes if distribution in note))
        if len(seen) > 1:
            bench.warn(f"{part}: made by several versions of {distribution}: {', '.join(seen)}")
