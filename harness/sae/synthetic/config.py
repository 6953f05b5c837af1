"""What synthetic activations are: all that their draws depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from harness.types import Json, digest

VERSION = 1
"""Part of a source's digest; raised when the same settings give other samples."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of a synthetic source: x = Σ_j a_j · d_j + b, with features d_j that fire, or not, by chance.

    Attributes:
        features: number of true features.
        dims: length of the vectors.
        firing: how often features fire: ``kind``, a name in SAELens' registry (``constant``, ``zipfian``, ``linear``, ``random``) or ``log_uniform``,
            and its settings.
        magnitudes: how strongly they fire: ``lognormal`` (``mu``, ``sigma`` of the logarithm, drawn at each firing or once for each feature) or
            ``normal`` (rectified; ``mean`` and ``std`` are numbers, or differ by feature as a table says: ``kind`` in SAELens' registry).
        correlation: None, or ``rank`` and ``correlation_scale`` of SAELens' low-rank correlation of firings.
        hierarchy: None, or SAELens' settings of a hierarchy (children fire with their parents alone).
        orthogonalize: steps by which SAELens makes features more orthogonal; 0 leaves them random.
        bias: norm of b.
        seed: of features, probabilities, correlation, hierarchy and samples.
    """

    features: int
    dims: int
    firing: Mapping[str, Json] = field(default_factory=lambda: {"kind": "constant", "probability": 0.01})
    magnitudes: Mapping[str, Json] = field(default_factory=lambda: {"kind": "lognormal", "mu": 0.0, "sigma": 0.25})
    correlation: Mapping[str, Json] | None = None
    hierarchy: Mapping[str, Json] | None = None
    orthogonalize: int = 0
    bias: float = 0.0
    seed: int = 0

    @property
    def title(self) -> str:
        """For people, in the place of a model's name."""
        return f"synthetic: {self.features:,} features in {self.dims:,} dimensions, {self.firing['kind']} firing"

    @property
    def digest(self) -> str:
        """Identifies the samples."""
        return digest(["synthetic", VERSION, asdict(self)])
