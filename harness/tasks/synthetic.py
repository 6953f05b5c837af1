"""The task file's table of synthetic activations, which stands in the place of a subject model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, field_validator

from harness.tasks.dictionaries import Options, Table

if TYPE_CHECKING:
    from harness.sae.synthetic.config import SyntheticConfig


class SyntheticTable(Table):
    """``[synthetic]``: activations with known true features, in place of `[model]`; the task has no corpus, and measures dictionaries alone."""

    features: int = Field(gt=0)
    """Number of true features, unit vectors."""
    dims: int = Field(gt=1)
    """Length of the activation vectors."""
    samples: int = Field(2_000_000, ge=2)
    """Samples that `[[train]]` trains on, unless its `max_tokens` says fewer; some more are drawn and held out. 2 bytes × dims each in the cache."""
    firing: Options = Field(default_factory=lambda: {"kind": "constant", "probability": 0.01})
    """How often features fire: `kind` (constant, log_uniform, zipfian, linear, random) and its settings, e.g. `min_prob`, `max_prob`."""
    magnitudes: Options = Field(default_factory=lambda: {"kind": "lognormal", "mu": 0.0, "sigma": 0.25})
    """How strongly: `lognormal` (`mu`, `sigma`, `per` = firing or feature), or `normal`, rectified (`mean`, `std`: numbers, or tables by feature)."""
    correlation: Options | None = None
    """Firing together: `rank` and `correlation_scale` of SAELens' low-rank correlation; left out, features fire independently."""
    hierarchy: Options | None = None
    """Children that fire with their parents alone: SAELens' settings, e.g. `total_root_nodes`, `branching_factor`, `max_depth`."""
    orthogonalize: int = Field(0, ge=0)
    """Steps that make features more orthogonal than random ones; 0 leaves them random on the unit sphere."""
    bias: float = Field(0.0, ge=0)
    """Norm of a bias that is added to all vectors."""
    seed: int = Field(0, ge=0)
    """Seed of the features, their probabilities and the samples. The run's seed changes none of them."""

    @field_validator("firing", "magnitudes")
    @classmethod
    def _names_a_kind(cls, value: Options) -> Options:
        if not isinstance(value.get("kind"), str):
            raise ValueError('needs a kind, e.g. {kind = "constant", probability = 0.01}')
        return value

    @property
    def config(self) -> SyntheticConfig:
        """What the samples depend on."""
        from harness.sae.synthetic.config import SyntheticConfig

        return SyntheticConfig(**self.model_dump(exclude={"samples"}))
