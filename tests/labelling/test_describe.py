"""What is said of a feature, whoever named it, against a plain computation on the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.errors import ModelError
from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.labelling.describe import Settings, describe
from harness.labelling.passages import with_passages
from harness.labelling.snippets import snippets
from harness.run.bench import Choices, TaskBench
from harness.run.warnings import Warnings
from harness.sae.causal import confidence_changes, output_scores
from harness.tasks.find import load_task
from harness.types import Abstention, Concept, FeatureRef, Labeling


@pytest.fixture(scope="module")
def bench(tiny_task: Path, tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    choices = Choices(device="cpu", dtype="float32")
    return TaskBench(load_task(tiny_task), choices, ArtifactCache(tmp_path_factory.mktemp("cache")), Progress(quiet=True))


@pytest.fixture(scope="module")
def hidden(bench: TaskBench) -> Callable[[int], torch.Tensor]:
    """A text's residual vectors ``[tokens, d_model]``, by transformers' own hidden states; every feature is read from them."""

    @cache
    def of(text: int) -> torch.Tensor:
        ids = bench.model.encode(bench.corpus[text].text)[:256]
        with torch.no_grad():
            states: torch.Tensor = bench.model.hf(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[3][0]
        return states

    return of


def activations(bench: TaskBench, hidden: Callable[[int], torch.Tensor], text: int, feature: int) -> list[float]:
    """The feature at every token of a text; the first token left out."""
    values: list[float] = bench.dictionaries["sae"].feature(hidden(text), feature).tolist()
    return [float("-inf"), *values[1:]]


def test_snippets_are_the_best_texts_around_their_strongest_token(bench: TaskBench, hidden: Callable[[int], torch.Tensor]) -> None:
    features = [int(j) for j in bench.statistics().live[5:400:90]]
    found = snippets(bench, "sae", features, n=2, context=4)
    assert list(found) == features
    for feature in features:
        every = [max(activations(bench, hidden, text, feature)) for text in range(len(bench.corpus))]
        firing = sorted((text for text in range(len(every)) if every[text] > 0), key=lambda text: -every[text])
        assert len(found[feature]) == min(2, len(firing))
        for row, expected in zip(found[feature], firing, strict=False):
            assert row["activation"] == pytest.approx(every[expected], rel=1e-3)
            text = next(place for place in range(len(every)) if bench.corpus[place].id == row["text"])
            ids, values = bench.model.encode(bench.corpus[text].text), activations(bench, hidden, text, feature)
            at = values.index(max(values))
            assert row["token"] == bench.model.decode(ids[at : at + 1])
            assert row["before"] == bench.model.decode(ids[max(0, at - 4) : at])
            assert row["after"] == bench.model.decode(ids[at + 1 : at + 5])
            assert row["labels"] == sorted(bench.corpus[text].labels)
            passage = slice(max(0, at - 4), at + 5)
            assert "".join(piece for piece, _ in row["tokens"]) == bench.model.decode(ids[passage])
            own = activations(bench, hidden, text, feature)[passage]
            assert [value for _, value in row["tokens"]][-(len(own) - 1) :] == pytest.approx(own[1:], rel=1e-2, abs=1e-3)


def test_labels_get_passages_of_dictionaries_whose_statistics_are_known(bench: TaskBench) -> None:
    live = [int(j) for j in bench.statistics().live[:2]]
    concept = Concept("c", "a concept")
    answers = [
        Labeling(concept, (FeatureRef("sae", live[0]), FeatureRef("sae", live[1])), 0.5, {"mine": 1}),
        Abstention(concept, "no feature"),
        Labeling(Concept("d", "another"), (FeatureRef("sae", live[0]),), 0.1, {"about": "the labeler's own"}),
    ]
    assert bench.known_statistics == {"sae"}
    first, second, third = with_passages(bench, answers, bench.known_statistics, n=1)
    assert isinstance(first, Labeling)
    assert first.evidence["mine"] == 1
    assert [row["feature"] for row in first.evidence["about"]] == [f"sae/{feature}" for feature in live]
    assert [len(row["snippets"]) for row in first.evidence["about"]] == [1, 1]
    assert (second, third) == (answers[1], answers[2])
    assert with_passages(bench, answers, ()) == answers


def test_labels_are_kept_where_no_passage_can_be_read(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ModelError("the model has gone")

    monkeypatch.setattr("harness.labelling.passages.snippets", broken)
    answers = [Labeling(Concept("c", "a concept"), (FeatureRef("sae", 1),))]
    assert with_passages(bench, answers, ("sae",)) == answers
    assert "the model has gone" in bench.warnings.messages[-1]


def test_no_snippets_are_read_where_none_are_wanted(bench: TaskBench) -> None:
    assert snippets(bench, "sae", [1, 2], n=0) == {1: [], 2: []}


def test_every_feature_of_every_answer_is_described(bench: TaskBench) -> None:
    concept = Concept("c", "a concept")
    first, second, third = (FeatureRef("sae", int(j)) for j in bench.statistics().live[:3])
    answers = [
        Labeling(concept, (second, first), 0.5, {"mine": 1}),
        Abstention(concept, "why not"),
        Labeling(Concept("d", "d"), (third,)),
    ]
    one, abstained, two = describe(bench, answers, Settings(snippets=1))
    assert abstained == answers[1]
    assert isinstance(one, Labeling)
    assert isinstance(two, Labeling)
    assert (one.features, one.score, one.evidence["mine"]) == ((second, first), 0.5, 1)
    rows = [*one.evidence["about"], *two.evidence["about"]]
    assert [row["feature"] for row in rows] == [str(feature) for feature in (second, first, third)]
    wanted = [feature.index for feature in (second, first, third)]
    effect = output_scores(bench.model, bench.dictionaries["sae"], wanted)
    change = confidence_changes(bench.model, bench.dictionaries["sae"], wanted)
    for place, row in enumerate(rows):
        assert row["output_score"] == pytest.approx(effect.score[place], rel=1e-5)
        assert row["output_rank"] == effect.rank[place]
        assert row["confidence_change"] == pytest.approx(change[place], rel=1e-4, abs=1e-6)
        assert row["density"] == bench.statistics().density[wanted[place]]
        assert row["maximum"] == bench.statistics().maximum[wanted[place]]
        assert row["promotes"] == [bench.model.tokenizer.decode([int(token)]) for token in effect.tokens[place][:8]]
        assert row["snippets"][0]["activation"] == pytest.approx(row["maximum"], rel=1e-3)


def test_a_feature_that_promotes_nothing_is_described_as_such(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary = bench.dictionaries["sae"]
    feature = int(bench.statistics().live[0])
    kept = dictionary.sae.W_dec[feature].clone()
    dictionary.sae.W_dec.data[feature] = 0
    try:
        row = describe(bench, [Labeling(Concept("c", "c"), (FeatureRef("sae", feature),))])[0].evidence["about"][0]  # type: ignore[union-attr]
    finally:
        dictionary.sae.W_dec.data[feature] = kept
    assert (row["promotes"], row["output_score"]) == ([], 0.0)


def test_answers_without_features_need_no_model() -> None:
    nothing: Any = None
    assert describe(nothing, [Abstention(Concept("c", "c"), "why")]) == [Abstention(Concept("c", "c"), "why")]


def test_labels_are_counted_also_where_their_labeler_does_not(bench: TaskBench) -> None:
    """A random feature's held-out score stands beside that of the labeler that it controls for."""
    live = bench.statistics().live
    answers = [Labeling(Concept("girl", "a girl", "girl"), (FeatureRef("sae", int(live[3])), FeatureRef("sae", int(live[9]))))]
    bare = Labeling(Concept("bare", "a bare name"), (FeatureRef("sae", int(live[3])),))
    counted, uncounted = describe(bench, [*answers, bare], Settings(snippets=0, held_out=0.25, pi0=0.05, selects_on="nothing"))
    assert isinstance(counted, Labeling)
    assert isinstance(uncounted, Labeling)
    assert "features" not in uncounted.evidence
    order = bench.rng("held-out-texts").permutation(len(bench.corpus))
    parts = {"chosen_on": order[: len(order) * 3 // 4], "held_out": order[len(order) * 3 // 4 :]}
    for row, feature in zip(counted.evidence["features"], (int(live[3]), int(live[9])), strict=True):
        share = bench.statistics().frequencies[:, [feature]].toarray()[:, 0]
        for part, texts in parts.items():
            fires = share[texts] > np.float32(row["threshold"])
            positive = np.array(["girl" in bench.corpus[int(text)].labels for text in texts])
            assert (row[part]["tp"], row[part]["fp"]) == ((fires & positive).sum(), (fires & ~positive).sum())
            assert row[part]["score"] == row[part]["calibrated_f1"]


def test_what_a_labeler_has_counted_stays(bench: TaskBench) -> None:
    own = {"features": [{"feature": 1, "chosen_on": {"score": 0.5}, "mine": True}]}
    answer = Labeling(Concept("girl", "a girl", "girl"), (FeatureRef("sae", int(bench.statistics().live[0])),), 0.5, own)
    (described,) = describe(bench, [answer], Settings(snippets=0))
    assert isinstance(described, Labeling)
    assert described.evidence["features"] == own["features"]


def test_labels_are_described_without_what_cannot_be_had(bench: TaskBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """No feature is active on the prompt: nothing can be amplified, and the labels are not lost for it."""
    monkeypatch.setattr(bench, "warnings", Warnings())
    monkeypatch.setattr(bench.dictionaries["sae"].sae, "encode", lambda x: torch.zeros(*x.shape[:-1], 512))
    (described,) = describe(bench, [Labeling(Concept("c", "c"), (FeatureRef("sae", int(bench.statistics().live[0])),))], Settings(snippets=0))
    assert isinstance(described, Labeling)
    row = described.evidence["about"][0]
    assert (row["output_score"], row["confidence_change"]) == (None, None)
    assert row["promotes"]
    assert any("without output score" in warning and "no feature" in warning for warning in bench.warnings.messages)


def test_the_prompt_is_that_of_the_filter(bench: TaskBench) -> None:
    answer = Labeling(Concept("c", "c"), (FeatureRef("sae", int(bench.statistics().live[0])),))
    rows = [describe(bench, [answer], Settings(snippets=0, prompt=prompt))[0].evidence["about"][0] for prompt in ("One day", "The dog")]  # type: ignore[union-attr]
    assert [row["prompt"] for row in rows] == ["One day", "The dog"]
    assert rows[0]["confidence_change"] != rows[1]["confidence_change"]
