"""From scores to results: per concept, per method, ranked, in-sample."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from harness.evaluations.detection import score as module
from harness.evaluations.detection.records import Truth, pack, unpack
from harness.evaluations.detection.score import METRICS, ConceptScore, abstained, failed, mean_of_draws, score_concept, summarise
from harness.scoring import ScoringError
from harness.scoring.detection import MEASURES
from harness.types import canonical_json

DRAW = np.random.default_rng(3)
N = 120


def truth(keywords: bool = True, hard: bool = True, kinds: bool = False) -> Truth:
    """``kinds``: half of the other texts have no label, half another concept's."""
    threshold, report = DRAW.random((2, N)) < 0.2
    hard_masks = [(DRAW.random(N) < 0.1) & ~part & hard for part in (threshold, report)]
    changed = (DRAW.random(N) < 0.5) if keywords else None
    emptied = np.zeros(N, dtype=bool) if changed is None else ~changed & (DRAW.random(N) < 0.1)
    if not kinds:
        return Truth(threshold, report, *hard_masks, changed, emptied)
    plain = [(DRAW.random(N) < 0.5) & ~part & ~masked for part, masked in zip((threshold, report), hard_masks, strict=True)]
    return Truth(threshold, report, *hard_masks, changed, emptied, plain[0], plain[1], ~plain[1] & ~report & ~hard_masks[1])


def scores_of(what: Truth, signal: float = 1.0) -> dict[str, Any]:
    found = {"threshold": DRAW.normal(size=N) + signal * what.threshold, "report": DRAW.normal(size=N) + signal * what.report}
    if what.changed is not None:
        found["no_keywords"] = DRAW.normal(size=int(what.changed.sum()))
    return {name: unpack(pack(values)) for name, values in found.items()}


def item(name: str, auroc: float | None = 0.8, features: tuple[str, ...] = ()) -> ConceptScore:
    values = {**dict.fromkeys(MEASURES[:-2], 0.5), "auroc": auroc}
    return ConceptScore(name, f"about {name}", features, values=values, trivial={"auroc": 0.5, "average_precision": 0.1}, n=10)


# ------------------------------------------------------------------------------------------------------------------ one concept


def test_hard_negatives_are_no_negatives() -> None:
    what = truth()
    scores = scores_of(what)
    found = score_concept(("a", "about a"), ["sae/1"], what, scores)
    plain = ~what.report_hard
    assert found.values["auroc"] == pytest.approx(roc_auc_score(what.report[plain], scores["report"][plain]))
    assert found.values["average_precision"] == pytest.approx(average_precision_score(what.report[plain], scores["report"][plain]))
    against = what.report | what.report_hard
    assert found.values["auroc_hard_negatives"] == pytest.approx(roc_auc_score(what.report[against], scores["report"][against]))
    cut = found.details["at"]["f1"]["threshold"]
    assert found.values["hard_negatives_rejected"] == pytest.approx((scores["report"][what.report_hard] < cut).mean())
    assert found.details["positives"] + found.details["negatives"] + found.details["hard_negatives"] == N
    assert (found.n, found.answered, found.reason, found.features) == (2 * N, True, "", ("sae/1",))
    assert set(found.values) == set(METRICS) - {"auroc_plain", "auroc_others", "hard_negatives_rejected_youden"}, "as a run of before is scored"


def test_plain_texts_and_other_concepts_apart() -> None:
    """The published protocol, and beside it the negatives that have the positives' writer; hard negatives are in neither."""
    what = truth(kinds=True)
    scores = scores_of(what)
    found = score_concept(("a", "about a"), ["sae/1"], what, scores)
    assert set(found.values) == set(METRICS) == set(found.trivial)
    assert what.plain is not None
    assert what.others is not None
    assert not ((what.plain | what.others) & (what.report_hard | what.report)).any()
    for name, negative in (("auroc_plain", what.plain), ("auroc_others", what.others), ("auroc", what.plain | what.others)):
        kept = what.report | negative
        assert found.values[name] == pytest.approx(roc_auc_score(what.report[kept], scores["report"][kept]))
    n = int(what.report.sum())
    shares = [int(what.plain.sum()), int(what.others.sum())]
    pooled = np.average([found.values["auroc_plain"], found.values["auroc_others"]], weights=shares)
    assert found.values["auroc"] == pytest.approx(pooled)
    assert [found.details[f"{name}_negatives"] for name in ("plain", "others")] == shares
    assert n == found.details["positives"]


