"""What a language model is asked, and what is made of its replies. Our own words; what cannot be read is None, never a number."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.chat.values import ChatReply, ChatRequest, Message

from .snippets import CLOSE, OPEN, ROOM, Snippet, fits

VERSION = "autointerp/1"
"""Version of the questions and of how replies are read; part of the key of the cache."""
WORDS = 20
"""Words of an explanation at most, as it is asked for."""
AGAIN_TEMPERATURE = 0.7
"""A question whose reply could not be read is asked again at this temperature, with another seed and a reminder."""

_EXPLAIN = (
    "One unit inside a language model fires on some tokens and not on others. Below are excerpts of texts; the tokens on which it fires stand "
    f"between {OPEN} and {CLOSE}. The excerpts in which it fires most strongly come first. What have these tokens, or the words around them, in "
    "common? It may be a meaning, a subject, a word or part of one, a form of words, punctuation, or a place in a sentence. Be as specific as the "
    "excerpts allow: your description must tell them from other texts. Reply with the description alone, one phrase of at most "
    f"{WORDS} words.\n\n"
)
_FORM = "End your reply with one line: Active: and the numbers of these excerpts with commas between them, or Active: none"
_DETECT = (
    "A unit inside a language model is described so:\n\n{explanation}\n\nBelow are {n} excerpts of texts. In some of them the unit fires. Going by "
    "the description alone, in which? It may be in none.\n\n{snippets}\n\n" + _FORM
)
_FUZZ = (
    "A unit inside a language model is described so:\n\n{explanation}\n\nBelow are {n} excerpts of texts, each with some tokens between "
    f"{OPEN} and {CLOSE}. In some excerpts these are the tokens on which the unit fires, in others they are not. Going by the description alone, in "
    "which are they? It may be in none.\n\n{snippets}\n\n" + _FORM
)
_AGAIN_EXPLAIN = "\n\nReply with the one phrase, and nothing else."
_AGAIN_SCORE = "\n\nThe last line of your reply must be of the form: Active: 2, 5"

_BLANK = re.compile(r"\{(n|snippets|explanation)\}")
_THOUGHT = re.compile(r"(?s)^.*</think(?:ing)?>")
_LABEL = re.compile(r"^\s*(?:explanation|description|answer)\s*[:：]\s*", re.IGNORECASE)
_REFUSES = re.compile(
    r"^(?:i(?:['’]m| am| can(?:not|['’]t)| could not| would| do not| don['’]t| will not| won['’]t| was unable)\b|sorry\b|as an ai\b|unfortunately\b)",
    re.IGNORECASE,
)
_ACTIVE = re.compile(r"^[\s*_`#>-]*active\b[*_`\s]*[:：][*_`\s]*(.*)$", re.IGNORECASE)
_NONE = re.compile(r"^(?:none|nothing|no excerpts?)\.?$", re.IGNORECASE)
_NUMBERS = re.compile(r"^\d+(?:(?:\s*,\s*(?:and\s+)?|\s+and\s+|\s+)\d+)*\.?$", re.IGNORECASE)


def explain_request(model: str, snippets: Sequence[Snippet], max_tokens: int, ask: int = 0) -> ChatRequest:
    """Return the ``ask``-th request for an explanation."""
    text = _EXPLAIN + "\n".join(f"- {snippet.shown}" for snippet in snippets)
    return _request(model, text + (_AGAIN_EXPLAIN if ask else ""), max_tokens, ask)


def score_request(model: str, explanation: str, snippets: Sequence[Snippet], fuzzing: bool, max_tokens: int, ask: int = 0) -> ChatRequest:
    """Return the ``ask``-th request to name the active snippets, or (``fuzzing``) those that are marked rightly."""
    listed = "\n".join(f"{number}. {snippet.shown if fuzzing else snippet.plain}" for number, snippet in enumerate(snippets, 1))
    given = {"n": str(len(snippets)), "snippets": listed, "explanation": explanation}
    text = _BLANK.sub(lambda blank: given[blank[1]], _FUZZ if fuzzing else _DETECT)
    return _request(model, text + (_AGAIN_SCORE if ask else ""), max_tokens, ask)


def _request(model: str, text: str, max_tokens: int, ask: int) -> ChatRequest:
    return ChatRequest(model, (Message("user", text),), max_tokens, AGAIN_TEMPERATURE if ask else 0.0, seed=ask or None)


def longest(n: int, marked: bool = True) -> list[Snippet]:
    """Return ``n`` snippets that are as long as any can be, for an upper bound of costs."""
    return [Snippet(0, 0, 0, ("x" * (ROOM - len(OPEN + CLOSE) * marked),), (1.0,), 0.0) for _ in range(n)]


def read_explanation(reply: ChatReply) -> tuple[str, str]:
    """Return the description in a reply, or an empty text and why there is none."""
    if reply.finish == "length":
        return "", "the reply was cut off; raise max_tokens"
    lines = [line.strip().strip("*_`\"“”' ") for line in _THOUGHT.sub("", reply.text).splitlines() if line.strip()]
    found = _LABEL.sub("", lines[-1]).strip().strip("*_`\"“”' ") if lines else ""
    if _REFUSES.match(found):
        return "", "the reply refuses"
    return (fits(found), "") if found else ("", "the reply holds no description")


def read_numbers(reply: ChatReply, n: int) -> tuple[list[bool] | None, str]:
    """Return which of ``n`` snippets a reply names, or None and why it cannot be read."""
    if reply.finish == "length":
        return None, "the reply was cut off; raise max_tokens"
    lines = [line.strip() for line in _THOUGHT.sub("", reply.text).splitlines() if line.strip()]
    stated = [match[1].strip().strip("*_`[]() ") for line in lines if (match := _ACTIVE.match(line))]
    found = stated[-1] if stated else lines[0].strip("*_`[]() ") if len(lines) == 1 else ""
    if _NONE.match(found):
        return [False] * n, ""
    if not _NUMBERS.match(found):
        return None, "the reply names no excerpts"
    named = {int(number) for number in re.findall(r"\d+", found)}
    if not named <= set(range(1, n + 1)):
        return None, f"the reply names an excerpt that there is not ({max(named)} of {n})"
    return [number in named for number in range(1, n + 1)], ""
