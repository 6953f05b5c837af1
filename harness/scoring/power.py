"""How many concepts and instructions a difference of a given size needs, by what one run's scores vary.

The difference of two methods on a concept varies for two reasons: concepts differ, and a score is a mean over few instructions. With n concepts and
k instructions the squared standard error of the mean difference is (between + within / k) / n. Both parts come from a run: ``within`` is the variance
over instructions of the difference at the chosen strengths, ``between`` is what the spread over concepts has beyond within / k. The power is that
of the two-sided t test at the run's own level, sharpened for the family of comparisons that the run made (a noncentral t distribution).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from harness.scoring.checks import FloatArray, ScoringError, at_least, float_array, open_share
from harness.scoring.clusters import cluster_codes, effective_clusters
from harness.scoring.simultaneous import MIN_CLUSTERS

MOST = 100_000
"""More concepts than this are not asked for: the difference is out of reach."""


@dataclass(frozen=True)
class Spread:
    """What the difference of two methods varies by.

    Attributes:
        difference: mean over concepts.
        between: variance over concepts that more instructions would not take away.
        within: variance over one concept's instructions; 0 where texts answer none.
        n_concepts: that both methods have.
        effective: independent ones among them.
        n_instructions: for each concept, the mean number.
        level: of one comparison, sharpened for the family: a two-sided test at 1 − level.
    """

    difference: float
    between: float
    within: float
    n_concepts: int
    effective: float
    n_instructions: float
    level: float

    @property
    def foresees(self) -> bool:
        """Return whether anything can be foreseen: concepts that all share features count as one, and one has no spread."""
        return self.effective >= 2

    def deviation(self, concepts: float, instructions: float | None = None) -> float:
        """Return the standard error of the mean difference with so many concepts and instructions (None: those of the run).

        Concepts that share features count as fewer independent ones, in the share in which they do in the run.
        """
        k = self.n_instructions if instructions is None else instructions
        independent = concepts * self.effective / self.n_concepts
        return float(np.sqrt((self.between + (self.within / k if k else 0.0)) / independent))

    def power(self, size: float, concepts: float, instructions: float | None = None) -> float:
        """Return the chance to tell a true difference of ``size`` from 0.

        Raises ScoringError for a size that is not above 0, and for fewer than two independent concepts.
        """
        from scipy.stats import nct, t

        if not size > 0:
            raise ScoringError(f"the difference is {size}", given=size, allowed="above 0")
        freedom = concepts * self.effective / self.n_concepts - 1
        if not freedom > 0:
            raise ScoringError(f"there are {concepts} concepts", given=concepts, allowed="at least two independent ones")
        deviation = self.deviation(concepts, instructions)
        if deviation == 0:
            return 1.0
        critical, shift = float(t.ppf((1 + self.level) / 2, freedom)), size / deviation
        if shift - critical > 40:  # beyond what the noncentral t can be had for, and 1 to all digits
            return 1.0
        found = nct.sf(critical, freedom, shift) + nct.cdf(-critical, freedom, shift)
        return float(min(1.0, found))

    def concepts_for(self, size: float, power: float = 0.8, instructions: float | None = None) -> int | None:
        """Return the least number of concepts with which a true difference of ``size`` is told from 0 with this power.

        Never fewer than give :data:`harness.scoring.simultaneous.MIN_CLUSTERS` independent ones, below which nothing is tested. None: more than
        :data:`MOST`.
        """
        open_share(power, "power")
        low = int(np.ceil(MIN_CLUSTERS * self.n_concepts / self.effective))
        if self.power(size, low, instructions) >= power:
            return low
        high = low
        while self.power(size, high, instructions) < power:
            if high > MOST:
                return None
            high *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.power(size, middle, instructions) >= power else (middle, high)
        return high

    def detectable(self, power: float = 0.8, concepts: float | None = None, instructions: float | None = None) -> float:
        """Return the difference that is told from 0 with this power, with so many concepts and instructions (None: those of the run)."""
        from scipy.optimize import brentq

        open_share(power, "power")
        n = self.n_concepts if concepts is None else concepts
        deviation = self.deviation(n, instructions)
        if deviation == 0:
            return 0.0
        top = deviation
        while self.power(top, n, instructions) < power:
            top *= 2
        return float(brentq(lambda size: self.power(size, n, instructions) - power, deviation * 1e-6, top, xtol=deviation * 1e-6))


def spread(differences: ArrayLike, within: ArrayLike, n_instructions: ArrayLike, clusters: ArrayLike | None = None, level: float = 0.95) -> Spread:
    """Return what the difference of two methods varies by.

    Args:
        differences: ``[concepts]`` score of the one − score of the other; NaN is left out.
        within: ``[concepts]`` variance of the difference over a concept's instructions (n − 1); NaN where it cannot be had, 0 where there is none.
        n_instructions: ``[concepts]`` instructions that a concept's score is the mean over; 0 where there are none.
        clusters: ``[concepts]`` of :func:`harness.scoring.clusters_of`; None: each stands alone.
        level: of one comparison.

    Raises:
        ScoringError: fewer than two concepts, lengths that differ, a negative variance.
    """
    values, noise = float_array(differences, "differences", ndim=1), float_array(within, "within", ndim=1)
    counts = float_array(n_instructions, "n_instructions", ndim=1)
    if not len(values) == len(noise) == len(counts):
        given = (len(values), len(noise), len(counts))
        raise ScoringError(f"the lengths are {given}", given=given, allowed="one value for each concept")
    codes = cluster_codes(None if clusters is None else np.asarray(clusters), len(values))
    defined = ~np.isnan(values)
    n = at_least(int(defined.sum()), 2, "number of concepts")
    if (noise[defined] < 0).any():
        raise ScoringError("a variance is below 0", given=float(np.nanmin(noise)), allowed="0 or more")
    k = float(counts[defined].mean())
    inside = _mean(noise[defined])
    total = float(values[defined].var(ddof=1))
    between = max(0.0, total - (inside / k if k else 0.0))
    sizes = np.bincount(codes[defined])
    effective = effective_clusters(sizes[sizes > 0].astype(np.float64))
    return Spread(float(values[defined].mean()), between, inside, n, effective, k, open_share(level, "level"))


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def level_of_one(critical: float, effective: float) -> float:
    """Return the level of a single t interval that reaches ``critical`` standard errors to either side, with so many independent concepts."""
    from scipy.stats import t

    return float(1 - 2 * t.sf(critical, effective - 1))
