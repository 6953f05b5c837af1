"""The self-test: its texts are balanced, and its arithmetic says of a judge what is true."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.chat.values import ChatReply, RequestFailed, Usage
from harness.contracts import JudgeTraits
from harness.errors import JudgeError
from harness.judging.questions import OpenItem
from harness.judging.rubric import load_rubric
from harness.judging.selftest import Case, cases, selftest, tally, version
from harness.types import ASPECTS, Aspect, JudgeItem, Rating

BENCH: Any = SimpleNamespace(seed=0)


class Knowing:
    """A judge that knows the answers and changes some; what is not obvious it rates 1."""

    traits = JudgeTraits(rubric="knowing/1", offline=False)

    def __init__(self, change: Any = lambda case, ratings: ratings, pending: bool = False) -> None:
        self.change, self.pending = change, pending
        self.seen: list[str] = []

    def prepare(self, bench: Any) -> None:
        assert bench is BENCH

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        known = {case.item.id: case for case in cases()}
        for item in items:
            self.seen.append(item.id)
            case = known[item.id]
            assert item == case.item
            if self.pending:
                yield Rating(item.id, "pending", ticket=f"t/{item.id}")
                continue
            given = self.change(case, {"concept": 1.0, "instruction": 1.0, "fluency": 1.0, **case.ratings})
            yield Rating(item.id, "rated", **given) if given else Rating(item.id, "unrated", reason="refused")

    def collect(self, tickets: Sequence[str]) -> Iterator[Rating]:
        for ticket in tickets:
            yield Rating(ticket.removeprefix("t/"), "pending", ticket=ticket)


def test_the_texts_are_enough_and_balanced() -> None:
    assert len(cases()) >= 60
    cells = Counter((aspect, grade) for case in cases() for aspect, grade in case.ratings.items())
    assert cells == {(aspect, grade): 12 for aspect in ASPECTS for grade in (0, 1, 2)}
    assert len({case.item.id for case in cases()}) == len({case.item.text for case in cases()}) == len(cases())
    assert len({case.item.concept for case in cases()}) >= 6


def test_the_obvious_is_obvious() -> None:
    """Texts without the concept do not name it, those that are about it do; and none of them is an example of the rubric."""
    shown = {example.item.text for example in load_rubric("default").examples}
    for case in cases():
        stem = re.split(r"\W", case.item.concept)[0][:5].removesuffix("s")
        named = stem.lower() in case.item.text.lower()
        if case.ratings.get("concept") == 0:
            assert not named, case.item.text
        assert case.item.text not in shown


def test_a_judge_that_knows_passes_and_one_that_says_always_the_same_does_not() -> None:
    judge = Knowing()
    found = selftest(judge, BENCH)
    assert (found.overall, found.n_texts, found.n_unrated, found.misses, found.passed) == (1, len(cases()), 0, (), True)
    assert found.warning("x") is None
    assert judge.seen != [case.item.id for case in cases()], "the order is shuffled"
    same = selftest(Knowing(lambda case, ratings: dict.fromkeys(ASPECTS, 1.0)), BENCH)
    assert same.overall == pytest.approx(1 / 3)
    assert same.confusion["fluency"] == ((0, 12, 0, 0), (0, 12, 0, 0), (0, 12, 0, 0))
    assert not same.passed
    assert same.warning("x") == (
        "judge x fails the self-test: 33% of the obvious ratings right (concept 33%, instruction 33%, fluency 33%); 85% are needed"
    )


def test_one_bad_rating_of_three_fails_it() -> None:
    found = selftest(Knowing(lambda case, ratings: {**ratings, "fluency": 2.0 - ratings["fluency"] / 2}), BENCH)
    assert (found.accuracy["concept"], found.accuracy["instruction"]) == (1, 1)
    assert found.accuracy["fluency"] == 0
    assert found.confusion["fluency"] == ((0, 0, 12, 0), (0, 0, 0, 12), (0, 12, 0, 0)), "1.5 is no grade"
    assert not found.passed


def test_what_is_unrated_is_wrong_and_counted() -> None:
    found = selftest(Knowing(lambda case, ratings: None if case.ratings.get("fluency") == 0 else ratings), BENCH)
    assert found.n_unrated == 12
    assert found.accuracy["fluency"] == pytest.approx(2 / 3)
    assert found.confusion["fluency"][0] == (0, 0, 0, 12)
    assert {miss.reason for miss in found.misses} == {"refused"}
    assert found.as_json()["passed"] is False


def test_a_judge_that_answers_later_is_refused() -> None:
    with pytest.raises(JudgeError) as error:
        selftest(Knowing(pending=True), BENCH)
    assert error.value.given == len(cases())
    assert "pending" in error.value.message
    assert "answers at once" in error.value.hint


def test_a_judge_that_says_so_is_refused_before_anything_is_prepared_or_submitted() -> None:
    class Later:
        traits = JudgeTraits(rubric="later/1", offline=False, answers_later="people")

        def prepare(self, bench: Any) -> None:
            raise AssertionError("prepared")

        submit = collect = prepare

    with pytest.raises(JudgeError) as error:
        selftest(Later(), BENCH)
    assert error.value.given == "people"
    assert "people" in error.value.message
    assert "another judge" in error.value.hint
    Later.traits = JudgeTraits(rubric="later/1", offline=False)
    with pytest.raises(AssertionError, match="prepared"):
        selftest(Later(), BENCH)


def through_questions(item: JudgeItem, answers: dict[Aspect, ChatReply | RequestFailed]) -> Rating:
    """An item's rating as judges with a language model make it of these answers."""
    state = OpenItem(item)
    for aspect in ASPECTS:
        state.take(aspect, answers[aspect], last=True)
    return state.rating()


