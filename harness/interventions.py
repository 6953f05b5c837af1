"""Interventions are values: where the model's streams are edited (sites, positions), and what an edit must offer.

torch appears in annotations only, so importing this module stays cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

Stream = Literal["residual", "attention", "mlp"]
"""Which output of a decoder layer: the residual stream after the layer, or what its attention or its MLP adds to it."""


@dataclass(frozen=True)
class Site:
    """A place in the model: a stream of decoder layer ``layer`` (zero-based), by default the residual stream after it."""

    layer: int
    stream: Stream = "residual"

    def __str__(self) -> str:
        return f"layer {self.layer}" if self.stream == "residual" else f"layer {self.layer} {self.stream}"


@dataclass(frozen=True)
class Positions:
    """Which tokens an edit touches: a union of spans, with or without the prompt's first token.

    Attributes:
        prompt: the whole prompt.
        generated: the generated tokens.
        first_token: whether the prompt's first token (BOS) may be touched; False takes it out of every span.
        first: the first so many tokens of the prompt.
        last: the last so many tokens of the prompt.

    Raises:
        ValueError: a negative number of tokens.
    """

    prompt: bool = True
    generated: bool = True
    first_token: bool = True
    first: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        if self.first < 0 or self.last < 0:
            raise ValueError(f"positions count tokens from 0 up, got first={self.first} and last={self.last}")

    @property
    def in_prompt(self) -> bool:
        """Return whether any token of a prompt is touched."""
        return self.prompt or self.first > 0 or self.last > 0


@dataclass(frozen=True)
class EditContext:
    """What an edit may know of the tokens it is applied to. All tensors are ``[rows, tokens]``.

    Attributes:
        real: bool, the token is not padding.
        generated: bool, the token was generated (False: it is part of the prompt).
        first: bool, the token is the first real token of its row.
        place: int64, the token's place among the real tokens of its row, from 0; for padding without meaning.
        to_end: int64, how many tokens of the prompt come after it: 0 for the prompt's last token, negative for generated ones.
    """

    real: torch.Tensor
    generated: torch.Tensor
    first: torch.Tensor
    place: torch.Tensor
    to_end: torch.Tensor

    def touched(self, positions: Positions) -> torch.Tensor:
        """Return ``[rows, tokens]`` bool: the tokens that an edit with these positions touches."""
        touched = self.generated if positions.generated else self.generated & False
        if positions.prompt:
            touched = touched | ~self.generated
        if positions.first:
            touched = touched | (~self.generated & (self.place < positions.first))
        if positions.last:
            touched = touched | (~self.generated & (self.to_end < positions.last))
        touched = touched & self.real
        return touched if positions.first_token else touched & ~self.first

    @classmethod
    def of(cls, real: torch.Tensor, generated: torch.Tensor) -> EditContext:
        """Return the context of whole rows, prompt first, wherever their padding is; both are bool ``[rows, tokens]``."""
        count = real.cumsum(dim=1)
        in_prompt = (real & ~generated).sum(dim=1, keepdim=True)
        return cls(real, generated, real & (count == 1), count - 1, in_prompt - count)

    def rows(self, index: torch.Tensor) -> EditContext:
        """Return the context of some rows; ``index`` is ``[n]`` int64."""
        return EditContext(self.real[index], self.generated[index], self.first[index], self.place[index], self.to_end[index])

    def last(self, width: int) -> EditContext:
        """Return the context of the last so many columns."""
        parts = (self.real, self.generated, self.first, self.place, self.to_end)
        return EditContext(*(part[:, part.shape[1] - width :] for part in parts))


class StackedEdit(Protocol):
    """Edits of several rows as one: row b of ``x`` gets the b-th edit."""

    def apply(self, x: torch.Tensor, ctx: EditContext) -> torch.Tensor:
        """Return the edited stream, for every token; pure. The engine keeps the edited value only where the positions say so.

        A token's value depends on that token, and on what ``ctx`` says of it, alone: an engine with a cache hands over the new tokens, and no others.

        Args:
            x: float32 ``[rows, tokens, d_model]``.
            ctx: which tokens are padding, generated, first.
        """
        ...


class Edit(Protocol):
    """A change of a stream as data. It runs under any engine that can place it; an engine refuses one that it can't, by name."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Return the sites that are edited; ``apply`` is called once at each."""
        ...

    @property
    def positions(self) -> Positions:
        """Return the tokens that are edited."""
        ...

    @property
    def batch_key(self) -> str:
        """Edits with one key share sites and positions, and can be stacked."""
        ...

    def stack(self, rows: Sequence[Any], device: torch.device) -> StackedEdit:
        """Return ``rows`` (edits with this edit's batch key, this one among them) as one edit on ``device``, row by row."""
        ...


@runtime_checkable
class ExactEdit(Protocol):
    """An edit that gives its definition beside its way to do it fast: what engines are tested against."""

    def exact(self, x: torch.Tensor) -> torch.Tensor:
        """Return a stream of one text with every token edited, by the plainest formula, in float64: ``[tokens, d_model]`` → ``[tokens, d_model]``."""
        ...


@dataclass(frozen=True)
class Intervention:
    """What a steerer does to one generation: text before the instruction, edits of activations, an adapter; empty, nothing.

    Attributes:
        prompt_prefix: stands before the instruction, in the user's turn.
        edits: applied in their order where they meet at one site.
        adapter: the folder of a trained adapter (an artifact), or None. The engine puts the rows of one adapter into one batch.
    """

    prompt_prefix: str = ""
    edits: tuple[Edit, ...] = ()
    adapter: str | None = None
