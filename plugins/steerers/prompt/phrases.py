"""What chat models say around an instruction that they were asked to write, and in place of one: patterns for :mod:`.replies`.

Each pattern is a list of alternatives, one a line, matched at the beginning of a line or sentence, whatever the case.
"""

from __future__ import annotations

import re


def _any(alternatives: str, behind: str = "") -> re.Pattern[str]:
    """Return one pattern for lines of alternatives, each followed by ``behind``."""
    return re.compile(f"(?:{'|'.join(line.strip() for line in alternatives.strip().splitlines())}){behind}", re.IGNORECASE)


WORD = r"(?:instruction|prompt|directive|guideline|system message)s?"
"""What models call what they write."""

INTERJECTION = _any(
    r"""
    sure(?: thing)?|certainly|of course|absolutely|definitely|gladly|with pleasure|my pleasure|no problem
    okay|ok|alright|all right|got it|understood|as requested|yes
    great(?: question)?|good question|hello|hi|hey
    """,
    r"(?: there)?(?:\s*[!.,:—]+\s*|\s+[–-]+\s+|$)",
)
_TO_WRITE = r"(?:write|wrote|written|created?|craft(?:ed)?|draft(?:ed)?|suggest|propose|provided?|design(?:ed)?|composed?|formulated?)"
OF_ITSELF = _any(  # "I'd be happy to help!", "I will write an instruction that …"
    rf"""
    i(?:'d| would|'m| am|'ll| will| can| could|'ve| have)?(?: just| also| gladly| be)? (?:happy|glad|help|c[oa]me up|{_TO_WRITE})
    (?:we|i) (?:can|need to|should) {_TO_WRITE}
    (?:happy|glad) to help|please find|let me (?:help|{_TO_WRITE})
    """,
    r"\b[^.!?:\n]*(?:[.!:]\s*|$)",
)
HERE = _any(
    rf"""
    (?:so,? |and )?here(?:'s| is| are| you go)
    below (?:is|are)|the following (?:is|are)
    this is (?:an?|the|my) (?=[^.!?:\n]*{WORD})
    """,
    r"[^.!?:\n]{0,200}(?:[.!:]\s*|$)",
)
_ADJECTIVES = (
    r"(?:the|your|my|an?|one|final|revised|possible|suggested|proposed|sample|improved|good|simple|concise|short|written|new"
    r"|model|steering|system)"
)
_AIM = r"(?: (?:for|to) (?:the |an? )?[\w -]{1,60}?)?(?: (?:is|would be|could be|might be))?(?: \d+)?(?: \([^)\n]{0,200}\))?"
LABEL = _any(rf"\[?(?:{_ADJECTIVES} )*(?:{WORD}|answer|response|output|reply|result|assistant){_AIM}", r"\]?\s*(?::\s*|\s[—–-]\s+|$)")
ANNOUNCED = _any(  # "A good instruction would be: …"
    r"(?:an?|one|the|my|your|possible|use|try|consider|you (?:can|could|might|may) use|for example,?)",
    rf" [^.!?:\n]{{0,150}}\b{WORD}\b[^.!?:\n]{{0,120}}:\s*",
)
OPENINGS = (INTERJECTION, OF_ITSELF, HERE, LABEL, ANNOUNCED)

OPTION = _any(
    rf"option|version|variant|variation|candidate|suggestion|alternative|attempt|{WORD}(?= ?\d)",
    r" ?(?:\d+|[a-z])?\s*(?:\([^)\n]{0,200}\))?\s*[:.)—–-]\s*",
)
MANY = re.compile(
    r"\b(?:options|versions|variants|variations|candidates|suggestions|alternatives"
    r"|(?:few|some|two|three|several|possible|\d) [\w ]{0,60}(?:instructions|prompts))\b",
    re.IGNORECASE,
)
"""Several versions are announced, of which one is wanted."""
LATER_LABEL = re.compile(rf"^[>#*_ \[]*(?:{_ADJECTIVES} )*{WORD}[*_\]]*\s*:", re.IGNORECASE | re.MULTILINE)
"""A label that stands behind other text, in a line of its own."""
ALOUD = _any(r"(?:thought|reasoning|thinking|analysis|thought process|thinking process|plan)s?\s*:")

