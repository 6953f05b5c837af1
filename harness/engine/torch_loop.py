"""Steered generation: one batch mixes prompts, edits and strengths row by row; a row's text does not depend on its neighbours.

Hooks on the decoder layers, explicit positions; how rows are padded, and what is handed on from token to token, is found for each model by
:mod:`harness.engine.plan` (left padding and a cache, where that is right). Requests of similar prompt length share a batch; rows that have ended
leave it. Each request draws from (seed, "sampling", id), so batch size, order and restarts change nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.engine.base import VERSIONS, Chunk, Generated, GenerationRequest, check_edit, check_requests
from harness.engine.forward import logits
from harness.engine.placing import Placed, edited, place, why_not
from harness.engine.plan import can_share, plan_for
from harness.engine.rows import WHOLE, DecodingPlan, Rows, View
from harness.engine.sampling import check_decoding, choose, penalise
from harness.engine.shared import last_common_layer, prompts_once
from harness.errors import EngineError
from harness.interventions import Edit, EditContext, Site
from harness.model.activations import Row
from harness.model.adapters import Adapter, Adapters
from harness.model.attention import fast_decoding
from harness.model.loading import SubjectModel
from harness.model.memory import Budget, attempt, release
from harness.types import Decoding, FinishReason, rng

DEFAULT_BATCH = 128
_MOMENTS = itertools.count()
"""Numbers the steps by which texts end."""


class TorchEngine:
    """Generates in this process with the transformers model itself. Implements :class:`harness.engine.base.Engine`.

    Between two texts the model is as it was found (no hooks, no adapter, its own attention, gradients as the caller has them), so it may be used
    for something else, and the iteration may be given up at any point.

    Args:
        model: the subject model.
        batch_size: rows decoded together; halved within a call where memory runs out (texts that have ended are not made again).
        use_cache: False recomputes the whole sequence at every step (for tests: the same tokens, slowly).

    Raises:
        EngineError: a batch size below 1.
    """

    name = "torch"
    version = VERSIONS["torch"]

    def __init__(self, model: SubjectModel, *, batch_size: int = DEFAULT_BATCH, use_cache: bool = True) -> None:
        if batch_size < 1:
            raise EngineError(f"batch_size is {batch_size}", given=batch_size, allowed="at least 1")
        self.model = model
        self._batch_size, self._use_cache, self._adapters = batch_size, use_cache, Adapters(model)

    def refuses(self, edit: Edit) -> str | None:
        """Return why the edit cannot be placed: the layer does not exist, or its attention and its MLP cannot be told apart; None where it can."""
        return why_not(self.model, edit)

    def chunks(self, requests: Chunk) -> list[list[GenerationRequest]]:
        """Return the batches: requests of one adapter and of similar prompt length, the shortest first."""
        return [
            group[start : start + self._batch_size]
            for group in _by_adapter(sorted(requests, key=lambda request: len(request.prompt_ids))).values()
            for start in range(0, len(group), self._batch_size)
        ]

    def run(self, requests: Chunk, decoding: Decoding) -> Iterator[Generated]:
        """Return a text for each request, in any order, each as soon as it has ended.

        Raises:
            EngineError: at once, for an option out of bounds, a repeated id, an empty prompt, a prompt that leaves no room for the new tokens,
                an edit that cannot be placed, a folder that holds no adapter, or a model that cannot read a text; while iterating, for an
                adapter that does not fit the model, an edit that changes the shape of the stream, for logits that are not finite, and where a
                single row does not fit into memory.
            ModelError: at once, for a token that the model does not know.
        """
        check_decoding(decoding)
        check_requests(self, requests)
        _check_prompts(self.model, requests, decoding)
        for folder in {request.adapter for request in requests if request.adapter is not None}:
            self._adapters.check(folder)
        return self._run(requests, decoding, self._plan() if requests else WHOLE)

    def logits(self, texts: Sequence[Row], edits: Sequence[Edit] = (), adapter: str | None = None) -> Iterator[Tensor]:
        """Return for each text, in order, the logits at each of its tokens, by :func:`harness.engine.forward.logits`.

        Args:
            texts: token ids of each; to an edit they are prompts.
            edits: applied to every text.
            adapter: the folder of an adapter, or None.

        Raises:
            EngineError: at once, for an edit that cannot be placed or a folder that holds no adapter.
            DataError: at once, for an empty text, or one that is longer than the model's context.
        """
        for edit in edits:
            check_edit(self, edit)
        return logits(self.model, texts, edits, None if adapter is None else self._adapters.get(adapter))

    def _plan(self) -> DecodingPlan:
        plan = plan_for(self.model)
        return plan if self._use_cache else replace(plan, cache=False)

    def _run(self, requests: Chunk, decoding: Decoding, plan: DecodingPlan) -> Iterator[Generated]:
        rows = Budget(self._batch_size)
        for folder, group in _by_adapter(requests).items():
            yield from self._decode(group, None if folder is None else self._adapters.get(folder), decoding, plan, rows)

    def _decode(self, group: Chunk, adapter: Adapter | None, decoding: Decoding, plan: DecodingPlan, rows: Budget) -> Iterator[Generated]:
        # Longest prompts first: a batch size that suffices for them suffices for all that follow.
        waiting, device = sorted(group, key=lambda request: -len(request.prompt_ids)), self.model.device
        while waiting:
            size = rows.take(_alike(waiting, plan))
            batch = _Batch(self.model, waiting[:size], decoding, plan, adapter)
            del waiting[:size]
            while batch.requests and (ended := attempt(batch.advance, device)) is not None:
                moment = next(_MOMENTS)
                yield from (replace(text, moment=moment) for text in ended[0])
            left = batch.requests
            if not left:
                continue
            del batch  # its tensors, before the next one makes its own
            release(device)
            if len(left) == 1:
                length = len(left[0].prompt_ids)
                raise EngineError(
                    f"out of memory on {device} with a single prompt of {length} tokens",
                    given=length,
                    hint="use a smaller model, a smaller dtype or another --device",
                )
            rows.halve(len(left))
            waiting = left + waiting


def _by_adapter(requests: Chunk) -> dict[str | None, list[GenerationRequest]]:
    """Return the requests of each adapter, in their order; those without one among them under None."""
    groups: dict[str | None, list[GenerationRequest]] = {}
    for request in requests:
        groups.setdefault(request.adapter, []).append(request)
    return groups


def _alike(waiting: Chunk, plan: DecodingPlan) -> int:
    """How many of the requests, from the first on, may share a batch."""
    if not plan.together:
        return 1
    if plan.padding != "none":
        return len(waiting)
    length = len(waiting[0].prompt_ids)
    return next((place for place, request in enumerate(waiting) if len(request.prompt_ids) != length), len(waiting))


def _check_prompts(model: SubjectModel, requests: Chunk, decoding: Decoding) -> None:
    room = None if model.max_tokens is None else model.max_tokens - decoding.max_new_tokens + 1  # the last new token is never read
    for request in requests:
        length = len(request.prompt_ids)
        if not length:
            raise EngineError(f"request {request.id} has an empty prompt", given=request.id, allowed="at least one token")
        model.check_tokens(request.prompt_ids, f"request {request.id}")
        if room is not None and length > room:
            raise EngineError(
                f"request {request.id} has a prompt of {length} tokens",
                given=length,
                allowed=f"at most {room}, since {model.name} reads {model.max_tokens} tokens and max_new_tokens is {decoding.max_new_tokens}",
                hint="shorten the prompt or generate fewer tokens",
            )


class _Batch:
    """Requests that are decoded together.

    Attributes:
        requests: those whose texts have not ended, the open rows of the batch, in its order.
        uniforms: ``[open rows, max_new_tokens]`` float64, what each row draws at each step.
    """

    def __init__(
        self, model: SubjectModel, requests: list[GenerationRequest], decoding: Decoding, plan: DecodingPlan, adapter: Adapter | None
    ) -> None:
        self.model, self.requests, self.decoding, self._adapter = model, requests, decoding, adapter
        self._rows = Rows(model, [request.prompt_ids for request in requests], plan)
        self._members = list(requests)  # every row of the batch, ended ones that could not be taken out of it included
        draws = np.stack([rng(request.seed, "sampling", request.id).random(decoding.max_new_tokens) for request in requests])
        self.uniforms = torch.from_numpy(draws).to("cpu" if model.device.type == "mps" else model.device)  # MPS knows no float64
        self._placed: dict[Site, list[Placed]] | None = None

    def advance(self) -> list[Generated]:
        """Decode until a row ends, and take those that have ended out of the batch."""
        # no_grad, not inference_mode: what a model caches in a forward pass must stay usable in training.
        worn = nullcontext() if self._adapter is None else self._adapter.worn()
        with fast_decoding(self.model.hf), torch.no_grad(), worn:
            ended: list[Generated] = []
            while not ended:
                ended = self._step()
            return ended

    def _step(self) -> list[Generated]:
        """Adds one token to every open row and returns the texts that ended by it."""
        view = self._rows.view()
        with prompts_once(self._rows, view, self._common()) as read, self._edited(view):
            logits = self._rows.logits(read)
        chosen = self._choose(logits)
        self._rows.append(chosen)
        stopped = [token in self.model.eos_ids for token in chosen.tolist()]
        full = self._rows.n_new == self.decoding.max_new_tokens
        if not full and not any(stopped):
            return []
        ended, keep = [], []
        for row, ids in enumerate(self._rows.opened(self._rows.tokens)[:, self._rows.prompt_width :].tolist()):
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
        members = self._members
        if rows:
            left = self._rows.keep(rows)
            self.uniforms = self.uniforms[torch.tensor(rows, device=self.uniforms.device)]
            if left is not None:
                members, self._placed = [members[row] for row in left.tolist()], None
        self._members, self.requests = members, [self.requests[row] for row in rows]

    def _choose(self, logits: Tensor) -> Tensor:
        """The next token of each open row, ``[rows]``. May write into ``logits``."""
        decoding, step = self.decoding, self._rows.n_new
        if not bool(logits.amax(dim=-1).isfinite().all()):  # the maximum of a row with a NaN is NaN
            broken = self.requests[int(logits.amax(dim=-1).isfinite().int().argmin())].id
            raise EngineError(
                f"the logits of request {broken} are not finite at new token {step + 1}: its edits are too strong for {self.model.dtype}",
                given=broken,
                hint="use weaker edits, or --dtype float32",
            )
        if decoding.repetition_penalty != 1.0:
            start = 0 if decoding.penalty_scope == "all" else self._rows.prompt_width
            seen = torch.where(self._rows.real[:, start:], self._rows.tokens[:, start:], -1)
            logits = penalise(logits, self._rows.opened(seen), decoding.repetition_penalty)
        if step < decoding.min_new_tokens and self.model.eos_ids:
            logits[:, sorted(self.model.eos_ids)] = float("-inf")
        uniforms = self.uniforms[:, step]
        return choose(logits.to(uniforms.device), uniforms, decoding.temperature, decoding.top_p).to(logits.device)

    def _common(self) -> int:
        """Return the last layer in which rows of one prompt are the same; -1 where the model cannot be read so."""
        if self._rows.n_new or self._rows.plan != DecodingPlan() or not can_share(self.model):
            return -1
        return last_common_layer(self.model, [site for request in self.requests for edit in request.edits for site in edit.sites])

    def _edited(self, view: View) -> AbstractContextManager[None]:
        """Within the context the streams at the columns that are read are edited."""
        if self._placed is None:
            self._placed = place([request.edits for request in self._members], self.model.device)
        if not self._placed:
            return nullcontext()
        n_new = self._rows.n_new
        context = EditContext.of(view.real, view.generated).last(view.width)
        return edited(self.model, self._placed, context, prompt=view.width > n_new, generated=n_new > 0)
