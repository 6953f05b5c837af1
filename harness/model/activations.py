"""The residual stream of texts at one site: read by forward passes that go no further than that layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from harness.errors import DataError, ModelError, OptionError
from harness.interventions import Site
from harness.model.loading import SubjectModel
from harness.model.structure import hidden_of
from harness.model.tokens import TokenTable

Row = Sequence[int] | npt.NDArray[np.integer]
"""Token ids of one text."""


@dataclass
class TokenBudget:
    """Tokens a forward pass, halved for good when a batch does not fit into memory. One for several calls spares the later ones the attempt."""

    tokens: int

    @classmethod
    def usual(cls, device: torch.device) -> TokenBudget:
        """1,024 on a CPU: as fast as more (SmolLM2), with less padding and less memory. 8,192 elsewhere, where small batches leave units idle."""
        return cls(1024 if device.type == "cpu" else 8192)


@dataclass(frozen=True, eq=False)
class ResidualBatch:
    """The residual stream of several rows. Rows are padded on the right.

    Attributes:
        rows: which rows of the input these are.
        tokens: ``[rows, tokens]`` int64, token ids; padding included.
        x: ``[rows, tokens, d_model]`` in the model's dtype, on its device.
        real: ``[rows, tokens]`` bool, the token is no padding.
        counted: ``[rows, tokens]`` bool, the token is real and not among the first ``skip`` of its row. Only these belong into statistics:
            the first token's residual norm is often a hundred times that of the others, whatever the text says.
    """

    rows: tuple[int, ...]
    tokens: torch.Tensor
    x: torch.Tensor
    real: torch.Tensor
    counted: torch.Tensor

    def part(self, rows: slice) -> ResidualBatch:
        """Some of the rows, as views."""
        return ResidualBatch(self.rows[rows], self.tokens[rows], self.x[rows], self.real[rows], self.counted[rows])


class _Reached(Exception):
    """Ends a forward pass at the layer that was asked for, and carries its residual stream out."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.x = x


def residuals(
    model: SubjectModel, rows: Sequence[Row], site: Site, *, token_budget: int | TokenBudget = 4096, skip: int = 1
) -> Iterator[ResidualBatch]:
    """The residual stream of every row at ``site``, batch by batch, the longest rows first.

    Rows of similar length share a batch of at most ``token_budget`` tokens, padding included (a longer row is a batch of its own). A batch
    that does not fit into memory is halved, and so is the budget from then on. Values are those of ``output_hidden_states`` before the
    final norm, apart from rounding: how rows are batched does not change what a row gets.

    The model may be used between two batches. Gradients are off, but the tensors can enter a computation that has them.

    Args:
        model: the subject model.
        rows: token ids, each row as the model shall see it (:meth:`SubjectModel.encode` or :meth:`SubjectModel.prompt`).
        site: the layer whose output is read.
        token_budget: see above. A :class:`TokenBudget` keeps for the next call what an error has halved.
        skip: number of leading tokens that are not counted, e.g. 1, or :attr:`SubjectModel.chat_prefix_length`.

    Raises:
        ModelError: the layer does not exist; one row alone does not fit into memory.
        DataError: a row is empty or longer than the model's context.
        OptionError: ``token_budget`` or ``skip`` is out of range.
    """
    model.check_layer(site.layer)
    budget = token_budget if isinstance(token_budget, TokenBudget) else TokenBudget(token_budget)
    if budget.tokens < 1 or skip < 0:
        raise OptionError(f"token_budget is {budget.tokens} and skip is {skip}; a positive budget and a skip of 0 or more are allowed")
    lengths = row_lengths(rows)
    if len(lengths) and not lengths.min():
        raise DataError(f"text {int(lengths.argmin())} (counted from 0) has no tokens; leave empty texts out")
    check_lengths(model, lengths)
    return _batches(model, rows, lengths.tolist(), site, budget, skip)


