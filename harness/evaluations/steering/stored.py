"""A stored run's texts: whether all of them are there, and who rated them."""

from __future__ import annotations

from harness.errors import StoreError
from harness.evaluations.steering.generate import trials_of
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest


def check_generated(manifest: Manifest, store: RunStore) -> None:
    """Raise StoreError unless the run has labelled and generated all that it is to: an entry would describe something else."""
    if not manifest.methods_of("steering"):
        message = f"the run in {store.folder} has no texts: nothing was steered in it, so there is nothing to rate"
        raise StoreError(message, given=store.folder, hint="name a run that steers (see `harness runs`)")
    wanted = {trial.id for trial in trials_of(manifest, store)}
    if store.counts()["generations"] < len(wanted):
        message = f"the run in {store.folder} stopped before all its texts were generated"
        raise StoreError(message, given=store.folder, hint="run its `harness eval` again first")


def judge_of(store: RunStore, wanted: str | None) -> JudgeRecord | None:
    """Return a judge of a stored run, by its key or name; None takes the one that the run was started with, as it rated last.

    Raises StoreError where nobody of this name has rated the run.
    """
    judges = store.judges()
    if wanted is None:
        return store.own_judge()
    found = [judge for judge in judges if wanted in (judge.key, judge.name, judge.ranking_key)]
    if not found:
        known = tuple(judge.key for judge in judges) or "none"
        raise StoreError(f"{wanted!r} has not rated the run in {store.folder}", given=wanted, allowed=known, hint="name one of its judges")
    return found[-1]
