"""From stored scores to results: per concept, and per method with intervals. Needs what the store holds and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.evaluations.detection.records import NO_KEYWORDS, REPORT, THRESHOLD, Mask, Truth
from harness.leaderboard.values import MetricValue, metric_value
from harness.scoring import auroc, clusters_of, warn_small_negatives
from harness.scoring.detection import MEASURES, PI0, Scored, detection, trivial_values, youden_threshold
from harness.types import DetectionNegatives, Json

PRIMARY: Mapping[DetectionNegatives, str] = {"all": "auroc", "plain": "auroc_plain", "others": "auroc_others"}
"""What ranks, by the negatives that the task names."""
YOUDEN = "hard_negatives_rejected_youden"
METRICS = ("auroc", "auroc_plain", "auroc_others", "auroc_no_keywords", *MEASURES[1:], YOUDEN)
"""Everything that is reported, in this order; each lies within 0 to 1, and more is better."""
BOUNDS = (0.0, 1.0)
IN_SAMPLE = "in-sample: its labeler chose by all texts of the corpus, those that are reported on among them"


@dataclass(frozen=True)
class ConceptScore:
    """What one labeling of a concept got.

    Attributes:
        id, text: the concept's.
        features: the labeling's, as text.
        answered: False where the labeler abstained.
        values: by name, those of :data:`METRICS` that apply (without keywords or hard negatives some do not); None where there is no number.
        trivial: what a constant score would get on the same texts, by name.
        n: texts that were scored, those without keywords not counted again.
        details: counts and thresholds, as JSON.
        reason: why numbers are missing.
    """

    id: str
    text: str
    features: tuple[str, ...] = ()
    answered: bool = True
    values: Mapping[str, float | None] = field(default_factory=lambda: dict.fromkeys(MEASURES[:-2]))
    trivial: Mapping[str, float] = field(default_factory=dict)
    n: int = 0
    details: Mapping[str, Json] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class DetectionResult:
    """One method on the run's concepts.

    Attributes:
        primary: the name of the AUROC that ranks.
        metrics: of the concepts that were answered, by name, those that some concept has a value of.
        ranked: fixed mode: AUROC over all concepts that can be detected, an abstention counting as .5. Else None.
        items: by labeling, then the abstentions.
        n_items, n_answered, coverage: concepts; coverage is None without any.
        n_texts: texts that were scored, over all items.
        eligible: may be ranked.
        reasons: why it may not.
        warnings: what a reader must know.
    """

    primary: str
    metrics: Mapping[str, MetricValue]
    ranked: MetricValue | None
    items: tuple[ConceptScore, ...]
    n_items: int
    n_answered: int
    coverage: float | None
    n_texts: int
    eligible: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def score_concept(
    concept: tuple[str, str], features: Sequence[str], truth: Truth, scores: Mapping[str, NDArray[np.floating[Any]]], pi0: float = PI0
) -> ConceptScore:
    """Return the measures of one labeling (formulas: docs/detection.md).

    Args:
        concept: its id and text.
        features: the labeling's.
        truth: which texts have the concept.
        scores: by set: ``threshold`` and ``report`` ``[texts]``, and ``no_keywords`` ``[changed texts]`` where the concept has keywords.
        pi0: reference prior of calibrated F1.

    Raises:
        ScoringError: scores and truth are of different numbers of texts; a score that is not finite.
    """
    plain = ~truth.threshold_hard, ~truth.report_hard
    choosing = Scored(_float(scores[THRESHOLD])[plain[0]], truth.threshold[plain[0]])
    reported = Scored(_float(scores[REPORT])[plain[1]], truth.report[plain[1]])
    found = detection(choosing, reported, _float(scores[REPORT])[truth.report_hard], pi0)
    hard = bool(truth.threshold_hard.any() or truth.report_hard.any())
    values = {name: value for name, value in found.values.items() if hard or name not in MEASURES[-2:]}
    reasons = [found.reasons[name] for name in values if name in found.reasons]
    if truth.changed is not None:
        values["auroc_no_keywords"] = _without_keywords(truth, truth.changed, scores)
        if values["auroc_no_keywords"] is None:
            reasons.append("without keywords a class is empty")
    further, why = _by_kind(truth, scores)
    values, reasons = {**values, **further}, reasons + why
    prevalence = float(reported.positive.mean()) if len(reported.positive) else 0.0
    details: dict[str, Json] = {
        "positives": int(reported.positive.sum()),
        "negatives": int((~reported.positive).sum()),
        "hard_negatives": int(truth.report_hard.sum()),
        "threshold_positives": int(choosing.positive.sum()),
        "threshold_negatives": int((~choosing.positive).sum()),
        "at": {name: asdict(what) for name, what in found.at.items()},
        "pi0": pi0,
    }
    if truth.changed is not None:
        details |= {"changed": int(truth.changed.sum()), "emptied": int(truth.emptied.sum())}
    for name, mask in (("plain", truth.plain), ("others", truth.others)):
        details |= {f"{name}_negatives": int(mask.sum())} if mask is not None else {}
    return ConceptScore(
        *concept,
        tuple(features),
        values=values,
        trivial={**trivial_values(prevalence, pi0), "auroc_no_keywords": 0.5, "auroc_plain": 0.5, "auroc_others": 0.5, YOUDEN: 0.0},
        n=len(truth.threshold) + len(truth.report),
        details=details,
        reason="; ".join(dict.fromkeys(reasons)),
    )


def _by_kind(truth: Truth, scores: Mapping[str, NDArray[np.floating[Any]]]) -> tuple[dict[str, float | None], list[str]]:
    """Return positives against plain texts and against other concepts' positives, and hard negatives rejected at Youden's threshold; and why not.

    That threshold is chosen on the threshold part's positives and plain texts. Nothing of a kind of which there is no text.
    """
    values: dict[str, float | None] = {}
    reasons: list[str] = []
    for name, negative in (("auroc_plain", truth.plain), ("auroc_others", truth.others)):
        if negative is not None:
            kept = truth.report | negative
            found = auroc(_float(scores[REPORT])[kept], truth.report[kept])
            values[name] = None if np.isnan(found) else found
            reasons += ["no positive among the reported texts"] if values[name] is None else []
    if truth.report_hard.any() and truth.threshold_plain is not None:
        kept = truth.threshold | truth.threshold_plain
        values[YOUDEN] = None
        if truth.threshold.any():
            cut = youden_threshold(_float(scores[THRESHOLD])[kept], truth.threshold[kept])
            values[YOUDEN] = float((_float(scores[REPORT])[truth.report_hard] < cut).mean())
        else:
            reasons.append("no positive among the texts that choose a threshold")
    return values, reasons


def abstained(concept: tuple[str, str], reason: str) -> ConceptScore:
    """Return what a concept got from which the labeler abstained."""
    return ConceptScore(*concept, answered=False, reason=reason)


def failed(concept: tuple[str, str], features: Sequence[str], reason: str) -> ConceptScore:
    """Return what a concept got that the detector could not score: no number."""
    return ConceptScore(*concept, tuple(features), reason=reason)


def mean_of_draws(draws: Sequence[ConceptScore]) -> ConceptScore:
    """The draws of one concept as one: every number is the mean over those that have it, and each draw stays to be seen."""
    first = draws[0]
    values: dict[str, float | None] = {}
    for name in first.values:
        known = [value for draw in draws if (value := draw.values.get(name)) is not None]
        values[name] = float(np.mean(known)) if known else None
    own = [{"features": list(draw.features), "values": dict(draw.values), "at": draw.details.get("at")} for draw in draws]
    return replace(
        first,
        features=tuple(dict.fromkeys(feature for draw in draws for feature in draw.features)),
        values=values,
        n=sum(draw.n for draw in draws),
        details={**{name: value for name, value in first.details.items() if name != "at"}, "draws": own},
        reason="; ".join(dict.fromkeys(draw.reason for draw in draws if draw.reason)),
    )


def summarise(
    items: Sequence[ConceptScore], *, fixed: bool, selects_on: str = "nothing", seed: int = 0, negatives: DetectionNegatives = "all"
) -> DetectionResult:
    """Return one method's results.

    Args:
        items: one per labeling and one per abstention; none of concepts that cannot be scored (``DetectionTexts.left_out``).
        fixed: the task lists the concepts, so an abstention counts, and there is a ranked score.
        selects_on: the texts that its labeler chose by; with ``all`` the result is in-sample, shown and not ranked.
        seed: the run's, for intervals.
        negatives: which texts positives are held against in the AUROC that ranks.
    """
    primary = PRIMARY[negatives]
    items = [item if primary in item.values else _without_number(item, primary) for item in items]
    answered = [item for item in items if item.answered]
    metrics = {}
    for name in METRICS:
        own = [item for item in answered if name in item.values]
        if own or name == primary:
            metrics[name] = _summary(own, [item.values[name] for item in own], name, seed)
    ranked = _ranked(items, primary, seed) if fixed else None
    concepts = {item.id for item in items} if fixed else {item.id for item in answered}
    reasons = _reasons(metrics[primary], ranked, selects_on)
    return DetectionResult(
        primary=primary,
        metrics=metrics,
        ranked=ranked,
        items=(*answered, *(item for item in items if not item.answered)),
        n_items=len(concepts),
        n_answered=len({item.id for item in answered}),
        coverage=len({item.id for item in answered}) / len(concepts) if concepts else None,
        n_texts=sum(item.n for item in answered),
        eligible=not reasons,
        reasons=reasons,
        warnings=few_negatives([item.details for item in answered]),
    )


def _without_number(item: ConceptScore, name: str) -> ConceptScore:
    """Return an item of which the measure that ranks does not exist, with the reason."""
    if not item.answered:
        return item
    kind = {"auroc_plain": "text without a label", "auroc_others": "text of another concept"}.get(name, "text")
    reasons = [item.reason] if item.reason else [f"no {kind} among the reported ones"]
    return replace(item, values={**item.values, name: None}, reason="; ".join(reasons))


def _ranked(items: Sequence[ConceptScore], primary: str, seed: int) -> MetricValue:
    """Return AUROC over all concepts, .5 for an abstention. A concept that could not be scored leaves it without a number."""
    missing = [item.id for item in items if item.answered and item.values[primary] is None]
    if missing:
        reason = f"{len(missing)} concepts have no AUROC, the first {missing[0]!r}"
        return MetricValue(value=None, reason=reason, bounds=BOUNDS, higher_is_better=True)
    return _summary(items, [item.values[primary] if item.answered else 0.5 for item in items], primary, seed)


def _without_keywords(truth: Truth, changed: Mask, scores: Mapping[str, NDArray[np.floating[Any]]]) -> float | None:
    """Return AUROC where the texts that had keywords have the score that they get without, and the others their own."""
    values = _float(scores[REPORT]).copy()
    values[changed] = _float(scores[NO_KEYWORDS])
    kept = ~truth.report_hard & ~truth.emptied
    found = auroc(values[kept], truth.report[kept])
    return None if np.isnan(found) else found


def _summary(items: Sequence[ConceptScore], values: Sequence[float | None], name: str, seed: int) -> MetricValue:
    """Return the mean over items; those that share a concept or a feature are resampled together."""
    trivial = [item.trivial[name] for item, value in zip(items, values, strict=True) if value is not None and name in item.trivial]
    return metric_value(
        values,
        clusters_of((item.id, item.features) for item in items) if items else None,
        bounds=BOUNDS,
        higher_is_better=True,
        trivial=float(np.mean(trivial)) if trivial else None,
        seed=seed,
    )


def _reasons(primary: MetricValue, ranked: MetricValue | None, selects_on: str) -> tuple[str, ...]:
    reasons = [IN_SAMPLE] if selects_on == "all" else []
    if primary.value is None:
        reasons.append(f"no AUROC: {primary.reason}")
    elif ranked is not None and ranked.value is None:
        reasons.append(f"no ranked score: {ranked.reason}")
    return tuple(reasons)


def few_negatives(items: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return a warning where few negatives make calibrated F1 hang on single texts, from the details of the items that were answered."""
    counted = [details for details in items if "negatives" in details]
    if not counted:
        return ()
    fewest = min(counted, key=lambda details: int(details["negatives"]))
    warning = warn_small_negatives(int(fewest["negatives"]), float(fewest["pi0"]))
    return (f"detection: {warning}",) if warning else ()


def _float(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
