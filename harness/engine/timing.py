"""Parts of an engine's time, on the clock that all rooms share (:mod:`harness.files.timing`)."""

from __future__ import annotations

from harness.files.timing import CLOCK, TOKENIZER

__all__ = ["CLOCK", "EDITS", "PROMPTS", "ROWS", "SAMPLING", "STEPS", "TOKENIZER"]

PROMPTS, STEPS = "model, prompts", "model, steps"
"""Forward passes over prompts, and those that decode one token for each open row; edits within them are a part of their own.

The rows of the latter, added up, are the tokens decoded."""
EDITS, SAMPLING, ROWS = "edits", "sampling", "rows"
"""Edits of the streams; choosing tokens; taking ended rows out."""
