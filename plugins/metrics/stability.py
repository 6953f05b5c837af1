"""How alike dictionaries of one recipe are that differ in their seed alone, beside what random directions and untrained ones have in common."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from harness import hookimpl
from harness.contracts import MetricTraits, NumberTraits
from harness.measuring.matching import matched, nearest, unit_rows
from harness.options import Options
from harness.types import Json, Measurement, rng

if TYPE_CHECKING:
    from torch import Tensor

    from harness.contracts import Bench
    from harness.sae.dictionary import Dictionary
    from harness.sae.subject import DictionarySubject

VERSION = 1


class StabilityOptions(Options):
    """Options of ``stability``."""

    shared: float = Field(0.7, gt=0, lt=1)
    """A feature is shared when its partner in the best matching has a cosine above this."""
    max_features: int = Field(4096, ge=1)
    """Of wider dictionaries so many features, drawn at random, are matched, one to one, with all of the other's: time grows with the cube."""


class Stability:
    """See the module. Implements :class:`harness.contracts.Metric`; its trivial values are those of random unit rows of the same shape."""

    def __init__(self, options: StabilityOptions) -> None:
        self.options = options
        cosine = (-1.0, 1.0)
        self.traits = MetricTraits(
            title="matched cosine",
            unit="cosine",
            bounds=cosine,
            higher_is_better=True,
            needs=("siblings",),
            parts={
                "untrained": NumberTraits("matched cosine, untrained", "cosine", cosine, None),
                "max_cosine": NumberTraits("mean max cosine", "cosine", cosine, True),
                "shared": NumberTraits("shared", "share of features", (0.0, 1.0), True),
            },
            item="seed pair",
            items_shared=False,
        )

    def measure(self, bench: Bench, subject: DictionarySubject, seed: int) -> Measurement:
        own = subject.dictionary
        pairs: dict[str, float | None] = {}
        cosines, near = [], []
        for number, other in enumerate(subject.siblings):
            if other.d_in != own.d_in:
                continue
            found = self._pair(bench, own, other, seed)
            cosines.append(found)
            near.append(float(nearest(unit_rows(own), unit_rows(other)).mean()))
            pairs[f"{_seed(own, subject.training_seed)} and {_seed(other, number)}"] = float(found.mean())
        null = self._of_random(bench, own, seed)
        untrained, why = self._of_untrained(bench, subject, seed)
        every = np.concatenate(cosines)
        return Measurement(
            value=float(np.mean([found.mean() for found in cosines])),
            per_item=pairs if len(pairs) == len(cosines) else {},
            parts={"untrained": untrained, "max_cosine": float(np.mean(near)), "shared": float((every > self.options.shared).mean())},
            part_reasons={"untrained": why} if why else {},
            trivial=null,
            details={
                "pairs": len(cosines), "features": own.d_sae, "matched": min(own.d_sae, self.options.max_features),
                "shared_above": self.options.shared,
                "quantiles": {f"{q:g}": float(np.quantile(every, q)) for q in (0.1, 0.25, 0.5, 0.75, 0.9)},
            },
        )  # fmt: skip

    def _pair(self, bench: Bench, own: Dictionary, other: Dictionary, seed: int) -> np.ndarray[Any, Any]:
        """Return the matched cosines of two dictionaries, kept: a pair is met once from either side."""
        first, second = sorted((own, other), key=lambda one: (one.d_sae, one.digest))
        rows = unit_rows(first)
        drawn = self._drawn(len(rows), seed)
        key: Json = ["pair", first.digest, second.digest, drawn is not None and [seed, self.options.max_features]]
        return _kept(bench, key, lambda: matched(rows if drawn is None else rows[drawn], unit_rows(second)))

    def _of_random(self, bench: Bench, own: Dictionary, seed: int) -> dict[str, float]:
        """Return the value and its parts for two draws of random unit rows."""
        from harness.sae.controls import random_rows

        def rows(number: int) -> Tensor:
            return random_rows(own, number + 1_000_000)  # none of the controls' draws

        drawn = self._drawn(own.d_sae, seed)
        key: Json = ["random", own.d_sae, own.d_in, seed, drawn is not None and self.options.max_features]
        cosines = _kept(bench, key, lambda: matched(rows(2 * seed) if drawn is None else rows(2 * seed)[drawn], rows(2 * seed + 1)))
        near = float(nearest(rows(2 * seed)[:1024], rows(2 * seed + 1)).mean())
        return {"value": float(cosines.mean()), "max_cosine": near, "shared": float((cosines > self.options.shared).mean())}

    def _of_untrained(self, bench: Bench, subject: DictionarySubject, seed: int) -> tuple[float | None, str]:
        """Return the matched cosine of two initialisations of the recipe, before any training; or why there is none."""
        from harness.sae.training.fit import config_of, initial_rows

        config = config_of(subject.recipe or {})
        if config is None:
            return None, "how it was trained is not known"
        own = subject.dictionary
        drawn = self._drawn(own.d_sae, seed)

        def compute() -> np.ndarray[Any, Any]:
            first, second = (initial_rows(own.d_in, config, 1_000_000 + 2 * seed + number) for number in (0, 1))
            return matched(first if drawn is None else first[drawn], second)

        key: Json = ["untrained", config.architecture, own.d_sae, own.d_in, seed, drawn is not None and self.options.max_features]
        return float(_kept(bench, key, compute).mean()), ""

    def _drawn(self, width: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        if width <= self.options.max_features:
            return None
        return np.sort(rng(seed, "stability", str(width)).permutation(width)[: self.options.max_features])


def _seed(dictionary: Dictionary, otherwise: int | None) -> str:
    recipe = dict(dictionary.cfg["metadata"]).get("harness_training") or {}
    return f"seed {recipe.get('seed', otherwise)}"


def _kept(bench: Bench, key: Json, compute: Callable[[], np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    def fill(folder: Path) -> None:
        (folder / "cosines.json").write_text(json.dumps([round(float(value), 6) for value in compute()]), encoding="utf-8")

    path = bench.artifact({"kind": "stability", "version": VERSION, "of": key}, fill)
    return np.array(json.loads((path / "cosines.json").read_text(encoding="utf-8")))


@hookimpl
def harness_register_metrics(registry: Any) -> None:
    registry.add("stability", Stability, options=StabilityOptions, summary="how alike dictionaries of other seeds are, by the best matching")
