"""Reading a judge's reply: every form that real judges write, what is no rating, and that nothing becomes one that is none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judging import explain_rating, parse_rating

GRADES = st.sampled_from([0, 1, 2])
FORMS = (
    "Rating: [[{n}]]", "Rating: {n}", "rating:{n}", "RATING: [[{n}]].", "**Rating: [[{n}]]**", "**Rating:** {n}", "Rating: **{n}**", "Rating: {n}.0",
    "__Rating__: [[{n}]]", "## Rating\n\n**{n}**", "### Rating: {n}", "Rating:\n[[{n}]]", "Rating: [[ {n} ]]", "Rating: [{n}]",
    "Rating: [[{n}]] – fine",
    "> Rating: [[{n}]]", "- Rating: [[{n}]]", "\"Rating: [[{n}]]\"", "`Rating: [[{n}]]`", "Rating: \\[\\[{n}\\]\\]", "Rating = {n}", "Rating - {n}",
    "Final rating: {n}", "My overall rating is [[{n}]].", "Therefore, the final rating is {n}.", "Fluency rating: {n}", "Score: {n}", "Rating: {n}/2",
    "Rating: {n} out of 2", "Rating: [[{n}]]/[[2]]", "Rating: [[{n}]] (it holds together)", "Rating: [[{n}]], since three things are wrong",
    "Rating：{n}", "Rating: [[{n}]]Rating: [[{n}]]", "Rating: [[{n}]]\r\n", "[[{n}]]", "**[[{n}]]**", "{n}", "I rate it [[{n}]].",
    '{{"reasoning": "short", "rating": {n}}}', '```json\n{{"rating": "{n}"}}\n```', '{{\n "reasoning": "cut in the mid\n "rating": {n}\n}} thanks',
)  # fmt: skip
NONE = (
    "", "  \n", "Rating:", "Rating: [[score]]", "Rating: [[n]]", "Rating: high", "Rating: [[]]", "Rating: 1 or 2", "Rating: 1-2", "Rating: 1–2",
    "Rating: between 1 and 2", "Rating: 0 to 2", "Rating: [[0, 1 or 2]]", "Rating: 1, 2",
    "Rating: 2 if it were complete", "Rating: [[2]] unless cut off",
    "It would be rated 2 if it ended.", "It would get [[2]] if it ended.", "This is worth a 2.", "I see 2 errors.", "x = [[1]]\nand so on",
    "The film has an IMDB rating: 2", '{"rating": true}', '{"rating": null}', '{"rating": [2]}', '{"rating": NaN}', '{"rating": {}}',
    "Rating: 2x", "Rating: 2.5.1",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("n", [0, 1, 2])
def test_every_form_of_a_rating_is_read(form: str, n: int) -> None:
    for reply in (form.format(n=n), f"The text is clear. It has a stray [[ in it, and 2 lines.\n\n{form.format(n=n)}"):
        if form in ("{n}",) or form.startswith(("{{", "```")):
            reply = form.format(n=n)  # these are the whole reply
        assert explain_rating(reply) == (n, "")


@pytest.mark.parametrize("reply", NONE)
def test_what_is_no_rating_is_none_with_a_reason_of_one_line(reply: str) -> None:
    value, reason = explain_rating(reply)
    assert value is None
    assert reason
    assert "\n" not in reason


@pytest.mark.parametrize("number", ["3", "-1", "7", "10", "0.5", "1.5", "1,5", "2.01", "2024", "−2", "99999999999999999999"])
@pytest.mark.parametrize("form", ["Rating: [[{}]]", "Rating: {}", '{{"rating": "{}"}}', "[[{}]]"])
def test_a_number_off_the_scale_is_none_and_named(form: str, number: str) -> None:
    value, reason = explain_rating(form.format(number))
    assert value is None
    assert "allowed: 0, 1, 2" in reason or "no rating" in reason


def test_the_last_well_formed_rating_counts() -> None:
    assert parse_rating("Rating: [[0]]\n\nOn reflection:\n\nRating: [[2]]") == 2
    assert parse_rating("Rating: [[1]]\n\nIt would be rated 2 if the code were complete.") == 1
    assert parse_rating("Rating: [[1]]\n\nThe rating of 2 needs more.") == 1
    assert parse_rating("Rating: [[1]]\n\nRating: [[score]]") == 1
    assert parse_rating("Rating: [[1]]\n\nRating: 2 if it ended well") == 1
    assert parse_rating('The text says "Rating: 9" itself.\nRating: [[0]]') == 0
    assert parse_rating("Rating: [[0]]\nThe IMDB rating: 2") == 0
    assert explain_rating("Rating: [[1]]\n\nRating: [[7]]") == (None, "the rating is 7; allowed: 0, 1, 2")


def test_another_scale_is_no_rating() -> None:
    assert explain_rating("Rating: 1/10")[1] == "the rating is on another scale: 1 out of 10; allowed: 0, 1, 2"
    assert parse_rating("Rating: 2 out of 5") is None
    assert parse_rating("Rating: 2 (on a scale of 0 to 2)") == 2


@pytest.mark.parametrize(
    "reply", ["I'm sorry, but I can't help with that.", "I cannot rate this text.", "I am unable to assist with this request."]
)
def test_a_refusal_is_called_one(reply: str) -> None:
    value, reason = explain_rating(reply)
    assert value is None
    assert reason.startswith("the judge refused: ")


def test_a_judge_that_is_sorry_and_rates_is_read() -> None:
    assert parse_rating("I'm sorry to say that I cannot find the concept here.\n\nRating: [[0]]") == 0


def test_a_reply_that_runs_away_is_read_in_linear_time() -> None:
    for piece in ("rating ", "Rating: ", "[[", "**", "hente", "Rating: 1 or ", "\n", "{", "my final "):
        started = time.process_time()  # a busy machine takes none of it
        parse_rating(piece * (100_000 // len(piece)))
        assert time.process_time() - started < 3, piece


# --------------------------------------------------------------------------------------------------------------------- properties


@given(st.text())
def test_any_text_gives_a_grade_or_a_reason(reply: str) -> None:
    value, reason = explain_rating(reply)
    assert value in (None, 0, 1, 2)
    assert (value is None) == bool(reason)


@given(
    st.lists(
        st.sampled_from(["Rating", "rating", ":", " ", "\n", "[[", "]]", "0", "1", "2", "7", "/", "or", "if", "**", ".", "{", "}", '"'])
    ).map("".join)
)
def test_scraps_of_ratings_give_a_grade_or_a_reason(reply: str) -> None:
    value, reason = explain_rating(reply)
    assert value in (None, 0, 1, 2)
    assert (value is None) == bool(reason)


@given(st.text(), GRADES, st.sampled_from(["Rating: [[{}]]", "**Rating: [[{}]]**", "Rating: {}"]))
def test_a_rating_at_the_end_is_read_whatever_stands_before(reasoning: str, n: int, form: str) -> None:
    assert parse_rating(f"{reasoning}\n\n{form.format(n)}") == n


@given(GRADES, st.text(alphabet=st.characters(blacklist_categories=["Nd", "No", "Nl"], blacklist_characters="\n\r"), max_size=80))
def test_prose_behind_the_rating_changes_nothing(n: int, prose: str) -> None:
    assert parse_rating(f"It is so.\n\nRating: [[{n}]]\n\nThis grade {prose}") == n


# ---------------------------------------------------------------------------------------------------------------------- real replies


def real_replies(shared_data: Path) -> Iterator[tuple[str, str, Any]]:
    for path in sorted((shared_data / "judge_completions" / "layer20").glob("*.json")):
        for feature, row in json.loads(path.read_text(encoding="utf-8")).items():
            for place, (score, reply) in enumerate(zip(row["scores"], row["responses"], strict=True)):
                yield f"{path.stem} {feature} {place}", reply, score


def test_all_real_replies_are_read_as_their_reader_read_them(shared_data: Path) -> None:
    read = [(name, parse_rating(reply), score) for name, reply, score in real_replies(shared_data)]
    assert len(read) == 5000
    assert [row for row in read if row[1] != row[2]] == []
    assert [name for name, value, _ in read if value is None] == ["fluency 20_74179 4"]  # the loop without a rating


def test_the_runaway_reply_has_a_reason(shared_data: Path) -> None:
    (reply,) = [reply for _, reply, score in real_replies(shared_data) if score is None]
    assert explain_rating(reply)[1].startswith("the reply has no rating; it ends: … ")
