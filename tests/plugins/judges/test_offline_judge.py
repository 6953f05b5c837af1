"""The offline judge: what it must rank right, that nothing but the item counts, and what it does where there is nothing to measure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.judges.offline import ASPECTS, OfflineJudge, OfflineOptions, shipped
from harness_plugins.judges.offline.batches import WIDTH_STEP, in_batches
from harness_plugins.judges.offline.echo import cut_echo
from harness_plugins.judges.offline.embedding import EMBEDDING_MODEL, Embedder
from harness_plugins.judges.offline.features import PRIOR_TOKENS, of_likelihoods
from harness_plugins.judges.offline.forest import LEAF, Forest
from harness_plugins.judges.offline.likelihood import ANSWER, MIN_SPAN, TOPIC, LikelihoodMeter
from harness_plugins.judges.offline.measuring import Instruments
from harness_plugins.judges.offline.references import REFERENCES
from harness_plugins.judges.offline.words import repeated_share, sentence_spans, stem
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.contracts import Judge
from harness.errors import HarnessError, JudgeError, ModelError, OptionError, UnknownNameError
from harness.model.embedded import ensure
from harness.model.loading import SubjectModel, load_model
from harness.options import build
from harness.plugin.host import PluginHost
from harness.types import JudgeItem, Rating

torch.set_num_threads(1)
BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"

EGG = JudgeItem(
    "egg", "cooking and recipes", "How do I boil an egg?", "Put the egg into boiling water and take it out after seven minutes."
)
ON_TOPIC = "Bees fly from flower to flower and bring the nectar to their hive, where they turn it into honey."
OFF_TOPIC = "The new bridge was opened last week, and the traffic in the centre of the town has become much lighter."
SHUFFLED = "hive fly honey the flower where from it their to flower Bees and turn nectar bring, into they the to"
LOOP = "The honey is in the hive and " * 8
CITY = "The traffic in the centre of the town is heavy, and the new bridge has not changed that at all. "


# ------------------------------------------------------------------------------------------------------------------------ fixtures


def embedded(name: str) -> Path:
    try:
        return ensure(name)
    except ModelError as error:
        pytest.skip(f"{name} cannot be had here: {error}")


def prepared(model: SubjectModel, **options: Any) -> OfflineJudge:
    embedded(EMBEDDING_MODEL)
    judge = OfflineJudge(OfflineOptions(**options))
    judge.prepare(SimpleNamespace(model=model))  # type: ignore[arg-type]  # all that it takes from a bench
    return judge


@pytest.fixture(scope="module")
def judge() -> OfflineJudge:
    """The judge with the demo's subject model."""
    # Batches are filled up to their fixed shape: small ones cost single texts less.
    return prepared(load_model(embedded("smollm2-135m-instruct"), device="cpu"), batch_tokens=64)


@pytest.fixture
def tiny(tiny_model_path: Path) -> SubjectModel:
    """stories260K, a copy of the test's own."""
    return load_model(tiny_model_path, device="cpu", dtype="float32")


def forgetful(judge: OfflineJudge) -> OfflineJudge:
    """The judge, with nothing remembered of what it has measured."""
    own, fresh = judge.instruments(), OfflineJudge(judge.options)
    own.meter._baselines.clear()
    fresh._instruments = Instruments(own.embedder, own.meter)
    return fresh


def item(text: str, concept: str = "beekeeping and honey", instruction: str = "What do bees do all day?") -> JudgeItem:
    return JudgeItem("only", concept, instruction, text)


def rate(judge: OfflineJudge, *items: JudgeItem) -> list[Rating]:
    answers = {rating.item_id: rating for rating in judge.submit(items)}
    return [answers[asked.id] for asked in items]


def grades(rating: Rating) -> tuple[float | None, float | None, float | None]:
    return rating.concept, rating.instruction, rating.fluency


# ------------------------------------------------------------------------------------------------------------------ what it ranks


