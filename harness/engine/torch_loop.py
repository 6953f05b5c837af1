"""Steered generation: one batch mixes prompts, edits and strengths row by row; a row's text does not depend on its neighbours.

Left padding, explicit positions, KV cache, hooks on the decoder layers. Requests of similar prompt length share a batch; rows that have ended
leave it. Each request draws from (seed, "sampling", id), so batch size, order and restarts change nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.engine.base import Generated, GenerationRequest
from harness.engine.sampling import check_decoding, choose, penalise
from harness.errors import EngineError
from harness.interventions import Edit, EditContext, Positions, StackedEdit
from harness.model.activations import is_out_of_memory
from harness.model.attention import fast_decoding
from harness.model.loading import SubjectModel, hidden_of, with_hidden
from harness.types import Decoding, FinishReason, rng

DEFAULT_BATCH = 128






def generate(
    model: SubjectModel,
    requests: Sequence[GenerationRequest],
    decoding: Decoding,
    *,
    batch_size: int = DEFAULT_BATCH,
    use_cache: bool = True,
) -> Iterator[Generated]:
    """Generate a text for each request, in any order, each as soon as it has ended.

    Between two texts the model is as it was found (no hooks, its own attention, gradients as the caller has them), so it may be used for
    something else, and the iteration may be given up at any point.

    Args:
        model: the subject model.
        requests: what to generate; ids must be unique.
        decoding: the same for every request.
        batch_size: rows decoded together; halved for good where memory runs out (texts that have ended are not made again).
        use_cache: False recomputes the whole sequence at every step (for tests: the same tokens, slowly).

    Raises:
        EngineError: at once, for an option out of bounds, a repeated id, an empty prompt, a prompt that leaves no room for the new tokens,
            or an edit of a layer that does not exist; while iterating, for an edit that changes the shape of the residual stream, for logits
            that are no numbers, and where a single row does not fit into memory.
    """
    check_decoding(decoding)
    if batch_size < 1:
        raise EngineError(f"batch_size is {batch_size}; allowed: at least 1")
    _check_requests(model, requests, decoding)
    return _generate(model, requests, decoding, batch_size, use_cache)


def _generate(
    model: SubjectModel, requests: Sequence[GenerationRequest], decoding: Decoding, batch_size: int, use_cache: bool
) -> Iterator[Generated]:
    # Longest prompts first: a batch size that suffices for them suffices for all that follow.
    waiting = sorted(requests, key=lambda request: -len(request.prompt_ids))
    while waiting:
        batch = _Batch(model, waiting[:batch_size], decoding, use_cache)
        del waiting[:batch_size]
        while batch.requests and (ended := _advance(batch)) is not None:
            yield from ended
        left = batch.requests
        if not left:
            continue
        del batch  # its tensors, before the next one makes its own
        if model.device.type == "cuda":
            torch.cuda.empty_cache()
        if len(left) == 1:
            raise EngineError(
                f"out of memory on {model.device} with a single prompt of {len(left[0].prompt_ids)} tokens; "
                "use a smaller model, a smaller dtype or another --device"
            )
        batch_size, waiting = len(left) // 2, left + waiting


def _advance(batch: _Batch) -> list[Generated] | None:
    """The next texts that end, or None where memory ran out.

    A function of its own, so that nothing of a failed attempt is alive (no frame, no traceback) when the next one begins.
    """
    try:
        return batch.advance()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def _check_requests(model: SubjectModel, requests: Sequence[GenerationRequest], decoding: Decoding) -> None:
    if len({request.id for request in requests}) != len(requests):
        raise EngineError("two generation requests have one id; ids must be unique, since they determine the random draws")
    room = None if model.max_tokens is None else model.max_tokens - decoding.max_new_tokens + 1  # the last new token is never read
    for request in requests:
        length = len(request.prompt_ids)
        if not length:
            raise EngineError(f"request {request.id} has an empty prompt; give at least one token")
        if room is not None and length > room:
            raise EngineError(
                f"request {request.id} has a prompt of {length} tokens, which with max_new_tokens={decoding.max_new_tokens} is more than "
                f"the {model.max_tokens} tokens of {model.name}; shorten the prompt or generate fewer tokens"
            )
        for edit in request.edits:
            for site in edit.sites:
                if not 0 <= site.layer < model.n_layers:
                    raise EngineError(
                        f"{type(edit).__name__} edits {site}, but {model.name} has layers 0 to {model.n_layers - 1}; choose one of these"
                    )


class _Batch:
    """Requests that are decoded together. All members hold the rows that are still open, in one order.

    Attributes:
        requests: the open rows' requests.
        tokens: ``[rows, width]`` int64, prompts padded on the left and the tokens generated so far.
        real: ``[rows, width]`` bool, the token is no padding.
        prompt_width: how many of the columns are prompt.
        uniforms: ``[rows, max_new_tokens]`` float64, what each row draws at each step.
    """

    def __init__(self, model: SubjectModel, requests: list[GenerationRequest], decoding: Decoding, use_cache: bool) -> None:
        self.model, self.requests, self.decoding, self.use_cache = model, requests, decoding, use_cache
        self.tokens, self.real = _pad_left([request.prompt_ids for request in requests], model)
        self.prompt_width = self.tokens.shape[1]
        draws = np.stack([rng(request.seed, "sampling", request.id).random(decoding.max_new_tokens) for request in requests])
        self.uniforms = torch.from_numpy(draws).to("cpu" if model.device.type == "mps" else model.device)  # MPS knows no float64
        self._cache: Any = None
        self._placed: dict[int, list[_Placed]] | None = None
        self._accepted = frozenset(inspect.signature(model.hf.forward).parameters)

    @property
    def n_new(self) -> int:
        """Tokens generated so far, the same in all open rows."""
        return self.tokens.shape[1] - self.prompt_width

    def advance(self) -> list[Generated]:
        """Decode until a row ends, and take those that have ended out of the batch."""
        # no_grad, not inference_mode: what a model caches in a forward pass must stay usable in training.
        with fast_decoding(self.model.hf), torch.no_grad():
            ended: list[Generated] = []
            while not ended:
                ended = self._step()
            return ended

    def _step(self) -> list[Generated]:
        """One token more in every row; answers what ended by it."""
        chosen = self._choose(self._forward())
        self.tokens = torch.cat([self.tokens, chosen[:, None]], dim=1)
        self.real = torch.cat([self.real, torch.ones_like(chosen[:, None], dtype=torch.bool)], dim=1)
        stopped = [token in self.model.eos_ids for token in chosen.tolist()]
        full = self.n_new == self.decoding.max_new_tokens
        if not full and not any(stopped):
            return []
        ended, keep = [], []
        for row, ids in enumerate(self.tokens[:, self.prompt_width :].tolist()):
            if stopped[row]:
                ended.append(self._text(row, ids[:-1], "eos"))
            elif full:
                ended.append(self._text(row, ids, "length"))
            else:
                keep.append(row)
        self._keep(keep)
        return ended

    def _text(self, row: int, ids: list[int], finish: FinishReason) -> Generated:
        return Generated(self.requests[row].id, tuple(ids), self.model.decode(ids), finish)

    def _keep(self, rows: list[int]) -> None:
        """Go on with these rows only. The requests come last: whatever fails before, no row is lost."""
        if rows:
            index = torch.tensor(rows, device=self.tokens.device)
            self.tokens, self.real = self.tokens[index], self.real[index]
            self.uniforms = self.uniforms[index.to(self.uniforms.device)]
            if self._cache is not None:
                self._cache.batch_select_indices(index)
        self._placed = None
        self.requests = [self.requests[row] for row in rows]

    def _forward(self) -> Tensor:
        """Logits of the next token, ``[rows, vocabulary]`` float32."""
        width = 1 if self.use_cache and self.n_new else self.tokens.shape[1]
        arguments: dict[str, Any] = {
            "input_ids": self.tokens[:, -width:],
            "attention_mask": self.real.long(),
            "use_cache": self.use_cache,
        }
        if "position_ids" in self._accepted:
            arguments["position_ids"] = (self.real.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]
        if "logits_to_keep" in self._accepted:
            arguments["logits_to_keep"] = 1
        if self.use_cache:
            arguments["past_key_values"] = self._cache
        with self._edited(width), _contiguous_head(self.model):
            output = self.model.hf(**arguments)
        self._cache = output.past_key_values if self.use_cache else None
        return output.logits[:, -1].float()  # type: ignore[no-any-return]

    def _choose(self, logits: Tensor) -> Tensor:
        """The next token of each row, ``[rows]``. May write into ``logits``."""
        decoding, step = self.decoding, self.n_new
        if not bool(logits.amax(dim=-1).isfinite().all()):  # the maximum of a row with a NaN is NaN
            row = int(logits.amax(dim=-1).isfinite().int().argmin())
            raise EngineError(
                f"the logits of request {self.requests[row].id} are no finite numbers at new token {step + 1}; "
                f"its edits are too strong for {self.model.dtype}: use weaker ones, or --dtype float32"
            )
        if decoding.repetition_penalty != 1.0:
            start = 0 if decoding.penalty_scope == "all" else self.prompt_width
            seen = torch.where(self.real[:, start:], self.tokens[:, start:], -1)
            logits = penalise(logits, seen, decoding.repetition_penalty)
        if step < decoding.min_new_tokens and self.model.eos_ids:
            logits[:, sorted(self.model.eos_ids)] = float("-inf")
        uniforms = self.uniforms[:, step]
        return choose(logits.to(uniforms.device), uniforms, decoding.temperature, decoding.top_p).to(logits.device)

    @contextmanager
    def _edited(self, width: int) -> Iterator[None]:
        """Within the context the layers' output for the last ``width`` columns is edited; the hooks are gone afterwards, come what may."""
        if self._placed is None:
            self._placed = _place(self.requests, self.model.device)
        handles = []
        try:
            if self._placed:
                columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
                count = self.real.cumsum(dim=1)
                context = EditContext(
                    real=self.real[:, -width:],
                    generated=(columns >= self.prompt_width).expand_as(self.real)[:, -width:],
                    first=(self.real & (count == 1))[:, -width:],
                    place=(count - 1)[:, -width:],
                    to_end=(self.prompt_width - 1 - columns).expand_as(self.real)[:, -width:],  # prompts end at one column: padding is left
                )
                has_prompt = width > self.n_new
                for layer, edits in self._placed.items():
                    acting = [edit for edit in edits if edit.acts_on(has_prompt, self.n_new > 0)]
                    if acting:
                        handles.append(self.model.layers[layer].register_forward_hook(_edit_hook(acting, context)))
            yield
        finally:
            for handle in handles:
                handle.remove()


