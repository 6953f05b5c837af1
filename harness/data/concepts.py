"""A task's list of concepts: JSON lines ``{"id", "text", "label", "split", "keywords", "hard_negatives", "feature"}``, or AxBench's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.data.axbench_concepts import axbench_concepts, concept_files, concepts_of_tables, is_metadata, metadata_row
from harness.data.corpora.axbench import ConceptRow
from harness.data.scalars import text_of
from harness.errors import DataError, OptionError, UnknownNameError
from harness.files.inputs import IN_MEMORY, Input, read_bytes
from harness.files.json_text import json_lines, parse_json
from harness.types import Concept, digest

_KEYWORD = re.compile(r"^\w+\*?$")
_FORM = "give JSON lines with id and text"
_FILE = Input("list of concepts", DataError, _FORM, IN_MEMORY)
_ROW = 'write {"id": …, "text": …, "label": …}'


def open_concepts(path: str | Path, split: str | None = None) -> list[Concept]:
    """Read the concepts of a task, in the order of the file.

    Args:
        path: JSON lines; ``id`` and ``text`` are needed. ``label`` (of the corpus), ``split``, ``keywords`` (a list), ``hard_negatives`` (a
            label of the corpus) and ``feature`` (as Neuronpedia names it) may be left out. Or AxBench's ``metadata.jsonl``, a table of a concept
            folder (Parquet), or the folder: its concepts have their numbers as ids, their labels, hard negatives and features.
        split: keep the rows of this split only; a file without splits is used in full.

    Raises:
        DataError: a missing, empty or malformed file, or two rows with one id.
        UnknownNameError: no row has this split.
    """
    path = Path(path)
    files = concept_files(path)
    if path.is_dir() and not files:
        raise DataError(f"the folder {path} has no list of concepts", given=path, allowed="a file, or AxBench's concept folder", hint=_FORM)
    if files[0].suffix.lower() == ".parquet" and files[0].is_file():
        return concepts_of_tables(files)
    path = files[0]
    found: dict[str, tuple[Concept, str | None]] = {}
    theirs: list[ConceptRow] = []
    for number, row in json_lines(path, _FILE, constants=True):
        try:
            if is_metadata(row):
                theirs.append(metadata_row(row))
                continue
            concept, row_split = _concept(row), text_of(row.get("split"))
        except (ValueError, KeyError, TypeError) as error:
            given = json.dumps(row, ensure_ascii=False)
            raise DataError(f"line {number} of {path} is not a concept ({error})", given=given, hint=_ROW) from error
        if concept.id in found:
            raise DataError(f"{path} has two concepts with the id {concept.id!r}", given=concept.id, hint="remove one")
        found[concept.id] = (concept, row_split)
    for concept in axbench_concepts(theirs):
        found[concept.id] = (concept, None)
    if len(found) < len(theirs):
        raise DataError(f"{path} has two concepts with one concept_id", given=path, hint="remove one")
    if not found:
        raise DataError(f"{path} holds no concepts", given=path, hint=_FORM)
    unsplit = split is None or all(row_split is None for _, row_split in found.values())
    chosen = [concept for concept, row_split in found.values() if unsplit or row_split == split]
    if not chosen:
        raise UnknownNameError("split", str(split), {row_split for _, row_split in found.values() if row_split}, f"(in {path})")
    return chosen


def choose_concepts(concepts: Sequence[Concept], named: Sequence[str], where: str = "--concepts") -> list[Concept]:
    """The concepts that are named, in the order of ``concepts``; all where nothing is named.

    Args:
        concepts: to choose from.
        named: each an id, a text or a label of the concepts, or several of these with commas between. Letters' case does not matter where only
            one concept is meant.
        where: what named them, for messages.

    Raises:
        UnknownNameError: a name of no concept; names the nearest one.
        OptionError: an empty name.
    """
    if not named:
        return list(concepts)
    ids = {concept.id for text in named for name in _names(concepts, text, where) for concept in _called(concepts, name, where)}
    return [concept for concept in concepts if concept.id in ids]


def _names(concepts: Sequence[Concept], text: str, where: str) -> list[str]:
    """The text as one name where a concept is called so, else the names between its commas."""
    if any(text.strip() in (concept.id, concept.text, concept.label) for concept in concepts):
        return [text.strip()]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise OptionError(f"{where} {text!r} has an empty name", given=text, allowed="names of concepts with commas between")
    return names


def _called(concepts: Sequence[Concept], name: str, where: str) -> list[Concept]:
    """The concepts of a name: that with the id, else those with the text or label."""
    wanted = name.casefold()
    for same in (
        [concept for concept in concepts if concept.id == name],
        [concept for concept in concepts if name in (concept.text, concept.label)],
        [concept for concept in concepts if wanted in (concept.id.casefold(), concept.text.casefold(), (concept.label or "").casefold())],
    ):
        if same:
            return same
    known = dict.fromkeys(part for concept in concepts for part in (concept.id, concept.text, concept.label) if part is not None)
    raise UnknownNameError(f"concept in {where}:", name, known)


def concepts_digest(path: Path) -> str:
    """Return the SHA-256 (first 16 hex digits) of a list of concepts, without the fields that :class:`Concept` keeps for detection only.

    A file without such fields has its :func:`~harness.files.hashing.path_digest`, so results of steering stay with their task when the task
    gains them. AxBench's tables have the digest of what they are read as.
    """
    files = concept_files(path)
    if not files or files[0].suffix.lower() == ".parquet":
        return digest([[concept.id, concept.text, concept.label, concept.feature] for concept in (open_concepts(path) if files else ())])
    path = files[0]
    lines = read_bytes(path, _FILE).split(b"\n")
    content = b"\n".join(_without(line, ("keywords", "hard_negatives")) for line in lines)
    return hashlib.sha256(f"{path.name}\x1f{len(content)}\x1f".encode() + content).hexdigest()[:16]


def _concept(row: dict[str, Any]) -> Concept:
    keywords = row.get("keywords", [])
    if not isinstance(keywords, list) or not all(isinstance(word, str) and _KEYWORD.match(word) and word == word.lower() for word in keywords):
        raise ValueError("keywords must be a list of lower-case words, each with one * at its end at most")
    identity, text, label, hard = (text_of(row.get(name)) for name in ("id", "text", "label", "hard_negatives"))
    if identity is None or text is None:
        raise ValueError("id and text are needed")
    feature = text_of(row.get("feature"))
    return Concept(identity, text, label and label.strip(), keywords=tuple(keywords), hard_negatives=hard and hard.strip(), feature=feature)


def _without(line: bytes, names: tuple[str, ...]) -> bytes:
    """Return a line of JSON without the fields ``names``, and a line that has none of them unchanged."""
    content = line.removesuffix(b"\r")
    try:
        row = parse_json(content)
        if not set(names) & set(row):
            return line
    except (ValueError, TypeError):  # reading the concepts says what is wrong with it
        return line
    kept = {name: value for name, value in row.items() if name not in names}
    return json.dumps(kept, ensure_ascii=False).encode() + line[len(content) :]
