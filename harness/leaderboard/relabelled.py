"""Whether an entry's numbers can be those of the protocol that it names, as far as whole ratings tell.

A judge that rates 0, 1 or 2 leaves marks in means: over the k instructions that report under ``axbench`` a rating averages to a multiple of 1/k,
under ``cv`` to other numbers, too; and the mean of harmonic means is the harmonic mean of means only where all texts are rated in one proportion.
What is found is beyond chance; where nothing is found the numbers may still be of another protocol, which the run alone tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.leaderboard.entry import Entry, ItemResult
from harness.leaderboard.values import TOLERANCE
from harness.scoring import harmonic_mean
from harness.types import ASPECTS

ENOUGH_MEANS = 20
"""So many means that are no whole numbers must all be multiples of 1/k before chance is ruled out: under ``cv`` half of them are not."""
ENOUGH_SCORES = 3
_NEAR = 1e-4

Values = Mapping[str, float | None]


def relabelled(entry: Entry) -> Iterator[str]:
    """Yield why an entry's steering scores cannot be by its protocol; nothing where its judge does not rate in whole numbers."""
    rows = entry.rows_of("steering")
    samples = [sample.ratings for row in rows for sample in row.samples]
    if not samples or any(ratings is None or any(value % 1 for value in ratings.values()) for ratings in samples):
        return
    whole = [row for row in rows if not row.n_pending and row.subject.kind == "steering"]
    scored = [(item, len(row.subject.grid)) for row in whole for item in row.items if item.answered]  # type: ignore[union-attr]
    if entry.protocol.aggregation == "mean-of-harmonic-means":
        yield from _of_means([values for item, _ in scored for values in each_of(item)])
    yield from _halves(entry, scored)


def each_of(item: ItemResult) -> list[Values]:
    """Return the values of each draw of an item, or the item's own."""
    draws: Any = item.details.get("draws")
    found = [draw["values"] for draw in draws if isinstance(draw, dict) and isinstance(draw.get("values"), dict)] if isinstance(draws, list) else []
    return found or [item.values]


def _of_means(values: Sequence[Values]) -> Iterator[str]:
    """Whether every overall score is the harmonic mean of the three means, where the texts cannot all be rated in one proportion."""
    exact = []
    for one in values:
        parts = [one.get(part) for part in ASPECTS]
        known = [part for part in parts if part is not None]
        overall = one.get("overall")
        if overall is None or len(known) < len(parts) or not 0 < min(known) < max(known) or not any(map(_broken, known)):
            continue
        exact.append(abs(overall - float(harmonic_mean(known))) <= TOLERANCE)
    if len(exact) >= ENOUGH_SCORES and all(exact):
        yield f"each of {len(exact)} overall scores is the harmonic mean of its three means, so the aggregation is not the mean of harmonic means"


def _halves(entry: Entry, scored: Sequence[tuple[ItemResult, int]]) -> Iterator[str]:
    """Whether the means of ratings are those over the second half of the instructions, and no others, under ``axbench`` alone."""
    means: list[tuple[float, int]] = []
    for item, n_strengths in scored:
        each = each_of(item)
        n = item.n // (n_strengths * len(each)) if n_strengths else 0
        if item.n_unrated or n < 2:
            continue
        means += [(value, n - n // 2) for one in each for part in ASPECTS if (value := one.get(part)) is not None and _broken(value)]
    if entry.protocol.name == "axbench":
        # two raters may leave half points
        off = [(value, k) for value, k in means if _broken(value * 2 * k)]
        if off:
            value, k = off[0]
            yield f"a mean of {value:.6g} cannot be one over the {k} instructions that report under axbench, nor can {len(off) - 1} others"
    elif len(means) >= ENOUGH_MEANS and not any(_broken(value * k) for value, k in means):
        yield f"all {len(means)} means of ratings are those over half of the instructions, as under axbench, so the protocol is not cv"


def _broken(value: float) -> bool:
    return abs(value - round(value)) > _NEAR
