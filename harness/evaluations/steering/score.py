"""From stored ratings to an entry: per text, per concept (strength by cross-validation), per method, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import harness
from harness.evaluations.steering.rate import why_unrated
from harness.leaderboard.entry import (
    Bounds,
    ConceptResult,
    DictionaryRef,
    Entry,
    JudgeRef,
    MethodRef,
    MethodResult,
    ModelRef,
    OptionValues,
    Sample,
    Score,
    Scores,
    TaskRef,
)
from harness.run.bench import TaskBench
from harness.run.plan import Answers, Plan, PlannedMethod, PlannedPlugin, labelings_of
from harness.run.provenance import LIBRARIES, git_state, versions
from harness.scoring import clusters_of, cross_validate, harmonic_mean, interval, rating_bounds
from harness.store import JudgeRecord, Record, RunStore
from harness.types import Abstention, Labeling, digest, rng

SAMPLES = 3
PARTS = ("concept", "instruction", "fluency")


@dataclass(frozen=True)
class _Scored:
    """A labeling's scores, and its bounds with unrated texts at 0 and at 2."""

    labeling: Labeling
    result: ConceptResult
    bounds: tuple[float, float]
    n_pending: int


def make_entry(plan: Plan, answers: Answers, bench: TaskBench, store: RunStore, judge: JudgeRecord) -> Entry:
    """The entry of a run with one judge's ratings; deterministic but for ``created``."""
    results = tuple(_method_result(plan, method, answers, bench, list(store.records(judge.key, method.method.id))) for method in plan.methods)
    concepts = sorted({(row.concept_id, row.concept_text) for result in results for row in result.per_concept})
    warnings = list(bench.warnings)
    if judge.offline:
        warnings.append(f"judge {judge.name!r} is an offline judge: no person or strong model stands behind these ratings")
    if unrated := store.unrated(judge.key):
        warnings.append(f"judge {judge.name!r}: {len(unrated)} texts are unrated: {why_unrated(unrated)}")
    if bench.choices.limit is not None:
        warnings.append(f"--limit {bench.choices.limit}: only the first so many concepts were run")
    return Entry(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        harness_version=harness.__version__,
        libraries=versions(LIBRARIES),
        plugins=_plugin_versions(plan, store, judge),
        git=git_state(Path(harness.__file__).resolve().parent.parent),
        task=TaskRef(
            name=bench.task.name,
            version=str(bench.task.file.version),
            digest=bench.task.digest([bench.corpus_digest if bench.has_corpus else None]),
            split=bench.split or "all",
            mode=bench.task.file.concepts.mode,
        ),
        model=ModelRef(
            name=bench.model.name,
            digest=bench.model.digest,
            dtype=str(bench.model.dtype).removeprefix("torch."),
            device=str(bench.model.device),
        ),
        dictionaries=tuple(_dictionary_refs(bench)),
        judge=JudgeRef(name=judge.name, rubric=judge.rubric, options=dict(judge.options), offline=judge.offline, key=judge.key),
        concept_set_digest=digest(concepts),
        instruction_set_digest=digest(sorted((i.id, i.text) for i in bench.instructions)),
        decoding=bench.task.file.decoding.decoding(),
        seed=bench.seed,
        run_digest=digest(store.plan),
        results=results,
        warnings=tuple(dict.fromkeys(warnings)),
    )


# ----------------------------------------------------------------------------------------------------------------- one method


def _method_result(plan: Plan, method: PlannedMethod, answers: Answers, bench: TaskBench, records: Sequence[Record]) -> MethodResult:
    labelings = labelings_of(plan, method, answers, bench)
    by_labeling: dict[str, list[Record]] = {}
    for record in records:
        by_labeling.setdefault(record.trial.labeling_id, []).append(record)
    scored = [_score_labeling(method, labeling, bench, by_labeling.get(labeling.id, [])) for labeling in labelings]
    abstained = _abstentions(method, answers)
    fixed = bench.concept_mode == "fixed"
    n_concepts = len(bench.concepts) if fixed else len({s.labeling.concept.id for s in scored})
    n_answered = len({s.labeling.concept.id for s in scored})
    rows = tuple(s.result for s in scored) + tuple(abstained if fixed else ())
    n_unrated, n_pending = sum(s.result.n_unrated for s in scored), sum(s.n_pending for s in scored)
    scores = _scores(scored, bench.seed)
    ranked = _ranked(scored, abstained, bench.seed) if fixed else None
    reasons = _ineligible(bench, len(records), n_unrated, n_pending, scores, ranked)
    return MethodResult(
        role=method.role,
        method=_method_ref(method),
        scores=scores,
        ranked=ranked,
        bounds=_bounds(scored),
        n_concepts=n_concepts,
        n_answered=n_answered,
        coverage=n_answered / n_concepts if n_concepts else None,
        n_trials=len(records),
        n_unrated=n_unrated,
        n_pending=n_pending,
        eligible=not reasons,
        reasons=reasons,
        per_concept=rows,
        samples=_samples(method, scored, by_labeling, bench),
    )


