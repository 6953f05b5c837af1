"""Whether an entry is the one that its run gives: every number, every warning, all that it says beside them, and the time at which it was made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from harness.errors import HarnessError
from harness.evaluations.recompute import recompute_entry
from harness.leaderboard.entry import Entry, full_name
from harness.leaderboard.findings import Finding
from harness.leaderboard.values import TOLERANCE
from harness.store import RunStore, verify
from harness.types import Json

_ITS_OWN = ("id", "seal", "created", "schema_version", "migrated_from")
"""What an entry does not have from its run."""
_LATE = ("protocol", "sources", "label", "code", "place", "ratings", "side_effects", "aspects")
"""What came to entries later, and older ones lack."""
_COMPARED = (
    "task", "model", "dictionaries", "decoding", "judge", "protocol", "concept_set_digest", "instruction_set_digest", "seed",
    "role", "primary", "metrics", "ranked", "bounds", "items", "readings", "samples", "side_effects", "aspects",
    "n_items", "n_answered", "coverage", "n_texts", "n_unrated", "n_pending", "eligible",
)  # fmt: skip
"""What :mod:`harness.evaluations.recompute` compares, at least in part: where it finds a difference nothing further is said of these."""
MOST = 20
"""So many facts of an entry that differ are named."""


def against_run(entry: Entry, file: Path, run: Path) -> Iterator[Finding]:
    """Yield how an entry differs from the one that its run gives.

    Args:
        entry: the entry.
        file: where it lies.
        run: the run's folder.
    """
    found = verify(run)
    if found.verdict == "damaged":
        yield _run("", f"the run is damaged: {found.problem}")
    made = recompute_entry(entry, file, run)
    if made.reason:
        yield _run("", f"its numbers cannot be computed from the run: {made.reason}")
    for difference in made.differences:
        yield _run(difference.row, str(difference).removeprefix(f"{difference.row}: " if difference.row else ""))
    if made.entry is not None:
        yield from _warnings(entry, made.entry)
        yield from _facts(entry, made.entry, ("warnings", *(_COMPARED if made.differences else ())))
    yield from _created(entry, run)


def _run(row: str, message: str) -> Finding:
    return Finding("run", row, message)


def _warnings(entry: Entry, made: Entry) -> Iterator[Finding]:
    """Warnings that one of the two has and the other has not."""
    pairs: list[tuple[str, Sequence[str], Sequence[str]]] = [("", entry.warnings, made.warnings)]
    theirs = {(row.kind, row.subject.id): row for row in made.rows}
    for row in entry.rows:
        if (other := theirs.get((row.kind, row.subject.id))) is not None:
            pairs.append((full_name(row, entry.rows_of(row.kind)), row.warnings, other.warnings))
    for where, ours, others in pairs:
        yield from (_run(where, f"lacks what its run warns of: {warning}") for warning in others if warning not in ours)
        yield from (_run(where, f"warns of what its run does not warn of: {warning}") for warning in ours if warning not in others)


def _facts(entry: Entry, made: Entry, skipped: Sequence[str]) -> Iterator[Finding]:
    """All else that an entry says, against the entry that its run gives."""
    ours, theirs = entry.as_json(), made.as_json()
    rows = {(row.kind, row.subject.id): theirs["rows"][place] for place, row in enumerate(made.rows)}
    found = [("", line) for line in _differing({**ours, "rows": []}, {**theirs, "rows": []}, "", (*skipped, *_ITS_OWN))]
    for row, own in zip(entry.rows, ours["rows"], strict=True):
        if (other := rows.get((row.kind, row.subject.id))) is not None:
            found += [(full_name(row, entry.rows_of(row.kind)), line) for line in _differing(own, other, "", skipped)]
    yield from (_run(where, line) for where, line in found[:MOST])
    if len(found) > MOST:
        yield _run("", f"{len(found) - MOST} more of its facts differ from those of the run")


def _differing(ours: Json, theirs: Json, where: str, skipped: Sequence[str] = ()) -> Iterator[str]:
    """Yield the ways to values that differ; lists of other lengths are named as a whole. ``skipped`` are names that are not looked at."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in dict.fromkeys((*ours, *theirs)):
            if name not in skipped and not (name in _LATE and name not in ours):
                yield from _differing(ours.get(name), theirs.get(name), f"{where}.{name}" if where else name)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True), 1):
            yield from _differing(one, other, f"{where} {place}")
    elif _is_number(ours) and _is_number(theirs):
        if not math.isclose(ours, theirs, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{where} is {_short(ours)}; the run has {_short(theirs)}"
    elif ours != theirs:
        yield f"{where} is {_short(ours)}; the run has {_short(theirs)}"


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Json) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _created(entry: Entry, run: Path) -> Iterator[Finding]:
    """Whether the entry was made after its run began; both are dated to the second."""
    try:
        with RunStore.open(run, read_only=True, check=False) as store:
            started = store.started
    except HarnessError:  # said as such
        return
    made = datetime.fromisoformat(entry.created.replace("Z", "+00:00"))
    try:
        begun = datetime.fromisoformat(started.replace("Z", "+00:00"))
        before = made < begun
    except (ValueError, TypeError):  # no time, or one without its zone
        yield _run("", f"the run says of its beginning {started!r}, which is no time")
        return
    if before:
        yield _run("", f"created is {entry.created}, before its run began ({started})")
