"""Whether an entry's numbers fit each other: every mean, interval and count made again from the entry's own items.

What only the run knows (which text was rated how) is not looked at here; :mod:`harness.evaluations.recompute` does that where the run is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from pydantic import JsonValue

from harness.leaderboard.against_arm import AgainstArm
from harness.leaderboard.arms import is_whole, verdicts_of
from harness.leaderboard.entry import STEERING_METRICS, Entry, MetricValue, Row, full_name, metric_value
from harness.leaderboard.findings import Finding
from harness.leaderboard.relabelled import each_of, relabelled
from harness.leaderboard.subject import DictionarySubjectRef, SteeringSubject
from harness.leaderboard.values import TOLERANCE, ItemResult
from harness.store.values import JudgeRecord
from harness.types import ASPECTS, digest

RANDOM = "random"
"""The arm whose value stands beside a dictionary's as the random one."""


def inconsistencies(entry: Entry) -> Iterator[Finding]:
    """Yield what does not fit, row by row."""
    concepts = digest(sorted({(item.id, item.text) for row in entry.rows if row.kind != "dictionary" for item in row.items}))
    if concepts != entry.concept_set_digest:
        yield Finding("numbers", "", f"concept_set_digest is {entry.concept_set_digest}, but that of the items is {concepts}")
    if entry.judge is not None:
        key = JudgeRecord(entry.judge.name, entry.judge.rubric, entry.judge.options, content=entry.judge.content).ranking_key
        if key != entry.judge.key:
            yield Finding("numbers", "", f"the judge's key is {entry.judge.key}, but that of its name, rubric and options is {key}")
    yield from (Finding("numbers", "", message) for message in relabelled(entry))
    for row in entry.rows:
        name = full_name(row, entry.rows_of(row.kind))
        yield from (Finding("numbers", name, message) for message in _of_row(row, entry))


def _of_row(row: Row, entry: Entry) -> list[str]:
    checks = {"steering": _steering, "detection": _detection, "dictionary": _dictionary}
    try:
        return [*_counts(row, entry), *checks[row.kind](row, entry)]
    except (ValueError, TypeError, ArithmeticError, LookupError) as error:  # items that no harness wrote
        return [f"the numbers cannot be computed from the items ({type(error).__name__}: {' '.join(str(error).split())[:200]})"]


# --------------------------------------------------------------------------------------------------------------------- counts


def _counts(row: Row, entry: Entry) -> Iterator[str]:
    answered = [item for item in row.items if item.answered]
    if row.n_answered and not row.items:
        yield f"n_answered is {row.n_answered}, but the row has no items"
    if row.kind == "dictionary":
        return
    n_items = len({item.id for item in (row.items if entry.task.mode == "fixed" else answered)})
    if n_items != row.n_items:
        yield f"n_items is {row.n_items}, but the items are of {n_items} concepts"
    if (texts := sum(item.n for item in answered)) != row.n_texts:
        yield f"n_texts is {row.n_texts}, but the items' texts are {texts}"
    if (unrated := sum(item.n_unrated for item in answered)) != row.n_unrated:
        yield f"n_unrated is {row.n_unrated}, but {unrated} of the items' texts are unrated"
    if row.eligible and row.n_pending:
        yield f"{row.n_pending} ratings are pending, so the row may not be eligible"
    if row.eligible and row.n_texts and row.n_unrated / row.n_texts > entry.protocol.max_unrated:
        share = row.n_unrated / row.n_texts
        yield f"{share:.1%} of the texts are unrated, more than {entry.protocol.max_unrated:g}, so the row may not be eligible"


# -------------------------------------------------------------------------------------------------------------------- steering


def _steering(row: Row, entry: Entry) -> Iterator[str]:
    assert isinstance(row.subject, SteeringSubject)
    answered = [item for item in row.items if item.answered]
    if not row.subject.grid:
        yield "the grid of strengths is empty"
        return
    for name in STEERING_METRICS:
        yield from _mean(row, name, answered, entry)
    if row.ranked is not None:
        zero = row.metrics[row.primary].trivial or 0.0
        yield from _ranked(row, [item.values.get(row.primary) if item.answered else zero for item in row.items], entry)
    yield from _bounds(row)
    for item in answered:
        yield from (f"concept {item.id}: {problem}" for problem in _steered_item(item, row.subject.grid, entry))
    for number, sample in enumerate(row.samples, 1):
        if sample.strength not in row.subject.grid:
            yield f"sample {number} has the strength {sample.strength:g}, which is not in the grid"
        if sample.ratings is not None and not _is_close(sample.overall, _overall([sample.ratings[part] for part in ASPECTS], entry)):
            yield f"sample {number}: overall is {_number_text(sample.overall)}, but not the harmonic mean of its ratings"
    methods = {(other.subject.id, full_name(other, entry.rows_of("steering"))) for other in entry.rows_of("steering") if other.role == "method"}
    for reading in row.readings:
        if (reading.method, reading.at_strengths_of) not in methods or reading.n_read > reading.n_items:
            yield f"it is read at the strengths of {reading.at_strengths_of}, which is no method of the entry, or more often than there are concepts"


