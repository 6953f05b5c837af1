"""The subject of a metric: a dictionary with all that is known about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.types import Json

if TYPE_CHECKING:
    from torch import Tensor

    from harness.sae.dictionary import Dictionary
    from harness.sae.training.activations import Harvest


TRAINED = "trained"
"""The arm of dictionaries that were trained; every other arm is a control's name."""
TRAINED_CONTROLS = ("frozen-decoder", "soft-frozen-decoder", "frozen-encoder")
"""Controls that are trained, one for each seed of a recipe (:mod:`harness.sae.training.frozen`); all others are made without training."""
FIXED_CONTROLS = ("pca", "neurons")
"""Controls in which nothing is drawn, so that there is one of each and not several."""


@dataclass(frozen=True, eq=False)
class DictionarySubject:
    """A dictionary under measurement. Siblings and neighbours may be opened only when they are asked for.

    Attributes:
        name: its name within the task.
        dictionary: the dictionary itself.
        arm: ``trained``, or the name of a control.
        training_seed: the seed that it was trained with; None where nobody knows.
        siblings: the same recipe with other seeds.
        neighbours: dictionaries of other layers, by layer.
        truth: the true features, float32 ``[features, d_in]``, where they are known (synthetic data).
        recipe: how it was trained, as JSON; None where nobody knows.
        vectors: collects the vectors that the task trained it on, or finds them kept; None where the task did not train it.
    """

    name: str
    dictionary: Dictionary
    arm: str = TRAINED
    training_seed: int | None = None
    siblings: Sequence[Dictionary] = ()
    neighbours: Mapping[int, Dictionary] = field(default_factory=dict)
    truth: Tensor | None = None
    recipe: Mapping[str, Json] | None = None
    vectors: Callable[[], Harvest] | None = None
