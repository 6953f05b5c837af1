"""Another concept's fit, the control of methods that learn from a concept's texts: what the method learnt for other concepts, under this one's label.

Training on good answers may lift instruction and fluency whatever the concept, and a direction moves the model wherever it points. A method that
scores no better than this owes its score to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.contracts import LabelerTraits
from harness.options import Options, control_field
from harness.types import Abstention, Concept, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class PermutedFitsOptions(Options):
    """Options of ``permuted-fits``."""

    draws: int = control_field(1, ge=1)
    """Other concepts whose fits each concept gets, one after the other; a concept's score is the mean over them."""


class PermutedFits:
    """See the module. Implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: PermutedFitsOptions) -> None:
        self.options = options
        self.traits = LabelerTraits(selects_on="nothing", needs_corpus=False, control="permuted fits")

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        """Answer each concept with the next ones in a random circle of all."""
        circle = sorted(concepts, key=lambda one: (bench.rng("permuted-fits", one.id).random(), one.id))
        places = {concept.id: place for place, concept in enumerate(circle)}
        found: list[Labeling | Abstention] = []
        for concept in concepts:
            place = places[concept.id]
            others = [*circle[place + 1 :], *circle[:place]][: self.options.draws]
            found += [Labeling(concept, (), None, {"fit_of": other.id}, other.id) for other in others]
            missing = self.options.draws - len(others)
            found += [Abstention(concept, f"there are {len(others)} other concepts; the fits of {self.options.draws} are to be drawn")] * missing
        return found


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add(
        "permuted-fits", PermutedFits, options=PermutedFitsOptions, summary="another concept's fit, for methods that learn (control, --controls full)"
    )
