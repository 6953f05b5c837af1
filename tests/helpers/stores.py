"""Filling a run's store with many trials and texts at once, as tests do; the program stores items and outcomes."""

from __future__ import annotations

from collections.abc import Iterable

from harness.store import RunStore
from harness.store.values import trial_item
from harness.types import Generation, Trial


def add_trials(store: RunStore, trials: Iterable[Trial]) -> None:
    """Store trials as items."""
    store.add_items(trial_item(trial) for trial in trials)


def add_generations(store: RunStore, generations: Iterable[Generation]) -> None:
    """Store texts, each as the iterable yields it."""
    for generation in generations:
        store.add_generation(generation)


def missing_trials(store: RunStore, method_id: str | None = None) -> list[Trial]:
    """The trials that have no text yet, of all methods or one."""
    texts = store.generations()
    return [trial for trial in store.trials(method_id) if trial.id not in texts]
