"""No steering: the unsteered model, the floor of every comparison. Where concepts are suppressed, it shows what there is to suppress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention
from harness.options import Options
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class NoneOptions(Options):
    """``none`` has no options."""


class Unsteered:
    """See the module. Implements :class:`harness.contracts.Steerer`, with a single strength."""

    traits = SteererTraits(unit="none", grid=(0.0,), neutral=0.0, needs_features=False, suppresses="negate")

    def __init__(self, options: NoneOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Prepare nothing."""

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        return Intervention()


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("none", Unsteered, options=NoneOptions, summary="the unsteered model (control)")
