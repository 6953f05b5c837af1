"""AxBench's layout of steered texts: a row for each concept, instruction and factor, and columns for each method.

The columns are those that AxBench's own programs write and read (``inference/steering_data.parquet``, with the ratings of
``evaluate/steering_data.parquet``): ``dataset_name``, ``concept_id``, ``input_concept``, ``input_id``, ``factor``, ``original_prompt``,
``steered_input``, ``input``, ``sae_link``, ``sae_id``, and for each method M ``M_steered_generation``, ``M_LMJudgeEvaluator`` (the harmonic
mean), and for each of ``relevance_concept``, ``relevance_instruction`` and ``fluency`` ``M_LMJudgeEvaluator_…_ratings`` and ``…_completions``
(the judge's replies). Rows stand by concept, instruction and factor; there is none in which no method has anything.

A method without strengths (``prompt``, ``none``: unit ``none`` and one strength) has its text at every factor, as in AxBench's own files, whose
programs take the factor with the best mean: a gap there would be taken for the best.

What differs: methods have grids of their own, so a method has nulls at the factors of others; a text without a rating has null, where AxBench
puts 0; ``M_LMJudgeEvaluator_status`` says for each row why (:data:`STATUS`). Of a judge without replies the ``…_completions`` are what its ratings
keep. There are no ``M_perplexity`` and ``M_strength`` (the absolute one), which a run does not keep.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.errors import StoreError
from harness.evaluations.steering.choices import overall
from harness.files.tables import ColumnType
from harness.store import RunStore
from harness.store.export import Names
from harness.store.run import Record
from harness.types import ASPECTS, Goal, Json, Rating, canonical_json

STATUS = {
    "rated": "there is a text, and it is rated",
    "unrated: …": "there is a text, and the judge gave no rating, for that reason",
    "pending": "its rating is still to come",
    "not rated": "there is a text, and the judge has not come to it",
    "no text": "it is not generated yet",
    "no such factor": "the method did not try this strength",
    "no answer": "the method's labeler has no answer to the concept, or not so many",
}
"""What stands in a method's status; in all but the first there is no rating, in the last three no text."""

_SHARED: dict[str, ColumnType] = {
    "dataset_name": "text", "concept_id": "whole", "input_concept": "text", "input_id": "whole", "factor": "number", "original_prompt": "text",
    "steered_input": "text", "input": "text", "sae_link": "text", "sae_id": "whole",
}  # fmt: skip
_JUDGE = "LMJudgeEvaluator"
_RATINGS = {"concept": "relevance_concept", "instruction": "relevance_instruction", "fluency": "fluency"}
"""AxBench's names of the three ratings."""

_Answers = dict[tuple[str, float | None], Record]
"""A method's trials of a concept by instruction and factor; None is the factor of a method without strengths."""
Table = tuple[dict[str, ColumnType], Iterator[dict[str, Json]], dict[str, Json]]


def axbench_table(run: RunStore, judge_key: str | None) -> Table:
    """Return columns, rows and metadata of a run's texts in AxBench's layout.

    ``concept_id`` is the concept's id where all ids of the run are whole numbers, else its place in the run; ``input_id`` is the place of the
    instruction among the concept's, in the order in which they were drawn. The metadata say what the numbers and the methods' names stand for.

    Raises:
        StoreError: nothing was steered; a run of an older harness that never finished.
    """
    if not run.counts()["trials"]:
        message = f"the run {run.id} has no texts: nothing was steered in it"
        raise StoreError(message, given=run.id, allowed="a run that steers")
    made = _Layout.of(run, judge_key)
    columns = dict(_SHARED)
    for name in made.names.values():
        columns |= {column: "number" if column.endswith(("_ratings", _JUDGE)) else "text" for column in _columns(name)}
    metadata = {
        "run": run.id,
        "judge": judge_key,
        "concepts": {str(number): concept for concept, number in made.numbers.items()},
        "methods": {name: {"method_id": method, "draw": draw, **made.strengths(method)} for (method, draw), name in made.names.items()},
    }
    return columns, made.rows(), metadata