def _bounds(row: Row) -> Iterator[str]:
    """The unrated texts' bounds: they hold the score, and are the score where every text is rated."""
    score, bounds = row.score.value, row.bounds
    if score is None or bounds is None or bounds.low is None or bounds.high is None:
        return
    if not bounds.low - TOLERANCE <= score <= bounds.high + TOLERANCE:
        yield f"the bounds for unrated texts, {_number_text(bounds.low)} to {_number_text(bounds.high)}, do not hold the score {_number_text(score)}"
    if not row.n_unrated and not row.n_pending and not (_is_close(bounds.low, score) and _is_close(bounds.high, score)):
        ends = f"{_number_text(bounds.low)} to {_number_text(bounds.high)}"
        yield f"no text is unrated, but the bounds for unrated texts are {ends} about {_number_text(score)}"


def _steered_item(item: ItemResult, grid: Sequence[float], entry: Entry) -> Iterator[str]:
    draws = _draws_of(item)
    strengths = [item.strength, *(draw.get("strength") for draw in draws)]
    if off := [strength for strength in strengths if strength is not None and strength not in grid]:
        yield f"strength {off[0]} is not in the grid"
    if item.n % len(grid):
        yield f"{item.n} texts are not equally many at each of {len(grid)} strengths"
    yield from _mean_of_draws(item)
    for values in each_of(item):
        parts, overall = [values.get(part) for part in ASPECTS], values.get("overall")
        known = [part for part in parts if part is not None]
        if overall is None or len(known) < len(parts):
            continue
        most, exact = _overall(known, entry), entry.protocol.aggregation == "harmonic-mean-of-means"
        if overall > most + TOLERANCE or (exact and overall < most - TOLERANCE):
            relation = "is not" if exact else "is above"
            yield f"overall {_number_text(overall)} {relation} the harmonic mean {_number_text(most)} of its concept, instruction and fluency"


# ------------------------------------------------------------------------------------------------------- detection, dictionaries


def _detection(row: Row, entry: Entry) -> Iterator[str]:
    answered = [item for item in row.items if item.answered]
    for name in row.metrics:
        own = [item for item in answered if name in item.values]
        yield from _mean(row, name, own, entry)
        trivial = [item.trivial[name] for item in own if item.values[name] is not None and name in item.trivial]
        if trivial and not _is_close(row.metrics[name].trivial, fmean(trivial)):
            yield f"{name}: the trivial value is {_number_text(row.metrics[name].trivial)}, but the items' average to {_number_text(fmean(trivial))}"
    if row.ranked is not None:
        yield from _ranked(row, [item.values.get(row.primary) if item.answered else 0.5 for item in row.items], entry)
    for item in answered:
        yield from (f"concept {item.id}: {problem}" for problem in _mean_of_draws(item))


def _dictionary(row: Row, entry: Entry) -> Iterator[str]:
    """A mean over training seeds of the mean over the metric's own seeds; Student's interval over the one or the other."""
    from harness.scoring import interval

    assert isinstance(row.subject, DictionarySubjectRef)
    measured = [item for item in row.items if is_whole(item.id)]
    if len(measured) != row.n_items:
        yield f"n_items is {row.n_items}, but {len(measured)} of the items are measurements"
    others = [other for other in entry.rows_of("dictionary") if isinstance(other.subject, DictionarySubjectRef)]
    random = [other for other in others if _is_control_of(other.subject, row.subject)]  # type: ignore[arg-type]
    for name, metric in row.metrics.items():
        values = [item.values.get(name) for item in measured]
        known = [value for value in values if value is not None]
        if len(known) < len(values) or not known:
            if metric.value is not None:
                yield f"{name} is {_number_text(metric.value)}, but {len(values) - len(known)} of {len(values)} measurements lack it"
            continue
        by_seed: dict[str, list[float]] = {}
        for item, value in zip(measured, known, strict=True):
            by_seed.setdefault(item.id.split(", ")[0] if item.id.startswith("seed ") else "", []).append(value)
        means = [fmean(own) for own in by_seed.values()]
        if not _is_close(metric.value, fmean(means)):
            yield f"{name} is {_number_text(metric.value)}, but the measurements average to {_number_text(fmean(means))}"
        ends = interval(means if len(means) > 1 else known, method="t", bounds=metric.bounds, item="seed")
        if not (_is_close(metric.low, ends.low) and _is_close(metric.high, ends.high)):
            yield f"{name}: the interval is {_ends(metric.low, metric.high)}, but that of the measurements is {_ends(ends.low, ends.high)}"
        control = random[0].metrics.get(name) if len(random) == 1 and row.subject.arm != RANDOM else None
        if control is not None and not _is_close(metric.random, control.value):
            yield f"{name}: the random value is {_number_text(metric.random)}, but the control's row has {_number_text(control.value)}"
    yield from _against_arms(row, entry)


