"""Supervised fine-tuning for each concept (as in AxBench, Wu et al. 2025): all weights of the model, trained on answers with the concept.

Every concept has a copy of all weights, so the first few are trained, and the others are abstained from. It has no strength. Trained on good answers
alone it may lift fluency, whatever the concept: read it beside its fit on others (`--controls full`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.errors import OptionError
from harness.interventions import Intervention
from harness.options import Options
from harness.types import Concept, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench

_GB = 1e9
_TRAINING = 5
"""Copies in float32 while one concept is trained: weights, gradients, AdamW's two moments, the last good state."""


class SftOptions(Options):
    """Options of ``sft``: AxBench's values."""

    concepts: int = Field(20, ge=1)
    """So many concepts are trained, the run's first; the others are abstained from."""
    epochs: int = Field(8, ge=1)
    """Passes over the training answers."""
    batch: int = Field(72, ge=1)
    """Answers of one step."""
    lr: float = Field(4e-5, gt=0)
    """AdamW's learning rate at the first step; it falls on a line to 0."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay."""
    held_out: float = Field(0.125, ge=0, lt=1)
    """Share of the answers that are held out for the curve of the loss; 0 trains on all, as AxBench does."""


class Sft:
    """See the module. Implements :class:`harness.contracts.Steerer`, and :class:`harness.contracts.Abstains`."""

    traits = SteererTraits(unit="none", grid=(1.0,), needs_features=False, fitted=True, adapter=True)

    def __init__(self, options: SftOptions) -> None:
        self.options = options
        self.curves: Mapping[str, Json] = {}
        self._folders: dict[str, str] = {}

    def abstains(self, concepts: Sequence[Concept]) -> dict[str, str]:
        n = self.options.concepts
        return {concept.id: f"sft trains the first {n} concepts (option concepts)" for concept in concepts[n:]}

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        from harness.fitting.fine_tuning import FineTuningLearner
        from harness.fitting.loop import train_concepts
        from harness.fitting.schedule import Schedule
        from harness.fitting.texts import concept_texts
        from harness.fitting.training_set import answers_of
        from harness.model.weights import bytes_of, own_weights

        own = self.options
        first = {labeling.concept.id: labeling for labeling in labelings}
        chosen = list(first.values())[: own.concepts]
        training = answers_of(bench, concept_texts(bench, chosen, "steerer sft", answers=True), ("positive",))
        size, numbers = bytes_of(bench.model), sum(weight.numel() for weight in own_weights(bench.model).values())
        bench.warn(
            f"sft keeps all weights of {len(chosen)} concepts in the artifact cache, {size / _GB:.3g} GB each, {len(chosen) * size / _GB:.3g} GB in "
            f"all; training one takes {_TRAINING * 4 * numbers / _GB:.3g} GB of memory beside the model's own and its activations"
        )
        schedule = Schedule(own.epochs, own.batch, own.lr, own.weight_decay, held_out=own.held_out)
        options = own.model_dump(mode="json", exclude={"concepts"})
        found = train_concepts(bench, FineTuningLearner(bench.model), training, schedule, who="sft", options=options)
        self._folders = {concept: str(found.folder_of(concept)) for concept in found.concepts}
        self.curves = found.curves

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        if labeling.concept.id not in self._folders:
            message = f"steerer sft has no weights of concept {labeling.concept.id!r}"
            raise OptionError(message, given=labeling.concept.id, allowed=tuple(self._folders), hint="raise its option concepts")
        return Intervention(adapter=self._folders[labeling.concept.id])


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("sft", Sft, options=SftOptions, summary="all weights fine-tuned on answers with the concept, the first 20 concepts (no SAE)")
