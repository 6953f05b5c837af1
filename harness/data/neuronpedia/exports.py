"""Neuronpedia exports on disk: replies of its API, its bulk batches, maps of labels, SAEDashboard exports, and folders of these.

Caches of other people hold error messages, pages and placeholders where a label should be: :func:`why_unusable` knows them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from harness.data.corpora.reading import BOM, Skipped
from harness.data.neuronpedia.explanations import Explanation, Explanations, SourceId, best_first
from harness.errors import DataError
from harness.files.inputs import IN_MEMORY, LONGEST_LINE, Input
from harness.files.json_text import parse_json
from harness.files.packed import open_unpacked
from harness.types import Json

SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz")
_KIND = Input("Neuronpedia export", DataError, "fetch it again", None)
_LONGEST_INDEX = 18
"""Digits of an index."""
_KEY = re.compile(r"(?:([^/]+)/([^/]+)/)?(\d+)")

_PLACEHOLDERS = re.compile(
    r"none|null|nan|nil|n/?a|n\.a\.?|undefined|unknown|unlabell?ed|no labels?|(?:(?:feature|page|label|description) )?not found|no description"
    r"|(?:(?:unknown|network|api|server|internal server) )?error|bad gateway|service unavailable|gateway time-?out|too many requests"
    r"|rate limited|rate limit exceeded|request timed out|request timeout|read timed out|access denied"
)
_ERRORS = re.compile(
    r"[\[(]?(?:error|err)[\])]?\s*(?:[:(\[]|\d{3}\b|(?:fetching|loading|getting|retrieving|reading|parsing|calling|generating)\b)"
    r"|(?:(?:api|http|https|network|server|request|connection|timeout)[ -]?(?:error|exception)|request failed|connection (?:refused|reset))"
    r"\s*(?:[:(\[]|\d{3}\b|$)"
    r"|(?:failed|unable) to (?:fetch|load|get|retrieve|find|reach|parse|connect|generate)\b"
    r"|(?:could not|couldn't|cannot|can't) (?:fetch|load|retrieve|reach|be (?:fetched|loaded|retrieved|found))\b"
    r"|no (?:explanations?|descriptions?|labels?)(?: (?:is|are|was|were))?(?: (?:found|available|yet|generated|provided|returned))*\W*$"
    r"|(?:auto-?interp )?(?:explanation|description|label) (?:is )?(?:not (?:found|available)|missing|unavailable|pending)\W*$"
    r"|(?:http(?:/\d(?:\.\d)?)?|status(?: code)?)[\s:=]*[45]\d\d\b"
    r"|(?:40[134]|429|50[234])\W*$"
    r"|[45]\d\d[\s:,–—-]+(?:client error|server error|bad request|unauthorized|forbidden|not found|too many requests|internal|bad gateway"
    r"|service (?:temporarily )?unavailable|gateway time)"
    r"|traceback \(most recent",
    re.IGNORECASE,
)
_EXCEPTION = re.compile(r"(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Timeout)\s*[:(]")
_MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|title|\?xml)\b|.*</(?:html|body)>", re.IGNORECASE | re.DOTALL)
_REPLY = re.compile(r"\s*\{.{0,40}?['\"](?:error|message|detail|statusCode)['\"]\s*:", re.IGNORECASE | re.DOTALL)


def why_unusable(text: Json) -> str | None:
    """Return why a value in the place of an explanation cannot be used; None for a real explanation.

    Known are: nothing (null, empty, another type), HTML, error messages and error replies, words for "nothing here", and texts without a
    letter or digit (a dash is how caches mark an unlabelled feature; a text cannot be about punctuation).
    """
    if text is None:
        return "null"
    if not isinstance(text, str):
        return f"a JSON {type(text).__name__}"
    plain = " ".join(text.split())
    if not plain:
        return "empty"
    if not any(character.isalnum() for character in plain):
        return "without a letter or digit"
    if _MARKUP.match(plain):
        return "HTML"
    bare = plain.casefold().strip(" .!\"'()[]<>{}*")
    if _PLACEHOLDERS.fullmatch(bare) or _ERRORS.match(plain) or _ERRORS.match(bare) or _EXCEPTION.match(plain) or _REPLY.match(plain):
        return "error text or placeholder"
    return None


@dataclass(frozen=True)
class Row:
    """What one record says of one feature.

    Attributes:
        source: None where the record does not name it.
        feature: index.
        said: usable explanations.
        refused: why there is no usable explanation; None where there is one.
        speaks: whether the record has a place for explanations (a row of the bulk ``features`` files does not).
    """

    source: SourceId | None
    feature: int
    said: tuple[Explanation, ...]
    refused: str | None
    speaks: bool


def parse_record(record: Json, by: str) -> Row | str:
    """Read a feature or an explanation as Neuronpedia gives it, or return why it is neither; ``by`` is the author where none is named."""
    if not isinstance(record, dict):
        return f"a JSON {type(record).__name__}, not an object"
    given = record.get("index", record.get("feature_index"))
    if given is None:
        error = record.get("error", record.get("message"))
        return f"an error reply ({_line(error)})" if error else "no index: neither a feature nor an explanation"
    feature = _index(given)
    if feature is None:
        return f"the index is no whole number from 0 ({_line(given)!r})"
    model, layer = record.get("modelId", record.get("model_id")), record.get("layer")
    source = None
    if model is not None or layer is not None:
        try:
            source = SourceId(cast(str, model), cast(str, layer))
        except DataError as error:
            return f"it names no source ({_line(error)})"
    items = _said(record)
    usable, refused = [], "no explanation"
    for item in items or ():
        text = item.get("description", item.get("explanation", item.get("text"))) if isinstance(item, dict) else item
        reason = why_unusable(text)
        if isinstance(text, str) and reason is None:
            author, score = (_author(item) or by, _score(item)) if isinstance(item, dict) else (by, None)
            usable.append(Explanation(feature, tidy(text), tidy(author), score))
        else:
            refused = reason or refused
    return Row(source, feature, tuple(usable), None if usable else refused, items is not None)


def _said(record: Mapping[str, Json]) -> list[Json] | None:
    """Return what a record has in the place of explanations; None where it has no such place."""
    if "explanations" in record:
        found = record["explanations"]
        return found if isinstance(found, list) else [] if found is None else [found]
    if "description" in record:
        return [record]
    return [record["explanation"]] if "explanation" in record else None


def _index(value: Json) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < _LONGEST_INDEX:
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**_LONGEST_INDEX else None


def _author(item: Mapping[str, Json]) -> str:
    model, method = item.get("explanationModelName"), item.get("typeName")
    if model:
        return f"{model} ({method})" if method else str(model)
    person = item.get("author") or item.get("triggeredByUser") or {}
    name = person.get("name") if isinstance(person, dict) else None
    return str(name or item.get("by") or method or "")


def _score(item: Mapping[str, Json]) -> float | None:
    scores = item.get("scores")
    values = [score.get("value") if isinstance(score, dict) else score for score in scores] if isinstance(scores, list) else []
    numbers = [
        float(v) for v in values or [item.get("score")] if isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
    ]
    return sum(numbers) / len(numbers) if numbers else None


def tidy(text: str) -> str:
    """Return a text on one line, without lone surrogates, which JSON can hold, but no file and no tokenizer."""
    return " ".join(text.encode("utf-8", "replace").decode().split())


def _line(value: Json) -> str:
    return tidy(str(value))[:120]


# ------------------------------------------------------------------------------------------------------------------------- reading


def read_explanations(path: Path, model_id: str | None = None, source_id: str | None = None) -> Explanations:
    """Read the explanations of one source from a file or folder.

    These are recognised by their content: one reply of ``GET /api/feature`` or a list of such; a map ``{"model/source/index": label}`` (or
    ``{"index": label}`` where the caller names the source); JSON lines of explanations or features, gzipped or not, as in the bulk files; a
    SAEDashboard export that carries explanations; a folder of any of these, searched through. JSON lines are read line by line.

    Args:
        path: file or folder.
        model_id, source_id: which source, where there are several; None takes the only one.

    Raises:
        DataError: there is no file or no explanation, nothing can be read, there are several sources and none is named, or the named one is
            missing.
    """
    if not path.exists():
        raise DataError(f"there is no Neuronpedia export at {path}", given=path, hint="give a file or folder with its JSON, or bulk or api")
    files = _files(path)
    if not files:
        raise DataError(f"{path} holds no file with a known ending", given=path, allowed=SUFFIXES, hint="give a Neuronpedia export")
    skipped: list[Skipped] = []
    rows: dict[SourceId | None, list[Row]] = {}
    for file in files:
        for offset, row in _rows(file):
            if isinstance(row, str):
                skipped.append(Skipped(str(file), offset, row))
            else:
                rows.setdefault(row.source, []).append(row)
    if not rows:
        why = f" ({skipped[0]})" if skipped else ""
        message = f"{path} holds no feature and no explanation of Neuronpedia{why}"
        raise DataError(message, given=path, hint="give an export of its API or bucket, or a map of labels")
    source = _choose(path, [found for found in rows if found is not None], None in rows, model_id, source_id)
    return collect(source, str(path), [*rows.get(source, ()), *rows.get(None, ())], tuple(skipped))


def collect(source: SourceId, origin: str, rows: Iterable[Row], skipped: tuple[Skipped, ...] = ()) -> Explanations:
    """Collect the explanations of one source from its rows, in any order; raises DataError where not one feature is explained."""
    said: dict[int, list[Explanation]] = {}
    refused: dict[int, str] = {}
    speaks = False
    for row in rows:
        speaks |= row.speaks
        if row.said:
            said.setdefault(row.feature, []).extend(row.said)
        elif row.speaks or row.feature not in refused:
            refused[row.feature] = row.refused or "no explanation"
    unlabelled = {feature: reason for feature, reason in refused.items() if feature not in said}
    found = Explanations(source, origin, {feature: best_first(items) for feature, items in said.items()}, unlabelled, skipped)
    if not said:
        why = (
            f"no usable explanation ({found.reasons()})"
            if speaks
            else "no explanations at all (exports of dashboards and features have none)"
        )
        message = f"{origin} holds {len(unlabelled)} features of {source}, but {why}"
        raise DataError(message, given=origin, hint="give an export of explanations, or bulk or api")
    return found


def _choose(path: Path, found: list[SourceId], nameless: bool, model: str | None, source: str | None) -> SourceId:
    """Return the source that the caller means."""
    fitting = [item for item in found if model in (None, item.model) and source in (None, item.source)]
    if len(fitting) == 1:
        return fitting[0]
    listed = [*map(str, sorted(fitting or found)[:5]), *(["…"] if len(fitting or found) > 5 else [])]
    if fitting:
        message = f"{path} holds explanations of {len(fitting)} sources"
        raise DataError(message, given=path, allowed=listed, hint="name one as source_id")
    if nameless and not found:
        if model is None or source is None:
            raise DataError(f"{path} does not say whose features it explains", given=path, hint="give model_id and source_id")
        return SourceId(model, source)
    wanted = f"{model or '(any model)'}/{source or '(any source)'}"
    message = f"{path} does not hold explanations of {wanted}"
    raise DataError(message, given=wanted, allowed=listed, hint="give the file of the source that you want")


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(
        file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(SUFFIXES) and not file.name.startswith(".")
    )


def _rows(file: Path) -> Iterator[tuple[int | None, Row | str]]:
    """Yield the byte offset in the uncompressed file with the row, or with the reason why there is none."""
    try:
        if not file.name.lower().removesuffix(".gz").endswith(".json"):
            yield from _from_lines(file)
            return
        with open_unpacked(file, _KIND) as stream:
            content = stream.read(IN_MEMORY + 1)
    except (OSError, DataError) as error:
        yield None, f"cannot be read ({_line(error)})"
        return
    if len(content) > IN_MEMORY:
        yield None, f"has more than {IN_MEMORY:,} bytes"
        return
    try:
        value = parse_json(content, surrogates="replace")
    except ValueError as error:
        if "Extra data" in str(error):  # JSON lines in a file that is named .json
            yield from _from_lines(file)
        else:
            yield None, f"not valid JSON ({_line(error)})"
        return
    for item in _expand(value, file.name):
        yield None, item


def _from_lines(file: Path) -> Iterator[tuple[int | None, Row | str]]:
    offset = 0
    with open_unpacked(file, _KIND) as stream:
        while True:
            try:
                line = stream.readline(LONGEST_LINE)
            except DataError as error:
                yield offset, f"the file breaks off ({_line(error)}); what stands before that is used"
                return
            if not line:
                return
            here, offset = offset, offset + len(line)
            line = line.removeprefix(BOM).strip()
            if not line:
                continue
            try:
                value = parse_json(line, surrogates="replace")
            except ValueError as error:
                yield here, f"not valid JSON ({_line(error)})"
                continue
            for item in _expand(value, file.name):
                yield here, item


def _expand(value: Json, by: str) -> Iterator[Row | str]:
    """Yield the rows of a JSON value: a record, a list of records, a map of labels, a SAEDashboard export."""
    if isinstance(value, list):
        for item in value:
            yield from _expand(item, by) if isinstance(item, dict) else (parse_record(item, by),)
    elif isinstance(value, dict) and isinstance(value.get("features"), list):
        name = f"{value.get('layer')}-{value.get('sae_set', value.get('sourceSet'))}"
        for item in value["features"]:
            more = {"modelId": value.get("model_id", value.get("modelId")), "layer": name}
            yield parse_record({**more, **item} if isinstance(item, dict) else item, by)
    elif isinstance(value, dict) and value and all(map(_KEY.fullmatch, value)):
        for key, label in value.items():
            model, source, index = cast(re.Match[str], _KEY.fullmatch(key)).groups()
            place = {"index": index} if model is None else {"modelId": model, "layer": source, "index": index}
            yield parse_record({**place, "explanations": label if isinstance(label, list) else [label]}, by)
    else:
        yield parse_record(value, by)
