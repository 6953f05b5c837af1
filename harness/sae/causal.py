"""What a feature does to the next token: output score, Δ token confidence, and the tokens that its decoder row promotes.

Each row of a batch is another feature, edited at one layer of one neutral prompt. What rows share is computed once
(:mod:`harness.model.continuation`).
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import DictionaryError, EngineError, OptionError
from harness.model.continuation import Continuation
from harness.model.loading import SubjectModel
from harness.model.memory import Budget, halving
from harness.sae.dictionary import Dictionary
from harness.sae.loading import check_fits

NEUTRAL_PROMPT = "From my experience,"
"""The prompt of both papers' public sources. (The text of Arad et al. reads "In my experience,".)"""

_VOCABULARY_PIECE = 1 << 14

Others = Literal["zero", "keep"]
Unit = Literal["largest", "own", "one"]
Where = Literal["last", "all"]


@dataclass(frozen=True, eq=False)
class OutputScores:
    """Output scores of ``n`` features, in the order in which they were asked for (see :func:`output_scores`).

    Attributes:
        features: ``[n]`` int64.
        score: ``[n]`` float64, S_out in 0 to 1.
        rank: ``[n]`` int64, 0-based rank of the best promoted token among all tokens once the feature is amplified; the vocabulary's size for
            a feature without a direction.
        probability: ``[n]`` float64, the best promoted token's probability then.
        tokens: ``[n, top]`` int64, the promoted tokens (see :func:`logit_lens`).
        amount: what was added to each feature's activation.
    """

    features: NDArray[np.int64]
    score: NDArray[np.float64]
    rank: NDArray[np.int64]
    probability: NDArray[np.float64]
    tokens: NDArray[np.int64]
    amount: float


def output_scores(
    model: SubjectModel,
    dictionary: Dictionary,
    features: Sequence[int] | NDArray[np.integer[Any]],
    *,
    prompt: str = NEUTRAL_PROMPT,
    factor: float = 10.0,
    top: int = 20,
    batch_rows: int = 64,
    progress: Callable[[int], None] | None = None,
) -> OutputScores:
    """Return the output score of each feature (Arad et al. 2025, arXiv 2505.20063): S_out = (1 − r / |V|) · p.

    The feature is amplified at the last token of the prompt: x' = x + amount · s(x) · d̃_j, which keeps all other features and the reconstruction
    error; amount = ``factor`` × the largest activation of any feature at that token. r and p are the best rank (counted from 0) and the best
    probability, among all next tokens, of the ``top`` tokens of the feature's logit lens. Both belong to one token, since a better rank is
    a larger probability; the rank of a token is the number of tokens with a larger logit, so equal logits share the better rank. The logits are
    the model's own, caps included. |V| counts the rows of the unembedding, padding of the vocabulary included.

    A feature whose decoder row is zero promotes nothing: its score and probability are 0, and its rank is |V|. One whose amplification gives
    logits that are not finite has neither: its score and probability are NaN, and its rank is |V|.

    Args:
        model: the subject model.
        dictionary: of one of its layers.
        features: which; any order, repeats allowed.
        prompt: read as plain text, with BOS where the tokenizer puts one.
        factor: see above; positive.
        top: see above.
        batch_rows: features in one forward pass; halved for good where memory runs out.
        progress: called with the number of features done, after each batch.

    Raises:
        DictionaryError: a feature that does not exist; a dictionary of another width or layer; no feature is active at the last token.
        EngineError: an empty or too long prompt; logits that are not finite; a single row does not fit into memory.
        ModelError: a model without a plain final norm (no logit lens).
        OptionError: an option out of bounds.
    """
    index = _checked(model, dictionary, features, batch_rows)
    _require(math.isfinite(factor) and factor > 0, "factor", factor, "a positive number")
    ids = _prompt_ids(model, prompt)
    tokens = logit_lens(model, dictionary, index, top, batch_rows=batch_rows)
    with torch.no_grad():
        continuation = Continuation(model, dictionary.layer, ids, len(ids) - 1)
        x = continuation.x.to(dictionary.device, dictionary.dtype)
        amount = factor * _largest(dictionary, x, prompt).item()
        scale = dictionary.scale(x)

        def compute(part: slice) -> NDArray[Any]:
            edited = x + amount * scale * _rows(dictionary, index[part])[:, None]
            logits, broken = _numbers(continuation.logits(edited))
            promoted = torch.from_numpy(tokens[part]).to(logits.device)
            best = logits.gather(1, promoted.clamp(min=0)).amax(dim=1, keepdim=True)
            rank = (logits > best).sum(dim=1)
            log_p = best[:, 0] - logits.logsumexp(dim=1)
            found = torch.stack([rank.cpu().double(), log_p.cpu().double().exp()], dim=1)
            return found.masked_fill(broken.cpu()[:, None], float("nan")).numpy()

        found = _sweep(len(index), batch_rows, compute, model, progress, columns=2)
    aimless = (tokens < 0).any(axis=1)
    lost = np.isnan(found[:, 0])
    rank = np.where(aimless | lost, model.vocab_size, found[:, 0]).astype(np.int64)
    probability = np.where(aimless, 0.0, found[:, 1].clip(max=1.0))
    score = (1 - rank / model.vocab_size) * probability
    return OutputScores(index, score, rank, probability, tokens, amount)