def _score_labeling(method: PlannedMethod, labeling: Labeling, bench: TaskBench, records: Sequence[Record]) -> _Scored:
    """Cross-validation over strengths for one labeling; a text without a rating is NaN there, never a number."""
    instructions = [instruction.id for instruction in bench.instructions_for(labeling.concept)]
    strengths = list(method.grid)
    ratings = np.full((len(strengths), len(instructions), len(PARTS)), np.nan)
    n_pending = n_unrated = 0
    for record in records:
        place = strengths.index(record.trial.strength), instructions.index(record.trial.instruction_id)
        if record.rating is not None and record.rating.status == "rated":
            ratings[place] = [getattr(record.rating, part) for part in PARTS]
        elif record.rating is not None and record.rating.status == "pending":
            n_pending += 1
        else:
            n_unrated += 1
    evaluation = bench.task.file.evaluation
    overall = harmonic_mean(ratings)
    found = cross_validate(overall, evaluation.repeats, evaluation.splits, bench.seed)
    bounds = rating_bounds(overall, evaluation.repeats, evaluation.splits, bench.seed)
    values = [found.score, *(found.held_out(ratings[..., part]) for part in range(len(PARTS)))]
    points = [None if np.isnan(value) else min(2.0, max(0.0, float(value))) for value in values]
    chosen = None if found.chosen is None else strengths[found.chosen]
    missing = f"{n_unrated} unrated and {n_pending} pending of {len(records)} texts leave no score" if None in (*points, chosen) else ""
    result = ConceptResult(
        concept_id=labeling.concept.id,
        concept_text=labeling.concept.text,
        features=tuple(str(feature) for feature in labeling.features),
        overall=points[0],
        concept=points[1],
        instruction=points[2],
        fluency=points[3],
        chosen_strength=chosen,
        n_trials=len(records),
        n_unrated=n_unrated,
        reason=missing,
    )
    return _Scored(labeling, result, (bounds.low, bounds.high), n_pending)


def _abstentions(method: PlannedMethod, answers: Answers) -> list[ConceptResult]:
    if method.labeler is None:
        return []
    return [
        ConceptResult(
            concept_id=answer.concept.id,
            concept_text=answer.concept.text,
            answered=False,
            overall=None,
            concept=None,
            instruction=None,
            fluency=None,
            chosen_strength=None,
            n_trials=0,
            reason=answer.reason,
        )
        for answer in answers[method.labeler.key]
        if isinstance(answer, Abstention)
    ]


# -------------------------------------------------------------------------------------------------------------------- together


def _score(values: Iterable[float | None], clusters: Any, seed: int) -> Score:
    numbers = [np.nan if value is None else value for value in values]
    if not numbers:
        return Score(mean=None, reason="no concept was answered")
    return Score.of(interval(numbers, clusters, seed=seed))


def _scores(scored: Sequence[_Scored], seed: int) -> Scores:
    """Means over labelings; those that share a concept or a feature are resampled together."""
    clusters = clusters_of((s.labeling.concept.id, s.labeling.features) for s in scored) if scored else None
    parts = {part: _score([getattr(s.result, part) for s in scored], clusters, seed) for part in ("overall", *PARTS)}
    return Scores(**parts)


def _ranked(scored: Sequence[_Scored], abstained: Sequence[ConceptResult], seed: int) -> Score:
    """The score that ranks in fixed mode: an abstention counts 0. A concept that could not be scored leaves the ranking without a number."""
    if any(s.result.overall is None for s in scored):
        return Score(mean=None, reason="a concept has no score, since its texts could not be rated")
    pairs = [(s.labeling.concept.id, s.labeling.features) for s in scored] + [(row.concept_id, ()) for row in abstained]
    values = [s.result.overall for s in scored] + [0.0] * len(abstained)
    return _score(values, clusters_of(pairs) if pairs else None, seed)


