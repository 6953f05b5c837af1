"""Dictionaries against their controls, from the rows of an entry alone: each seed of one with each of the other, items as the unit of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from harness.leaderboard.against_arm import AgainstArm, SeedDifference
from harness.leaderboard.entry import Row
from harness.leaderboard.smallest_difference import smallest_difference
from harness.leaderboard.subject import TRAINED, DictionarySubjectRef

LEVEL = 0.95
"""Of all intervals of one metric of a dictionary together, and of a pair of seeds alone."""
NO_DIRECTION = "neither direction of this metric is better"
_BETWEEN = ": "
"""Between a measurement's name and that of an item of it, in an item's id."""


@dataclass
class SeedValues:
    """What a row has of one training (or draw), by the metric's seeds: the primary metric, every number, and the primary one's items."""

    values: list[float] = field(default_factory=list)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    items: dict[str, list[float]] = field(default_factory=dict)
    digest: str = ""


def is_whole(item_id: str) -> bool:
    """Whether an item of a dictionary's row is a measurement; in older entries some are parts of one."""
    return _BETWEEN not in item_id


def seeds_of(row: Row) -> dict[str, SeedValues]:
    """Return the primary metric of a dictionary's row by training seed (or draw; empty for a dictionary of a file), in the order of its items."""
    found: dict[str, SeedValues] = {}
    for item in row.items:
        measurement, _, name = item.id.partition(_BETWEEN)
        seed = measurement.partition(", ")[0].removeprefix("seed ") if measurement.startswith("seed ") else ""
        own, value = found.setdefault(seed, SeedValues()), item.values.get(row.primary)
        if not name:
            own.digest = own.digest or item.digest
            for number_name, number in item.values.items():
                if number is not None:
                    own.numbers.setdefault(number_name, []).append(number)
        if value is not None:
            (own.items.setdefault(name, []) if name else own.values).append(value)
        for part, number in item.per_item.items():
            if number is not None:
                own.items.setdefault(part, []).append(number)
    return found


def with_verdicts(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a run's dictionaries, each trained one with how it stands against each of its controls under its metric."""
    return [row.model_copy(update={"against": against}) if (against := verdicts_of(row, rows)) else row for row in rows]


def verdicts_of(row: Row, rows: Sequence[Row]) -> tuple[AgainstArm, ...]:
    """Return how a dictionary's row stands against each of its controls among ``rows``, in their order; empty for a control's own."""
    controls = [other for other in rows if _is_control_of(other, row)]
    return tuple(one for one in (against_arm(row, other, len(controls)) for other in controls) if one is not None)


def against_arm(row: Row, control: Row, n_controls: int = 1) -> AgainstArm | None:
    """Return how a dictionary stands against one of its controls; None where one of the two has no value.

    Args:
        row: of the trained dictionary.
        control: under the same metric with the same options.
        n_controls: so many intervals hold together (Bonferroni).
    """
    from harness.scoring.crossed import Measured, crossed  # numpy-heavy: only where something is compared

    metric, ours, theirs = row.metrics[row.primary], seeds_of(row), seeds_of(control)
    if metric.value is None or control.metrics[control.primary].value is None:
        return None
    if not all(own.values for own in (*ours.values(), *theirs.values())) or not ours or not theirs:
        return None
    sign = -1 if metric.higher_is_better is False else 1
    first, second = (
        [
            Measured(sign * fmean(own.values), {name: sign * fmean(values) for name, values in own.items.items()})
            for own in side.values()
        ]
        for side in (ours, theirs)
    )
    smallest = smallest_difference("dictionary", row.primary, metric)
    level = 1 - (1 - LEVEL) / max(1, n_controls)
    paired = row.items_shared and control.items_shared
    found = crossed(first, second, paired=paired, smallest=smallest, level=level, pair_level=LEVEL, item=row.item or "item")
    names = list(ours), list(theirs)
    tested = metric.higher_is_better is not None
    return AgainstArm(
        arm=arm_of(control),
        answer=found.answer if tested else "not tested",
        difference=found.difference,
        mean=found.mean,
        low=found.low if tested else None,
        high=found.high if tested else None,
        level=round(level, 10),
        interval_method=found.method if tested else "",
        n_items=found.n,
        smallest=smallest,
        pairs=tuple(
            SeedDifference(
                seed=names[0][pair.first], control_seed=names[1][pair.second], difference=pair.difference, low=pair.low, high=pair.high
            )
            for pair in found.pairs
        ),
        reason=found.reason if tested else NO_DIRECTION,
        warning="; ".join([*_few_seeds(len(first)), *([found.warning] if found.warning and tested else [])]),
    )


def _few_seeds(n: int) -> list[str]:
    return ["one training of the dictionary: other seeds may come out otherwise"] if n == 1 else []


def arm_of(row: Row) -> str:
    """Return the arm of a dictionary's row."""
    assert isinstance(row.subject, DictionarySubjectRef)
    return row.subject.arm


def _is_control_of(other: Row, row: Row) -> bool:
    first, second = row.subject, other.subject
    if not isinstance(first, DictionarySubjectRef) or not isinstance(second, DictionarySubjectRef):
        return False
    same = (first.dictionary, first.metric, first.metric_options.identity) == (second.dictionary, second.metric, second.metric_options.identity)
    return same and first.arm == TRAINED and second.arm != TRAINED
