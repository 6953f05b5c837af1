"""The verdicts of a ranking's dictionaries against their controls: those that the entry holds, or made of the rows of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.leaderboard.against_arm import AgainstArm
from harness.leaderboard.arms import LEVEL, against_arm, arm_of
from harness.leaderboard.comparisons import AgainstControl
from harness.leaderboard.controls import Pairing
from harness.leaderboard.places import Place

CROSSED = (
    "beats: yes where each seed of the dictionary is ahead of each of the control and the interval over items of the mean lead lies above 0; "
    "no where all of these lie below the smallest difference of interest, a twentieth of the way from the empty answer to the best "
    "(0 where there is no such way)"
)
"""When a dictionary beats a control and when it does not, by any metric."""


def against_controls(places: Sequence[Place], pairings: Sequence[Pairing]) -> dict[int, tuple[AgainstControl, ...]]:
    """Return the verdicts by the place of each dictionary, in the order of its controls."""
    found: dict[int, list[AgainstControl]] = {}
    for pairing in pairings:
        place, control = places[pairing.method], places[pairing.control]
        n_controls = sum(other.method == pairing.method for other in pairings)
        verdict = _stored(place, control) or against_arm(place.row, control.row, n_controls)
        if verdict is not None:
            found.setdefault(pairing.method, []).append(_against(pairing, verdict))
    return {method: tuple(own) for method, own in found.items()}


def _stored(place: Place, control: Place) -> AgainstArm | None:
    """Return the verdict that the entry has, where one run measured both."""
    if len(place.runs) > 1 or len(control.runs) > 1 or place.entry.id != control.entry.id:
        return None
    return next((one for one in place.row.against if one.arm == arm_of(control.row)), None)


def _against(pairing: Pairing, found: AgainstArm) -> AgainstControl:
    half = None if found.low is None or found.high is None else (found.high - found.low) / 2
    plain = AgainstControl(
        control=pairing.control,
        name=pairing.name,
        own=pairing.own,
        answer=found.answer,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=None,
        smallest=found.smallest,
        shown_from=half,
        n_shared=found.n_items,
        effective_clusters=float(found.n_items),
        reason=found.reason,
        warning=found.warning,
        kind=pairing.kind,
        seed_pairs=(found.n_ahead, len(found.pairs)),
    )
    # the interval is that of the mean over items: where the value is another mean of them, that is what it stands around
    return plain if found.mean is None or found.low is None else replace(plain, difference=found.mean)


def crossed_criterion(n: int, smallest: float | None) -> str:
    """Return when a dictionary beats a control and when it does not, for ``n`` pairs of the two and a smallest difference of interest."""
    together = "" if n == 1 else ", which holds together with those of its other controls,"
    known = smallest is not None
    limit = f"{smallest:g}, the smallest difference of interest" if known else "0, since this metric has no smallest difference of interest"
    return (
        f"beats: yes where each seed of the dictionary is ahead of each of the control and the {100 * LEVEL:g} % interval over items of the mean "
        f"lead{together} lies above 0, no where all of these lie below {limit}"
    )
