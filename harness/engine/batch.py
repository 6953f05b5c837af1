"""Requests that are decoded together: a token for every open row at each step, by their draws or as they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor

from harness.engine.base import Generated, GenerationRequest
from harness.engine.placing import Placed, Reading, place
from harness.engine.plan import can_share
from harness.engine.rows import DecodingPlan, Rows, View
from harness.engine.sampling import choose, penalise
from harness.engine.shared import last_common_layer, prompts_once
from harness.engine.timing import CLOCK, PROMPTS, ROWS, SAMPLING, STEPS, TOKENIZER
from harness.errors import EngineError
from harness.interventions import EditContext, Site
from harness.model.adapters import Adapter
from harness.model.attention import fast_decoding
from harness.model.loading import SubjectModel
from harness.types import Decoding, FinishReason, rng


class Batch:
    """Requests that are decoded together.

    Attributes:
        requests: those whose texts have not ended, the open rows of the batch, in its order.
        uniforms: ``[open rows, max_new_tokens]`` float64, what each row draws at each step.
        seen: of rows that are told their tokens, the logits before each token so far, float32 ``[vocabulary]`` on the CPU.

    Args:
        model: the subject model.
        requests: the rows.
        decoding: the same for all.
        plan: how the model is decoded.
        adapter: that all rows wear, or None.
        reading: how streams are edited in a forward pass.
        told: the tokens that each request goes on with, by its id; None where they are drawn.
    """

    def __init__(
        self,
        model: SubjectModel,
        requests: list[GenerationRequest],
        decoding: Decoding,
        plan: DecodingPlan,
        adapter: Adapter | None,
        reading: Reading,
        told: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.model, self.requests, self.decoding, self._adapter, self._reading, self._told = model, requests, decoding, adapter, reading, told
        self.seen: dict[str, list[Tensor]] = {request.id: [] for request in requests}
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
        with CLOCK.part(STEPS if self._rows.n_new else PROMPTS, self.model.device, len(self.requests)):
            logits = self._logits(view)
        with CLOCK.part(SAMPLING):
            chosen = self._choose(logits) if self._told is None else self._follow(logits, self._told)
        self._rows.append(chosen)
        if self._told is None:
            stopped = [token in self.model.eos_ids for token in chosen.tolist()]
        else:
            stopped = [len(self._told[request.id]) == self._rows.n_new for request in self.requests]
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
        with CLOCK.part(ROWS):
            self._keep(keep)
        return ended

    def _text(self, row: int, ids: list[int], finish: FinishReason) -> Generated:
        with CLOCK.part(TOKENIZER):
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

    def _follow(self, logits: Tensor, told: Mapping[str, Sequence[int]]) -> Tensor:
        """The next token of each open row as it is told, ``[rows]``; what it would have been drawn from is kept."""
        step = self._rows.n_new
        for row, request in enumerate(self.requests):
            self.seen[request.id].append(logits[row].cpu())
        return torch.tensor([told[request.id][step] for request in self.requests], device=logits.device)

    def _logits(self, view: View) -> Tensor:
        """Logits of the next token of the open rows, ``[rows, vocabulary]`` float32, of a pass in which their streams are edited."""
        if self._placed is None:
            self._placed = place([request.edits for request in self._members], self.model.device)
        n_new = self._rows.n_new
        with prompts_once(self._rows, view, self._common()) as read:
            if not self._placed:
                return self._rows.logits(read)
            context = EditContext.of(view.real, view.generated).last(view.width)
            return self._reading.read(
                lambda: self._rows.logits(read), self._placed, context, prompt=view.width > n_new, generated=n_new > 0
            )

    def _common(self) -> int:
        """Return the last layer in which rows of one prompt are the same; -1 where the model cannot be read so."""
        if self._rows.n_new or not self._reading.shares or self._rows.plan != DecodingPlan() or not can_share(self.model):
            return -1
        return last_common_layer(self.model, [site for request in self.requests for edit in request.edits for site in edit.sites])
