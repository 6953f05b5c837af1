"""Interventions are values: where the residual stream is edited (sites, positions), and what an edit must offer.

torch appears in annotations only, so importing this module stays cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch



@dataclass(frozen=True)
class Site:
    """A place in the residual stream: the output of decoder layer ``layer`` (zero-based), i.e. ``model.layers[layer]``'s output."""

    layer: int

    def __str__(self) -> str:
        return f"layer {self.layer}"


@dataclass(frozen=True)
class Positions:
    """Which tokens an edit touches: the prompt's, the generated ones, and whether the prompt's first token (BOS) is among them."""

    prompt: bool = True
    generated: bool = True
    first_token: bool = True


@dataclass(frozen=True)
class EditContext:
    """What an edit may know of the tokens it is applied to. All tensors are ``[rows, tokens]`` bool.

    Attributes:
        real: the token is no padding.
        generated: the token was generated (False: it is part of the prompt).
        first: the token is the first real token of its row.
    """

    real: torch.Tensor
    generated: torch.Tensor
    first: torch.Tensor


class StackedEdit(Protocol):
    """Edits of several rows as one: row b of ``x`` gets the b-th edit."""

    def apply(self, x: torch.Tensor, ctx: EditContext) -> torch.Tensor:
        """The edited residual stream, for every token; pure. The engine keeps the edited value only where the positions say so.

        Args:
            x: float32 ``[rows, tokens, d_model]``.
            ctx: which tokens are padding, generated, first.
        """
        ...


class Edit(Protocol):
    """A change of the residual stream as data. It runs under any engine that can place it; an engine refuses one that it can't, by name."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that are edited; ``apply`` is called once at each."""
        ...

    @property
    def positions(self) -> Positions:
        """The tokens that are edited."""
        ...

    @property
    def batch_key(self) -> str:
        """Edits with one key share sites and positions, and can be stacked."""
        ...

    def stack(self, rows: Sequence[Any], device: torch.device) -> StackedEdit:
        """``rows`` (edits with this edit's batch key, this one among them) as one edit on ``device``, row by row."""
        ...


@dataclass(frozen=True)
class Intervention:
    """What a steerer does to one generation: text before the instruction, edits of the residual stream, or both, or (empty) nothing."""

    prompt_prefix: str = ""
    edits: tuple[Edit, ...] = ()
