"""A stored run's texts: whether all of them are there."""

from __future__ import annotations

from harness.errors import StoreError
from harness.evaluations.steering.generate import trials_of
from harness.store import RunStore
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

