r"""Labels as the formats have them, read in one way: lists, numbers, and the texts that programs write in the place of a list.

A field of labels may hold

- a text: one label; or several, where it is a list as JSON (``["a", "b"]``), Python (``['a', 'b']``, ``('a',)``, ``{'a', 'b'}``) or NumPy
  (``['a' 'b']``) write it, or tags as Stack Exchange's queries and dumps do (``<a><b>``, ``|a|b|``). What is in such a list is in quotes, or a
  number: ``[unknown]``, ``C++ (language)`` and ``a, b`` are one label each. Bytes as Python writes them (``b'a'``) are their text;
- a list of texts, numbers, or objects that have a name (``{"id": 3, "name": "a"}``);
- a number, ``true`` or ``false``: the label is called ``3``, ``True``, ``False``. Where the file names its classes, a number is the class' name.

Nothing is no label: null, NaN, an empty text, ``nan``. A whole number has no fraction: 1.0 is ``1``.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from harness.data.scalars import MISSING, scalar_text
from harness.files.json_text import JsonError, parse_json
from harness.types import Json

NAMES = ("name", "label", "title", "text", "value", "id")
"""Where an object stands for a label, the first of these fields that it has is the label."""

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_WORD = r"None|null|nan|NaN|NaT|<NA>|True|False|true|false"
_ITEM = re.compile(
    rf"(?:(?:np|numpy)\.\w+\(\s*)?(?:(?P<prefix>[uUbB])?(?P<quoted>{_QUOTED})|(?P<number>{_NUMBER})|(?P<word>{_WORD}))(?P<end>\s*\))?", re.DOTALL
)
_BYTES = re.compile(rf"b({_QUOTED})", re.DOTALL)
_NEXT = re.compile(r"\s*,\s*|\s+")
_CALL = re.compile(r"(?:array|set|frozenset|tuple|list|Index)\((?P<inside>.*?)(?:,\s*dtype=[^()]*)?\)", re.DOTALL)
_PAIRS = {"[": "]", "(": ")", "{": "}"}
_TAGS, _TAG = re.compile(r"(?:<[^<>\s]+>)+"), re.compile(r"<([^<>\s]+)>")
_BARS = re.compile(r"\|(?:[^|]+\|)+")
_BETWEEN_BRACKETS = re.compile(r"([>\])}])\s*([<\[({])")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}
_WHOLE_FLOAT = re.compile(r"-?\d+\.0+")


class NotLabels(ValueError):
    """A value that is neither a label nor a list of labels; its text, where it has one, says what it is."""


def labels_of(value: Any, separator: str | None = None, classes: Sequence[str] | None = None, untyped: bool = False) -> frozenset[str]:
    """Return the labels that a field holds; see this module's text.

    Args:
        value: a text, a number, a list, an array, an object with a name, or nothing.
        separator: splits a text that holds several; such a text is not looked at as a list, unless commas separate it.
        classes: names of class numbers; a negative one (-1) is no label.
        untyped: all values are texts (CSV), so that ``1.0`` may be a number.

    Raises:
        NotLabels: something else, or a class number without a name.
    """
    if isinstance(value, str):
        return _of_text(value.strip(), separator, untyped)
    if isinstance(value, Mapping):
        return frozenset(_of_object(value))
    if hasattr(value, "tolist"):  # an array, or a number, of NumPy
        value = value.tolist()
    if isinstance(value, Collection) and not isinstance(value, (str, bytes)):
        return frozenset(label for item in value for label in _of_item(item, classes))
    return frozenset(_of_item(value, classes))


def plain_labels(value: Any, json_lists: bool) -> frozenset[str] | None:
    """Return the labels of a text as one label, of a JSON list in it (``json_lists``), of a list of texts or of a whole number; else None.

    This is how labels were read before other notations were. A corpus in which every field is read alike both ways keeps its digest.
    """
    if value is None:
        return frozenset()
    if json_lists and isinstance(value, str) and value.startswith("["):
        try:
            found = parse_json(value, surrogates="keep")
        except JsonError:
            found = None
        value = found if isinstance(found, list) and all(isinstance(item, str | int | float) for item in found) else value
    items = value if isinstance(value, list | tuple) else [value]
    if not all(isinstance(item, str | int | float) for item in items):
        return None
    return frozenset(name for item in items if (name := str(item).strip()))


def listed(text: str) -> list[Any] | None:
    """Return what a text lists in one of the notations of this module: texts, numbers, None; or None where it is no list."""
    if _TAGS.fullmatch(text):
        return _TAG.findall(text)
    if _BARS.fullmatch(text):
        return text[1:-1].split("|")
    if (called := _CALL.fullmatch(text)) is not None:
        inside = called["inside"].strip()
        return [] if text in ("set()", "frozenset()") else _quoted_list(inside) if inside else None
    if text[:1] not in _PAIRS or not text.endswith(_PAIRS[text[0]]):
        return None
    if text[0] != "(":
        try:
            found = parse_json(text, surrogates="keep")
        except JsonError:
            pass
        else:
            found = [found] if isinstance(found, dict) else found
            return None if any(isinstance(item, list) for item in found) else found
    return _quoted_list(text)


# ------------------------------------------------------------------------------------------------------------------ inside


def _of_text(text: str, separator: str | None, untyped: bool) -> frozenset[str]:
    if text in MISSING:
        return frozenset()
    if separator is not None and separator.strip() not in ("", ","):
        if (brackets := _BETWEEN_BRACKETS.fullmatch(separator)) is not None:
            text = text.removeprefix(brackets[2]).removesuffix(brackets[1])
        return _named(text.split(separator))
    found = listed(text)
    if found is not None:
        try:
            return frozenset(label for item in found for label in _of_item(item, None))
        except NotLabels:
            pass  # a list of something else is a text
    if separator is not None:
        return _named(text.split(separator))
    if untyped and _WHOLE_FLOAT.fullmatch(text):
        text = text.partition(".")[0]
    if (written := _BYTES.fullmatch(text)) is not None:
        text = _unquoted(written[1], True).strip()
    return frozenset([text] if text else [])


def _of_item(item: Any, classes: Sequence[str] | None) -> list[str]:
    """Return the label of a single value, or of an item of a list, as a list of one or none."""
    if isinstance(item, str):
        return [item.strip()] if item.strip() else []
    if isinstance(item, Mapping):
        return _of_object(item)
    try:
        text = scalar_text(item)
    except (ValueError, UnicodeDecodeError):
        raise NotLabels from None
    if classes is not None and text is not None and not isinstance(item, bool) and text.lstrip("-").isdigit():
        number = int(text)
        if number >= len(classes):
            raise NotLabels(f"the class number {number}, where the metadata names {len(classes)} classes")
        return [classes[number]] if number >= 0 else []
    return [] if text is None else [text]


def _of_object(value: Mapping[Any, Any]) -> list[str]:
    name = next((name for name in NAMES if name in value), None)
    if name is None or isinstance(value[name], Mapping | list | tuple):
        raise NotLabels
    return _of_item(value[name], None)


def _named(parts: list[str]) -> frozenset[str]:
    return frozenset(name for part in parts if (name := part.strip()))


def _quoted_list(text: str) -> list[Any] | None:
    """Return the items of a list as Python or NumPy write it, or None for any other text; of a ``(`` or ``{`` that it is no name in brackets."""
    closing = _PAIRS.get(text[0])
    if closing is None or not text.endswith(closing):
        return None
    place, end = 1, len(text) - 1
    items: list[Any] = []
    separators = quoted = 0
    place += len(text[place:end]) - len(text[place:end].lstrip())
    while place < end:
        found = _ITEM.match(text, place, end)
        if found is None or ("(" in found[0].split("'")[0].split('"')[0]) != (found["end"] is not None):
            return None
        items.append(_item(found))
        quoted += found["quoted"] is not None
        between = _NEXT.match(text, found.end(), end)
        place = found.end() if between is None else between.end()
        separators += between is not None and "," in between[0]
        if between is None and place < end:
            return None
    if text[0] != "[" and not (quoted or separators):
        return None
    return items


def _item(found: re.Match[str]) -> Any:
    if found["quoted"] is not None:
        return _unquoted(found["quoted"], found["prefix"] in ("b", "B"))
    if found["number"] is not None:
        number = float(found["number"])
        return int(found["number"]) if re.fullmatch(r"[-+]?\d+", found["number"]) else number
    return {"True": True, "true": True, "False": False, "false": False}.get(found["word"])


def _unquoted(text: str, is_bytes: bool) -> str:
    """Return the text of a literal of Python; bytes as UTF-8, or where they are none as Latin-1."""
    found = _ESCAPE.sub(_unescaped, text[1:-1])
    if is_bytes and not found.isascii():
        with contextlib.suppress(UnicodeError):
            return found.encode("latin-1").decode()
    return found


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if len(code) > 1:
        number = int(code[1:], 16)
        return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else found[0]
    return _ESCAPED.get(code, code if code in "'\"\\" else found[0])


# ------------------------------------------------------------------------------------------------------------------ warnings

_DOUBTFUL = frozenset({"None", "null", "NULL", "NA", "N/A", "n/a", "#N/A", "undefined", "NAN", "Null"})
_SHORT = 3
"""Words."""
_HASHTAGS = re.compile(r"#[^\s#]+(?:[\s,;]*#[^\s#]+)+")
_SEPARATE = "name what separates them as label_separator, or give lists"


def label_warnings(names: Sequence[str]) -> list[str]:
    """Return a line for each kind of label that may not be one label: lists in other notations, joined labels, words for nothing.

    Joined by a bar, a tab or a line end, a label is doubted in any case; by a semicolon, where its parts are short, too. A comma may well be
    part of a name: with one, a label is doubted where half of its parts stand in other labels. The signs of Chinese and Japanese are treated like the
    semicolon.

    Args:
        names: all labels of a corpus.
    """
    doubts = (
        ("look like lists", [name for name in names if _like_a_list(name)], _SEPARATE),
        *((f"are joined by {sign!r}", _joined(names, sign), _SEPARATE) for sign in "|;,；，、\t\n"),
        ("are several hashtags", [name for name in names if _HASHTAGS.fullmatch(name)], _SEPARATE),
        ("may stand for nothing", [name for name in names if name in _DOUBTFUL], "leave such fields empty"),
        ("are whole numbers with a fraction", [name for name in names if _WHOLE_FLOAT.fullmatch(name)], "give numbers, or lists of texts"),
    )
    return [
        f"{len(found):,} of {len(names):,} labels {what} (the first: {found[0][:60]!r}); if that is not meant, {advice}"
        for what, found, advice in doubts
        if found
    ]


def _like_a_list(name: str) -> bool:
    """Return whether brackets enclose a label, and something in it separates."""
    closing = {**_PAIRS, "<": ">"}.get(name[0])
    if closing is None or not name.endswith(closing) or len(name) < 3:
        return False
    if name[0] == "<":
        return "><" in name or "," in name
    depth = 0
    for place, sign in enumerate(name):
        depth += (sign == name[0]) - (sign == closing)
        if depth == 0 and place < len(name) - 1:
            return False  # the first bracket closes before the end: (a) and (b)
    return "," in name or "'" in name or '"' in name


def _joined(names: Sequence[str], sign: str) -> list[str]:
    parts = {name: [part.strip() for part in name.split(sign)] for name in names if sign in name}
    parts = {name: own for name, own in parts.items() if len([part for part in own if part]) > 1 and not _like_a_list(name)}
    if sign not in ",;；，、" or not parts:
        return list(parts)
    counts = Counter(part for name in names for part in set(parts.get(name, [name])))
    return [
        name
        for name, own in parts.items()
        if 2 * sum(counts[part] > 1 for part in own) >= len(own) or (sign in ";；，、" and all(len(part.split()) <= _SHORT for part in own))
    ]


def class_names(feature: Json) -> list[str] | None:
    """Return the class names that a column's description in the metadata of the ``datasets`` library holds, for numbers or lists of them."""
    for _ in range(8):
        if isinstance(feature, list) and len(feature) == 1:
            feature = feature[0]
        if not isinstance(feature, dict):
            return None
        names = feature.get("names")
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            return names
        if isinstance(names, dict) and names and all(isinstance(name, str) for name in names.values()):  # as YAML in a README has them
            return [names[key] for key in sorted(names, key=lambda key: int(key) if str(key).isdigit() else 0)]
        feature = feature.get("feature", feature.get("list", feature.get("sequence")))
    return None