def confidence_changes(
    model: SubjectModel,
    dictionary: Dictionary,
    features: Sequence[int] | NDArray[np.integer[Any]],
    *,
    prompt: str = NEUTRAL_PROMPT,
    alpha: float = 10.0,
    k: int = 1,
    others: Others = "zero",
    unit: Unit = "largest",
    positions: Where = "last",
    directions: Tensor | None = None,
    batch_rows: int = 64,
    progress: Callable[[int], None] | None = None,
) -> NDArray[np.float64]:
    """Return Δ token confidence of each feature, ``[n]`` (Wang et al. 2025, arXiv 2510.03659, appendix D): ΔC_k = C_k(edited) − C_k(model alone).

    C_k = −(1/k) · Σ log p over the k most probable next tokens: small where the model is sure. The reference is the plain forward pass, without the
    dictionary. Features are ranked by |ΔC_k|; its sign says whether the feature makes the model less sure (positive) or more.

    The paper amplifies a feature "by a factor α", scaling its code "while keeping all other codes at zero"; it leaves open what the factor
    multiplies, and at which tokens. The defaults take over the amplification of the output score, whose prompt and factor the paper shares: α × the
    largest activation of any feature, at the last token. Multiplying the feature's own activation (``unit="own"``) gives all features that are
    silent there, nearly all, one and the same value; a code of α (``unit="one"``) depends on the dictionary's scale. The readings do not
    agree: on SmolLM2, hardly any two of them rank features alike, so quote the one that was used.

    With ``others="zero"`` the residual is replaced by the decoder's output for that one feature, without the reconstruction error.

    Args:
        model, dictionary, features, prompt, batch_rows, progress: see :func:`output_scores`.
        alpha: α, any finite number.
        k: see above.
        others: ``zero``: see above; ``keep``: the feature is set as in a clamp, all other features and the reconstruction error stay.
        unit: what α multiplies to give the feature's code at a token: the largest activation of any feature there, the feature's own, or one.
        positions: the tokens that are edited: the prompt's ``last``, or ``all``, the first token included.
        directions: ``[n, d_in]``, in the place of the features' decoder rows, each scaled to the length of the row that it stands for: with random
            ones, what the same code does in any direction.

    Raises:
        DictionaryError, EngineError, OptionError: see :func:`output_scores` (a prompt on which no feature is active: for ``unit="largest"`` only).
    """
    index = _checked(model, dictionary, features, batch_rows)
    for name, value, allowed in (
        ("others", others, ("zero", "keep")),
        ("unit", unit, ("largest", "own", "one")),
        ("positions", positions, ("last", "all")),
    ):
        _require(value in allowed, name, value, allowed)
    _require(math.isfinite(alpha), "alpha", alpha, "a finite number")
    _require(1 <= k <= model.vocab_size, "k", k, f"1 to {model.vocab_size}, the tokens of {model.name}")
    ids = _prompt_ids(model, prompt)
    with torch.no_grad():
        continuation = Continuation(model, dictionary.layer, ids, len(ids) - 1 if positions == "last" else 0)
        x = continuation.x.to(dictionary.device, dictionary.dtype)
        largest = _largest(dictionary, x, prompt) if unit == "largest" else None
        reference = _uncertainty(_finite(continuation.unedited, None, model), k)

        def compute(part: slice) -> NDArray[Any]:
            along = None if directions is None else directions[part]
            edited = _with_codes(dictionary, x, index[part], alpha, largest, unit, others, along)
            logits, broken = _numbers(continuation.logits(edited))
            change = (_uncertainty(logits, k) - reference)[:, None].cpu().double()
            return change.masked_fill(broken.cpu()[:, None], float("nan")).numpy()

        return _sweep(len(index), batch_rows, compute, model, progress, columns=1)[:, 0]


