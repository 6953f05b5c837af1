"""One pass over a corpus: how often and how strongly each feature fires in each text, and what the residual stream looks like there.

Everything is sparse in features and goes to disk as it comes: a dictionary of 131,072 features and a corpus of any length need memory for
one shard of the corpus, and for a few numbers per feature.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from harness.errors import DataError, OptionError
from harness.files.shards import ShardedFiles, replace_file
from harness.model.activations import Row, check_lengths, row_lengths
from harness.model.memory import TokenBudget
from harness.sae.checks import check_width
from harness.sae.corpus.counts import Meter
from harness.sae.corpus.outliers import OUTLIER
from harness.sae.corpus.shard import Shard, ShardReader, ShardWork, SpreadOut, in_order
from harness.sae.corpus.statistics import BY_FEATURE, BY_TEXT, FORMAT, META, CorpusStatistics, write_meta
from harness.types import Json

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel
    from harness.sae.dictionary import Dictionary

__all__ = ["FORMAT", "SHARD_TEXTS", "SHARD_TOKENS", "CorpusStatistics", "collect", "measure"]

SHARD_TEXTS = 2048
SHARD_TOKENS = 1 << 17
SHARD_PASSES = 16
"""A shard of the corpus ends after so many texts, tokens, or tokens of forward passes: what an interrupted pass loses at most, and what is held in
memory. A CPU's passes are smaller, since it takes minutes for what takes a GPU a second."""

SHARD_PAIRS = 1 << 25
"""Nor does a shard have more pairs of text and feature than this, if every feature fires in every text: each takes some 24 bytes of memory."""
ACCOUNT_PAIRS = 1 << 18
"""Pairs that are entered into the features' numbers at a time."""

_SUMS = "sums"


