"""What a detection run keeps: scores, and which texts have a concept, packed so that millions of them fit into a run's file as JSON."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.data.split import TextSplit
from harness.errors import StoreError
from harness.types import Json

THRESHOLD, REPORT, NO_KEYWORDS = "threshold", "report", "no_keywords"
"""The sets of texts that scores are kept of; the last holds only the reported texts that change."""

_MAKE_AGAIN = "remove the run and make it again"

Mask = NDArray[np.bool_]


def pack(values: ArrayLike) -> str:
    """Return numbers ``[n]`` as float32, little-endian, zlib, base64.

    Raises:
        ValueError: more than one dimension, or a number that is not finite as float32.
    """
    with np.errstate(over="ignore"):
        array = np.asarray(values).astype("<f4")
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(f"only a list of finite numbers can be packed, got shape {array.shape} with {int((~np.isfinite(array)).sum())} others")
    return _text(array.tobytes())


def unpack(packed: str) -> NDArray[np.float32]:
    """Return what :func:`pack` packed. Raises StoreError where it is damaged."""
    content = _bytes(packed)
    if len(content) % 4:
        message = f"stored scores are damaged: {len(content)} bytes are not whole float32 numbers"
        raise StoreError(message, given=len(content), allowed="a multiple of 4 bytes", hint=_MAKE_AGAIN)
    return np.frombuffer(content, dtype="<f4").astype(np.float32)


def pack_mask(mask: ArrayLike) -> Json:
    """Return which of ``n`` texts: their number, and a bit each, zlib, base64."""
    array = np.asarray(mask, dtype=bool)
    return [len(array), _text(np.packbits(array).tobytes())]


def unpack_mask(packed: Json) -> Mask:
    """Return what :func:`pack_mask` packed. Raises StoreError where it is damaged."""
    try:
        n, content = packed
        return np.unpackbits(np.frombuffer(_bytes(content), dtype=np.uint8), count=n).astype(bool)
    except (TypeError, ValueError) as error:
        raise StoreError(f"a stored set of texts is damaged ({error})", given=packed, hint=_MAKE_AGAIN) from error


def texts_record(split: TextSplit, threshold: NDArray[np.int64], report: NDArray[np.int64]) -> dict[str, Json]:
    """Return what is kept once per run: the split's sizes and digest, and the corpus places of the texts that are scored."""
    places = {part: _text(where.astype("<i8").tobytes()) for part, where in ((THRESHOLD, threshold), (REPORT, report))}
    return {"version": 1, "split": split.as_json(), **places}


def places_of(record: Mapping[str, Json], part: str) -> NDArray[np.int64]:
    """Return the corpus places of one part's texts from a run's record. Raises StoreError where it is damaged."""
    content = _bytes(record.get(part))
    if len(content) % 8:
        raise StoreError("stored places of texts are damaged", given=len(content), allowed="a multiple of 8 bytes", hint=_MAKE_AGAIN)
    return np.frombuffer(content, dtype="<i8").astype(np.int64)


@dataclass(frozen=True, eq=False)
class Truth:
    """Which texts have a concept: all that scoring needs beside the scores.

    Attributes:
        threshold, report: bool ``[texts]``: the text has the concept.
        threshold_hard, report_hard: bool ``[texts]``: the text is a hard negative, which counts apart.
        changed: bool ``[report]``: the text has a score of its own without the concept's keywords; None for a concept without keywords.
        emptied: bool ``[report]``: nothing is left of the text without keywords, so it takes no part there.
        threshold_plain, plain: bool ``[texts]``: the text has no label at all; None where there is no such text, and in a run of an older harness.
        others: bool ``[report]``: the text has another concept, not this one, and is no hard negative; None as before.
    """

    threshold: Mask
    report: Mask
    threshold_hard: Mask
    report_hard: Mask
    changed: Mask | None
    emptied: Mask
    threshold_plain: Mask | None = None
    plain: Mask | None = None
    others: Mask | None = None

    def as_json(self) -> dict[str, Json]:
        """As it is kept in the item of the concept."""
        masks: dict[str, Any] = {
            "threshold": self.threshold, "report": self.report, "threshold_hard": self.threshold_hard, "report_hard": self.report_hard,
            "changed": self.changed, "emptied": self.emptied, "threshold_plain": self.threshold_plain, "plain": self.plain, "others": self.others,
        }  # fmt: skip
        return {name: pack_mask(mask) for name, mask in masks.items() if mask is not None and (name in (THRESHOLD, REPORT, "changed") or mask.any())}

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Truth:
        """Return what :meth:`as_json` made. Raises StoreError where it is damaged."""
        threshold, report = (unpack_mask(value.get(name)) for name in (THRESHOLD, REPORT))
        sizes = {"threshold_hard": len(threshold), "report_hard": len(report), "emptied": len(report)}
        rest = {name: unpack_mask(value[name]) if name in value else np.zeros(size, dtype=bool) for name, size in sizes.items()}
        later = {name: unpack_mask(value[name]) if name in value else None for name in ("changed", "threshold_plain", "plain", "others")}
        return cls(threshold, report, rest["threshold_hard"], rest["report_hard"], later.pop("changed"), rest["emptied"], **later)


def _text(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode("ascii")


def _bytes(packed: Json) -> bytes:
    try:
        return zlib.decompress(base64.b64decode(packed, validate=True))
    except (TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise StoreError(f"stored scores are damaged ({error})", given=packed, hint=_MAKE_AGAIN) from error
