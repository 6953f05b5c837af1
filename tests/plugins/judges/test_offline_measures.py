"""What the offline judge measures: echoes, words, forests, embeddings and likelihoods, against independent arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.judges.offline import ASPECTS, OfflineJudge, shipped
from harness_plugins.judges.offline.batches import WIDTH_STEP, in_batches
from harness_plugins.judges.offline.echo import cut_echo
from harness_plugins.judges.offline.embedding import EMBEDDING_MODEL, Embedder
from harness_plugins.judges.offline.features import PRIOR_TOKENS, of_likelihoods
from harness_plugins.judges.offline.forest import LEAF, Forest
from harness_plugins.judges.offline.likelihood import ANSWER, MIN_SPAN, TOPIC, LikelihoodMeter
from harness_plugins.judges.offline.words import repeated_share, sentence_spans, stem
from helpers.offline_judge import CITY, OFF_TOPIC, ON_TOPIC, benchmark, embedded, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import JudgeError
from harness.model.loading import SubjectModel


@pytest.mark.parametrize(
    ("instruction", "text", "rest", "words"),
    [
        ("How do I boil an egg?", "How do I boil an egg?\n\nBoil water.", "Boil water.", 6),
        ("How do I boil an egg?", "how do i boil an egg - Boil water.", "- Boil water.", 6),
        ("How do I boil an egg?", "How do you boil eggs? No.", "How do you boil eggs? No.", 0),
        ("How do I boil an egg?", "Boil water. How do I boil an egg?", "Boil water. How do I boil an egg?", 0),
        ("What is the capital of France?", "The capital of France is Paris.", "The capital of France is Paris.", 0),
        ("Name a fruit.", "Name a fruit. Name a fruit. Apple", "Apple", 6),
        ("Sing!", "Sing, sing a song.", "song.", 0),
    ],
)
def test_the_echo_is_cut_and_nothing_else(instruction: str, text: str, rest: str, words: int) -> None:
    found = cut_echo(instruction, text)
    if instruction != "Sing!":  # one word that the answer may well begin with: whatever is cut, something is left
        assert (found.text, found.echoed, found.alone) == (rest, words, False)
    assert found.text


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.text(max_size=120))
def test_cutting_an_echo_leaves_an_end_of_the_text(instruction: str, text: str) -> None:
    found = cut_echo(instruction, text)
    assert text.strip().endswith(found.text)
    assert bool(found.text) == bool(text.strip())
    assert found.echoed >= found.alone


def test_a_forest_of_numbers_gives_what_the_fitted_one_gives() -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    as_numbers = benchmark("calibrate_offline_judge").as_numbers
    draw = np.random.Generator(np.random.PCG64(0))
    rows = draw.normal(size=(200, 5)).round(1)  # many values equal a threshold
    fitted = ExtraTreesRegressor(20, random_state=0).fit(rows.astype(np.float32), rows[:, 0] > rows[:, 1])
    forest = as_numbers(fitted)
    np.testing.assert_allclose(forest.predict(rows), fitted.predict(rows.astype(np.float32)), atol=1e-6)
    assert [forest.predict(row[None])[0] for row in rows] == forest.predict(rows).tolist()


def test_a_tree_is_read_left_up_to_the_threshold() -> None:
    forest = Forest(
        np.array([0, LEAF, LEAF], np.int16), np.array([0.5, 1.0, 2.0], np.float32), np.array([2, 0, 0], np.uint16), np.array([0], np.int32)
    )
    assert forest.predict(np.array([[0.5], [0.6], [-3.0]])).tolist() == [1.0, 2.0, 1.0]
    assert forest.predict(np.zeros((0, 1))).tolist() == []


def test_what_is_shipped_is_small_and_within_the_scale() -> None:
    import harness_plugins.judges.offline as plugin

    forests, names = shipped()
    assert sorted(forests) == sorted(ASPECTS)
    assert len(set(names)) == len(names)
    assert Path(plugin.__file__).with_name("forests.safetensors").stat().st_size < 1_000_000
    for forest in forests.values():
        answers = forest.threshold[forest.feature == LEAF]
        assert 0 <= answers.min() <= answers.max() <= 2
        assert forest.feature.max() < len(names)


@pytest.mark.parametrize(
    ("text", "sentences"), [("One. Two! Three", 3), ("a 3.5 b", 1), ("- one\n- two\n\n- three", 3), ("...", 0), ('"Yes." She left.', 2)]
)
def test_sentences(text: str, sentences: int) -> None:
    assert len(sentence_spans(text)) == sentences


def test_stems_make_one_word_of_its_forms() -> None:
    assert len({stem(word) for word in ("baker", "baking", "bakes", "bake", "baked")}) == 1
    assert stem("sea") == "sea"


def test_a_model_that_cannot_tell_words_from_their_shuffling_is_refused(tiny: SubjectModel) -> None:
    for weight in tiny.hf.parameters():
        torch.nn.init.normal_(weight, std=0.02, generator=torch.Generator().manual_seed(0))
    with pytest.raises(JudgeError) as error:
        prepared(tiny)
    assert isinstance(error.value.given, float)
    assert error.value.given < MIN_SPAN
    assert str(MIN_SPAN) in str(error.value.allowed)
    assert tiny.name in error.value.message
    assert "another judge" in error.value.hint
    assert "\n" not in str(error.value)


def test_log_probabilities_are_those_of_one_plain_forward_pass(tiny: SubjectModel) -> None:
    meter = LikelihoodMeter(tiny, 512)
    texts = ["Once upon a time there was a little girl.", "Hi", CITY]
    for text, found in zip(texts, meter.log_probabilities(texts), strict=True):
        ids = tiny.tokenizer(text, return_tensors="pt")["input_ids"]  # with its BOS
        with torch.inference_mode():
            expected = tiny.hf(ids).logits[0, :-1].log_softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]]
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_a_model_without_a_bos_of_its_own_reads_a_line_break_first(judge: OfflineJudge) -> None:
    meter = judge.instruments().meter
    model = meter._model
    (found,) = meter.log_probabilities(["Honey is sweet."])
    ids = [*model.encode("\n"), *model.encode("Honey is sweet.")]
    with torch.inference_mode():
        logits = model.hf(torch.tensor([ids])).logits[0].float()
    expected = logits[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
    assert len(found) == len(ids) - 1
    np.testing.assert_allclose(found, expected.numpy(), atol=0.1)  # bfloat16


def test_likelihoods_are_those_of_plain_forward_passes(tiny: SubjectModel) -> None:
    meter = LikelihoodMeter(tiny, 512)
    (found,) = meter.measure([("a dog", "Tell me a story.", "Once there was a dog.")])
    bos, parts = tiny.encode(""), {name: tiny.encode(text, add_bos=False) for name, text in (("topic", TOPIC),)}
    own, concept, before = (tiny.encode(text)[len(bos) :] for text in ("Once there was a dog.", "a dog", "Tell me a story." + ANSWER))

    def last(ids: list[int], n: int) -> Any:
        with torch.inference_mode():
            logits = tiny.hf(torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
        return logits[range(len(ids) - 1), ids[1:]][-n:].numpy()

    np.testing.assert_allclose(found.alone, last([*bos, *own], len(own)), atol=2e-5)
    np.testing.assert_allclose(found.reply, last([*bos, *before, *own], len(own)), atol=2e-5)
    np.testing.assert_allclose(found.topic, last([*bos, *own, *parts["topic"], *concept], len(concept)), atol=2e-5)
    values = of_likelihoods(found, meter, meter.baselines(["a dog"])[0])
    n = len(own)
    expected = (found.alone.mean() - meter.start[n - 1]) / (meter.fluent - meter.shuffled) * n / (n + PRIOR_TOKENS)
    assert values["likelihood: alone"] == pytest.approx(expected, abs=1e-5)
    assert values["likelihood: lift"] == pytest.approx((found.reply - found.alone).mean() / meter.span * n / (n + PRIOR_TOKENS), abs=1e-5)


def test_embeddings_are_the_models_own_and_windows_are_means_of_pieces() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = embedded(EMBEDDING_MODEL)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [ON_TOPIC, "Yes", OFF_TOPIC]
    for text, found in zip(texts, Embedder(folder, torch.device("cpu"), 512).pieces(texts), strict=True):
        with torch.inference_mode():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].numpy()
        mean = states.mean(axis=0)
        np.testing.assert_allclose(found.whole(), mean / np.linalg.norm(mean), atol=1e-5)
        body, size = states[1:-1], min(6, len(states) - 2)
        runs = np.stack([body[i : i + size].mean(axis=0) for i in range(len(body) - size + 1)])
        np.testing.assert_allclose(found.windows(6), runs / np.linalg.norm(runs, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0),
        ("one two", 0),
        ("a b c d e f", 0),
        ("a b c a b c", 1 / 4),
        ("A b c. a B C.", 2 / 6),
        ("go " * 12, 9 / 10),
        ("!!!!!!", 3 / 4),
    ],
)
def test_repeated_share(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), max_size=40), budget=st.integers(64, 256))
def test_batches_hold_each_row_once_and_their_shape_depends_on_the_width_alone(lengths: Sequence[int], budget: int) -> None:
    rows = [[i + 1] * n for i, n in enumerate(lengths)]
    seen, shapes = [], set()
    for indices, ids, mask in in_batches(rows, 0, budget, torch.device("cpu")):
        shapes.add(tuple(ids.shape))
        assert ids.shape[1] % WIDTH_STEP == 0
        assert mask.any(dim=1).all()
        for place, index in enumerate(indices):
            assert ids[place][mask[place].bool()].tolist() == rows[index]
        seen += indices
    assert sorted(seen) == list(range(len(rows)))
    assert len({width for _, width in shapes}) == len(shapes)
    assert all(size * width <= budget or size == 1 for size, width in shapes)
