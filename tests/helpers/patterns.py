"""Counts the steps that a pattern takes on a text: a small backtracking matcher that walks over the pattern as :mod:`re` parses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

try:
    from re import _constants as ops
    from re import _parser as parser
except ImportError:  # Python 3.10
    import sre_constants as ops  # type: ignore[no-redef]
    import sre_parse as parser  # type: ignore[no-redef]


def steps(pattern: re.Pattern[str], text: str) -> tuple[int, list[tuple[int, int]]]:
    """Characters that are compared while all matches are searched for, and the matches, which are those of :func:`re.finditer`."""
    walker = _Walker(text)
    nodes = list(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE))
    found, at = [], 0
    while at <= len(text):
        end = next(walker.match(nodes, at, bool(pattern.flags & re.IGNORECASE)), None)
        if end is None:
            at += 1
            continue
        found.append((at, end))
        at = end if end > at else at + 1
    return walker.count, found


class _Walker:
    def __init__(self, text: str) -> None:
        self.text, self.count = text, 0

    def match(self, nodes: Sequence[tuple[Any, Any]], at: int, fold: bool) -> Iterator[int]:
        """The ends of the matches that begin at a place, in the order in which :mod:`re` tries them."""
        if not nodes:
            yield at
            return
        (op, value), rest = nodes[0], nodes[1:]
        for end in self._node(op, value, at, fold):
            yield from self.match(rest, end, fold)

    def _node(self, op: Any, value: Any, at: int, fold: bool) -> Iterator[int]:
        if op is ops.BRANCH:
            for branch in value[1]:
                yield from self.match(list(branch), at, fold)
        elif op is ops.SUBPATTERN:
            yield from self.match(list(value[3]), at, (fold or bool(value[1] & re.IGNORECASE)) and not value[2] & re.IGNORECASE)
        elif op in (ops.ASSERT, ops.ASSERT_NOT):
            begin = at - value[1].getwidth()[0] if value[0] < 0 else at
            holds = begin >= 0 and next(self.match(list(value[1]), begin, fold), None) is not None
            if holds is (op is ops.ASSERT):
                yield at
        elif op is ops.AT:
            if self._border(at) is (value is ops.AT_BOUNDARY):
                yield at
        elif op in (ops.MAX_REPEAT, ops.MIN_REPEAT):
            assert op is ops.MAX_REPEAT
            yield from self._repeat(value[0], value[1], list(value[2]), at, fold)
        elif self._takes(op, value, at, fold):
            yield at + 1

    def _repeat(self, least: int, most: int, nodes: list[Any], at: int, fold: bool) -> Iterator[int]:
        ends = [at]
        if len(nodes) == 1 and nodes[0][0] in (ops.IN, ops.LITERAL, ops.NOT_LITERAL, ops.ANY):
            while len(ends) <= most and self._takes(*nodes[0], ends[-1], fold):
                ends.append(ends[-1] + 1)
            yield from reversed(ends[least:])
            return
        if most > 0:
            for end in self.match(nodes, at, fold):
                if end > at:
                    yield from self._repeat(max(least - 1, 0), most - 1 if most is not ops.MAXREPEAT else most, nodes, end, fold)
        if least == 0:
            yield at

    def _takes(self, op: Any, value: Any, at: int, fold: bool) -> bool:
        self.count += 1
        if at >= len(self.text):
            return False
        forms = {self.text[at]} | ({self.text[at].lower(), self.text[at].upper()} if fold else set())
        return any(self._holds(op, value, ord(form)) for form in forms if len(form) == 1)

    def _holds(self, op: Any, value: Any, code: int) -> bool:
        if op is ops.IN:
            negated = value[0][0] is ops.NEGATE
            return any(self._holds(*item, code) for item in value[negated:]) is not negated
        if op is ops.LITERAL:
            return bool(code == value)
        if op is ops.NOT_LITERAL:
            return bool(code != value)
        if op is ops.RANGE:
            return bool(value[0] <= code <= value[1])
        if op is ops.ANY:
            return code != 10
        return _CATEGORIES[value](chr(code))

    def _border(self, at: int) -> bool:
        word = _CATEGORIES[ops.CATEGORY_WORD]
        return (at > 0 and word(self.text[at - 1])) != (at < len(self.text) and word(self.text[at]))


_CATEGORIES: dict[Any, Callable[[str], bool]] = {
    ops.CATEGORY_WORD: lambda c: c == "_" or c.isalnum(),
    ops.CATEGORY_NOT_WORD: lambda c: not (c == "_" or c.isalnum()),
    ops.CATEGORY_DIGIT: str.isdigit,
    ops.CATEGORY_SPACE: str.isspace,
}
