"""Whether one method is better than another, in stored runs: paired over the concepts that both have; no model, task or plugin is needed.

Rows are made from the runs' files, so what is compared is what the stored ratings say now. Two rows may be compared if they belong to one task
(name, version, content, split, concept mode), kind and metric, and for steering one judge. What else differs (model, dictionary, decoding,
seed, …) is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from harness.errors import OptionError, StoreError, UnknownNameError
from harness.evaluations.compare_alike import Alike
from harness.evaluations.registry import EVALUATIONS
from harness.leaderboard.columns import heading, signed
from harness.leaderboard.entry import Row
from harness.leaderboard.paired import Item, Scores, features_of, scores_of
from harness.leaderboard.subject import DictionarySubjectRef, SteeringSubject
from harness.scoring import PairedDifference, paired_difference
from harness.scoring.intervals import Limits
from harness.scoring.simultaneous import MIN_CLUSTERS
from harness.store import JudgeRecord, RunStore
from harness.store.manifest import Manifest, MethodRecord
from harness.types import Aggregation, EvaluationKind, Json, ProtocolName

ENOUGH_CLUSTERS = MIN_CLUSTERS
"""With fewer effective clusters of concepts nothing is said of two methods: neither interval nor test holds there (docs/scoring.md)."""
LEVEL = 0.05
"""A difference is shown where the test's p-value lies below this and the 95 % interval holds no 0."""

Verdict = Literal["first", "second", "not shown", "nothing"]
"""Which one is better (of a metric without a direction: higher); or neither is shown to be; or there is too little to say anything."""


@dataclass(frozen=True)
class Side:
    """One of the two that are compared.

    Attributes:
        folder: of its run.
        manifest: of its run.
        judge: whose ratings count; None where nothing is rated.
        row: its scores.
        method: its record; None for a dictionary under a metric.
    """

    folder: Path
    manifest: Manifest
    judge: JudgeRecord | None
    row: Row
    method: MethodRecord | None

    @property
    def run(self) -> str:
        """Return the run's id."""
        return self.folder.resolve().name

    @property
    def name(self) -> str:
        """Return what people call the method."""
        return self.row.subject.name


@dataclass(frozen=True)
class ItemPair:
    """A concept, or a seed of a dictionary's metric, with both scores; None where one has none."""

    id: str
    text: str
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """Return first − second; None where one is missing."""
        return None if self.first is None or self.second is None else self.first - self.second


