"""The parts of a decoder-only language model, found by watching one short forward pass instead of by a table of architectures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.errors import ModelError

_RETURNED = "a tensor, or a tuple or list that begins with one"
SUPPORTED = "causal (decoder-only) language models built of a stack of decoder layers"
"""What a subject model is, for messages."""
_PROBE = ((1, 2, 3), (1, 2, 4))
"""Two short texts that are shown to a model to see how it is built; they differ in the last token."""


def hidden_of(output: Any) -> torch.Tensor:
    """Return the residual stream ``[rows, tokens, d_model]`` in what a decoder layer returned.

    Layers return the tensor itself or a tuple that begins with it, depending on architecture and transformers version.
    """
    if isinstance(output, torch.Tensor):
        return output
    first = output[0]
    if not isinstance(first, torch.Tensor):
        given = f"{type(output).__name__} of {type(first).__name__}"
        raise ModelError(f"a decoder layer returned {given}, which holds no residual stream", given=given, allowed=_RETURNED)
    return first


def with_hidden(output: Any, x: torch.Tensor) -> Any:
    """Return what a decoder layer returned, with its residual stream replaced by ``x``; the other members stay. The input is not changed."""
    if isinstance(output, torch.Tensor):
        return x
    if isinstance(output, tuple):
        rest = output[1:]
        return type(output)(x, *rest) if hasattr(output, "_fields") else (x, *rest)
    if isinstance(output, list):
        return [x, *output[1:]]
    given = type(output).__name__
    raise ModelError(f"a decoder layer returned {given}, which cannot be edited", given=given, allowed=_RETURNED)


@dataclass(frozen=True)
class Anatomy:
    """The parts of a decoder-only model that this package reads or edits.

    Attributes:
        layers: the decoder blocks, in order.
        layers_path: dotted module name of ``layers``.
        final_norm: what runs between the last layer's output and the unembedding (identity where nothing does), so that
            ``unembedding(final_norm(x))`` are the logits before any capping or scaling. None where that could not be established.
        unembedding: the output projection ``d_model → vocabulary``.
        d_model: width of the residual stream.
    """

    layers: nn.ModuleList
    layers_path: str
    final_norm: nn.Module | None
    unembedding: nn.Module
    d_model: int


@dataclass
class _Call:
    """One call of a module: when it began and ended (counted in events), its first input and its output."""

    module: nn.Module
    begin: int
    end: int
    x: Any
    output: Any

    def holds(self, other: _Call) -> bool:
        """Return whether ``other`` ran inside of this call."""
        return self.begin < other.begin and other.end < self.end


def find_anatomy(hf: Any) -> Anatomy:
    """Find layers, final norm and unembedding of a transformers causal LM.

    The layers are the ``ModuleList`` with ``num_hidden_layers`` members that all run, once each and in order, on a text input, and that
    return ``[rows, tokens, d_model]``. Lists of experts, and towers that do not see text (vision), drop out by that.

    Raises:
        ModelError: no such list; an encoder-decoder; a model whose tokens see later ones; a model without an output projection.
    """
    if getattr(hf.config, "is_encoder_decoder", False):
        raise _unsupported(hf, "is an encoder-decoder model")
    head = hf.get_output_embeddings()
    if head is None:
        raise _unsupported(hf, "has no output embeddings")
    n_layers = text_config(hf).num_hidden_layers
    with _recorded(hf) as calls:
        _read_probe(hf)
    found: list[tuple[int, str, nn.ModuleList]] = []
    for path, module in hf.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and _are_blocks(module, calls):
            found.append((sum(p.numel() for p in module.parameters()), path, module))
    if not found:
        raise _unsupported(hf, f"has no list of {n_layers} modules that run in turn and return the residual stream")
    # Should a second list qualify (parts of a block, adapters beside it), the blocks are where the parameters are.
    _, path, layers = max(found, key=lambda item: item[0])
    last = next(call for call in calls if call.module is layers[-1])
    x = hidden_of(last.output)
    # A verdict that would stop a run must repeat: some kernels round differently from call to call.
    if not _is_causal(x) and not _is_causal(_last_hidden(hf, layers[-1])):
        raise _unsupported(hf, "lets tokens see the ones after them")
    return Anatomy(layers, path, _between(last, head, calls), head, x.shape[-1])


def _unsupported(hf: Any, why: str) -> ModelError:
    given = type(hf).__name__
    return ModelError(f"{given} {why}", given=given, allowed=SUPPORTED, hint="use another model")


def _read_probe(hf: Any) -> None:
    try:
        hf(input_ids=torch.tensor(_PROBE, device=_device(hf)), use_cache=False)
    except Exception as error:  # whatever an architecture raises
        given, detail = type(hf).__name__, " ".join(str(error).split())[:200]
        message = f"{given} in {str(next(hf.parameters()).dtype).removeprefix('torch.')} cannot read a short text"
        hint = "use another --dtype or another model; some architectures need another version of transformers"
        raise ModelError(f"{message} ({type(error).__name__}: {detail})", given=given, hint=hint) from error


def _last_hidden(hf: Any, layer: nn.Module) -> torch.Tensor:
    """Return the probe texts' hidden states after ``layer``, from a pass of their own."""
    with _recorded(hf) as calls:
        _read_probe(hf)
    return hidden_of(next(call for call in calls if call.module is layer).output)


