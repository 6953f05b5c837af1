"""Who may be compared with whom, and who is ahead.

A ranking holds one task (name, version, digest), one split, one kind of evaluation, one metric, for steering one judge key and one protocol, and
one set of concepts; nothing is ranked across these. The rules:

- *fixed* mode: rows are ranked by the ``ranked`` score, in which an abstention counts as the metric's trivial value; coverage stands beside it.
- *chosen* mode: rows are ranked only among those with exactly their concepts. Sets that differ stand side by side, marked unpaired; of
  these, a set with a single method gives no rank.
- A dictionary's rows are ranked by its metric, whose options are part of what it measures; concepts play no part there.
- The metric says whether higher or lower is better. Where it says neither, rows are listed by name and take no rank.
- Runs of one configuration are one method (:mod:`harness.leaderboard.merging`).
- Every pair of methods is compared, all pairs at once (:mod:`harness.leaderboard.comparing`); methods that cannot be told apart share ranks.
- Controls stand at their place by score and take no rank; each method is compared with those that are its own or everybody's, all at once.
- Rows that are not eligible are listed last, with the reason and without a rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import OptionError
from harness.leaderboard.cautions import cautions
from harness.leaderboard.controls import Pairing, pairings_of
from harness.leaderboard.entry import Entry, Row
from harness.leaderboard.grouping import GroupKey, group_rows, what_varies
from harness.leaderboard.merging import MethodRun, Spread, merged_row, runs_by_method
from harness.leaderboard.naming import names_of
from harness.leaderboard.places import Group, Place, Standing
from harness.leaderboard.smallest_difference import smallest_difference

if TYPE_CHECKING:
    from harness.leaderboard.paired import Scores

__all__ = ["Group", "GroupKey", "Place", "Standing", "rank"]

Method = tuple[Row, list[MethodRun]]


def rank(entries: Iterable[Entry], win_rate_against: str | None = None) -> list[Group]:
    """Return the groups of ``entries``, ranked by the rules of this module; a family's groups follow each other. A repeated entry counts once.

    Args:
        entries: any, in any order.
        win_rate_against: name of the method or control that win rates are taken against, in every group that has it.

    Raises:
        OptionError: a name that no group has, or that several methods of a group have.
    """
    members = group_rows(entries)
    families: dict[GroupKey, int] = {}
    for key in members:
        families[key.family] = families.get(key.family, 0) + 1
    groups = [_group(key, rows, unpaired=families[key.family] > 1 and key.mode == "chosen") for key, rows in members.items()]
    return groups if win_rate_against is None else _with_win_rates(groups, win_rate_against)


def _group(key: GroupKey, members: Sequence[tuple[Entry, Row]], unpaired: bool) -> Group:
    methods: list[Method] = [(merged_row([run.row for run in runs]), runs) for runs in runs_by_method(members)]
    directions = {row.metrics[row.primary].higher_is_better for row, _ in methods}
    better = directions.pop() if len(directions) == 1 else None
    sign = 0 if better is None else 1 if better else -1
    alone = unpaired and sum(row.role == "method" for row, _ in methods) == 1
    places = [
        _place(row, runs, name, alone, ordered=bool(sign)) for (row, runs), name in zip(methods, names_of(methods), strict=True)
    ]
    places.sort(key=lambda place: (place.standing == "ineligible", -sign * (place.score.value or 0.0), place.name, place.entry.id))
    entries = list({entry.id: entry for entry, _ in members}.values())
    group = Group(
        key=key,
        places=tuple(places),
        offline=key.kind == "steering" and any(entry.judge is not None and entry.judge.offline for entry in entries),
        unpaired=unpaired,
        higher_is_better=better,
        varies=what_varies(entries, key.kind),
        smallest=smallest_difference(key.kind, key.metric, places[0].row.metrics[key.metric]),
    )
    if not sign:
        return group
    group = _with_verdicts(_with_ranks(group))
    return replace(group, warnings=cautions(group))


def _place(row: Row, runs: list[MethodRun], name: str, alone: bool, ordered: bool) -> Place:
    standing, reasons = _standing(row, alone, ordered)
    return Place(name, row, tuple(runs), Spread.of(run.row for run in runs), standing, reasons=reasons)


def _standing(row: Row, alone: bool, ordered: bool) -> tuple[Standing, tuple[str, ...]]:
    if not row.eligible or row.score.value is None:
        return "ineligible", row.reasons or (row.score.reason,)
    if row.role == "control":
        return "control", ("a control is not ranked",)
    if not ordered:
        return "unordered", ("neither direction of this metric is better",)
    if alone:
        return "unpaired", ("unpaired: no other method has these concepts",)
    return "ranked", ()


def _with_ranks(group: Group) -> Group:
    """Return the group with every pair of its methods compared."""
    from harness.leaderboard.comparing import compare_methods  # numpy-heavy: only where something is compared

    order = [number for number, place in enumerate(group.places) if place.standing == "ranked"]
    if not order:
        return group
    found = compare_methods(scores_in(group, order), order)
    ranks = dict(zip(order, found.ranks, strict=True))
    return replace(
        group,
        places=tuple(replace(place, rank=ranks.get(number)) for number, place in enumerate(group.places)),
        comparisons=found.comparisons,
        groups=found.groups,
        tested=found.tested,
        criterion=found.criterion,
    )


def _with_verdicts(group: Group) -> Group:
    """Return the group with each of its methods compared with its controls."""
    pairings = pairings_of(group.places)
    if not pairings:
        return group
    if group.key.kind == "dictionary":
        from harness.leaderboard.crossed_verdicts import against_controls, crossed_criterion

        crossed = against_controls(group.places, pairings)
        places = tuple(replace(place, against=crossed.get(number, ())) for number, place in enumerate(group.places))
        return replace(group, places=places, verdict_criterion=crossed_criterion(len(pairings), group.smallest))
    from harness.leaderboard.comparing import compare_with_controls, verdict_criterion  # numpy-heavy: only where something is compared

    order = compared_in(pairings)
    against = compare_with_controls(scores_in(group, order), order, pairings, group.smallest)
    return replace(
        group,
        places=tuple(replace(place, against=against.get(number, ())) for number, place in enumerate(group.places)),
        verdict_criterion=verdict_criterion(len(pairings), group.smallest),
    )


def compared_in(pairings: Iterable[Pairing]) -> list[int]:
    """Return the places that any pairing has, in their order."""
    return sorted({number for pairing in pairings for number in (pairing.method, pairing.control)})


def scores_in(group: Group, order: Sequence[int]) -> Scores:
    """Return the values of a group's places of these numbers, paired by item; the group's metric has a direction."""
    from harness.leaderboard.paired import scores_of_places  # numpy-heavy: only where something is compared

    sign = 1 if group.higher_is_better else -1
    return scores_of_places([group.places[number] for number in order], sign, group.key.mode == "fixed")


# -------------------------------------------------------------------------------------------------------------------------- win rates


def _with_win_rates(groups: Sequence[Group], name: str) -> list[Group]:
    """Return the groups with each method's win rate against the method of that name, where a group has it."""
    found = [_with_win_rate(group, name) for group in groups]
    if any(place.win_rate is not None for group in found for place in group.places) or any(_named(group, name) for group in groups):
        return found
    known = tuple(dict.fromkeys(place.name for group in groups for place in group.places))
    raise OptionError(f"no method is called {name!r}", given=name, allowed=known)


def _with_win_rate(group: Group, name: str) -> Group:
    chosen = _named(group, name)
    if not chosen or group.higher_is_better is None:
        return group
    if len(chosen) > 1:
        names = tuple(group.places[number].name for number in chosen)
        raise OptionError(f"{len(chosen)} methods are called {name!r}", given=name, allowed=names, hint="give the whole name")
    from harness.leaderboard.comparing import win_rate  # numpy-heavy: only where something is compared

    order = [number for number, place in enumerate(group.places) if place.standing != "ineligible"]
    against = chosen[0]
    if against not in order:
        return group
    scores = scores_in(group, order)
    rates = {number: win_rate(scores, row, order.index(against), against) for row, number in enumerate(order) if number != against}
    return replace(group, places=tuple(replace(place, win_rate=rates.get(number)) for number, place in enumerate(group.places)))


def _named(group: Group, name: str) -> list[int]:
    """Return the places of a name: those of exactly that one, else those whose subject has it."""
    exact = [number for number, place in enumerate(group.places) if place.name == name]
    return exact or [number for number, place in enumerate(group.places) if place.row.subject.name == name]
