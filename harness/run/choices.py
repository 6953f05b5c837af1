"""What the command line may replace in a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypedDict

from harness.types import Aggregation, ProtocolName


@dataclass(frozen=True)
class Choices:
    """What the command line may replace in a task. All of it but the protocol is part of the run's digest."""

    corpus: str | None = None
    text_field: str | None = None
    label_field: str | None = None
    label_separator: str | None = None
    instruction_field: str | None = None
    genre_field: str | None = None
    part_field: str | None = None
    instructions: str | None = None
    split: str | None = None
    limit: int | None = None
    device: str | None = None
    dtype: str | None = None
    seed: int = 0
    concepts: tuple[str, ...] = ()
    """Ids, texts or labels of the concepts to use, each text one of them or several with commas between; all where it is empty."""
    protocol: ProtocolName | None = None
    """By which protocol the run is scored; no text depends on it."""
    aggregation: Aggregation | None = None
    """How three ratings become one score; no text depends on it."""
    engine: str | None = None
    """What generates (:data:`harness.engine.base.VERSIONS`); None stands for the torch loop."""


class GivenChoices(TypedDict, total=False):
    """The fields of :class:`Choices` as a script gives them, each by its name or not at all."""

    corpus: str | None
    text_field: str | None
    label_field: str | None
    label_separator: str | None
    instruction_field: str | None
    genre_field: str | None
    part_field: str | None
    instructions: str | None
    split: str | None
    limit: int | None
    device: str | None
    dtype: str | None
    seed: int
    concepts: str | Iterable[str] | None
    protocol: ProtocolName | None
    aggregation: Aggregation | None
    engine: str | None
