"""What a reader of a group's comparisons and verdicts must know before trusting them."""

from __future__ import annotations

from collections.abc import Iterator

from harness.leaderboard.places import Group, Place

_NAMED = 4
"""So many pairs are named at most; ``--json`` has all."""


def cautions(group: Group) -> tuple[str, ...]:
    """Return the cautions of a group whose methods have been compared: pairs that are told apart too easily, and pairs that answered other texts."""
    pairs = list(_pairs(group))
    found = [*_of_shape([(f"{first.name} against {second.name}", warning) for first, second, warning in pairs if warning])]
    if group.key.kind == "steering" and pairs:
        other = sum(not _same_instructions(first, second) for first, second, _ in pairs)
        share = "" if other == len(pairs) else f" ({other} of {len(pairs)} pairs)"
        found += [f"other instructions for a concept, by another seed or set: paired by concept only{share}"] * bool(other)
    return tuple(found)


def _pairs(group: Group) -> Iterator[tuple[Place, Place, str]]:
    """Every pair that shares an item, with what limits it."""
    places = group.places
    for pair in group.comparisons:
        if pair.n_shared:
            yield places[pair.first], places[pair.second], pair.warning
    for place in places:
        for found in place.against:
            if found.n_shared:
                yield place, places[found.control], found.warning


def _of_shape(warned: list[tuple[str, str]]) -> list[str]:
    """Return warnings of pairs, what is common to them said once."""
    by_common: dict[str, list[str]] = {}
    for name, warning in warned:
        own, _, common = warning.partition(": ")
        by_common.setdefault(common, []).append(f"{name}: {own}")
    return [
        "with care: " + "; ".join(own[:_NAMED]) + (f"; {len(own) - _NAMED} more pairs" if len(own) > _NAMED else "") + f" ({common})"
        for common, own in by_common.items()
    ]


def _same_instructions(first: Place, second: Place) -> bool:
    """Whether both answered the same instructions for a concept: the seed draws them from the set."""
    drawn = [{(run.entry.instruction_set_digest, run.entry.seed) for run in place.runs} for place in (first, second)]
    return drawn[0] == drawn[1]
