"""LoReFT for each concept (Wu et al. 2024, arXiv 2404.03592, as in AxBench): low-rank edits at the prompt's ends, trained on answers.

After a few layers h becomes h + Rᵀ(W h + b − R h). It has no strength, and touches nothing that is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention, Positions, Site
from harness.options import Options
from harness.types import Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class LoreftOptions(Options):
    """Options of ``loreft``: AxBench's values for Gemma-2 2B; for 9B the layers are 12, 20, 31, 39 and lr is .0004."""

    layers: tuple[int, ...] = ()
    """Layers whose output is edited; left out, AxBench's (5, 10, 15, 20 of 26), or those at the same shares of the depth."""
    rank: int = Field(4, ge=1)
    """Directions of an edit."""
    first: int = Field(5, ge=0)
    """The first so many tokens of the prompt are edited."""
    last: int = Field(5, ge=0)
    """The last so many tokens of the prompt are edited."""
    epochs: int = Field(24, ge=1)
    """Passes over the training answers."""
    batch: int = Field(36, ge=1)
    """Answers of one step."""
    lr: float = Field(9e-4, gt=0)
    """AdamW's learning rate at the first step; it falls on a line to 0."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    held_out: float = Field(0.125, ge=0, lt=1)
    """Share of the answers that are held out for the curve of the loss; 0 trains on all, as AxBench does."""


class Loreft:
    """See the module. Implements :class:`harness.contracts.Steerer`."""

    traits = SteererTraits(unit="none", grid=(1.0,), needs_features=False)

    def __init__(self, options: LoreftOptions) -> None:
        self.options = options
        self.curves: Mapping[str, Json] = {}

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        from harness.errors import OptionError
        from harness.fitting.layers import checked_layers
        from harness.fitting.loop import train_concepts
        from harness.fitting.rotating import LoreftLearner
        from harness.fitting.schedule import Schedule
        from harness.fitting.texts import concept_texts
        from harness.fitting.training_set import answers_of

        own = self.options
        if not own.first + own.last:
            raise OptionError("loreft edits no token with first=0 and last=0", given=(0, 0), allowed="one of the two above 0")
        if own.rank > bench.model.d_model:
            raise OptionError(f"loreft has rank {own.rank}", given=own.rank, allowed=f"at most {bench.model.d_model}, the width of the stream")
        self._layers = checked_layers(bench.model, own.layers)
        training = answers_of(bench, concept_texts(bench, labelings, "steerer loreft", answers=True), ("positive",))
        learner = LoreftLearner(bench.model, self._layers, own.rank, own.first, own.last)
        schedule = Schedule(own.epochs, own.batch, own.lr, own.weight_decay, held_out=own.held_out)
        options = {**own.model_dump(mode="json"), "layers": list(self._layers)}
        self._trained = train_concepts(bench, learner, training, schedule, who="loreft", options=options)
        self.curves = self._trained.curves
        self._positions = Positions(prompt=False, generated=False, first=own.first, last=own.last)

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        import numpy as np
        import torch

        from harness.fitting.rotating import rotation
        from harness.steering.low_rank import LowRank

        place = self._trained.concepts.index(labeling.concept.id)
        edits = []
        for layer in self._layers:
            r, w, b = (torch.from_numpy(np.array(self._trained.parameter(f"{name}{layer}")[place])) for name in "RWb")
            edits.append(LowRank(Site(layer), rotation(r), w, b, self._positions))
        return Intervention(edits=tuple(edits))


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("loreft", Loreft, options=LoreftOptions, summary="low-rank edits of the prompt's ends, trained on answers with the concept (no SAE)")
