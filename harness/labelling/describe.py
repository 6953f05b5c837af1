"""What can be shown of any labeler's label: how its feature counts on the corpus, where it fires, and what it does to the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import DictionaryError, EngineError, ModelError
from harness.labelling.evidence import GRID, pair_evidence
from harness.labelling.labelled_corpus import Study
from harness.labelling.options import PROMPT
from harness.labelling.snippets import snippets
from harness.types import Abstention, Concept, Json, Labeling

if TYPE_CHECKING:
    from harness.contracts import Bench, SelectsOn

COUNTED_BY = "harness"
"""Marks counts that are not the labeler's own: its score says nothing of them."""
PROMOTED = 8
"""Tokens shown that a feature's decoder row promotes most."""


@dataclass(frozen=True)
class Settings:
    """How labels are described: by the labeler's own options, where it has them, so that what is shown is what it chose by.

    Attributes:
        snippets: best-activating texts per feature; 0 for none.
        prompt: the neutral prompt of both causal scores.
        held_out: share of the corpus that is only reported on.
        pi0, thresholds: of calibrated F1.
        selects_on: which texts the labeler says that it chose by (:class:`harness.contracts.LabelerTraits`). Where it is ``all``, which is what
            a labeler says that says nothing, no text is known to have chosen nothing, and so nothing is held out.
    """

    snippets: int = 3
    prompt: str = PROMPT
    held_out: float = 0.5
    pi0: float = 1e-3
    thresholds: tuple[float, ...] = GRID
    selects_on: SelectsOn = "all"

    @classmethod
    def of(cls, options: object, n_snippets: int, pi0: float = 1e-3, selects_on: SelectsOn = "all") -> Settings:
        """Take the settings from a labeler's options, as far as it has ``filter_prompt``, ``held_out``, ``pi0`` and ``thresholds``."""
        known = {"filter_prompt": "prompt", "held_out": "held_out", "pi0": "pi0", "thresholds": "thresholds"}
        own = {ours: getattr(options, theirs) for theirs, ours in known.items() if hasattr(options, theirs)}
        return cls(**{"snippets": n_snippets, "pi0": pi0, "selects_on": selects_on, **own})


def describe(bench: Bench, answers: Sequence[Labeling | Abstention], settings: Settings | None = None) -> list[Labeling | Abstention]:
    """Return ``answers`` with evidence for people, in lists in the order of the labeling's features.

    ``evidence["features"]``, where the labeler has not counted itself and the concept has a label of the corpus: what
    :func:`harness.labelling.evidence.pair_evidence` counts, with ``counted_by`` ``harness``. ``evidence["about"]``: ``feature`` (name/index),
    ``density`` (share of the corpus' tokens on which it fires), ``maximum`` (largest activation there), ``output_score`` and ``output_rank``
    (Arad et al. 2025),
    ``confidence_change`` (ΔC of Wang et al. 2025, in nats), ``prompt`` (on which these were computed), ``promotes`` (the tokens that its decoder
    row promotes most) and ``snippets`` (see :func:`harness.labelling.snippets.snippets`). A causal score that cannot be computed is null, and the
    bench gets a warning with the reason.

    Args:
        bench: whose model, dictionaries and corpus are used.
        answers: any labeler's.
        settings: by default those of :class:`Settings`.
    """
    settings = settings or Settings()
    about: dict[str, dict[str, Json]] = {}
    counted: dict[tuple[str, int], list[dict[str, Json]]] = {}
    for name in sorted({feature.dictionary for answer in answers if isinstance(answer, Labeling) for feature in answer.features}):
        wanted = {f.index for answer in answers if isinstance(answer, Labeling) for f in answer.features if f.dictionary == name}
        about.update((f"{name}/{row['index']}", row) for row in _about(bench, name, sorted(wanted), settings))
        counted.update(_counts(bench, name, answers, settings))
    described: list[Labeling | Abstention] = []
    for number, answer in enumerate(answers):
        if isinstance(answer, Labeling):
            evidence = {**answer.evidence, "about": [{"feature": str(feature), **about[str(feature)]} for feature in answer.features]}
            rows = [row for name in dict.fromkeys(f.dictionary for f in answer.features) for row in counted.get((name, number), [])]
            if rows:
                evidence["features"] = rows
            answer = replace(answer, evidence=evidence)
        described.append(answer)
    return described