@dataclass(frozen=True)
class Comparison:
    """Two methods compared.

    Attributes:
        kind: of the evaluation.
        metric: the metric, by name; ``title`` is what people call it.
        higher_is_better: its direction; None for a metric that has none.
        bounds: its scale.
        first, second: the two.
        items: by concept, those of the larger differences first, and then those that one of them lacks.
        found: the mean difference first − second over the concepts that both have, in the metric's own direction, with its test.
        verdict: see :data:`Verdict`.
        differs: what else differs between the two.
        alike: where all scores are the same, whether texts and ratings are, too; None where a score differs, or where nobody has looked
            (:func:`harness.evaluations.compare_texts.told_alike`).
    """

    kind: EvaluationKind
    metric: str
    title: str
    higher_is_better: bool | None
    bounds: Limits
    first: Side
    second: Side
    items: tuple[ItemPair, ...]
    found: PairedDifference
    verdict: Verdict
    differs: tuple[str, ...]
    alike: Alike | None = None

    @property
    def item(self) -> str:
        """Return what is paired, in the singular."""
        return "seed" if self.kind == "dictionary" else "concept"

    @property
    def difference(self) -> float | None:
        """Return the mean of A − B over the items that both have; where there is none, the difference of the two scores."""
        if self.found.interval.n:
            return self.found.interval.estimate
        ours, theirs = self.first.row.score.value, self.second.row.score.value
        return None if ours is None or theirs is None else ours - theirs

    def headline(self) -> str:
        """Return the answer: is A better than B, by how much, with what certainty; or that they gave the same."""
        if self.alike is not None:
            return self.alike.headline()
        ends, p_value = self.found.interval, self.found.p_value
        count = f"{ends.n} {self.item}{'s' * (ends.n != 1)}"
        if self.verdict == "nothing":
            clusters = f"{ends.n_effective:.3g} effective clusters of {self.item}s" if ends.n else f"no {self.item} is shared"
            return f"Nothing can be said: {clusters}, {ENOUGH_CLUSTERS} needed; A − B {signed(self.difference)}"
        certainty = f"p {p_value:.2g}, {count}" if p_value is not None else count
        if self.verdict == "not shown":
            better = "higher" if self.higher_is_better is None else "better"
            return f"Not shown which is {better}: A − B {signed(ends.estimate)}{_ends(ends.low, ends.high)}, {certainty}"
        word = "higher" if self.higher_is_better is None else "better"
        better, worse = ("A", "B") if self.verdict == "first" else ("B", "A")
        turned = (ends.estimate or 0.0) < 0
        low, high = (-ends.high, -ends.low) if turned and ends.low is not None and ends.high is not None else (ends.low, ends.high)
        return f"{better} is {word} than {worse} by {abs(ends.estimate or 0.0):.3f}{_ends(low, high)}, {certainty}"

    def as_json(self) -> dict[str, Json]:
        """Return all of it as JSON."""
        ends = self.found.interval
        return {
            "answer": self.headline(),
            "verdict": self.verdict,
            "alike": None if self.alike is None else self.alike.as_json(),
            "kind": self.kind,
            "metric": self.metric,
            "higher_is_better": self.higher_is_better,
            "bounds": list(self.bounds),
            "difference": self.difference,
            "low": ends.low,
            "high": ends.high,
            "interval_method": ends.method,
            "level": ends.level,
            "p_value": self.found.p_value,
            "exact": self.found.exact,
            "n": ends.n,
            "n_clusters": ends.n_clusters,
            "n_effective": ends.n_effective,
            "n_missing": len(self.items) - ends.n,
            "warning": ends.warning,
            "differs": list(self.differs),
            "first": _side_json(self.first),
            "second": _side_json(self.second),
            "items": [
                {"id": item.id, "text": item.text, "first": item.first, "second": item.second, "difference": item.difference}
                for item in self.items
            ],
        }


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low + 0.0:.3f}, {high + 0.0:.3f}]"


def _side_json(side: Side) -> dict[str, Json]:
    row, score = side.row, side.row.score
    return {
        "run": side.run,
        "folder": str(side.folder),
        "method": side.name,
        "role": row.role,
        "judge": None if side.judge is None else side.judge.key,
        "score": score.value,
        "low": score.low,
        "high": score.high,
        "n_items": row.n_items,
        "n_answered": row.n_answered,
        "eligible": row.eligible,
        "reasons": list(row.reasons),
    }


# ----------------------------------------------------------------------------------------------------------------- finding the two


def kinds_of(manifest: Manifest) -> list[EvaluationKind]:
    """Return the kinds of evaluation that a run has."""
    return [evaluation.kind for evaluation in EVALUATIONS if evaluation.wanted(manifest)]


def load_side(
    store: RunStore,
    kind: EvaluationKind,
    method: str = "",
    judge: str | None = None,
    protocol: ProtocolName | None = None,
    aggregation: Aggregation | None = None,
) -> Side:
    """Return one side of a comparison, scored from what its run holds.

    Args:
        store: the run, open; reading is enough.
        kind: of the evaluation; one of the run's.
        method: its number, id or name, or the name of its labeler, steerer, detector or metric where that is enough; empty: the run's first.
        judge: steering: key or name of the judge whose ratings count; None: the run's own.
        protocol: steering: who chooses a strength and who reports; None: as the run says.
        aggregation: steering: how three ratings become one score; None: as the run says.

    Raises:
        StoreError: no ratings by that judge; a run that stopped before its labels were made.
        UnknownNameError: no such method, or several.
    """
    manifest = store.manifest.model_copy(update={"protocol": store.manifest.protocol.named(protocol, aggregation)})
    record = _judge(store, judge) if kind == "steering" else None
    evaluation = next(evaluation for evaluation in EVALUATIONS if evaluation.kind == kind)
    rows = list(evaluation.score(manifest, store, record))
    records: Sequence[MethodRecord | None] = manifest.methods_of(kind) if kind != "dictionary" else [None] * len(rows)
    numbers = {found.id: place for place, found in enumerate(manifest.methods, 1)}
    known = [(row.subject.id, "") if found is None else (found.id, str(numbers[found.id])) for row, found in zip(rows, records, strict=True)]
    place = _find(method, rows, known)
    return Side(store.folder, manifest, record, rows[place], records[place])


