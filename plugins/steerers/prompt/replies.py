"""A language model's reply, read as the instruction that it was asked to write.

Models add to what they are asked for: they think aloud, greet, announce, put a heading or quotes around it, explain it, ask whether it pleases.
All of that would end up in the prompt of a steered model. A reply that holds no instruction (a refusal, a question back, one that was cut
off) is nothing written, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import dropwhile, takewhile

from harness.chat.values import THOUGHTS_ALONE

from .phrases import (
    ALOUD,
    ASKS_BACK,
    CLOSING,
    INTERJECTION,
    LATER_LABEL,
    MANY,
    OPENINGS,
    OPTION,
    PLACEHOLDER,
    REFUSAL,
    WORD,
)

LONGEST = 1000
"""Characters of an instruction at most: one or two sentences were asked for."""
FARTHEST = 20_000
"""Characters of a reply behind its thinking at most: a longer one is no instruction, whatever is left out of it."""

_CUT = ("length", "max_tokens")
_REFUSED = ("refusal", "content_filter", "safety")
_LOST = str.maketrans({"\ufeff": "", "\u200b": "", "\u2060": "", "\u00ad": "", "\u00a0": " ", "\r": "", "\t": " "})
_FOLDED = str.maketrans({"’": "'", "‘": "'", "：": ":"})
"""One character for one, so that a place in the folded text is the same in the text."""
_THINKING = r"think(?:ing)?|thoughts?|reason(?:ing)?|analysis|reflection|scratchpad|planning"
_THOUGHT = re.compile(rf"<(/?)({_THINKING})\b[^<>]*>|\[(/?)(think)\]|◁(/?)(think)▷", re.IGNORECASE)
_THOUGHT_ENDS = re.compile(rf"(?:</(?:{_THINKING})\s*>|\[/think\]|◁/think▷|<\|end_of_thought\|>)", re.IGNORECASE)
_THOUGHT_BEGINS = re.compile(rf"(?:<(?:{_THINKING})\b[^<>]*>|\[think\]|◁think▷|<\|begin_of_thought\|>)", re.IGNORECASE)
_CHANNEL, _FINAL = "<|channel|>", "<|channel|>final<|message|>"
_CONTROL = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|<(?:end_of_turn|start_of_turn|eos|bos|pad)>|\[/?INST\]")
_WRAPPER = re.compile(
    r"<(/?)(instructions?|prompt|answer|output|response|reply|final(?:_answer|_instruction)?|result|system)>", re.IGNORECASE
)
_FENCE = re.compile(r"```[\w+-]*[ ]*\n(.*?)(?:\n[ ]*```|\Z)|```(.*?)```", re.DOTALL)
_CODE = re.compile(r"((?<!`)`+[^`\n]+`+)")
_EMPHASIS = tuple(  # bounded: else each opening mark without a closing one is a look through all the rest
    re.compile(form.replace("INSIDE", rf"(.{{1,{LONGEST}}}?)"))
    for form in (
        r"\*\*(?=\S)INSIDE(?<=\S)\*\*",
        r"(?<!\w)__(?=\S)INSIDE(?<=\S)__(?!\w)",
        r"(?<![\w*])\*(?=[^\s*])INSIDE(?<=[^\s*])\*(?![\w*])",
        r"(?<![\w_])_(?=[^\s_])INSIDE(?<=[^\s_])_(?![\w_])",
    )
)
_DEEPEST = 8
"""Quotation marks within each other, and openings of a line behind each other that stand between marks of headings, at most."""

_BLANK = re.compile(r"\s*")
_ITEM = re.compile(r"(?:[-*•+]|\(?\d{1,2}[.)])\s+(?=\S)")
_RULE = re.compile(r"[-*_=~]{3,}|[—–]+")
_UNSPACED = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_QUOTES = {'"': '"', "'": "'", "“": "”“", "”": "”", "‘": "’", "«": "»", "»": "«", "„": "“”", "「": "」", "『": "』", "`": "`"}


def read_instruction(reply: str, finish: str = "stop") -> tuple[str, str]:
    """Return the instruction in a writer's reply and "", or "" and why there is none.

    Args:
        reply: what the model said, with everything around it.
        finish: how the reply ended (:attr:`harness.chat.values.ChatReply.finish`): one that was cut off or refused holds no instruction.
    """
    if finish in _CUT:
        return "", "the reply was cut off"
    if finish in _REFUSED:
        return "", f"the model refused (the API says {finish})"
    if finish == THOUGHTS_ALONE:
        return "", "the model thought and wrote nothing: its words are all in reasoning_content"
    said = _without_thinking(reply.translate(_LOST).strip())
    if said is None:
        return "", "the reply never gets past thinking"
    if len(said) > FARTHEST:
        return "", f"the reply has {len(said):,} characters, far more than the {LONGEST:,} of an instruction"
    if not any(letter.isalpha() for letter in said):
        return "", "the reply is empty"
    if reason := _no_instruction(_lead(said)):
        return "", reason
    text = _joined_text(_lines(_unwrapped(said)))
    for _ in range(3):  # a label within quotes, quotes behind a label
        text = _after_openings(_unquoted(text))
    if reason := _no_instruction(text):
        return "", reason
    if len(text) > LONGEST:
        return "", f"the reply has {len(text):,} characters, more than {LONGEST:,}"
    placeholder = PLACEHOLDER.search(text)
    if placeholder:
        return "", f"the reply leaves a blank, {placeholder.group()}"
    letters = sum(letter.isalpha() for letter in text)
    if len(text.split()) < 2 and not (_UNSPACED.search(text) and letters >= 4):
        return "", f"the reply holds no instruction ({text[:40]!r} is left of it)" if text else "the reply holds no instruction"
    return text, ""


def _no_instruction(text: str) -> str:
    """Return why a text that begins so is no instruction, or ""."""
    folded = text.translate(_FOLDED)
    if REFUSAL.match(folded):
        return f"the model refused ({_shortened(text)})"
    if ASKS_BACK.match(folded):
        return f"the model asks back ({_shortened(text)})"
    return ""


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:59] + "…"


def _lead(text: str) -> str:
    """Return the text without quotes and interjections at its beginning: where a refusal says so."""
    text, place = text.lstrip("\"'“”‘’*_`#> "), 0
    while (match := INTERJECTION.match(text, place)) and match.end() < len(text):
        place = match.end()
    return text[place:]


# ------------------------------------------------------------------------------------------------------------ around the reply


def _without_thinking(text: str) -> str | None:
    """Return the text behind the thinking; None where the thinking does not end."""
    if _CHANNEL in text:
        if _FINAL not in text:
            return None
        text = text.rpartition(_FINAL)[2]
    kept, place = [], 0
    for start, _, _, end in _pairs(_THOUGHT, text):
        kept.append(text[place:start])
        place = end
    text = "\n".join((*kept, text[place:]))
    ends = list(_THOUGHT_ENDS.finditer(text))
    if ends:  # many templates put the opening tag into the prompt
        text = text[ends[-1].end() :]
    if _THOUGHT_BEGINS.search(text):
        return None
    return _CONTROL.sub("", text).strip()


def _pairs(marks: re.Pattern[str], text: str) -> Iterator[tuple[int, int, int, int]]:
    """Yield where an opening mark begins and ends, and the next closing mark of its kind; then from there on. Marks without one are passed over.

    ``marks``: alternatives of two groups, the slash of a closing mark and the kind. One pass, where a pattern that looks for the closing mark
    would look through all the rest for each opening mark.
    """
    found = [(match, text[match.start()] + match[match.lastindex or 0].lower()) for match in marks.finditer(text)]
    last = {kind: match.start() for match, kind in found if match[(match.lastindex or 0) - 1]}
    opened: tuple[re.Match[str], str] | None = None
    for match, kind in found:
        closing = bool(match[(match.lastindex or 0) - 1])
        if opened is None:
            opened = (match, kind) if not closing and last.get(kind, -1) > match.start() else None
        elif closing and kind == opened[1]:
            yield *opened[0].span(), *match.span()
            opened = None


def _unwrapped(text: str) -> str:
    """Return what stands within tags, a JSON object, a code fence or a block quote, where the reply has one."""
    for _, start, end, _ in _pairs(_WRAPPER, text):
        if inside := text[start:end].strip():
            text = inside
            break
    if (fence := _FENCE.search(text)) and (inside := (fence.group(1) or fence.group(2) or "").strip()):
        text = inside
    text = text.replace("```", "\n")
    if text.lstrip().startswith(("{", "[", '"')):
        with suppress(ValueError, RecursionError):
            text = _from_json(json.loads(text)) or text
    lines = text.split("\n")
    block = list(takewhile(_is_quoted, dropwhile(lambda line: not _is_quoted(line), lines)))
    if block:
        text = "\n".join(line.lstrip().lstrip(">").strip() for line in block)
    if (label := LATER_LABEL.search(text)) and label.start():  # reasoning, then "Instruction:"
        text = text[label.start() :]
    return text


def _is_quoted(line: str) -> bool:
    return line.lstrip().startswith(">")


def _from_json(value: object) -> str:
    if isinstance(value, list) and value:
        return _from_json(value[0])
    if isinstance(value, dict):
        known = [value[name] for name in ("instruction", "prompt", "text", "answer", "output") if isinstance(value.get(name), str)]
        texts = known or [item for item in value.values() if isinstance(item, str)]
        return texts[0] if texts else ""
    return value if isinstance(value, str) else ""


# ------------------------------------------------------------------------------------------------------------------- its lines


def _lines(text: str) -> list[str]:
    """Return the lines of the instruction: what announces it and what follows it is left out; items of a list keep their mark."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    many, peeled = False, 0
    kept: list[str] = []
    while lines:
        line, plain = lines[0], _without_marks(lines[0])
        rest = _after_openings(plain)
        if not rest or _RULE.fullmatch(line) or (len(lines) > 1 and _announces(line, rest, lines[1])):
            many = many or bool(MANY.search(line))
            lines.pop(0)
        elif rest != plain and peeled < _DEEPEST:
            lines[0], peeled = rest, peeled + 1
        else:
            break
    for number, line in enumerate(lines):
        plain = _without_marks(line)
        if number and (_ends(line, plain) or (many and (_ITEM.match(plain) or OPTION.match(plain)))):
            break
        kept.append(plain if number else OPTION.sub("", plain, count=1))
    items = [line for line in kept if _ITEM.match(line)]
    if len(items) == 1:
        kept = [_ITEM.sub("", line, count=1) for line in kept]
    return kept


