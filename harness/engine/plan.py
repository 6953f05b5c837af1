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
from harness.engine.tried import LENGTHS, STEPS, held_bytes, joins, relative, shares, short_texts, tolerance
from harness.errors import EngineError
from harness.model.attention import fast_decoding
from harness.model.fingerprint import global_hooks
from harness.model.loading import SubjectModel
from harness.model.memory import is_out_of_memory

logger = logging.getLogger(__name__)

Hooks = frozenset[tuple[int, int]]
"""Places of modules (-1: all of torch), each with the identity of a hook there."""

_LEAVES = 1
"""The row that leaves the batch half-way; the longest, so that afterwards all rows begin with padding."""
_PADDINGS: tuple[Padding, ...] = ("left", "none")
_MASKS: tuple[Mask, ...] = ("all", "new")

_joins: WeakKeyDictionary[torch.nn.Module, dict[Hooks, tuple[bool, bool]]] = WeakKeyDictionary()
"""Whether rows may join a batch, and whether room for them may be made before the first prompts are read, by the same."""

_shares: WeakKeyDictionary[torch.nn.Module, dict[tuple[Hooks, int], bool]] = WeakKeyDictionary()
"""Whether the layers up to one read what prompts have in common once, by the same and that layer."""

_held: WeakKeyDictionary[torch.nn.Module, float] = WeakKeyDictionary()
"""Bytes of keys and values of a token."""

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
            able = joins(model, plan, settled=False)
            _joins.setdefault(model.hf, {})[hooks] = able, able and joins(model, plan, settled=True)
            _held[model.hf] = held_bytes(model)
        if plan != DecodingPlan():
            logger.warning("%s (%s) can only be decoded %s", model.name, type(model.hf).__name__, _described(plan))
    return plan


def known_plan(model: SubjectModel) -> DecodingPlan | None:
    """Return the plan of a model as it is, where one has been found."""
    return _known(model, _hooks(model.hf))


def token_bytes(model: SubjectModel) -> float:
    """Return the bytes of keys and values of a token of a row; infinite where a model holds something else, or what it holds is not found.

    Raises:
        EngineError: as :func:`plan_for`.
    """
    plan_for(model)
    return _held[model.hf]


def can_share(model: SubjectModel, after: int) -> bool:
    """Return whether the layers up to ``after`` may read once what prompts have in common (:mod:`harness.engine.shared`).

    It is tried once per layer.
    """
    hooks, known = _hooks(model.hf), _shares.setdefault(model.hf, {})
    found = [able for (found_with, layer), able in known.items() if layer == after and found_with <= hooks]
    if found:
        return any(found)
    with _evaluating(model.hf):
        known[hooks, after] = shares(model, after)
    return known[hooks, after]


def can_join(model: SubjectModel) -> bool:
    """Return whether rows may join a batch in the middle of its texts, and each has the text that it has alone; the model's plan has been found."""
    return any(joins for joins, _ in _of_joining(model))


def can_settle(model: SubjectModel) -> bool:
    """Return whether room for rows that join may be made before the first prompts are read, too."""
    return any(settles for _, settles in _of_joining(model))


def _of_joining(model: SubjectModel) -> list[tuple[bool, bool]]:
    hooks = _hooks(model.hf)
    return [able for found_with, able in _joins.get(model.hf, {}).items() if found_with <= hooks]


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
    texts = short_texts(model)
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
    lengths = (max(LENGTHS),) * len(texts) if plan.padding == "none" else LENGTHS
    try:
        if plan.together:
            errors = _errors(model, texts, lengths, expected, plan)
        else:
            errors = [part for row in range(len(texts)) for part in _errors(model, texts[row:][:1], lengths, expected[row:][:1], plan)]
    except Exception as error:  # whatever an architecture cannot do
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise EngineError(f"out of memory on {model.device} with three short texts", given=str(model.device)) from None
        return False
    return all(float(torch.tensor(part).median()) <= tolerance(model) for part in errors)  # a NaN is not


def _errors(
    model: SubjectModel, texts: Sequence[list[int]], lengths: Sequence[int], expected: Sequence[Tensor], plan: DecodingPlan
) -> list[list[float]]:
    """Relative errors of the logits at the steps of each row, before and after one row has left the batch."""
    rows, still = Rows(model, [text[:n] for text, n in zip(texts, lengths, strict=False)], plan), list(range(len(texts)))
    found: list[list[float]] = []
    for step in range(2 * STEPS):
        if step % STEPS == 0:
            if step and len(still) > 1:
                still.remove(_LEAVES)
                rows.keep(still)
            parts: dict[int, list[float]] = {row: [] for row in still}
            found.extend(parts.values())
        logits = rows.logits(rows.view())
        for place, row in enumerate(still):
            parts[row].append(relative(logits[place], expected[row][lengths[row] - 1 + step]))
        rows.append(torch.tensor([texts[row][lengths[row] + step] for row in still], device=model.device))
        if step == 0:  # another batch in between: what lies in the model's own modules is lost by it
            other = Rows(model, [text[1:3] for text in texts], plan)
            other.logits(other.view())
    return found