@dataclass(frozen=True)
class _Layout:
    """How the trials of a run become rows.

    Attributes:
        run: the run.
        judge_key: whose ratings.
        positions: the places of each concept's trials.
        numbers: each concept's number.
        names: AxBench's name of each method and answer of its labeler to one concept, of which a control may have several (draws).
        draws: which answer to its concept a method's labeling is, by method and labeling.
        texts: what ids stand for.
        without_strength: ids of the methods that have none: one text for each instruction.
        factors: the strengths of all others.
    """

    run: RunStore
    judge_key: str | None
    positions: Mapping[str, Sequence[int]]
    numbers: Mapping[str, int]
    names: Mapping[tuple[str, int], str]
    draws: Mapping[tuple[str, str], int]
    texts: Names = field(repr=False)
    without_strength: frozenset[str]
    factors: frozenset[float]

    @classmethod
    def of(cls, run: RunStore, judge_key: str | None) -> _Layout:
        positions = run.positions()
        draws: dict[tuple[str, str], int] = {}
        seen: Counter[tuple[str, str]] = Counter()
        for method, labeling, concept in run.steered_labelings():
            draws[method, labeling] = seen[method, concept]
            seen[method, concept] += 1
        texts = Names(run)
        methods = run.manifest.methods_of("steering")
        without = frozenset(method.id for method in methods if method.strength_unit == "none" and len(method.grid) == 1)
        factors = frozenset(as_factor(strength) for method in methods if method.id not in without for strength in method.grid)
        return cls(run, judge_key, positions, _numbers(run, positions), _names(texts.methods, draws), draws, texts, without, factors)

    def rows(self) -> Iterator[dict[str, Json]]:
        """Yield the rows, a concept's at a time."""
        for concept in sorted(self.positions, key=lambda name: self.numbers[name]):
            yield from self._concept(concept, list(self.run.records_at(self.positions[concept], self.judge_key)))

    def _concept(self, concept: str, records: Sequence[Record]) -> Iterator[dict[str, Json]]:
        order = {name: place for place, name in enumerate(self.run.manifest.instructions_for(concept))}
        for record in records:  # a run whose manifest does not tell: as they come
            order.setdefault(record.trial.instruction_id, len(order))
        shared = self._about(concept, records)
        answers: dict[str, _Answers] = {name: {} for name in self.names.values()}
        prompts: dict[str, list[str]] = {}
        for record in records:
            trial = record.trial
            factor = None if trial.method_id in self.without_strength else as_factor(trial.strength)
            answers[self.names[trial.method_id, self.draws[trial.method_id, trial.labeling_id]]][trial.instruction_id, factor] = record
            prompts.setdefault(trial.instruction_id, []).extend([record.generation.prompt] if record.generation else [])
        factors = sorted({*self.factors, *(factor for found in answers.values() for _, factor in found if factor is not None)}) or [1.0]
        for instruction in sorted(prompts, key=lambda name: order[name]):
            by_length = sorted(set(prompts[instruction]), key=len)
            goal = self.run.manifest.protocol.goal
            for factor in factors:
                found = {name: own.get((instruction, factor)) or own.get((instruction, None)) for name, own in answers.items()}
                if not any(found.values()):
                    continue
                yield {
                    **dict.fromkeys(_SHARED),
                    **shared,
                    "input_id": order[instruction],
                    "factor": factor,
                    "original_prompt": self.texts.instructions.get(instruction),
                    "input": by_length[0] if by_length else None,
                    "steered_input": by_length[-1] if len(by_length) > 1 else None,
                    **{key: value for name, record in found.items() for key, value in _cells(name, record, answers[name], factor, goal).items()},
                }

    def strengths(self, method: str) -> dict[str, Json]:
        """Return what a method's factors are: their unit, and which it tried; null for one that has none, or where the run does not say."""
        known = next((one for one in self.run.manifest.methods if one.id == method), None)
        tried = None if known is None or method in self.without_strength else [as_factor(strength) for strength in known.grid]
        return {"unit": None if known is None else known.strength_unit, "factors": tried}

    def _about(self, concept: str, records: Sequence[Record]) -> dict[str, Json]:
        """Return what all rows of a concept share; its feature is that of the first method that has a single one."""
        known = [self.texts.of_trial(record.trial) for record in _one_each(records)]
        feature = next((features[0] for _, features in known if features is not None and len(features) == 1), None)
        return {
            "dataset_name": self.run.manifest.task.name,
            "concept_id": self.numbers[concept],
            "input_concept": next((found.text for found, _ in known if found is not None), None),
            "sae_link": feature,
            "sae_id": None if feature is None else int(feature.rpartition("/")[2]),
        }