def _announces(line: str, rest: str, following: str) -> bool:
    """Return whether the instruction is yet to come behind a first line, of which ``rest`` is left.

    So it is where the line is a heading, thinking aloud, or ends in a colon.
    """
    if ALOUD.match(rest):
        return True
    bare = _without_marks(line)
    terminated = bare.endswith((".", "!", "?", "。", '"', "”"))
    words = bare.split()
    if not terminated and line.startswith("#"):
        return True
    if not terminated and line.startswith(("**", "__")) and line.rstrip(":").endswith(("**", "__")):
        return (
            len(words) <= 2 or re.search(WORD, bare, re.IGNORECASE) is not None or all(word[0].isupper() for word in words if len(word) > 3)
        )
    return rest.endswith((":", "：")) and not _ITEM.match(following)


def _ends(line: str, plain: str) -> bool:
    """Return whether a later line belongs to the instruction no more: a closing remark, an explanation, a heading, another version."""
    heading = line.startswith("#") or (line.startswith("**") and line.endswith(("**", ":**", "**:")) and not plain.endswith((".", "!")))
    return heading or bool(_RULE.fullmatch(line) or CLOSING.match(plain.translate(_FOLDED)) or OPTION.match(plain))


def _without_marks(line: str) -> str:
    """Return a line without the marks of headings and emphasis."""
    line = re.sub(r"^#{1,6}\s+|(?<!\s)\s+#{1,6}$", "", line)
    parts = _CODE.split(line)  # what stands between backticks is every second part
    for place in range(0, len(parts), 2):
        for mark in _EMPHASIS:
            parts[place] = mark.sub(r"\1", parts[place])
        parts[place] = parts[place].replace("**", "")
    return "".join(parts).strip()


