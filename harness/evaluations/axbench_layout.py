"""AxBench's layout of steered texts: a row for each concept, instruction and factor, and columns for each method.

The columns are those that AxBench's own programs write and read (``inference/steering_data.parquet``, with the ratings of
``evaluate/steering_data.parquet``): ``dataset_name``, ``concept_id``, ``input_concept``, ``input_id``, ``factor``, ``original_prompt``,
``steered_input``, ``input``, ``sae_link``, ``sae_id``, and for each method M ``M_steered_generation``, ``M_LMJudgeEvaluator`` (the harmonic
mean), and for each of ``relevance_concept``, ``relevance_instruction`` and ``fluency`` ``M_LMJudgeEvaluator_…_ratings`` and ``…_completions``
(a judge's replies, where it keeps them). Rows stand by concept, instruction and factor.

What differs: methods have grids of their own, so a method has nulls at the factors of others; a text without a rating has null, where AxBench
puts 0; there are no ``M_perplexity`` and ``M_strength`` (the absolute one), which a run does not keep.
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
from harness.types import ASPECTS, Json, Rating

_SHARED: dict[str, ColumnType] = {
    "dataset_name": "text", "concept_id": "whole", "input_concept": "text", "input_id": "whole", "factor": "number", "original_prompt": "text",
    "steered_input": "text", "input": "text", "sae_link": "text", "sae_id": "whole",
}  # fmt: skip
_JUDGE = "LMJudgeEvaluator"
_RATINGS = {"concept": "relevance_concept", "instruction": "relevance_instruction", "fluency": "fluency"}
"""AxBench's names of the three ratings."""

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
        columns |= {f"{name}_steered_generation": "text", f"{name}_{_JUDGE}": "number"}
        for part in _RATINGS.values():
            columns |= {f"{name}_{_JUDGE}_{part}_ratings": "number", f"{name}_{_JUDGE}_{part}_completions": "text"}
    metadata = {
        "run": run.id,
        "judge": judge_key,
        "concepts": {str(number): concept for concept, number in made.numbers.items()},
        "methods": {name: {"method_id": method, "draw": draw} for (method, draw), name in made.names.items()},
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
    """

    run: RunStore
    judge_key: str | None
    positions: Mapping[str, Sequence[int]]
    numbers: Mapping[str, int]
    names: Mapping[tuple[str, int], str]
    draws: Mapping[tuple[str, str], int]
    texts: Names = field(repr=False)

    @classmethod
    def of(cls, run: RunStore, judge_key: str | None) -> _Layout:
        positions = run.positions()
        draws: dict[tuple[str, str], int] = {}
        seen: Counter[tuple[str, str]] = Counter()
        for method, labeling, concept in run.steered_labelings():
            draws[method, labeling] = seen[method, concept]
            seen[method, concept] += 1
        texts = Names(run)
        return cls(run, judge_key, positions, _numbers(run, positions), _names(texts.methods, draws), draws, texts)

    def rows(self) -> Iterator[dict[str, Json]]:
        """Yield the rows, a concept's at a time."""
        for concept in sorted(self.positions, key=lambda name: self.numbers[name]):
            yield from self._concept(concept, list(self.run.records_at(self.positions[concept], self.judge_key)))

    def _concept(self, concept: str, records: Sequence[Record]) -> Iterator[dict[str, Json]]:
        order = {name: place for place, name in enumerate(self.run.manifest.instructions_for(concept))}
        for record in records:  # a run whose manifest does not tell: as they come
            order.setdefault(record.trial.instruction_id, len(order))
        shared = self._about(concept, records)
        cells: dict[tuple[int, float], list[Record]] = {}
        for record in records:
            cells.setdefault((order[record.trial.instruction_id], float(record.trial.strength)), []).append(record)
        prompts: dict[int, list[str]] = {}
        for (place, _), found in cells.items():
            prompts.setdefault(place, []).extend(record.generation.prompt for record in found if record.generation)
        for place, factor in sorted(cells):
            found = cells[place, factor]
            by_length = sorted(set(prompts[place]), key=len)
            yield {
                **dict.fromkeys(_SHARED),
                **shared,
                "input_id": place,
                "factor": factor,
                "original_prompt": self.texts.instructions.get(found[0].trial.instruction_id),
                "input": by_length[0] if by_length else None,
                "steered_input": by_length[-1] if len(by_length) > 1 else None,
                **dict.fromkeys(column for name in self.names.values() for column in _columns(name)),
                **{column: value for record in found for column, value in self._answer(record).items()},
            }

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

    def _answer(self, record: Record) -> dict[str, Json]:
        trial, rating = record.trial, record.rating
        name = self.names[trial.method_id, self.draws[trial.method_id, trial.labeling_id]]
        generation, judge, *parts = _columns(name)
        numbers = [None if rating is None else getattr(rating, aspect) for aspect in ASPECTS]
        replies = _replies(rating)
        ratings = dict(zip(parts[::2], numbers, strict=True)) | dict(zip(parts[1::2], (replies.get(aspect) for aspect in ASPECTS), strict=True))
        return {generation: record.generation.text if record.generation else None, judge: overall(rating, self.run.manifest.protocol.goal), **ratings}


def _columns(name: str) -> list[str]:
    """Return the columns of a method, in order."""
    parts = [f"{name}_{_JUDGE}_{_RATINGS[aspect]}_{what}" for aspect in ASPECTS for what in ("ratings", "completions")]
    return [f"{name}_steered_generation", f"{name}_{_JUDGE}", *parts]


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


def _replies(rating: Rating | None) -> dict[str, str]:
    """Return a judge's replies by aspect, where its ratings keep them."""
    found = {} if rating is None else rating.details.get("replies")
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}
