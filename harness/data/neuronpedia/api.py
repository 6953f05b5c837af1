"""Neuronpedia over the network: single features, the search in explanations, the bulk files. Whatever was fetched stays on disk.

Below the cache folder, one folder per server::

    features/MODEL/SOURCE/THOUSANDS/INDEX.json     a feature's explanations, or that there is no such feature
    search/MODEL/SOURCE/DIGEST.json                one page of hits
    bulk/MODEL/SOURCE/batch-N.json, index.json     explanations of one batch; the list of batches, once it is known to be complete

Each file is written in full or not at all and carries its own checksum, so processes may share the folder, an interrupted run keeps what it
has, and a damaged file is fetched again. Only what is used is kept: of a feature's 0.2 to 1 MB a few hundred bytes.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast
from urllib.parse import quote

from harness.data.corpora.reading import Skipped
from harness.data.neuronpedia.explanations import Explanation, Explanations, SourceId, best_first
from harness.data.neuronpedia.exports import Row, collect, parse_record, tidy
from harness.data.neuronpedia.http import BrokenReply, Server, load, read_json, store
from harness.errors import DataError
from harness.files.atomic import disk_error
from harness.files.folders import locked
from harness.files.inputs import Input
from harness.files.json_text import parse_json
from harness.files.packed import raw_lines, unpacked
from harness.types import Json, digest

SEARCH_PAGE = 20
"""Hits per page of the search, as the server makes them."""
SHORTEST_QUERY = 3
"""Least number of characters; the server refuses shorter queries."""

_KEPT = ("explanationModelName", "typeName", "scores", "author", "triggeredByUser")
_NOBODY = "unknown"
_BATCH = Input("batch of explanations of", DataError, "fetch it again")


@dataclass(frozen=True)
class Hit:
    """An explanation that the server's search found, and its cosine similarity to the query (of the server's own embeddings)."""

    explanation: Explanation
    similarity: float


def feature(server: Server, source: SourceId, index: int) -> Row | None:
    """Return one feature's explanations (``GET /api/feature``); None where the server has no such feature, which is stored, too.

    Raises:
        DataError: the server cannot be reached, refuses, or keeps sending something else.
    """

    def read(body: IO[bytes]) -> Json:
        record = read_json(body)
        if record is None or _says_missing(record):
            return None  # the server reports this with status 200
        row = parse_record(record, _NOBODY)
        if isinstance(row, str):
            raise BrokenReply(row)
        if (row.source, row.feature) != (source, index):
            raise BrokenReply(f"it is of feature {row.feature} of {row.source}")
        found = record.get("explanations")
        return _stored(source, index, found if isinstance(found, list) else [])

    url = f"{server.base_url}/api/feature/{quote(source.model)}/{quote(source.source)}/{index}"
    path = server.cache / "features" / source.model / source.source / str(index // 1000) / f"{index}.json"
    record = server.cached(path, ["feature", str(source), index], lambda: server.ask(url, read))
    return None if record is None else cast(Row, parse_record(record, _NOBODY))


def search(server: Server, source: SourceId, query: str, offset: int = 0) -> list[Hit]:
    """Return one page of the explanations nearest to a query (``POST /api/explanation/search``), nearest first, from ``offset`` on.

    Hits without a usable explanation are left out. An empty page is the end.

    Raises:
        DataError: a query shorter than :data:`SHORTEST_QUERY`, or as for :func:`feature`.
    """
    query = " ".join(query.split())
    if len(query) < SHORTEST_QUERY:
        message = f"Neuronpedia's search cannot take {query!r}"
        allowed = f"at least {SHORTEST_QUERY} characters"
        raise DataError(message, given=query, allowed=allowed, hint="match by embedding or words instead")

    def read(body: IO[bytes]) -> Json:
        reply = read_json(body)
        results = reply.get("results") if isinstance(reply, dict) else None
        if not isinstance(results, list):
            raise BrokenReply("it has no list of results")
        return [_hit_record(item, source) for item in results]

    key = ["search", str(source), query, offset]
    path = server.cache / "search" / source.model / source.source / f"{digest(key, 24)}.json"
    request = {"modelId": source.model, "layers": [source.source], "query": query, "offset": offset}
    found = server.cached(path, key, lambda: server.ask(f"{server.base_url}/api/explanation/search", read, request))
    if found is None:
        message = f"{server.base_url} has no search in explanations (HTTP 404)"
        raise DataError(message, given=server.base_url, hint="check base_url, or match by embedding or words")
    hits = ((cast(Row, parse_record(record, _NOBODY)), float(similarity)) for record, similarity in found)
    return [Hit(row.said[0], similarity) for row, similarity in hits if row.said]


class ApiLabels:
    """Explanations that are fetched when asked for; implements :class:`harness.data.neuronpedia.explanations.Labels`."""

    def __init__(self, server: Server, source: SourceId) -> None:
        self._server, self._source = server, source
        self._seen: dict[int, tuple[Explanation, ...]] = {}
        self._unlabelled: dict[int, str] = {}

    @property
    def source(self) -> SourceId:
        return self._source

    def of(self, feature_index: int) -> Sequence[Explanation]:
        index = int(feature_index)
        if index not in self._seen:
            row = feature(self._server, self._source, index)
            self._seen[index] = best_first(row.said) if row else ()
            if not self._seen[index]:
                self._unlabelled[index] = (row.refused if row else None) or "no such feature"
        return self._seen[index]

    def search(self, query: str, offset: int = 0) -> list[Hit]:
        """Search in the explanations of this source, see :func:`search`."""
        return search(self._server, self._source, query, offset)

    @property
    def n_unlabelled(self) -> int:
        return len(self._unlabelled)

    def summary(self) -> str:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(self._unlabelled.values()).most_common())
        explained = len(self._seen) - len(self._unlabelled)
        return f"{self._source}: {explained} of {len(self._seen)} features asked for are explained{f' ({reasons})' if reasons else ''}"


# ---------------------------------------------------------------------------------------------------------------------- bulk files


def fetch_bulk(server: Server, source: SourceId) -> Explanations:
    """Fetch all explanations of one source from the bulk files: batches from 0 on, until two in a row are missing.

    The exporter numbers batches without a gap. If one is missing nevertheless, it is named among the skipped. Each batch is kept as soon as it
    has arrived, so an interrupted call goes on where it stopped; a complete one needs no network again.

    Raises:
        DataError: the bucket has no such source, the source has no usable explanation, or a batch cannot be fetched.
    """
    folder = _folder(server, source)
    numbers = _numbers(server, source, folder)
    rows: list[Row] = []
    skipped = [Skipped(f"batch-{number}", None, "missing from the bucket") for number in sorted(set(range(numbers[-1])) - set(numbers))]
    for number in numbers:
        batch = _batch(server, source, number)
        if batch is None:
            message = f"batch {number} of {source} was in the bucket and is gone"
            raise DataError(message, given=number, hint=f"remove {folder} and run this again")
        skipped += [Skipped(f"batch-{number}", None, reason) for reason in batch["skipped"]]
        rows += [cast(Row, parse_record(record, _NOBODY)) for record in batch["rows"]]
    return collect(source, server.base_url, rows, tuple(skipped))


def _numbers(server: Server, source: SourceId, folder: Path) -> list[int]:
    """Fetch all batches of the source, one process at a time, and return their numbers."""
    path, key = folder / "index.json", ["index", str(source)]
    known, numbers = load(path, key)
    if not known:
        with contextlib.ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(locked(folder / "lock", f"the explanations of {source}", server.say))
            except OSError as error:
                raise disk_error(error, f"keep Neuronpedia's explanations in {folder}") from error
            known, numbers = load(path, key)  # another process may have been here while we waited
            if not known:
                numbers = _fetch_all(server, source)
                store(path, key, numbers)
    return cast("list[int]", numbers)


def _fetch_all(server: Server, source: SourceId) -> list[int]:
    numbers: list[int] = []
    for number in itertools.count():
        if _batch(server, source, number) is not None:
            numbers.append(number)
            server.say(f"Neuronpedia: {len(numbers)} batches of explanations of {source}")
        elif number - (numbers[-1] if numbers else -1) >= 2:
            break
    if not numbers:
        message = f"{server.base_url} has no explanations of {source} to download"
        raise DataError(message, given=str(source), hint="check model_id and source_id, or use source=api")
    return numbers


def _batch(server: Server, source: SourceId, number: int) -> Mapping[str, Json] | None:
    """Return one batch, ``rows`` and ``skipped`` (reasons); None where the bucket has no batch of this number."""
    name = f"{source.model}/{source.source}/explanations/batch-{number}.jsonl.gz"
    path = _folder(server, source) / f"batch-{number}.json"
    url = f"{server.base_url}/v1/{quote(name)}"
    found = server.cached(path, ["batch", name], lambda: server.ask(url, lambda body: _read_batch(body, source)), keep_missing=False)
    return cast("Mapping[str, Json] | None", found)


def _folder(server: Server, source: SourceId) -> Path:
    return server.cache / "bulk" / source.model / source.source


def _read_batch(body: IO[bytes], source: SourceId) -> Json:
    """Return the explanations of a batch that arrived in full; a row without one is skipped, with the reason."""
    rows: list[Json] = []
    skipped: list[str] = []
    try:
        for line in raw_lines(unpacked(cast(BinaryIO, body), str(source), _BATCH)):
            if not line.strip():
                continue
            try:
                record = parse_json(line, surrogates="replace")
            except ValueError as error:
                skipped.append(f"not valid JSON ({error})")
                continue
            row = parse_record(record, _NOBODY)
            if isinstance(row, str):
                skipped.append(row)
            elif not row.speaks or row.source != source:
                skipped.append(f"of another source, or without a place for an explanation (feature {row.feature} of {row.source})")
            else:
                rows.append(_stored(source, row.feature, [record]))
    except DataError as error:
        raise BrokenReply(error.message) from error
    if not rows:
        raise BrokenReply(f"it holds no explanation ({skipped[0] if skipped else 'it is empty'})")
    return {"rows": rows, "skipped": skipped}


# ------------------------------------------------------------------------------------------------------------------------- replies


def _says_missing(record: Json) -> bool:
    """Return whether a reply says that there is no such feature, as that of a 404 does."""
    message = record.get("error", record.get("message")) if isinstance(record, dict) and "index" not in record else None
    return isinstance(message, str) and re.search(r"not found|no such|does not exist", message, re.IGNORECASE) is not None


def _stored(source: SourceId, index: int, items: Sequence[Json]) -> dict[str, Json]:
    """Return a record as it is kept; :func:`parse_record` reads it like the original."""
    return {"modelId": source.model, "layer": source.source, "index": index, "explanations": [_trimmed(item) for item in items]}


def _trimmed(item: Json) -> Json:
    """Return an explanation without the parts that are not used (embeddings above all)."""
    if not isinstance(item, dict):
        return tidy(item) if isinstance(item, str) else None
    kept: dict[str, Json] = {name: item[name] for name in _KEPT if item.get(name) is not None}
    if "scores" in kept:
        scores = kept["scores"] if isinstance(kept["scores"], list) else []
        values = [score.get("value") if isinstance(score, dict) else score for score in scores]
        kept["scores"] = [{"value": value} for value in values if isinstance(value, int | float) and math.isfinite(value)]
    for person in {"author", "triggeredByUser"} & kept.keys():
        name = kept[person].get("name") if isinstance(kept[person], dict) else None
        kept[person] = {"name": tidy(name)} if isinstance(name, str) else {}
    for name in {"explanationModelName", "typeName"} & kept.keys():
        kept[name] = tidy(str(kept[name]))
    text = item.get("description", item.get("explanation"))
    return {**kept, "description": tidy(text) if isinstance(text, str) else None}


def _hit_record(item: Json, source: SourceId) -> Json:
    """Return a hit of the search as it is kept: record and similarity."""
    row = parse_record(item, _NOBODY)
    if isinstance(row, str):
        raise BrokenReply(f"a hit is not an explanation ({row})")
    if row.source != source:
        raise BrokenReply(f"a hit is of {row.source}")
    similarity = item.get("cosine_similarity")
    if not isinstance(similarity, int | float) or isinstance(similarity, bool) or not math.isfinite(similarity):
        raise BrokenReply("a hit has no cosine_similarity")
    return [_stored(source, row.feature, [item]), similarity]
