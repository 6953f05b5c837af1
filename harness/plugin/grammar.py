"""How a plugin is asked for: ``NAME[:option=value,…]``; one grammar for the command line, task files and scripts.

    caa
    caa:unit_norm=false
    words:terms=["a, b","c"],path="my,file.csv",pi0=0.5

A value is the text up to the next comma. One that holds a comma or a ``+``, or is a list, is written as JSON. A ``+`` is kept for joining plugins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from harness.errors import OptionError
from harness.types import Json

FORM = "NAME or NAME:option=value,…"
_RESERVED = ":,+=/"
"""Characters that no plugin's name has."""
_OPTION = re.compile(r"[^\W\d][\w-]*")
_JSON_BEGINS = ('"', "[", "{")
_AS_JSON = 'write a value with a comma or + as JSON, e.g. terms=["a","b"] or path="a,b.csv"'


@dataclass(frozen=True)
class PluginRequest:
    """A plugin that is asked for, with the options that stand behind its name.

    Attributes:
        name: the plugin's.
        options: by name: text, to be read as the option's type, or what JSON holds (lists, objects).
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def parse_request(text: str, where: str = "a plugin") -> PluginRequest:
    """A plugin and its options from text such as ``caa:unit_norm=false``.

    Args:
        text: see the module.
        where: what is asked for, for messages, e.g. ``--steerer``.

    Raises:
        OptionError: the text does not follow the grammar; says where it does not.
    """
    name, colon, rest = text.partition(":")
    name = name.strip()
    if "+" in name:
        _refuse(text, where, "plugins cannot be joined by + yet", "ask for each by itself")
    if not name or any(letter in name for letter in _RESERVED) or name.split() != [name]:
        several = "," in name and all(part.strip() for part in name.split(","))
        _refuse(text, where, f"{name!r} is not a plugin's name", "repeat the option for each plugin" if several else "see `harness plugins`")
    if colon and not rest.strip():
        _refuse(text, where, "no option stands behind the colon", f"leave the colon out, or write {name}:option=value")
    found: dict[str, Any] = {}
    for option, value in _assignments(text, rest, where) if colon else ():
        if option in found:
            _refuse(text, where, f"option {option} is given twice", "leave one of the two out")
        found[option] = value
    return PluginRequest(name, found)


def _assignments(text: str, rest: str, where: str) -> Iterator[tuple[str, Any]]:
    """Yields option and value of each ``option=value``."""
    position = 0
    while True:
        equals, comma = rest.find("=", position), rest.find(",", position)
        if equals < 0 or 0 <= comma < equals:
            piece = rest[position : comma if comma >= 0 else None].strip()
            _refuse(text, where, f"{piece!r} is not option=value" if piece else "an option is missing beside a comma", _AS_JSON)
        option = rest[position:equals].strip()
        if not _OPTION.fullmatch(option):
            _refuse(text, where, f"{option!r} is not an option's name", _AS_JSON)
        value, position = _value(text, rest, equals + 1, where)
        yield option, value
        if position == len(rest):
            return
        position += 1  # the comma


def _value(text: str, rest: str, start: int, where: str) -> tuple[Any, int]:
    """A value that begins at ``start``, and where it ends: at a comma or at the end."""
    begin = start + len(rest[start:]) - len(rest[start:].lstrip())
    if not rest.startswith(_JSON_BEGINS, begin):
        comma = rest.find(",", start)
        end = len(rest) if comma < 0 else comma
        value = rest[start:end].strip()
        if "+" in value:
            _refuse(text, where, f"the value {value!r} has a +, which is kept for joining plugins", _AS_JSON)
        return value, end
    try:
        value, end = _DECODER.raw_decode(rest, begin)
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error) or type(error).__name__
        _refuse(text, where, f"the value that begins with {rest[begin : begin + 20]!r} is not JSON ({reason})", 'write e.g. ["a","b"] or "a,b"')
    end += len(rest[end:]) - len(rest[end:].lstrip())
    if end < len(rest) and rest[end] != ",":
        _refuse(text, where, f"{rest[end : end + 20]!r} stands behind a JSON value", "a comma goes before the next option")
    return value, end


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _refuse(text: str, where: str, why: str, hint: str) -> NoReturn:
    raise OptionError(f"{where} was given {text!r}: {why}", given=text, allowed=FORM, hint=hint)


def format_request(name: str, options: Mapping[str, Json]) -> str:
    """The text that :func:`parse_request` reads as ``name`` with ``options``, given as JSON values."""
    listed = ",".join(f"{option}={_as_text(value)}" for option, value in options.items())
    return f"{name}:{listed}" if listed else name


def _as_text(value: Json) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        bare = value and value == value.strip() and value.isprintable() and not value.startswith(_JSON_BEGINS) and not set(value) & set(",+")
        return value if bare else json.dumps(value, ensure_ascii=False)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("e+", "e") if isinstance(value, float) else text
