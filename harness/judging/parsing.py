"""From a judge's reply to its rating: the last well-formed one counts, and a reply without one is None with the reason, never 0.

A rating is well formed where a line or a sentence begins with the label, as in ``Rating: [[2]]``, ``Rating: 2``, ``**Rating:** [[1]]``,
``Final rating - 1/2``, or a heading ``## Rating`` above the number; so is the field ``rating`` of a reply that is JSON. Where no rating
is labelled, a lone ``[[2]]`` or a reply that is nothing but a number counts. Not well formed: a form that was only repeated
(``[[score]]``), a choice (``1 or 2``, ``1-2``), another scale (``1/10``), a condition (``Rating: 2 if …``), and prose (``would be rated 2``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

SCALE = (0.0, 1.0, 2.0)
"""The grades of a rating. A number between them is no grade of the rubric, so the judge is asked again."""

_LABEL = re.compile(r"\b(?:rating|score)\b", re.IGNORECASE)
_BEFORE = re.compile(
    r"""(?: ^ | [.!?;…\]] [\s"'”’)\]*_]* )            # the beginning of the line or of a sentence
        [\s*_#>"'“‘`$(\-•]*                         # markup, bullets, quotation marks
        (?: (?: my|the|a|final|overall|so|thus|hence|therefore|answer|verdict|concept|instruction|fluency ) [\s,:*_]+ ){0,4}
        [*_"'“‘`]* $""",
    re.IGNORECASE | re.VERBOSE,
)
_NUMBER = r"(?P<number>[-+−]?\d+(?:[.,]\d+)?|zero|one|two)(?!\w|[.,]\d)"
_AFTER = re.compile(
    rf"""[*_"'”’`]* [ \t]{{0,3}} (?: [:：=] | [-–—]+ (?=\s) | \bis\b | \n )   # what stands between label and number
        [\s*_"'“‘`$\\(\[{{<]* {_NUMBER} [\s*_"'”’`$\\)\]}}>]*?   # the number, in whatever brackets and markup
        (?P<tail> (?: [^\s*_"'”’`$\\)\]}}>] [^\n]* )? (?= \n | $ ) )   # and what its line goes on with""",
    re.IGNORECASE | re.VERBOSE,
)
_OUT_OF = re.compile(r"(?:/|out\s+of|of)\s*\[{0,2}(\d{1,9}(?:\.\d{1,9})?)", re.IGNORECASE)
_NO_RATING_IF = re.compile(r"(?:[-–—,/&]|or\b|and\b|to\b|through\b)\s*\[{0,2}\d|,?\s*(?:if|unless|provided|were|would)\b", re.IGNORECASE)
_BRACKETS = re.compile(r"\[\[\s{0,3}(?P<number>[-+−]?\d{1,9}(?:[.,]\d{1,9})?)\s{0,3}\]\][\s*_\"'”’)]*\.?[\s*_]*$")
_BARE = re.compile(r"[\s*_\"'`\[(]*(?P<number>\d{1,3}(?:[.,]\d{1,3})?)[\s*_\"'`\])]*\.?\s*")
_CONDITION = re.compile(r"\b(?:if|unless|would|could|might|had)\b", re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_REFUSAL = re.compile(
    r"\b(?:(?:i['’]?m|i am) (?:sorry|unable|not able)|i (?:can['’]t|can ?not|won['’]t|will not)|unable to (?:rate|assist|help|comply))\b",
    re.IGNORECASE,
)
_WORDS = {"zero": 0.0, "one": 1.0, "two": 2.0}
_SHOWN = 80
_REACH = 160
"""Characters around a label that are looked at; keeps the reading of a runaway reply linear in its length."""


@dataclass(frozen=True)
class _Found:
    """A well-formed rating: the number, and what it is out of where the reply says so."""

    value: float
    out_of: float | None = None


def parse_rating(reply: str) -> float | None:
    """The rating of a judge's reply: 0, 1 or 2, or None where it gives none (see :func:`explain_rating`)."""
    return explain_rating(reply)[0]


def explain_rating(reply: str) -> tuple[float | None, str]:
    """The rating of a judge's reply and an empty reason, or None and the reason: empty, refused, no rating, or not on the scale."""
    if not reply.strip():
        return None, "the reply is empty"
    found = _from_json(reply) or _last_labelled(reply) or _unlabelled(reply)
    if found is None:
        return None, _why_none(reply)
    if found.out_of is not None and found.out_of != SCALE[-1]:
        return None, f"the rating is on another scale: {found.value:g} out of {found.out_of:g}; allowed: 0, 1, 2"
    if found.value not in SCALE:
        return None, f"the rating is {found.value:g}; allowed: 0, 1, 2"
    return found.value, ""


def _from_json(reply: str) -> _Found | None:
    """The field ``rating`` of a reply that is a JSON object, in a code fence or not."""
    text = _FENCE.sub("", reply.strip())
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    rating = value.get("rating") if isinstance(value, dict) else None
    if isinstance(rating, str):
        match = _BARE.fullmatch(rating)
        return _Found(_number(match["number"])) if match else None
    if isinstance(rating, bool) or not isinstance(rating, int | float) or abs(rating) > 1e9 or rating != rating:
        return None
    return _Found(float(rating))


def _last_labelled(reply: str) -> _Found | None:
    """The last rating that follows its label, at the beginning of a line or sentence."""
    for label in reversed(list(_LABEL.finditer(reply))):
        line = reply.rfind("\n", 0, label.start()) + 1
        start = max(line, label.start() - _REACH)
        before = ("" if start == line else "…x") + reply[start : label.start()]  # a line cut short does not begin where it is cut
        match = _BEFORE.search(before) and _AFTER.match(reply[label.end() : label.end() + _REACH])
        if not match:
            continue
        out_of = _OUT_OF.match(match["tail"])
        if out_of is None and _NO_RATING_IF.match(match["tail"]):
            continue
        return _Found(_number(match["number"]), float(out_of[1]) if out_of else None)
    return None


def _unlabelled(reply: str) -> _Found | None:
    """The number that is the whole reply, or the last ``[[n]]`` that is a whole line or ends the reply, and stands under no condition."""
    whole = _BARE.fullmatch(reply) if len(reply) <= _REACH else None
    if whole:
        return _Found(_number(whole["number"]))
    lines = [line.strip() for line in reply.splitlines() if line.strip()]
    for place, line in reversed(list(enumerate(lines))):
        match = _BRACKETS.search(line[-_REACH:])
        if match is None:
            continue
        before = line[-_REACH:][: match.start()].strip("*_\"'“‘( ")
        if (not before or place == len(lines) - 1) and not _CONDITION.search(re.split(r"[.!?]\s", before)[-1]):
            return _Found(_number(match["number"]))
    return None


def _number(text: str) -> float:
    word = _WORDS.get(text.lower())
    return word if word is not None else float(text.replace("−", "-").replace(",", "."))


def _why_none(reply: str) -> str:
    line = " ".join(reply.split())
    shown = line if len(line) <= _SHOWN else f"… {line[-_SHOWN:]}"
    if _REFUSAL.search(reply):
        return f"the judge refused: {line[:_SHOWN]}{' …' if len(line) > _SHOWN else ''}"
    return f"the reply has no rating; it ends: {shown}"
