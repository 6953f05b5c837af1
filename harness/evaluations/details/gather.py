"""A run's details: curves, texts, labels and scores, for its page."""

from __future__ import annotations

from harness.evaluations.details.command import command_line
from harness.evaluations.details.detection import detected
from harness.evaluations.details.labels import labels
from harness.evaluations.details.steering import curves, texts
from harness.leaderboard.site.details import RunDetails
from harness.store import JudgeRecord, RunStore

MOST_TEXTS = 60
"""Concepts of which texts are taken at most; a page may show fewer."""
MOST_SCORES = 120
"""Concepts of which a detector's curves are taken at most."""


def details_of(store: RunStore, judge: JudgeRecord | None) -> RunDetails:
    """Return what a run's page shows beyond its entry.

    Args:
        store: the run, open for reading.
        judge: whose ratings; None for a run without texts.

    Raises:
        StoreError: the run's manifest or values cannot be understood.
    """
    manifest, key = store.manifest, judge.key if judge is not None else None
    found, n_concepts = texts(manifest, store, key, MOST_TEXTS)
    return RunDetails(
        run=store.id,
        started=store.started,
        status=store.status,
        command=command_line(manifest.command),
        hardware=manifest.hardware,
        curves=curves(manifest, store, key),
        texts=found,
        labels=labels(manifest, store),
        detected=detected(manifest, store, MOST_SCORES),
        n_texts=store.counts()["generations"],
        n_concepts_with_texts=n_concepts,
    )
