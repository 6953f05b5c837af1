"""Whether a stored run is as it was written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import StoreError
from harness.store.folder import DATABASE
from harness.store.run import RunStore
from harness.store.sound import forget

Verdict = Literal["intact", "no digests", "damaged"]


@dataclass(frozen=True)
class Verified:
    """What looking for damage found in one run.

    Attributes:
        id: the run.
        folder: its folder.
        verdict: ``intact``; ``no digests``: an older harness wrote the file, it can be read, and a changed value in it could not be noticed;
            ``damaged``.
        problem: what is wrong with a damaged one.
        groups: the groups of records whose digests do not fit, e.g. ``outcomes rate`` with the judge's key; empty where rows can't be read at all.
    """

    id: str
    folder: Path
    verdict: Verdict
    problem: str = ""
    groups: tuple[str, ...] = ()


def verify(folder: Path) -> Verified:
    """Check every record of a run against its digests, and decode it. The run may be in use; nothing is changed."""
    forget(Path(folder) / DATABASE)
    try:
        with RunStore.open(folder, read_only=True) as store:
            store.read_everything()
            return Verified(store.id, folder, "intact" if store.digested else "no digests")
    except StoreError as error:
        groups = tuple(map(str, error.given)) if isinstance(error.given, tuple) else ()
        return Verified(folder.resolve().name, folder, "damaged", str(error), groups)
