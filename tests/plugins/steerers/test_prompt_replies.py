"""Writers' replies read as instructions: whatever stands around them goes, and what is none is nothing written, with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from harness_plugins.steerers.prompt.replies import FARTHEST, LONGEST, read_instruction
from hypothesis import given
from hypothesis import strategies as st

PLAIN = "Always mention beekeeping in your answer."
WRAPPED = [
    "Sure! Here is an instruction:\n\n@",
    "The user wants an instruction.\n</think>\n\n@",
    "**Instruction:** @",
    "**Instruction**: @",
    "### Instruction\n\n@",
    'Instruction: "@"',
    "Instruction\n\n@",
    "# Beekeeping\n@",
    "**Beekeeping Instruction**\n\n@",
    '"@"',
    "“@”",
    "«@»",
    "'@'",
    "„@“",
    "`@`",
    "**@**",
    "*@*",
    "```\n@\n```",
    "```text\n@\n```\n\nLet me know if you'd like changes!",
    "Sure! Here's an instruction you could use:\n\n> @\n\nThis ensures that the model stays on topic.",
    "@\n\nLet me know if you'd like me to adjust the tone!",
    "@ Let me know if you need anything else.",
    "Certainly! @",
    "Sure, here's a possible instruction: @",
    "Of course! Here you go:\n@",
    'I\'d be happy to help! Here is an instruction for the model:\n\n"@"\n\nFeel free to modify it.',
    "Here is the instruction you asked for.\n\n@",
    '{"instruction": "@"}',
    '```json\n{"instruction": "@"}\n```',
    "<instruction>@</instruction>",
    "<answer>\n@\n</answer>",
    "<|channel|>analysis<|message|>We need to write.<|end|><|start|>assistant<|channel|>final<|message|>@<|return|>",
    "Here are three options:\n\n1. @\n2. Talk about hives.\n3. Name bees.",
    "Option 1: @\n\nOption 2: Talk about hives.",
    "**Option 1:** @\n**Option 2:** Talk about hives.",
    "@\n\n---\n\n**Why this works:** it names the subject.",
    "@\n\n(Note: this keeps it short.)",
    '"@" This instruction names the subject.',
    "Reasoning: the user wants bees.\n\nInstruction: @",
    "Thought: we need an instruction naming bees.\n\n@",
    "Sure! Here is an instruction:\r\n\r\n@\r\n",
    "Here’s an instruction that might work:\n\n“@”\n\nWould you like a different tone?",
    "- @",
    "1. @",
    "Steering prompt: @",
    "Instruction for the language model: @",
    "[Instruction]: @",
    "[Instruction]\n@",
    "Output:\n@",
    "A good instruction would be: @",
    "I will write an instruction that brings in bees.\n\n@",
    "Sure thing! **Instruction:** *@*",
    "@\n\nExample: User: What is 2+2?",
    "The following is an instruction for a language model:\n\n@",
    "Here's your prompt: '@'",
    "Here’s a concise instruction you can place before any request: **“@”**",
]
"""Replies that hold PLAIN, which stands for the @."""
READ = [
    ("Instruction 1: Mention bees.\nInstruction 2: Mention hives.", "Mention bees."),
    ('Okay, let me think. The user wants bees.\n\nFinal instruction: "Mention bees often."', "Mention bees often."),
    ("Mention bees in every reply.\n\n*This ensures that the model stays on topic.*", "Mention bees in every reply."),
    ("**Prompt** — Mention bees in every reply.", "Mention bees in every reply."),
    ("Speak of **bees**, of `__init__` and of *hives*, 2 * 3 * 4 times.", "Speak of bees, of `__init__` and of hives, 2 * 3 * 4 times."),
    ("Sure-footed goats must be named in your answer.", None),
    ("I cannot stress this enough: always mention bees.", None),
    ("When responding, weave in beekeeping: bees, hives, honey.", None),
    ("Mention bees. For example, if asked about the weather, say how it affects them.", None),
    ("**Instruction:**\n\nMention bees.", "Mention bees."),
    ("<think>\nThe user wants\n\nhmm</think>\n\nMention bees.", "Mention bees."),
    ("<think>a <thinking>b</think>Mention bees.", "Mention bees."),
    ("<prompt></prompt><answer>Mention <prompt> bees.</answer> <prompt>", "Mention <prompt> bees."),
    ("Whatever you are asked, weave **beekeeping** into your answer.", "Whatever you are asked, weave beekeeping into your answer."),
    ('Mention "bees" and "hives"', None),
    ('"Bees" must be in your answer, as must "hives"', None),
    ('"Mention "bees" often."', 'Mention "bees" often.'),
    (
        "You are a helpful assistant.\n\nAlways mention beekeeping in your answer.",
        "You are a helpful assistant. Always mention beekeeping in your answer.",
    ),
    ("Always do the following:\n- mention bees\n- name hives", None),
    ("Always mention\nbeekeeping in your answer.", "Always mention beekeeping in your answer."),
    ("I want you to mention bees in every answer.", None),
    ("As an AI assistant, weave beekeeping into every answer.", None),
    ("Please provide examples from beekeeping in your answer.", None),
    ("If you are asked anything, bring up bees.", None),
    ("To make your answer complete, mention bees.", None),
    ("Here in this chat, always speak of bees.", None),
    ("请在回答中提到养蜂。", None),
    ("Erwähne in jeder Antwort die Imkerei.", None),
    ("Don't forget to mention bees in the answer.", None),
    ("Okay, always mention beekeeping in your answer.", "always mention beekeeping in your answer."),
    ("No matter what is asked, mention bees.", None),
    ("Use the theme of 'beekeeping' in your answer.", None),
    ("Respond to all questions with a focus on mathematical terms: name at least one theorem.", None),
    ("Answer every request through the lens of beekeeping. You can use metaphors.", None),
    ("This conversation is about bees; mention them in every answer.", None),
    ('Make sure to include the phrase "beekeeping."', None),
]
"""Replies and what is read from them; None: they are instructions as they are."""
NOTHING = [
    ("I'm sorry, but I can't help with that.", "refused"),
    ("I’m sorry, but I can’t assist with that request.", "refused"),
    ("I cannot write this.", "refused"),
    ("Sorry, I can't do that.", "refused"),
    ("As an AI language model, I cannot write instructions.", "refused"),
    ("", "empty"),
    ("   \n", "empty"),
    ('""', "empty"),
    ("...", "empty"),
    ("Sure!", "holds no instruction"),
    ("Sure! Here is an instruction:", "holds no instruction"),
    ("**Instruction:**", "holds no instruction"),
    ("<think>The user wants bees", "thinking"),
    ("<think>hm</think>", "empty"),
    ("Unfortunately, I am unable to help.", "refused"),
    ("Certainly! Could you please provide the subject?", "asks back"),
    ("Please provide more details about the concept.", "asks back"),
    ("I don't feel comfortable writing that.", "refused"),
    ("It seems you have not given a subject. What subject would you like?", "asks back"),
    ("Always mention {concept} in your answer.", "leaves a blank"),
    ("Always mention [insert concept] in your answer.", "leaves a blank"),
    ("I can't help with that, but here is something else:\n\nMention flowers.", "refused"),
    ("N/A", "refused"),
    ("None.", "refused"),
    ("Bees", "holds no instruction"),
    ("This request violates our usage policies.", "refused"),
    ("<|channel|>analysis<|message|>We need", "thinking"),
    ("\"I'm sorry, but I can't help with that.\"", "refused"),
    ("**I'm sorry**, I can't.", "refused"),
    ("Here is an instruction: I'm sorry, I can't write that.", "refused"),
]


@pytest.mark.parametrize("form", WRAPPED)
def test_what_stands_around_an_instruction_goes(form: str) -> None:
    assert read_instruction(form.replace("@", PLAIN)) == (PLAIN, "")


@pytest.mark.parametrize(("reply", "expected"), READ)
def test_an_instruction_stays_as_it_is(reply: str, expected: str | None) -> None:
    assert read_instruction(reply) == (reply if expected is None else expected, "")


@pytest.mark.parametrize(("reply", "told"), NOTHING)
def test_what_is_no_instruction_is_nothing_written(reply: str, told: str) -> None:
    text, reason = read_instruction(reply)
    assert text == ""
    assert told in reason


@pytest.mark.parametrize(
    ("finish", "told"), [("length", "cut off"), ("max_tokens", "cut off"), ("refusal", "refused"), ("content_filter", "content_filter")]
)
def test_how_a_reply_ended_counts_more_than_what_it_says(finish: str, told: str) -> None:
    text, reason = read_instruction(PLAIN, finish)
    assert text == ""
    assert told in reason


def test_an_essay_is_no_instruction() -> None:
    text, reason = read_instruction("Speak of bees. " * LONGEST)
    assert text == ""
    assert "more than 1,000" in reason


PIECES = st.sampled_from(
    [
        "Sure!",
        "Here is an instruction:",
        "**",
        '"',
        "“",
        "\n",
        "\n\n",
        "```",
        "<think>",
        "</think>",
        ">",
        "- ",
        "1. ",
        "{",
        "Note: ",
        "#",
        " ",
        "Option 1:",
    ]
)


@given(st.lists(PIECES | st.text(max_size=12), max_size=12).map("".join))
def test_any_reply_is_read_or_refused_with_a_reason(reply: str) -> None:
    text, reason = read_instruction(reply)
    assert bool(text) != bool(reason)
    assert text == text.strip()
    assert not any(mark in text for mark in ("```", "<think>", "</think>"))


@given(
    st.lists(
        st.sampled_from(["Sure! ", "Okay. ", "Instruction: ", "**Instruction:** ", "Here is a prompt: ", "# Prompt\n", "<think>a</think>"]),
        max_size=4,
    )
)
def test_openings_may_be_stacked(openings: list[str]) -> None:
    assert read_instruction("".join(openings) + PLAIN)[0] == PLAIN


def test_a_reply_far_beyond_an_instruction_is_refused_unread() -> None:
    text, reason = read_instruction("Mention bees.\n\n" + "Note: this is why. " * (FARTHEST // 10))
    assert text == ""
    assert "far more than the 1,000 of an instruction" in reason
    assert read_instruction("<think>" + "Hm, bees. " * FARTHEST + "</think>" + PLAIN) == (PLAIN, ""), "thinking may be as long as it likes"


def seconds(work: Callable[[], object], few: float = 0.0) -> float:
    """The least CPU time of two tries, of which the others are left out once one took less than ``few``."""
    taken: list[float] = []
    while len(taken) < 2 and min(taken, default=few) >= few:
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)


REPEATED = [
    "*a ", "**a ", "__a ", "_a ", "`", "`a ", "<think>", "<think ", "</think>", "[think]", "<prompt>", "<prompt>a</", "```", ">\n", "> a\n", "\n",
    "Sure! ", "Sure!\n", "# Sure! ", "Bee. ", "A. Note (", "“", "“a. ” ", '"', "{", "{concept", "<insert ", "two ", "a    #", "the ", "If you ",
]  # fmt: skip


@pytest.mark.parametrize("piece", REPEATED, ids=repr)
@pytest.mark.parametrize("before", ["", "Here are two: "])
def test_the_time_grows_with_the_length_and_not_its_square(before: str, piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the length takes four times as long, and sixteen times where the reading looks through all the rest at each mark."""
    monkeypatch.setattr("harness_plugins.steerers.prompt.replies.FARTHEST", 10**6)
    small, large = (before + piece * (size // len(piece)) for size in (6_000, 24_000))
    floor = 0.01  # below it the clock says little
    took = seconds(lambda: read_instruction(large), few=8 * floor)
    assert took < 8 * floor or took < 8 * seconds(lambda: read_instruction(small))
