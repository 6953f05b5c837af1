"""Steered generation: one batch mixes prompts, edits and strengths row by row; a row's text does not depend on its neighbours.

Hooks on the decoder layers, explicit positions; how rows are padded, and what is handed on from token to token, is found for each model by
:mod:`harness.engine.plan` (left padding and a cache, where that is right). Requests of similar prompt length share a batch; rows that have ended
leave it. Each request draws from (seed, "sampling", id), so batch size, order and restarts change nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, stack

from harness.engine.base import Chunk, Generated, GenerationRequest, check_edit, check_requests, engine_version
from harness.engine.batch import Batch
from harness.engine.forward import logits
from harness.engine.placing import Hooked, Reading, why_not
from harness.engine.plan import plan_for
from harness.engine.rows import WHOLE, DecodingPlan
from harness.engine.sampling import check_decoding
from harness.errors import EngineError
from harness.interventions import Edit
from harness.model.activations import Row
from harness.model.adapters import Adapter, Adapters
from harness.model.loading import SubjectModel
from harness.model.memory import Budget, attempt, release
from harness.types import Decoding, Json

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
    version = engine_version("torch")

    def __init__(self, model: SubjectModel, *, batch_size: int = DEFAULT_BATCH, use_cache: bool = True) -> None:
        if batch_size < 1:
            raise EngineError(f"batch_size is {batch_size}", given=batch_size, allowed="at least 1")
        self.model = model
        self._batch_size, self._use_cache, self._adapters = batch_size, use_cache, Adapters(model)
        self._reading: Reading = Hooked(model)

    @property
    def settings(self) -> dict[str, Json]:
        """Return how another process opens an engine like this one, see :class:`harness.engine.spreading.recipe.Portable`."""
        return {"batch_size": self._batch_size, "use_cache": self._use_cache}

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
        self._check(requests, decoding)
        return self._run(requests, decoding, self._plan() if requests else WHOLE)

    def step_logits(self, requests: Chunk, new: Mapping[str, Sequence[int]]) -> Iterator[tuple[str, Tensor]]:
        """Return each request's id and the logits before each of the new tokens that it is told, by the very batches of :meth:`run`.

        See :meth:`harness.engine.base.Engine.step_logits`; all rows of an adapter are one batch, so memory must suffice for it.
        """
        longest = Decoding(max_new_tokens=max((len(new[request.id]) for request in requests), default=1))
        self._check(requests, longest)
        return self._told(requests, longest, new, self._plan() if requests else WHOLE)

    def _told(self, requests: Chunk, decoding: Decoding, new: Mapping[str, Sequence[int]], plan: DecodingPlan) -> Iterator[tuple[str, Tensor]]:
        for folder, group in _by_adapter(requests).items():
            adapter, waiting = None if folder is None else self._adapters.get(folder), _longest_first(group)
            while waiting:
                size = alike(waiting, plan)
                batch = Batch(self.model, waiting[:size], decoding, plan, adapter, self._reading, new)
                del waiting[:size]
                while batch.requests:
                    for text in batch.advance():
                        yield text.id, stack(batch.seen.pop(text.id))

    def _check(self, requests: Chunk, decoding: Decoding) -> None:
        check_decoding(decoding)
        check_requests(self, requests)
        check_prompts(self.model, requests, decoding)
        for folder in {request.adapter for request in requests if request.adapter is not None}:
            self._adapters.check(folder)

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
        return logits(self.model, texts, edits, None if adapter is None else self._adapters.get(adapter), self._reading)

    def _plan(self) -> DecodingPlan:
        plan = plan_for(self.model)
        return plan if self._use_cache else replace(plan, cache=False)

    def _run(self, requests: Chunk, decoding: Decoding, plan: DecodingPlan) -> Iterator[Generated]:
        rows = Budget(self._batch_size)
        for folder, group in _by_adapter(requests).items():
            yield from self._decode(group, None if folder is None else self._adapters.get(folder), decoding, plan, rows)

    def _decode(self, group: Chunk, adapter: Adapter | None, decoding: Decoding, plan: DecodingPlan, rows: Budget) -> Iterator[Generated]:
        # Longest prompts first: a batch size that suffices for them suffices for all that follow.
        waiting, device = _longest_first(group), self.model.device
        while waiting:
            size = rows.take(alike(waiting, plan))
            batch = Batch(self.model, waiting[:size], decoding, plan, adapter, self._reading)
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


def _longest_first(group: Chunk) -> list[GenerationRequest]:
    return sorted(group, key=lambda request: -len(request.prompt_ids))


def alike(waiting: Chunk, plan: DecodingPlan) -> int:
    """How many of the requests, from the first on, may share a batch."""
    if not plan.together:
        return 1
    if plan.padding != "none":
        return len(waiting)
    length = len(waiting[0].prompt_ids)
    return next((place for place, request in enumerate(waiting) if len(request.prompt_ids) != length), len(waiting))


def check_prompts(model: SubjectModel, requests: Chunk, decoding: Decoding) -> None:
    """Raise EngineError for an empty prompt or one that leaves no room for the new tokens, ModelError for a token that the model does not know."""
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
