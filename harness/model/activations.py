"""The streams of texts at one site: read by forward passes that go no further than that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from harness.errors import DataError, ModelError, OptionError
from harness.files.timing import CLOCK, READING
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.model.memory import Budget, TokenBudget, halving
from harness.model.streams import stream_of
from harness.model.tokens import TokenTable

Row = Sequence[int] | npt.NDArray[np.integer]
"""Token ids of one text."""


@dataclass(frozen=True, eq=False)
class ResidualBatch:
    """A stream of several rows: the residual stream, or what an attention or an MLP adds to it. Rows are padded on the right.

    Attributes:
        rows: which rows of the input these are.
        tokens: ``[rows, tokens]`` int64, token ids; padding included.
        x: ``[rows, tokens, d_model]`` in the model's dtype, on its device.
        real: ``[rows, tokens]`` bool, the token is not padding.
        counted: ``[rows, tokens]`` bool, the token is real and not among the first ``skip`` of its row. Only these belong into statistics:
            the first token's residual norm is often a hundred times that of the others, whatever the text says.
    """

    rows: tuple[int, ...]
    tokens: torch.Tensor
    x: torch.Tensor
    real: torch.Tensor
    counted: torch.Tensor

    def part(self, rows: slice) -> ResidualBatch:
        """Return some of the rows, as views."""
        return ResidualBatch(self.rows[rows], self.tokens[rows], self.x[rows], self.real[rows], self.counted[rows])


class _Reached(Exception):
    """Ends a forward pass at the site that was asked for, and carries its stream out."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x = x


def residuals(
    model: SubjectModel, rows: Sequence[Row], site: Site, *, token_budget: int | TokenBudget = 4096, skip: int = 1
) -> Iterator[ResidualBatch]:
    """Return the stream of every row at ``site`` (by default the residual stream), batch by batch, the longest rows first.

    Rows of similar length share a batch of at most ``token_budget`` tokens, padding included (a longer row is a batch of its own). A batch
    that does not fit into memory is halved, and so is the budget from then on. Values are those of ``output_hidden_states`` before the
    final norm, apart from rounding: how rows are batched does not change what a row gets.

    The model may be used between two batches. Gradients are off, but the tensors can enter a computation that has them.

    Args:
        model: the subject model.
        rows: token ids, each row as the model shall see it (:meth:`SubjectModel.encode` or :meth:`SubjectModel.prompt`).
        site: what is read.
        token_budget: see above. A :class:`TokenBudget` keeps for the next call what an error has halved.
        skip: number of leading tokens that are not counted, e.g. 1, or :attr:`SubjectModel.chat_prefix_length`.

    Raises:
        ModelError: the layer does not exist, or the model's build does not let its attention and MLP be told apart; one row alone does not fit into
            memory.
        DataError: a row is empty or longer than the model's context.
        OptionError: ``token_budget`` or ``skip`` is out of range.
    """
    model.stream_module(site)  # refuses a site that cannot be read
    budget = token_budget if isinstance(token_budget, TokenBudget) else TokenBudget(token_budget)
    if budget.size < 1 or skip < 0:
        name, given, allowed = ("token_budget", budget.size, "at least 1") if budget.size < 1 else ("skip", skip, "at least 0")
        raise OptionError(f"{name} is {given}", given=given, allowed=allowed)
    lengths = row_lengths(rows)
    if len(lengths) and not lengths.min():
        empty = int(lengths.argmin())
        raise DataError(f"text {empty} (counted from 0) has no tokens", given=empty, hint="leave empty texts out")
    check_lengths(model, lengths)
    return _batches(model, rows, lengths.tolist(), site, budget, skip)


def row_lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Return ``[rows]``: tokens of each row."""
    return rows.lengths if isinstance(rows, TokenTable) else np.fromiter(map(len, rows), np.int64, len(rows))


def pad_right(model: SubjectModel, rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids ``[rows, tokens]`` int64 with padding on the right, and which of them are real; on the model's device.

    Attention is causal, so what a model counts from 0 is right in every row.
    """
    ids = [torch.as_tensor(row) for row in rows]
    lengths = torch.tensor([len(row) for row in ids])
    tokens = torch.full((len(ids), int(lengths.max())), model.pad_id)
    for place, row in enumerate(ids):
        tokens[place, : len(row)] = row
    real = torch.arange(tokens.shape[1])[None] < lengths[:, None]
    return tokens.to(model.device), real.to(model.device)


