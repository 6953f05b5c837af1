"""The reference that engines are tested against: float64, one text at a time, the whole of it at every step, each token looked at by itself.

Shared with the torch loop are only the model's code, where its streams are, how an adapter enters it, what requests and edits are refused, and how a
token is drawn from logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor

from harness.engine.base import Chunk, Generated, GenerationRequest, check_edit, check_requests
from harness.engine.placing import why_not
from harness.engine.sampling import check_decoding, choose, penalise
from harness.interventions import Edit, EditContext, ExactEdit, Positions, Site
from harness.model.activations import Row
from harness.model.adapters import Adapters
from harness.model.loading import SubjectModel
from harness.model.streams import stream_of, with_stream
from harness.types import Decoding, FinishReason, rng


def touches(positions: Positions, place: int, n_prompt: int) -> bool:
    """Return whether an edit with these positions touches one token, by the definition of each field in turn.

    Args:
        positions: of the edit.
        place: the token's place in its text, from 0.
        n_prompt: the number of tokens of the prompt.
    """
    if place == 0 and not positions.first_token:
        return False
    if place >= n_prompt:
        return positions.generated
    return positions.prompt or place < positions.first or place >= n_prompt - positions.last


class ReferenceEngine:
    """Generates slowly and plainly. Implements :class:`harness.engine.base.Engine`.

    Float64 as far as the model's own code goes: some of it (norms, rotary positions) computes in float32 whatever it is given.

    Args:
        model: the subject model. It is copied, in float64 (two or four times the memory); on a device without float64 the copy is on the CPU.
        rounded: the copy keeps the model's dtype. It computes as plainly, and edits by float64: how it differs from the exact one is what rounding
            alone does to the model.
    """

    name = "reference"
    version = "1"

    def __init__(self, model: SubjectModel, *, rounded: bool = False) -> None:
        self.model = copy.deepcopy(model)
        hf = self.model.hf if rounded else self.model.hf.to("cpu" if model.device.type == "mps" else model.device).double()
        if _chooses_experts(hf):
            hf.set_experts_implementation("eager")  # the grouped products that are the default know no float64
        self._adapters = Adapters(self.model)

    def refuses(self, edit: Edit) -> str | None:
        """Return why the edit cannot be placed: the layer does not exist, or its attention and its MLP cannot be told apart; None where it can."""
        return why_not(self.model, edit)

    def chunks(self, requests: Chunk) -> list[list[GenerationRequest]]:
        """Returns each request by itself."""
        return [[request] for request in requests]

    def run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        """Return a text for each request, in order.

        Raises:
            EngineError: at once, for a decoding option out of bounds, a repeated id or an edit that cannot be placed.
        """
        check_decoding(decoding)
        check_requests(self, requests)
        return (self._text(request, decoding) for request in requests)

    def step_logits(self, requests: Chunk, new: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Tensor]]:
        """See :meth:`harness.engine.base.Engine.step_logits`; float64, in order."""
        check_requests(self, requests)
        for request in requests:
            n, ids = len(request.prompt_ids), [*request.prompt_ids, *new[request.id]]
            yield request.id, self.text_logits(ids, n, request.edits, request.adapter)[n - 1 : -1]

    def text_logits(self, ids: Sequence[int], n_prompt: int, edits: Sequence[Edit] = (), adapter: str | None = None) -> Tensor:
        """Return the logits at each token of one text: float64 ``[tokens, vocabulary]``.

        Args:
            ids: the text, prompt first.
            n_prompt: how many of its tokens are the prompt.
            edits: applied in their order where they meet at one site.
            adapter: the folder of an adapter, or None.
        """
        tokens = torch.tensor([list(ids)], device=self.model.device)
        with ExitStack() as stack, torch.no_grad():
            stack.enter_context(nullcontext() if adapter is None else self._adapters.get(adapter).worn())
            for site in dict.fromkeys(site for edit in edits for site in edit.sites):
                module = self.model.stream_module(site)
                stack.callback(module.register_forward_hook(_hook(site, edits, n_prompt)).remove)
            logits: Tensor = self.model.hf(input_ids=tokens, use_cache=False).logits[0]
        return logits.cpu().double() if logits.device.type == "mps" else logits.double()

    def logits(self, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: str | None = None) -> Iterator[Tensor]:
        """See :meth:`harness.engine.base.Engine.logits`; float64."""
        for edit in edits:
            check_edit(self, edit)
        return (self.text_logits([int(token) for token in text], len(text), edits, adapter) for text in texts)

    def _text(self, request: GenerationRequest, decoding: Decoding) -> Generated:
        prompt, new = list(request.prompt_ids), list[int]()
        finish: FinishReason = "length"
        uniforms = torch.from_numpy(rng(request.seed, "sampling", request.id).random(decoding.max_new_tokens)).to(self.model.device)
        while len(new) < decoding.max_new_tokens:
            last = self.text_logits([*prompt, *new], len(prompt), request.edits, request.adapter)[-1:]
            seen = [*prompt, *new] if decoding.penalty_scope == "all" else new
            last = penalise(last, torch.tensor([seen], dtype=torch.long, device=last.device), decoding.repetition_penalty)
            if len(new) < decoding.min_new_tokens:
                last[:, sorted(self.model.eos_ids)] = float("-inf")
            token = int(choose(last, uniforms[len(new) : len(new) + 1], decoding.temperature, decoding.top_p))
            if token in self.model.eos_ids:
                finish = "eos"
                break
            new.append(token)
        return Generated(request.id, tuple(new), self.model.decode(new), finish)


def _chooses_experts(hf: Any) -> bool:
    """Return whether a transformers model mixes experts by a function that can be chosen (transformers 5; before, it was always the plain loop)."""
    return getattr(hf.config, "_experts_implementation", None) is not None and hasattr(hf, "set_experts_implementation")


def _hook(site: Site, edits: Sequence[Edit], n_prompt: int) -> Callable[[Any, Any, Any], Any]:
    def hook(module: Any, arguments: Any, output: Any) -> Any:
        stream = stream_of(output, 1)
        x = stream[0].to("cpu" if stream.device.type == "mps" else stream.device).double()
        for edit in edits:
            for _ in range(edit.sites.count(site)):
                changed = _everywhere(edit, x, n_prompt)
                rows = [changed[place] if touches(edit.positions, place, n_prompt) else x[place] for place in range(len(x))]
                x = torch.stack(rows)
        return with_stream(output, x[None].to(stream))

    return hook


def _everywhere(edit: Edit, x: Tensor, n_prompt: int) -> Tensor:
    """Return a stream ``[tokens, d_model]`` with every token edited.

    By the edit's own definition where it gives one, else by its fast way, in float32.
    """
    if isinstance(edit, ExactEdit):
        return edit.exact(x)
    real = torch.ones(1, len(x), dtype=torch.bool, device=x.device)
    context = EditContext.of(real, torch.arange(len(x), device=x.device)[None] >= n_prompt)
    return edit.stack([edit], x.device).apply(x[None].float(), context)[0].double()
