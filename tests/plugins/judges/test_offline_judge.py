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
from harness_plugins.judges.offline import OfflineJudge, OfflineOptions
from harness_plugins.judges.offline.batches import WIDTH_STEP, in_batches
from harness_plugins.judges.offline.embedding import EMBEDDING_MODEL, Embedder
from harness_plugins.judges.offline.fluency import MIN_SPAN, PRIOR_TOKENS, REFERENCES, FluencyMeter, repeated_share
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
RATED = Path(__file__).resolve().parents[3] / "benchmarks" / "offline_judge_rated.jsonl"

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
    return prepared(load_model(embedded("smollm2-135m-instruct"), device="cpu"))


@pytest.fixture
def tiny(tiny_model_path: Path) -> SubjectModel:
    """stories260K, a copy of the test's own."""
    return load_model(tiny_model_path, device="cpu", dtype="float32")


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
    assert (on.concept, on.instruction) == (2, 2)
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
    cosines = [value["concept"] for value in values]
    assert cosines[0] > max(cosines[1:]) + 0.1
    assert max(cosines[1:]) < judge.options.concept_partial


def test_a_reply_belongs_to_its_own_instruction(judge: OfflineJudge) -> None:
    asked = ["How do I boil an egg?", "Why is the sky blue?", "How can I fall asleep faster?"]
    replies = [
        EGG.text,
        "Sunlight is scattered by the air, and blue light is scattered most, so it reaches us from all of the sky.",
        "Go to bed at the same hour every night, keep the room dark, and put your phone away.",
    ]
    values = judge.measure([item(reply, instruction=question) for reply in replies for question in asked])
    table = np.array([value["instruction"] for value in values]).reshape(3, 3)
    assert (table.argmax(axis=1) == [0, 1, 2]).all()
    assert (np.diag(table) >= judge.options.instruction_full).all()


def test_shuffled_words_and_loops_are_not_fluent(judge: OfflineJudge) -> None:
    good, shuffled, loop = rate(judge, *(replace(item(text), id=text) for text in (ON_TOPIC, SHUFFLED, LOOP)))
    assert good.fluency is not None
    assert good.fluency >= 1
    assert shuffled.fluency == loop.fluency == 0
    assert good.details["fluency"] > shuffled.details["fluency"] + 0.3
    # What a loop's tokens cost is less than what those of a good text do: only the repeated 3-grams give it away.
    assert loop.details["log_probability"] > good.details["log_probability"]
    assert loop.details["repeated"] > 0.7


def test_each_reference_passage_is_more_fluent_than_its_shuffled_words(judge: OfflineJudge) -> None:
    meter = judge.instruments()[1]
    order = np.random.Generator(np.random.PCG64(1))
    shuffled = [" ".join(order.permutation(text.split())) for text in REFERENCES]
    values = [value["fluency"] for value in meter.measure([*REFERENCES, *shuffled])]
    whole, broken = values[: len(REFERENCES)], values[len(REFERENCES) :]
    assert min(whole) > 0.75
    assert max(broken) < 0.6
    assert np.mean(whole) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("words", [3, 6, 12])
def test_a_short_text_is_not_punished_for_its_length(judge: OfflineJudge, words: int) -> None:
    texts = [" ".join(text.split()[:words]) for text in REFERENCES]
    fluency = [value["fluency"] for value in judge.instruments()[1].measure(texts)]
    assert np.mean(fluency) == pytest.approx(1, abs=0.12)


def test_it_agrees_with_the_rater_on_concepts_that_it_was_not_fitted_on(judge: OfflineJudge) -> None:
    """The figures of docs/offline-judge.md, within what another machine's arithmetic may change."""
    from sklearn.metrics import cohen_kappa_score

    rows = [json.loads(line) for line in RATED.read_text(encoding="utf-8").splitlines()]
    fitted = sorted({row["concept"] for row in rows})[::2]
    rows = [row for row in rows if row["concept"] not in fitted]
    items = [JudgeItem(str(i), row["concept"], row["instruction"], row["text"]) for i, row in enumerate(rows)]
    judged = np.array([grades(rating) for rating in rate(judge, *items)])
    truth = np.array([row["ratings"] for row in rows])
    agreement = [cohen_kappa_score(truth[:, i], judged[:, i], weights="quadratic") for i in range(3)]
    assert len(rows) == 145
    assert min(agreement) > 0.74, agreement