def as_factor(strength: float) -> float:
    """Return a strength as it stands in the table: two that differ by rounding alone share a row."""
    return float(f"{strength:.12g}")


def _cells(name: str, record: Record | None, answers: _Answers, factor: float, goal: Goal) -> dict[str, Json]:
    """Return what a method has in a row, in each of its columns: nulls where it has nothing, and why. ``answers`` are all that it has."""
    rating = None if record is None else record.rating
    parts: list[Json] = []
    for aspect in ASPECTS:
        parts += [None if rating is None else getattr(rating, aspect), _said(rating, aspect)]
    text = record.generation.text if record is not None and record.generation is not None else None
    return dict(zip(_columns(name), [text, overall(rating, goal), *parts, _status(record, answers, factor)], strict=True))


def _status(record: Record | None, answers: _Answers, factor: float) -> str:
    """Return one of :data:`STATUS`."""
    if record is None:
        return "no answer" if not answers else "no text" if factor in {tried for _, tried in answers} else "no such factor"
    if record.generation is None:
        return "no text"
    if record.rating is None:
        return "not rated"
    return f"unrated: {record.rating.reason}" if record.rating.status == "unrated" else record.rating.status


def _columns(name: str) -> list[str]:
    """Return the columns of a method, in order."""
    parts = [f"{name}_{_JUDGE}_{_RATINGS[aspect]}_{what}" for aspect in ASPECTS for what in ("ratings", "completions")]
    return [f"{name}_steered_generation", f"{name}_{_JUDGE}", *parts, f"{name}_{_JUDGE}_status"]


def _numbers(run: RunStore, concepts: Mapping[str, Any]) -> dict[str, int]:
    """Return each concept's number: its id, where all are whole numbers, else its place among the run's concepts."""
    if all(re.fullmatch(r"0|[1-9]\d{0,8}", name) for name in concepts):
        return {name: int(name) for name in concepts}
    listed = dict.fromkeys([*run.manifest.concepts, *concepts])
    return {name: place for place, name in enumerate(listed) if name in concepts}


def _names(methods: Mapping[str, str], draws: Mapping[tuple[str, str], int]) -> dict[tuple[str, int], str]:
    """Return AxBench's names: without spaces, and without ``_``, at which its programs cut columns; each once."""
    wanted = dict.fromkeys((method, draw) for (method, _), draw in draws.items())
    plain = {method: re.sub(r"[\s_]+", lambda found: "-" if "_" in found[0] else "", methods.get(method, method)) for method, _ in wanted}
    twice = {name for name, count in Counter(plain.values()).items() if count > 1}
    named = {method: f"{name}-{method[:6]}" if name in twice else name for method, name in plain.items()}
    return {(method, draw): f"{named[method]}#{draw + 1}" if draw else named[method] for method, draw in wanted}


def _one_each(records: Sequence[Record]) -> list[Record]:
    """Return the first record of each method and labeling."""
    return list({(record.trial.method_id, record.trial.labeling_id): record for record in reversed(records)}.values())[::-1]


def _said(rating: Rating | None, aspect: str) -> str | None:
    """Return a judge's reply on an aspect; of one that is no language model what its rating keeps on it, the rule by which it rated, or all."""
    details = {} if rating is None else rating.details
    if "replies" in details:
        replies = details["replies"]
        found: Json = replies.get(aspect) if isinstance(replies, dict) else None
    else:
        found = next((details[name] for name in (aspect, "rule") if details.get(name) is not None), dict(details) or None)
    return found if found is None or isinstance(found, str) else canonical_json(found)
