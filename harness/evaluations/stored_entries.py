"""A stored run's entries: those that lie beside its file, or one made of what it holds."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.evaluations.entry import make_entry
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entry
from harness.store import RunStore


def entries_of(store: RunStore) -> tuple[list[Entry], str]:
    """Return a run's entries, one for each judge whose ratings were scored, and why there is none where there is none.

    An entry beside the run's file is taken as it is. A run without one, which has not ended, is scored as far as it is: where all its texts exist.
    No model, task or plugin is needed.
    """
    found = []
    for path in sorted(store.folder.glob("entry*.json")):
        try:
            entry = load_entry(path)
        except HarnessError as error:
            return [], str(error)
        found += [entry] if entry.run_digest == store.plan_digest else []
    if found:
        return found, ""
    if store.incomplete:
        return [], "an older harness began the run and did not finish it"
    counts, judge = store.counts(), store.own_judge()
    if counts["generations"] < counts["trials"] or (counts["trials"] and judge is None):
        return [], "the run has stopped before all its texts were generated and rated"
    try:
        return [make_entry(store.manifest, store, judge)], ""
    except HarnessError as error:
        return [], str(error)
