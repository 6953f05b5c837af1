"""What the methods of a group are called: names that tell apart what is not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from harness.leaderboard.entry import Entry, Row, full_name
from harness.leaderboard.merging import MethodRun, configuration
from harness.leaderboard.subject import Subject
from harness.types import Json, canonical_json

_DIGITS = 8


def names_of(methods: Sequence[tuple[Row, Sequence[MethodRun]]]) -> list[str]:
    """Return a name for each method of a group: the subject's, and in brackets in what it differs from others of that name.

    Args:
        methods: each with its row and its runs.
    """
    rows = [row for row, _ in methods]
    twins_of: dict[str, list[Row]] = {}
    for row in rows:
        twins_of.setdefault(row.subject.name, []).append(row)
    plain = [full_name(row, twins_of[row.subject.name]) for row in rows]
    twins: dict[str, list[int]] = {}
    for place, name in enumerate(plain):
        twins.setdefault(name, []).append(place)
    names = list(plain)
    for places in twins.values():
        for place, extra in zip(places, _differences([methods[place][1][-1] for place in places]), strict=True):
            names[place] += f" ({extra})" if extra else ""
    return names


def _differences(runs: Sequence[MethodRun]) -> list[str]:
    """Return in what each of several methods of one name differs from the others; empty for one alone."""
    parts = [configuration(run.entry, run.row) for run in runs]
    found: list[list[str]] = [[] for _ in runs]
    for aspect in dict.fromkeys(aspect for part in parts for aspect in part if aspect != "eligible"):
        if len({canonical_json(part.get(aspect)) for part in parts}) > 1:
            for words, text in zip(found, _texts(aspect, runs), strict=True):
                words += [text] if text else []
    return [", ".join(words) for words in found]


def _texts(aspect: str, runs: Sequence[MethodRun]) -> list[str]:
    """Return an aspect in words, for each of several methods that differ in it."""
    if aspect == "subject":
        return _options([run.row.subject for run in runs])
    if aspect == "model":
        return _told_apart([run.entry.model.name for run in runs], [run.entry.model.digest for run in runs])
    if aspect == "dtype":
        return [run.entry.model.dtype for run in runs]
    if aspect == "dictionaries":
        return _told_apart([_dictionaries(run.entry) for run in runs], [_dictionary_digests(run.entry) for run in runs])
    if aspect == "strengths":
        return [_strengths(run.row.subject) for run in runs]
    if aspect == "decoding":
        return _pairs([asdict(run.entry.decoding) for run in runs])
    return [f"instructions {run.entry.instruction_set_digest[:_DIGITS]}" for run in runs]


def _told_apart(names: Sequence[str], digests: Sequence[str]) -> list[str]:
    """Return the names, each with the beginning of its digest where another of the same name has another digest."""
    digests_of: dict[str, set[str]] = {}
    for name, own in zip(names, digests, strict=True):
        digests_of.setdefault(name, set()).add(own)
    return [
        f"{name} {own[:_DIGITS]}".strip() if len(digests_of[name]) > 1 else name for name, own in zip(names, digests, strict=True)
    ]


def _dictionaries(entry: Entry) -> str:
    return " + ".join(f"{part.name} at layer {part.layer}" for part in entry.dictionaries) or "no dictionary"


def _dictionary_digests(entry: Entry) -> str:
    return "+".join((part.digest or part.source)[:_DIGITS] for part in entry.dictionaries)


def _strengths(subject: Subject) -> str:
    grid: tuple[float, ...] = getattr(subject, "grid", ())
    if len(grid) > 4:
        return f"{len(grid)} strengths, {grid[0]:g} to {grid[-1]:g}"
    return "strengths " + ", ".join(f"{strength:g}" for strength in grid) if grid else "no strengths"


def _options(subjects: Sequence[Subject]) -> list[str]:
    """Return the options in which subjects differ, given or by default, and the weights of a dictionary or what it was trained with."""
    found: list[dict[str, Json]] = []
    for subject in subjects:
        options: dict[str, Json] = {}
        for field in ("labeler_options", "steerer_options", "detector_options", "metric_options"):
            options.update(getattr(subject, field).all if hasattr(subject, field) else {})
        options.update({"weights": digest[:_DIGITS]} if (digest := getattr(subject, "digest", "")) else {})
        found.append(options)
    return _pairs(found)


def _pairs(values: Sequence[dict[str, Json]]) -> list[str]:
    """Return ``name=value`` of what differs."""
    names = dict.fromkeys(name for value in values for name in value)
    differ = [name for name in names if len({canonical_json([name in value, value.get(name)]) for value in values}) > 1]
    return [
        ", ".join(f"{name}={_text(value[name])}" for name in differ if name in value and f"{name}={_text(value[name])}") for value in values
    ]


def _text(value: Json) -> str:
    return value if isinstance(value, str) else canonical_json(value)
