"""Which layers a method acts on that acts on several, and where attention writes into the stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import ModelError

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

PUBLISHED = {26: (5, 10, 15, 20), 42: (12, 20, 31, 39)}
"""AxBench's layers by how many the model has: Gemma-2 2B and 9B."""
_LAYERS = 4


def usual_layers(model: SubjectModel) -> tuple[int, ...]:
    """Return AxBench's layers where the model has as many as one of its models, else four at the same shares of the depth as in the 2B model.

    For 26 layers these are 5, 10, 15 and 20: 1/5 to 4/5 of the depth, zero-based.
    """
    n = model.n_layers
    return PUBLISHED.get(n) or tuple(sorted({min(n - 1, round(n * place / (_LAYERS + 1))) for place in range(1, _LAYERS + 1)}))


def checked_layers(model: SubjectModel, asked: Sequence[int]) -> tuple[int, ...]:
    """Return the layers that are asked for, ascending; the usual ones where none is. Raises ModelError for one that does not exist."""
    for layer in asked:
        model.check_layer(layer)
    return tuple(sorted(set(asked))) or usual_layers(model)


def attention_outputs(model: SubjectModel, layers: Sequence[int]) -> dict[int, str]:
    """Return the name of each layer's projection of attention's heads into the stream (Llama's ``o_proj``, GPT-2's ``c_proj``), by layer.

    It is the linear module that ends last within the layer's attention, in one short forward pass; no architecture is known by name.

    Raises:
        ModelError: a layer's attention cannot be told from its MLP, or has no linear module.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    from harness.interventions import Site

    names = {module: name for name, module in model.hf.named_modules()}
    within = {layer: _attention(model, model.stream_module(Site(layer, "attention")), layer) for layer in layers}
    ended: dict[int, Any] = {}

    def note(layer: int) -> Any:
        def hook(module: Any, arguments: Any, output: Any) -> None:
            ended[layer] = module

        return hook

    handles = [
        module.register_forward_hook(note(layer))
        for layer, attention in within.items()
        for module in attention.modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    ]
    try:
        with torch.no_grad():
            model.hf(input_ids=torch.tensor([[1, 2, 3]], device=model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    for layer in layers:
        if layer not in ended:
            message = f"the attention of layer {layer} of {model.name} has no linear module that writes into the stream"
            raise ModelError(message, given=layer, hint="name other layers")
    return {layer: names[ended[layer]] for layer in layers}


def _attention(model: SubjectModel, module: Any, layer: int) -> Any:
    """Return the layer's attention: the module itself, or, where a norm behind it adds to the stream (Gemma-2), the attention before that."""
    import torch

    if any(isinstance(part, torch.nn.Linear) for part in module.modules()) or len(list(module.parameters())) > 1:
        return module
    found = [part for name, part in model.layers[layer].named_children() if "attn" in name.lower() or "attention" in name.lower()]
    with_linear = [part for part in found if any(isinstance(inner, torch.nn.Linear) for inner in part.modules())]
    return with_linear[0] if with_linear else module
