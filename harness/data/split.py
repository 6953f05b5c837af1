"""The one split of a task's corpus: texts that choose and fit, texts that set thresholds, texts that are reported on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from harness.types import Json, digest

Part = Literal["train", "threshold", "report"]
PARTS: tuple[Part, ...] = ("train", "threshold", "report")

TRAIN_SHARE = 0.5
"""Share of the corpus that labelers choose by and methods are fitted on; the rest is halved into threshold and report."""

Places = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class TextSplit:
    """Places of texts in the corpus, ascending, each ``[texts]`` int64; every text is in one part at most.

    Attributes:
        train: what labelers choose by and methods are fitted on.
        threshold: what thresholds are chosen on.
        report: what is reported on.
    """

    train: Places
    threshold: Places
    report: Places

    @cached_property
    def digest(self) -> str:
        """Identity of the split."""
        return digest([part.tolist() for part in (self.train, self.threshold, self.report)])

    def part(self, name: Part) -> Places:
        """One part by its name."""
        return {"train": self.train, "threshold": self.threshold, "report": self.report}[name]

    def as_json(self) -> dict[str, Json]:
        """Sizes and digest, as the manifest keeps them."""
        return {"digest": self.digest, **{name: len(self.part(name)) for name in PARTS}}