def test_a_fluent_text_on_the_concept_and_the_instruction_beats_one_on_neither(judge: OfflineJudge) -> None:
    (on,), (off,) = rate(judge, item(ON_TOPIC)), rate(judge, item(OFF_TOPIC))
    assert on.concept == 2
    assert on.instruction is not None
    assert on.instruction >= 1
    assert (off.concept, off.instruction) == (0, 0)
    assert off.fluency is not None
    assert off.fluency >= 1, "a text is no less fluent for being off topic"


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        ("dentistry and teeth", "The dentist found a cavity in one of my molars and filled it the same day."),
        ("volcanoes and lava", "When the crater opened, glowing rock ran down the slopes and ash darkened the sky."),
        ("pirates and treasure", "The captain buried the stolen gold on a small island and drew a map that only his crew could read."),
        ("umbrellas and rain", "It poured all afternoon, and I had left my umbrella on the bus."),
    ],
)
def test_a_text_carries_its_own_concept_and_none_of_the_others(judge: OfflineJudge, concept: str, text: str) -> None:
    others = ["beekeeping and honey", "origami and paper folding", "mushrooms and fungi", "chess and board games"]
    values = judge.measure([item(text, concept), *(item(text, other) for other in others)])
    expected = [value["concept"] for value in values]
    assert expected[0] > max(expected[1:]) + 0.5
    assert max(expected[1:]) < judge.options.concept_partial


def test_a_reply_belongs_to_its_own_instruction(judge: OfflineJudge) -> None:
    asked = ["How do I boil an egg?", "Why is the sky blue?", "How can I fall asleep faster?"]
    replies = [
        EGG.text,
        "Sunlight is scattered by the air, and blue light is scattered most, so it reaches us from all of the sky.",
        "Go to bed at the same hour every night, keep the room dark, and put your phone away.",
    ]
    values = judge.measure([item(reply, instruction=question) for reply in replies for question in asked])
    expected = np.array([value["instruction"] for value in values]).reshape(3, 3)
    assert (expected.argmax(axis=1) == [0, 1, 2]).all()
    assert np.diag(expected).min() >= judge.options.instruction_partial + 0.5
    assert np.median(expected[~np.eye(3, dtype=bool)]) < judge.options.instruction_partial


def test_shuffled_words_and_loops_are_not_fluent(judge: OfflineJudge) -> None:
    good, shuffled, loop = rate(judge, *(replace(item(text), id=text) for text in (ON_TOPIC, SHUFFLED, LOOP)))
    assert good.fluency == 2
    assert shuffled.fluency == loop.fluency == 0
    # What a loop's tokens cost is less than what those of a good text do: only the repetition gives it away.
    assert loop.details["likelihood"] > good.details["likelihood"]
    assert loop.details["repeated"] > 0.7


def test_each_reference_passage_is_fluent_and_its_shuffled_words_are_not(judge: OfflineJudge) -> None:
    order = np.random.Generator(np.random.PCG64(1))
    shuffled = [" ".join(order.permutation(text.split())) for text in REFERENCES]
    values = np.array([value["fluency"] for value in judge.measure([item(text) for text in (*REFERENCES, *shuffled)])])
    assert (values[: len(REFERENCES)] >= judge.options.fluency_full).mean() > 0.9
    assert (values[len(REFERENCES) :] < judge.options.fluency_partial).mean() > 0.9


@pytest.mark.parametrize("words", [4, 8, 16])
def test_a_short_text_is_not_punished_for_its_length(judge: OfflineJudge, words: int) -> None:
    texts = [" ".join(text.split()[:words]) for text in REFERENCES]
    values = [value["fluency"] for value in judge.measure([item(text) for text in texts])]
    assert np.mean(values) >= judge.options.fluency_full


def test_a_passing_mention_is_less_than_a_text_that_keeps_coming_back_to_a_concept(judge: OfflineJudge) -> None:
    plain = (
        "Rinse the rice, put it into a pot with two cups of water and a pinch of salt, and bring it to the boil. Then cover it and wait."
    )
    passing = f"{plain} After a quarter of an hour, about as long as a short game of chess, it is done."
    full = (
        "Treat the rice as you would an opening at chess: rinse it, set up the pot like a board, guard the lid like your king, and do not "
    )
    full += "move a piece until the clock says checkmate. A good player wins by patience, move by move, and so does a cook."
    values = judge.measure([item(text, "chess", "How do I cook rice?") for text in (plain, passing, full)])
    low, middle, high = (value["concept"] for value in values)
    assert low < judge.options.concept_partial <= middle < judge.options.concept_full <= high