@contextmanager
def _contiguous_head(model: SubjectModel) -> Iterator[None]:
    """Within the context the unembedding gets contiguous vectors.

    The last token of each row, cut out of a whole prompt, is a view with gaps; torch multiplies such a view row by row, with a copy of the
    whole unembedding for each row: two thirds of the time of 40 new tokens (SmolLM2, 64 rows).
    """
    head = model.hf.get_output_embeddings()
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda module, arguments: (arguments[0].contiguous(), *arguments[1:]))
    try:
        yield
    finally:
        handle.remove()


def _pad_left(prompts: Sequence[Sequence[int]], model: SubjectModel) -> tuple[Tensor, Tensor]:
    """Tokens ``[rows, width]`` of the prompts, padding on the left, and which of them are real; on the model's device."""
    width = max(len(prompt) for prompt in prompts)
    tokens = torch.full((len(prompts), width), model.pad_id, dtype=torch.long)
    real = torch.zeros(tokens.shape, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        tokens[row, width - len(prompt) :] = torch.tensor(list(prompt))
        real[row, width - len(prompt) :] = True
    return tokens.to(model.device), real.to(model.device)


# --------------------------------------------------------------------------------------------------------------------------- edits


@dataclass
class _Placed:
    """Edits of one key, of several rows of a batch, stacked. ``rows`` are their places in the batch, None for all of it."""

    name: str
    positions: Positions
    stacked: StackedEdit
    rows: Tensor | None

    def acts_on(self, prompt: bool, generated: bool) -> bool:
        """Whether these edits touch any token of a forward pass over tokens of the prompt, generated ones, or both."""
        return (prompt and self.positions.in_prompt) or (generated and self.positions.generated)

    def apply(self, x: Tensor, context: EditContext) -> Tensor:
        """The residual stream ``[batch, tokens, d_model]`` with the edits; tokens and rows that they do not touch keep their very values."""
        if self.rows is None:
            return self._edit(x, context)
        own = context.rows(self.rows)
        return x.index_copy(0, self.rows, self._edit(x[self.rows], own))

    def _edit(self, x: Tensor, context: EditContext) -> Tensor:
        edited = self.stacked.apply(x.float(), context)
        if edited.shape != x.shape:
            raise EngineError(
                f"{self.name} made a residual stream of shape {tuple(edited.shape)} of {tuple(x.shape)}; an edit must keep it"
            )
        return torch.where(context.touched(self.positions)[..., None], edited.to(x.dtype), x)


def _place(requests: Sequence[GenerationRequest], device: torch.device) -> dict[int, list[_Placed]]:
    """The edits at each layer, in the order in which they are applied.

    Stacked together are those of one key that stand at one place of their rows' edits; edits at one place belong to different rows, so going
    place by place keeps each row's own order, whatever the order in other rows.
    """
    members: dict[tuple[int, str], tuple[list[int], list[Edit]]] = {}
    for row, request in enumerate(requests):
        for place, edit in enumerate(request.edits):
            rows, edits = members.setdefault((place, edit.batch_key), ([], []))
            rows.append(row)
            edits.append(edit)
    by_layer: dict[int, list[_Placed]] = {}
    for _, (rows, edits) in sorted(members.items(), key=lambda item: item[0][0]):
        edit = edits[0]
        index = None if len(rows) == len(requests) else torch.tensor(rows, device=device)
        placed = _Placed(type(edit).__name__, edit.positions, edit.stack(edits, device), index)
        for site in edit.sites:
            by_layer.setdefault(site.layer, []).append(placed)
    return by_layer


def _edit_hook(edits: Sequence[_Placed], context: EditContext) -> Callable[[torch.nn.Module, Any, Any], Any]:
    def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
        x = hidden_of(output)
        for edit in edits:
            x = edit.apply(x, context)
        return with_hidden(output, x)

    return hook
