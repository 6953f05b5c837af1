"""Passages that show what a label's feature fires on, kept with a run's labels so that its page can show them without the model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.errors import DictionaryError, EngineError, ModelError
from harness.labelling.snippets import snippets
from harness.types import Abstention, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench

PASSAGES = 3
"""Passages of each feature."""
MOST_FEATURES = 500
"""Of so many features passages are kept; of more, the first ones'."""


def with_passages(
    bench: Bench, answers: Sequence[Labeling | Abstention], dictionaries: Collection[str], n: int = PASSAGES
) -> list[Labeling | Abstention]:
    """Return ``answers`` with ``evidence["about"]``: for each feature its name and its ``snippets`` (:func:`harness.labelling.snippets.snippets`).

    The model reads the best texts of each feature once more. An answer whose labeler gave ``about`` itself stays as it is. Where the passages
    cannot be had, the answers stay as they are, and the bench gets a warning with the reason.

    Args:
        bench: whose corpus, statistics and model are used.
        answers: a labeler's.
        dictionaries: features of these alone get passages: those whose statistics are there already.
        n: passages of each feature.
    """
    wanted: dict[str, dict[int, None]] = {}
    for answer in answers:
        if isinstance(answer, Labeling) and "about" not in answer.evidence:
            for feature in answer.features:
                if feature.dictionary in dictionaries and sum(map(len, wanted.values())) < MOST_FEATURES:
                    wanted.setdefault(feature.dictionary, {})[feature.index] = None
    try:
        found = {
            f"{name}/{index}": rows for name, features in wanted.items() for index, rows in snippets(bench, name, list(features), n).items()
        }
    except (DictionaryError, EngineError, ModelError) as error:
        bench.warn(f"labels are kept without passages: {error}")
        return list(answers)
    return [_with(answer, found) if isinstance(answer, Labeling) else answer for answer in answers]


def _with(answer: Labeling, found: dict[str, list[dict[str, object]]]) -> Labeling:
    about = [{"feature": str(feature), "snippets": found[str(feature)]} for feature in answer.features if str(feature) in found]
    return answer if not about or "about" in answer.evidence else replace(answer, evidence={**answer.evidence, "about": about})
