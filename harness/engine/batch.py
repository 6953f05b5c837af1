"""Requests that are decoded together: a token for every open row at each step, by their draws or as they are told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from harness.engine.base import Generated, GenerationRequest
from harness.engine.placing import Placed, Reading, place
from harness.engine.rows import DecodingPlan, Rows, View
from harness.engine.sampling import choose, penalise
from harness.engine.shared import Common
from harness.engine.sizing import float_bytes
from harness.engine.timing import CLOCK, PROMPTS, ROWS, SAMPLING, STEPS, TOKENIZER
from harness.errors import EngineError
from harness.interventions import EditContext, Site
from harness.model.adapters import Adapter
from harness.model.attention import fast_decoding
from harness.model.loading import SubjectModel
from harness.model.products import turned_products
from harness.types import Decoding, FinishReason, rng


@dataclass(frozen=True)
class Told:
    """Tokens that rows are told in place of drawing them.

    Attributes:
        new: of each request, by its id, the tokens that it goes on with.
        seen: the logits before each of these so far, float32 ``[vocabulary]`` on the CPU; a request that is begun again has none.
    """

    new: Mapping[str, Sequence[int]]
    seen: dict[str, list[Tensor]] = field(default_factory=dict)


class Batch:
    """Requests that are decoded together.

    Attributes:
        requests: those whose texts have not ended, the open rows of the batch, in its order.
        uniforms: ``[open rows, max_new_tokens]`` float64, what each row draws at each step.

    Args:
        model: the subject model.
        requests: the rows.
        decoding: the same for all.
        plan: how the model is decoded.
        adapter: that all rows wear, or None.
        reading: how streams are edited in a forward pass.
        told: the tokens that each request goes on with; None where they are drawn.
        common: what the lower layers have read of the prompts, or None.
    """

    def __init__(
        self,
        model: SubjectModel,
        requests: list[GenerationRequest],
        decoding: Decoding,
        plan: DecodingPlan,
        adapter: Adapter | None,
        reading: Reading,
        told: Told | None = None,
        common: Common | None = None,
    ) -> None:
        self.model, self.requests, self.decoding, self._adapter, self._reading, self._told = model, requests, decoding, adapter, reading, told
        self._unread = common
        if told is not None:
            told.seen.update((request.id, []) for request in requests)
        self._rows = Rows(model, [request.prompt_ids for request in requests], plan)
        self._members = list(requests)  # every row of the batch, ended ones that could not be taken out of it included
        draws = np.stack([rng(request.seed, "sampling", request.id).random(decoding.max_new_tokens) for request in requests])
        self.uniforms = torch.from_numpy(draws).to("cpu" if model.device.type == "mps" else model.device)  # MPS knows no float64
        self._placed: dict[Site, list[Placed]] | None = None

    def advance(self, steps: int | None = None) -> list[Generated]:
        """Decode until a row ends, or so many steps, and take those that have ended out of the batch."""
        # no_grad, not inference_mode: what a model caches in a forward pass must stay usable in training.
        worn = nullcontext() if self._adapter is None else self._adapter.worn()
        with fast_decoding(self.model.hf), torch.no_grad(), worn, turned_products(self.model.hf):  # of what is worn, too
            ended: list[Generated] = []
            while not ended and steps != 0:
                ended, steps = self._step(), None if steps is None else steps - 1
            return ended

    def grow(self, rows: int, columns: int) -> None:
        """Make room for rows that come and go, see :meth:`harness.engine.rows.Rows.grow`; the prompts have been read."""
        self._rows.grow(rows, columns)

    def settle(self, rows: int, columns: int) -> None:
        """Make the same room before the prompts are read, see :meth:`harness.engine.rows.Rows.settle`."""
        self._rows.settle(rows, columns)

    def land(self, others: Batch) -> None:
        """Have what the prompts leave in the cache go to another batch at once, see :meth:`harness.engine.rows.Rows.land`."""
        self._rows.land(others._rows)

    def join(self, others: Batch) -> None:
        """Take in the rows of another batch, of the same adapter, after those that are here; the prompts of both have been read.

        Where memory runs out meanwhile, both batches are of no use but for their requests.
        """
        self._rows.join(others._rows)
        uniforms = torch.cat([self.uniforms, others.uniforms])
        self.uniforms, self._placed = uniforms, None
        self._members, self.requests = [*self._members, *others._members], [*self.requests, *others.requests]

    def _step(self) -> list[Generated]:
        """Adds one token to every open row and returns the texts that ended by it."""
        read = bool(min(self._rows.n_new))
        with CLOCK.part(STEPS if read else PROMPTS, self.model.device, len(self.requests)):
            logits = self._logits(self._rows.view())
        with CLOCK.part(SAMPLING):
            chosen = self._choose(logits) if self._told is None else self._follow(logits, self._told)
        self._rows.append(chosen)
        lengths = self._rows.n_new
        if self._told is None:
            stopped = [token in self.model.eos_ids for token in chosen.tolist()]
        else:
            stopped = [len(self._told.new[request.id]) == n for request, n in zip(self.requests, lengths, strict=True)]
        full = [n == self.decoding.max_new_tokens for n in lengths]
        ended: list[Generated] = []
        keep = []
        for row in range(len(self.requests)):
            if stopped[row]:
                ended.append(self._text(row, self._rows.new_tokens(row)[:-1], "eos"))
            elif full[row]:
                ended.append(self._text(row, self._rows.new_tokens(row), "length"))
            else:
                keep.append(row)
        if ended:
            with CLOCK.part(ROWS):
                self._keep(keep)
        return ended

    def _text(self, row: int, ids: list[int], finish: FinishReason) -> Generated:
        with CLOCK.part(TOKENIZER):
            return Generated(self.requests[row].id, tuple(ids), self.model.decode(ids), finish)

    def _keep(self, rows: list[int]) -> None:
        """Go on with these rows only. The requests come last: whatever fails before, no row is lost."""
        members, requests = self._members, [self.requests[row] for row in rows]
        if rows:
            left = self._rows.keep(rows)
            if left is not None:
                rows, members, self._placed = left, [members[row] for row in left], None
                requests = members
            self.uniforms = self.uniforms[torch.tensor(rows, device=self.uniforms.device)]
        self._members, self.requests = members, list(requests)

    def _choose(self, logits: Tensor) -> Tensor:
        """The next token of each open row, ``[rows]``, some rows at a time: float32 of all of them would be as large as many tokens' keys."""
        at_once = max(1, float_bytes(logits.device) // (4 * logits.shape[1]))
        starts = range(0, len(logits), at_once)
        return torch.cat([self._chosen(slice(start, start + at_once), logits[start : start + at_once].float()) for start in starts])

    def _chosen(self, rows: slice, logits: Tensor) -> Tensor:
        """The next token of some of the open rows, ``[rows]``; ``logits`` are theirs, float32. May write into ``logits``."""
        decoding, steps, requests = self.decoding, self._rows.n_new[rows], self.requests[rows]
        if not bool(logits.amax(dim=-1).isfinite().all()):  # the maximum of a row with a NaN is NaN
            row = int(logits.amax(dim=-1).isfinite().int().argmin())
            broken = requests[row].id
            raise EngineError(
                f"the logits of request {broken} are not finite at new token {steps[row] + 1}: its edits are too strong for {self.model.dtype}",
                given=broken,
                hint="use weaker edits, or --dtype float32",
            )
        if decoding.repetition_penalty != 1.0:
            shown = self._rows.shown(generated_only=decoding.penalty_scope == "generated")[rows]
            logits = penalise(logits, shown, decoding.repetition_penalty)
        early = [row for row, step in enumerate(steps) if step < decoding.min_new_tokens]
        if early and self.model.eos_ids:
            logits[torch.tensor(early)[:, None], torch.tensor(sorted(self.model.eos_ids))] = float("-inf")
        uniforms = self.uniforms[rows].gather(1, self._rows.steps[rows].to(self.uniforms.device)[:, None]).squeeze(1)
        return choose(logits.to(uniforms.device), uniforms, decoding.temperature, decoding.top_p).to(logits.device)

    def _follow(self, logits: Tensor, told: Told) -> Tensor:
        """The next token of each open row as it is told, ``[rows]``; what it would have been drawn from is kept."""
        for row, request in enumerate(self.requests):
            told.seen[request.id].append(logits[row].float().cpu())
        chosen = [told.new[request.id][step] for request, step in zip(self.requests, self._rows.n_new, strict=True)]
        return torch.tensor(chosen, device=logits.device)

    def _logits(self, view: View) -> Tensor:
        """Logits of the next token of the open rows, ``[rows, vocabulary]`` as the model gives them, of a pass in which their streams are edited."""
        if self._placed is None:
            self._placed = place([request.edits for request in self._members], self.model.device)
        n_new, width = self._rows.n_new, view.width
        common, self._unread = self._unread, None
        with nullcontext() if common is None else common.given(self._rows):
            if not self._placed:
                return self._rows.logits(view)
            context = EditContext.of(view.real, view.generated).last(width)
            return self._reading.read(
                lambda: self._rows.logits(view), self._placed, context, prompt=width > min(n_new), generated=max(n_new) > 0
            )
