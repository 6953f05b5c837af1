"""The offline judge: what it must rank right, that nothing but the item counts, and what it does where there is nothing to measure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.judges.offline import ASPECTS, OfflineJudge, OfflineOptions
from harness_plugins.judges.offline.references import REFERENCES
from helpers.offline_judge import CITY, EGG, LOOP, OFF_TOPIC, ON_TOPIC, SHUFFLED, forgetful, grades, item, prepared, rate

from harness.contracts import Judge
from harness.errors import HarnessError, JudgeError, OptionError, UnknownNameError
from harness.model.loading import SubjectModel
from harness.options import build
from harness.plugin.host import PluginHost


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
    passages = REFERENCES[::4]  # some seconds for all
    shuffled = [" ".join(order.permutation(text.split())) for text in passages]
    values = np.array([value["fluency"] for value in judge.measure([item(text) for text in (*passages, *shuffled)])])
    assert (values[: len(passages)] >= judge.options.fluency_full).mean() > 0.9
    assert (values[len(passages) :] < judge.options.fluency_partial).mean() > 0.9


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


def test_the_same_ratings_again_in_any_order_and_in_any_company(judge: OfflineJudge) -> None:
    texts = [ON_TOPIC, SHUFFLED, "Yes.", LOOP, "Honey", ON_TOPIC + " " + OFF_TOPIC, CITY * 3]
    items = [replace(item(text), id=str(i)) for i, text in enumerate(texts)]
    together = judge.measure(items)
    assert forgetful(judge).measure(items[::-1]) == together[::-1]
    for asked, expected in list(zip(items, together, strict=True))[::6]:  # each costs full batches
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
    before, after = judge.measure([item(CITY * 10), item(CITY * 10 + ON_TOPIC)])
    assert before["concept"] < judge.options.concept_partial
    assert after["concept"] > before["concept"]
    assert after["concept: run of 6"] > 0.4 > before["concept: run of 6"]


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
    judge = prepared(tiny, batch_tokens=64)

    def full(module: Any, args: Any, kwargs: Any) -> None:
        if kwargs["input_ids"].shape[1] > 256:
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


def test_a_text_longer_than_the_model_reads_is_still_rated(tiny: SubjectModel) -> None:
    judge = prepared(tiny)
    (rating,) = rate(judge, replace(EGG, text=CITY * 60))
    assert rating.status == "rated"


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