def test_hard_negatives_at_youdens_threshold_of_the_threshold_part() -> None:
    what = truth(kinds=True)
    scores = scores_of(what)
    assert what.threshold_plain is not None
    kept = what.threshold | what.threshold_plain
    false, true, cuts = roc_curve(what.threshold[kept], scores["threshold"][kept].astype(float), drop_intermediate=False)
    cut = cuts[np.argmax(true - false)]
    found = score_concept(("a", "about a"), (), what, scores).values["hard_negatives_rejected_youden"]
    assert found == pytest.approx((scores["report"][what.report_hard] < cut).mean())
    nowhere = replace(what, threshold=np.zeros(N, dtype=bool))
    lacking = score_concept(("a", "about a"), (), nowhere, scores)
    assert lacking.values["hard_negatives_rejected_youden"] is None
    assert "choose a threshold" in lacking.reason


def test_the_tasks_negatives_rank() -> None:
    what = truth(kinds=True)
    items = [score_concept((name, name), (), what, scores_of(what)) for name in "ab"]
    for negatives, name in (("all", "auroc"), ("plain", "auroc_plain"), ("others", "auroc_others")):
        found = summarise([*items, abstained(("c", "c"), "none")], fixed=True, negatives=negatives)  # type: ignore[arg-type]
        assert found.primary == name
        assert found.ranked is not None
        assert found.ranked.value == pytest.approx((sum(item.values[name] for item in items) + 0.5) / 3)  # type: ignore[misc]
        assert found.eligible


def test_a_run_without_such_negatives_has_no_number_to_rank_by() -> None:
    what = truth()
    found = summarise([score_concept(("a", "a"), (), what, scores_of(what)), failed(("b", "b"), (), "it broke")], fixed=True, negatives="plain")
    assert (found.eligible, found.metrics["auroc_plain"].value) == (False, None)
    assert [item.reason for item in found.items] == ["no text without a label among the reported ones", "it broke"]


def test_without_keywords_only_the_changed_texts_have_other_scores() -> None:
    what = truth(hard=False)
    scores = scores_of(what, signal=2.0)
    assert what.changed is not None
    expected = scores["report"].astype(float)
    expected[what.changed] = scores["no_keywords"]
    kept = ~what.emptied
    found = score_concept(("a", "about a"), (), what, scores)
    assert found.values["auroc_no_keywords"] == pytest.approx(roc_auc_score(what.report[kept], expected[kept]))
    assert found.values["auroc_no_keywords"] < found.values["auroc"]
    assert (found.details["changed"], found.details["emptied"]) == (int(what.changed.sum()), int(what.emptied.sum()))


def test_what_does_not_apply_is_not_there() -> None:
    what = truth(keywords=False, hard=False)
    found = score_concept(("a", "about a"), (), what, scores_of(what))
    assert set(found.values) == set(MEASURES[:-2])
    assert found.reason == ""


def test_a_missing_class_leaves_no_number_and_a_reason() -> None:
    what = truth(hard=False)
    none = Truth(what.threshold, np.zeros(N, dtype=bool), what.threshold_hard, what.report_hard, what.changed, what.emptied)
    found = score_concept(("a", "about a"), (), none, scores_of(none))
    assert set(found.values.values()) == {None}
    assert "no positive among the 120 reported texts" in found.reason


def test_scores_of_other_texts_are_refused() -> None:
    what = truth()
    with pytest.raises((ScoringError, IndexError, ValueError)):
        score_concept(("a", "about a"), (), what, {**scores_of(what), "report": np.zeros(N - 1)})


def test_details_can_be_stored() -> None:
    what = truth()
    assert canonical_json(dict(score_concept(("a", "about a"), (), what, scores_of(what)).details))


# ------------------------------------------------------------------------------------------------------------------- one method