def _judge(store: RunStore, wanted: str | None) -> JudgeRecord:
    found = store.judge_named(wanted)
    if found is None:
        raise StoreError(f"nobody has rated the run {store.id}", given=wanted, hint="run its `harness eval` again first, or `harness judge` it")
    return found


def _find(wanted: str, rows: Sequence[Row], known: Sequence[tuple[str, str]]) -> int:
    """Return the place of a method among a run's rows: the first of the methods asked for where nothing is ``wanted``.

    ``known`` are id and number of each.
    """
    if not wanted:
        return next((place for place, row in enumerate(rows) if row.role == "method"), 0)
    text = _comparable_name(wanted)
    tests: tuple[Callable[[int, Row], bool], ...] = (
        lambda place, row: text == _comparable_name(row.subject.name) or wanted in known[place],
        lambda place, row: text in _plugins(row),
        lambda place, row: _comparable_name(row.subject.name).startswith(text) or known[place][0].startswith(text),
        lambda place, row: text in _comparable_name(row.subject.name),
    )
    for test in tests:
        found = [place for place, row in enumerate(rows) if test(place, row)]
        if len(found) > 1 and len(asked := [place for place in found if rows[place].role == "method"]) == 1:
            found = asked  # a control of the same plugin is named in full
        if len(found) == 1:
            return found[0]
        if found:
            raise UnknownNameError("method", wanted, [rows[place].subject.name for place in found], "(several are meant; name one, or its number)")
    raise UnknownNameError("method", wanted, [row.subject.name for row in rows], "(of this run; `harness runs show` numbers them)")


def _comparable_name(name: str) -> str:
    """Return a name as it is compared: lower case, x for ×, single spaces."""
    return " ".join(name.lower().replace("×", " x ").split())


def _plugins(row: Row) -> set[str]:
    """Return the names of a row's plugins."""
    subject = row.subject
    if isinstance(subject, DictionarySubjectRef):
        return {_comparable_name(subject.metric), _comparable_name(subject.dictionary)}
    plugin = subject.steerer if isinstance(subject, SteeringSubject) else subject.detector
    return {_comparable_name(name) for name in (subject.labeler, plugin) if name is not None}


# --------------------------------------------------------------------------------------------------------------------- comparing


def compare(first: Side, second: Side) -> Comparison:
    """Return how two methods compare. Raises OptionError, with the reason, for two that may not be compared."""
    _check(first, second)
    metric = first.row.metrics[first.row.primary]
    scores = paired_scores(first, second)
    found = paired_difference(scores.values[0], scores.values[1], clusters=scores.clusters, bounds=metric.bounds, item=scores.noun)
    items = [_item(key, *values) for key, values in zip(scores.items, scores.values.T, strict=True)]
    items.sort(key=lambda item: (item.difference is None, -abs(item.difference or 0.0)))
    better = metric.higher_is_better
    return Comparison(
        kind=first.row.kind,
        metric=first.row.primary,
        title=metric.title or heading(first.row.primary),
        higher_is_better=better,
        bounds=metric.bounds,
        first=first,
        second=second,
        items=tuple(items),
        found=found,
        verdict=_verdict(found, better),
        differs=tuple(_differs(first, second)),
    )


def _verdict(found: PairedDifference, higher_is_better: bool | None) -> Verdict:
    ends = found.interval
    if ends.n_effective < ENOUGH_CLUSTERS or found.p_value is None:
        return "nothing"
    if ends.low is None or ends.high is None or ends.low <= 0 <= ends.high or found.p_value >= LEVEL:
        return "not shown"
    return "first" if (ends.low > 0) == (higher_is_better is not False) else "second"


def paired_scores(first: Side, second: Side, sign: int = 1) -> Scores:
    """Return the scores of both, paired by item; in the metric's own direction, or turned around by a ``sign`` of -1."""
    sides = (first, second)
    features = [features_of([(side.row, side.manifest.dictionaries)]) for side in sides]
    return scores_of([side.row for side in sides], features, sign, trivial=first.manifest.task.mode == "fixed")


def _item(key: Item, first: float, second: float) -> ItemPair:
    return ItemPair(*key, None if np.isnan(first) else float(first), None if np.isnan(second) else float(second))