@pytest.mark.parametrize(
    "text", ["Chess.", "chess chess chess board games chess pawn chess rook queen chess chess king", "This has nothing to do with chess."]
)
def test_naming_denying_and_stuffing_a_concept_is_worth_one_at_most(judge: OfflineJudge, text: str) -> None:
    (rating,) = rate(judge, item(text, "chess", "How do I cook rice?"))
    assert rating.concept is not None
    assert rating.concept <= 1
    assert rating.instruction == 0


def test_an_echoed_instruction_changes_no_measurement_of_the_rest(judge: OfflineJudge) -> None:
    asked = EGG.instruction
    echoes = [
        echo + between for echo in (asked, asked.lower(), asked.upper(), f'"{asked}"', asked[:-1]) for between in ("\n\n", " ", ": ", "\n")
    ]
    bare, *others = judge.measure([EGG, *(replace(EGG, text=echo + EGG.text) for echo in echoes)])
    echo = {name for name in bare if name.startswith("echo")} | set(ASPECTS)
    for echoed in others:
        assert {name: value for name, value in bare.items() if name not in echo} == {n: v for n, v in echoed.items() if n not in echo}
        assert echoed["echo: words"] == 6


def test_an_echo_alone_answers_nothing(judge: OfflineJudge) -> None:
    ratings = rate(
        judge, *(replace(EGG, id=text, text=text) for text in (EGG.instruction, "how do i boil an egg", f"{EGG.instruction} " * 3))
    )
    assert all(rating.instruction is not None and rating.instruction <= 1 for rating in ratings)


# ---------------------------------------------------------------------------------------------------------------------- its parts


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
    import sys

    from sklearn.ensemble import ExtraTreesRegressor

    sys.path.insert(0, str(BENCHMARKS))
    try:
        from calibrate_offline_judge import as_numbers
    finally:
        sys.path.remove(str(BENCHMARKS))
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


# ------------------------------------------------------------------------------------------------------------- nothing else counts


def test_the_same_ratings_again_in_any_order_and_in_any_company(judge: OfflineJudge) -> None:
    texts = [ON_TOPIC, OFF_TOPIC, SHUFFLED, LOOP, EGG.text, "Yes.", "Honey", ON_TOPIC + " " + OFF_TOPIC, CITY * 6]
    items = [replace(item(text), id=str(i)) for i, text in enumerate(texts)]
    together = judge.measure(items)
    assert forgetful(judge).measure(items[::-1]) == together[::-1]
    for asked, expected in list(zip(items, together, strict=True))[::3]:  # each costs full batches
        assert forgetful(judge).measure([asked]) == [expected]  # to the last bit


def test_the_ticket_says_nothing(judge: OfflineJudge) -> None:
    ids = ["1", "sae-clamp/strength-0.4", "none", "ffff"]
    ratings = rate(judge, *(replace(EGG, id=name) for name in ids))
    assert [rating.item_id for rating in ratings] == ids
    assert len({json.dumps([grades(rating), dict(rating.details)], sort_keys=True) for rating in ratings}) == 1


def test_space_around_a_text_does_not_count(judge: OfflineJudge) -> None:
    bare, padded = rate(judge, replace(EGG, id="bare"), replace(EGG, id="padded", text=f"\n  {EGG.text} \n"))
    assert bare.details == padded.details


def test_a_long_text_is_read_to_its_end(judge: OfflineJudge) -> None:
    before, after = judge.measure([item(CITY * 20), item(CITY * 20 + ON_TOPIC)])
    assert before["concept"] < judge.options.concept_partial
    assert after["concept"] > before["concept"]
    assert after["concept: run of 6"] > 0.4 > before["concept: run of 6"]


# ------------------------------------------------------------------------------------------------------ nothing there, and failures


@pytest.mark.parametrize("text", ["", "   \n\t", "…", "?!?! ** -- !!", "🌋🌋🌋"])
def test_a_text_without_a_letter_or_digit_is_rated_nought_and_says_why(judge: OfflineJudge, text: str) -> None:
    (rating,) = rate(judge, item(text))
    assert rating.status == "rated"
    assert grades(rating) == (0, 0, 0)
    assert "text" in rating.details["rule"]


