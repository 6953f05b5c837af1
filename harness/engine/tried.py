"""What a model can do with rows that are padded on the left, beyond decoding them; tried on short texts, and taken where their logits are right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from harness.engine.rows import DecodingPlan, Rows
from harness.engine.shared import Tree, read_tree, reads_trees
from harness.model.attention import fast_decoding
from harness.model.cache import cache_names
from harness.model.loading import SubjectModel

_TEXT = "When the rain stopped, we went down to the river: 3 boats lay there, and nobody knew whose they were. “Take one”, said my brother."
LENGTHS = (3, 10, 6)
"""Tokens of the texts' beginnings: where rows are padded, they differ enough for a state that ran over padding to show."""
STEPS = 3
"""Before a row leaves, and again afterwards. The median of three counts: rounding may choose another expert (MoE) at one of them."""

_TOLERANCE = 0.005
"""Relative error of logits in float32; kernels of GPUs that convolve in TF32 are off by a thousandth, what is wrong by half and more."""


def short_texts(model: SubjectModel) -> list[list[int]] | None:
    """Return three texts as token ids, each of its length in LENGTHS and all steps, no two with the same beginning; None for a very short context."""
    longest = max(LENGTHS) + 2 * STEPS
    if model.max_tokens is not None and model.max_tokens < longest:
        return None
    ids = model.encode(_TEXT)
    ids = ids * -(-3 * longest // max(1, len(ids)))
    return [ids[start : start + longest] for start in (0, longest, 2 * longest)]


def tolerance(model: SubjectModel) -> float:
    """Return the relative error of logits up to which they count as right."""
    return max(_TOLERANCE, 16 * torch.finfo(model.dtype).eps)


def relative(logits: Tensor, expected: Tensor) -> float:
    """Return how far logits are from those expected, as a share of their spread over the vocabulary."""
    logits, expected = logits.float(), expected.float()
    return float((logits - expected).norm() / (expected - expected.mean()).norm().clamp(min=torch.finfo(torch.float32).tiny))


def held_bytes(model: SubjectModel) -> float:
    """Return the bytes of keys and values that a model hands on for each token; infinite where it hands on something else."""
    ids = torch.full((1, 8), model.pad_id, device=model.device)
    try:
        with fast_decoding(model.hf), torch.no_grad():
            output = model.hf(input_ids=ids, use_cache=True)
    except Exception:  # whatever an architecture cannot do
        return float("inf")
    names = cache_names(model.hf, output)
    layers = getattr(names.value(output), "layers", None) if names else None
    parts = [getattr(layer, name, None) for layer in layers or () for name in ("keys", "values")]
    held = [part for part in parts if isinstance(part, Tensor)]
    if not held or len(held) < len(parts):
        return float("inf")
    return sum(part.numel() * part.element_size() for part in held) / ids.numel()


def shares(model: SubjectModel, after: int) -> bool:
    """Return whether rows whose beginnings the layers up to ``after`` have read together have the logits that they have apart."""
    texts = short_texts(model)
    if texts is None or not reads_trees(model):
        return False
    first, second = texts[:2]
    prompts = [first[:10], first[:5] + second[:3], second[:6], first[:10], first[:7]]
    try:
        with fast_decoding(model.hf), torch.no_grad():
            errors = list(_errors_of_sharing(model, prompts, texts[2], after))
    except Exception:  # whatever an architecture cannot do, memory for some short texts included
        return False
    return all(error <= tolerance(model) for error in errors)  # a NaN is not


def _errors_of_sharing(model: SubjectModel, prompts: Sequence[Sequence[int]], new: Sequence[int], after: int) -> Iterator[float]:
    """Relative errors of the logits at some steps, before and after a row has left the batch."""
    apart, once, left = Rows(model, prompts, DecodingPlan()), Rows(model, prompts, DecodingPlan()), len(prompts)
    common = read_tree(model, Tree(prompts), after)
    for step in range(4):
        if step == 2:
            left -= 1
            apart.keep(range(1, left + 1))
            once.keep(range(1, left + 1))
        expected = apart.logits(apart.view())
        with nullcontext() if step else common.given(once):
            found = once.logits(once.view())
        yield from (relative(*pair) for pair in zip(found, expected, strict=True))
        chosen = torch.tensor(new[step : step + left], device=model.device)
        apart.append(chosen)
        once.append(chosen)


def joins(model: SubjectModel, plan: DecodingPlan, *, settled: bool) -> bool:
    """Return whether rows that join others in the middle of their texts, and those others, have the logits of whole texts.

    That takes a cache that can be padded on the left, and that rows can leave.

    Args:
        model: the subject model.
        plan: how it is decoded.
        settled: room for all rows is made before the first prompts are read, not afterwards.
    """
    texts = short_texts(model)
    if texts is None or not (plan.cache and plan.together and plan.padding == "left" and plan.cut != "keep"):
        return False
    try:
        with fast_decoding(model.hf), torch.no_grad():
            if settled and not _all_grow(model, plan, texts[0]):
                return False
            errors = list(_errors_of_joining(model, plan, texts, settled))
    except Exception:  # whatever an architecture cannot do, memory for four short texts included
        return False
    return all(float(torch.tensor(part).median()) <= tolerance(model) for part in errors)  # a NaN is not


def _all_grow(model: SubjectModel, plan: DecodingPlan, text: Sequence[int]) -> bool:
    """Return whether a model keeps nothing but keys and values of all tokens; short texts cannot show what becomes of those beyond a window."""
    rows = Rows(model, [text[:3]], plan)
    rows.logits(rows.view())
    rows.grow(1, len(text))
    return rows.all_grow


def _errors_of_joining(model: SubjectModel, plan: DecodingPlan, texts: Sequence[list[int]], settled: bool) -> Iterator[list[float]]:
    """Relative errors of the logits of each row between two of its changes.

    Three rows begin; the longest leaves, a shorter one comes, then one that is longer than all that are there.
    """
    expected = [model.hf(input_ids=torch.tensor([text], device=model.device), use_cache=False).logits[0].float() for text in texts]
    longest = len(texts[0])
    rows, there = Rows(model, [texts[0][:3], texts[1][:9], texts[2][:5]], plan), [0, 1, 2]
    if settled:
        rows.settle(len(texts), longest)
    parts = _told(rows, texts, expected, there, 1)
    if not settled:
        rows.grow(len(texts), longest)
    parts = [*parts, *_told(rows, texts, expected, there, STEPS - 1)]
    yield from _by_row(parts, there)
    for leaves, comes, length in ((1, 1, 2), (2, 2, longest - STEPS - 1)):
        place = there.index(leaves)
        left = rows.keep([row for row in range(len(there)) if row != place])
        assert left is not None
        there = [there[row] for row in left]
        other = Rows(model, [texts[comes][:length]], plan)
        other.land(rows)
        parts = _told(other, texts, expected, [comes], 1)
        rows.join(other)
        there.append(comes)
        parts = [*parts, *_told(rows, texts, expected, there, STEPS)]
        yield from _by_row(parts, there)


def _told(rows: Rows, texts: Sequence[list[int]], expected: Sequence[Tensor], there: Sequence[int], steps: int) -> list[tuple[int, float]]:
    """Go on with the texts themselves; the text of each row and the relative error of its logits, at each step."""
    found = []
    for _ in range(steps):
        view = rows.view()
        logits, read = rows.logits(view), view.real.sum(dim=1).tolist()
        found += [(text, relative(own, expected[text][n - 1])) for own, text, n in zip(logits, there, read, strict=True)]
        rows.append(torch.tensor([texts[text][n] for text, n in zip(there, read, strict=True)], device=rows.tokens.device))
    return found


def _by_row(parts: Sequence[tuple[int, float]], there: Sequence[int]) -> list[list[float]]:
    return [[error for text, error in parts if text == own] for own in there]
