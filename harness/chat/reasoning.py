"""Which models think before they reply, by their names: they take no temperature, and spend tokens on thoughts that nobody sees.

The patterns stand beside the prices (``reasoning``, in ``prices.toml``), and the user's price file may add to them. What a pattern does not know is
learned from a server's refusals (:mod:`harness.chat.providers.refusals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from harness.chat.cost import price_files, read_price_file
from harness.errors import OptionError

ROOM = 2000
"""Tokens that a model may think, beside those of its reply, where the user says nothing: several times what a rating takes."""


def load_patterns(api: str, folder: Path | None = None) -> tuple[str, ...]:
    """Return the patterns of an API's models that reason; one that begins with ``!`` is of models that do not.

    Args:
        api: ``openai`` or ``anthropic``.
        folder: the cache folder, where a price file of the user's may lie.

    Raises:
        OptionError: a price file is malformed.
    """
    found: list[str] = []
    for path in price_files(folder):
        section = read_price_file(path).get(api)
        given = section.get("reasoning", []) if isinstance(section, dict) else []
        if not isinstance(given, list) or not all(isinstance(one, str) and one for one in given):
            message = f"the price file {path} has [{api}] reasoning = {given!r}"
            raise OptionError(message, given=given, allowed='a list of patterns, e.g. ["gpt-5*", "!gpt-5-chat*"]')
        found += given
    return tuple(found)


def reasons(model: str, patterns: Sequence[str]) -> bool:
    """Return whether a model is one that reasons: the last pattern that fits its name says so. A maker before it (``openai/gpt-5``) is left out."""
    name = model.rpartition("/")[2]
    fitting = [pattern for pattern in patterns if fnmatchcase(name, pattern.removeprefix("!"))]
    return bool(fitting) and not fitting[-1].startswith("!")