def test_means_and_their_trivial_values() -> None:
    found = summarise([item("a", 0.8), item("b", 0.6), abstained(("c", "about c"), "no feature fires")], fixed=True)
    assert found.metrics["auroc"].value == pytest.approx(0.7)
    assert found.metrics["auroc"].trivial == 0.5
    assert (found.metrics["auroc"].reason, found.metrics["average_precision"].trivial) == ("2 concepts: no interval", pytest.approx(0.1))
    assert found.ranked is not None
    assert found.ranked.value == pytest.approx((0.8 + 0.6 + 0.5) / 3)
    assert (found.n_items, found.n_answered, found.coverage, found.n_texts) == (3, 2, pytest.approx(2 / 3), 20)
    assert found.eligible
    assert [one.id for one in found.items] == ["a", "b", "c"]
    assert "auroc_no_keywords" not in found.metrics


def test_draws_of_a_concept_are_averaged_before_anything_else() -> None:
    """Three draws of one concept weigh as much as one of another, and as an abstention."""
    draws = [item("a", value, (f"sae/{place}",)) for place, value in enumerate((0.9, 0.5, None))]
    mean = mean_of_draws(draws)
    assert (mean.values["auroc"], mean.features, mean.n) == (pytest.approx(0.7), ("sae/0", "sae/1", "sae/2"), 30)
    assert [draw["values"]["auroc"] for draw in mean.details["draws"]] == [0.9, 0.5, None]
    found = summarise([mean, item("b", 0.6), abstained(("c", "about c"), "no feature fires")], fixed=True)
    assert found.ranked is not None
    assert found.ranked.value == pytest.approx((0.7 + 0.6 + 0.5) / 3)


def test_chosen_concepts_have_no_ranked_score() -> None:
    found = summarise([item("a", 0.8, ("sae/1",)), item("a", 0.6, ("sae/2",)), item("b", 0.7, ("sae/2",))], fixed=False)
    assert found.ranked is None
    assert (found.n_items, found.n_answered, found.coverage) == (2, 2, 1.0)
    assert found.metrics["auroc"].low is None, "they share a concept or a feature, so there is one cluster"
    assert "cluster" in found.metrics["auroc"].reason or "concept" in found.metrics["auroc"].reason


@pytest.mark.parametrize("selects_on", ["nothing", "train", "all"])
def test_who_chose_by_all_texts_is_in_sample(selects_on: str) -> None:
    found = summarise([item("a"), item("b", 0.7)], fixed=True, selects_on=selects_on)
    assert found.eligible == (selects_on != "all")
    assert bool([reason for reason in found.reasons if reason.startswith("in-sample")]) == (selects_on == "all")


def test_a_concept_without_a_score_leaves_no_ranking() -> None:
    found = summarise([item("a"), failed(("b", "about b"), (), "the detector broke")], fixed=True)
    assert found.metrics["auroc"].value == 0.8
    assert found.ranked is not None
    assert found.ranked.value is None
    assert not found.eligible
    assert "'b'" in found.reasons[0]


def test_nothing_answered() -> None:
    found = summarise([abstained(("a", "about a"), "no")], fixed=True)
    assert found.metrics["auroc"].value is None
    assert not found.eligible
    assert (found.coverage, found.n_answered) == (0.0, 0)
    assert summarise([], fixed=False).coverage is None


def test_few_negatives_are_told() -> None:
    what = truth()
    one = score_concept(("a", "about a"), (), what, scores_of(what), pi0=0.01)
    assert "negatives are few" in summarise([one], fixed=True).warnings[0]
    assert summarise([score_concept(("a", "about a"), (), what, scores_of(what), pi0=0.5)], fixed=True).warnings == ()


def test_scoring_needs_no_model() -> None:
    """The module imports neither bench, plugins, models nor torch, and works where torch cannot be imported."""
    names = {alias for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)
             for alias in [str(node.module)]}  # fmt: skip
    assert not [name for name in names if name.startswith(("harness.run", "harness.model", "harness.sae", "harness.plugin", "harness.contracts"))]
    program = (
        "import sys\nfor name in ('torch', 'transformers', 'sae_lens'): sys.modules[name] = None\n"
        "from harness.evaluations.detection.score import summarise\nprint(summarise([], fixed=False).n_items)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answer.stdout.strip() == "0", answer.stderr
