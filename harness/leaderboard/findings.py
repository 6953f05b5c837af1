"""What a check of an entry finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FindingKind = Literal["schema", "numbers", "warnings", "run", "eligibility", "task", "provenance"]


@dataclass(frozen=True)
class Finding:
    """One thing that was found in an entry.

    Attributes:
        kind: ``schema``: the file is not a valid entry; ``numbers``: it does not fit itself; ``warnings``: its items give others; ``run``: it does
            not fit its run; ``eligibility``: too little stands behind it; ``task``: its task is not known, or another; ``provenance``: what a reader
            must know of where it comes from.
        row: the row's name; empty for what is about the entry.
        message: what it is, in one line.
    """

    kind: FindingKind
    row: str
    message: str

    def __str__(self) -> str:
        return f"{self.row}: {self.message}" if self.row else self.message
