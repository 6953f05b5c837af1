"""How a model is decoded: what is tried on three short texts, and taken only where it gives what reading each text as a whole gives.

Nothing is assumed of an architecture. Attention caches can be padded and cut; recurrent states may run over padding (RWKV, xLSTM), take their cache
under another name, cannot leave a batch (Mamba), or lie in the model's own modules, where another text writes over them (RecurrentGemma).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from harness.engine.rows import WHOLE, DecodingPlan, Mask, Padding, Rows
from harness.engine.shared import prompts_once
from harness.errors import EngineError
from harness.model.attention import fast_decoding
from harness.model.fingerprint import global_hooks
from harness.model.loading import SubjectModel
from harness.model.memory import is_out_of_memory

logger = logging.getLogger(__name__)

Hooks = frozenset[tuple[int, int]]
"""Places of modules (-1: all of torch), each with the identity of a hook there."""

_TEXT = "When the rain stopped, we went down to the river: 3 boats lay there, and nobody knew whose they were. “Take one”, said my brother."
_LENGTHS = (3, 10, 6)
"""Tokens of the texts' beginnings: where rows are padded, they differ enough for a state that ran over padding to show."""
_LEAVES = 1
"""The row that leaves the batch half-way; the longest, so that afterwards all rows begin with padding."""
_STEPS = 3
"""Before that row leaves, and again afterwards. The median of three counts: rounding may choose another expert (MoE) at one of them."""

_TOLERANCE = 0.005
"""Relative error of logits in float32; kernels of GPUs that convolve in TF32 are off by a thousandth, what is wrong by half and more."""

_PADDINGS: tuple[Padding, ...] = ("left", "none")
_MASKS: tuple[Mask, ...] = ("all", "new")

_sharing: WeakKeyDictionary[torch.nn.Module, dict[Hooks, bool]] = WeakKeyDictionary()
"""Whether prompts may be read once, by the same."""

_plans: WeakKeyDictionary[torch.nn.Module, dict[Hooks, DecodingPlan]] = WeakKeyDictionary()
"""The plans of each model, by the hooks that were in it: what is right under a hook need not be so without it."""


def plan_for(model: SubjectModel) -> DecodingPlan:
    """The quickest way to decode a model that is right. Found once a model and the hooks in it, by a dozen short forward passes.

    Raises:
        EngineError: the model cannot read a short text, or does not fit into memory.
    """
    hooks = _hooks(model.hf)
    plan = _known(model, hooks)
    if plan is None:
        with _evaluating(model.hf):
            plan = _plans.setdefault(model.hf, {})[hooks] = _find(model)
            _sharing.setdefault(model.hf, {})[hooks] = plan == DecodingPlan() and _shares(model, plan)
        if plan != DecodingPlan():
            logger.warning("%s (%s) can only be decoded %s", model.name, type(model.hf).__name__, _described(plan))
    return plan


def known_plan(model: SubjectModel) -> DecodingPlan | None:
    """Return the plan of a model as it is, where one has been found."""
    return _known(model, _hooks(model.hf))


def can_share(model: SubjectModel) -> bool:
    """Return whether a model whose plan has been found reads rows of one prompt once (:mod:`harness.engine.shared`) as it reads each of them."""
    hooks = _hooks(model.hf)
    return any(able for found_with, able in _sharing.get(model.hf, {}).items() if found_with <= hooks)


def _described(plan: DecodingPlan) -> str:
    if not plan.cache:
        return "by reading whole texts at every token, which is slow"
    if not plan.together:
        return "one text at a time, which is slow"
    if plan.padding == "none":
        return "with texts of one length together, which is slow"
    return f"with {plan.padding} padding, a mask of {plan.mask} tokens, and rows cut by {plan.cut}"


def _hooks(root: torch.nn.Module) -> Hooks:
    """Return which forward hooks stand in a model."""
    places = ((place, vars(module).get(kind)) for place, module in enumerate(root.modules()) for kind in ("_forward_pre_hooks", "_forward_hooks"))
    own = [(place, id(hook)) for place, hooks in places for hook in (hooks or {}).values()]
    everywhere = [(-1, id(hook)) for name, hooks in global_hooks().items() if "forward" in name for hook in hooks.values()]
    return frozenset([*own, *everywhere])


def _known(model: SubjectModel, hooks: Hooks) -> DecodingPlan | None:
    """Return a plan that was found with no other hooks than those that are there now: further ones do not change how a model decodes."""
    return next((plan for found_with, plan in _plans.get(model.hf, {}).items() if found_with <= hooks), None)


