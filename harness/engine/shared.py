"""Rows of one prompt are read once, up to the layer at which their edits begin.

A run asks one instruction under many methods, concepts and strengths, so a batch holds few prompts many times. Below the first edit such rows are
the same: those layers read each prompt once, and the stream, and the keys and values below it, are then given to all rows. Whether a model can be
read so is tried on short texts, as all of decoding is (:mod:`harness.engine.plan`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harness.engine.rows import Rows, View
from harness.interventions import Site
from harness.model.loading import SubjectModel, hidden_of, with_hidden

_MOST = 0.75
"""Share of the rows that may be prompts of their own; above it there is little to save."""


def last_common_layer(model: SubjectModel, sites: Sequence[Site]) -> int:
    """Return the last layer whose output, before any edit, is the same in all rows of one prompt; -1 where none is."""
    ends = (site.layer if site.stream == "residual" else site.layer - 1 for site in sites)
    return min(ends, default=model.n_layers - 1)


def prompts_of(rows: Rows) -> tuple[Tensor, Tensor] | None:
    """Return the prompts of a batch: (a row that has each ``[prompts]``, each row's place among these ``[rows]``); None where few rows share one."""
    places: dict[tuple[int, ...], int] = {}
    first: list[int] = []
    of_row: list[int] = []
    for row, ids in enumerate(torch.where(rows.real, rows.tokens, -1).tolist()):
        place = places.setdefault(tuple(ids), len(places))
        first += [row] if place == len(first) else []
        of_row.append(place)
    # As many prompts as tokens: a mask of tokens by tokens could be taken for one of rows.
    if len(first) > _MOST * len(of_row) or len(first) == rows.tokens.shape[1]:
        return None
    device = rows.tokens.device
    return torch.tensor(first, device=device), torch.tensor(of_row, device=device)


@contextmanager
def spread(model: SubjectModel, after: int, n: int, of_row: Tensor, columns: int) -> Iterator[None]:
    """Within the context a forward pass over ``n`` prompts goes on, from the output of a layer, with all rows.

    Args:
        model: the subject model.
        after: the last layer that reads prompts.
        n: how many prompts there are.
        of_row: ``[rows]`` int64, the prompt of each row.
        columns: tokens of each prompt, padding included.

    Raises:
        ValueError: within, where a layer returns or is given what is neither of prompts nor of tokens, such as biases of heads: with as many
            prompts as heads these would be taken for those of prompts.
    """

    def output(module: torch.nn.Module, arguments: Any, found: Any) -> Any:
        hidden = hidden_of(found)
        if hidden.dim() != 3 or len(hidden) != n:
            raise ValueError(f"a layer returned {tuple(hidden.shape)} for {n} prompts")
        return with_hidden(found, hidden[of_row])

    def arguments(module: torch.nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        def ours(value: Any) -> Any:
            return _for_rows(value, n, of_row, columns)

        return tuple(map(ours, given)), {name: ours(value) for name, value in named.items()}

    handles = [model.layers[after].register_forward_hook(output)]
    handles += [layer.register_forward_pre_hook(arguments, with_kwargs=True) for layer in model.layers[after + 1 :]]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def prompts_once(rows: Rows, view: View, after: int) -> Iterator[View]:
    """Within the context a batch reads, in place of ``view``, the view that is given: at the first step, each of its prompts once.

    Args:
        rows: the batch.
        view: of its next step.
        after: the last layer in which rows of one prompt are the same; -1 where none is.
    """
    found = prompts_of(rows) if after >= 0 and not any(rows.n_new) else None
    if found is None:
        yield view
        return
    first, of_row = found
    with spread(rows.model, after, len(first), of_row, view.width):
        yield View(view.tokens[first], view.real[first], view.generated[first], view.width)
    rows.spread_cache(after + 1, of_row)


def _for_rows(value: Any, n: int, of_row: Tensor, columns: int) -> Any:
    """Return what is given to a layer, masks and positions of ``n`` prompts made those of all rows."""
    if isinstance(value, Tensor):
        if value.dim() < 2 or tuple(value.shape[:2]) == (len(of_row), columns):  # no part of a batch, or the stream of all rows
            return value
        if len(value) not in (1, n, columns):
            raise ValueError(f"a layer is given {tuple(value.shape)}, which is neither of {n} prompts nor of tokens")
        return value[of_row.to(value.device)] if len(value) == n else value
    return tuple(_for_rows(part, n, of_row, columns) for part in value) if type(value) is tuple else value