class Asking(Knowing):
    """A judge with a language model; ``answer`` makes its reply to a question."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
        for place, item in enumerate(items):
            yield through_questions(item, {aspect: self.answer(place, aspect) for aspect in ASPECTS})


GOOD = ChatReply("Rating: [[1]]", Usage(1, 0, 1), "m")
DOWN = RequestFailed("openai@127.0.0.1:9: the connection failed (ConnectError)", retryable=True)


def test_a_question_that_failed_when_it_was_asked_again_is_no_result() -> None:
    state = OpenItem(cases()[0].item)
    for aspect in ASPECTS:
        assert state.take(aspect, ChatReply("Hm.", Usage(1, 0, 1), "m"), last=False)
        state.take(aspect, DOWN, last=True)

    class Once(Knowing):
        def submit(self, items: Sequence[JudgeItem]) -> Iterator[Rating]:
            yield state.rating()

    with pytest.raises(JudgeError) as error:
        selftest(Once(), BENCH)
    assert error.value.given == 1
    assert "1 of 66 texts" in error.value.message
    assert "run it again" in error.value.hint


@pytest.mark.parametrize("failing", [lambda place, aspect: True, lambda place, aspect: place == 7 and aspect == "fluency"])
def test_requests_that_failed_are_no_result(failing: Any) -> None:
    with pytest.raises(JudgeError) as error:
        selftest(Asking(lambda place, aspect: DOWN if failing(place, aspect) else GOOD), BENCH)
    assert error.value.given == sum(any(failing(place, aspect) for aspect in ASPECTS) for place in range(len(cases())))
    assert "ConnectError" in error.value.message
    assert "run it again" in error.value.hint


def test_replies_that_cannot_be_read_are_the_judges_and_count_as_wrong() -> None:
    mumbling = ChatReply("I would rather not say.", Usage(1, 0, 1), "m")
    found = selftest(Asking(lambda place, aspect: mumbling if place < 10 else GOOD), BENCH)
    assert found.n_unrated == 10
    assert found.overall < 1 / 3
    assert f", 10 of {len(cases())} texts unrated; 85% are needed" in str(found.warning("x"))
    assert found.as_json()["unrated"] == 10


def test_a_text_without_an_answer_is_a_miss() -> None:
    case = Case(JudgeItem("1", "c", "i", "t"), {"fluency": 2})
    found = tally("r/1", [case], [])
    assert (found.overall, found.n_unrated, found.misses[0].reason) == (0, 1, "no answer")


def test_the_version_is_that_of_the_texts() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}", version())