_HELPS = r"(?:ensure|make|guide|encourage|help|steer|get|prompt|lead)s?\b"
CLOSING = _any(
    rf"""
    \(?(?:please )?(?:let me know|feel free|just (?:let me know|say|ask|tell me)|happy to|is there anything)
    i hope|hope (?:this|that)|would you like|do you (?:want|need)|does (?:this|that)
    i(?:'d| would) be happy|i (?:can|could) also|i(?:'ve| have) (?:kept|made|written|tried|included|used)
    if (?:you|this|that|it)\b[^.!?\n]*(?:let me know|i can|i could|i'll|i will|i'd be|just ask|just say|feel free)
    this (?:{WORD}|wording|phrasing|approach|version|sentence|formulation|one|way|ensures?|makes? sure)\b
    this (?:will|should|would) {_HELPS}
    the (?:above|{WORD}) (?:above|is|will|should|ensures?|makes?|names?|{WORD})\b
    by (?:using|including|giving) this|with this {WORD}|you (?:can|may|could) (?:adjust|modify|change|adapt|tweak|use this)
    \(?(?:notes?|explanation|rationale|reasoning|why (?:this|it) works|word count|length|tone)\s*(?:\([^)\n]{{0,200}}\))?\s*:
    (?:examples?|example (?:use|usage|answer|output|response)|key (?:points|features))\s*(?:\([^)\n]{{0,200}}\))?\s*:
    (?:usage|user|assistant|human|question)\s*(?:\([^)\n]{{0,200}}\))?\s*:
    alternatively,|alternative(?:ly)?:|p\.?s\.?[:,]
    """
)
"""What follows an instruction and is no part of it."""

# ------------------------------------------------------------------------------------------------------------- in place of one

_FACTS = r"(?:subject|concept|topic|details?|information|context)\b"
_ASKED = r"(?:request|query|question|message|content|prompt|instruction)\b"
_SORRY = r"(?:i'm|i am|we're|we are)(?: so| very| really| truly| terribly)? (?:sorry|afraid)\b"
_CANNOT = (
    r"(?:(?:can ?not|can't)(?! (?:stress|emphasi[sz]e|overstate))|cant|won't|will not|couldn't|could not|am (?:not|unable|only|just)"
    r"|(?:must|have to|need to|will|would) (?:decline|refuse)|decline|refuse|(?:would )?prefer not|would rather not)\b"
)
_DOES_NOT = r"do(?:n't| not) (?:feel|think|have|know|understand|believe|see|generate|provide|support|assist|engage|create|write|produce)\b"
REFUSAL = _any(
    rf"""
    {_SORRY}|sorry(?=[,.!;:—–-]|\s(?:but|i|about|for)\b)
    (?:unfortunately|regrettably|i apologi[sz]e|my apologies|apologies)\b
    (?:i|we)(?: really| simply| just)? (?:{_CANNOT}|{_DOES_NOT})|(?:i'm|we're) (?:not|unable|only|just)\b
    as an? (?:\w+ )?(?:ai|artificial|language|llm|assistant|chatbot)\b[^.!?\n]{{0,60}}?,? (?:i|my)\b
    (?:this|that|your|the) (?:{_FACTS}|{_ASKED})[^.!?\n]{{0,80}}(?:violat|inappropriate|harmful|unsafe)
    (?:this|that|your) {_ASKED}[^.!?\n]{{0,80}}(?:not (?:allowed|permitted|something)|flagged|polic|guidelines|against)
    it(?:'s| is| would be) (?:not |in)(?:appropriate|possible|ethical)\b
    (?:no|none|n/?a|null|nothing|undefined|error|blocked|refused|\[(?:redacted|removed|blocked)\])\W*$
    """
)
ASKS_BACK = _any(
    rf"""
    (?:could|can|would|will) you(?: please)? (?:clarify|specify|provide|tell me|share|give me|elaborate|explain what)\b
    please (?:clarify|specify|tell me|share)\b
    please (?:provide|give)(?: me)?(?: with)? (?:the|more|additional|further|some more|a specific) (?:\w+ )?{_FACTS}
    i(?:'d| would)? need (?:more|some|additional|further|to know)\b|it (?:seems|looks|appears)(?: like| as if| that)? (?:you|your|there|the)\b
    (?:what|which) (?:exactly |specific )?(?:subject|concept|topic|is the|do you|would you|should i|kind of)\b[^\n]*\?
    """
)
PLACEHOLDER = re.compile(
    r"\{+\s*\w*(?:concept|subject|topic)\w*\s*\}+|[\[<](?:insert\b[^\]>\n]*|(?:the |your )?(?:concept|subject|topic)[^\]>\n]{0,20})[\]>]",
    re.IGNORECASE,
)
"""A blank that the writer was to fill."""
