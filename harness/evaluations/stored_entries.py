"""A stored run's entries: those that lie beside its file, or one made of what it holds."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.evaluations.entry import make_entry
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entry
from harness.store import JudgeRecord, RunStore
from harness.store.remaining import progress
from harness.store.values import STEERING


def entries_of(store: RunStore) -> tuple[list[Entry], str]:
    """Return a run's entries, one for each judge whose ratings were scored, and why there is none where there is none.

    An entry beside the run's file is taken as it is. A run without one, which has not ended, is scored as far as it is: where all its texts exist,
    and something is rated, detected or measured.
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
    judge = store.own_judge()
    if reason := nothing_to_score(store, judge):
        return [], reason
    try:
        return [make_entry(store.manifest, store, judge)], ""
    except HarnessError as error:
        return [], str(error)


def nothing_to_score(store: RunStore, judge: JudgeRecord | None) -> str:
    """Return why a run that has not ended, or that a judge has not rated to its end, can't be scored as far as it is; empty where it can."""
    counts = store.counts()
    rated = 0 if judge is None else store.rating_counts(judge.key)["rated"]
    others = sum(done for kind, (_, done) in store.item_counts().items() if kind != STEERING)
    so_far = ", ".join(progress(store, judge)) or "nothing yet"
    if counts["generations"] < counts["trials"] or (counts["trials"] and judge is None):
        return f"the run has stopped before all its texts were generated and rated ({so_far})"
    return "" if rated or others or store.status == "finished" else f"nothing in it is rated, detected or measured ({so_far})"
