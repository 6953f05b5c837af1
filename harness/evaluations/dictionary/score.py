"""From measurements to rows: the mean over seeds with its interval, trivial and random value beside. It needs no model and no plugin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from harness.contracts import NumberTraits
from harness.sae.subject import TRAINED, TRAINED_CONTROLS
from harness.scoring.intervals import MIN_CLUSTERS, Limits, interval
from harness.types import Measurement, Role

VALUE = "value"
"""Name of a measurement's value among its numbers; parts may not be called so."""


@dataclass(frozen=True)
class Measured:
    """One outcome of the evaluation.

    Attributes:
        dictionary: the dictionary's name within the task.
        arm: ``trained``, or a control's name.
        training_seed: that the dictionary was trained or drawn with; None where nobody knows.
        metric_seed: the metric's own.
        measurement: what the metric found; None while it is pending or after it failed, and then the reason.
        reason: why there is no measurement.
        digest: of the dictionary's weights, where the run trained or drew it.
    """

    dictionary: str
    arm: str
    training_seed: int | None
    metric_seed: int
    measurement: Measurement | None
    reason: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Number:
    """One number of a row, with what is needed to read it.

    Attributes:
        value: mean over seeds; None with the reason.
        low, high: ends of the interval, within the bounds; None with the reason.
        interval_method: e.g. ``t, 95 %, over 3 training seeds``; empty without an interval.
        reason: why value or interval is missing.
        title, unit, bounds, higher_is_better: as :class:`harness.contracts.NumberTraits` has them.
        trivial: the empty answer's value; None where there is none.
        random: the same number of the dictionary's random control; None where it was not measured, and for the control itself.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    interval_method: str = ""
    reason: str = ""
    title: str = ""
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    higher_is_better: bool | None = None
    trivial: float | None = None
    random: float | None = None


@dataclass(frozen=True)
class Item:
    """One measurement of a row.

    Attributes:
        id: ``seed 1``; ``measured once`` for a dictionary without a seed.
        values: the numbers by name.
        per_item: what the value is made of, by name (``layer 3``); None where one is missing.
        details: what the metric kept beside its numbers.
        reason: why a number is missing.
        digest: of a measurement: of the weights that were measured, where it is known.
    """

    id: str
    values: Mapping[str, float | None]
    details: Mapping[str, object] = field(default_factory=dict)
    reason: str = ""
    digest: str = ""
    per_item: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class DictionaryRow:
    """A dictionary, or a control of it, under one metric.

    Attributes:
        dictionary, arm, role: whose numbers these are; a control is shown, and not ranked.
        training_seeds: those that were measured, ascending; empty for a dictionary of a file.
        numbers: ``value`` first, then the metric's parts.
        items: the measurements, by seed.
        reasons: why the row is not eligible for a ranking; empty for one that is.
    """

    dictionary: str
    arm: str
    role: Role
    training_seeds: tuple[int, ...]
    numbers: Mapping[str, Number]
    items: tuple[Item, ...]
    reasons: tuple[str, ...] = ()


def rows(measured: Iterable[Measured], traits: NumberTraits, parts: Mapping[str, NumberTraits]) -> list[DictionaryRow]:
    """Return the rows of one metric, in the order in which dictionaries and arms come, trained ones before their controls.

    A number's value is the mean over training seeds of the mean over the metric's own seeds. Its interval is Student's t over training seeds;
    over the metric's seeds where there is one dictionary alone, and then it says nothing of other trainings. A seed without the number leaves
    the row without it: a mean over those that worked would flatter.

    Args:
        measured: outcomes, any order.
        traits: what the metric's value means.
        parts: what its parts mean.
    """
    groups: dict[tuple[str, str], list[Measured]] = {}
    for one in measured:
        groups.setdefault((one.dictionary, one.arm), []).append(one)
    meanings = {VALUE: traits, **parts}
    random = {
        name: {number: _mean(group, number)[0] for number in meanings} for (name, arm), group in groups.items() if arm == "random"
    }
    names = list(dict.fromkeys(name for name, _ in groups))
    order = sorted(groups, key=lambda key: (names.index(key[0]), key[1] != TRAINED))
    return [_row(key, groups[key], meanings, {} if key[1] == "random" else random.get(key[0], {})) for key in order]


def _row(
    key: tuple[str, str], group: Sequence[Measured], meanings: Mapping[str, NumberTraits], random: Mapping[str, float | None]
) -> DictionaryRow:
    group = sorted(group, key=lambda one: (one.training_seed is not None, one.training_seed or 0, one.metric_seed))
    numbers = {name: _number(group, name, meaning, random.get(name)) for name, meaning in meanings.items()}
    value = numbers[VALUE]
    return DictionaryRow(
        dictionary=key[0],
        arm=key[1],
        role="method" if key[1] == TRAINED else "control",
        training_seeds=tuple(sorted({one.training_seed for one in group if one.training_seed is not None})),
        numbers=numbers,
        items=tuple(_item(one, group, meanings) for one in group),
        reasons=() if value.value is not None else (f"no {value.title or 'value'}: {value.reason}",),
    )


def _number(group: Sequence[Measured], name: str, meaning: NumberTraits, random: float | None) -> Number:
    value, reason = _mean(group, name)
    low, high, method, why = _interval(group, name, meaning.bounds) if value is not None else (None, None, "", "")
    trivial = [one.measurement.trivial[name] for one in group if one.measurement is not None and name in one.measurement.trivial]
    return Number(
        value=value, low=low, high=high, interval_method=method, reason=reason or why, title=meaning.title, unit=meaning.unit,
        bounds=meaning.bounds, higher_is_better=meaning.higher_is_better, trivial=fmean(trivial) if trivial else meaning.trivial, random=random,
    )  # fmt: skip


def _mean(group: Sequence[Measured], name: str) -> tuple[float | None, str]:
    """Return the mean over training seeds, and why there is none."""
    missing = [(one, why) for one in group if (why := _why_missing(one, name))]
    if missing:
        first, why = missing[0]
        return None, why if len(group) == 1 else f"{_title(first, group)}: {why} ({len(missing)} of {len(group)} measurements)"
    return fmean(_by_seed(group, name)), ""


def _by_seed(group: Sequence[Measured], name: str) -> list[float]:
    """Return the mean of each training seed."""
    values: dict[int | None, list[float]] = {}
    for one in group:
        found = _value(one, name)
        assert found is not None
        values.setdefault(one.training_seed, []).append(found)
    return [fmean(some) for some in values.values()]


def _interval(group: Sequence[Measured], name: str, bounds: Limits) -> tuple[float | None, float | None, str, str]:
    """Return its ends, its method, and why there is none. Student's t alone: seeds differ by noise, not as concepts do, and there are few of them."""
    values, over = _by_seed(group, name), "training seeds" if group[0].arm in (TRAINED, *TRAINED_CONTROLS) else "draws"
    if len(values) == 1:
        values, over = [found for one in group if (found := _value(one, name)) is not None], "of the metric's seeds"
    if len(values) < MIN_CLUSTERS:
        return None, None, "", f"no interval: {len(values)} measurement{'s' * (len(values) > 1)}, and it takes {MIN_CLUSTERS} seeds"
    ends = interval(values, method="t", bounds=bounds, item="seed")
    if ends.low is None or ends.high is None:
        return None, None, "", "all seeds give one value"
    return ends.low, ends.high, f"t, 95 %, over {len(values)} {over}", ""


def _value(one: Measured, name: str) -> float | None:
    if one.measurement is None:
        return None
    return one.measurement.value if name == VALUE else one.measurement.parts.get(name)


def _why_missing(one: Measured, name: str) -> str:
    """Empty where the number is there."""
    if one.measurement is None:
        return one.reason or "not measured yet"
    if _value(one, name) is not None:
        return ""
    reason = one.measurement.reason if name == VALUE else one.measurement.part_reasons.get(name, "")
    return reason or "the metric did not give it"


def _title(one: Measured, group: Sequence[Measured]) -> str:
    parts = [f"seed {one.training_seed}"] if one.training_seed is not None else []
    if len({other.metric_seed for other in group}) > 1:
        parts.append(f"metric seed {one.metric_seed}")
    return ", ".join(parts) or "measured once"


def _item(one: Measured, group: Sequence[Measured], meanings: Mapping[str, NumberTraits]) -> Item:
    why = "; ".join(dict.fromkeys(reason for name in meanings if (reason := _why_missing(one, name))))
    details, per_item = ({}, {}) if one.measurement is None else (dict(one.measurement.details), dict(one.measurement.per_item))
    return Item(_title(one, group), {name: _value(one, name) for name in meanings}, details, why, one.digest, per_item)