def _against_arms(row: Row, entry: Entry) -> Iterator[str]:
    """The verdicts against controls, made again of the items; older entries have none."""
    expected = verdicts_of(row, entry.rows_of("dictionary")) if row.against else ()
    if [one.arm for one in row.against] != [one.arm for one in expected]:
        yield f"it is held against {_listed(row.against)}, but its controls are {_listed(expected)}"
        return
    for stated, made in zip(row.against, expected, strict=True):
        if stated.answer != made.answer:
            yield f"beats {stated.arm}: {stated.answer}, but the items give {made.answer}"
        if not _is_close(stated.difference, made.difference) or not _is_close(stated.mean, made.mean):
            yield f"against {stated.arm}: the difference is {_number_text(stated.difference)}, but the items give {_number_text(made.difference)}"
        if not (_is_close(stated.low, made.low) and _is_close(stated.high, made.high)):
            yield f"against {stated.arm}: the interval is {_ends(stated.low, stated.high)}, but that of the items is {_ends(made.low, made.high)}"


def _listed(found: Sequence[AgainstArm]) -> str:
    return ", ".join(one.arm for one in found) or "nothing"


def _is_control_of(other: DictionarySubjectRef, subject: DictionarySubjectRef) -> bool:
    same = (other.dictionary, other.metric, other.metric_options.identity) == (subject.dictionary, subject.metric, subject.metric_options.identity)
    return same and other.arm == RANDOM


# -------------------------------------------------------------------------------------------------------------------- means


def _mean(row: Row, name: str, items: Sequence[ItemResult], entry: Entry) -> Iterator[str]:
    """A metric against the mean and the interval of items; those that share a concept or a feature belong together."""
    from harness.scoring import clusters_of

    clusters = clusters_of((item.id, item.features) for item in items) if items else None
    metric = row.metrics[name]
    expected = metric_value([item.values.get(name) for item in items], clusters, bounds=metric.bounds, seed=entry.seed)
    yield from _against(name, metric, expected, entry)


def _ranked(row: Row, values: Sequence[float | None], entry: Entry) -> Iterator[str]:
    from harness.scoring import clusters_of

    assert row.ranked is not None
    if None in values:
        if row.ranked.value is not None:
            yield f"the ranked score is {_number_text(row.ranked.value)}, but a concept has no score"
        return
    clusters = clusters_of((item.id, item.features) for item in row.items) if row.items else None
    yield from _against("ranked score", row.ranked, metric_value(values, clusters, bounds=row.ranked.bounds, seed=entry.seed), entry)


def _against(name: str, stated: MetricValue, expected: MetricValue, entry: Entry) -> Iterator[str]:
    if not _is_close(stated.value, expected.value):
        yield f"{name} is {_number_text(stated.value)}, but the items average to {_number_text(expected.value)}"
    if entry.migrated_from:  # an older schema, whose intervals were made in another way
        return
    if stated.interval_method != expected.interval_method and stated.low is not None and expected.low is not None:
        yield f"{name}: the interval was made by {stated.interval_method!r}, but {expected.interval_method!r} is in use"
    elif not (_is_close(stated.low, expected.low) and _is_close(stated.high, expected.high)):
        ends = _ends(expected.low, expected.high)
        yield f"{name}: the interval is {_ends(stated.low, stated.high)}, but that of the items is {ends}"
    for what in ("warning", "reason"):
        ours, theirs = getattr(stated, what), getattr(expected, what)
        if ours != theirs and (what == "warning" or stated.value is not None):  # a reason for no value at all may know more
            yield f"{name}: its {what} is {ours or 'none'!r}, but the items give {theirs or 'none'!r}"


def _draws_of(item: ItemResult) -> list[dict[str, JsonValue]]:
    """The draws that an item's values are the means of; empty where there are none."""
    draws = item.details.get("draws")
    return [draw for draw in draws if isinstance(draw, dict)] if isinstance(draws, list) else []


def _mean_of_draws(item: ItemResult) -> Iterator[str]:
    draws = _draws_of(item)
    for name, value in item.values.items() if draws else ():
        found = [values.get(name) for draw in draws if isinstance(values := draw.get("values"), dict)]
        known = [float(number) for number in found if isinstance(number, int | float)]
        if not _is_close(value, fmean(known) if known else None):
            yield f"{name} is {_number_text(value)}, but its draws average to {_number_text(fmean(known) if known else None)}"


def _overall(ratings: Sequence[float], entry: Entry) -> float:
    """The harmonic mean of concept, instruction and fluency as they count toward the entry's goal."""
    from harness.scoring import concept_counted

    values = [concept_counted(ratings[0], entry.protocol.goal), *ratings[1:]]
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / value for value in values)


def _is_close(first: float | None, second: float | None) -> bool:
    if first is None or second is None:
        return first is second
    return math.isclose(first, second, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _ends(low: float | None, high: float | None) -> str:
    return "missing" if low is None or high is None else f"[{_number_text(low)}, {_number_text(high)}]"


def _number_text(value: float | None) -> str:
    return "missing" if value is None else f"{value:.6g}"
