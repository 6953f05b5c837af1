"""Steered generation: one batch mixes prompts, edits and strengths row by row; a row's text does not depend on its neighbours.

Hooks on the decoder layers, explicit positions; how rows are padded, and what is handed on from token to token, is found for each model by
:mod:`harness.engine.plan` (left padding and a cache, where that is right). Rows that have ended leave the batch, and requests of their chunk take
their places (:mod:`harness.engine.flow`). Each request draws from (seed, "sampling", id), so batch size, order and restarts change nothing.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import ceil

from torch import Tensor, stack

from harness.engine.base import Chunk, Generated, GenerationRequest, check_edit, check_requests, engine_version
from harness.engine.batch import Batch, Told
from harness.engine.flow import Flow
from harness.engine.forward import logits
from harness.engine.placing import Hooked, Reading, why_not
from harness.engine.plan import can_join, can_settle, can_share, plan_for
from harness.engine.rows import WHOLE, DecodingPlan
from harness.engine.sampling import check_decoding
from harness.engine.shared import Common, Sharing, last_common_layer
from harness.engine.sizing import CHUNK, rows_of, usual_rows
from harness.errors import EngineError
from harness.interventions import Edit
from harness.model.activations import Row
from harness.model.adapters import Adapter, Adapters
from harness.model.loading import SubjectModel
from harness.model.memory import Budget, TokenBudget
from harness.types import Decoding, Json

logger = logging.getLogger(__name__)


class TorchEngine:
    """Generates in this process with the transformers model itself. Implements :class:`harness.engine.base.Engine`.

    Between two texts the model is as it was found (no hooks, no adapter, its own attention, gradients as the caller has them), so it may be used
    for something else, and the iteration may be given up at any point.

    Args:
        model: the subject model.
        batch_size: rows decoded together, of long texts fewer (:func:`harness.engine.sizing.rows_of`); None takes
            :func:`harness.engine.sizing.usual_rows`. Halved where memory runs out, for all that follows (texts that have ended are not made again).
        use_cache: False recomputes the whole sequence at every step (for tests: the same tokens, slowly).

    Raises:
        EngineError: a batch size below 1.
    """

    name = "torch"
    version = engine_version("torch")

    def __init__(self, model: SubjectModel, *, batch_size: int | None = None, use_cache: bool = True) -> None:
        self.model = model
        self._use_cache, self._adapters = use_cache, Adapters(model)
        self._batch_size: int | None = None
        if batch_size is not None:
            self.batch_size = batch_size
        self._reading: Reading = Hooked(model)

    @property
    def batch_size(self) -> int:
        """Rows decoded together. Found when first asked for: before, nothing is known of a device's memory."""
        if self._batch_size is None:
            self._batch_size = usual_rows(self.model)
        return self._batch_size

    @batch_size.setter
    def batch_size(self, rows: int) -> None:
        if not isinstance(rows, int) or isinstance(rows, bool) or rows < 1:
            raise EngineError(f"batch_size is {rows!r}", given=rows, allowed="at least 1")
        self._batch_size = rows

    @property
    def settings(self) -> dict[str, Json]:
        """Return how another process opens an engine like this one, see :class:`harness.engine.spreading.recipe.Portable`."""
        return {"batch_size": self.batch_size, "use_cache": self._use_cache}

    def refuses(self, edit: Edit) -> str | None:
        """Return why the edit cannot be placed: the layer does not exist, or its attention and its MLP cannot be told apart; None where it can."""
        return why_not(self.model, edit)

    def chunks(self, requests: Chunk) -> list[list[GenerationRequest]]:
        """Return parts of at most :data:`CHUNK` requests of one adapter, in the order in which they were given, all of about one size."""
        return [part for group in _by_adapter(requests).values() for part in _parts(group)]

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

        See :meth:`harness.engine.base.Engine.step_logits`. The batch has half as many places as there are requests, so that some join it later.
        """
        longest = Decoding(max_new_tokens=max((len(new[request.id]) for request in requests), default=1))
        self._check(requests, longest)
        return self._told(requests, longest, Told(new), self._plan() if requests else WHOLE)

    def _told(self, requests: Chunk, decoding: Decoding, told: Told, plan: DecodingPlan) -> Iterator[tuple[str, Tensor]]:
        for group in _by_adapter(requests).values():
            for text in self._flow(group, decoding, plan, Budget(ceil(len(group) / 2)), told).texts():
                yield text.id, stack(told.seen.pop(text.id))

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
        for group in _by_adapter(requests).values():
            rows = rows_of(_columns(group, decoding), self.batch_size)
            budget = Budget(rows)
            try:
                yield from self._flow(group, decoding, plan, budget).texts()
            finally:
                if budget.size < rows:
                    logger.warning("memory ran out: %d rows are decoded together from now on, not %d", budget.size, rows)
                    self.batch_size = budget.size

    def _flow(self, group: Chunk, decoding: Decoding, plan: DecodingPlan, budget: Budget, told: Told | None = None) -> Flow:
        """Return how requests of one adapter are decoded."""
        folder = group[0].adapter
        adapter = None if folder is None else self._adapters.get(folder)

        def begin(requests: list[GenerationRequest], common: Common | None) -> Batch:
            return Batch(self.model, requests, decoding, plan, adapter, self._reading, told, common)

        joins = plan.cache and can_join(self.model)
        sharing = self._sharing(group, plan, adapter)
        settles = joins and can_settle(self.model)
        return Flow(group, begin, plan, sharing, joins, settles, budget, self.model.device, _columns(group, decoding))

    def _sharing(self, group: Chunk, plan: DecodingPlan, adapter: Adapter | None) -> Sharing:
        after = last_common_layer(self.model, [site for request in group for edit in request.edits for site in edit.sites])
        possible = self._reading.shares and plan == DecodingPlan()
        able = partial(can_share, self.model, after)
        return Sharing(self.model, after if possible else -1, able, adapter, TokenBudget.usual(self.model.device).size)


def _columns(group: Chunk, decoding: Decoding) -> int:
    """Return the tokens of the longest text there may be, prompt and answer."""
    return max(len(request.prompt_ids) for request in group) + decoding.max_new_tokens


def _parts(group: Sequence[GenerationRequest]) -> Iterator[list[GenerationRequest]]:
    n = ceil(len(group) / CHUNK)
    edges = [len(group) * place // n for place in range(n + 1)]
    return (list(group[start:end]) for start, end in itertools.pairwise(edges))


def _by_adapter(requests: Chunk) -> dict[str | None, list[GenerationRequest]]:
    """Return the requests of each adapter, in their order; those without one among them under None."""
    groups: dict[str | None, list[GenerationRequest]] = {}
    for request in requests:
        groups.setdefault(request.adapter, []).append(request)
    return groups


def check_prompts(model: SubjectModel, requests: Chunk, decoding: Decoding) -> None:
    """Look whether prompts can be read, and gone on with.

    Raises:
        EngineError: a prompt is empty, or leaves no room for the new tokens; or no prompt would.
        ModelError: a token that the model does not know.
    """
    room = None if model.max_tokens is None else model.max_tokens - decoding.max_new_tokens + 1  # the last new token is never read
    if requests and room is not None and room < 1:
        message = f"{model.name} reads {model.max_tokens} tokens, a prompt of at least one included, and max_new_tokens is {decoding.max_new_tokens}"
        hint = "generate fewer tokens, or use another model"
        raise EngineError(message, given=decoding.max_new_tokens, allowed=f"at most {model.max_tokens} new tokens", hint=hint)
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
