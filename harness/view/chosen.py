"""Which strength the ratings choose for each labeling of a method: that with the best score on the deciding instructions, the smallest of equal ones.

It is the strength that the run's own protocol names as the chosen one (:func:`harness.scoring.protocols.score_ratings`), by the ratings so far.
"""

from __future__ import annotations

import itertools
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.scoring import overall
from harness.scoring.folds import NO_CHOICE, all_tied, choose, halves
from harness.store.manifest import Manifest
from harness.types import Aggregation, Goal

Means = tuple[float | None, ...]
"""The mean overall score of some texts, and the means of concept, instruction and fluency; None where nothing is rated."""

_MEANS = (
    "SELECT j.key, i.method_id, i.labeling_id, i.strength, avg(o.overall), avg(o.concept), avg(o.instruction), avg(o.fluency) "
    "FROM texts i JOIN ratings o ON o.position = i.position JOIN judges j ON j.id = o.judge {where} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, {order}"
)
_DECIDING = "WHERE EXISTS (SELECT 1 FROM temp.deciding d WHERE d.concept_id = i.concept_id AND d.instruction_id = i.instruction_id)"


@dataclass(frozen=True)
class Rule:
    """What of a protocol the choice depends on.

    Attributes:
        aggregation: how three ratings become one score.
        deciding: ids of the instructions that choose, by concept; empty where all do.
        goal: what steering is for.
    """

    aggregation: Aggregation = "mean-of-harmonic-means"
    deciding: Mapping[str, Sequence[str]] = field(default_factory=dict)
    goal: Goal = "express"


def rule_of(manifest: Manifest, concepts: Iterable[str]) -> Rule:
    """Return the rule of a run's protocol."""
    protocol = manifest.protocol
    deciding: dict[str, Sequence[str]] = {}
    for concept in concepts if protocol.name == "axbench" else ():
        instructions = manifest.instructions_for(concept)
        if len(instructions) > 1:
            first = halves(len(instructions)).deciding[0]
            deciding[concept] = [name for name, decides in zip(instructions, first, strict=True) if decides]
    return Rule(protocol.aggregation, deciding, protocol.goal)


def update_chosen(connection: sqlite3.Connection, rule: Rule) -> None:
    """Make the index' table ``chosen`` anew from the ratings in it; within a transaction."""
    found = _groups(connection, rule, "")
    if rule.deciding:  # with one strength nothing is chosen, and all instructions count
        connection.execute("CREATE TEMP TABLE IF NOT EXISTS deciding (concept_id, instruction_id, PRIMARY KEY (concept_id, instruction_id))")
        connection.execute("DELETE FROM temp.deciding")
        sql = "INSERT OR IGNORE INTO temp.deciding SELECT ?, value FROM json_each(?)"
        connection.executemany(sql, [(concept, json.dumps(list(names))) for concept, names in rule.deciding.items()])
        some = _groups(connection, rule, _DECIDING)
        found = {key: group if len(group) == 1 else some.get(key, []) for key, group in found.items()}
    connection.execute("DELETE FROM chosen")
    connection.executemany("INSERT INTO chosen VALUES (?, ?, ?, ?)", _choices(found, rule))


def _groups(connection: sqlite3.Connection, rule: Rule, where: str) -> dict[tuple[str, str, str], list[tuple[float, Means]]]:
    """Return the means at each strength, in the order of the grid, by judge, method and labeling."""
    order = "4" if rule.goal == "express" else "4 DESC"  # strengths against a concept are 0 and below, the weakest first
    rows = connection.execute(_MEANS.format(where=where, order=order))
    return {key: [(row[3], row[4:]) for row in group] for key, group in itertools.groupby(rows, key=lambda row: row[:3])}


def _choices(found: Mapping[tuple[str, str, str], Sequence[tuple[float, Means]]], rule: Rule) -> Iterator[tuple[str, str, str, float]]:
    for key, group in found.items():
        strength = chosen_strength(group, rule)
        if strength is not None:
            yield *key, strength


def chosen_strength(found: Sequence[tuple[float, Means]], rule: Rule) -> float | None:
    """Return the chosen one of some strengths in the order of the grid, with their means; None where nothing is rated, or all score alike."""
    if not found:
        return None
    means = np.array([[np.nan if mean is None else mean for mean in each] for _, each in found], dtype=np.float64)
    scores = (means[:, 0] if rule.aggregation == "mean-of-harmonic-means" else overall(means[:, 1:], rule.goal))[:, None]
    place = int(choose(scores)[0])
    return None if place == NO_CHOICE or all_tied(scores) else found[place][0]
