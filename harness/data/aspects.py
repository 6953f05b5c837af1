"""Texts with a target concept and others beside it, each in three further variants: does a detector see the concept, or what comes with it?

After the ARTS test sets for aspect-based sentiment analysis (Xing et al. 2020, arXiv 2009.07964): there, the sentiment of the target, or of the other
aspects, is reversed, or aspects are added; here, a concept is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError
from harness.files.inputs import Input
from harness.files.json_text import json_lines
from harness.types import Json, digest

VARIANTS = ("text", "target_removed", "others_removed", "added")
"""The base text, and what becomes of it: without the target, without the others, with further concepts. Only the second lacks the target."""
_HINT = f"give one JSON object a line: id, concept, {', '.join(VARIANTS)}; and others and further, lists of concept ids"


@dataclass(frozen=True)
class AspectText:
    """A base text with its variants.

    Attributes:
        id: unique in its file.
        concept: id of the target.
        variants: four different texts, in the order of :data:`VARIANTS`.
        others: ids of the concepts beside the target in the base text.
        further: ids of those that are added.
    """

    id: str
    concept: str
    variants: tuple[str, ...]
    others: tuple[str, ...] = ()
    further: tuple[str, ...] = ()


def open_aspects(path: Path) -> tuple[AspectText, ...]:
    """Return the texts of a JSON-lines file.

    Raises:
        DataError: it cannot be read, a row lacks something, names its target among the other concepts, has two equal variants, or an id comes twice.
    """
    found: dict[str, AspectText] = {}
    for number, row in json_lines(path, Input("set of aspect texts", DataError, _HINT)):
        one = _text(path, number, row)
        if one.id in found:
            raise DataError(f"{path}, line {number}: the id {one.id!r} comes twice", given=one.id, hint=_HINT)
        found[one.id] = one
    if not found:
        raise DataError(f"{path} holds no text", given=path, hint=_HINT)
    return tuple(found.values())


def aspects_digest(path: Path) -> str:
    """Return the identity of a file's texts, whatever it is called and however its lines are written."""
    return digest([[one.id, one.concept, list(one.variants), list(one.others), list(one.further)] for one in open_aspects(path)])


def _text(path: Path, number: int, row: dict[str, Json]) -> AspectText:
    values = [row.get(name) for name in ("id", "concept", *VARIANTS)]
    lists = [row.get(name, []) for name in ("others", "further")]
    blank = [name for name, value in zip(("id", "concept", *VARIANTS), values, strict=True) if not isinstance(value, str) or not value.strip()]
    if blank:
        lacking = blank[0]
        raise DataError(f"{path}, line {number}: {lacking!r} is no text", given=row.get(lacking), hint=_HINT)
    if not all(isinstance(part, list) and all(isinstance(name, str) for name in part) for part in lists):
        raise DataError(f"{path}, line {number}: others and further are no lists of concept ids", given=lists, hint=_HINT)
    identity, concept, *variants = map(str, values)
    others, further = (tuple(map(str, part)) for part in lists)
    if concept in (*others, *further):
        raise DataError(f"{path}, line {number}: the target {concept!r} is among the other concepts", given=concept, hint=_HINT)
    if len(set(variants)) < len(variants):
        raise DataError(f"{path}, line {number}: two variants of {identity!r} are one text", given=identity, hint=_HINT)
    return AspectText(identity, concept, tuple(variants), others, further)