@contextmanager
def _evaluating(root: torch.nn.Module) -> Iterator[None]:
    """Within the context no module is in training mode: dropout would make every way to decode look wrong."""
    training = [module for module in root.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _find(model: SubjectModel) -> DecodingPlan:
    texts = _texts(model)
    if texts is None:
        return WHOLE
    with fast_decoding(model.hf), torch.no_grad():
        expected = _read_whole(model, texts)
        if not all(bool(rows.isfinite().all()) for rows in expected):
            return WHOLE  # nothing to compare with: decoding says what is not finite
        for plan in _candidates(model, texts, expected):
            if _is_right(model, texts, expected, plan):
                return plan
    return DecodingPlan(cache=False, padding="right", together=False)  # the very passes that the others were compared with


def _candidates(model: SubjectModel, texts: Sequence[list[int]], expected: Sequence[Tensor]) -> Iterator[DecodingPlan]:
    """Ways to decode, the quickest first; a way to cut rows only where the rest of it is right."""
    yield DecodingPlan()
    for padding in _PADDINGS:
        for mask in _MASKS:
            uncut = DecodingPlan(padding=padding, mask=mask, cut="keep")
            if _is_right(model, texts, expected, uncut):
                yield from (replace(uncut, cut="select"), replace(uncut, cut="reorder"), uncut)
    yield DecodingPlan(padding="none", together=False)
    yield WHOLE


def _texts(model: SubjectModel) -> list[list[int]] | None:
    """Three texts as token ids, each of its length in _LENGTHS and all steps, no two with the same beginning; None for a very short context."""
    longest = max(_LENGTHS) + 2 * _STEPS
    if model.max_tokens is not None and model.max_tokens < longest:
        return None
    ids = model.encode(_TEXT)
    ids = ids * -(-3 * longest // max(1, len(ids)))
    return [ids[start : start + longest] for start in (0, longest, 2 * longest)]


def _read_whole(model: SubjectModel, texts: Sequence[list[int]]) -> list[Tensor]:
    """Logits of each text read alone, as a whole: float32 ``[tokens, vocabulary]``."""
    found = []
    try:
        for text in texts:
            tokens = torch.tensor([text], device=model.device)
            found.append(model.hf(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits[0].float())
    except Exception as error:  # whatever an architecture raises
        kind = type(model.hf).__name__
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            message = f"out of memory on {model.device} with one text of {len(texts[0])} tokens"
            raise EngineError(message, given=len(texts[0]), hint="use a smaller model, a smaller dtype or another --device") from None
        detail = " ".join(str(error).split())[:200]
        message = f"{model.name} ({kind}) cannot read a short text ({type(error).__name__}: {detail})"
        raise EngineError(message, given=kind, hint="use another model, or another version of transformers") from error
    return found


def _is_right(model: SubjectModel, texts: Sequence[list[int]], expected: Sequence[Tensor], plan: DecodingPlan) -> bool:
    """Whether decoding gives, at each step of each row, the logits of the whole text."""
    lengths = (max(_LENGTHS),) * len(texts) if plan.padding == "none" else _LENGTHS
    try:
        if plan.together:
            errors = _errors(model, texts, lengths, expected, plan)
        else:
            errors = [part for row in range(len(texts)) for part in _errors(model, texts[row:][:1], lengths, expected[row:][:1], plan)]
    except Exception as error:  # whatever an architecture cannot do
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise EngineError(f"out of memory on {model.device} with three short texts", given=str(model.device)) from None
        return False
    return all(float(torch.tensor(part).median()) <= _tolerance(model) for part in errors)  # a NaN is not


def _tolerance(model: SubjectModel) -> float:
    """Relative error of logits up to which they count as right."""
    return max(_TOLERANCE, 16 * torch.finfo(model.dtype).eps)


def _errors(
    model: SubjectModel, texts: Sequence[list[int]], lengths: Sequence[int], expected: Sequence[Tensor], plan: DecodingPlan
) -> list[list[float]]:
    """Relative errors of the logits at the steps of each row, before and after one row has left the batch."""
    rows, still = Rows(model, [text[:n] for text, n in zip(texts, lengths, strict=False)], plan), list(range(len(texts)))
    found: list[list[float]] = []
    for step in range(2 * _STEPS):
        if step % _STEPS == 0:
            if step and len(still) > 1:
                still.remove(_LEAVES)
                rows.keep(still)
            parts: dict[int, list[float]] = {row: [] for row in still}
            found.extend(parts.values())
        logits = rows.logits(rows.view())
        for place, row in enumerate(still):
            parts[row].append(_relative(logits[place], expected[row][lengths[row] - 1 + step]))
        rows.append(torch.tensor([texts[row][lengths[row] + step] for row in still], device=model.device))
        if step == 0:  # another batch in between: what lies in the model's own modules is lost by it
            other = Rows(model, [text[1:3] for text in texts], plan)
            other.logits(other.view())
    return found


def _relative(logits: Tensor, expected: Tensor) -> float:
    """How far logits are from those expected, as a share of their spread over the vocabulary."""
    return float((logits - expected).norm() / (expected - expected.mean()).norm().clamp(min=torch.finfo(torch.float32).tiny))


def _shares(model: SubjectModel, plan: DecodingPlan) -> bool:
    """Whether rows of one prompt that is read once have the logits that they have apart."""
    texts = _texts(model)
    if texts is None:
        return False
    prompts = [texts[0][:10], texts[1][:6], texts[0][:10], texts[0][:10]]
    try:
        with fast_decoding(model.hf), torch.no_grad():
            layers = {(model.n_layers - 1) // 2, model.n_layers - 1}
            errors = [error for after in layers for error in _errors_of_sharing(model, plan, prompts, texts[2], after)]
    except Exception:  # whatever an architecture cannot do, memory for four short texts included
        return False
    return all(error <= _tolerance(model) for error in errors)  # a NaN is not


def _errors_of_sharing(
    model: SubjectModel, plan: DecodingPlan, prompts: Sequence[Sequence[int]], new: Sequence[int], after: int
) -> Iterator[float]:
    """Relative errors of the logits at some steps, before and after a row has left the batch."""
    apart, once, left = Rows(model, prompts, plan), Rows(model, prompts, plan), len(prompts)
    for step in range(4):
        if step == 2:
            left -= 1
            apart.keep(range(1, left + 1))
            once.keep(range(1, left + 1))
        expected = apart.logits(apart.view())
        with prompts_once(once, once.view(), after) as view:
            found = once.logits(view)
        yield from (_relative(*pair) for pair in zip(found, expected, strict=True))
        chosen = torch.tensor(new[step : step + left], device=model.device)
        apart.append(chosen)
        once.append(chosen)
