"""How a plugin is asked for: ``NAME[:option=value,…]``; one grammar for the command line, task files and scripts.

    caa
    caa:unit_norm=false
    words:terms=["a, b","c"],path="my,file.csv",pi0=0.5
    prompt+sae-clamp:unit=residual-norm

A value is the text up to the next comma. One that holds a comma or a ``+``, or is a list, is written as JSON. A ``+`` joins steerers, which then act
together (:mod:`harness.steering.composition`); the options behind a name are that steerer's.
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
JOINED_FORM = f"{FORM}, several of them with + between"
JOIN = "+"
"""Stands between the names of steerers that act together."""
_RESERVED = ":,+=/"
"""Characters that no plugin's name has."""
_OPTION = re.compile(r"[^\W\d][\w-]*")
_JSON_BEGINS = ('"', "[", "{")
_NUMBER_BEGINS = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE]")
"""A number of which a ``+`` has cut off the exponent."""
_AS_JSON = 'write a value with a comma or + as JSON, e.g. terms=["a","b"] or path="a,b.csv"'


@dataclass(frozen=True)
class PluginRequest:
    """A plugin that is asked for, with the options that stand behind its name.

    Attributes:
        name: the plugin's; of joined ones, their names with ``+`` between.
        options: by name: text, to be read as the option's type, or what JSON holds (lists, objects). Of joined plugins, each has its own.
        parts: the plugins that are joined, in order; none for one alone.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[PluginRequest, ...] = ()

    @property
    def each(self) -> tuple[PluginRequest, ...]:
        """The plugins that are joined, or this one alone."""
        return self.parts or (self,)

    @property
    def plain(self) -> bool:
        """Whether no option stands behind a name."""
        return not any(part.options for part in self.each)

    @classmethod
    def joined(cls, parts: tuple[PluginRequest, ...]) -> PluginRequest:
        """Several as one; one alone as it is."""
        return parts[0] if len(parts) == 1 else cls(JOIN.join(part.name for part in parts), parts=parts)


def parse_request(text: str, where: str = "a plugin") -> PluginRequest:
    """A plugin and its options from text such as ``caa:unit_norm=false``.

    Args:
        text: see the module.
        where: what is asked for, for messages, e.g. ``--labeler``.

    Raises:
        OptionError: the text does not follow the grammar, or joins plugins; says where it does not.
    """
    return _Reader(text, where, joins=False).requests()[0]


def parse_steerer(text: str, where: str = "a steerer") -> PluginRequest:
    """A steerer, or several that are joined, from text such as ``prompt+sae-clamp:unit=residual-norm``. Raises as :func:`parse_request` does."""
    return PluginRequest.joined(tuple(_Reader(text, where, joins=True).requests()))


class _Reader:
    """Reads one text from the left.

    Args:
        text: the text.
        where: what is asked for, for messages.
        joins: whether a ``+`` joins plugins; else it is refused.
    """

    def __init__(self, text: str, where: str, joins: bool) -> None:
        self.text, self.where, self.joins, self.place = text, where, joins, 0

    def requests(self) -> list[PluginRequest]:
        """Each plugin with its options."""
        found = [self._request()]
        while self.place < len(self.text):  # at a +
            self.place += 1
            found.append(self._request())
        return found

    def _request(self) -> PluginRequest:
        """The plugin that begins here; ends at a ``+`` or at the end."""
        end = self._next(":+")
        name, colon = self.text[self.place : end].strip(), self.text[end : end + 1] == ":"
        if not self.joins and self.text[end : end + 1] == JOIN:
            self._refuse("only steerers are joined by +", "ask for each by itself")
        if not name and JOIN in self.text[max(0, self.place - 1) : end + 1]:
            self._refuse("a plugin is missing beside a +", _AS_JSON)
        if not name or any(letter in name for letter in _RESERVED) or name.split() != [name]:
            several = "," in name and all(part.strip() for part in name.split(","))
            self._refuse(f"{name!r} is not a plugin's name", "repeat the option for each plugin" if several else "see `harness plugins`")
        self.place = end + 1 if colon else end
        if colon and self._next("+") == self.place + len(self._blank()):
            self._refuse("no option stands behind the colon", f"leave the colon out, or write {name}:option=value")
        found: dict[str, Any] = {}
        for option, value in self._assignments() if colon else ():
            if option in found:
                self._refuse(f"option {option} is given twice", "leave one of the two out")
            found[option] = value
        return PluginRequest(name, found)

    def _assignments(self) -> Iterator[tuple[str, Any]]:
        """Yields option and value of each ``option=value``."""
        while True:
            equals, stop = self._next("="), self._next(",+" if self.joins else ",")
            if stop < equals or equals == len(self.text):
                piece = self.text[self.place : stop].strip()
                beside = "+" if self.text[stop : stop + 1] == JOIN else "comma"
                self._refuse(f"{piece!r} is not option=value" if piece else f"an option is missing beside a {beside}", _AS_JSON)
            option = self.text[self.place : equals].strip()
            if not _OPTION.fullmatch(option):
                self._refuse(f"{option!r} is not an option's name", _AS_JSON)
            self.place = equals + 1
            yield option, self._value()
            if self.text[self.place : self.place + 1] != ",":
                return
            self.place += 1

    def _value(self) -> Any:
        """The value that begins here; ends at a comma, at a ``+``, or at the end."""
        begin = self.place + len(self._blank())
        if not self.text.startswith(_JSON_BEGINS, begin):
            end = self._next(",+" if self.joins else ",")
            value = self.text[self.place : end].strip()
            joined = self.text[end : end + 1] == JOIN
            if JOIN in value:
                self._refuse(f"the value {value!r} has a +, which joins steerers", _AS_JSON)
            if joined and _NUMBER_BEGINS.fullmatch(value) and self.text[end + 1 : end + 2].isdigit():
                self._refuse(f"the number that begins with {value!r} has a +, which joins steerers", "leave the + out: 1e5")
            if joined and not value:
                self._refuse("a value is missing before a +", _AS_JSON)
            self.place = end
            return value
        try:
            value, end = _DECODER.raw_decode(self.text, begin)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error) or type(error).__name__
            beginning = self.text[begin : begin + 20]
            self._refuse(f"the value that begins with {beginning!r} is not JSON ({reason})", 'write e.g. ["a","b"] or "a,b"')
        self.place = end
        self.place += len(self._blank())
        if self.text[self.place : self.place + 1] not in ("", ",", JOIN if self.joins else ","):
            stands = self.text[self.place : self.place + 20]
            self._refuse(f"{stands!r} stands behind a JSON value", "a comma goes before the next option")
        return value

    def _next(self, letters: str) -> int:
        """Where the next of some letters stands; the text's end where there is none."""
        return min((place for letter in letters if (place := self.text.find(letter, self.place)) >= 0), default=len(self.text))

    def _blank(self) -> str:
        """The blanks that stand here."""
        rest = self.text[self.place :]
        return rest[: len(rest) - len(rest.lstrip())]

    def _refuse(self, why: str, hint: str) -> NoReturn:
        message = f"{self.where} was given {self.text!r}: {why}"
        raise OptionError(message, given=self.text, allowed=JOINED_FORM if self.joins else FORM, hint=hint)


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


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
