"""Texts that a model goes on with together: their tokens, their padding, and what the model hands on from one step to the next."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from harness.engine.growing import all_grow, enlarge, growing, join, landing, leave, trim
from harness.errors import EngineError
from harness.model.cache import CacheNames, Cut, cache_argument, cache_names, cut_rows
from harness.model.loading import SubjectModel

Padding = Literal["left", "none", "right"]
Mask = Literal["all", "new"]


@dataclass(frozen=True)
class DecodingPlan:
    """How a model decodes. :func:`harness.engine.plan.plan_for` finds the quickest way that gives each row the text that it has alone.

    Attributes:
        cache: each step reads the new tokens alone, and what the last step handed on; else it reads whole texts.
        padding: where rows of one batch are padded. Without cache on the right, which no causal model sees; with one on the left, where a model
            must look past it; ``none`` lets rows of one length alone share a batch.
        mask: whether a step's attention mask is of all tokens or, as Mamba has it, of the new ones.
        cut: how rows that have ended leave the cache.
        together: whether several rows share a batch at all.
    """

    cache: bool = True
    padding: Padding = "left"
    mask: Mask = "all"
    cut: Cut = "select"
    together: bool = True


WHOLE = DecodingPlan(cache=False, padding="right")
"""Whole texts at every step: right for every causal model, and slow."""


@dataclass(frozen=True)
class View:
    """What a step is about: whole rows, of whose columns the last ``width`` are read.

    Attributes:
        tokens: ``[rows, columns]`` int64.
        real: ``[rows, columns]`` bool, the token is not padding.
        generated: ``[rows, columns]`` bool, the token is not of the prompt; without meaning for padding.
        width: number of columns.
    """

    tokens: Tensor
    real: Tensor
    generated: Tensor
    width: int


class Rows:
    """Some texts in one batch. All end at the last column, so rows that have come later have more of padding before them.

    Attributes:
        tokens: ``[rows, columns]`` int64, padding, the prompt, and the tokens added so far; all rows of the cache, ended ones included.
        real: ``[rows, columns]`` bool, the token is not padding.
        begun: of each row the column after its prompt.
        open: the rows that go on, as places in ``tokens``; None means all.
    """

    def __init__(self, model: SubjectModel, prompts: Sequence[Sequence[int]], plan: DecodingPlan) -> None:
        self.model, self.plan = model, plan
        self.tokens, self.real = _pad_left(prompts, model)
        self.open: Tensor | None = None
        self._place_begun([self.tokens.shape[1]] * len(prompts))
        self._cache: Any = None
        self._first: Any = None  # what the pass over the prompts is given
        self._grown = False
        self._names: CacheNames | None = None
        self._accepted = frozenset(inspect.signature(model.hf.forward).parameters)

    @property
    def n_new(self) -> list[int]:
        """Tokens added so far to each open row."""
        begun = self.begun if self.open is None else [self.begun[row] for row in self.open.tolist()]
        return [self.tokens.shape[1] - column for column in begun]

    @property
    def steps(self) -> Tensor:
        """The same as a tensor, ``[open rows]`` int64."""
        return self.tokens.shape[1] - self.opened(self._begun)

    def new_tokens(self, row: int) -> list[int]:
        """Return the tokens that have been added to an open row, by its place among these."""
        place = row if self.open is None else int(self.open[row])
        return self.tokens[place, self.begun[place] :].tolist()

    def opened(self, x: Tensor) -> Tensor:
        """Of ``[rows, …]``, the open rows."""
        return x if self.open is None else x[self.open.to(x.device)]

    def shown(self, *, generated_only: bool) -> Tensor:
        """Return the tokens of the open rows, ``[rows, n]`` int64; -1 is padding, and of ``generated_only`` also the prompt."""
        start = min(self.begun) if generated_only else 0
        shown = self.real[:, start:]
        if generated_only:
            shown = shown & (torch.arange(start, self.tokens.shape[1], device=shown.device) >= self._begun[:, None])
        return self.opened(torch.where(shown, self.tokens[:, start:], -1))

    def view(self) -> View:
        """What the next step reads."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        generated = columns >= self._begun[:, None]
        if self.plan.padding != "right":
            return View(self.tokens, self.real, generated, 1 if self._cache is not None else self.tokens.shape[1])
        place = columns + (~self.real).sum(dim=1, keepdim=True)  # of the token that moves to each column, past the end for padding
        source = place.clamp(max=len(columns) - 1)
        return View(self.tokens.gather(1, source), place < len(columns), generated.gather(1, source), len(columns))

    def logits(self, view: View) -> Tensor:
        """Logits of the next token of the open rows, ``[rows, vocabulary]``, in the model's number format."""
        width, right = view.width, self.plan.padding == "right"
        mask = view.real[:, -width:] if self.plan.mask == "new" else view.real
        arguments: dict[str, Any] = {
            "input_ids": view.tokens[:, -width:],
            "attention_mask": mask.long(),
            "use_cache": self.plan.cache,
        }
        if "position_ids" in self._accepted:
            arguments["position_ids"] = (view.real.cumsum(dim=1) - 1).clamp(min=0)[:, -width:]
        if "logits_to_keep" in self._accepted and not right:
            arguments["logits_to_keep"] = 1
        given = self._first if self._cache is None else self._cache
        if given is not None:
            arguments[cache_argument(self.model.hf) if self._names is None else self._names.argument] = given
        last = view.real.sum(dim=1) - 1 if right else None
        with head_reads(self.model, last):
            output = self.model.hf(**arguments)
        if self.plan.cache:
            self._take_cache(output)
        logits: Tensor = output.logits
        logits = logits[:, -1] if last is None or logits.shape[1] == 1 else logits[torch.arange(len(last), device=last.device), last]
        return self.opened(logits)

    def append(self, chosen: Tensor) -> None:
        """Add one token to each open row; ``chosen`` is ``[open rows]`` int64."""
        if self.open is not None:  # to rows that have ended, their last token again: what they read matters no more
            chosen = self.tokens[:, -1].index_copy(0, self.open, chosen)
        self.tokens = torch.cat([self.tokens, chosen[:, None]], dim=1)
        self.real = torch.cat([self.real, torch.ones_like(chosen[:, None], dtype=torch.bool)], dim=1)

    def keep(self, rows: Sequence[int]) -> list[int] | None:
        """Go on with some of the open rows, given as places among them.

        Returns:
            Those that are left in the batch in their new order, as places among the rows that were in it; None where all are, since the cache
            cannot be cut.
        """
        device = self.tokens.device
        if self.plan.cache and self.plan.cut == "keep":
            index = torch.tensor(rows, device=device)
            self.open = index if self.open is None else self.open[index]
            return None
        order = compact(rows) if self._grown else list(rows)
        index = torch.tensor(order, device=device)
        self.tokens, self.real = self.tokens[index], self.real[index]
        self._place_begun([self.begun[row] for row in order])
        if self._cache is not None and self._grown:
            leave(self._cache, order, index, self.plan.cut)
            self._trim()
        elif self._cache is not None:
            cut_rows(self._cache, index, self.plan.cut)
        return order

    def grow(self, rows: int, columns: int) -> None:
        """Make room for rows that come and go: from now on none of them has the cache of all others copied.

        Args:
            rows: so many there will be at most.
            columns: so long they will be at most.
        """
        enlarge(self._cache, rows, columns)
        self._grown = True

    def land(self, others: Rows) -> None:
        """Have the prompts' cache go to another batch at once; it must not change until these rows join it, which comes next."""
        self._first, self._names = landing(others._cache), others._names

    @property
    def all_grow(self) -> bool:
        """Whether :meth:`grow` has found nothing but keys and values of all tokens, in the usual kind of cache."""
        return all_grow(self._cache)

    def settle(self, rows: int, columns: int) -> None:
        """Do at once what :meth:`grow` does after the pass over the prompts, for a model that bears it."""
        self._first, self._grown = growing(rows, columns), True

    def join(self, others: Rows) -> None:
        """Take in the rows of another batch, after those that are here. Both have read their prompts, and all of their rows are open.

        The other batch is of no use afterwards; nor is this one, if memory runs out meanwhile.
        """
        widths = [self.tokens.shape[1], others.tokens.shape[1]]
        join(self._cache, others._cache, widths[0] - 1, widths[1] - 1)  # the newest tokens have been read by nobody
        width = max(widths)
        pads = [width - own for own in widths]
        self.tokens = torch.cat([_wider(self.tokens, pads[0], self.model.pad_id), _wider(others.tokens, pads[1], self.model.pad_id)])
        self.real = torch.cat([_wider(self.real, pads[0], False), _wider(others.real, pads[1], False)])
        self._place_begun([*(column + pads[0] for column in self.begun), *(column + pads[1] for column in others.begun)])

    def _trim(self) -> None:
        """Drop the columns that are padding in every row."""
        leading = int(self.real.any(dim=0).int().argmax())
        if leading:
            trim(self._cache, leading, self.tokens.shape[1] - 1)
            self.tokens, self.real = self.tokens[:, leading:], self.real[:, leading:]
            self._place_begun([column - leading for column in self.begun])

    def _place_begun(self, columns: list[int]) -> None:
        self.begun = columns
        self._begun = torch.tensor(columns, device=self.tokens.device)

    def fill(self, layers: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Have the first layers keep what they did not read in the pass over the prompts.

        Args:
            layers: keys and values of each, ``[heads, rows, columns, width]``.
        """
        for place, (keys, values) in enumerate(layers):
            self._cache.update(keys.transpose(0, 1), values.transpose(0, 1), place)

    def _take_cache(self, output: Any) -> None:
        if self._names is None:
            self._names = cache_names(self.model.hf, output)
        if self._names is None:
            given = type(self.model.hf).__name__
            raise EngineError(f"{given} hands nothing on from one token to the next", given=given, hint="use another model")
        self._cache = self._names.value(output)


def compact(rows: Sequence[int]) -> list[int]:
    """Return the rows that stay in an order in which as few as can be move: the last of them take the places that have become free."""
    n, staying = len(rows), set(rows)
    movers = iter([row for row in rows if row >= n])
    return [place if place in staying else next(movers) for place in range(n)]


def _wider(x: Tensor, columns: int, value: int | bool) -> Tensor:
    """``[rows, width]`` with so many more columns on the left."""
    return torch.nn.functional.pad(x, (columns, 0), value=value) if columns else x


@contextmanager
def head_reads(model: SubjectModel, last: Tensor | None) -> Iterator[None]:
    """Within the context the unembedding gets contiguous vectors; those at the columns ``last`` (``[rows]``) alone where that is given.

    The last token of each row, cut out of a whole prompt, is a view with gaps; torch multiplies such a view row by row, with a copy of the
    whole unembedding for each row: two thirds of the time of 40 new tokens (SmolLM2, 64 rows).
    """
    head = model.hf.get_output_embeddings()
    if head is None:
        yield
        return

    def read(module: torch.nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x = arguments[0]
        if last is not None and x.dim() == 3 and x.shape[1] > 1:
            x = x[torch.arange(len(last), device=x.device), last.to(x.device)][:, None]
        return x.contiguous(), *arguments[1:]

    handle = head.register_forward_pre_hook(read)
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
