"""API keys: read from the environment or a ``.env``, and kept out of every text that leaves this program."""

from __future__ import annotations

import functools
import html
import io
import json
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from harness.errors import JudgeError
from harness.files.inputs import Input, read_text

SHORTEST = 8
"""Values with fewer characters are no secrets worth hiding (``none``, ``EMPTY``); to replace them everywhere would spoil texts."""

HIDDEN = "[key]"

_FILE = Input("file of keys", JudgeError, "mend that, or set the key in the environment")

_LONG, _BEGINNING = 20, 12
"""Keys of at least so many characters are also known by so many first ones, where a text cuts them off."""

LONGEST_NAME = 40
"""A longer name of a variable is not shown: it may be a key that was given in its place."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_PREFIXED = re.compile(r"(?:sk|pk|rk|hf|gsk|xai|AIza|AKIA|ghp|glpat)_?(?=[A-Za-z0-9_]*[0-9])[A-Za-z0-9_]{8,}")
_RANDOM = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}")
_SECRET_NAME = re.compile(r"(_API_KEY|_TOKEN|_SECRET|_PASSWORD)$")
_LOOKS_LIKE_A_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:sk|pk|rk|hf|xai|gsk)[-_][A-Za-z0-9*…._-]{6,}"  # what the big providers hand out, masked forms included
    r"|(?<=[Bb]earer )[A-Za-z0-9*._~+/=-]{6,}"
    r"|(?i:(?<=x-api-key: )|(?<=x-api-key=)|(?<=api_key=)|(?<=api-key: ))[A-Za-z0-9*._~+/=-]{6,}"
    r"|(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{2,}\*{3,}[A-Za-z0-9_-]*"  # "abcd****wxyz", as servers quote a key that they refuse
)
"""What may be a key. Each alternative begins where nothing of its run stands before it and takes the run to its end, so that every character is
looked at a bounded number of times: a server's page of 100 KB must not hold up a run."""

_seen: set[str] = set()
"""Keys that this process has read from a ``.env`` or was given; those of the environment are looked up when a text is cleaned."""


class Misplaced(ValueError):
    """A value that is not shown, since it may be a secret in the wrong place.

    Args:
        name: the option or variable whose value it is.
        message: what is wrong.
        hint: what to do next.
    """

    def __init__(self, name: str, message: str, hint: str) -> None:
        self.name, self.message, self.hint = name, message, hint
        super().__init__(f"{message}; {hint}")


def find_key(name: str, folder: Path | None = None) -> str | None:
    """Return the key of the environment variable ``name``, else of the line ``name=…`` in ``.env``; None where neither has one.

    Args:
        name: the variable, e.g. ``OPENAI_API_KEY``. An empty value counts as none.
        folder: where ``.env`` is looked for; the working folder by default.

    Raises:
        JudgeError: ``.env`` cannot be read, or the key holds something that no key has (a blank, a line break); the message shows no part of it.
    """
    value, where = os.environ.get(name, "").strip(), "the environment"
    if not value:
        path = (folder or Path.cwd()) / ".env"
        value, where = _read(path).get(name, "").strip(), str(path)
    if not value:
        return None
    remember(value)
    if not all("!" <= character <= "~" for character in value):
        message = f"{_shown_name(name)} in {where} holds a blank, a line break or a character that no key has"
        raise JudgeError(message, given=_shown_name(name), hint="copy the key again")
    return value


def key(name: str, folder: Path | None = None) -> str:
    """Return the key as :func:`find_key` does, for what cannot do without. Raises JudgeError naming the variable where there is no key."""
    value = find_key(name, folder)
    if value is None:
        message = f"no API key: {_shown_name(name)} is neither in the environment nor in {(folder or Path.cwd()) / '.env'}"
        raise JudgeError(message, given=_shown_name(name), hint="set it in one of them")
    return value


def check_key_name(name: str | None) -> str | None:
    """Return the name of the variable that holds a key, as it was given; None stays None.

    Raises:
        Misplaced: it cannot be the name of a variable, or it looks like a key: people paste the key itself. The message shows nothing of it.
    """
    if name is not None and (_VARIABLE.fullmatch(name) is None or _looks_like_a_key(name)):
        raise Misplaced(
            "key_name",
            "key_name takes the name of an environment variable (letters, digits and underscores, 64 at most), not a key",
            "put the key into a variable such as MY_SERVER_API_KEY and give that name (what was given is not shown)",
        )
    return name


def _looks_like_a_key(name: str) -> bool:
    known = _known_keys()
    return name in known or _PREFIXED.fullmatch(name) is not None or any(_RANDOM.fullmatch(part) for part in name.split("_"))


def _shown_name(name: str) -> str:
    """Return a variable's name for messages, unless it may be a key that was given in its place."""
    return redact(name) if len(name) <= LONGEST_NAME else "the variable named in key_name (not shown: it may be a key)"


def remember(secret: str) -> None:
    """Have :func:`redact` hide a key that came another way than through :func:`find_key`."""
    if len(secret) >= SHORTEST:
        _seen.add(secret)


def redact(text: str) -> str:
    """Return ``text`` with every known key, and everything that looks like one, replaced by ``[key]``.

    Known are the keys that this process has read, and the values of environment variables named like secrets (``…_API_KEY``, ``…_TOKEN``, …).
    A long key is also found where a text cuts it off behind its first twelve characters.
    """
    return _LOOKS_LIKE_A_KEY.sub(HIDDEN, _without(_known_keys(), text, cut=True))


def _known_keys() -> set[str]:
    """Return the keys that this process knows of and that are long enough to be hidden."""
    values = _seen | {value.strip() for name, value in os.environ.items() if _SECRET_NAME.search(name)}
    return {value for value in values if len(value) >= SHORTEST}


def without_keys(text: str, cut: bool = False) -> str:
    """Return ``text`` without the keys that this process has read: for replies, in which nothing else may be touched.

    Args:
        text: the text.
        cut: also what begins as a long key does. Not for what a model wrote: the keys of one server may all begin alike.
    """
    return _without(_seen, text, cut)


@functools.lru_cache(maxsize=256)
def _spellings(secret: str) -> frozenset[str]:
    """Return a key as it is, and as it stands within JSON, an address, a web page or a Python text, where a server repeats it there."""
    return frozenset({secret, json.dumps(secret)[1:-1], quote(secret, safe=""), quote(secret), html.escape(secret), repr(secret)[1:-1]})


def _without(secrets: Iterable[str], text: str, cut: bool) -> str:
    spelt = sorted({form for secret in secrets for form in _spellings(secret)}, key=len, reverse=True)
    for form in spelt:
        text = text.replace(form, HIDDEN)
    for form in spelt if cut else ():
        if len(form) >= _LONG and form[:_BEGINNING] in text:
            text = cut_key(form[:_BEGINNING]).sub(HIDDEN, text)
    return text


def cut_key(beginning: str) -> re.Pattern[str]:
    """Return what finds a key by how it begins, with all that may belong to it."""
    return re.compile(re.escape(beginning) + r"[A-Za-z0-9*…._~+/=-]*")


def _read(path: Path) -> dict[str, str]:
    """Return the variables of a ``.env`` file, read by python-dotenv; empty where there is no file.

    Nothing is interpolated: a ``$`` in a key stays. A line that is not an assignment is passed over: the file belongs to other programs as well.
    """
    if not os.path.exists(path):
        return {}
    text = read_text(path, _FILE)
    from dotenv import dotenv_values

    logging.getLogger("dotenv").setLevel(logging.ERROR)  # it would warn of each line of other programs that it cannot read
    values = dotenv_values(stream=io.StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}
