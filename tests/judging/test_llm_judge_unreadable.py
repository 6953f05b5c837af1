"""The judge by a language model and replies that are cut off, are nothing but thoughts, or hold what no file can."""

from __future__ import annotations

import json

import pytest
from helpers.judges import BEES, MANY, aspect_of, by_id, judge_of

from harness.chat.values import THOUGHTS_ALONE, ChatReply, RequestFailed, Usage
from harness.errors import JudgeError
from harness.judging.questions import THINKING, read


def test_a_model_whose_words_are_all_thoughts_gets_advice_that_fits() -> None:
    thoughts = ChatReply("", Usage(), "m", THOUGHTS_ALONE)
    judge, _ = judge_of(lambda request: thoughts, structured=False)
    with pytest.raises(JudgeError) as caught:
        list(judge.submit(MANY))
    assert "reasoning_content" in caught.value.message
    assert caught.value.hint.startswith(THINKING)
    assert "\n" not in str(caught.value)
    judge, _ = judge_of(lambda request: thoughts if aspect_of(request) == "fluency" else "Rating: 1")
    assert "fluency: the reply is empty: the model's words are all in reasoning_content" in by_id(judge.submit([BEES]))["bees"].reason


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is read.\n\nRating: [[2]]", 2),
        ("It is read.\n\n**Rating: [[2]]**\n", 2),
        ("Rating: 1\n", 1),
        ("Rating: **1**", 1),
        ('{"reasoning": "so", "rating": 0}', 0),
        ('```json\n{"reasoning": "so",\n "rating": 0\n}\n```', 0),
        ("Rating: 1", None),  # of 10? or 1.5?
        ("Rating: [[2]]\n\nOn the other hand, the text", None),
        ("Rating: [[1]]\nIt comes near to [[2]]", None),
        ("Rating: [[2]] would be given if it", None),
        ("It goes on and", None),
        ("", None),
        ("] " * 500, None),
    ],
)
def test_a_rating_of_a_reply_that_was_cut_off_counts_at_its_very_end(text: str, value: float | None) -> None:
    found, reason = read(ChatReply(text, Usage(), "m", "length"))
    assert found == value
    assert ("raise -J max_tokens" in reason) == (value is None)
    assert read(ChatReply("Rating: [[2]]\n\nOn the other hand, the text", Usage(), "m", "stop"))[0] == 2


def test_a_reply_that_was_cut_off_is_not_paid_for_again() -> None:
    """Thinking took all the tokens, and would do so again."""
    judge, model = judge_of(lambda request: ChatReply("", Usage(10, 0, 400), "o9", "length"))
    (rating,) = judge.submit([BEES])
    assert len(model.asked) == 3
    assert "concept: the reply is empty; it was cut off at max_tokens; raise -J max_tokens" in rating.reason
    assert "asked" not in rating.details


def test_half_a_character_from_a_server_can_be_stored() -> None:
    said = [ChatReply("half \ud83d", Usage(), "m\ud83d", "st\ud83dop"), RequestFailed("no \ud83d way", status=418)]
    judge, _ = judge_of(lambda request: said[aspect_of(request) == "fluency"], asks=1)
    (rating,) = judge.submit([BEES])
    stored = json.dumps([rating.reason, rating.details], ensure_ascii=False).encode().decode()
    assert "half ?" in stored
    assert "no ? way" in stored