def logit_lens(
    model: SubjectModel,
    dictionary: Dictionary,
    features: Sequence[int] | NDArray[np.integer[Any]],
    top: int = 10,
    *,
    batch_rows: int = 64,
) -> NDArray[np.int64]:
    """Return the tokens that each feature promotes, best first: token ids ``[n, top]`` int64.

    Logit lens: the effective decoder row, through the final norm, times the unembedding (its bias included), in float32 whatever the model's
    dtype: among the first 20, half precision exchanges one token in a few features, and the output score with it. Caps and scalings of the
    logits are left out; they keep the order. A feature whose decoder row is zero promotes nothing: its ids are −1.

    Raises:
        DictionaryError, EngineError, ModelError, OptionError: see :func:`output_scores`.
    """
    index = _checked(model, dictionary, features, batch_rows)
    _require(1 <= top <= model.vocab_size, "top", top, f"1 to {model.vocab_size}, the tokens of {model.name}")
    final_norm = copy.deepcopy(model.final_norm).float()

    def compute(part: slice) -> NDArray[Any]:
        rows = _rows(dictionary, index[part])
        seen = _unembed(model, final_norm(rows.to(model.device, torch.float32)[None])[0])
        best = _finite(seen, index[part], model).topk(top, dim=-1).indices.cpu()
        return torch.where((rows == 0).all(dim=-1, keepdim=True).cpu(), -1, best).numpy()

    with torch.no_grad():
        return _sweep(len(index), batch_rows, compute, model, None, columns=top).astype(np.int64)


# ------------------------------------------------------------------------------------------------------------------------- arithmetic


def _rows(dictionary: Dictionary, index: NDArray[np.int64]) -> Tensor:
    """Return the effective decoder rows ``[n, d_in]``; zero, not NaN, for a zero row of a dictionary that divides by its norm."""
    chosen = torch.from_numpy(index).to(dictionary.device)
    empty = (dictionary.sae.W_dec[chosen] == 0).all(dim=-1, keepdim=True)
    return dictionary.columns(chosen).rows.masked_fill(empty, 0.0)


def _unembed(model: SubjectModel, x: Tensor) -> Tensor:
    """Return logits ``[n, vocabulary]`` of normalised vectors, in float32; the weights are converted piece by piece, since a copy might not fit."""
    head = model.unembedding
    if type(head) is not torch.nn.Linear:  # its subclasses may hold packed weights
        logits: Tensor = head(x.to(model.dtype))
        return logits.float()
    pieces = torch.split(head.weight, _VOCABULARY_PIECE)
    logits = torch.cat([x @ piece.float().T for piece in pieces], dim=-1)
    return logits if head.bias is None else logits + head.bias.float()


def _largest(dictionary: Dictionary, x: Tensor, prompt: str) -> Tensor:
    """Return the largest activation of any feature at each token, in magnitude: ``[tokens, d_in]`` → ``[tokens]``."""
    largest = dictionary.encode(x).abs().amax(dim=-1)
    if not bool((largest > 0).any()):  # a NaN is not greater either
        raise DictionaryError(
            f"no feature of {dictionary.source} is active where it is to be amplified in the prompt {prompt!r}, so there is no amount to add",
            given=prompt,
            hint="give another prompt, or check that the dictionary belongs to the model",
        )
    return largest