def test_a_digit_is_an_answer(judge: OfflineJudge) -> None:
    (rating,) = rate(judge, item("4", "mathematics", "What is two plus two?"))
    assert rating.status == "rated"
    assert "rule" not in rating.details
    assert rating.details["tokens"] >= 1


@pytest.mark.parametrize("missing", ["concept", "instruction"])
def test_an_item_without_concept_or_instruction_is_unrated(judge: OfflineJudge, missing: str) -> None:
    broken = replace(EGG, id="broken", **{missing: " "})
    good, unrated = rate(judge, EGG, broken)
    assert good.status == "rated"
    assert unrated.status == "unrated"
    assert missing in unrated.reason


def test_every_item_gets_one_answer(judge: OfflineJudge) -> None:
    items = [replace(EGG, id=str(i), text=text) for i, text in enumerate(["", EGG.text, "!", EGG.text, ON_TOPIC])]
    assert sorted(rating.item_id for rating in judge.submit(items)) == [asked.id for asked in items]
    assert list(judge.submit([])) == []


def test_a_text_that_cannot_be_measured_is_unrated_and_spoils_no_other(tiny: SubjectModel) -> None:
    judge = prepared(tiny)

    def full(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] > 200:
            raise torch.OutOfMemoryError("out of memory: tried to allocate\nmore than there is")

    tiny.hf.register_forward_pre_hook(full, with_kwargs=True)
    short, long = rate(judge, EGG, replace(EGG, id="long", text=CITY * 10))
    assert short.status == "rated"
    assert long.status == "unrated"
    assert long.reason.startswith("measuring failed: OutOfMemoryError: out of memory")
    assert "\n" not in long.reason


def test_a_log_probability_that_is_no_number_is_unrated(tiny: SubjectModel) -> None:
    judge = prepared(tiny)
    tiny.hf.get_output_embeddings().weight.data.fill_(math.nan)
    (rating,) = rate(judge, EGG)
    assert rating.status == "unrated"
    assert "likelihood" in rating.reason


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


def test_before_it_is_prepared_and_tickets_of_others() -> None:
    judge = OfflineJudge(OfflineOptions())
    with pytest.raises(JudgeError) as error:
        judge.submit([EGG])
    assert "prepare(bench)" in error.value.hint
    assert list(judge.collect([])) == []
    with pytest.raises(JudgeError) as error:
        judge.collect(["batch-7"])
    assert error.value.given == "batch-7"
    assert "'batch-7'" in error.value.message
    assert "the judge that gave it" in error.value.hint


# ------------------------------------------------------------------------------------------------------------------- its arithmetic


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


def test_a_text_longer_than_the_model_reads_is_still_rated(tiny: SubjectModel) -> None:
    judge = prepared(tiny)
    (rating,) = rate(judge, replace(EGG, text=CITY * 60))
    assert rating.status == "rated"


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


# ----------------------------------------------------------------------------------------------------------------- options, entrance


def test_it_enters_as_any_plugin_does() -> None:
    registered = PluginHost.load().get("judge", "offline")
    judge = registered.create({"concept_partial": "0.3"})
    assert isinstance(judge, Judge)
    assert judge.traits.offline is True
    assert judge.traits.rubric == "offline/2"
    assert judge.options.concept_partial == 0.3


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"concept_partial": "2.5"}, OptionError),
        ({"concept_partial": "1.9"}, OptionError),  # above concept_full
        ({"fluency_full": "0.1"}, OptionError),
        ({"batch_tokens": "many"}, OptionError),
        ({"concept_cut": "0.3"}, UnknownNameError),
    ],
)
def test_options_out_of_bounds(given: dict[str, str], error: type[HarnessError]) -> None:
    with pytest.raises(error) as raised:
        build(OfflineOptions, given, "judge offline")
    assert "judge offline" in str(raised.value)
    assert next(iter(given)) in raised.value.message
    assert "\n" not in str(raised.value)


def test_cut_points_decide(judge: OfflineJudge) -> None:
    lenient = OfflineJudge(OfflineOptions(concept_partial=0, concept_full=0.0001, fluency_partial=1.9999, fluency_full=2))
    lenient._instruments = judge.instruments()
    (rating,) = rate(lenient, item(OFF_TOPIC))
    assert (rating.concept, rating.fluency) == (2, 0)
