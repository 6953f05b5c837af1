"""permuted: every concept gets features that a labeler chose for another, the same each time, and none of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.permuted import Permuted, PermutedOptions

from harness.errors import OptionError
from harness.types import Abstention, Concept, FeatureRef, Labeling

CONCEPTS = [Concept(f"c{place}", f"concept {place}", "a") for place in range(30)]


def labelled(indices: Sequence[int], concepts: Sequence[Concept] = CONCEPTS) -> list[Labeling]:
    return [Labeling(concept, (FeatureRef("sae", index),)) for concept, index in zip(concepts, indices, strict=False)]


@pytest.fixture
def bench(make_bench: Callable[..., Any]) -> Callable[..., Any]:
    def make(answers: Sequence[Any], **options: Any) -> Any:
        found = make_bench(np.ones((40, 50), dtype=int), np.full(40, 10), [["a"]] * 40, **options)
        found.answered = {"leader": answers}
        return found

    return make


def permute(bench: Any, concepts: Sequence[Concept] = CONCEPTS, draws: int = 1) -> list[Any]:
    return list(Permuted(PermutedOptions(follows="leader", draws=draws)).label(bench, concepts))


def test_the_features_are_the_same_under_other_concepts(bench: Callable[..., Any]) -> None:
    own = labelled(range(30))
    found = permute(bench(own))
    assert [answer.concept for answer in found] == CONCEPTS
    assert sorted(answer.features for answer in found) == sorted(answer.features for answer in own)
    assert all(answer.features != before.features for answer, before in zip(found, own, strict=True))


def test_the_seed_decides(bench: Callable[..., Any]) -> None:
    own = labelled(range(30))
    first, again, other = (permute(bench(own, seed=seed)) for seed in (0, 0, 1))
    assert first == again != other


def test_the_circle_is_that_of_every_run_so_far(bench: Callable[..., Any]) -> None:
    found = permute(bench(labelled(range(12))), CONCEPTS[:12])
    assert [answer.features[0].index for answer in found] == [7, 11, 10, 0, 3, 2, 4, 1, 9, 6, 8, 5]


def test_draws_are_of_different_concepts_in_turn(bench: Callable[..., Any]) -> None:
    found = permute(bench(labelled(range(30))), draws=4)
    for place, concept in enumerate(CONCEPTS):
        group = found[4 * place : 4 * place + 4]
        assert {answer.concept for answer in group} == {concept}
        assert len({answer.features for answer in group} | {(FeatureRef("sae", place),)}) == 5


def test_a_feature_that_the_concept_shares_is_not_another_concepts(bench: Callable[..., Any]) -> None:
    found = permute(bench(labelled([7] * 29 + [8])))
    assert [answer.features for answer in found if isinstance(answer, Labeling)][:29] == [(FeatureRef("sae", 8),)] * 29
    assert found[29].features == (FeatureRef("sae", 7),)


def test_abstentions_stay_and_a_concept_alone_has_none_to_take_from(bench: Callable[..., Any]) -> None:
    found = permute(bench([Abstention(CONCEPTS[0], "too rare"), *labelled([3], CONCEPTS[1:2])]), CONCEPTS[:2])
    assert found[0] == Abstention(CONCEPTS[0], "too rare")
    assert isinstance(found[1], Abstention)


def test_chosen_concepts_are_answered_in_their_order_and_as_often(bench: Callable[..., Any]) -> None:
    twice = [CONCEPTS[0], CONCEPTS[0], CONCEPTS[1], CONCEPTS[2]]
    found = permute(bench(labelled([1, 2, 3, 4], twice), concept_mode="chosen"), twice)
    assert [answer.concept for answer in found] == twice
    assert all(answer.features[0].index not in (1, 2) for answer in found[:2])


def test_without_a_labeler_to_follow(bench: Callable[..., Any]) -> None:
    with pytest.raises(OptionError):
        Permuted(PermutedOptions()).label(bench([]), CONCEPTS)