# ----------------------------------------------------------------------------------------------------- what may be compared with what


def _check(first: Side, second: Side) -> None:
    """Raise OptionError where two methods may not be compared."""
    if (first.folder.resolve(), first.row.subject.id) == (second.folder.resolve(), second.row.subject.id):
        names = [row.name for row in first.manifest.methods_of(first.row.kind)]
        raise OptionError(f"A and B are both {first.name} of {first.run}", given=first.name, allowed=tuple(names), hint="name two as RUN:METHOD")
    ours, theirs = first.manifest.task, second.manifest.task
    pairs: list[tuple[str, str, str]] = [
        ("task", f"{ours.name} {ours.version}", f"{theirs.name} {theirs.version}"),
        ("content of the task's files (by digest)", ours.digest, theirs.digest),
        ("split", ours.split, theirs.split),
        ("concept mode", ours.mode, theirs.mode),
        ("metric", _metric(first), _metric(second)),
        ("judge", _ranking_key(first), _ranking_key(second)),
        ("goal of steering", _goal(first), _goal(second)),
        ("protocol", _protocol(first), _protocol(second)),
    ]
    hints = {
        "judge": "name a judge that has rated both with --judge, or rate one again (`harness judge`)",
        "protocol": "name one for both with --protocol and --aggregation",
    }
    for what, one, other in pairs:
        if one != other:
            message = f"A and B may not be compared: the {what} is {one} in {first.run} and {other} in {second.run}"
            raise OptionError(message, given=(one, other), allowed=f"one {what.partition(' (')[0]}", hint=hints.get(what, ""))


def _metric(side: Side) -> str:
    subject = side.row.subject
    options = subject.metric_options.all if isinstance(subject, DictionarySubjectRef) else {}
    return f"{side.row.primary} {options}" if options else side.row.primary


def _goal(side: Side) -> str:
    """Return what steering was for: how well a concept is expressed is not held against how well one is suppressed."""
    return f"to {side.manifest.protocol.goal}" if side.row.kind == "steering" else ""


def _protocol(side: Side) -> str:
    """Return how scores of steering are made: those of two protocols are not held against each other."""
    return side.manifest.protocol.title if side.row.kind == "steering" else ""


def _ranking_key(side: Side) -> str:
    return "" if side.judge is None else side.judge.ranking_key


def _differs(first: Side, second: Side) -> Iterator[str]:
    """Yield what differs between two runs and may matter, a phrase each."""
    one, other = first.manifest, second.manifest
    kind = first.row.kind
    aspects: list[tuple[str, Json, Json]] = [
        ("model", one.model.name, other.model.name),
        ("weights of the model", one.model.digest, other.model.digest),
        ("dtype", one.model.dtype, other.model.dtype),
        ("device", one.model.device, other.model.device),
        ("harness", one.harness_version, other.harness_version),
    ]
    if kind != "dictionary":
        aspects.append(("dictionaries", _dictionaries(one), _dictionaries(other)))
    if kind == "steering":
        aspects.append(("instructions", one.instruction_set_digest, other.instruction_set_digest))
        aspects.append(("instructions per concept", one.per_concept, other.per_concept))
        aspects += [(f"decoding: {name}", getattr(one.decoding, name), getattr(other.decoding, name)) for name in one.decoding.__dataclass_fields__]
        ours, theirs = ([] if side.method is None else side.method.grid for side in (first, second))
        aspects += [("strengths", ours, theirs)] if min(len(ours), len(theirs)) > 1 else []  # one without a choice has nothing to compare
        aspects.append(("the judge's code", first.judge.code if first.judge else "", second.judge.code if second.judge else ""))
    aspects.append(("protocol", one.protocol.model_dump(), other.protocol.model_dump()))
    if one.seed != other.seed:
        draws = ", which draw other instructions for a concept" if kind == "steering" else ""
        yield f"seed: {one.seed} and {other.seed}{draws}"
    for what, value, other_value in aspects:
        if value != other_value:
            yield f"{what}: {_value_text(value)} and {_value_text(other_value)}"


def _dictionaries(manifest: Manifest) -> Mapping[str, str]:
    return {ref.name: f"{ref.source} {ref.digest}".strip() for ref in manifest.dictionaries}


def _value_text(value: Json) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_value_text(part)}" for name, part in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_value_text, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
