"""Features that were chosen by the corpus' labels, called by what Neuronpedia says of them: a text of their own to steer to and to be judged by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.data.neuronpedia.open import open_explanations
from harness.errors import OptionError
from harness.labelling.filters import CausalFilter
from harness.types import Concept, Json

if TYPE_CHECKING:
    from harness.contracts import Bench
    from harness.labelling.options import PairOptions


class ExplainedFilter(CausalFilter):
    """A :class:`CausalFilter` that only explained features pass, and that knows what they are called.

    Args:
        bench, dictionary, who: as there.
        options: filters, and where the explanations come from.

    Raises:
        OptionError: the task is in fixed mode, whose concepts have their own texts.
        DataError, DictionaryError: there are no explanations of this dictionary.
    """

    def __init__(self, bench: Bench, dictionary: str, options: PairOptions, who: str) -> None:
        super().__init__(bench, dictionary, options, who)
        if bench.concept_mode != "chosen":
            message = f"{who} with labels=neuronpedia names concepts by the explanations of features, and the task is in {bench.concept_mode} mode"
            raise OptionError(message, given=bench.concept_mode, allowed="chosen", hint="give a task in chosen mode, or leave out labels")
        self._labels, note = open_explanations(
            bench.dictionaries[dictionary], options.explanations, model_id=options.model_id, source_id=options.source_id, base_url=options.base_url
        )
        self._causal, self.active = self.active, True
        self._asked: dict[int, bool] = {}
        self._late = options.explanations == "api"
        if note:
            bench.warn(f"{who}: {note}")

    @property
    def summary(self) -> str:
        without = sum(not explained for explained in self._asked.values())
        return (super().summary if self._causal else "") + f"; {without} of {len(self._asked)} features that came up are not explained"

    def passes(self, features: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
        kept = np.ones(len(features), dtype=bool)
        # of the two the cheaper one first: looking an explanation up, unless each is a request
        for check in (self._passes_causal, self._explained) if self._late else (self._explained, self._passes_causal):
            left = np.flatnonzero(kept)
            kept[left] = check([int(features[int(place)]) for place in left])
        return kept

    def _passes_causal(self, features: list[int]) -> NDArray[np.bool_]:
        return super().passes(features) if self._causal else np.ones(len(features), dtype=bool)

    def _explained(self, features: list[int]) -> NDArray[np.bool_]:
        for feature in features:
            if feature not in self._asked:
                self._asked[feature] = bool(self._labels.of(feature))
        return np.array([self._asked[feature] for feature in features], dtype=bool)

    def named(self, concept: Concept, feature: int) -> tuple[Concept, dict[str, Json]]:
        """Return the concept that an explained feature stands for, and how it came to be, for the evidence.

        It has no label of the corpus: which texts are about an explanation nobody has said. The label by which the feature was chosen is in the
        evidence.
        """
        best = self._labels.of(feature)[0]
        found: dict[str, Json] = {"chosen_by_label": concept.label, "explanation": best.text, "explained_by": best.by}
        return Concept(f"{self._labels.source}/{feature}", best.text), found
