"""What a group says of its methods against each other and against their controls, as plain values.

Places are named by their number in :attr:`harness.leaderboard.ranking.Group.places`, from 0. Every difference says how far ``first`` is *ahead*:
where a lower value is better, the sign has been turned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.types import ControlKind

Answer = Literal["yes", "no", "not shown", "not tested"]
"""``yes``: the simultaneous interval lies above 0. ``no``: it lies below the smallest difference of interest. Else ``not shown``.
``not tested``: too few independent concepts, or none that both have."""


@dataclass(frozen=True)
class Comparison:
    """Two methods of a group, paired on the items that both have.

    Attributes:
        first, second: their places; ``first`` stands above ``second``.
        n_shared: items that both have a value for.
        effective_clusters: how many independent ones these are worth.
        difference: how far ``first`` is ahead, as a mean over those items; None without one.
        low, high: its simultaneous interval; None where the pair was not tested.
        p_value: adjusted for all pairs of the group; None where the pair was not tested.
        apart: whether the two can be told apart: the interval excludes 0, or touches it where only stepping down tells them apart.
        reason: why the pair was not tested; empty where it was.
        warning: what limits the comparison; empty where nothing does.
    """

    first: int
    second: int
    n_shared: int
    effective_clusters: float
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    apart: bool
    reason: str = ""
    warning: str = ""


@dataclass(frozen=True)
class AgainstControl:
    """Whether a method beats one of its controls.

    Attributes:
        control: the control's place.
        name: what the control is called in a sentence: ``random`` for the random features of the method's own steerer, else its whole name.
        own: whether it is the method's own random control; else it is one of the group's controls for all methods (a prompt, the unsteered model).
        answer: see :data:`Answer`.
        difference: how far the method is ahead, as a mean over the items that both have; None without one.
        low, high: its interval, simultaneous over all methods and controls of the group; None where it was not tested.
        p_value: adjusted likewise.
        smallest: the smallest difference of interest; None for a metric that has none (then ``no`` means that the interval lies below 0).
        kind: as which control it stands, e.g. ``random features``; None for one that needs no features, and for a dictionary's.
        shown_from: the smallest difference that these runs could have shown; None where it is not known.
        n_shared, effective_clusters, reason, warning: as in :class:`Comparison`.
        seed_pairs: of a dictionary: how many pairs of a seed of it and one of the control have it ahead, and how many there are; None elsewhere.
    """

    control: int
    name: str
    own: bool
    answer: Answer
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    smallest: float | None
    shown_from: float | None
    n_shared: int
    effective_clusters: float
    reason: str = ""
    warning: str = ""
    kind: ControlKind | None = None
    seed_pairs: tuple[int, int] | None = None


@dataclass(frozen=True)
class WinRate:
    """On how many items a method is above another one: concepts, or instructions as in AxBench.

    Attributes:
        against: the other one's place.
        value: (wins + ties / 2) / ``n``; None without a shared item.
        low, high: its interval over items; None where it cannot be had.
        wins, ties, losses: items; values that differ by less than 1e-6 tie.
        n: items that both have.
    """

    against: int
    value: float | None
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int
    n: int
