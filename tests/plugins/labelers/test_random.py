"""random: uniform over the features that fire, fixed by the seed, through the same filter as the labeler it controls for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness_plugins.labelers.calibf1 import CalibratedF1, CalibratedF1Options
from harness_plugins.labelers.random import RandomFeatures, RandomOptions
from scipy.stats import chisquare

from harness.errors import OptionError
from harness.types import Abstention, Concept, Labeling


def corpus(live: int = 6, texts: int = 40) -> tuple[Any, Any, list[list[str]]]:
    """Of nine features the first ``live`` fire; half of the texts are of label a."""
    counts = np.zeros((texts, 9), dtype=int)
    counts[:, :live] = np.random.default_rng(0).integers(0, 5, (texts, live)) + 1
    return counts, np.full(texts, 10), [["a"] if place % 2 else [] for place in range(texts)]


def draw(bench: Any, concepts: list[Concept], **options: Any) -> list[Any]:
    return list(RandomFeatures(RandomOptions(**options)).label(bench, concepts))


CONCEPTS = [Concept(f"c{place}", f"concept {place}", "a") for place in range(600)]


def test_features_are_uniform_over_those_that_fire(make_bench: Callable[..., Any]) -> None:
    drawn = Counter(answer.features[0].index for answer in draw(make_bench(*corpus()), CONCEPTS))
    assert set(drawn) == set(range(6))
    assert chisquare(list(drawn.values())).pvalue > 1e-4  # a fixed seed: this cannot fail by chance
    assert all(answer.score is None for answer in draw(make_bench(*corpus()), CONCEPTS[:3]))


def test_the_seed_and_the_concept_determine_the_draw(make_bench: Callable[..., Any]) -> None:
    first, again, other = (
        {a.concept.id: a.features for a in draw(make_bench(*corpus(), seed=seed), CONCEPTS[:50])} for seed in (0, 0, 1)
    )
    assert first == again != other
    turned = {a.concept.id: a.features for a in draw(make_bench(*corpus()), CONCEPTS[10:20][::-1])}
    assert turned == {name: first[name] for name in turned}  # whatever else is asked, and in which order


def test_the_draws_are_those_of_every_run_so_far(make_bench: Callable[..., Any]) -> None:
    drawn = [a.features[0].index for a in draw(make_bench(*corpus(live=9)), CONCEPTS[:12])]
    assert drawn == [7, 8, 4, 1, 3, 2, 1, 4, 3, 4, 7, 0]


@pytest.mark.parametrize("mode", ["fixed", "chosen"])
def test_a_feature_less_changes_the_draws_of_that_feature_alone(make_bench: Callable[..., Any], mode: str) -> None:
    counts, tokens, labels = corpus(live=9)
    fewer = counts.copy()
    gone = 4
    fewer[:, gone] = 0
    options = {"features_per_label": 2} if mode == "fixed" else {"count": 100}
    before, after = (draw(make_bench(part, tokens, labels, concept_mode=mode), CONCEPTS[:80], **options) for part in (counts, fewer))
    if mode == "fixed":
        pairs = list(zip(before, after, strict=True))
        same = [one.features == other.features for one, other in pairs]
        assert same == [gone not in {feature.index for feature in one.features} for one, _ in pairs]
        assert 0 < sum(same) < len(same)
        kept = [([f for f in one.features if f.index != gone], list(other.features)) for one, other in pairs]
        assert all(other[: len(one)] == one for one, other in kept)  # what else was drawn stays drawn
        return
    assert [answer.concept for answer in before] == [answer.concept for answer in after]  # labels are drawn as before
    found = [{(answer.concept.id, *answer.features) for answer in answers if answer.features[0].index != gone} for answers in (before, after)]
    assert found[0] <= found[1]  # a label that had drawn the feature goes on to its next one
    assert len(found[0]) < 100


def test_a_concept_more_changes_no_other_draw(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(*corpus(), concept_mode="chosen")
    few, many = (draw(bench, CONCEPTS[:n], count=10_000) for n in (5, 9))
    names = {concept.id for concept in CONCEPTS[:5]}
    assert [a.features for a in few] == [a.features for a in many if a.concept.id in names]


def test_draws_of_a_concept_follow_each_other_and_share_no_feature(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(*corpus())
    single, several = draw(bench, CONCEPTS[:10]), draw(bench, CONCEPTS[:10], draws=3)
    assert [answer.concept.id for answer in several] == [concept.id for concept in CONCEPTS[:10] for _ in range(3)]
    assert several[::3] == single
    for place in range(10):
        assert len({answer.features for answer in several[3 * place : 3 * place + 3]}) == 3
    short = draw(bench, CONCEPTS[:1], draws=4, features_per_label=2)
    assert [isinstance(answer, Labeling) for answer in short] == [True, True, True, False]
    assert short[-1].reason == "6 features pass the filters; 8 are to be drawn"


def test_as_a_control_it_answers_the_concepts_that_were_chosen(make_bench: Callable[..., Any]) -> None:
    """In their order and as often as they were chosen, with a feature each, whatever the labels of the task."""
    bench = make_bench(*corpus(), concept_mode="chosen")
    chosen = [CONCEPTS[3], CONCEPTS[1], CONCEPTS[3]]
    answers = draw(bench, chosen, follows="calibf1-0", features_per_label=3, count=1, draws=2)
    assert [answer.concept for answer in answers] == [concept for concept in chosen for _ in range(2)]
    assert all(len(answer.features) == 1 for answer in answers)
    assert len({answer.features for answer in answers if answer.concept == CONCEPTS[3]}) == 4


def test_several_features_are_drawn_without_replacement(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(*corpus())
    for answer in draw(bench, CONCEPTS[:20], features_per_label=6):
        assert {feature.index for feature in answer.features} == set(range(6))
    refused = draw(bench, CONCEPTS[:1], features_per_label=7)[0]
    assert isinstance(refused, Abstention)
    assert refused.reason == "6 features pass the filters; 7 are to be drawn"


def test_chosen_mode_draws_pairs_none_twice(make_bench: Callable[..., Any]) -> None:
    bench = make_bench(*corpus(), concept_mode="chosen")
    pairs = [(answer.concept.id, answer.features) for answer in draw(bench, CONCEPTS[:5], count=20)]
    assert len(pairs) == len(set(pairs)) == 20
    every = draw(bench, CONCEPTS[:5], count=500)
    assert len(every) == 30  # five labels, six live features: no more pairs exist
    labels = Counter(answer.concept.id for answer in draw(bench, CONCEPTS, count=400))
    assert len(labels) > 250
    # one feature a pair, as every labeler chooses in this mode
    assert {len(answer.features) for answer in draw(bench, CONCEPTS[:5], count=20, features_per_label=3)} == {1}


@pytest.mark.parametrize("mode", ["fixed", "chosen"])
def test_the_filter_is_that_of_the_labeler(make_bench: Callable[..., Any], tiny_dictionary: Any, mode: str) -> None:
    counts, tokens, labels = corpus(live=9)
    positive = np.array([bool(its) for its in labels])
    rows = tiny_dictionary.sae.W_dec.double().numpy()[:9]
    means = np.random.default_rng(2).normal(0, 0.05, (40, 64)) + positive[:, None] * (rows[2] + rows[5])
    bench = make_bench(counts, tokens, labels, means=means, concept_mode=mode)
    limit = 0.3
    options = CalibratedF1Options(min_output_score=None, min_cosine=limit, features_per_label=9, labels_per_feature=9, pi0=0.5)
    passing = {f.index for answer in CalibratedF1(options).label(bench, bench.concepts) for f in answer.features}
    assert {2, 5} <= passing < set(range(9))
    many = [Concept(str(place), "", "a") for place in range(300)]
    drawn = {feature.index for answer in draw(bench, many, min_cosine=limit, count=300) for feature in answer.features}
    assert drawn == passing


def test_a_label_that_no_feature_passes_for(make_bench: Callable[..., Any]) -> None:
    bare = [Concept("bare", "a bare name"), Concept("gone", "gone", "gone")]
    assert all(isinstance(a, Labeling) for a in draw(make_bench(*corpus()), bare))  # without a filter nothing is asked of a label
    reasons = [a.reason for a in draw(make_bench(*corpus()), bare, min_cosine=-0.5)]
    assert reasons == ["0 features pass the filters; 1 are to be drawn"] * 2
    assert draw(make_bench(*corpus(), concept_mode="chosen"), bare, min_cosine=-0.5) == []


# -------------------------------------------------------------------------------------------------------------------- "NP random"


def explanations(path: Any, texts: dict[int, str]) -> Any:
    path.write_text(json.dumps({f"stories260K/2-res-512/{feature}": text for feature, text in texts.items()}), encoding="utf-8")
    return path


def test_features_under_the_label_that_others_gave_them(make_bench: Callable[..., Any], tmp_path: Any) -> None:
    """Only features that fire and are explained are drawn, uniformly; an error text is no explanation."""
    path = explanations(tmp_path / "labels.json", {0: "words about music", 2: "rivers", 3: "Error: not found", 7: "never fires", 5: "bread"})
    options = {"labels": "neuronpedia", "explanations": str(path), "count": 9}
    bench = make_bench(*corpus(live=6), concept_mode="chosen")
    drawn = draw(bench, [], **options)
    assert {answer.features[0].index: answer.concept.text for answer in drawn} == {0: "words about music", 2: "rivers", 5: "bread"}
    assert all(answer.concept.label is None and answer.concept.id == f"stories260K/2-res-512/{answer.features[0].index}" for answer in drawn)
    first = Counter(
        draw(make_bench(*corpus(live=6), concept_mode="chosen", seed=seed), [], **{**options, "count": 1})[0].features[0].index
        for seed in range(150)
    )
    assert set(first) == {0, 2, 5}
    assert chisquare(list(first.values())).pvalue > 1e-4
    with pytest.raises(OptionError) as error:
        draw(make_bench(*corpus()), [], **options)
    assert (error.value.given, error.value.allowed, bool(error.value.hint)) == ("fixed", "chosen", True)
    with pytest.raises(OptionError) as error:
        draw(bench, [], min_cosine=0.1, **options)
    assert error.value.given == 0.1
    assert "min_cosine" in error.value.hint
