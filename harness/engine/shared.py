"""Rows of one prompt are read once, up to the layer at which their edits begin.

A run asks one instruction under many methods, concepts and strengths, so a batch holds few prompts many times. Below the first edit such rows are
the same: those layers read each prompt once, and the stream, and the keys and values below it, are then given to all rows. Whether a model can be
read so is tried on short texts, as all of decoding is (:mod:`harness.engine.plan`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.engine.plan import Hooks, evaluating, hooks_of, relative_error, tolerance, trial_texts
from harness.engine.rows import DecodingPlan, Rows, View
from harness.interventions import Site
from harness.model.attention import fast_decoding
from harness.model.loading import SubjectModel, hidden_of, with_hidden

_MOST = 0.75
"""Share of the rows that may be prompts of their own; above it there is little to save."""

_able: WeakKeyDictionary[torch.nn.Module, dict[tuple[Hooks, DecodingPlan], bool]] = WeakKeyDictionary()


def last_common_layer(model: SubjectModel, sites: Sequence[Site]) -> int:
    """Return the last layer whose output, before any edit, is the same in all rows of one prompt; -1 where none is."""
    ends = (site.layer if site.stream == "residual" else site.layer - 1 for site in sites)
    return min(ends, default=model.n_layers - 1)


def prompts_of(rows: Rows) -> tuple[Tensor, Tensor] | None:
    """Return the prompts of a batch: (a row that has each ``[prompts]``, each row's place among these ``[rows]``); None where few rows share one."""
    places: dict[tuple[int, ...], int] = {}
    first, of_row = [], []
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
def spread(model: SubjectModel, after: int, n: int, of_row: Tensor) -> Iterator[None]:
    """Within the context a forward pass over ``n`` prompts goes on, from the output of a layer, with all rows.

    Args:
        model: the subject model.
        after: the last layer that reads prompts.
        n: how many prompts there are.
        of_row: ``[rows]`` int64, the prompt of each row.
    """

    def output(module: torch.nn.Module, arguments: Any, found: Any) -> Any:
        hidden = hidden_of(found)
        if hidden.dim() != 3 or len(hidden) != n:
            raise ValueError(f"a layer returned {tuple(hidden.shape)} for {n} prompts")
        return with_hidden(found, hidden[of_row])

    def arguments(module: torch.nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(_for_rows(value, n, of_row) for value in given), {name: _for_rows(value, n, of_row) for name, value in named.items()}

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
    found = prompts_of(rows) if after >= 0 and rows.n_new == 0 else None
    if found is None:
        yield view
        return
    first, of_row = found
    with spread(rows.model, after, len(first), of_row):
        yield View(view.tokens[first], view.real[first], view.generated[first], view.width)
    rows.spread_cache(after + 1, of_row)


def _for_rows(value: Any, n: int, of_row: Tensor) -> Any:
    """Return what is given to a layer, masks and positions of ``n`` prompts made those of all rows."""
    if isinstance(value, Tensor):
        return value[of_row.to(value.device)] if value.dim() > 1 and len(value) == n else value
    return tuple(_for_rows(part, n, of_row) for part in value) if type(value) is tuple else value


def can_share(model: SubjectModel, plan: DecodingPlan) -> bool:
    """Return whether a model that is decoded by ``plan`` reads prompts once as it reads rows. Tried once a model and the hooks in it."""
    key = hooks_of(model.hf), plan
    known = _able.setdefault(model.hf, {})
    if key not in known:
        with evaluating(model.hf), fast_decoding(model.hf), torch.no_grad():
            known[key] = plan == DecodingPlan() and _is_right(model, plan)
    return known[key]


def _is_right(model: SubjectModel, plan: DecodingPlan) -> bool:
    texts = trial_texts(model)
    if texts is None:
        return False
    prompts = [texts[0][:10], texts[1][:6], texts[0][:10], texts[0][:10]]
    try:
        errors = [
            error for after in {(model.n_layers - 1) // 2, model.n_layers - 1} for error in _errors(model, plan, prompts, texts[2], after)
        ]
    except Exception:  # whatever an architecture cannot do, memory for four short texts included
        return False
    return all(error <= tolerance(model) for error in errors)  # a NaN is not


def _errors(model: SubjectModel, plan: DecodingPlan, prompts: Sequence[Sequence[int]], new: Sequence[int], after: int) -> Iterator[float]:
    """Yield relative errors of the logits at some steps, before and after a row has left the batch."""
    apart, once, left = Rows(model, prompts, plan), Rows(model, prompts, plan), len(prompts)
    for step in range(4):
        if step == 2:
            left -= 1
            apart.keep(range(1, left + 1))
            once.keep(range(1, left + 1))
        expected = apart.logits(apart.view())
        with prompts_once(once, once.view(), after) as view:
            found = once.logits(view)
        yield from (relative_error(*pair) for pair in zip(found, expected, strict=True))
        chosen = torch.tensor(new[step : step + left], device=model.device)
        apart.append(chosen)
        once.append(chosen)
