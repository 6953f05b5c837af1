"""Clamping features of a dictionary, as an edit of the residual stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.interventions import EditContext, Positions, Site
from harness.sae.dictionary import Dictionary, FeatureColumns
from harness.types import digest


@dataclass(frozen=True)
class ClampFeature:
    """Set features of a dictionary to targets and keep the reconstruction error: x' = x + Σ_j (c_j − f_j(x)) · s(x) · d̃_j.

    Several features of one text are set at once, so the result does not depend on their order. Edits of one dictionary, site and positions
    share a batch, whatever their features, targets and number of features.

    Attributes:
        site: where; a dictionary of another layer's output can be read there, too, if a task wants that.
        dictionary: equal dictionaries are equal by content.
        index: the feature, or several.
        target: the activation to set, or one for each feature.
        positions: which tokens.

    Raises:
        DictionaryError: a feature that does not exist or occurs twice, no feature, or not one target for each.
    """

    site: Site
    dictionary: Dictionary
    index: int | tuple[int, ...]
    target: float | tuple[float, ...]
    positions: Positions = field(default_factory=Positions)

    def __post_init__(self) -> None:
        features, targets = self.features, self.targets
        if not features or len(features) != len(targets):
            raise DictionaryError(
                f"the clamp has the features {features} and the targets {targets}", given=targets, allowed="one target for each feature, at least one"
            )
        if len(set(features)) != len(features):
            raise DictionaryError(f"a feature occurs twice in {features}", given=features, allowed="each feature once")
        if min(features) < 0 or max(features) >= self.dictionary.d_sae:
            allowed = f"0 to {self.dictionary.d_sae - 1}, the features of {self.dictionary.source}"
            raise DictionaryError(f"not all of the features {features} exist", given=features, allowed=allowed)

    @property
    def features(self) -> tuple[int, ...]:
        return self.index if isinstance(self.index, tuple) else (self.index,)

    @property
    def targets(self) -> tuple[float, ...]:
        return self.target if isinstance(self.target, tuple) else (self.target,)

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return "clamp-feature:" + digest([self.dictionary.digest, self.site, self.positions])

    def exact(self, x: Tensor) -> Tensor:
        """Encode, set the features, decode, add the reconstruction error, all in float64 and over the whole width of the dictionary."""
        dictionary = self.dictionary.in_float64
        x = x.double()
        f = dictionary.encode(x)
        error = x - dictionary.decode(f, like=x)
        f[..., list(self.features)] = torch.tensor(self.targets, dtype=f.dtype, device=f.device)
        return dictionary.decode(f, like=x) + error.to(f.device)

    def stack(self, rows: Sequence[ClampFeature], device: torch.device) -> StackedClamp:
        """Gather what the rows' features need, n = the most features of a row; shorter rows are masked."""
        width = max(len(row.features) for row in rows)
        # a masked place repeats the row's first feature, with its change taken as 0
        index = torch.tensor([row.features + row.features[:1] * (width - len(row.features)) for row in rows])
        targets = torch.tensor([row.targets + (0.0,) * (width - len(row.targets)) for row in rows], dtype=torch.float32)
        mask = torch.tensor([[place < len(row.features) for place in range(width)] for row in rows])
        self.dictionary.check_device(device)
        return StackedClamp(self.dictionary.columns(index), targets.to(device), mask.to(device))


@dataclass(frozen=True, eq=False)
class StackedClamp:
    """Clamps of several rows: features, targets and mask are ``[rows, n]``."""

    columns: FeatureColumns
    targets: Tensor
    mask: Tensor

    def apply(self, x: Tensor, ctx: EditContext) -> Tensor:
        return self.columns.clamp(x, self.targets, self.mask).to(x.dtype)
