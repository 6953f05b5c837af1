"""A judge that counts a word. With ``mailbox`` it answers as a batch service does: a ticket now, the rating when it is asked again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.contracts import JudgeTraits
from harness.options import Options
from harness.types import JudgeItem, Rating


class WordsOptions(Options):
    """Options of ``words``."""

    mailbox: str | None = None
    """A folder in which items wait until they are collected; none rates at once."""


class Words:
    """Implements :class:`harness.contracts.Judge`."""

    def __init__(self, options: WordsOptions) -> None:
        self.options = options
        later = "its mailbox to be emptied" if options.mailbox else ""
        self.traits = JudgeTraits(rubric="words/1", offline=True, answers_later=later)

    def prepare(self, bench: Any) -> None:
        if self.options.mailbox:
            Path(self.options.mailbox).mkdir(parents=True, exist_ok=True)

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        if self.options.mailbox is None:
            yield from (_rating(item.id, item.concept, item.text) for item in items)
            return
        if not items:
            return
        ticket = f"batch-{items[0].id}"
        content = [[item.id, item.concept, item.text] for item in items]
        (Path(self.options.mailbox) / ticket).write_text(json.dumps(content), encoding="utf-8")
        yield from (Rating(item.id, "pending", ticket=ticket) for item in reversed(items))

    def collect(self, tickets: Sequence[str]) -> Iterator[Rating]:
        for ticket in tickets:
            content = json.loads((Path(str(self.options.mailbox)) / ticket).read_text(encoding="utf-8"))
            yield from (_rating(name, concept, text) for name, concept, text in content)


def _rating(name: str, concept: str, text: str) -> Rating:
    """The word's occurrences, 2 at most; fluent is a text that seldom repeats itself."""
    word, said = concept.split()[-1].lower(), text.lower().split()
    fluency = 2.0 if said and len(set(said)) > 0.6 * len(said) else 1.0
    return Rating(name, "rated", float(min(2, text.lower().count(word))), 1.0, fluency)