def _bounds(scored: Sequence[_Scored]) -> Bounds:
    if not scored:
        return Bounds(low=None, high=None, reason="no concept was answered")
    low, high = (float(np.mean([s.bounds[end] for s in scored])) for end in (0, 1))
    return Bounds(low=min(2.0, max(0.0, low)), high=min(2.0, max(0.0, high)))


def _ineligible(
    bench: TaskBench, n_trials: int, n_unrated: int, n_pending: int, scores: Scores, ranked: Score | None
) -> tuple[str, ...]:
    reasons = []
    most = bench.task.file.evaluation.max_unrated
    if n_pending:
        reasons.append(f"{n_pending} ratings are pending; run the same command again to collect them")
    if n_trials and n_unrated / n_trials > most:
        reasons.append(f"{n_unrated} of {n_trials} texts are unrated, more than the task's share of {most:g}")
    if scores.overall.mean is None:
        reasons.append(f"no overall score: {scores.overall.reason}")
    elif ranked is not None and ranked.mean is None:
        reasons.append(f"no ranked score: {ranked.reason}")
    return tuple(reasons)


def _samples(
    method: PlannedMethod, scored: Sequence[_Scored], by_labeling: Mapping[str, Sequence[Record]], bench: TaskBench
) -> tuple[Sample, ...]:
    """A few texts, drawn at random (not picked) among those at the concept's chosen strength."""
    draw = rng(bench.seed, "samples", method.method.id)
    texts = {instruction.id: instruction.text for instruction in bench.instructions}
    found = []
    for place in draw.permutation(len(scored)):
        row = scored[int(place)]
        pool = [r for r in by_labeling.get(row.labeling.id, []) if r.generation and r.trial.strength == row.result.chosen_strength]
        if not pool:
            continue
        record = pool[int(draw.integers(len(pool)))]
        overall = None
        if record.rating is not None and record.rating.status == "rated":
            overall = float(harmonic_mean([[getattr(record.rating, part) for part in PARTS]])[0])
        assert record.generation is not None
        found.append(
            Sample(
                concept_text=row.labeling.concept.text,
                instruction=texts[record.trial.instruction_id],
                strength=record.trial.strength,
                text=record.generation.text,
                overall=overall,
            )
        )
        if len(found) == SAMPLES:
            break
    return tuple(found)


# ------------------------------------------------------------------------------------------------------------------ provenance


def _method_ref(method: PlannedMethod) -> MethodRef:
    return MethodRef(
        labeler=method.method.labeler,
        steerer=method.method.steerer,
        labeler_options=_option_values(method.labeler) if method.labeler else OptionValues(),
        steerer_options=_option_values(method.steerer),
        strength_unit=method.strength_unit,
        grid=method.grid,
    )


def _option_values(plugin: PlannedPlugin) -> OptionValues:
    """Those that a result depends on: how something is fetched, and which variable holds a key, is nobody's business."""
    given = {name: value for name, value in plugin.identity.items() if name in plugin.given}
    return OptionValues(given=given, default={name: value for name, value in plugin.identity.items() if name not in given})


def _dictionary_refs(bench: TaskBench) -> Iterable[DictionaryRef]:
    for table in bench.task.file.dictionaries:
        dictionary = bench.dictionaries[table.name]
        note = f"made for {table.trained_on}, used on {bench.model.name}" if table.trained_on else ""
        yield DictionaryRef(
            name=table.name, source=table.source, digest=dictionary.digest, layer=table.layer, d_sae=dictionary.d_sae, note=note
        )




def _plugin_versions(plan: Plan, store: RunStore, judge: JudgeRecord) -> dict[str, str]:
    """The versions that did the work, by distribution; those of today where the run has not noted any."""
    used = [plan.judge, *(m.steerer for m in plan.methods), *plan.labelers]
    found = {plugin.registered.distribution: plugin.registered.version for plugin in used if plugin.registered.version}
    for part in ("labels", "texts", f"ratings by {judge.name}"):
        for note in store.notes(f"versions: {part}"):
            found.update({name: version for name, version in note.value.items() if version})
    return dict(sorted(found.items()))


