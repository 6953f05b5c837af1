"""The part of ``harness eval --dry-run`` that says what trainings and measurements of dictionaries take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.evaluations.dictionary.foresee import Foreseen
    from harness.run.foreseen_trainings import Trainings


def duration(seconds: float) -> str:
    """Return a time for people: ``3 s``, ``4.2 min``, ``5.0 h``."""
    return f"{seconds / 3600:,.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min" if seconds >= 60 else f"{seconds:.0f} s"


def dictionary_lines(found: Foreseen) -> Iterator[str]:
    """Yield what a run's dictionaries take, in words: the trainings of each table, the measurements, all together."""
    for one in found.trainings:
        yield _training_line(one)
    counts = ", ".join(f"{one.metric} × {one.n}" for one in found.measurements)
    known = [one.seconds for one in found.measurements if one.seconds is not None]
    time = f"; {duration(sum(known))} at the pace of this machine's last run" if known else ""
    if found.measurements:
        yield f"measurements: {counts}{time}{' for those measured before' if known and len(known) < len(found.measurements) else ''}"
    if found.seconds is not None:
        yield f"dictionaries together: about {duration(found.seconds)}"
    else:
        yield f"time unknown until this machine has done it once: {', '.join(found.unknown) or 'opening the dictionaries'}"


def _training_line(one: Trainings) -> str:
    tokens = "tokens of the corpus, not counted yet" if one.tokens is None else f"at most {one.tokens:,} tokens"
    of = f"{one.n} of width {one.width:,}, each {one.passes:g} passes over {tokens}"
    if one.n == one.cached:
        return f"trainings of {one.table}: {of}; the cache holds them all"
    left = f"; {one.n - one.cached} of them not in the cache" if one.cached else ""
    time = "time unknown until the first of its kind was trained on this machine"
    if one.seconds is not None:
        time = f"about {duration(one.seconds)} at the pace of this machine's earlier trainings"
    return f"trainings of {one.table}: {of}{left}; {time}"


def dictionary_json(found: Foreseen | None) -> dict[str, Any] | None:
    """Return the same for programs."""
    return None if found is None else {**asdict(found), "seconds": found.seconds, "unknown": found.unknown}
