"""Texts that are nearly the same: shared runs of words, found by MinHash and locality-sensitive hashing, so that no two texts need be compared."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from harness.data.keywords import words_of

SHINGLE = 5
"""Words per run; a shorter text is one run. As in the filter of written corpora: one word changed in a text of 25 leaves .6 in common."""
SIMILAR = 0.5
"""Two texts are near-copies from this share of common runs on (Jaccard index, estimated)."""
MINIMA, BAND = 128, 4
"""Hash minima per text, and minima per band. Texts are compared where one of the 32 bands agrees, which it does for 87 % of pairs with an
index of .5, 99 % at .6 and 99.98 % at .7. The index is the share of minima that agree: off by .04 (one standard deviation) at .5.
"""
REACH = 16
"""Each text is compared with the next 16 that share a band with it, which is enough to join any number of copies in a chain."""
_SEED = 1
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_PAIRS_AT_ONCE = 1 << 15


def near_copies(texts: Iterable[str]) -> NDArray[np.int64]:
    """Return the pairs of near-copies among ``texts``, as places in their order: ``[pairs, 2]``, ascending; the same for the same texts.

    Pairs join texts into groups; not every two texts of a group need be a pair. The texts are read once, and at most about 1.5 kB is held per
    text, whatever its length; 100,000 texts of 60 words took 20 s on one core. (datasketch's own index holds 12 kB and takes ten times as
    long.)
    """
    from datasketch import MinHash

    # the runs are hashed already, so the library's hash function has nothing to do
    found = [sketch.hashvalues for sketch in MinHash.generator(_runs(texts), num_perm=MINIMA, seed=_SEED, hashfunc=int)]
    sketches = np.stack(found) if found else np.empty((0, MINIMA), dtype=np.uint32)
    del found
    candidates = [np.empty(0, dtype=np.int64)]
    for start in range(0, MINIMA, BAND):
        candidates.append(_sharing(np.ascontiguousarray(sketches[:, start : start + BAND])))
    first, second = np.divmod(np.unique(np.concatenate(candidates)), max(1, len(sketches)))
    similar = np.concatenate([np.empty(0, dtype=bool), *(
        (sketches[first[part]] == sketches[second[part]]).mean(axis=1) >= SIMILAR
        for part in (slice(start, start + _PAIRS_AT_ONCE) for start in range(0, len(first), _PAIRS_AT_ONCE))
    )])  # fmt: skip
    return np.stack([first[similar], second[similar]], axis=1)


def _sharing(band: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the pairs of texts whose minima ``[texts, BAND]`` agree, as first · texts + second."""
    n = len(band)
    order = np.lexsort(band.T[::-1])
    same = (band[order][1:] == band[order][:-1]).all(axis=1)
    bucket = np.concatenate([[0], np.cumsum(~same)])[:n]
    found = [np.empty(0, dtype=np.int64)]
    for offset in range(1, min(REACH, n - 1) + 1):
        place = np.flatnonzero(bucket[offset:] == bucket[:-offset])
        if not len(place):
            break
        a, b = order[place], order[place + offset]
        found.append(np.minimum(a, b) * n + np.maximum(a, b))
    return np.concatenate(found)


def _runs(texts: Iterable[str]) -> Iterator[list[int]]:
    """Yield for each text the 32-bit hashes of its runs of words, each once."""
    numbers: dict[str, int] = {}
    for text in texts:
        words = [numbers.setdefault(word, zlib.crc32(word.encode("utf-8", "surrogatepass"))) for word in words_of(text)]
        if not words:
            yield [0]  # all texts without a word are copies of each other
            continue
        row = np.array(words, dtype=np.uint64)
        n = max(1, len(row) - SHINGLE + 1)
        mixed = np.zeros(n, dtype=np.uint64)
        for offset in range(min(SHINGLE, len(row))):
            mixed = (mixed ^ row[offset : offset + n]) * _FACTOR
            mixed ^= mixed >> np.uint64(29)
        yield np.unique(mixed >> np.uint64(32)).tolist()
