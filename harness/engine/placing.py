"""Placing edits in a torch model: those of a batch's rows are stacked, and hooks at their sites apply them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.engine.timing import CLOCK, EDITS
from harness.errors import EngineError, ModelError
from harness.interventions import Edit, EditContext, Positions, Site, StackedEdit
from harness.model.loading import SubjectModel
from harness.model.streams import stream_of, with_stream


@dataclass
class Placed:
    """Edits of one key, of several rows of a batch, stacked. ``rows`` are their places in the batch, None for all of it."""

    name: str
    positions: Positions
    stacked: StackedEdit
    rows: Tensor | None

    def acts_on(self, prompt: bool, generated: bool) -> bool:
        """Return whether these edits touch any token of a forward pass over tokens of the prompt, generated ones, or both."""
        return (prompt and self.positions.in_prompt) or (generated and self.positions.generated)

    def apply(self, x: Tensor, context: EditContext) -> Tensor:
        """Return the stream ``[batch, tokens, d_model]`` with the edits; tokens and rows that they do not touch keep their very values."""
        if self.rows is None:
            return self._edit(x, context)
        own = context.rows(self.rows)
        return x.index_copy(0, self.rows, self._edit(x[self.rows], own))

    def _edit(self, x: Tensor, context: EditContext) -> Tensor:
        edited = self.stacked.apply(x.float(), context)
        if edited.shape != x.shape:
            raise EngineError(
                f"{self.name} made a residual stream of shape {tuple(edited.shape)}", given=tuple(edited.shape), allowed=f"the shape {tuple(x.shape)}"
            )
        return torch.where(context.touched(self.positions)[..., None], edited.to(x.dtype), x)


class Reading(Protocol):
    """How an engine runs a forward pass in which streams are edited: by hooks (:class:`Hooked`), or by nnsight."""

    @property
    def shares(self) -> bool:
        """Return whether rows of one prompt may be read once (:mod:`harness.engine.shared`)."""
        ...

    def read(
        self, forward: Callable[[], Tensor], placed: Mapping[Site, Sequence[Placed]], context: EditContext, *, prompt: bool, generated: bool
    ) -> Tensor:
        """Return what ``forward`` returns, a pass of the model in which its streams are edited. The model is as it was afterwards.

        Args:
            forward: one forward pass.
            placed: of :func:`place`.
            context: of the tokens of the pass.
            prompt: whether tokens of a prompt are among these.
            generated: whether generated tokens are.
        """
        ...


class Hooked:
    """Forward passes with torch's hooks at the sites. Implements :class:`Reading`."""

    shares = True

    def __init__(self, model: SubjectModel) -> None:
        self._model = model

    def read(
        self, forward: Callable[[], Tensor], placed: Mapping[Site, Sequence[Placed]], context: EditContext, *, prompt: bool, generated: bool
    ) -> Tensor:
        """See :meth:`Reading.read`."""
        with edited(self._model, placed, context, prompt=prompt, generated=generated):
            return forward()


def why_not(model: SubjectModel, edit: Edit) -> str | None:
    """Return why hooks cannot place ``edit`` in a model; None where they can."""
    if not edit.sites:
        return "it names no site"
    for site in edit.sites:
        try:
            model.stream_module(site)
        except ModelError as error:
            return str(error)
    return None


def place(rows: Sequence[Sequence[Edit]], device: torch.device) -> dict[Site, list[Placed]]:
    """Return the edits at each site, in the order in which they are applied.

    Stacked together are those of one key that stand at one place of their rows' edits; edits at one place belong to different rows, so going
    place by place keeps each row's own order, whatever the order in other rows.

    Args:
        rows: the edits of each row of the batch.
        device: the model's.
    """
    members: dict[tuple[int, str], tuple[list[int], list[Edit]]] = {}
    for row, edits in enumerate(rows):
        for position, edit in enumerate(edits):
            at, those = members.setdefault((position, edit.batch_key), ([], []))
            at.append(row)
            those.append(edit)
    by_site: dict[Site, list[Placed]] = {}
    for _, (at, those) in sorted(members.items(), key=lambda item: item[0][0]):
        edit = those[0]
        index = None if len(at) == len(rows) else torch.tensor(at, device=device)
        placed = Placed(type(edit).__name__, edit.positions, edit.stack(those, device), index)
        for site in edit.sites:
            by_site.setdefault(site, []).append(placed)
    return by_site


@contextmanager
def edited(
    model: SubjectModel, placed: Mapping[Site, Sequence[Placed]], context: EditContext, *, prompt: bool, generated: bool
) -> Iterator[None]:
    """Within the context the model's streams are edited; the hooks are always removed afterwards.

    Args:
        model: whose streams.
        placed: of :func:`place`.
        context: of the tokens of the forward passes inside.
        prompt: whether tokens of a prompt are among these.
        generated: whether generated tokens are.
    """
    handles = []
    try:
        for site, edits in placed.items():
            acting = [edit for edit in edits if edit.acts_on(prompt, generated)]
            if acting:
                handles.append(model.stream_module(site).register_forward_hook(_hook(acting, context)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(edits: Sequence[Placed], context: EditContext) -> Callable[[torch.nn.Module, Any, Any], Any]:
    def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
        with nullcontext() if torch.compiler.is_compiling() else CLOCK.part(EDITS, whole=True):
            x = stream_of(output, len(context.real))
            here, x = x.device, x.to(context.real.device)  # of a model on several devices the layer has its own; edits are where the first one is
            for edit in edits:
                x = edit.apply(x, context)
            return with_stream(output, x.to(here))

    return hook