def _is_causal(x: torch.Tensor) -> bool:
    """Return whether only the last token differs between the two probe texts, which differ in their last token only (rounding aside)."""
    change = (x[0].float() - x[1].float()).norm(dim=-1)
    eps = torch.finfo(x.dtype).eps
    rounding = max(1e-5, 8 * eps) * x[0].float().norm(dim=-1)  # a first token's norm can be a hundred times the change
    return not bool((change[:-1] > max(1e-3, 8 * eps) * change[-1] + rounding[:-1]).any())


def text_config(hf: Any) -> Any:
    """Return the configuration of the language model: the model's own, or the text part of a multimodal one."""
    return hf.config.get_text_config(decoder=True)


def _device(hf: nn.Module) -> torch.device:
    return next(hf.parameters()).device


@contextmanager
def _recorded(hf: nn.Module) -> Iterator[list[_Call]]:
    """Record every module call of what runs inside, in order of their ends. The hooks are gone afterwards, whatever happened."""
    calls: list[_Call] = []
    open_calls: list[tuple[nn.Module, int, Any]] = []
    clock = iter(range(2**62))
    handles = []

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        x = args[0] if args else next(iter(kwargs.values()), None)
        open_calls.append((module, next(clock), x))

    def end(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        _, started, x = open_calls.pop()
        calls.append(_Call(module, started, next(clock), x, output))

    try:
        for module in hf.modules():
            handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
            handles.append(module.register_forward_hook(end))
        # no_grad, not inference_mode: what a model caches in its first forward must stay usable in training.
        with torch.no_grad():
            yield calls
    finally:
        for handle in handles:
            handle.remove()


def _are_blocks(candidate: nn.ModuleList, calls: list[_Call]) -> bool:
    members = {id(member): place for place, member in enumerate(candidate)}
    mine = [call for call in calls if id(call.module) in members]
    if [members[id(call.module)] for call in mine] != list(range(len(candidate))):
        return False
    for call in mine:
        try:
            shape = hidden_of(call.output).shape
        except (ModelError, TypeError, LookupError):
            return False
        if len(shape) != 3 or shape[:2] != (len(_PROBE), len(_PROBE[0])):
            return False
    return True


def _between(last: _Call, head: nn.Module, calls: list[_Call]) -> nn.Module | None:
    """Return what runs between the last layer and the head, as one module; None unless it reproduces the head's input exactly."""
    at_head = next((call for call in calls if call.module is head), None)
    if at_head is None or not isinstance(at_head.x, torch.Tensor):
        return None
    tail = [call for call in calls if call.begin > last.end and call.end < at_head.begin]
    outermost = sorted((call for call in tail if not any(other.holds(call) for other in tail)), key=lambda call: call.begin)
    modules = [call.module for call in outermost]
    x = hidden_of(last.output)
    with torch.no_grad():
        for module in modules:
            x = module(x)
    if not isinstance(x, torch.Tensor) or (x.shape, x.dtype) != (at_head.x.shape, at_head.x.dtype):  # Mamba's stream is float32 in any case
        return None
    if not torch.allclose(x, at_head.x, equal_nan=True):
        return None
    if len(modules) == 1:
        return modules[0]
    return nn.Sequential(*modules) if modules else nn.Identity()