def _counts(
    bench: Bench, name: str, answers: Sequence[Labeling | Abstention], settings: Settings
) -> dict[tuple[str, int], list[dict[str, Json]]]:
    """Compute counts of the answers whose labeler gave none, by (dictionary, number of the answer)."""
    places = [
        number
        for number, answer in enumerate(answers)
        if isinstance(answer, Labeling) and len(bench.labels.of(answer.concept.label)) and not _is_counted(answer.evidence)
    ]
    if not places:
        return {}
    study = _study(bench, [answers[number].concept for number in places], name, settings)
    pairs = [(place, f.index) for place, n in enumerate(places) for f in _features(answers[n]) if f.dictionary == name]
    rows = iter(pair_evidence(study, pairs, "calibrated_f1", settings.thresholds, settings.pi0))
    found: dict[tuple[str, int], list[dict[str, Json]]] = {}
    for place, _ in pairs:
        found.setdefault((name, places[place]), []).append(next(rows))
    for (_, number), counts in found.items():
        own = _own_rows(answers[number], len(counts))
        counts[:] = [{**row, "counted_by": COUNTED_BY, **own_row} for row, own_row in zip(counts, own, strict=True)]
    return found


def _study(bench: Bench, concepts: Sequence[Concept], name: str, settings: Settings) -> Study:
    """Concepts and texts, of which those are held out that a labeler did not choose by, as far as it says so."""
    study = Study(bench, concepts, name, 0.0 if settings.selects_on == "all" else settings.held_out)
    if settings.selects_on == "train":
        train = bench.split.train
        study.choose, study.report = train, np.setdiff1d(np.arange(len(bench.corpus)), train, assume_unique=True)
    return study


def _features(answer: Labeling | Abstention) -> tuple[Any, ...]:
    return answer.features if isinstance(answer, Labeling) else ()


def _is_counted(evidence: Mapping[str, Json]) -> bool:
    rows = evidence.get("features")
    return isinstance(rows, list) and any(isinstance(row, dict) and "chosen_on" in row for row in rows)


def _own_rows(answer: Labeling | Abstention, n: int) -> list[dict[str, Json]]:
    """Return the labeler's own evidence of each feature, as far as it is a list of objects."""
    rows = answer.evidence.get("features") if isinstance(answer, Labeling) else None
    fits = isinstance(rows, list) and len(rows) == n and all(isinstance(row, dict) for row in rows)
    return list(rows) if fits and rows is not None else [{} for _ in range(n)]


def _about(bench: Bench, name: str, features: list[int], settings: Settings) -> list[dict[str, Json]]:
    statistics = bench.statistics(name)
    dead = [feature for feature in features if not statistics.fired[feature]]
    if dead:
        shown = ", ".join(map(str, dead[:8])) + (", …" if len(dead) > 8 else "")
        bench.warn(f"{len(dead)} labelled features of {name} never fire on the corpus: {shown}")
    seen = snippets(bench, name, features, settings.snippets)
    causal = _causal(bench, name, features, settings.prompt)
    density = statistics.density
    return [
        {
            "index": feature,
            "density": float(density[feature]),
            "maximum": float(statistics.maximum[feature]),
            **causal[place],
            "snippets": seen[feature],
        }
        for place, feature in enumerate(features)
    ]


def _causal(bench: Bench, name: str, features: list[int], prompt: str) -> list[dict[str, Json]]:
    from harness.sae.causal import confidence_changes, logit_lens, output_scores

    model, dictionary = bench.model, bench.dictionaries[name]
    rows: list[dict[str, Json]] = [
        {"output_score": None, "output_rank": None, "confidence_change": None, "prompt": prompt, "promotes": None} for _ in features
    ]
    try:
        for row, tokens in zip(rows, logit_lens(model, dictionary, features, PROMOTED), strict=True):
            row["promotes"] = [model.tokenizer.decode([token]) for token in tokens.tolist() if token >= 0]
        effect = output_scores(model, dictionary, features, prompt=prompt)
        changes = confidence_changes(model, dictionary, features, prompt=prompt)
    except (DictionaryError, EngineError, ModelError) as error:
        bench.warn(f"labels are described without output score or ΔC: {error}")
        return rows
    for place, row in enumerate(rows):
        if np.isfinite(effect.score[place]):
            row["output_score"], row["output_rank"] = float(effect.score[place]), int(effect.rank[place])
        if np.isfinite(changes[place]):
            row["confidence_change"] = float(changes[place])
    return rows
