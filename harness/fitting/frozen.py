"""The frozen model in training: layers below what is learnt are read once a text, and logits are made where an answer is predicted.

Whether a model can be read so is tried on two texts (the same logits as of the whole pass), not looked up; one that can't is read as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.files.timing import CLOCK, READING
from harness.fitting.batches import Asked, Batch, make_batch

if TYPE_CHECKING:
    import torch

    from harness.errors import EngineError
    from harness.fitting.training_set import TrainingText
    from harness.model.loading import SubjectModel
    from harness.model.memory import TokenBudget

_ROUNDING = 64
"""Machine precisions by which logits may differ that are the same, in units of the largest."""
_PROBE = 48
"""Tokens at which the two texts are cut that are tried."""


class FrozenModel:
    """A subject model whose weights stay as they are, reading texts of a training set.

    Args:
        model: it.
        texts: the training set's.
        after: the last layer whose output is the same whatever is learnt; −1 where none is.
        skip: leading tokens of a text that do not count.

    Attributes:
        begins_above: whether layers up to ``after`` are left out where their output is known.
        picks: whether logits are made of the wanted tokens alone.
    """

    def __init__(self, model: SubjectModel, texts: Sequence[TrainingText], after: int, skip: int) -> None:
        self.model, self.texts, self.after, self.skip = model, texts, after, skip
        self._known: dict[int, int] = {}
        self._streams: torch.Tensor | None = None
        self._outputs: list[Any] = []
        self.picks = self.begins_above = False
        self._try()

    def tokens_of(self, numbers: Iterable[int]) -> int:
        """Return the tokens of some texts, each text counted once."""
        return sum(len(self.texts[number].ids) for number in set(numbers))

    def bytes_of(self, numbers: Iterable[int]) -> int:
        """Return how much memory it takes to keep some texts' streams."""
        return self.tokens_of(numbers) * self.model.d_model * self.model.dtype.itemsize if self.begins_above else 0

    def read(self, numbers: Sequence[int], budget: TokenBudget) -> None:
        """Read some texts up to ``after``, and keep these streams in place of those of before.

        Raises:
            ModelError: a stream is not finite; a text does not fit into memory.
            DataError: a text is longer than the model's context.
        """
        import torch

        from harness.interventions import Site
        from harness.model.activations import check_finite, residuals

        self._known, self._streams = {}, None
        if not self.begins_above:
            return
        chosen = sorted(set(numbers))
        kept = torch.empty(self.tokens_of(chosen), self.model.d_model, dtype=self.model.dtype, device=self.model.device)
        starts = np.cumsum([0, *(len(self.texts[number].ids) for number in chosen)]).tolist()
        for batch in residuals(self.model, [self.texts[number].ids for number in chosen], Site(self.after), token_budget=budget, skip=self.skip):
            check_finite(batch, self.model, chosen)
            for row, place in enumerate(batch.rows):
                length = starts[place + 1] - starts[place]
                kept[starts[place] : starts[place + 1]] = batch.x[row, :length]
        self._streams, self._known = kept, dict(zip(chosen, starts, strict=False))

    def forget(self) -> None:
        """Let go of the streams that are kept."""
        self._known, self._streams = {}, None

    def answers(self, batch: Batch) -> torch.Tensor:
        """Return the log-probability of each row's answer, the sum over its tokens: ``[rows]``, float32 or more, with its gradient.

        Within a context that edits streams of layers from ``after`` on, as :meth:`Learner.worn` gives it.
        """
        import torch
        from torch.nn.functional import cross_entropy

        logits = self._logits(batch, self._stream(batch))
        precise = torch.promote_types(logits.dtype, torch.float32)
        logp = -cross_entropy(logits.to(precise), batch.tokens[batch.answer], reduction="none")
        return torch.zeros(len(batch.tokens), dtype=precise, device=logp.device).index_add(0, batch.answer.nonzero()[:, 0], logp)

    def logits(self, batch: Batch) -> torch.Tensor:
        """Return the logits that predict the answers' tokens, row by row: ``[tokens of answers, vocabulary]`` in the model's dtype.

        Within a context that edits streams of layers from ``after`` on.
        """
        return self._logits(batch, self._stream(batch))

    def reference(self, numbers: Sequence[int], budget: TokenBudget) -> torch.Tensor:
        """Return the log-probability of the answers of some texts: ``[all texts]``, NaN for the others; nothing is learnt or edited."""
        import torch

        from harness.model.memory import halving

        chosen = sorted(set(numbers), key=lambda number: -len(self.texts[number].ids))
        found = torch.full((len(self.texts),), torch.nan, dtype=torch.promote_types(self.model.dtype, torch.float32), device=self.model.device)

        def work(part: slice) -> torch.Tensor:
            with CLOCK.part(READING, self.model.device, len(chosen[part])), torch.no_grad():
                return self.answers(self.batch_of(chosen[part]))

        def alone(place: int) -> Exception:
            return too_large(self, 1, len(self.texts[chosen[place]].ids))

        def width(place: int) -> int:
            return len(self.texts[chosen[place]].ids)

        for part, logp in halving(len(chosen), budget, work, device=self.model.device, alone=alone, width=width):
            found[chosen[part]] = logp.to(found.dtype)
        return found

    def batch_of(self, numbers: Sequence[int]) -> Batch:
        """Return some texts as rows of a batch without a concept."""
        asked = [Asked(0, "", place, (number,), "", 1, 1, 0.0) for place, number in enumerate(numbers)]
        return make_batch(self.model, self.texts, asked, skip=self.skip, seed=0, training=False)

    # ------------------------------------------------------------------------------------------------------------------------- inside

    def _stream(self, batch: Batch) -> torch.Tensor | None:
        """Return the output of layer ``after``, ``[rows, tokens, d_model]``; None where it is not known. At padding it is another text's."""
        import torch

        numbers = batch.text.tolist()
        if self._streams is None or any(number not in self._known for number in numbers):
            return None
        starts = torch.tensor([self._known[number] for number in numbers], device=self._streams.device)
        places = starts[:, None] + torch.arange(batch.tokens.shape[1], device=self._streams.device)
        return self._streams[places.clamp_max(len(self._streams) - 1)]

    def _logits(self, batch: Batch, stream: torch.Tensor | None) -> torch.Tensor:
        """Return the logits that predict the answers' tokens, ``[tokens of answers, vocabulary]``."""
        import torch

        wanted = torch.zeros_like(batch.answer)
        wanted[:, :-1] = batch.answer[:, 1:]
        with ExitStack() as stack:
            if stream is not None:
                stack.enter_context(self._begun(stream))
            if self.picks:
                stack.enter_context(self._picked(wanted))
            logits: torch.Tensor = self.model.hf(input_ids=batch.tokens, attention_mask=batch.real.long(), use_cache=False).logits
        return logits[0] if self.picks else logits[wanted]

    @contextmanager
    def _begun(self, stream: torch.Tensor) -> Iterator[None]:
        """Within the context a forward pass takes ``stream`` as the output of layer ``after``; the layers up to it do not run."""
        from harness.model.structure import with_hidden

        layers = list(self.model.layers[: self.after + 1])
        before = [vars(layer).get("forward") for layer in layers]
        try:
            for layer, output in zip(layers, self._outputs, strict=True):
                found = with_hidden(output, stream)
                layer.forward = lambda *arguments, found=found, **named: found
            yield
        finally:
            for layer, own in zip(layers, before, strict=True):
                if own is None:
                    vars(layer).pop("forward", None)
                else:
                    layer.forward = own

    @contextmanager
    def _picked(self, wanted: torch.Tensor) -> Iterator[None]:
        """Within the context the unembedding reads the wanted tokens alone, as one row."""

        def pick(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
            x, *rest = arguments
            if x.shape[:2] != wanted.shape:
                raise ValueError(f"the unembedding reads {tuple(x.shape)} where the batch is {tuple(wanted.shape)}")
            return (x[wanted][None], *rest)

        handle = self.model.unembedding.register_forward_pre_hook(pick)
        try:
            yield
        finally:
            handle.remove()

    def _try(self) -> None:
        """Find out on two texts of different lengths what can be spared."""
        import torch

        if not self.texts:
            return
        batch = self._probe()
        with torch.no_grad():
            expected = self._logits(batch, None)
            self.picks = True
            self.picks = self._agrees(batch, None, expected)
            if self.after >= 0:
                stream = self._watch(batch)
                self.begins_above = stream is not None and self._agrees(batch, stream, expected)

    def _probe(self) -> Batch:
        """Return the shortest and the longest text, cut, as a batch."""
        from dataclasses import replace

        by_length = sorted(self.texts, key=lambda text: len(text.ids))
        cut = [replace(text, ids=text.ids[: max(_PROBE, text.start + 1)]) for text in (by_length[-1], by_length[0])]
        asked = [Asked(0, "", place, (place,), "", 1, 1, 0.0) for place in range(2)]
        return make_batch(self.model, cut, asked, skip=self.skip, seed=0, training=False)

    def _watch(self, batch: Batch) -> torch.Tensor | None:
        """Return the output of layer ``after`` in a whole pass, and note what the layers up to it return, so that it can be given in their place."""
        from harness.errors import ModelError
        from harness.model.structure import hidden_of, with_hidden

        seen: list[Any] = []

        def note(module: Any, arguments: Any, output: Any) -> None:
            seen.append(output)

        handles = [layer.register_forward_hook(note) for layer in self.model.layers[: self.after + 1]]
        try:
            self.model.hf(input_ids=batch.tokens, attention_mask=batch.real.long(), use_cache=False)
            stream = hidden_of(seen[-1])
        except (ModelError, TypeError, LookupError):
            return None
        finally:
            for handle in handles:
                handle.remove()
        if len(seen) != self.after + 1 or stream.shape[:2] != batch.tokens.shape or any(map(_holds_more, seen)):
            return None
        self._outputs = [with_hidden(output, stream[:0]) for output in seen]
        return stream

    def _agrees(self, batch: Batch, stream: torch.Tensor | None, expected: torch.Tensor) -> bool:
        import torch

        try:
            found = self._logits(batch, stream)
        except Exception:  # whatever an architecture raises: then it is read as a whole
            return False
        if found.shape != expected.shape:
            return False
        limit = _ROUNDING * torch.finfo(expected.dtype).eps * float(expected.float().abs().max())
        return bool(((found.float() - expected.float()).abs() <= limit).all())


def _holds_more(output: Any) -> bool:
    """Return whether a layer hands on tensors beside its stream: these would be another batch's."""
    import torch

    return not isinstance(output, torch.Tensor) and any(isinstance(part, torch.Tensor) for part in output[1:])


def too_large(frozen: FrozenModel, rows: int, tokens: int) -> EngineError:
    """Return the error of an example that does not fit into memory by itself."""
    from harness.errors import EngineError

    what = f"{rows} texts of up to {tokens} tokens" if rows > 1 else f"a text of {tokens} tokens"
    message = f"out of memory on {frozen.model.device} with the training on {what}"
    return EngineError(message, given=tokens, hint="lower corpus.max_tokens, or use another device")
