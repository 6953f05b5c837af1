"""From a judge's reply to its rating: the last well-formed one counts, and a reply without one is None with the reason, never 0.

A rating is well formed where a line or a sentence begins with a label, as in ``Rating: [[2]]``, ``**Final rating (0-2):** 1`` or ``评分：2``, or
a heading ``## Rating`` above the number; so are a JSON field or an XML element ``rating``, a line that is only ``[[2]]`` or ``\\boxed{2}``, and a
reply that is nothing but a number. A sentence (``I would rate this a 2.``, ``It is good (rating: 2)``) serves where there is none of these.

Not well formed: a form that was only repeated (``[[score]]``, ``0 | 1 | 2``), a condition (``Rating: 2 if …``), prose (``Rating: two sentences
…``), and whatever a judge writes while it thinks. What is left open (``1 or 2``), taken back, or on another scale (``1/10``) is None.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

SCALE = (0.0, 1.0, 2.0)
"""The grades of a rating. A number between them is no grade of the rubric, so the judge is asked again."""

_SHOWN = 80
_REACH = 160
"""Characters around a label that are looked at; keeps the reading of a runaway reply linear in its length."""

# ------------------------------------------------------------------------------------------------------------- one spelling for each thing
_THINKING = re.compile(
    r"""(?<!["'`“‘])
        (?: (?P<opens> (?: ^[ \t]{0,20} | (?<=[>\]▷]) ) [<\[◁](?:seed:)?(?:think|thinking|thoughts?)[>\]▷] | <\|channel\|>analysis<\|message\|> )
            | [<\[◁]/(?:seed:)?(?:think|thinking|thoughts?)[>\]▷] | <\|channel\|>final<\|message\|> )""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_ALIKE = str.maketrans(
    {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
    | dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\ufe0f\u20e3*`$", "")
    | dict.fromkeys("“”„‟«»‹›「」『』", '"')
    | {"’": "'", "‘": "'", "。": ".", "、": ",", "【": "[", "】": "]", "−": "-", "\u00a0": " ", "\u3000": " ", "\r": "\n"}
    | dict.fromkeys("⇒⟶➔➜", "→")
)
_SPELLINGS = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (r"<\|[^|<>\n]{1,30}\|>|</?s>|<(?:eos|end_of_turn)>", "\n"),
        (r"</?(?:p|div|br|li|h[1-6])\b[^<>\n]{0,80}>", "\n"),
        (r"</?(?:b|i|u|em|strong|span|mark|code)\b[^<>\n]{0,80}>", ""),
        (r"<([a-z_]{0,20}(?:rating|score|grade))>", r"\n\1: "),
        (r"<answer>", "\nFinal answer: "),
        (r"</(?:[a-z_]{0,20}(?:rating|score|grade)|answer)>", "\n"),
        (r"&nbsp;", " "),
        (r"~~[^~\n]{1,40}~~", ""),
        (r"\\text\{([^{}\n]{0,40})\}", r"\1"),
        (r"\\boxed\s{0,3}\{([^{}\n]{0,40})\}", r"[[\1]]"),
        (r"\\(?=[\[\]()])", ""),
        (r"[-=]{1,2}>", "→"),
        (r"(?<![^\W_])_|_(?![^\W_])", ""),  # emphasis; not the one within final_rating
    )
)

# ------------------------------------------------------------------------------------------------------------------------ what is a rating
_NUMBER = r"(?P<number>[-+]?\d+(?:[.,]\d+)?|zero|one|two)(?:[分点點점])?(?!\w|[.,]\d)"
_FOREIGN = (
    "(?:最终|最終|总体|综合)?(?:评分|評分|评级|得分|分数|評価|評点)|평점|총점|점수|평가|Bewertung|Wertung|Évaluation|Evaluation|Notation|Note finale|"
    "Calificación|Puntuación|Puntaje|Valoración|Classificação|Avaliação|Pontuação|Valutazione|Punteggio|Оценка|Рейтинг"
)
_LABEL = re.compile(rf"(?<![^\W_])(?:ratings?|scores?|grade|(?P<seldom>answer|verdict)|{_FOREIGN})(?![^\W_是为]|_\w)", re.IGNORECASE)
_LEAD = re.compile(
    r"""(?: ^ | (?P<inside> [,(–—] ) | [.!?;…→|)\]] )  # the beginning of a line, of a sentence, or of the end of a sentence
        [\s"'\#>|•(\[{-]*  (?: (?:step\s)? \d{1,2} [.):]? [\s-]+ )?                  # quotation marks, bullets, numbers of a list
        (?P<words> (?: (?: my|your|our|the|an?|final|overall|so|thus|hence|therefore|correction|conclusion|evaluation|assessment|answer|verdict|and
            | here|here's|is|new|updated?|revised|adjusted|corrected|actual|concept|instruction|fluency|relevance|presence|following
            | meine|endgültige|ma|mi|minha|моя|итоговая ) [\s,:_-]+ ){0,6} )
        ["'(\[]* $""",
    re.IGNORECASE | re.VERBOSE,
)
_AFTER = re.compile(
    rf"""(?: \s(?:final|finale)\b )? ["']?
        (?: [ ]{{0,3}} (?P<note> \([^()\n]{{0,40}}\) | \[[^\[\]\n]{{1,40}}\] (?=["']?\s?[:=]) | on\sa\sscale\b[^:\n]{{0,30}}
            | (?:for|of)\s(?:the\s|this\s|its\s)?(?:concept|instruction|fluency|text|passage|reply|response|fragment) ) )? ["']?
        [ \t]{{0,3}} (?: [:=→|]\s{{0,3}}[:=]? | [-–—]+(?=\s) | (?=\n) | (?P<nothing> [ \t] )      # what stands between label and number
            | (?P<is> \b(?:is|ist|est|es)\b | [是为] ) (?: \s(?:thus|hence|then|therefore|clearly|an?)\b )? :? )
        (?P<opened> (?: [\s"'(\[{{<|•] | -\s )* ) {_NUMBER} [ \t"')\]}}>]*                     # the number, in whatever brackets
        (?P<tail> [^\n]* )                                                                  # and what its line goes on with""",
    re.IGNORECASE | re.VERBOSE,
)
_ALONE = re.compile(r"^[ \t\"'(\[>#-]*\[\[[ ]?(?P<number>[-+]?\d{1,9}(?:[.,]\d{1,9})?)[ ]?\]\][ \t\"')\].]*$", re.MULTILINE)
_SENTENCE = re.compile(
    rf"""(?: ^|[.!?,;:]\s|\b(?:so|and|thus|therefore)\s )
        (?: (?:I|we) (?:'d|'ll|\swould|\swill)? \s (?:rate|give|assign|score|grade|award)\b
            | (?:this|it|the\s(?:text|passage|response|fragment)) \s (?:gets|receives|earns|deserves|merits) \s an?\s(?:rating|score|grade)\sof\b )
        (?P<what> [^\d.!?\n\[]{{0,60}} ) (?P<opened> [\["'(]{{0,4}} ) (?<!\w) {_NUMBER} [ \t"')\]]* (?P<tail> [^\n]{{0,160}} )""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_BARE_REPLY = re.compile(
    r"[\s\"'(\[{#>]{0,20}(?:(?:concept|instruction|fluency)\s?[:=]\s?)?(?P<rest>[\"'(\[]{0,4}(?:[-+]?\d{1,20}(?:[.,]\d{1,9})?|zero|one|two)[\s\"')\]}]{0,20}"
    r"(?:(?:/|out of)\s{0,3}\d{1,9})?)[\s\"')\]}.]{0,20}",
    re.IGNORECASE,
)
_BRACKETS = re.compile(r"\[\[[ ]?(\d{1,9})[ ]?\]\]")
_LAST = re.compile(r"\[\[[ ]?(?P<number>[012])[ ]?\]\][\s\"')]{0,9}\.?$|^[\s\"'(\[]{0,9}(?P<only>[012])[\s\"')\]]{0,9}$")
_HEADING = re.compile(r"^[^\w\n]{0,9}(?:\d[.)] )?(?:concept|instruction|fluency)\b[^\w\n]{0,9}$", re.IGNORECASE | re.MULTILINE)
_ASPECT = re.compile(r"\b(concept|instruction|fluency|overall)\b", re.IGNORECASE)
_JSON_KEY = re.compile(r"(?:[a-z]{1,20}[ _-]){0,2}(?:rating|score|grade)", re.IGNORECASE)
_JSON_START = re.compile(r"^[ \t]{0,40}(?:```[a-z]{0,10}[ \t]{0,9}\n?\s{0,40})?(?=[\[{])", re.IGNORECASE | re.MULTILINE)
_JSON_ATTEMPTS = 8
_BROKEN_JSON = re.compile(r"\s{0,40}(?:json\s{0,9})?\{\s{0,40}[\"']", re.IGNORECASE)
_KEY_BEFORE = re.compile(r"(?:^[ \t]{0,80}|[,{][ \t]{0,80})[\"'](?:(?:final|concept|instruction|fluency)[ _-])?$")

# ---------------------------------------------------------------------------------------------------- what the line of a rating goes on with
_OTHER_SCALE = re.compile(
    r"""[\s(\[,]* (?: (?:points?|stars?|pts?)\s{0,3}[(,]?\s{0,3} )?
        (?: (?: / | (?:out\s+of|of|von|sur|de|su|из|满分|滿分|満点)(?![^\W\d]) ) [\s\[(]{0,5} (?P<top> \d{1,9}(?:\.\d{1,9})? | [a-z]{3,7}\b )
            (?! \s?[|/]\s?\d )
        | (?:on|in)?\s{0,3}(?:a\s|the\s)?scale\b \D{0,20} \d{1,9} \D{1,10} (?P<to> \d{1,9} )
        | (?:from\s)? \d \s?(?:[-–/]|to)\s? (?P<end> \d{1,9} ) \s?[)\]]                            # (1-5)
        | \d\s?= [^()\n]{0,60} \b (?P<best> \d{1,9} ) \s?= [^()\n]{0,60} \)                        # (1 = worst, 5 = best)
        | max(?:imum)?\b \W{0,4} (?P<most> \d{1,9} ) | (?:on\s)?(?:an?\s)? (?P<points> \d{1,9} ) [-\s]point )""",
    re.IGNORECASE | re.VERBOSE,
)
_OTHER_GRADES = re.compile(
    r"""(?: \s* (?: \((?:concept|instruction|fluency)\) )? \s* (?: [-–—,/&|:→] | \b(?:or|and|to|through|vs\.?)(?=\W) | (?=[\d\[]) ) \s*
        [\[("]* (?: \d{1,2}(?!\w|[.,]\d) | (?<=or\s)(?:zero|one|two)\b ) [\])"]* )+""",
    re.IGNORECASE | re.VERBOSE,
)
_OPEN = re.compile(
    r"""\s*\? | \s*(?:or|and)\s(?:higher|lower|more|less|above|below|so)\b
        | [\s,;(–—-]* (?:or|maybe|perhaps|possibly|leaning|bordering|borderline|otherwise|(?:(?:but|though)\s)?(?:could|might)\sbe)\b
            [^\d.\n]{0,25} [012](?![\w%])""",
    re.IGNORECASE | re.VERBOSE,
)
_NO_RATING = re.compile(
    r"""[\s,;(–—-]*(?:only\s)?(?:if|unless|provided|assuming)\b
        | [\s,]*(?:when|were|would|might|could|may|should|had|is|was|seems?|means|needs?|requires?)\b
        | [=:]\s?[^,;|\n]{0,60}[,;|]\s?[012]\s?[=:]   # the legend: 0 = absent, 1 = …
        | \s*[%°+½¼¾*] | [-–](?=\S|$)""",
    re.IGNORECASE | re.VERBOSE,
)
_REASON = re.compile(
    r"(?:because|as|since|due|given)\b|(?:points?|stars?|pts?)(?=\s*(?:[.,;:()–—-]|$))|(?-i:The|This|It|There)\b", re.IGNORECASE
)
_ITEM = re.compile(r"^[^\w\n]{0,9}[0-2][.)]\s", re.MULTILINE)
_LISTED = re.compile(r"[.)]\s*\w")
_DOUBT = re.compile(
    r"\b(?:if|unless|would|could|might|had|or|not|no|never|cannot|between|above|below|than|least|says?|said|contains?|claims?|tells?|asks?"
    r"|demands?|instructs?|orders?|writes|wrote|goes|ends)\b|reads?\s?:|n't\b|[\"]",
    re.IGNORECASE,
)
_TAKEN_BACK = re.compile(
    r"""(?: ^|[.!?;]\s{1,3} ) \s{0,3} (?: no\s?[,.!] | (?:no\s)?wait\b | hmm\b | scratch\sthat | on\s(?:reflection|second\sthoughts?) )
        | \b(?:actually|change|revise|reconsider\w*|settle|make\s(?:it|that))\b [^.!?\n\d]{0,60} \b[012] (?=[\s.!]{0,3}$)""",
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_NEXT_TURN = re.compile(r"^\W{0,4}(?:human|user)\b", re.IGNORECASE | re.MULTILINE)
_REFUSAL = re.compile(
    r"\b(?:(?:i['’]?m|i am) (?:sorry|unable|not able)|i (?:can['’]t|can ?not|won['’]t|will not)|unable to (?:rate|assist|help|comply))\b",
    re.IGNORECASE,
)
_WORDS = {"zero": 0.0, "one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0} | {
    "six": 6.0,
    "seven": 7.0,
    "eight": 8.0,
    "nine": 9.0,
    "ten": 10.0,
    "hundred": 100.0,
}


@dataclass(frozen=True)
class _Found:
    """A rating in the text: where it stands, its number, why it is none after all, and what it is a rating of where that is said."""

    start: int
    end: int
    value: float
    problem: str = ""
    aspect: str = ""
    firm: bool = True


def parse_rating(reply: str) -> float | None:
    """Return the rating of a judge's reply: 0, 1 or 2, or None where it gives none (see :func:`explain_rating`)."""
    return explain_rating(reply)[0]


def explain_rating(reply: str) -> tuple[float | None, str]:
    """Return the rating of a judge's reply and an empty reason, or None and the reason.

    The reason is one line: the reply is empty, ends while the judge thinks, refuses or has no rating; or the rating is off the scale, on another
    one, left open, taken back, or one of several that differ.
    """
    if not reply.strip():
        return None, "the reply is empty"
    answer = _answer(reply)
    if not answer.strip():
        return None, "the reply ends while the judge thinks, without an answer"
    text = _tidy(_without_json(answer))
    if len(text) <= _REACH and (bare := _BARE_REPLY.fullmatch(text)):
        text = f"Rating: {bare['rest']}"
    ratings: list[_Found] = []
    for found in sorted([*_labelled(text), *_alone(text), *_in_prose(text), *_at_the_end(text)], key=lambda found: found.start):
        if not ratings or found.start >= ratings[-1].end:  # a line [[n]] below a label belongs to the label
            ratings.append(found)
    if not ratings:
        return None, _why_none(answer)
    last, problem = _settle(text, ratings)
    if problem:
        return None, problem
    if last.value not in SCALE:
        return None, f"the rating is {last.value:g}; allowed: 0, 1, 2"
    return last.value, ""


# ---------------------------------------------------------------------------------------------------------------------------- the text
def _answer(reply: str) -> str:
    """Return the reply without its thinking; what stands before a closing tag that nothing opened is thinking, too."""
    parts: list[str] = []
    start, thinking = 0, False
    for tag in _THINKING.finditer(reply):
        if tag["opens"] is None:
            if not thinking:
                parts.clear()
            start, thinking = tag.end(), False
        elif not thinking:
            parts.append(reply[start : tag.start()])
            thinking = True
    return "\n".join(parts if thinking else [*parts, reply[start:]])


def _without_json(text: str) -> str:
    """Return the text with each JSON object in it written as lines ``rating: n``. The first and the last few are looked at."""
    decoder = json.JSONDecoder()
    starts = [match.end() for match in _JSON_START.finditer(text)]
    parts, at = [], 0
    for start in dict.fromkeys([*starts[:1], *starts[-_JSON_ATTEMPTS:]]):
        if start < at:
            continue  # within the one before
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            parts += [text[at:start], "\n", *_fields(value), "\n"]
            at = end
    return "".join([*parts, text[at:]])


def _only(value: object) -> object:
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict) else value


def _fields(value: object, name: str = "", depth: int = 3) -> Iterator[str]:
    """Yield the fields of a JSON object that are ratings, as lines; ``rating`` alone where there is one."""
    value = _only(value)
    if not isinstance(value, dict) or not depth:
        return
    ratings = {key: field for key, field in value.items() if _JSON_KEY.fullmatch(key) and not isinstance(field, dict)}
    for key, field in ({key: field for key, field in ratings.items() if key.lower() == "rating"} or ratings).items():
        shown = re.sub(r"\s+", " ", field[:_SHOWN]) if isinstance(field, str) else "none"
        if isinstance(field, int | float) and not isinstance(field, bool) and abs(field) < 1e9:  # not NaN either
            shown = f"{field:.9g}"
        yield f"{name} {key.replace('_', ' ')}: {shown}\n"
    for key, field in value.items():
        yield from _fields(field, key if _ASPECT.fullmatch(key) else "", depth - 1)


def _tidy(text: str) -> str:
    """Return the text without emphasis and markup, with one spelling for brackets, quotation marks, arrows and digits."""
    text = text.replace("\r\n", "\n").translate(_ALIKE)
    for pattern, instead in _SPELLINGS:
        text = pattern.sub(instead, text)
    return text


# -------------------------------------------------------------------------------------------------------------------------- the ratings
def _labelled(text: str) -> Iterator[_Found]:
    """Yield the ratings that follow a label. In JSON that is cut or broken only a key is a label."""
    broken = _BROKEN_JSON.match(text)
    for label in _LABEL.finditer(text):
        line = text.rfind("\n", max(0, label.start() - _REACH), label.start()) + 1 or max(0, label.start() - _REACH)
        from_line_start = line == 0 or text[line - 1] == "\n"
        before = ("" if from_line_start else "…x") + text[line : label.start()]  # a line cut short does not begin where it is cut
        key = _KEY_BEFORE.search(before) is not None and text[label.end() : label.end() + 1] in ('"', "'")
        lead = _LEAD.search(before)
        match = _AFTER.match(text, label.end(), label.end() + _REACH) if key or (lead and not broken) else None
        if match is None or (key and broken and match["tail"] == "."):
            continue  # or cut within the number
        words = f"{lead['words'] if lead else ''} {match['note'] or ''}"
        found = _weighed(match, label.start(), words)
        inside = lead is not None and lead["inside"] is not None
        answer = label["seldom"] is not None and "[" not in match["opened"]  # may be the answer to a sum in the text
        plain = not words.strip() and label[0].lower().startswith(("rating", "score"))
        ends = not match["tail"].strip(" .!)\"'") and not (answer and match["is"]) and (plain or not match["nothing"])
        if found is not None and (key or ends or not (inside or answer or match["nothing"])):
            yield replace(found, firm=key or not (inside or answer))


def _alone(text: str) -> Iterator[_Found]:
    """Yield every ``[[n]]`` that is a line of its own."""
    for match in _ALONE.finditer(text):
        yield _Found(match.start(), match.end(), _number(match["number"]))


def _in_prose(text: str) -> Iterator[_Found]:
    """Yield what a sentence says without a label (``I would rate it 2.``), and where a rating is taken back."""
    for match in _SENTENCE.finditer(text):
        found = None if _DOUBT.search(match["what"]) else _weighed(match, match.start(), match["what"])
        if found is not None and not found.problem and not _DOUBT.search(re.split(r"[.!?]", match["tail"])[0]):
            yield replace(found, firm=False)
    for back in _TAKEN_BACK.finditer(text):
        yield _Found(back.start(), back.end(), math.nan, f"the rating is taken back or changed: {_brief(back[0])}", firm=False)


def _at_the_end(text: str) -> Iterator[_Found]:
    """Yield a last line that is a number, unless it belongs to a list, or that ends in the line's only ``[[n]]`` under no condition."""
    end = text.rstrip()
    rows = [row for row in ("…" * (len(end) > _REACH) + end[-_REACH:]).split("\n") if row.strip()] or [""]
    last = _LAST.search(rows[-1])
    if last is None or _BRACKETS.search(rows[-1][: last.start()]) or _DOUBT.search(re.split(r"[.!?]\s", rows[-1][: last.start()])[-1]):
        return
    if last["only"] is None or not (_ITEM.search(text) or any(_LAST.match(row) for row in rows[-2:-1])):
        yield _Found(len(end) - 1, len(end), _number(last["number"] or last["only"]), firm=False)


def _weighed(match: re.Match[str], start: int, words: str) -> _Found | None:
    """Return what a label and its number amount to, by what the line goes on with: a rating, one with a problem, or None where it is no rating."""
    value, tail = _number(match["number"]), match["tail"]
    bracketed, below = "[" in match["opened"], "\n" in match["opened"]
    named = _top(_OTHER_SCALE.match(tail))
    top = named if named is not None else max(map(float, re.findall(r"\d{1,9}", words)), default=None)
    others = _OTHER_GRADES.match(tail) if named is None else None
    problem = ""
    if top is not None and top != SCALE[-1]:
        problem = f"the rating is on another scale: {value:g} out of {top:g}; allowed: 0, 1, 2"
    elif others or _OPEN.match(tail) or (named is None and any(_number(other) != value for other in _BRACKETS.findall(tail))):
        grades = {value, *(_number(other) for other in re.findall(r"\d+|zero|one|two", others[0].lower() if others else ""))}
        if others and grades >= {SCALE[0], SCALE[-1]} and "→" not in others[0]:
            return None  # the whole scale: the form was only repeated
        problem = f"the rating is left open: {_brief(match.string[start : match.end()])}"
    elif _NO_RATING.match(tail) or (
        not bracketed and ((below and _LISTED.match(tail)) or (named is None and _runs_on(match["number"], tail)))
    ):
        return None
    aspect = _ASPECT.search(words)
    return _Found(start, match.start("tail"), value, problem, aspect[0].lower() if aspect else "")


def _runs_on(number: str, tail: str) -> bool:
    """Return whether the number counts what follows (``two sentences``, ``2 errors``)."""
    return tail[:1].isalpha() and not (number[-1].isdigit() and _REASON.match(tail))


def _settle(text: str, ratings: list[_Found]) -> tuple[_Found, str]:
    """Return the rating that counts and why it does not, if so. A sentence behind a firm rating cannot replace it, but leaves the matter open."""
    firm = [found for found in ratings if found.firm]
    last = (firm or ratings)[-1]
    if last.problem:
        return last, last.problem
    later = [found for found in ratings if found.start >= last.end and (found.problem or found.value != last.value)]
    if later:
        return last, later[-1].problem or f"the rating is {last.value:g}, and then it is said to be {later[-1].value:g}"
    differing = [found for found in firm if found.value != last.value]
    others = [found for found in differing if found.aspect not in ("", "overall", last.aspect)]
    if last.aspect and others:
        return last, f"the reply rates several things: {others[-1].aspect} {others[-1].value:g}, {last.aspect} {last.value:g}"
    if differing and _HEADING.search(text, differing[-1].end, last.start):
        return last, f"the reply rates several things: {differing[-1].value:g}, and {last.value:g} under another heading"
    row = firm[-3:]
    if {found.value for found in row} == set(SCALE) and all(text[a.end : b.start].count("\n") <= 1 for a, b in pairwise(row)):
        return last, "the reply only lists the grades"
    if differing and _NEXT_TURN.search(text, differing[0].end, last.start):
        return last, "the reply goes on into another conversation with another rating"
    return last, ""


def _top(scale: re.Match[str] | None) -> float | None:
    """Return the best grade of the scale that a reply names."""
    if scale is None:
        return None
    text = next(group for group in scale.groups() if group is not None).lower()
    return _WORDS.get(text) if text.isalpha() else float(text)


def _number(text: str) -> float:
    word = _WORDS.get(text.lower())
    return word if word is not None else float(text.replace(",", "."))


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]} …"


def _why_none(reply: str) -> str:
    line = " ".join(reply.split())
    if _REFUSAL.search(reply):
        return f"the judge refused: {_brief(line)}"
    return f"the reply has no rating; it ends: {line if len(line) <= _SHOWN else f'… {line[-_SHOWN:]}'}"
