"""The mask: which latents carry an attribute. One number for each latent, trained by the answers' first tokens through the layers above the site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.types import rng

from .pairs import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from harness.fitting.batches import Batch
    from harness.fitting.frozen import FrozenModel
    from harness.model.loading import SubjectModel
    from harness.sae.dictionary import Dictionary


@dataclass(frozen=True)
class Training:
    """How a mask is trained: temperatures fall evenly in their logarithm, from the first step to the last."""

    epochs: int
    batch: int
    rate: float
    hot: float
    cold: float


class Mixer:
    """A dictionary between two vectors: latents of the source where the mask says so, of the base elsewhere, decoded.

    Args:
        dictionary: it.
        keep_error: add what the dictionary does not reconstruct of the base.
    """

    def __init__(self, dictionary: Dictionary, keep_error: bool) -> None:
        self._dictionary, self._keep_error = dictionary, keep_error

    def __call__(self, base: Tensor, source: Tensor, mask: Tensor) -> Tensor:
        """Return ``[n, d_in]`` for base and source ``[n, d_in]`` and a mask ``[d_sae]`` from 0 to 1, with its gradient by the mask."""
        import torch

        dictionary = self._dictionary
        with torch.no_grad():
            before, after = dictionary.encode(base), dictionary.encode(source)
        mixed = dictionary.decode(before + mask * (after - before), like=base)
        if not self._keep_error:
            return mixed
        with torch.no_grad():
            error = base.to(mixed) - dictionary.decode(before, like=base)
        return mixed + error


class Above:
    """The layers above a site, reading the base prompts of pairs; those below are read once for all dictionaries.

    Args:
        model: the subject model.
        layer: the site's.
        pairs: whose base prompts are read, each with the first token of the answer that is wanted.
        skip: leading tokens that do not count.
    """

    def __init__(self, model: SubjectModel, layer: int, pairs: Sequence[Pair], skip: int) -> None:
        from harness.fitting.frozen import FrozenModel
        from harness.fitting.training_set import TrainingText
        from harness.model.memory import TokenBudget

        self.model, self.layer, self.pairs = model, layer, tuple(pairs)
        self.budget = TokenBudget.usual(model.device)
        texts = [TrainingText(np.array([*pair.base.ids, pair.token], dtype=np.int64), len(pair.base.ids)) for pair in pairs]
        self._frozen: FrozenModel = FrozenModel(model, texts, layer, skip)
        if self._frozen.bytes_of(range(len(texts))) <= _MOST:
            self._frozen.read(range(len(texts)), self.budget)

    def logp(self, numbers: Sequence[int], vectors: Tensor) -> Tensor:
        """Return the log-probability of the wanted answers' first tokens, ``[n]``, with ``vectors`` ``[n, d_model]`` at the bases' entities."""
        import torch

        batch = self._frozen.batch_of(numbers)
        at = torch.tensor([self.pairs[number].base.at for number in numbers], device=self.model.device)
        with _set_tokens(self.model, self.layer, at, vectors):
            return self._answers(batch)

    def _answers(self, batch: Batch) -> Tensor:
        return self._frozen.answers(batch)


_MOST = 1 << 31
"""Bytes of streams that are kept in memory; with more, the layers below are read again in each step."""


@contextmanager
def _set_tokens(model: SubjectModel, layer: int, at: Tensor, vectors: Tensor) -> Iterator[None]:
    """Within the context each row's stream after a layer is ``vectors[row]`` at the token ``at[row]``."""
    import torch

    from harness.model.structure import hidden_of, with_hidden

    def change(module: Any, arguments: Any, output: Any) -> Any:
        x = hidden_of(output)
        here = torch.arange(x.shape[1], device=x.device) == at[:, None]
        return with_hidden(output, torch.where(here[..., None], vectors[:, None].to(x), x))

    handle = model.layers[layer].register_forward_hook(change)
    try:
        yield
    finally:
        handle.remove()


def train_mask(
    above: Above, mixer: Mixer, numbers: Sequence[int], base: Tensor, source: Tensor, d_sae: int, training: Training, seed: int, attribute: str
) -> tuple[Tensor, list[float]]:
    """Train the mask of one attribute.

    Args:
        above: the model, with all pairs that are trained on.
        mixer: the dictionary.
        numbers: places of the attribute's pairs among these.
        base, source: vectors of all pairs, ``[pairs, d_in]``.
        d_sae: latents.
        training: how.
        seed: of the order of the pairs.
        attribute: whose mask; a part of the draw.

    Returns:
        m, ``[d_sae]`` float32: a latent is swapped where m > 0; and the mean loss (nats) of each epoch.
    """
    import torch

    logits = torch.zeros(d_sae, device=base.device, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=training.rate)
    per_epoch = -(-len(numbers) // training.batch)
    steps, losses = training.epochs * per_epoch, []
    temperatures = np.geomspace(training.hot, training.cold, steps).tolist()
    with torch.enable_grad():
        for step in range(steps):
            epoch, part = divmod(step, per_epoch)
            order = rng(seed, f"ravel-order {epoch}", attribute).permutation(len(numbers))
            chosen = [numbers[int(place)] for place in order[part * training.batch : (part + 1) * training.batch]]
            index = torch.tensor(chosen, device=base.device)
            mask = torch.sigmoid(logits / temperatures[step])
            loss = -above.logp(chosen, mixer(base[index], source[index], mask)).mean()
            (logits.grad,) = torch.autograd.grad(loss, [logits])
            optimizer.step()
            losses.append(float(loss.detach()) * len(chosen))
    found = logits.detach()
    return found, [sum(losses[epoch * per_epoch : (epoch + 1) * per_epoch]) / len(numbers) for epoch in range(training.epochs)]
