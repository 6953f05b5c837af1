"""Steerers that act together, in a stated order: what each does to the prompt, to the streams and to the weights, as one intervention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.contracts import Abstains, Steerer, SteererTraits
from harness.errors import OptionError
from harness.interventions import Intervention
from harness.types import Concept, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench

STRENGTH = "strength"
"""The option that a composition keeps for itself: it fixes the strength of the steerer behind whose name it stands."""
ALONE = 1.0
"""The one strength of a composition in which no part has a strength to choose; it stands in the trials, and changes nothing."""


@dataclass(frozen=True)
class Part:
    """One steerer of a composition.

    Attributes:
        name: what people call it, for messages.
        steerer: the steerer.
        strength: the strength at which it is held; None: the composition's own, or that of its grid's single point.
        against: it works against concepts, so what is fixed is taken times −1.

    Raises:
        OptionError: a strength that is not finite, or for a steerer that has none.
    """

    name: str
    steerer: Steerer
    strength: float | None = None
    against: bool = False

    def __post_init__(self) -> None:
        if self.strength is None:
            return
        traits = self.steerer.traits
        if len(traits.grid) == 1 and traits.unit == "none":
            raise OptionError(f"steerer {self.name} has no strength to fix", given=self.strength, hint=f"leave {STRENGTH} out")
        if not math.isfinite(self.strength):
            raise OptionError(f"the {STRENGTH} of steerer {self.name} is {self.strength}", given=self.strength, allowed="a finite number")

    @property
    def chooses(self) -> bool:
        """Return whether its strength is open: several to try, and none that is fixed."""
        return self.strength is None and len(self.steerer.traits.grid) > 1

    def at(self, strength: float) -> float:
        """Return its strength where the composition's is ``strength``."""
        if self.chooses:
            return strength
        own = float(self.steerer.traits.grid[0]) if self.strength is None else self.strength
        return -own if self.against and own else own


class Composition:
    """Several steerers as one. Implements :class:`harness.contracts.Steerer`.

    There is one strength: that of the part that has several to try. The others have a single one, or one that is fixed. No strength is neutral,
    since the other parts act at each.

    Args:
        parts: in the order in which they act.

    Raises:
        OptionError: several parts have a strength to choose, or an adapter.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        open_ = [part for part in self.parts if part.chooses]
        if len(open_) > 1:
            names = " and ".join(part.name for part in open_)
            raise OptionError(
                f"steerers {names} each have a strength to choose, and what is joined is tried at one strength",
                given=tuple(part.name for part in open_),
                hint=f"fix all but one, e.g. {open_[0].name.partition(':')[0]}:{STRENGTH}=0.5",
            )
        _one_adapter([part.name for part in self.parts if part.steerer.traits.adapter])
        needs, fitted, adapter = (any(getattr(part.steerer.traits, name) for part in self.parts) for name in ("needs_features", "fitted", "adapter"))
        each = [part.steerer.traits.suppresses for part in (*open_, *self.parts)]
        self.traits = SteererTraits(
            unit=open_[0].steerer.traits.unit if open_ else "none",
            grid=open_[0].steerer.traits.grid if open_ else (ALONE,),
            neutral=None,
            needs_features=needs,
            suppresses=None if None in each else each[0] if open_ else "negate",
            fitted=fitted,
            adapter=adapter,
        )

    def against(self) -> Composition:
        """Return these steerers working against concepts: each at strengths of 0 and below. Raises OptionError for a fixed strength below 0."""
        for part in self.parts:
            if part.strength is not None and part.strength < 0:
                message = f"the {STRENGTH} of steerer {part.name} is {part.strength:g}, and where concepts are suppressed it is taken times -1"
                raise OptionError(message, given=part.strength, allowed="at least 0", hint="leave out the sign")
        return Composition([replace(part, against=True) for part in self.parts])

    def abstains(self, concepts: Sequence[Concept]) -> dict[str, str]:
        """Return the concepts that a part has no answer for, with its reason; of several parts the first one's."""
        found: dict[str, str] = {}
        for part in self.parts:
            for concept, reason in part.steerer.abstains(concepts).items() if isinstance(part.steerer, Abstains) else ():
                found.setdefault(concept, reason)
        return found

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Have each part prepare itself, in their order; a steerer that stands in it twice, once."""
        for steerer in {id(part.steerer): part.steerer for part in self.parts}.values():
            steerer.prepare(bench, labelings)

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        """Return what all parts do together, see :func:`joined`."""
        return joined([(part.name, part.steerer.intervene(labeling, part.at(strength))) for part in self.parts])


def joined(parts: Sequence[tuple[str, Intervention]]) -> Intervention:
    """Return several interventions as one: the prefixes with a blank line between, the edits in the parts' order, the one adapter.

    Args:
        parts: each with the name of its steerer, in the order in which they act.

    Raises:
        OptionError: more than one brings an adapter.
    """
    adapters = [(name, found.adapter) for name, found in parts if found.adapter is not None]
    _one_adapter([name for name, _ in adapters])
    return Intervention(
        prompt_prefix="\n\n".join(found.prompt_prefix for _, found in parts if found.prompt_prefix),
        edits=tuple(edit for _, found in parts for edit in found.edits),
        adapter=adapters[0][1] if adapters else None,
    )


def _one_adapter(names: Sequence[str]) -> None:
    """Raise OptionError where several steerers, by their names, bring an adapter."""
    if len(names) > 1:
        message = f"steerers {' and '.join(names)} each bring an adapter, and the model wears one at a time"
        raise OptionError(message, given=tuple(names), hint="join at most one steerer with an adapter")
