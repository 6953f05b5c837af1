"""The task file's tables of steering: decoding, the tokens that edits touch, and strengths."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.tasks.dictionaries import Table
from harness.types import Decoding


class DecodingTable(Table):
    """``[decoding]``: the same for every method."""

    max_new_tokens: int = Field(128, ge=1)
    """Longest reply, in tokens."""
    temperature: float = Field(1.0, ge=0)
    """0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus; 1 is the whole distribution."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Divides the logits of tokens already seen; 1 changes nothing."""
    penalty_scope: Literal["all", "generated"] = "all"
    """Tokens that count as seen: prompt and reply, or the reply alone."""

    def decoding(self) -> Decoding:
        return Decoding(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            repetition_penalty=self.repetition_penalty,
            penalty_scope=self.penalty_scope,
        )


class SteeringTable(Table):
    """``[steering]``: the tokens that edits touch; strengths by steerer."""

    prompt: bool = True
    """Edit the prompt's tokens."""
    generated: bool = True
    """Edit the generated tokens."""
    first_token: bool = True
    """Edit the prompt's first token (BOS), too."""
    layer: int | None = Field(None, ge=0)
    """Layer of methods without a dictionary; left out, that of the first dictionary."""
    grids: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    """Strengths by steerer, ascending; a steerer that is not named here uses its own. Joined ones: by their names with + between."""
