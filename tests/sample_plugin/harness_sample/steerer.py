"""Removing a direction from the residual stream, by an edit that the core has never heard of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.contracts import SteererTraits
from harness.interventions import Intervention, Positions, Site
from harness.options import Options
from harness.types import Labeling


class ProjectOutOptions(Options):
    """``project-out`` has no options."""


@dataclass(frozen=True, eq=False)
class ProjectOutEdit:
    """x' = x − share · (x · u) u, with u the unit vector of a direction. Implements :class:`harness.interventions.Edit`."""

    site: Site
    direction: Any
    share: float
    positions: Positions

    @property
    def sites(self) -> tuple[Site, ...]:
        return (self.site,)

    @property
    def batch_key(self) -> str:
        return f"project-out:{self.site}:{self.positions}"

    def stack(self, rows: Sequence[ProjectOutEdit], device: Any) -> StackedProjectOut:
        import torch

        units = torch.stack([row.direction / row.direction.norm() for row in rows]).to(device)
        return StackedProjectOut(units, torch.tensor([row.share for row in rows], device=device))


@dataclass(frozen=True, eq=False)
class StackedProjectOut:
    """``units`` is ``[rows, d_model]``, ``shares`` is ``[rows]``."""

    units: Any
    shares: Any

    def apply(self, x: Any, ctx: Any) -> Any:
        along = (x * self.units[:, None, :]).sum(dim=-1, keepdim=True)
        return x - self.shares[:, None, None] * along * self.units[:, None, :]


class ProjectOut:
    """Implements :class:`harness.contracts.Steerer`; 1 removes the direction, more turns it round."""

    traits = SteererTraits(unit="none", grid=(0.5, 1.0), neutral=0.0, needs_features=True)

    def __init__(self, options: ProjectOutOptions) -> None:
        self.options = options

    def prepare(self, bench: Any, labelings: Sequence[Labeling]) -> None:
        self._dictionaries, self._positions = bench.dictionaries, bench.positions

    def intervene(self, labeling: Labeling, strength: float) -> Intervention:
        edits = []
        for feature in labeling.features:
            dictionary = self._dictionaries[feature.dictionary]
            row = dictionary.decoder_row(feature.index).float()
            edits.append(ProjectOutEdit(Site(dictionary.layer), row, strength, self._positions))
        return Intervention(edits=tuple(edits))
