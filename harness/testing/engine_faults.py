"""Faults that engines of other tools have had, planted in a sound engine: whoever checks engines must find each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.interventions import Edit, Positions, Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.engine.base import Chunk, Engine, Generated, GenerationRequest
    from harness.model.activations import Row
    from harness.types import Decoding

Wrong = Callable[[Sequence["GenerationRequest"]], "list[GenerationRequest]"]
"""Requests that are decoded together ↦ what the faulty engine makes of them."""


@dataclass(frozen=True, eq=False)
class Moved:
    """An edit at other sites, or of other tokens, than it says."""

    edit: Edit
    sites: tuple[Site, ...]
    positions: Positions

    @property
    def batch_key(self) -> str:
        return f"{self.edit.batch_key} at {self.sites} {self.positions}"

    def stack(self, rows: Sequence[Moved], device: torch.device) -> Any:
        return self.edit.stack([row.edit for row in rows], device)


class FaultyEngine:
    """An engine with a fault. Implements :class:`harness.engine.base.Engine`.

    Args:
        engine: a sound one, which does the work.
        wrong: what it is handed in place of what was asked for.
    """

    def __init__(self, engine: Engine, wrong: Wrong) -> None:
        self._engine, self._wrong = engine, wrong
        self.name, self.version = engine.name, engine.version

    def refuses(self, edit: Edit) -> str | None:
        return self._engine.refuses(edit)

    def chunks(self, requests: Chunk) -> list[list[GenerationRequest]]:
        return self._engine.chunks(requests)

    def logits(self, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: str | None = None) -> Iterator[Tensor]:
        from harness.engine.base import GenerationRequest

        (request,) = self._wrong([GenerationRequest("texts", (), 0, tuple(edits))])
        return self._engine.logits(texts, request.edits, adapter)

    def run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        return self._engine.run(self._wrong(requests), decoding)

    def step_logits(self, requests: Chunk, new: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Tensor]]:
        return self._engine.step_logits(self._wrong(requests), new)


def misses_decoded(requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """Edits act on the prompt, and not on the tokens that are generated."""
    return _moved(requests, lambda edit: Moved(edit, edit.sites, replace(edit.positions, generated=False)))


def layer_off(n_layers: int) -> Wrong:
    """Edits act one layer after the one they name; those of the last, one before. Of a model of so many layers."""

    def next_to(site: Site) -> Site:
        return replace(site, layer=site.layer + 1 if site.layer + 1 < n_layers else site.layer - 1)

    return lambda requests: _moved(requests, lambda edit: Moved(edit, tuple(map(next_to, edit.sites)), edit.positions))


def neighbours(requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """Each row of a batch has the edits of the row after it."""
    return [replace(request, edits=other.edits) for request, other in zip(requests, [*requests[1:], *requests[:1]], strict=True)]


def _moved(requests: Sequence[GenerationRequest], move: Callable[[Edit], Moved]) -> list[GenerationRequest]:
    return [replace(request, edits=tuple(move(edit) for edit in request.edits)) for request in requests]


def faults(n_layers: int) -> dict[str, Wrong]:
    """Return the faults by name, for a model of two layers or more."""
    return {
        "an edit that misses decoded tokens": misses_decoded,
        "an edit one layer off": layer_off(n_layers),
        "a batch neighbour's vector": neighbours,
    }
