"""Features that the corpus' labels chose, called by their own explanations: only explained ones are answers, and the label is kept as evidence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.calibf1 import CalibratedF1, CalibratedF1Options
from harness_plugins.labelers.max_auc import MaxAuroc, MaxAurocOptions

from harness.errors import OptionError
from harness.labelling import filters
from harness.types import Labeling

SOURCE = "stories260K/2-res-512"


@pytest.fixture
def explanations(tmp_path: Path) -> Path:
    """Feature 0 is explained, 1 is not, 2 has an error text, 3 and 4 are explained."""
    texts = {0: "words about music", 2: "Error: not found", 3: "rivers", 4: "bread"}
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({f"{SOURCE}/{feature}": text for feature, text in texts.items()}), encoding="utf-8")
    return path


def corpus() -> tuple[Any, Any, list[list[str]]]:
    """Label ``song``: feature 1 is on all of its texts, 0 on most; label ``water``: 2 and 3 likewise; feature 4 fires everywhere."""
    labels = [[["song"], ["water"], []][place % 3] for place in range(60)]
    counts = np.zeros((60, 5), dtype=int)
    for place, own in enumerate(labels):
        all_of, most = 9, 6 * (place >= 12)
        counts[place] = [most * ("song" in own), all_of * ("song" in own), all_of * ("water" in own), most * ("water" in own), 4]
    return counts, np.full(60, 20), labels


def label(bench: Any, **options: Any) -> list[Labeling]:
    given = {"held_out": 0.0, "pi0": 0.1, "min_output_score": None, **options}
    answers = CalibratedF1(CalibratedF1Options(**given)).label(bench, bench.concepts)
    assert all(isinstance(answer, Labeling) for answer in answers)
    return answers  # type: ignore[return-value]


def test_an_explanation_takes_the_labels_place(make_bench: Callable[..., Any], explanations: Path) -> None:
    bench = make_bench(*corpus(), concept_mode="chosen")
    plain = {answer.concept.id: answer.features[0].index for answer in label(bench)}
    assert plain == {"song": 1, "water": 2}
    found = label(bench, labels="neuronpedia", explanations=str(explanations))
    assert {answer.features[0].index: answer.concept.text for answer in found} == {0: "words about music", 3: "rivers"}
    first = next(answer for answer in found if answer.features[0].index == 0)
    assert (first.concept.id, first.concept.label) == (f"{SOURCE}/0", None)
    evidence: Any = first.evidence["features"]
    assert (evidence[0]["chosen_by_label"], evidence[0]["explanation"]) == ("song", "words about music")
    assert evidence[0]["chosen_on"]["support"] == 20
    alone = next(answer for answer in label(bench, features_per_label=3) if answer.features[0].index == 0)
    assert first.score == alone.score, "the score is that of the label"
    assert any("not explained" in line for line in bench.warnings)


def test_a_feature_is_one_concept_however_many_labels_choose_it(make_bench: Callable[..., Any], explanations: Path) -> None:
    bench = make_bench(*corpus(), concept_mode="chosen")
    found = label(bench, labels="neuronpedia", explanations=str(explanations), features_per_label=9, labels_per_feature=2)
    assert len({answer.concept.id for answer in found}) == len(found) == 3


def test_both_filters_hold(make_bench: Callable[..., Any], explanations: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def compute(self: Any, features: list[int]) -> Any:
        asked.extend(features)
        return np.array([feature != 0 for feature in features])

    monkeypatch.setattr(filters.CausalFilter, "_compute", compute)
    bench = make_bench(*corpus(), concept_mode="chosen")
    found = label(bench, labels="neuronpedia", explanations=str(explanations), min_output_score=0.5)
    assert 0 not in {answer.features[0].index for answer in found}
    assert {1, 2}.isdisjoint(asked), "no causal score of a feature that is not explained"


def test_other_labelers_have_it_too(make_bench: Callable[..., Any], explanations: Path) -> None:
    bench = make_bench(*corpus(), concept_mode="chosen")
    options = MaxAurocOptions(labels="neuronpedia", explanations=str(explanations), held_out=0.0)
    assert {answer.concept.text for answer in MaxAuroc(options).label(bench, bench.concepts)} >= {"words about music", "rivers"}


def test_fixed_concepts_have_their_own_texts(make_bench: Callable[..., Any], explanations: Path) -> None:
    with pytest.raises(OptionError) as error:
        label(make_bench(*corpus()), labels="neuronpedia", explanations=str(explanations))
    assert (error.value.given, error.value.allowed) == ("fixed", "chosen")
