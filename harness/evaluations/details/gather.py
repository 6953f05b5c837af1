"""A run's details: curves, texts, labels and scores, for its page."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.errors import HarnessError, StoreError
from harness.evaluations.details.detection import detected
from harness.evaluations.details.labels import labels
from harness.evaluations.details.steering import curves, texts
from harness.evaluations.entry import make_entry
from harness.evaluations.stored_entries import entries_of, nothing_to_score
from harness.leaderboard.entry import Entry
from harness.leaderboard.site.details import RunDetails
from harness.store import JudgeRecord, RunStore
from harness.store.command import eval_command
from harness.store.folder import DATABASE
from harness.store.remaining import unfinished

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
        command=shlex.join(eval_command(manifest.command)),
        hardware=manifest.hardware,
        curves=curves(manifest, store, key),
        texts=found,
        labels=labels(manifest, store),
        detected=detected(manifest, store, MOST_SCORES),
        n_texts=store.counts()["generations"],
        n_concepts_with_texts=n_concepts,
        unfinished=tuple(unfinished(store, judge)),
    )


def report_of(store: RunStore, wanted: str | None = None) -> tuple[Entry, RunDetails]:
    """Return a run's entry and its details, by one judge's ratings.

    An entry beside the run's file is taken as it is; without one it is made of what the run holds, and the details say how far the run is.

    Args:
        store: the run, open for reading.
        wanted: whose ratings, as :meth:`harness.store.RunStore.judge_named` takes it; None for the judge that the run was started with.

    Raises:
        StoreError: no such judge has rated; the run has stopped before there was anything to score, which says how far it is.
    """
    judge = store.judge_named(wanted)
    key = judge.ranking_key if judge is not None else None
    found, reason = entries_of(store)
    own = [entry for entry in found if (entry.judge.key if entry.judge is not None else None) == key]
    if own:  # of several, the one by the run's own protocol
        return min(own, key=lambda entry: entry.protocol.title != store.manifest.protocol.title), details_of(store, judge)
    if reason := reason or nothing_to_score(store, judge):
        message = f"the run {store.id} has no scores yet: {reason}"
        raise StoreError(message, given=store.id, hint="run its `harness eval` again first")
    return make_entry(store.manifest, store, judge), details_of(store, judge)


class RunsAtHand:
    """The runs in a folder, by the digest that their entries name.

    Attributes:
        problems: why runs could not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.problems: list[str] = []
        self._folders: dict[str, Path] = {}
        for path in sorted(folder.glob(f"*/{DATABASE}")):
            try:
                with RunStore.open(path.parent, read_only=True, check=False) as store:
                    self._folders.setdefault(store.plan_digest, path.parent)
            except HarnessError as error:
                self.problems.append(str(error))

    def details(self, entry: Entry) -> RunDetails | None:
        """Return what the run of an entry adds; None where it is not there, cannot be read, or was not rated by the entry's judge."""
        folder = self._folders.get(entry.run_digest)
        if folder is None:
            return None
        try:
            with RunStore.open(folder, read_only=True) as store:
                judges = [judge for judge in store.judges() if entry.judge is not None and judge.ranking_key == entry.judge.key]
                return None if entry.judge is not None and not judges else details_of(store, judges[-1] if judges else None)
        except HarnessError as error:
            self.problems.append(str(error))
            return None
