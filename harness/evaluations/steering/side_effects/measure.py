"""What an intervention does to the model: KL and log-likelihood on each passage, and which option of each question it prefers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.evaluations.steering.side_effects.reading import Ends, Reader, texts_for
from harness.evaluations.steering.side_effects.texts import passages, questions
from harness.interventions import Intervention
from harness.types import Json

if TYPE_CHECKING:
    import torch

    from harness.model.loading import SubjectModel

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found under an intervention.

    Attributes:
        tokens: ``[passages]`` int64, tokens of each.
        kl: ``[passages]``, the sum over tokens of KL(unsteered ‖ steered) of the next token's distribution, in nats.
        nll: ``[passages]``, −log p of the passage, steered.
        unsteered_nll: ``[passages]``, the same unsteered, in the same pass.
        right: ``[questions]`` bool, the right option has the highest mean log-probability per token.
    """

    tokens: NDArray[np.int64]
    kl: Floats
    nll: Floats
    unsteered_nll: Floats
    right: NDArray[np.bool_]

    def as_json(self) -> dict[str, Json]:
        """Return it as the store keeps it."""
        return {
            "tokens": self.tokens.tolist(),
            "kl": self.kl.tolist(),
            "nll": self.nll.tolist(),
            "unsteered_nll": self.unsteered_nll.tolist(),
            "right": "".join("1" if one else "0" for one in self.right.tolist()),
        }


class SideEffectsMeter:
    """Measures interventions of one model, one after the other. Texts, and what lower layers make of them, are kept in between."""

    def __init__(self, model: SubjectModel) -> None:
        self.model = model
        self._plain = Reader(model, texts_for(model))
        self._unsteered: Measured | None = None

    @property
    def unsteered(self) -> Measured:
        """Return what the model does by itself."""
        if self._unsteered is None:
            self._unsteered = self._measure(self._plain, Intervention())
        return self._unsteered

    def measure(self, intervention: Intervention) -> Measured:
        """Return what the model does under an intervention; of an empty one, what it does by itself.

        Raises:
            EngineError: the steered logits are not finite.
        """
        if not (intervention.edits or intervention.adapter or intervention.prompt_prefix):
            return self.unsteered
        prefix = intervention.prompt_prefix
        reader = Reader(self.model, texts_for(self.model, prefix)) if prefix else self._plain
        return self._measure(reader, intervention)

    def _measure(self, reader: Reader, intervention: Intervention) -> Measured:
        n = len(passages())
        kl, nll, plain, tokens = (np.zeros(n) for _ in range(4))
        frozen = reader.frozen(intervention)
        nothing = Intervention()
        empty = not (intervention.edits or intervention.adapter or intervention.prompt_prefix)
        base = frozen if reader is self._plain else self._plain.frozen(nothing)
        for numbers in reader.batches(0, n):
            steered = reader.read(numbers, intervention, frozen).log_softmax(dim=-1)
            unsteered = steered if empty else self._plain.read(numbers, nothing, base).log_softmax(dim=-1)
            divergence = (unsteered.exp() * (unsteered - steered)).sum(dim=-1)
            counts = reader.counts(numbers)
            wanted = [token for number in numbers for token in reader.tokens(number)]
            for number, d, s, u in zip(
                numbers, _sums(divergence, counts), _sums(-_at(steered, wanted), counts), _sums(-_at(unsteered, wanted), counts), strict=True
            ):
                kl[number], nll[number], plain[number] = max(d, 0.0), s, u  # rounding can leave a negative zero
            tokens[numbers] = counts
        return Measured(tokens.astype(np.int64), kl, nll, plain, self._right(reader, intervention))

    def _right(self, reader: Reader, intervention: Intervention) -> NDArray[np.bool_]:
        """Return which questions are answered rightly; of options that are equally likely none is preferred."""
        n, ends = len(passages()), reader.texts.ends
        scores = [np.zeros(len(question.options)) for question in questions()]
        frozen = reader.frozen(intervention)
        for numbers in reader.batches(n, len(ends)):
            logp = reader.read(numbers, intervention, frozen).log_softmax(dim=-1)
            start = 0
            for number, count in zip(numbers, reader.counts(numbers), strict=True):
                end = ends[number - n]
                for option, score in _options(logp[start : start + count], reader.tokens(number), end):
                    scores[end.question][option] = score
                start += count
        return np.array([bool((own[0] > own[1:]).all()) for own in scores])


def _options(logp: torch.Tensor, tokens: list[int], end: Ends) -> list[tuple[int, float]]:
    """Return each option's mean log-probability per token, from ``[tokens, vocabulary]``."""
    before = float(_at(logp[:-1], tokens[:-1]).sum()) if len(tokens) > 1 else 0.0
    last = [float(logp[-1, token]) for token in end.last]
    return [(option, (before + value) / len(tokens)) for option, value in zip(end.options, last, strict=True)]


def _at(logp: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    import torch

    return logp.gather(1, torch.tensor(tokens, device=logp.device)[:, None])[:, 0]


def _sums(values: torch.Tensor, counts: list[int]) -> list[float]:
    """Return the sum over each row's tokens, in float64."""
    import torch

    return [float(part.double().sum()) for part in torch.split(values, counts)]
