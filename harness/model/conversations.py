"""Texts that answer an instruction, as the model reads them: the chat template of the user's turn, then the answer without the template's end.

So AxBench reads its training and detection rows (Wu et al. 2025). What all templated prompts share says nothing of a text: its tokens do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness.files.timing import CLOCK, TOKENIZER

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel


class Turns(NamedTuple):
    """An instruction and the text that answers it. An empty instruction is an empty user's turn."""

    instruction: str
    answer: str


def conversation(model: SubjectModel, turns: Turns) -> tuple[list[int], int]:
    """Return the token ids of an instruction and its answer, and the place of the answer's first token."""
    prompt = model.prompt(turns.instruction)
    return [*prompt, *model.format.bodies([turns.answer])[0]], len(prompt)


def encoded_turns(model: SubjectModel, texts: list[Turns], limit: int) -> list[list[int]]:
    """Return the token ids of conversations, each cut to ``limit`` tokens; as :func:`harness.model.tokens.encoded` does of plain texts.

    Raises:
        ModelError: a text holds a token that the tokenizer knows and the model does not.
    """
    with CLOCK.part(TOKENIZER):
        prompts = [model.prompt(turns.instruction) for turns in texts]
        answers = model.format.bodies([turns.answer for turns in texts])
        both = zip(prompts, answers, strict=True)
        return [model.check_tokens([*prompt, *answer[: max(0, limit - len(prompt))]][:limit]) for prompt, answer in both]