def _with_codes(
    dictionary: Dictionary, x: Tensor, index: NDArray[np.int64], alpha: float, largest: Tensor | None, unit: Unit, others: Others,
    directions: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Return the residual stream ``[tokens, d_in]`` with each feature's code set in a row of its own: → ``[n, tokens, d_in]``."""
    rows = _rows(dictionary, index)
    if directions is not None:
        unit_rows = torch.nn.functional.normalize(directions.to(rows), dim=-1)
        rows = unit_rows * rows.norm(dim=-1, keepdim=True)
    own = torch.zeros(len(rows), len(x), device=x.device, dtype=x.dtype)
    if unit == "own" or others == "keep":
        own = dictionary.columns(torch.from_numpy(index)).activations(x).T
    code = alpha * (own if unit == "own" else torch.ones_like(own) if largest is None else largest.expand_as(own))
    if others == "zero":
        return dictionary.undo_normalization(code[..., None] * rows[:, None], like=x.expand(len(rows), -1, -1))
    return x + ((code - own)[..., None] * dictionary.scale(x)) * rows[:, None]


def _uncertainty(logits: Tensor, k: int) -> Tensor:
    """C_k: ``[n, vocabulary]`` → ``[n]``."""
    return logits.logsumexp(dim=-1) - logits.topk(k, dim=-1).values.mean(dim=-1)


# ------------------------------------------------------------------------------------------------------------------------- batches


def _sweep(
    n: int,
    batch_rows: int,
    compute: Callable[[slice], NDArray[Any]],
    model: SubjectModel,
    progress: Callable[[int], None] | None,
    columns: int,
) -> NDArray[Any]:
    """Return ``compute`` over all of ``n`` features, a batch at a time: → ``[n, columns]``. A batch that does not fit into memory is halved."""

    def alone(feature: int) -> EngineError:
        message = f"out of memory on {model.device} with a single feature"
        return EngineError(message, given=feature, hint="use a smaller dtype or another device")

    parts = [np.empty((0, columns))]
    for part, values in halving(n, Budget(batch_rows), compute, device=model.device, alone=alone):
        parts.append(values)
        if progress is not None:
            progress(part.stop - part.start)
    return np.concatenate(parts)


# ------------------------------------------------------------------------------------------------------------------------- checks


def _checked(model: SubjectModel, dictionary: Dictionary, features: Sequence[int] | NDArray[Any], batch_rows: int) -> NDArray[np.int64]:
    """Return the features ``[n]`` int64, once dictionary, model and batch size are found to be in order."""
    check_fits(dictionary, model, allow_other_model=True)
    _require(batch_rows >= 1, "batch_rows", batch_rows, "at least 1")
    index = np.array([operator.index(feature) for feature in features], dtype=np.int64)
    if len(index):
        dictionary.columns([int(index.min()), int(index.max())])
    return index


def _prompt_ids(model: SubjectModel, prompt: str) -> list[int]:
    ids = model.encode(prompt)
    if not prompt.strip() or not ids:
        raise EngineError(f"the prompt {prompt!r} is empty", given=prompt, hint="give some text whose next token is to be watched")
    if model.max_tokens is not None and len(ids) > model.max_tokens:
        allowed = f"at most {model.max_tokens}, which {model.name} reads"
        raise EngineError(f"the prompt has {len(ids)} tokens", given=len(ids), allowed=allowed, hint="shorten it")
    return ids


def _numbers(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the logits with rows that are not finite replaced by zeros, and which rows these are ``[n]``."""
    broken = ~logits.amax(dim=-1).isfinite()  # the maximum of a row with a NaN is NaN
    return logits.masked_fill(broken[:, None], 0.0), broken


def _finite(logits: Tensor, index: NDArray[np.int64] | None, model: SubjectModel) -> Tensor:
    """Return the logits, if the largest of each row is a number (that of a row with a NaN is NaN)."""
    fine = logits.amax(dim=-1).isfinite()
    if not bool(fine.all()):
        feature = None if index is None else int(index[int(fine.int().argmin())])
        which = "without an edit" if feature is None else f"of feature {feature}"
        hint = "use a smaller factor, or --dtype float32"
        raise EngineError(f"the logits {which} are not finite in {model.dtype}", given=feature, hint=hint)
    return logits


def _require(fine: bool, name: str, given: object, allowed: object) -> None:
    if not fine:
        raise OptionError(f"{name} is {given!r}", given=given, allowed=allowed)
