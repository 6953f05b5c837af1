"""Whether a stored run is as it was written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import StoreError
from harness.store.folder import DATABASE
from harness.store.run import RunStore
from harness.store.sound import forget
from harness.types import digest

_RUN_ID = re.compile(r".*-([0-9a-f]{12})(?:\.\d+)?")
"""How a run's folder is named: by its task and the digest of what it depends on; one that was set aside has a number, too."""
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
        run_digest: what the file's run depends on, as its entries name it; empty where that cannot be read.
    """

    id: str
    folder: Path
    verdict: Verdict
    problem: str = ""
    groups: tuple[str, ...] = ()
    run_digest: str = ""


def verify(folder: Path) -> Verified:
    """Check every record of a run against its digests, decode it, and compare its folder's name with the run in it.

    The run may be in use; nothing is changed.
    """
    forget(Path(folder) / DATABASE)
    try:
        with RunStore.open(folder, read_only=True) as store:
            store.read_everything()
            if problem := _of_another_run(store):
                return Verified(store.id, folder, "damaged", problem, run_digest=store.plan_digest)
            return Verified(store.id, folder, "intact" if store.digested else "no digests", run_digest=store.plan_digest)
    except StoreError as error:
        groups = tuple(map(str, error.given)) if isinstance(error.given, tuple) else ()
        return Verified(folder.resolve().name, folder, "damaged", str(error), groups)


def _of_another_run(store: RunStore) -> str:
    """Return what is wrong with a folder that is named as one run and holds another; empty for one that has a name of its own."""
    named, own = _RUN_ID.fullmatch(store.id), digest(store.plan, 12)
    if named is None or named[1] == own:
        return ""
    task = store.plan.get("task") if isinstance(store.plan, dict) else None
    name = f"{task['name']}-{own}" if isinstance(task, dict) and "name" in task else own
    return f"the folder {store.folder} is named as one run and holds another, {name}; give it that name, or put back what was in it"
