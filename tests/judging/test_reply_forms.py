"""A table of replies as judges of many makes write them, each with what a careful reader takes it for: 0, 1, 2, or nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.judging import explain_rating, parse_rating

Table = tuple[tuple[str, int | None], ...]

THINKING: Table = (
    ("<think>It is about it. Rating: [[2]]\nNo wait, the text is only", None),
    ("<think>Okay. Rating: 1. But wait, maybe", None),
    ("<think>Rating: [[2]]</think>\n\nI cannot rate this.", None),
    ("<think>Rating: [[2]]</think>", None),
    ("<think>Rating: [[0]]?</think>\n\nThe answer: \\boxed{2}", 2),
    ("<think>Hmm, rating: 1? maybe. Rating: [[1]]</think>\nRating: [[2]]", 2),
    ("<think>\nThe rating would be 1.\n</think>\n\nIt mentions it.\n\nRating: [[1]]", 1),
    ("It may be 1. Rating: [[1]]\n</think>\n\nRating: [[0]]", 0),  # the template opened the thinking
    ("It may be 1. Rating: [[1]]\n</think>\n\nNothing to say.", None),
    ("<thinking>Rating: 0</thinking>\n<answer>2</answer>", 2),
    ("<think>Hm.</think><think>Rating: 2", None),
    ("[THINK]Rating: 0[/THINK]Rating: 1", 1),
    ("<|channel|>analysis<|message|>Rating: 2 seems right<|end|><|start|>assistant<|channel|>final<|message|>Rating: 1", 1),
    ("<|channel|>analysis<|message|>Rating: 2", None),
    ('The text holds a stray "<think>" and little else.\n\nRating: [[0]]', 0),
)
REVISED: Table = (
    ("Rating: 1\nUpdated rating: 2", 2),
    ("Rating: 1\nRevised rating: 2", 2),
    ("Rating: 1\nNew rating: 2", 2),
    ("Rating: 1\nAdjusted rating: 2", 2),
    ("Rating: 1\nCorrected rating: 2", 2),
    ("Rating: 1\nActual rating: 2", 2),
    ("Rating: 1\n\nCorrection: Rating: 2", 2),
    ("Rating: [[2]] → revised Rating: [[1]]", 1),
    ("Rating: [[1]] → Rating: [[2]]", 2),
    ("Initial rating: 1\nFinal rating: 2", 2),
    ("Final rating: 2\nInitial rating: 1", 2),
    ("Rating: [[2]] would be too generous. Rating: [[1]]", 1),
    ("Rating: ~~1~~ 2", 2),
    ("Rating: 1\n\n\\boxed{2}", 2),
    ("Rating: [[1]]\nFinal answer: [[2]]", 2),
    ("Rating: [[1]]\n\n**[[2]]**", 2),
    ('Rating: 1\n```json\n{"rating": 2}\n```', 2),
    ("Rating: 1\n\nActually, I'd change this to 2.", None),
    ("Rating: [[2]]. No, wait, that is too high.", None),
    ("Rating: 1\n\nI would rate it 2.", None),
    ("Rating: [[0]]\nThe text lists a film (rating: 2).", None),
    ("Rating: [[2]]\n\nHuman: rate another\n\nAssistant: ok. Rating: [[0]]", None),
    ("Rating: [[2]]\nConfidence rating: 0", 2),
    ("Rating: 2\nConfidence score: 1", 2),
    ("Rating: 1\n\nExplanation: It would deserve a rating of 2 if it discussed it more.", 1),
    ("Rating: 1\nNote: a rating of 2 was considered.", 1),
    ("Rating: 1. Actually, the text mentions it 2 times.", 1),
)
LEFT_OPEN: Table = (
    ("Rating: [[0]] or [[1]]", None),
    ("I hesitate between [[1]] and [[2]]", None),
    ("The options are [[0]], [[1]] and [[2]].", None),
    ("Rating: [[0|1|2]]", None),
    ("Rating: 0 | 1 | 2", None),
    ("Rating: 0, 1, 2\n", None),
    ("Rating: [[0]]/[[1]]", None),
    ("Rating: 0/1", None),
    ("Rating: 1 -> 2", None),
    ("Rating: [[1]] → [[2]]", None),
    ("Rating: 1, maybe 2", None),
    ("Rating: 1 (maybe 2)", None),
    ("Rating: 1, leaning to 2", None),
    ("Rating: 1? Or 2?", None),
    ("Rating: one or two", None),
    ("Rating: [[1]] [[2]]", None),
    ("Rating: 1 2", None),
    ("Rating: [[2]] vs [[1]]", None),
    ("Rating: 2 or higher", None),
    ("Rating: at least 1", None),
    ("Rating: less than 2", None),
    ("Rating: not 2", None),
    ("Rating: 1+", None),
    ("Rating: [[2]] is too high; I settle on 1.", None),
    ("Rating: [[2]] might be too generous.", None),
    ("Rating: [[2]]? No.", None),
    ("Rating: 2 only if", None),
    ("Rating: 2 (if it ended)", None),
    ("Rating: 1, but could be a 2", None),
    ("Rating: [[1]]\n\n2", None),
    ("It is there.\n\n2", 2),
    ("The grades are\n\n0\n1\n2", None),
    ("1. The text names roses.\n2", None),  # cut within a list
    ("If the concept were central, the rating would be 2.", None),
    ("A text with the concept throughout would be rating: 2; this is not.", None),
    ("Rating: 0 = absent\nRating: 1 = touched\nRating: 2 = present", None),
    ("[[0]]\n[[1]]\n[[2]]", None),
    ("Rating: 0 = absent, 1 = touched, 2 = present", None),
    ("Rating: 1\n\nRating: 1 or 2", None),
    ("Rating: 1\n\nRating: 0, 1 or 2", 1),  # the form again
)
OTHER_SCALES: Table = (
    ("Rating: 2 (out of 5)", None),
    ("Rating: 2 (out of 10)", None),
    ("Rating: 2 out of five", None),
    ("Rating: 2 on a scale of 1 to 5", None),
    ("Rating: 2 (on a scale from 0 to 10)", None),
    ("Rating: 2 (5-point scale)", None),
    ("Rating: 2 (max 5)", None),
    ("Rating: 2 stars out of 5", None),
    ("Rating: 2 points out of 10", None),
    ("Rating: 2/3", None),
    ("Rating: 2 (1-5)", None),
    ("Rating: 2 [1-5]", None),
    ("Rating: 2 (from 1 to 10)", None),
    ("Rating: 2 (5/5)", None),
    ("Rating: 2 (1 = worst, 5 = best)", None),
    ("Rating: 2 [0-2]", 2),
    ("Rating: 1 (1/2)", 1),
    ("Rating: 0 (0 = absent, 1 = touched, 2 = present)", 0),
    ("Rating: 2 / 5", None),
    ("Rating: [[2]]/10", None),
    ("Rating (1-5): 2", None),
    ("Rating (out of 10): 2", None),
    ("Bewertung: 2 von 5", None),
    ("评分：2（满分10分）", None),
    ("I'd rate it 2 out of 5.", None),
    ("2/5", None),
    ("Rating: 2%", None),
    ("Rating (0-2): 1", 1),
    ("**Rating (0-2):** 1", 1),
    ("Rating (0–2): [[1]]", 1),
    ("Rating (out of 2): 1", 1),
    ("Rating [0-2]: 2", 2),
    ("Rating on a scale of 0 to 2: 1", 1),
    ("Rating (0, 1 or 2): 2", 2),
    ("Rating: 2/2", 2),
    ("Rating: 2.0/2.0", 2),
    ("Rating: 1 / 2 (partial)", 1),
    ("Rating: [[1/2]]", 1),
    ("Rating: [[1]] out of [[2]]", 1),
    ("Rating: 0 (0-2)", 0),
    ("Rating: 2 (max)", 2),
    ("Rating: 2 [max 2]", 2),
    ("Rating: 2 points", 2),
)
SEVERAL: Table = (
    ("**Concept rating:** 2\nIt is there.\n\n**Fluency rating:** 0\nIt is broken.", None),
    ("Concept score: 2\nInstruction score: 1\nFluency score: 0\nOverall score: 1", None),
    ("Rating (concept): 2\nRating (fluency): 1", None),
    ("Concept rating: 2\nFluency rating: 2", 2),
    ("Concept: 2\nInstruction: 1\nFluency: 0", None),
    ("Fluency rating: 1\n\nRating: [[1]]", 1),
    ("Concept rating: 2\n\nRating: [[1]]", 1),
    ('{"concept_rating": 2, "fluency_rating": 0}', None),
    ('{"concept": {"rating": 2}, "fluency": {"rating": 0}}', None),
    ("Concept rating:\n[[2]]\n\nFluency rating:\n[[0]]", None),
    ("## Concept\nRating: 2\n\n## Fluency\nRating: 0", None),
    ("## Concept\nRating: 2\n\n## Fluency\nRating: 2", 2),
    ("Rating: [[2]] (concept), [[0]] (fluency)", None),
    ("Rating: 2 (concept), 0 (fluency)", None),
    ("Rating: [[2]] for the concept and [[1]] for fluency", None),
    ("Rating: concept 2, fluency 0", None),
    ('[{"rating": 2}, {"rating": 1}]', None),
)
PROSE: Table = (
    ("Rating: two sentences mention it", None),
    ("Rating: one of the better ones", None),
    ("Rating: zero-shot", None),
    ("Score: 2 errors in the text.", None),
    ("Rating: 2 points deducted", None),
    ("### Rating\n\n1. The text names roses.\n2. It goes on about them.", None),
    ("The text, written in 2020, has 2 sentences and 1 error.", None),
    ("A rating of 2 means that it is present.", None),
    ("The rating for texts that merely mention it is 1.", None),
    ("To earn a rating: 2 it needs more.\nRating: 1", 1),
    ("The instruction asks for 1 + 1. The answer is 2.", None),
    ("Rating: [[0]]\n\nThe final answer is 2, which the text misses.", 0),
    ("Rating 1: it is there\nRating 2: it is not", None),
    ("The final score: 2-1", None),
    ("Rating: N/A", None),
    ("Rating: none", None),
    ("Rating: [[?]]", None),
    ("Rating: 1st", None),
    ("Rating: 1.5", None),
    ("Rating: [[0.5]]", None),
    ("Rating: 1½", None),
    ('The text itself contains "Rating: [[2]]", which I ignore. It is empty of the concept.', None),
    ("The text says: Rating: [[2]]. I do not follow it; there is no concept.", None),
    ("The text says: Rating: [[2]]", None),
    ("I would not give it a 2.", None),
    ("I would rate it above 1.", None),
    ("I would rate it 2 if it ended.", None),
    ("I give the text 1 or 2.", None),
    ("I can't assist with rating this content.", None),
    ("As an AI, I cannot provide a rating.", None),
    ("I'm sorry, but a rating of 2 is not mine to give.", None),
    ("0 = not at all, 1 = partly, 2 = fully\n\nIt is there.\n\nRating: [[1]]", 1),
    ("A rating of 2 means fully. A rating of 1 means partly.\n\nIt is partly there.\nRating: 1", 1),
    ("Rating scale: 0-2\nRating: 1", 1),
    ("Rating: [[1]]\n\nReasoning: The text has 2 mentions and 3 paragraphs; 0 errors.", 1),
    ("It has 2 sentences, written in 2020, and scores 1 goal.\n\nRating: 0", 0),
)
STRUCTURED: Table = (
    ('{"reasoning": "It ends. Rating: 1", "rating": 2', 2),
    ('{"reasoning": "It ends. Rating: 1"', None),
    ('{"reasoning": "Rating: 0 would be harsh", "rating": 2}', 2),
    ('{"reasoning": "x.\\nRating: 0", "rating": 1}', 1),
    ('Here is my evaluation:\n```json\n{"reasoning": "x", "rating": 1}\n```', 1),
    ('```\n{"rating": 2}\n```\nLet me know!', 2),
    ('Here is the JSON:\n{"rating": 0}', 0),
    ('{\n  "reasoning": "x",\n  "rating": "[[2]]"\n}', 2),
    ('{"Rating": 2}', 2),
    ('{"score": 1}', 1),
    ('{"final_rating": 1}', 1),
    ('{"fluency_score": 1}', 1),
    ('[{"rating": 2}]', 2),
    ('{"result": {"rating": 2}}', 2),
    ('{"rating": 1.0}', 1),
    ('{"rating": "2/2"}', 2),
    ('{"rating": "two"}', 2),
    ('{"rating": 1, "confidence_score": 2}', 1),
    ("{'reasoning': 'x', 'rating': 2}", 2),
    ('{"rating": "1 or 2"}', None),
    ('{"rating": "2/10"}', None),
    ('{"rating": null}', None),
    (f'{{"rating": 1{"0" * 400}}}', None),
    (f'{{"rating": 1{"0" * 5000}}}', None),
    ('{"rating": 1.5}', None),
    ('{"reasoning": "no grade"}', None),
    ("<rating>2</rating>", 2),
    ("It is there.\n<rating>\n[[0]]\n</rating>", 0),
    ("<score>1</score>", 1),
    ("<final_rating>1</final_rating>", 1),
    ('{"reasoning": "x", "final_rating": 2', 2),
    ('{"rating": 1.', None),  # cut within the number
    ('{"rating": 2, }', 2),
    ("<answer>1</answer>", 1),
    ("<answer>It is there. Rating: 1</answer>", 1),
    ("<b>Rating:</b> 1", 1),
    ("<strong>Rating: [[1]]</strong>", 1),
    ("<p>It is there.</p><p>Rating: 1</p>", 1),
    ("\\boxed{2}", 2),
    ("$\\boxed{2}$", 2),
    ("\\[\n\\boxed{2}\n\\]", 2),
    ("The final answer is $\\boxed{1}$.", 1),
    ("Rating: $\\boxed{1}$", 1),
    ("Rating: \\text{2}", 2),
    ("Rating: \\(2\\)", 2),
)
LABELS = (
    "[Rating: {n}]", "[[Rating: {n}]]", "(Rating: {n})", "{{Rating: {n}}}", "Rating {n}", "Rating [{n}]", "Rating [[{n}]]",
    "Rating -> {n}", "Rating => {n}", "Rating → {n}", "Rating = {n}", "Rating — {n}", "Rating -- {n}", "| Rating | {n} |",
    "|Rating|[[{n}]]|", "Rating: _{n}_", "Rating: «{n}»", "Rating: “{n}”", "Rating：【{n}】", "Rating: <{n}>", "Rating: {{{n}}}",
    "Rating: ({n})", "Rating:&nbsp;{n}", "Rating:\u00a0{n}", "Rating: [[{n}]]\u200b", "Rating:\n- {n}", "Rating: [[{n}",
    "Rating: [[{n}]", "### Rating\n{n}", "### Rating\n\n**{n}**", "**Rating:**\n{n}", "**Rating**\n\n{n}", "# Rating: {n}", "Grade: {n}",
    "Final grade: {n}", "Final answer: {n}", "The final answer: {n}", "Answer: {n}", "Verdict: {n}", "Ratings: {n}",
    "Concept relevance score: {n}", "Instruction-following rating: {n}", "Your rating: {n}", "Here is my rating: [[{n}]]",
    "Here's the rating: {n}", "Rating for concept: {n}", "Rating for the concept: [[{n}]]", "The rating for this text is {n}.",
    "The rating is: [[{n}]]", "The rating is therefore {n}.", "I would rate this text a {n}.", "I rate this {n}.",
    "I'd give this a {n}.", "I’d give this a {n}.", "I give it a rating of {n}.", "This gets a rating of {n}.",
    "Based on this, I would give a rating of [[{n}]].", "Overall, I would assign a rating of [[{n}]]", "This deserves a [[{n}]]",
    "It's good (rating: {n})", "It's good — rating: {n}", "It's good, rating: {n}", "It's good → Rating: [[{n}]]",
    "Hence: Rating: [[{n}]]", "so, Rating: [[{n}]]", "1) Rating: {n}", "3. Rating: {n}", "Step 3: Rating: {n}", "(1) Rating: {n}",
    "* **Rating**: {n}", "Rating: {n} – fully", "Rating: {n} (clearly so)", "Rating: {n}. The text is about it.", "Rating: {n}, fluent",
    "Rating: {n} = so", "Rating: {n} because it is so.", "Rating: {n} (written in 2020)", "Rating: {n} - 2020 is the year",
    "Rating: [[{n}]] ✅", "Rating: [[{n}]]<|im_end|>", "Rating: {n}</s>", "评分：{n}", "评分是{n}", "Rating\t{n}", "Evaluation: Rating: {n}",
    "评分：[[{n}]]", "最终评分：[[{n}]]。", "評価：【{n}】", "评分：{n}分（满分2分）", "평점: {n}", "Bewertung: {n}", "Endgültige Bewertung: {n}",
    "Bewertung: {n} von 2", "Calificación: {n}", "Puntuación final: [[{n}]]", "Évaluation : {n}", "Note finale : {n}/2",
    "Avaliação: {n}", "Valutazione: {n}", "Оценка: {n}", "Итоговая оценка: {n}",
)  # fmt: skip
WHOLE = (
    "{n}<|endoftext|>",
    "[[{n}]]</s>",
    "{n}",
    "{n}/2",
    "{n} out of 2",
    "**{n}**",
    "({n})",
    "[{n}]",
    "{n}.",
    "Fluency: {n}",
    "Concept: [[{n}]]",
)
FULL_WIDTH = str.maketrans("012", "０１２")


@pytest.mark.parametrize(
    ("reply", "expected"),
    [*THINKING, *REVISED, *LEFT_OPEN, *OTHER_SCALES, *SEVERAL, *PROSE, *STRUCTURED],
    ids=lambda value: repr(value)[:60],
)
def test_a_reply_is_read_as_a_careful_reader_reads_it(reply: str, expected: int | None) -> None:
    value, reason = explain_rating(reply)
    assert value == expected, reason
    assert (value is None) == bool(reason)
    assert "\n" not in reason


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("form", LABELS)
def test_a_labelled_rating_is_read_alone_and_below_reasoning(form: str, n: int) -> None:
    reply = form.format(n=n)
    for text in (
        reply,
        f"The text has 2 sentences and was written in 2020.\n\n{reply}",
        reply.translate(FULL_WIDTH) if "2020" not in form else reply,
    ):
        assert explain_rating(text) == (n, ""), text


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("form", WHOLE)
def test_a_reply_that_is_only_a_number_is_read(form: str, n: int) -> None:
    assert explain_rating(form.format(n=n)) == (n, "")
    assert explain_rating(f"<think>It is so.</think>\n{form.format(n=n)}\n") == (n, "")
    assert explain_rating(f"\n{('zero', 'one', 'two')[n].title()}.") == (n, "")


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Rating: 1 or 2", "the rating is left open: Rating: 1 or 2"),
        ("Rating: 2 (out of 5)", "the rating is on another scale: 2 out of 5; allowed: 0, 1, 2"),
        ("<think>Rating: 2", "the reply ends while the judge thinks, without an answer"),
        ("Concept rating: 2\nFluency rating: 0", "the reply rates several things: concept 2, fluency 0"),
        ("Rating: 1\nI'd rate it 2.", "the rating is 1, and then it is said to be 2"),
        ("Rating: 0 – absent\nRating: 1 – touched\nRating: 2 – present", "the reply only lists the grades"),
        ("<think>2</think>I cannot rate this.", "the judge refused: I cannot rate this."),
        ("Rating: 7", "the rating is 7; allowed: 0, 1, 2"),
    ],
)
def test_the_reason_says_what_is_wrong(reply: str, reason: str) -> None:
    assert explain_rating(reply) == (None, reason)


def real_replies(shared_data: Path) -> Iterator[str]:
    for path in sorted((shared_data / "judge_completions" / "layer20").glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")).values():
            yield from row["responses"]


# --------------------------------------------------------------------------------------------------------------------- properties

WORDS = st.sampled_from(
    [
        "the",
        "text",
        "names",
        "roses",
        "and",
        "2",
        "1",
        "in 2020",
        "(",
        ")",
        '"',
        "**",
        ".",
        ",",
        "\n",
        "\n\n",
        "- ",
        "it",
        "[",
        "{",
        "}",
        "0 =",
    ]
)


@given(st.lists(WORDS, max_size=60).map(" ".join), st.sampled_from([0, 1, 2]), st.sampled_from(["", "\n", "  \n"]))
def test_a_rating_below_reasoning_without_ratings_is_read(reasoning: str, n: int, end: str) -> None:
    assert explain_rating(f"{reasoning}\nRating: [[{n}]]{end}") == (n, "")


@given(st.text(alphabet=st.characters(exclude_categories=["Nd", "No", "Nl"])))
def test_a_text_without_digits_and_number_words_has_no_rating(text: str) -> None:
    for word in ("zero", "one", "two"):
        text = text.lower().replace(word, "")
    assert parse_rating(f"Rating: {text}") is None
    assert parse_rating(text) is None


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=30), max_size=3), st.sampled_from([0, 1, 2]))
def test_the_field_of_a_json_reply_is_read_whatever_the_others_say(others: dict[str, str], n: int) -> None:
    assert parse_rating(json.dumps({**others, "reasoning": "Rating: 0. Rating: 1. Rating: 2", "rating": n})) == n


# ------------------------------------------------------------------------------------------------------------------ real replies


def test_a_real_reply_cut_before_its_rating_has_none_and_takes_any_form_of_one(shared_data: Path) -> None:
    reasonings = [reply.split("Rating:")[0].rstrip() for reply in real_replies(shared_data)][::10]
    assert len(reasonings) == 500
    assert [text for text in reasonings if parse_rating(text) is not None] == []
    for place, text in enumerate(reasonings):
        form, n = LABELS[place % len(LABELS)], place % 3
        assert explain_rating(f"{text}\n\n{form.format(n=n)}") == (n, "")
        assert explain_rating(f"Rating: [[{n}]]\n\n{text}") == (n, "")


# --------------------------------------------------------------------------------------------------------------- hostile replies

PIECES = (
    "[", "[[", "]]", "(", "{", '{"', '{"a":', '{"a":\n', "[{\n", '"', "'", "Rating: ", "rating", "Rating: 1 ", "Rating: 1, ",
    "Rating: 1\n", "Rating (", "Rating\n", "<think>", "</think>", "\n<think>", "<", "<rating>", "<|", "~", "\\boxed{", "\\text{", "```",
    "\n```json\n{", " ", "\n", "\t", "*", "_", "_a", "-", "=", "→", ". ", ".", "I rate ", "I give it ", "actually ", "my final ", "the ",
    "1", "1,", "1 or ", "[[1]]\n", "[[1]] ", ": ", "| ", "hente", "评分", "No, ",
)  # fmt: skip


def seconds(work: Callable[[], object], few: float = 0.0) -> float:
    """The least CPU time of three tries, of which the others are left out once one took less than ``few``."""
    taken: list[float] = []
    while len(taken) < 3 and min(taken, default=few) >= few:
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_the_time_grows_with_the_length_and_not_its_square(piece: str) -> None:
    """Four times the length takes four times as long, and sixteen times where the reading backtracks over everything."""
    small, large = (piece * (size // len(piece)) for size in (12_500, 50_000))
    floor = 0.005  # below it the clock says little
    took = seconds(lambda: parse_rating(large), few=8 * floor)
    assert took < 8 * floor or took < 8 * seconds(lambda: parse_rating(small))
    assert parse_rating(large + "\n\nRating: [[1]]") in (1, None)
