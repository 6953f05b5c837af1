"""Steered generation: one batch mixes prompts, edits and strengths row by row; a row's text does not depend on its neighbours.

Left padding, explicit positions, KV cache, hooks on the decoder layers. Requests are sorted by prompt length into batches; rows that have
ended leave the batch. Each request draws from (seed, "sampling", id), so batch size, order and restarts change nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts import Edit, EditContext, Positions, StackedEdit
from harness.errors import EngineError
from harness.lm.attention import fast_decoding
from harness.lm.model import SubjectModel, hidden_of, with_hidden
from harness.lm.sampling import check_decoding, choose, penalise
from harness.types import Decoding, FinishReason, rng

DEFAULT_BATCH = 64


@dataclass(frozen=True)
class GenerationRequest:
    """One text to generate: ``id`` and ``seed`` determine its random draws, ``prompt_ids`` is the whole prompt as token ids."""

    id: str
    prompt_ids: Sequence[int]
    seed: int
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Generated:
    """What came out: the new tokens without the end-of-sequence token, and their text."""

    id: str
    token_ids: tuple[int, ...]
    text: str
    finish: FinishReason

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)


def generate(
    model: SubjectModel,
    requests: Sequence[GenerationRequest],
    decoding: Decoding,
    *,
    batch_size: int = DEFAULT_BATCH,
    use_cache: bool = True,
) -> Iterator[Generated]:
    """Generate a text for each request, in any order, each as soon as it has ended.

    Args:
        model: the subject model.
        requests: what to generate; ids must be unique.
        decoding: the same for every request.
        batch_size: rows decoded together; halved where memory runs out.
        use_cache: False recomputes the whole sequence at every step (for tests: the same tokens, slowly).

    Raises:
        EngineError: a decoding option out of bounds, a repeated id, an empty prompt, or an edit that this engine cannot place.
    """
    check_decoding(decoding)
    _check_requests(model, requests)
    ordered = sorted(requests, key=lambda request: len(request.prompt_ids))
    pending = [ordered[i : i + batch_size] for i in range(0, len(ordered), batch_size)]
    with fast_decoding(model.hf), torch.inference_mode():
        while pending:
            batch = pending.pop(0)
            try:
                yield from _Batch(model, batch, decoding, use_cache).run()
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise EngineError(
                        f"out of memory on {model.device} with a single prompt of {len(batch[0].prompt_ids)} tokens; "
                        "use a smaller model, a smaller dtype or another --device"
                    ) from None
                half = len(batch) // 2
                pending[:0] = [batch[:half], batch[half:]]
                torch.cuda.empty_cache()


def _check_requests(model: SubjectModel, requests: Sequence[GenerationRequest]) -> None:
    if len({request.id for request in requests}) != len(requests):
        raise EngineError("two generation requests have one id; ids must be unique, since they determine the random draws")
    for request in requests:
        if not request.prompt_ids:
            raise EngineError(f"request {request.id} has an empty prompt; give at least one token")
        for edit in request.edits:
            for site in edit.sites:
                if not 0 <= site.layer < len(model.layers):
                    raise EngineError(
                        f"{type(edit).__name__} edits {site}, but {model.name} has layers 0 to {len(model.layers) - 1}; choose one of these"
                    )


@dataclass
class _EditGroup:
    """The rows of a batch that share one edit key, stacked."""

    positions: Positions
    stacked: StackedEdit
    rows: Tensor
    everywhere: bool


@dataclass
class _Batch:
    """One batch on its way. Tensors hold the rows that are still open; ``open`` are their places in ``requests``."""

    model: SubjectModel
    requests: Sequence[GenerationRequest]
    decoding: Decoding
    use_cache: bool
    open: list[int] = field(default_factory=list)
    new: list[list[int]] = field(default_factory=list)

    def run(self) -> Iterator[Generated]:
        self.open = list(range(len(self.requests)))
        self.new = [[] for _ in self.requests]
        draws = [rng(r.seed, "sampling", r.id).random(self.decoding.max_new_tokens) for r in self.requests]
        uniforms = torch.from_numpy(np.stack(draws)).to(self.model.device if self.model.device.type != "mps" else "cpu")
        tokens, real = self._prompt()
        prompt_width, cache = tokens.shape[1], None
        step_tokens = tokens
        for step in range(self.decoding.max_new_tokens):
            feed = step_tokens if self.use_cache else tokens
            with self._hooks(feed.shape[1], real, prompt_width):
                logits, cache = self._forward(feed, real, cache)
            chosen = self._choose(logits, tokens, real, prompt_width, uniforms[self.open, step], step)
            keep, ended = self._record(chosen.tolist())
            yield from ended
            if not keep:
                return
            tokens = torch.cat([tokens, chosen[:, None]], dim=1)
            real = torch.cat([real, torch.ones_like(chosen[:, None], dtype=torch.bool)], dim=1)
            if len(keep) < len(self.open):
                index = torch.tensor(keep, device=tokens.device)
                tokens, real, chosen = tokens[index], real[index], chosen[index]
                if cache is not None:
                    cache.batch_select_indices(index)
                self.open = [self.open[row] for row in keep]
            step_tokens = chosen[:, None]
        for row in self.open:
            yield self._finish(row, "length")

    def _prompt(self) -> tuple[Tensor, Tensor]:
        """Prompts padded on the left: tokens ``[rows, width]`` and which of them are real."""
        width = max(len(request.prompt_ids) for request in self.requests)
        tokens = torch.full((len(self.requests), width), self.model.pad_id, dtype=torch.long)
        real = torch.zeros(tokens.shape, dtype=torch.bool)
        for row, request in enumerate(self.requests):
            tokens[row, width - len(request.prompt_ids) :] = torch.tensor(list(request.prompt_ids))
            real[row, width - len(request.prompt_ids) :] = True
        return tokens.to(self.model.device), real.to(self.model.device)

    def _forward(self, feed: Tensor, real: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Logits of the last position, ``[rows, vocabulary]`` float32, and the cache."""
        accepted = _forward_arguments(self.model.hf)
        positions = (real.long().cumsum(dim=1) - 1).clamp(min=0)[:, -feed.shape[1] :]
        arguments: dict[str, Any] = {"input_ids": feed, "attention_mask": real.long(), "use_cache": self.use_cache}
        if "position_ids" in accepted:
            arguments["position_ids"] = positions
        if "logits_to_keep" in accepted:
            arguments["logits_to_keep"] = 1
        if self.use_cache:
            arguments["past_key_values"] = cache
        output = self.model.hf(**arguments)
        return output.logits[:, -1].float(), output.past_key_values if self.use_cache else None

    def _choose(self, logits: Tensor, tokens: Tensor, real: Tensor, prompt_width: int, uniforms: Tensor, step: int) -> Tensor:
        decoding = self.decoding
        if decoding.repetition_penalty != 1.0:
            start = 0 if decoding.penalty_scope == "all" else prompt_width
            seen = torch.where(real[:, start:], tokens[:, start:], -1)
            logits = penalise(logits, seen, decoding.repetition_penalty)
        if step < decoding.min_new_tokens and self.model.eos_ids:
            logits[:, sorted(self.model.eos_ids)] = float("-inf")
        return choose(logits, uniforms, decoding.temperature, decoding.top_p)

    def _record(self, chosen: list[int]) -> tuple[list[int], list[Generated]]:
        """Append the chosen tokens; answers the batch rows that go on, and the texts that ended."""
        keep, ended = [], []
        for row, token in enumerate(chosen):
            place = self.open[row]
            if token in self.model.eos_ids:
                ended.append(self._finish(place, "eos"))
            else:
                self.new[place].append(token)
                keep.append(row)
        return keep, ended

    def _finish(self, place: int, finish: FinishReason) -> Generated:
        ids = tuple(self.new[place])
        return Generated(self.requests[place].id, ids, self.model.decode(list(ids)), finish)

    @contextmanager
    def _hooks(self, width: int, real: Tensor, prompt_width: int) -> Iterator[None]:
        """Within the context, the layers that are edited pass their output through the edits; the hooks are gone afterwards, come what may."""
        by_layer = self._groups()
        if not by_layer:
            yield
            return
        columns = torch.arange(real.shape[1], device=real.device)
        context = EditContext(
            real=real[:, -width:],
            generated=(columns >= prompt_width).expand_as(real)[:, -width:],
            first=(real & (real.long().cumsum(dim=1) == 1))[:, -width:],
        )
        handles = []
        try:
            for layer, groups in by_layer.items():
                handles.append(self.model.layers[layer].register_forward_hook(_edit_hook(groups, context)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _groups(self) -> dict[int, list[_EditGroup]]:
        """The open rows' edits by layer, those with one key stacked. Rebuilt only when rows have left."""
        if getattr(self, "_grouped_for", None) == self.open:
            return self._grouped
        members: dict[tuple[int, str], tuple[list[int], list[Edit]]] = {}
        for row, place in enumerate(self.open):
            occurrence: dict[str, int] = {}
            for edit in self.requests[place].edits:
                # A row with two edits of one key has them applied one after the other.
                turn = occurrence[edit.batch_key] = occurrence.get(edit.batch_key, -1) + 1
                rows, edits = members.setdefault((turn, edit.batch_key), ([], []))
                rows.append(row)
                edits.append(edit)
        by_layer: dict[int, list[_EditGroup]] = {}
        for rows, edits in members.values():
            index = torch.tensor(rows, device=self.model.device)
            group = _EditGroup(edits[0].positions, edits[0].stack(edits, self.model.device), index, len(rows) == len(self.open))
            for site in edits[0].sites:
                by_layer.setdefault(site.layer, []).append(group)
        self._grouped, self._grouped_for = by_layer, list(self.open)
        return by_layer


def _edit_hook(groups: Iterable[_EditGroup], context: EditContext) -> Any:
    def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
        hidden = hidden_of(output)
        for group in groups:
            ctx = context
            rows = hidden
            if not group.everywhere:
                rows = hidden[group.rows]
                ctx = EditContext(context.real[group.rows], context.generated[group.rows], context.first[group.rows])
            where = _touched(group.positions, ctx)
            edited = torch.where(where[..., None], group.stacked.apply(rows.float(), ctx).to(rows.dtype), rows)
            hidden = edited if group.everywhere else hidden.index_copy(0, group.rows, edited)
        return with_hidden(output, hidden)

    return hook


def _touched(positions: Positions, ctx: EditContext) -> Tensor:
    """``[rows, tokens]``: the tokens that an edit with these positions touches."""
    touched = torch.zeros_like(ctx.real)
    if positions.prompt:
        touched = touched | ~ctx.generated
    if positions.generated:
        touched = touched | ctx.generated
    touched = touched & ctx.real
    return touched if positions.first_token else touched & ~ctx.first


def _forward_arguments(hf: Any) -> frozenset[str]:
    return frozenset(inspect.signature(hf.forward).parameters)
