"""The task file's table of how scores are made."""

from __future__ import annotations

from pydantic import Field, field_validator

from harness.files.names import PathText
from harness.tasks.dictionaries import Table
from harness.types import CONCEPT_PROMPT, Aggregation, DetectionNegatives, Goal, ProtocolName

PI0 = 1e-3
"""The papers' reference prior of calibrated F1."""


class EvaluationTable(Table):
    """``[evaluation]``: how scores are made."""

    protocol: ProtocolName = "cv"
    """Who chooses a strength and who reports on it: `cv` (cross-validation) or `axbench` (the first half of the instructions, the second half)."""
    aggregation: Aggregation = "mean-of-harmonic-means"
    """How three ratings become one score: `mean-of-harmonic-means` (of texts), or `harmonic-mean-of-means` (of a concept)."""
    goal: Goal = "express"
    """What steering is for: `express` a concept, or `suppress` it although a prompt asks for it (`harness eval --suppress`)."""
    concept_prompt: str = CONCEPT_PROMPT
    """With `suppress`: what asks for the concept, before every instruction of every method; {concept} is replaced by the concept's text."""

    split: str | None = None
    """Split of concepts and instructions that is reported on; left out, all."""
    repeats: int = Field(10, ge=1)
    """Repeats of the cross-validation that chooses the strength."""
    splits: int = Field(4, ge=2)
    """Folds of the cross-validation."""
    max_unrated: float = Field(0.1, ge=0, le=1)
    """Share of unrated texts above which a result is not ranked."""
    pi0: float = Field(PI0, gt=0, lt=1)
    """Detection: reference prior of calibrated F1; small values make each false positive expensive."""
    negatives: DetectionNegatives = "all"
    """Detection: which texts rank a method against a concept's positives: all others, those without a label (`plain`), those of other concepts."""
    aspects: PathText | None = None
    """Detection: a JSONL set of texts with a concept and others beside it, and their variants (docs/aspects.md); scored beside the corpus' texts."""

    @field_validator("concept_prompt")
    @classmethod
    def _names_the_concept(cls, value: str) -> str:
        if "{concept}" not in value:
            raise ValueError("evaluation.concept_prompt must hold {concept}")
        return value
