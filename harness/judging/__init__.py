"""Judging by language models and people: the rubric, the reading of replies, agreement between judges, the self-test. See ``docs/judges.md``."""

from __future__ import annotations

from harness.judging.replies import explain_rating, parse_rating

__all__ = ["explain_rating", "parse_rating"]
