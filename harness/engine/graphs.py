"""Edits as graphs of torch operations: what can be sent to a machine that has torch and none of this program."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
import torch.fx
from torch import Tensor

from harness.engine.placing import Placed, place
from harness.errors import EngineError
from harness.interventions import Edit, EditContext

LARGEST = 64 << 20
"""Bytes of tensors that one graph may hold: a job travels with its edits."""


def context_tensors(context: EditContext) -> tuple[Tensor, ...]:
    """Return what an edit may know of its tokens, in the order in which a graph takes it."""
    return context.real, context.generated, context.first, context.place, context.to_end


def graph_of(edits: Sequence[Placed], context: EditContext, d_model: int) -> Any:
    """Return edits at one site as a graph: (float32 ``[rows, tokens, d_model]``, :func:`context_tensors`) ↦ the edited stream.

    It is recorded, for this number of rows and tokens, from what the edits do to a stream of which nothing but the shape is known.

    Raises:
        EngineError: what they do depends on the values of the stream in a way that no graph can hold, or their tensors are too large to be sent.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    def apply(x: Tensor, *parts: Tensor) -> Tensor:
        given = EditContext(*parts)
        for edit in edits:
            x = edit.apply(x, given)
        return x

    x = torch.zeros(*context.real.shape, d_model)
    names = ", ".join(dict.fromkeys(edit.name for edit in edits))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.filterwarnings("ignore")
            apply(x, *context_tensors(context))  # what an edit computes once and keeps is then of real numbers
            graph: Any = make_fx(apply, tracing_mode="fake", _allow_non_fake_inputs=True)(x, *context_tensors(context))
    except EngineError:
        raise
    except Exception as error:  # whatever torch's tracing, or an edit under it, raises
        detail = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise EngineError(f"{names} cannot be written as a graph of torch operations ({detail})", given=names) from error
    constants = {node.target: attrgetter(node.target)(graph).detach() for node in graph.graph.nodes if node.op == "get_attr"}
    size = sum(value.numel() * value.element_size() for value in constants.values())
    if size > LARGEST:
        raise EngineError(f"{names} holds {size >> 20} MB of tensors", given=size, allowed=f"at most {LARGEST >> 20} MB travel with a job")
    return torch.fx.GraphModule(constants, graph.graph)  # of the operations and their tensors alone: what the recording has left cannot travel


def why_no_graph(edit: Edit, d_model: int) -> str | None:
    """Return why an edit cannot be written as a graph, in one line; None where it can."""
    real = torch.ones(1, 2, dtype=torch.bool)
    context = EditContext.of(real, torch.tensor([[False, True]]))
    try:
        for edits in place([[edit]], torch.device("cpu")).values():
            graph_of(edits, context, d_model)
    except EngineError as error:
        return str(error)
    return None
