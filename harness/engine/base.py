"""What an engine is asked, and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.interventions import Edit
from harness.types import FinishReason


@dataclass(frozen=True)
class GenerationRequest:
    """One text to generate: ``id`` and ``seed`` determine its random draws, ``prompt_ids`` is the whole prompt as token ids.

    ``edits`` are applied in their order where they meet at one layer.
    """

    id: str
    prompt_ids: Sequence[int]
    seed: int
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Generated:
    """What came out: the new tokens without the end-of-sequence token, and their text."""

    id: str
    token_ids: tuple[int, ...]
    text: str
    finish: FinishReason

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)