def check_lengths(model: SubjectModel, lengths: npt.NDArray[np.int64]) -> None:
    """Raise DataError where a text is longer than the model's context."""
    limit = model.max_tokens
    if limit is not None and len(lengths) and lengths.max() > limit:
        number = int((lengths > limit).argmax())
        length = int(lengths[number])
        allowed = f"at most {limit}, which {model.name} reads"
        raise DataError(f"text {number} (counted from 0) has {length} tokens", given=length, allowed=allowed, hint="cut it")


def in_parts(batch: ResidualBatch, work: Callable[[ResidualBatch], None], budget: TokenBudget | None = None) -> None:
    """Do ``work`` on a batch; where that does not fit into memory, on its halves, one after the other.

    Args:
        batch: of one or more rows.
        work: must leave nothing behind when it fails for want of memory: it is done again then.
        budget: that of the forward passes, lowered to what fitted, so that later batches do not fail, too.

    Raises:
        ModelError: one row alone does not fit.
    """
    n, width = batch.tokens.shape

    def alone(row: int) -> ModelError:
        message = f"what is done with a text of {width} tokens does not fit into the memory of {batch.x.device}"
        return ModelError(message, given=width, hint="cut it, or use another device")

    rows = Budget(n)
    for _ in halving(n, rows, lambda part: work(batch.part(part)), device=batch.x.device, alone=alone):
        if budget is not None and rows.size < n:
            budget.size = min(budget.size, width * rows.size)


def check_finite(batch: ResidualBatch, model: SubjectModel, numbers: Sequence[int] | npt.NDArray[np.integer]) -> None:
    """Raise ModelError if a counted token's vector holds NaN or infinity: comparisons do not find them, so they would vanish from statistics.

    One reduction over the vectors, a thousandth of the forward pass.

    Args:
        batch: of :func:`residuals`.
        model: that it came from, for the message.
        numbers: of each row that :func:`residuals` was given, the text's number in the corpus.

    Raises:
        ModelError: naming the first such text.
    """
    sums = batch.x.sum(dim=-1, dtype=torch.promote_types(batch.x.dtype, torch.float32))
    broken = (batch.counted & ~sums.isfinite()).any(dim=1)
    if not bool(broken.any()):
        return
    number = min(int(numbers[batch.rows[place]]) for place in broken.nonzero()[:, 0].tolist())
    dtype = str(model.dtype).removeprefix("torch.")
    hint = {
        torch.float16: "use --dtype float32 (or bfloat16)",
        torch.bfloat16: "use --dtype float32",
    }.get(model.dtype, f"the files of {model.name} may be damaged: fetch them again, or leave that text out")
    raise ModelError(f"text {number} (counted from 0) has residual vectors that are not finite in {dtype}", given=number, hint=hint)


# ------------------------------------------------------------------------------------------------------------------------- inside


def _batches(
    model: SubjectModel, rows: Sequence[Row], lengths: Sequence[int], site: Site, budget: TokenBudget, skip: int
) -> Iterator[ResidualBatch]:
    # Longest first: memory that suffices for the first batches suffices for all, and the last batches are the quick ones.
    waiting = sorted(range(len(rows)), key=lambda i: -lengths[i])

    def width(place: int) -> int:
        return lengths[waiting[place]]

    def alone(place: int) -> ModelError:
        message = f"a text of {width(place)} tokens does not fit into the memory of {model.device}"
        return ModelError(message, given=width(place), hint="cut it, or use a smaller dtype")

    def forward(part: slice) -> ResidualBatch:
        return _forward(model, rows, waiting[part], site, skip)

    for _, batch in halving(len(waiting), budget, forward, device=model.device, alone=alone, width=width):
        yield batch


def _forward(model: SubjectModel, rows: Sequence[Row], chosen: list[int], site: Site, skip: int) -> ResidualBatch:
    with CLOCK.part(READING, model.device, len(chosen)):
        tokens, real = pad_right(model, [rows[i] for i in chosen])
        counted = real.clone()
        counted[:, :skip] = False
        return ResidualBatch(tuple(chosen), tokens, _up_to(model, site, tokens, real), real, counted)


def _up_to(model: SubjectModel, site: Site, tokens: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Return the stream at a site; what comes after it does not run. The hook is gone afterwards, whatever happens."""

    def stop(module: torch.nn.Module, args: object, output: object) -> None:
        raise _Reached(stream_of(output, len(tokens)))

    handle = model.stream_module(site).register_forward_hook(stop)
    try:
        # no_grad, not inference_mode: training on these tensors (an SAE, a probe) must be able to save them for its backward pass.
        with torch.no_grad():
            model.hf(input_ids=tokens, attention_mask=real.long(), use_cache=False)
    except _Reached as reached:
        return reached.x
    finally:
        handle.remove()
    raise ModelError(f"{site} of {model.name} did not run", given=site, hint="read another site of this model")