def collect(
    model: SubjectModel,
    dictionary: Dictionary,
    documents_tokens: Sequence[Row],
    *,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CorpusStatistics:
    """Does as :func:`measure` in memory, for corpora of which nothing need be kept."""
    with tempfile.TemporaryDirectory(prefix="harness-statistics-") as folder:
        measure(model, dictionary, documents_tokens, Path(folder), skip=skip, outlier=outlier, token_budget=token_budget, progress=progress)
        return CorpusStatistics.load(Path(folder), memory_map=False)


def measure(
    model: SubjectModel,
    dictionary: Dictionary,
    rows: Sequence[Row],
    folder: Path,
    *,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int | None = None,
    shard_texts: int = SHARD_TEXTS,
    progress: Callable[[int, int], None] | None = None,
    spread: SpreadOut | None = None,
) -> CorpusStatistics:
    """Measure a dictionary's features on a corpus, in one pass of the model up to the dictionary's layer, that writes to ``folder``.

    The corpus is read in shards of consecutive texts; each is committed to the disk before the next begins. A call that was interrupted is
    gone on with by the same call: what is committed is checked (CRC-32, and the token ids it belongs to), what is torn or damaged is made
    again, and the result is that of an undisturbed pass to the last bit (unless memory ran out in one of them: another batch rounds
    otherwise). On a finished folder it only checks. Memory holds one shard and some numbers per feature, whatever the corpus' length.

    Args:
        model: the subject model.
        dictionary: on the model's device, or the vectors travel to its own.
        rows: token ids of each text, as the model shall see them. A text may be empty or shorter than ``skip``.
        folder: for this alone, and one process at a time. The journal and the shards' sums stay in it; they are the same in every run.
        skip: leading tokens of each text that are not counted; at least the first, whose norm is often a hundred times the others'.
        outlier: as in :func:`~harness.sae.corpus.outliers.usual_tokens`; 0 counts every token.
        token_budget: tokens per forward pass; by default 1,024 on a CPU, 8,192 elsewhere.
        shard_texts: texts per shard, at most; it also ends after the tokens of :data:`SHARD_PASSES` forward passes (or of ``SHARD_TOKENS``), and in
            a wide dictionary after fewer texts.
        progress: called with (texts done, texts in all); the first time before any is read, with those that an earlier call has done.
        spread: has workers read the shards, each with the same model; None: this process reads them. Only this process writes.

    Returns:
        The statistics, memory-mapped from ``folder``.

    Raises:
        DataError: no text has a counted token; a text is longer than the model's context.
        DictionaryError: the dictionary's width is not the model's; one token's activations do not fit into memory.
        ModelError: the layer does not exist; one text alone does not fit into memory; a counted token's vector is not finite.
        OptionError: ``token_budget``, ``skip`` or ``shard_texts`` is out of range.
        StoreError: the disk is full or cannot be written; what was committed is kept.
    """
    budget = TokenBudget.usual(model.device) if token_budget is None else TokenBudget(token_budget)
    tell = progress or _say_nothing
    _check_options(token_budget=(budget.size, 1), skip=(skip, 0), shard_texts=(shard_texts, 1))
    lengths = row_lengths(rows)
    _check(model, dictionary, lengths, skip)
    shard_texts = min(shard_texts, max(1, SHARD_PAIRS // dictionary.d_sae))
    shard_tokens = min(SHARD_TOKENS, SHARD_PASSES * budget.size)
    borders = _borders(lengths, shard_texts, shard_tokens)
    header: dict[str, Json] = {
        "format": FORMAT, "dictionary": dictionary.digest, "model": [model.name, model.digest, str(model.dtype)], "skip": skip,
        "outlier": outlier, "token_budget": budget.size, "shard_texts": shard_texts, "shard_tokens": shard_tokens, "texts": len(rows),
    }  # fmt: skip
    corpus = _Pass(ShardedFiles(folder, [f"{name}.bin" for name in (*BY_TEXT, _SUMS)], header), dictionary)
    done = corpus.known([_checksum(rows, start, stop) for start, stop in borders[: len(corpus.files.notes)]])
    if done < len(borders):
        (folder / META).unlink(missing_ok=True)
        tell(borders[done][0], len(rows))
    reader = ShardReader(model, dictionary, skip, outlier, budget)
    shards = _read_here(reader, rows, borders[done:], tell) if spread is None else _read_elsewhere(reader, rows, borders[done:], spread)
    for start, stop in borders[done:]:
        corpus.append(next(shards), _checksum(rows, start, stop))
        corpus.account()  # from the disk: nobody holds the shard any more
        if spread is not None:
            tell(stop, len(rows))
    tell(len(rows), len(rows))
    corpus.finish(len(rows), skip, model)
    return CorpusStatistics.load(folder)


def _say_nothing(done: int, total: int) -> None:
    """Take the place of a progress that nobody wants to see."""


def _read_here(
    reader: ShardReader, rows: Sequence[Row], borders: Sequence[tuple[int, int]], progress: Callable[[int, int], None]
) -> Iterator[Shard]:
    """Yield the shards within these borders, read by this process."""
    for start, stop in borders:
        yield reader.read([rows[i] for i in range(start, stop)], start, _offset(progress, start, len(rows)))


def _read_elsewhere(reader: ShardReader, rows: Sequence[Row], borders: Sequence[tuple[int, int]], spread: SpreadOut) -> Iterator[Shard]:
    """Yield the shards within these borders in their order, read by workers as ``reader`` would read them."""
    dictionary, size = reader.meter.dictionary, reader.budget.size
    works = (
        ShardWork(dictionary, [np.asarray(rows[i]) for i in range(start, stop)], start, reader.skip, reader.outlier, size) for start, stop in borders
    )
    return in_order(works, spread)


class _Pass:
    """The files of a pass, and what is kept for each feature while they grow."""

    def __init__(self, files: ShardedFiles, dictionary: Dictionary) -> None:
        self.files, self.dictionary = files, dictionary
        self.fired = np.zeros(dictionary.d_sae, dtype=np.int64)
        self.maximum = np.zeros(dictionary.d_sae, dtype=np.float32)
        self.minimum = np.zeros(dictionary.d_sae, dtype=np.float32)

    def known(self, checksums: Sequence[int]) -> int:
        """Return how many of the committed shards are of the texts with these checksums; the others are cut off."""
        # there may be more shards than checksums: the same number of texts, of other lengths, has other borders
        same = [note == checksum for note, checksum in zip(self.files.notes, checksums, strict=False)]
        n = same.index(False) if False in same else len(same)
        self.files.cut(n)
        for place in range(n):
            self._account(place)
        return n

    def append(self, found: Shard, checksum: int) -> None:
        before = self.files.size("indices.bin") // 4
        ends = found.ends + before
        parts: dict[str, npt.NDArray[Any]] = {
            "shares": found.shares, "maxima": found.maxima, "indices": found.features,
            "indptr": ends if self.files.notes else np.concatenate([[0], ends]),
            "n_tokens": found.n_tokens, "document_means": found.means, _SUMS: found.sums,
        }  # fmt: skip
        types = {**BY_TEXT, _SUMS: "<f8"}
        self.files.append({f"{name}.bin": part.astype(types[name], copy=False) for name, part in parts.items()}, checksum)

    def account(self) -> None:
        """Enter the shard that was appended last into the features' numbers; it is read back from the disk, a part at a time."""
        self._account(len(self.files.notes) - 1)

    def finish(self, n_docs: int, skip: int, model: SubjectModel) -> None:
        """Writes what the pass does not write as it goes; the folder holds statistics then."""
        total = Meter(self.dictionary)
        rows = [self._read(_SUMS, place) for place in range(len(self.files.notes))]
        total.include(np.sum([row[1:] for row in rows], axis=0), self.fired)
        largest = np.where(-self.minimum > self.maximum, self.minimum, self.maximum)
        for name, array in (("fired", self.fired), ("maximum", largest)):
            replace_file(self.files.path(f"{name}.bin"), array.astype(BY_FEATURE[name]).tobytes())
        scalars: dict[str, Json] = {
            "d_sae": self.dictionary.d_sae, "mean_norm": total.mean_norm, "l0": total.l0, "explained_variance": total.explained_variance,
            "n_outliers": int(sum(row[0] for row in rows)), "skip": skip, "dictionary_digest": self.dictionary.digest,
            "model_digest": model.digest,
        }  # fmt: skip
        if self.dictionary.signed:
            scalars["signed"] = True
        write_meta(self.files.folder, scalars, n_docs, model.d_model, self.files.size("indices.bin") // 4)

    def _account(self, place: int) -> None:
        """Enter a committed shard into the features' numbers: one way for what was just written and for what a resumed pass found."""
        n_tokens, ends, features = self._read("n_tokens", place), self._read("indptr", place), self._read("indices", place)
        before = 0 if place == 0 else int(self._read("indptr", place - 1)[-1])
        ends = ends[-len(n_tokens) :] - before
        shares, maxima = self._read("shares", place), self._read("maxima", place)
        for start in range(0, len(features), ACCOUNT_PAIRS):
            part = slice(start, min(start + ACCOUNT_PAIRS, len(features)))
            owners = np.searchsorted(ends, np.arange(part.start, part.stop), side="right")
            # a share is a count over the text's tokens, rounded to 24 binary digits: for fewer than 2²³ tokens this gives back the count
            counts = np.rint(shares[part] * n_tokens[owners].astype(np.float64))
            self.fired += np.bincount(features[part], weights=counts, minlength=len(self.fired)).astype(np.int64)
            np.maximum.at(self.maximum, features[part], maxima[part])
            if self.dictionary.signed:
                np.minimum.at(self.minimum, features[part], maxima[part])

    def _read(self, name: str, place: int) -> npt.NDArray[Any]:
        return self.files.read(f"{name}.bin", place, {**BY_TEXT, _SUMS: "<f8"}[name])


def _check_options(**given: tuple[int, int]) -> None:
    """Raise OptionError for the first value that is below its least one; both by the option's name."""
    for name, (value, least) in given.items():
        if value < least:
            raise OptionError(f"{name} is {value}", given=value, allowed=f"at least {least}")


def _check(model: SubjectModel, dictionary: Dictionary, lengths: npt.NDArray[np.int64], skip: int) -> None:
    """Raises whatever can be known to fail before hours of reading."""
    check_width(dictionary, model)
    model.check_layer(dictionary.layer)
    if not (lengths > skip).any():
        message = f"none of {len(lengths)} texts has more than {skip} tokens, so there is nothing to measure"
        raise DataError(message, given=len(lengths), hint="give longer texts")
    check_lengths(model, lengths)


def _borders(lengths: npt.NDArray[np.int64], shard_texts: int, shard_tokens: int) -> list[tuple[int, int]]:
    """Return the shards, as (first text, the one after the last)."""
    ends = np.cumsum(lengths)
    borders, start = [], 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        full = int(np.searchsorted(ends, before + shard_tokens, side="right"))
        stop = max(start + 1, min(full, start + shard_texts, len(lengths)))
        borders.append((start, stop))
        start = stop
    return borders


def _checksum(rows: Sequence[Row], start: int, stop: int) -> int:
    """Return the CRC-32 of the token ids of a shard's texts."""
    checksum = 0
    for i in range(start, stop):
        row = np.asarray(rows[i], dtype="<i8")
        checksum = zlib.crc32(row.tobytes(), zlib.crc32(len(row).to_bytes(8, "little"), checksum))
    return checksum


def _offset(progress: Callable[[int, int], None], start: int, total: int) -> Callable[[int], None]:
    return lambda done: progress(start + done, total)