def _after_openings(text: str) -> str:
    """Return the text behind greetings, announcements and labels at its beginning."""
    folded, place = text.translate(_FOLDED), 0
    while end := next((match.end() for opening in OPENINGS if (match := opening.match(folded, place)) and match.end() > place), 0):
        blank = _BLANK.match(folded, end)
        place = blank.end() if blank else end
    return text[place:]


def _joined_text(lines: list[str]) -> str:
    """Return the lines as one text, sentences that close the reply left out; items of a list stay lines of their own."""
    text = ""
    for line in lines:
        text += ("\n" if _ITEM.match(line) else " ") + line if text else line
    return _without_closing(text.strip())


def _without_closing(text: str) -> str:
    folded = text.translate(_FOLDED)
    for start in _sentences(text):
        if CLOSING.match(folded, start):
            return text[:start].rstrip()
    return text


def _sentences(text: str) -> Iterator[int]:
    """Return where each sentence but the first begins."""
    return (match.end() for match in re.finditer(r"[.!?][\"”'’)]*\s+(?=[\"“'(A-Z])", text))


def _unquoted(text: str) -> str:
    """Return the text without the quotation marks around it. Where a quoted sentence stands first, what follows it is a remark."""
    for _ in range(_DEEPEST):
        if not text or text[0] not in _QUOTES:
            break
        close = _closing_quote(text)
        if close is None:
            return text[1:].lstrip() if text[0] not in "'’" else text
        inside, rest = text[1:close].strip(), text[close + 1 :].strip()
        if not rest.strip(".!,; "):
            text = inside if inside.endswith((".", "!", "?")) else inside + rest
        elif text[0] != "`" and len(inside.split()) >= 4 and inside.endswith((".", "!", "?")):
            text = inside
        else:
            return text
    if text.endswith('"') and text.count('"') % 2:
        text = text[:-1].rstrip()
    return text


def _closing_quote(text: str) -> int | None:
    """Return where the quotation mark at the text's beginning is closed; marks of the same kind may stand within."""
    closing, depth = _QUOTES[text[0]], 1
    for place in range(1, len(text)):
        before, after = text[place - 1], text[place + 1] if place + 1 < len(text) else " "
        if text[place] in closing and not after.isalnum() and not before.isspace():
            depth -= 1
            if not depth:
                return place
        elif text[place] == text[0] and after.isalnum() and (before.isspace() or before in "(["):
            depth += 1
    return None
