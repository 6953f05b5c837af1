"""Label files: one row per (concept, feature) pair, with the SAE that the features belong to; JSONL, CSV or Parquet.

Every row names model, hook, width and digest of its dictionary, so a file that is cut, joined or filtered still names the SAE that it labels.
A table that was not made by `harness label` needs only the columns ``concept`` and ``feature``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.data.scalars import text_of
from harness.errors import DataError
from harness.files.rows import read_rows
from harness.types import Abstention, Json, Labeling

IDENTITY = ("model_name", "hook_name", "layer", "d_in", "d_sae", "digest")
"""What identifies a row's dictionary, in columns with the prefix ``sae_``: named as by :func:`harness.sae.identity.identity`."""
_COUNTS = ("score", "tp", "fp", "fn", "tn", "support", "precision", "recall", "f1", "calibrated_f1", "auroc_frequency", "auroc_maximum")
_ABOUT = ("density", "maximum", "output_score", "output_rank", "confidence_change")
_MAKE = "make one with `harness label -o`"
_INTEGERS = {"feature", "place", "sae_layer", "sae_d_in", "sae_d_sae"}


@dataclass(frozen=True)
class Label:
    """One row: a feature of a concept, or an abstention.

    Attributes:
        concept: the concept's id.
        text: what a judge and a prompt see; the id where the file has none.
        label: the corpus' label, if any.
        feature: index in the dictionary; None for an abstention.
        score: the labeler's own; None without one.
        held_out: the same score on the texts that chose nothing, if the file has it.
        dictionary: the task's name of the dictionary.
        reason: why there is no feature.
    """

    concept: str
    text: str
    label: str | None
    feature: int | None
    score: float | None
    held_out: float | None
    dictionary: str
    reason: str


@dataclass(frozen=True)
class LabelFile:
    """The rows of a label file, and the identity of their dictionary (empty where they do not name it)."""

    path: Path
    labels: tuple[Label, ...]
    identity: Mapping[str, Json]


def label_rows(
    answers: Sequence[Labeling | Abstention], identities: Mapping[str, Mapping[str, Json]], made: Mapping[str, Json]
) -> list[dict[str, Json]]:
    """Return the rows of a label file: one per feature of each labeling, in order, and one per abstention.

    Args:
        answers: a labeler's.
        identities: :func:`harness.sae.identity.identity` of each dictionary, by name.
        made: how they were made (labeler, options, task, corpus, dtype, …): one column each with the prefix ``made_``, the same in every row.
    """
    how = {f"made_{name}": value for name, value in made.items()}
    rows: list[dict[str, Json]] = []
    for group, answer in enumerate(answers):
        concept = answer.concept
        first: dict[str, Json] = {"concept": concept.id, "text": concept.text, "label": concept.label, "group": group}
        if isinstance(answer, Abstention):
            rows.append({**first, **_columns({}, {}, {}), "abstained": answer.reason, **how})
            continue
        counted, about = (answer.evidence.get(name) or [{}] * len(answer.features) for name in ("features", "about"))
        rest = {name: value for name, value in answer.evidence.items() if name not in ("features", "about")}
        for place, feature in enumerate(answer.features):
            own = {"dictionary": feature.dictionary, "feature": feature.index, "place": place, "score": _own_score(answer, counted, place)}
            columns = _columns(_at(counted, place), _at(about, place), identities.get(feature.dictionary, {}))
            rows.append({**first, **columns, **own, "evidence": rest or None, "abstained": None, **how})
    return rows


def _own_score(answer: Labeling, counted: Any, place: int) -> float | None:
    """Return the score of one feature of an answer: its own where the labeler gives it, else that of the answer."""
    if place == 0:
        return answer.score
    row = _at(counted, place)
    counted_itself = answer.score is not None and "counted_by" not in row
    own = row.get("similarity", (row.get("chosen_on") or {}).get("score") if counted_itself else None)
    return answer.score if own is None else float(own)


def _columns(counted: Mapping[str, Json], about: Mapping[str, Json], identity: Mapping[str, Json]) -> dict[str, Json]:
    """Return all further columns, in the same order for every row, null where there is no value."""
    row: dict[str, Json] = dict.fromkeys(("dictionary", "feature", "place", "score"))
    row.update((name, counted.get(name)) for name in ("measure", "probe", "threshold", "pi0"))
    for part, prefix in (("chosen_on", "chosen_on_"), ("held_out", "held_out_")):
        row.update((f"{prefix}{name}", (counted.get(part) or {}).get(name)) for name in _COUNTS)
    row.update((name, about.get(name, counted.get(name))) for name in _ABOUT)
    row["promotes"], row["snippets"] = about.get("promotes"), about.get("snippets")
    row.update((f"sae_{name}", identity.get(name)) for name in IDENTITY)
    row["evidence"] = None
    return row


