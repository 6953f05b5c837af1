"""Prompting: ask for the concept in words before the instruction. The strongest known way to steer (Wu et al. 2025), and nothing to tune."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from harness import hookimpl
from harness.contracts import Intervention
from harness.options import Options
from harness.types import Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench


class PromptOptions(Options):
    """Options of ``prompt``."""

    template: str = "Your answer must be about {concept}."
    """What stands before the instruction; {concept} is replaced by the concept's text."""

    @field_validator("template")
    @classmethod
    def _names_the_concept(cls, value: str) -> str:
        if "{concept}" not in value:
            raise ValueError("the template must hold {concept}")
        return value


class Prompt:
    """See the module. Implements :class:`harness.contracts.Steerer`, with a single strength."""

    strength_unit = "none"
    default_grid = (1.0,)
    neutral = None
    needs_features = False

    def __init__(self, options: PromptOptions) -> None:
        self.options = options

    def prepare(self, bench: Bench, labelings: Sequence[Labeling]) -> None:
        """Nothing to prepare: the template is the method."""

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        return Intervention(prompt_prefix=self.options.template.replace("{concept}", labeling.concept.text))


@hookimpl
def harness_register_steerers(registry: Any) -> None:
    registry.add("prompt", Prompt, options=PromptOptions, summary="ask for the concept in words before the instruction (control)")