# ------------------------------------------------------------------------------------------------------------- nothing else counts


def test_the_same_ratings_again_in_any_order_and_in_any_company(judge: OfflineJudge) -> None:
    texts = [ON_TOPIC, OFF_TOPIC, SHUFFLED, LOOP, EGG.text, "Yes.", "Honey", ON_TOPIC + " " + OFF_TOPIC, CITY * 6]
    items = [replace(item(text), id=str(i)) for i, text in enumerate(texts)]
    together = judge.measure(items)
    fresh = OfflineJudge(judge.options)
    fresh._instruments = judge.instruments()  # nothing remembered
    assert fresh.measure(items[::-1]) == together[::-1]
    for asked, expected in zip(items, together, strict=True):
        alone = OfflineJudge(judge.options)
        alone._instruments = judge.instruments()
        assert alone.measure([asked]) == [expected]  # to the last bit


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
    assert after["concept"] >= judge.options.concept_full


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
    assert "fluency" in rating.reason


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
    meter = FluencyMeter(tiny, 512, 1.6)
    texts = ["Once upon a time there was a little girl.", "Hi", CITY]
    for text, found in zip(texts, meter.log_probabilities(texts), strict=True):
        ids = tiny.tokenizer(text, return_tensors="pt")["input_ids"]  # with its BOS
        with torch.inference_mode():
            expected = tiny.hf(ids).logits[0, :-1].log_softmax(-1)[range(ids.shape[1] - 1), ids[0, 1:]]
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_a_model_without_a_bos_of_its_own_reads_a_line_break_first(judge: OfflineJudge) -> None:
    meter = judge.instruments()[1]
    model = meter._model
    (found,) = meter.log_probabilities(["Honey is sweet."])
    ids = [*model.encode("\n"), *model.encode("Honey is sweet.")]
    with torch.inference_mode():
        logits = model.hf(torch.tensor([ids])).logits[0].float()
    expected = logits[:-1].log_softmax(-1)[range(len(ids) - 1), ids[1:]]
    assert len(found) == len(ids) - 1
    np.testing.assert_allclose(found, expected.numpy(), atol=0.1)  # bfloat16


def test_fluency_is_what_its_formula_says(tiny: SubjectModel) -> None:
    weight = 2.5
    meter = FluencyMeter(tiny, 512, weight)
    references = meter.log_probabilities(REFERENCES)
    assert meter.fluent == pytest.approx(sum(map(sum, references)) / sum(map(len, references)))
    for text in ("One day, a dog ran. One day, a dog ran.", "Hello", CITY * 3):
        (row,) = meter.log_probabilities([text])
        start = [value for reference in references for value in reference[: len(row)]]
        gain = sum(value - sum(start) / len(start) for value in row) / (len(row) + PRIOR_TOKENS) / (meter.fluent - meter.shuffled)
        (found,) = meter.measure([text])
        assert found["fluency"] == pytest.approx(1 + gain - weight * repeated_share(text), abs=1e-4)
        assert found["tokens"] == len(row)


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
    assert judge.traits.rubric == "offline/1"
    assert judge.options.concept_partial == 0.3


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"concept_partial": "1.5"}, OptionError),
        ({"concept_partial": "0.6"}, OptionError),  # above concept_full
        ({"fluency_full": "0.82"}, OptionError),
        ({"window": "0"}, OptionError),
        ({"repetition_weight": "-1"}, OptionError),
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
    lenient = OfflineJudge(OfflineOptions(concept_partial=-0.9, concept_full=-0.8, fluency_partial=4, fluency_full=5))
    lenient._instruments = judge.instruments()
    (rating,) = rate(lenient, item(OFF_TOPIC))
    assert (rating.concept, rating.fluency) == (2, 0)
