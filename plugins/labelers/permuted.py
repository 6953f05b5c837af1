"""Another concept's feature, the control that says whether a label matters: the features that a labeler chose, under the labels of others.

Random features differ from chosen ones in more than their label: how often they fire, how long their rows are, what they do to fluency. Permuted
labels keep all of that. A method that scores no better than this steers with features that do something, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.contracts import LabelerTraits
from harness.errors import OptionError
from harness.options import Options, control_field
from harness.types import Abstention, Concept, FeatureRef, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class PermutedOptions(Options):
    """Options of ``permuted``."""

    follows: str | None = control_field(None)
    """The labeler whose features are permuted; `--controls full` sets it."""
    draws: int = control_field(1, ge=1)
    """Other concepts whose features each concept gets, one after the other; a concept's score is the mean over them."""


class Permuted:
    """See the module. Implements :class:`harness.contracts.Labeler`."""

    def __init__(self, options: PermutedOptions) -> None:
        self.options = options
        self.traits = LabelerTraits(selects_on="nothing", control="permuted labels")

    def label(self, bench: Bench, concepts: Sequence[Concept]) -> list[Labeling | Abstention]:
        """Answer each concept that is asked for with the features of the next ones in a random circle of all that were answered."""
        if self.options.follows is None:
            raise OptionError("labeler permuted has nobody's features to permute", given=None, hint="use it as a control: --controls full")
        answers: Sequence[Labeling | Abstention] = bench.answers(self.options.follows)
        if bench.concept_mode == "chosen":
            answers = [answer for answer in answers if isinstance(answer, Labeling)][: len(concepts)]
        circle = [answer for answer in answers if isinstance(answer, Labeling)]
        circle.sort(key=lambda one: (bench.rng("permuted-labels", one.id).random(), one.id))
        places = {labeling.id: place for place, labeling in enumerate(circle)}
        if bench.concept_mode == "fixed":
            asked = {concept.id for concept in concepts}
            answers = [answer for answer in answers if answer.concept.id in asked]
        found: list[Labeling | Abstention] = []
        for answer in answers:
            if isinstance(answer, Labeling):
                found += self._draws(answer, circle, places[answer.id])
            else:
                found += [Abstention(answer.concept, answer.reason)] * self.options.draws
        return found

    def _draws(self, own: Labeling, circle: Sequence[Labeling], place: int) -> Iterator[Labeling | Abstention]:
        """The features of those that come after a labeling in the circle and share none with it, none twice."""
        draws: dict[tuple[FeatureRef, ...], Labeling] = {}
        for other in [*circle[place + 1 :], *circle[:place]]:
            if other.concept.id != own.concept.id and not set(other.features) & set(own.features):
                draws.setdefault(other.features, Labeling(own.concept, other.features, None, {"features_of": other.concept.id}))
            if len(draws) == self.options.draws:
                break
        yield from draws.values()
        for _ in range(len(draws), self.options.draws):
            yield Abstention(own.concept, f"{len(draws)} other concepts have features of their own; {self.options.draws} are to be drawn")


@hookimpl
def harness_register_labelers(registry: Any) -> None:
    registry.add("permuted", Permuted, options=PermutedOptions, summary="another concept's features, labels permuted (control, --controls full)")
