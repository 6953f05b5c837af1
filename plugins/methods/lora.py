"""LoRA for each concept (Hu et al. 2021, as in AxBench, Wu et al. 2025): adapters of attention at a few layers, trained on answers with the concept.

It has no strength. Trained on good answers alone it may lift fluency, whatever the concept: read it beside its fit on others (`--controls full`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness import hookimpl
from harness.contracts import SteererTraits
from harness.interventions import Intervention
from harness.options import Options
from harness.types import Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.fitting.adapting import LoraLearner
    from harness.fitting.loop import Trained

VERSION = 1


class LoraOptions(Options):
    """Options of ``lora``: AxBench's values for Gemma-2 2B; for 9B the layers are 12, 20, 31, 39 and lr is .005."""

    layers: tuple[int, ...] = ()
    """Layers whose attention's output is adapted; left out, AxBench's (5, 10, 15, 20 of 26), or those at the same shares of the depth."""
    rank: int = Field(4, ge=1)
    """Rank of an adapter."""
    alpha: float = Field(32.0, gt=0)
    """The scale of what an adapter adds is alpha / √rank (rsLoRA), or alpha / rank."""
    stabilised: bool = True
    """rsLoRA's scale, alpha / √rank."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Share of an adapter's inputs that are dropped in training."""
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


class Lora:
    """See the module. Implements :class:`harness.contracts.Steerer`."""

    traits = SteererTraits(unit="none", grid=(1.0,), needs_features=False, fitted=True, adapter=True)

    def __init__(self, options: LoraOptions) -> None:
        self.options = options
        self.curves: Mapping[str, Json] = {}

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        from harness.fitting.adapting import LoraLearner
        from harness.fitting.layers import attention_outputs, checked_layers
        from harness.fitting.loop import train_concepts
        from harness.fitting.schedule import Schedule
        from harness.fitting.texts import concept_texts
        from harness.fitting.training_set import answers_of

        own = self.options
        layers = checked_layers(bench.model, own.layers)
        training = answers_of(bench, concept_texts(bench, labelings, "steerer lora", answers=True), ("positive",))
        learner = LoraLearner(bench.model, attention_outputs(bench.model, layers), own.rank, own.alpha, own.stabilised, own.dropout)
        schedule = Schedule(own.epochs, own.batch, own.lr, own.weight_decay, held_out=own.held_out)
        options = {"modules": {str(layer): name for layer, name in learner.modules.items()}, **own.model_dump(mode="json")}
        found = train_concepts(bench, learner, training, schedule, who="lora", options=options)
        key = {"kind": "lora adapters", "version": VERSION, "examples": training.identity, "seed": bench.seed, "options": options}
        folder = bench.artifact(key, lambda folder: self._save(bench, learner, found, folder))
        self._folders = {concept: str(folder / str(place)) for place, concept in enumerate(found.concepts)}
        self.curves = found.curves

    def _save(self, bench: Bench, learner: LoraLearner, found: Trained, folder: Path) -> None:
        for place in range(len(found.concepts)):
            parameters = {name: found.parameter(name)[place] for name in found.shapes}
            learner.save(folder / str(place), parameters, self.options.alpha, self.options.stabilised, bench.model)

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        return Intervention(adapter=self._folders[labeling.concept.id])


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("lora", Lora, options=LoraOptions, summary="LoRA of attention's output, trained on answers with the concept (no SAE)")