def _at(rows: Any, place: int) -> Mapping[str, Json]:
    """Return one row of a labeler's evidence; empty where the evidence is not a list of objects, since labelers may give any."""
    row = rows[place] if isinstance(rows, Sequence) and place < len(rows) else {}
    return row if isinstance(row, Mapping) else {}


# ------------------------------------------------------------------------------------------------------------------------- reading


def read_labels(path: str | Path) -> LabelFile:
    """Read a label file: one of ours, or any table with the columns ``concept`` and ``feature``.

    Raises:
        DataError: the file does not exist or has another ending, a column is missing, a row has no concept or a feature that is not an index
            (the message names the row), or the rows are of several SAEs.
    """
    path = Path(os.path.expanduser(path))
    labels: list[Label] = []
    identities: dict[str, dict[str, Json]] = {}
    for number, row in enumerate(_rows(path), 1):
        if number == 1 and not {"concept", "feature"} <= set(row):
            message = f"{path} is not a label file: it has the columns {', '.join(str(name)[:40] for name in list(row)[:20]) or 'none'}"
            raise DataError(message, given=path, allowed="tables with the columns concept and feature", hint=_MAKE)
        labels.append(_label(path, number, row))
        identity = {name: row[f"sae_{name}"] for name in IDENTITY if row.get(f"sae_{name}") not in (None, "")}
        if identity:
            identities.setdefault(json.dumps(identity, sort_keys=True), identity)
    if not labels:
        raise DataError(f"{path} holds no label", given=path, hint=f"{_MAKE}, or give a table with the columns concept and feature")
    if len(identities) > 1:
        shown = [[i.get(name, "?") for name in ("model_name", "hook_name", "d_sae", "digest")] for i in identities.values()]
        names = " and ".join(f"{model} {hook} of {width} features ({digest})" for model, hook, width, digest in shown)
        raise DataError(f"{path} holds labels of several SAEs ({names})", given=path, hint="split it into one file per SAE")
    return LabelFile(path, tuple(labels), next(iter(identities.values()), {}))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not os.path.exists(path):
        hint = f"make one with `harness label --labeler … -o {path.name or 'labels.parquet'}`"
        raise DataError(f"there is no label file at {path}", given=path, hint=hint)
    for row in read_rows(path, "label file"):
        yield {name: _typed(name, value) for name, value in row.items()} if path.suffix.lower() == ".csv" else row


def _typed(name: str, value: Any) -> Any:
    """Read a field of a CSV file: an empty one is null, and the columns of whole numbers are numbers."""
    if not isinstance(value, str) or value == "":
        return None
    if name in _INTEGERS:
        try:
            number = float(value)  # pandas writes whole numbers as 7.0 where a column has an empty field
        except ValueError:
            return value
        return int(number) if number.is_integer() else value
    return value


def _label(path: Path, number: int, row: Mapping[str, Any]) -> Label:
    concept, feature = row.get("concept"), row.get("feature")
    names = {name: _name(path, number, row, name) for name in ("concept", "text", "label", "dictionary", "abstained")}
    if names["concept"] is None:
        raise DataError(f"{path}, row {number}: concept is {concept!r}", given=concept, allowed="a name", hint="give every row its concept")
    if isinstance(feature, float) and feature.is_integer():
        feature = int(feature)
    if feature is not None and (isinstance(feature, bool) or not isinstance(feature, int) or feature < 0):
        allowed = "an index from 0 on, or nothing for an abstention"
        raise DataError(f"{path}, row {number}: feature is {feature!r}", given=feature, allowed=allowed, hint="mend the row")
    return Label(
        concept=names["concept"],
        text=names["text"] or names["concept"],
        label=names["label"],
        feature=feature,
        score=_number(path, number, row, "score"),
        held_out=_number(path, number, row, "held_out_score"),
        dictionary=names["dictionary"] or "",
        reason=names["abstained"] or "" if feature is None else "",
    )


def _name(path: Path, number: int, row: Mapping[str, Any], name: str) -> str | None:
    """Return a field that holds a text, as it is, or a number as one; None where it holds nothing."""
    try:
        return text_of(row.get(name))
    except ValueError as error:
        raise DataError(f"{path}, row {number}: {name} is {error}", given=row.get(name), allowed="a text", hint="mend the row") from None


def _number(path: Path, number: int, row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        message = f"{path}, row {number}: {name} is {value!r}"
        raise DataError(message, given=value, allowed="a number, or nothing", hint="mend the row")
    return found
