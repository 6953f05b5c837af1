"""The texts as the model reads them under an intervention: as replies to an instruction, before which a method's own words may stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from harness.engine.placing import edited, place
from harness.engine.shared import last_common_layer
from harness.errors import EngineError
from harness.evaluations.steering.side_effects.texts import COMPLETE, WRITE, passages, questions
from harness.fitting.frozen import FrozenModel
from harness.fitting.training_set import TrainingText
from harness.interventions import EditContext, Intervention
from harness.model.activations import check_lengths, row_lengths
from harness.model.adapters import Adapters
from harness.model.memory import TokenBudget

if TYPE_CHECKING:
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel

_LOGITS = 1 << 25
"""Logits of one forward pass at most."""


@dataclass(frozen=True, eq=False)
class Row:
    """A text that is read.

    Attributes:
        text: its token ids, and the place of the first token that is predicted.
        reply: the place at which the assistant's turn begins: tokens before it are the prompt's, to an edit.
    """

    text: TrainingText
    reply: int


@dataclass(frozen=True, eq=False)
class Ends:
    """Options of one question that differ in their last token alone, so that one row gives all of them.

    Attributes:
        question: its place.
        row: the question with one of them.
        options: places of these options among the question's.
        last: token id of each.
    """

    question: int
    row: Row
    options: tuple[int, ...]
    last: tuple[int, ...]


@dataclass(eq=False)
class Texts:
    """All texts behind one ``prefix``: passages first, then rows of questions."""

    prefix: str
    passages: list[Row] = field(default_factory=list)
    ends: list[Ends] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """Return all rows; a passage's number is its place."""
        return [*self.passages, *(end.row for end in self.ends)]


def texts_for(model: SubjectModel, prefix: str = "") -> Texts:
    """Return the shipped texts as token ids; ``prefix`` and a blank line stand before each instruction, as in generation."""
    gap = "" if model.format.has_template else "\n\n"  # a base model gets plain text
    found = Texts(prefix)
    prompt = model.prompt(WRITE, prefix=prefix)
    for ids in model.format.bodies([gap + passage.text for passage in passages()]):
        found.passages.append(_row(model, prompt, ids, 0))
    asked = questions()
    wholes = iter(model.format.bodies([f"{gap}{q.stem} {option}" for q in asked for option in q.options]))
    stems = model.format.bodies([gap + q.stem for q in asked])
    for number, (question, stem) in enumerate(zip(asked, stems, strict=True)):
        prompt = model.prompt(COMPLETE.format(stem=question.stem), prefix=prefix)
        options = [next(wholes) for _ in question.options]
        start = min(_shared(stem, ids) for ids in options)
        groups: dict[tuple[int, ...], list[int]] = {}
        for option, ids in enumerate(options):
            groups.setdefault(tuple(ids[:-1]), []).append(option)
        for beginning, those in groups.items():
            last = tuple(options[option][-1] for option in those)
            found.ends.append(Ends(number, _row(model, prompt, [*beginning, last[0]], min(start, len(beginning))), tuple(those), last))
    return found


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """Return how many tokens two texts begin with in common."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _row(model: SubjectModel, prompt: Sequence[int], ids: Sequence[int], start: int) -> Row:
    whole = model.check_tokens([*prompt, *ids])
    return Row(TrainingText(np.asarray(whole, dtype=np.int64), len(prompt) + start), len(prompt))


class Reader:
    """Reads texts under interventions. What layers below the first edit make of a text is kept from one intervention to the next.

    Args:
        model: the subject model; it is as it was found outside of a call.
        texts: what is read.

    Raises:
        DataError: a text is longer than the model's context.
    """

    def __init__(self, model: SubjectModel, texts: Texts) -> None:
        self.model, self.texts = model, texts
        self._rows = texts.rows
        check_lengths(model, row_lengths([row.text.ids for row in self._rows]))
        self._adapters = Adapters(model)
        self._frozen: dict[int, FrozenModel] = {}

    def read(self, numbers: Sequence[int], intervention: Intervention, frozen: FrozenModel) -> torch.Tensor:
        """Return the logits that predict the tokens of some rows from their first predicted one on: float32 ``[tokens, vocabulary]``.

        Raises:
            EngineError: they are not finite.
        """
        import torch

        batch = frozen.batch_of(numbers)
        context = self._context(batch, numbers)
        placed = place([intervention.edits] * len(numbers), self.model.device)
        adapter = nullcontext() if intervention.adapter is None else self._adapters.get(intervention.adapter).worn()
        with torch.no_grad(), adapter, edited(self.model, placed, context, prompt=True, generated=True):
            logits = frozen.logits(batch).float()
        if not bool(logits.isfinite().all()):
            raise EngineError("the logits are not finite", given=intervention, hint="use --dtype float32, or smaller strengths")
        return logits

    def frozen(self, intervention: Intervention) -> FrozenModel:
        """Return the model with what layers below an intervention's edits make of the texts."""
        after = -1
        if intervention.adapter is None and intervention.edits:
            after = last_common_layer(self.model, [site for edit in intervention.edits for site in edit.sites])
        if after not in self._frozen:
            frozen = FrozenModel(self.model, [row.text for row in self._rows], after, 1)
            frozen.read(range(len(self._rows)), TokenBudget.usual(self.model.device))
            self._frozen[after] = frozen
        return self._frozen[after]

    def batches(self, first: int, n: int) -> Iterator[list[int]]:
        """Yield the numbers of rows ``first`` to ``first + n``, in parts that fit into a pass, the longest first."""
        order = sorted(range(first, first + n), key=lambda number: -len(self._rows[number].text.ids))
        size = max(1, min(TokenBudget.usual(self.model.device).size, _LOGITS // self.model.vocab_size))
        while order:
            take = max(1, size // len(self._rows[order[0]].text.ids))
            yield order[:take]
            del order[:take]

    def counts(self, numbers: Sequence[int]) -> list[int]:
        """Return how many tokens of each of these rows are predicted."""
        return [len(self._rows[number].text.ids) - self._rows[number].text.start for number in numbers]

    def tokens(self, number: int) -> list[int]:
        """Return the predicted tokens of a row."""
        text = self._rows[number].text
        return [int(token) for token in text.ids[text.start :]]

    def _context(self, batch: Batch, numbers: Sequence[int]) -> EditContext:
        import torch

        places = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        reply = torch.tensor([self._rows[number].reply for number in numbers], device=batch.tokens.device)
        return EditContext.of(batch.real, batch.real & (places >= reply[:, None]))