def row_lengths(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """``[rows]``: tokens of each row."""
    return rows.lengths if isinstance(rows, TokenTable) else np.fromiter(map(len, rows), np.int64, len(rows))


def check_lengths(model: SubjectModel, lengths: npt.NDArray[np.int64]) -> None:
    """Raise DataError where a text is longer than the model's context."""
    limit = model.max_tokens
    if limit is not None and len(lengths) and lengths.max() > limit:
        i = int((lengths > limit).argmax())
        raise DataError(f"text {i} (counted from 0) has {lengths[i]} tokens, but {model.name} reads {limit} at most; cut it")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch has run out of memory: CUDA has its own class for it, CPU and MPS raise a bare RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def in_parts(batch: ResidualBatch, work: Callable[[ResidualBatch], None], budget: TokenBudget | None = None) -> None:
    """Do ``work`` on a batch; where that does not fit into memory, on its halves, one after the other.

    Args:
        batch: of one or more rows.
        work: must leave nothing behind when it fails for want of memory: it is done again then.
        budget: that of the forward passes, lowered to what fitted, so that later batches do not fail, too.

    Raises:
        ModelError: one row alone does not fit.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        if _try_work(part, work):
            continue
        n, width = part.tokens.shape
        if n == 1:
            raise ModelError(
                f"what is done with a text of {width} tokens does not fit into the memory of {part.x.device}; cut it, or use another device"
            )
        if budget is not None:
            budget.tokens = min(budget.tokens, width * (n // 2))
        waiting += [part.part(slice(n // 2, n)), part.part(slice(0, n // 2))]


def check_finite(batch: ResidualBatch, model: SubjectModel, numbers: Sequence[int] | npt.NDArray[np.integer]) -> None:
    """Refuse a batch in which a counted token's vector holds NaN or infinity: no comparison finds those, so they would vanish from statistics.

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
    given = str(model.dtype).removeprefix("torch.")
    advice = {
        torch.float16: "use --dtype float32 (or bfloat16)",
        torch.bfloat16: "use --dtype float32",
    }.get(model.dtype, f"the files of {model.name} may be damaged: fetch them again, or leave that text out")
    raise ModelError(f"text {number} (counted from 0) has residual vectors that are no finite numbers in {given}; {advice}")


def document_means(
    model: SubjectModel,
    rows: Sequence[Row],
    site: Site,
    *,
    token_budget: int = 4096,
    skip: int = 1,
    advance: Callable[[int], None] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean of each row's residual stream over its counted tokens, taken in float32.

    Args:
        model, rows, site, token_budget, skip: see :func:`residuals`.
        advance: called with the number of rows done, after each batch.

    Returns:
        Means ``[rows, d_model]`` float32 and the number of counted tokens ``[rows]`` int64, on the CPU, in the order of ``rows``. A row
        without counted tokens has a mean of NaN.

    Raises:
        ModelError: a counted token's vector is not finite; and see :func:`residuals`.
    """
    means = torch.full((len(rows), model.d_model), float("nan"))
    counts = torch.zeros(len(rows), dtype=torch.int64)
    for batch in residuals(model, rows, site, token_budget=token_budget, skip=skip):
        check_finite(batch, model, range(len(rows)))
        n = batch.counted.sum(dim=1)
        total = torch.where(batch.counted[..., None], batch.x, 0).sum(dim=1, dtype=torch.float32)
        index = torch.tensor(batch.rows)
        means[index] = (total / n[:, None]).cpu()
        counts[index] = n.cpu()
        if advance is not None:
            advance(len(batch.rows))
    return means, counts


def mean_norm(model: SubjectModel, rows: Sequence[Row], site: Site, *, token_budget: int = 4096, skip: int = 1) -> float:
    """The mean Euclidean norm of the residual stream over all counted tokens of all rows.

    Raises:
        DataError: no token is counted.
        ModelError: a counted token's vector is not finite.
    """
    total, n = 0.0, 0
    for batch in residuals(model, rows, site, token_budget=token_budget, skip=skip):
        check_finite(batch, model, range(len(rows)))
        norms = batch.x[batch.counted].float().norm(dim=-1).cpu()
        total += float(norms.sum(dtype=torch.float64))  # on the CPU: not every device has float64
        n += len(norms)
    if n == 0:
        raise DataError(f"none of {len(rows)} texts has more than {skip} tokens, so there is no mean norm; give longer texts")
    return total / n


# ------------------------------------------------------------------------------------------------------------------------- inside


def _batches(
    model: SubjectModel, rows: Sequence[Row], lengths: Sequence[int], site: Site, budget: TokenBudget, skip: int
) -> Iterator[ResidualBatch]:
    # Longest first: memory that suffices for the first batches suffices for all, and the last batches are the quick ones.
    waiting = sorted(range(len(rows)), key=lambda i: -lengths[i])
    start = 0
    while start < len(waiting):
        width = lengths[waiting[start]]
        size = max(1, budget.tokens // width)
        chosen = waiting[start : start + size]
        batch = _try_forward(model, rows, chosen, site, skip)
        if batch is None:
            if len(chosen) == 1:
                raise ModelError(f"a text of {width} tokens does not fit into the memory of {model.device}; cut it, or use a smaller dtype")
            budget.tokens = width * (len(chosen) // 2)
            continue
        yield batch
        start += len(chosen)


def _try_forward(model: SubjectModel, rows: Sequence[Row], chosen: list[int], site: Site, skip: int) -> ResidualBatch | None:
    """The batch of the chosen rows, or None if it does not fit into memory.

    A function of its own, so that nothing of a failed attempt is alive (no frame, no traceback) when the next one begins.
    """
    try:
        return _forward(model, rows, chosen, site, skip)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _try_work(part: ResidualBatch, work: Callable[[ResidualBatch], None]) -> bool:
    """Whether the work on a part fitted into memory. A function of its own for the same reason."""
    try:
        work(part)
        return True
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    if part.x.device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def _forward(model: SubjectModel, rows: Sequence[Row], chosen: list[int], site: Site, skip: int) -> ResidualBatch:
    ids = [torch.as_tensor(rows[i]) for i in chosen]
    lengths = torch.tensor([len(row) for row in ids])
    width = int(lengths.max())
    tokens = torch.full((len(chosen), width), model.pad_id)
    for b, row in enumerate(ids):
        tokens[b, : len(row)] = row
    place = torch.arange(width)[None]
    real = place < lengths[:, None]
    counted = real & (place >= skip)
    tokens, real, counted = (t.to(model.device) for t in (tokens, real, counted))
    # Padding is on the right and attention is causal, so positions counted from 0 are right in every row.
    x = _up_to(model, site, tokens, real)
    return ResidualBatch(tuple(chosen), tokens, x, real, counted)


def _up_to(model: SubjectModel, site: Site, tokens: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The output of a layer; the layers after it do not run. The hook is gone afterwards, whatever happens."""

    def stop(module: torch.nn.Module, args: object, output: object) -> None:
        raise _Reached(hidden_of(output))

    handle = model.layers[site.layer].register_forward_hook(stop)
    try:
        # no_grad, not inference_mode: training on these tensors (an SAE, a probe) must be able to save them for its backward pass.
        with torch.no_grad():
            model.hf(input_ids=tokens, attention_mask=real.long(), use_cache=False)
    except _Reached as reached:
        return reached.x
    finally:
        handle.remove()
    raise ModelError(f"layer {site.layer} of {model.name} did not run")
