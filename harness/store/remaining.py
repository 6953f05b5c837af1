"""What a run has still to do, as far as its file tells."""

from __future__ import annotations

from harness.store.run import RunStore
from harness.store.values import STEERING, JudgeRecord

_NOUNS = {"steering": "texts", "detection": "labelings to detect", "dictionary": "measurements"}
_DONE = {"steering": "texts", "detection": "detections", "dictionary": "measurements"}


def remaining(store: RunStore, judge: JudgeRecord | None = None) -> list[str]:
    """Return what is left, a phrase each (``40 of 72 texts``); empty for a run that is done.

    Of a finished run it is what its judges still owe: one that failed has failed, and is tried again by the same command.

    Args:
        store: of the run.
        judge: who is to rate its texts, where that is known; None stands for the run's own judge as it rated last.
    """
    if store.status == "finished":
        owed = [] if judge is None else _ratings(store, store.counts()["trials"], judge)
        return [*owed, *_pending(store, judge if owed else None)]
    if store.incomplete:
        return ["an older harness began it, and did not keep what it was to do"]
    manifest = store.manifest
    labeled = store.labeled_by()
    unlabeled = [labeler.title for labeler in manifest.labelers if labeler.key not in labeled]
    found = [f"labels of {', '.join(unlabeled)}"] if unlabeled else []
    counts = store.item_counts()
    wanted = {kind: bool(manifest.methods_of(kind)) for kind in ("steering", "detection")} | {"dictionary": bool(manifest.metrics)}
    for kind in (kind for kind, is_wanted in wanted.items() if is_wanted):
        items, done = counts.get(kind, (0, 0))
        if not items:
            found.append(f"all {_NOUNS[kind]}")
        elif done < items:
            found.append(f"{items - done} of {items} {_NOUNS[kind]}")
    if wanted[STEERING]:
        found += _ratings(store, counts.get(STEERING, (0, 0))[0], judge or store.own_judge())
    return found or ["scores and entry"]


def progress(store: RunStore, judge: JudgeRecord | None) -> list[str]:
    """Return how far a run is, with the ratings by one judge, a phrase each: ``72 of 72 texts``, ``30 of 72 ratings by words``."""
    found = []
    for kind, (items, done) in store.item_counts().items():
        found.append(f"{done} of {items} {_DONE.get(kind, kind)}")
        if kind == STEERING:
            counts = {"rated": 0, "unrated": 0} if judge is None else store.rating_counts(judge.key)
            found.append(f"{counts['rated'] + counts['unrated']} of {items} ratings" + ("" if judge is None else f" by {judge.name}"))
    return found


def unfinished(store: RunStore, judge: JudgeRecord | None) -> list[str]:
    """Return how far a run is that is not finished, or that one judge has not rated to its end, as :func:`progress` does; else nothing."""
    n_trials = store.counts()["trials"]
    counts = {} if judge is None else store.rating_counts(judge.key)
    owed = bool(judge is not None and n_trials > counts["rated"] + counts["unrated"])
    return progress(store, judge) or ["nothing yet"] if store.status != "finished" or owed else []


def _ratings(store: RunStore, n_trials: int, judge: JudgeRecord | None) -> list[str]:
    """Return what a judge has still to rate."""
    if judge is None or not n_trials:
        return ["all ratings"]
    counts = store.rating_counts(judge.key)
    open_ratings = n_trials - counts["rated"] - counts["unrated"]
    pending = f", {counts['pending']} of them pending" if counts["pending"] else ""
    return [f"{open_ratings} of {n_trials} ratings by {judge.name}{pending}"] if open_ratings > 0 else []


def _pending(store: RunStore, but: JudgeRecord | None = None) -> list[str]:
    counts = {judge.name: store.rating_counts(judge.key)["pending"] for judge in store.judges() if but is None or judge.key != but.key}
    return [f"{count} pending rating{'s' * (count != 1)} by {name}" for name, count in counts.items() if count]
