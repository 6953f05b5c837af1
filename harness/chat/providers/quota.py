"""What servers say of accounts and limits: whether waiting helps, and for how long.

Facts: error pages and replies of OpenAI, Azure, Anthropic, Google, AWS, xAI, Mistral, DeepSeek, Moonshot, Zhipu, Alibaba, Volcengine, SiliconFlow,
MiniMax, OpenRouter, Together, Fireworks, Groq, Cohere, Perplexity, Hugging Face, and of the gateways LiteLLM and one-api.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

LONG_WAIT = 60.0
"""Seconds above which the wait that a limit of the day or month asks for ends the run: a shorter one is the next of many evenly spread requests."""

_HOPELESS = frozenset(
    {
        "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated", "insufficient_balance",
        "insufficient_user_quota", "insufficient_credits", "exceeded_current_quota_error", "exceeded_current_quota", "billing_error",
        "budget_exceeded", "arrearage", "accountoverdueerror", "quota_exceeded_error", "1113", "1008",
    }
)  # fmt: skip
"""Codes that no waiting heals, whatever the text beside them says. 1113 is Zhipu's and 1008 MiniMax's for an empty account."""
_CODES_OF_ACCOUNTS = frozenset({"1113", "1008"})  # numbers, which mean this with a status of accounts alone

_OF_ACCOUNTS = frozenset({None, 400, 401, 402, 403, 412, 429})
"""HTTP statuses under which vendors say that an account is empty: Anthropic 400, Perplexity 401, xAI 403, Fireworks 412, OpenAI and Google 429."""

_SPENT = re.compile(
    r"credit balance|credit limit|insufficient[ _](?:\w{1,40}[ _])?(?:quota|credits?|balance|funds?)"
    r"|(?:balance|funds?|credits?|quota) (?:is|are|has been|have been)? ?(?:too low|insufficient|not enough|exhausted|used up|overdue)"
    r"|(?:exceeded|over)[ _](?:your[ _])?(?:current|monthly)[ _](?:\w{1,40}[ _])?(?:quota|credits?|usage)"
    r"|(?:out of|no|not enough|more|purchase|add|buy|all available) credits|add \d{1,6} credits|billing[ _](?:hard[ _]limit|not[ _]active)"
    r"|account[ _](?:is[ _])?(?:deactivated|suspended|overdue|in arrears)|arrearage|overdue (?:balance|payment)|spending[ _](?:limit|cap)"
    r"|payment[ _]required|budget[ _](?:has[ _]been[ _])?exceeded|exceeded (?:its |your |the )?budget|resource[ _](?:has been[ _])?exhausted"
    r"|(?:reached|exceeded) (?:your |the )?(?:specified )?(?:api )?usage limits?"
    r"|free (?:tier|quota|allocated quota) .{0,40}(?:exhausted|exceeded|used up)"
    r"|余额不足|欠费|额度不足|额度已用尽|配额不足",
    re.IGNORECASE,
)
_PASSING = re.compile(r"try again (?:later|in)|retry (?:in|after)|per[ _-]?minute|too many requests|rate[ _]limit", re.IGNORECASE)
"""What is said where waiting helps after all: Google's word for an empty account is also the one for a full minute."""
_LONG = re.compile(r"per[ _-]?(?:day|week|month)|/ ?(?:day|week|month)\b|\b(?:daily|weekly|monthly)\b|\((?:RPD|TPD)\)", re.IGNORECASE)
"""What is said of a limit that no pause within a run mends."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_WAIT = re.compile(
    r"(?:retry|try again|wait)(?: in| after| for)? "
    r"((?:\d{1,6}(?:\.\d{1,9})? ?(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h|days?|d)(?=\d|\b)|,? (?:and )?(?=\d)){1,8})",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d{1,6}(?:\.\d{1,9})?) ?(ms|milli|s|m|h|d)", re.IGNORECASE)


def wait_in(message: str) -> float | None:
    """Return the seconds that a text asks to wait (``try again in 7m12.5s``, ``retry after 20 seconds``); None where it names none."""
    found = _WAIT.search(message)
    if found is None:
        return None
    parts = _PART.findall(found[1])
    return round(sum(float(number) * _UNITS["ms" if unit.lower() == "milli" else unit.lower()] for number, unit in parts), 3)


def is_spent(status: int | None, text: str, codes: Iterable[str], wait: float | None) -> bool:
    """Return whether a refusal is one that no waiting within a run heals: an empty account, or a limit of the day or the month.

    Args:
        status: the HTTP status; None where there was none.
        text: all that the server says.
        codes: its code and kind.
        wait: the seconds that it asks to wait; None where it names none.
    """
    known = {code.lower() for code in codes} & _HOPELESS
    if known and (not known <= _CODES_OF_ACCOUNTS or status in _OF_ACCOUNTS):
        return True
    if status not in _OF_ACCOUNTS:
        return False
    if status == 429 and _LONG.search(text) is not None:
        return wait is None or wait > LONG_WAIT
    return wait is None and _SPENT.search(text) is not None and _PASSING.search(text) is None
