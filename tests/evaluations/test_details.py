"""What a page shows of a run, read from a real run's file: each number is what the store's own ratings and scores give."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from harness.errors import HarnessError, StoreError
from harness.evaluations.details import RunsAtHand, details_of, report_of
from harness.evaluations.details.detection import _RATES, _roc
from harness.leaderboard.entry import Entry
from harness.leaderboard.files import load_entries
from harness.leaderboard.site.details import RunDetails
from harness.store import RunStore
from harness.types import Labeling

GIVEN = ("--labeler", "calibf1", "--steerer", "sae-clamp", "--detector", "sae", "--seed", "0")


@pytest.fixture(scope="module")
def folder(harness: Callable[..., Any], tiny_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The --out folder of a run that steers and detects."""
    out = tmp_path_factory.mktemp("details")
    done = harness("eval", *GIVEN, "--task", tiny_task, "--out", out, "--quiet")
    assert done.code == 0, done.err
    return out


@pytest.fixture
def store(folder: Path) -> Iterator[RunStore]:
    (run,) = (folder / "runs").iterdir()
    with RunStore.open(run, read_only=True) as opened:
        yield opened


@pytest.fixture
def found(store: RunStore) -> RunDetails:
    return details_of(store, store.own_judge())


def test_curves_are_means_of_the_stored_ratings(store: RunStore, found: RunDetails) -> None:
    judge = store.own_judge()
    assert judge is not None
    assert [curve.method for curve in found.curves] == [method.id for method in store.manifest.methods_of("steering")]
    curve = found.curves[0]
    rated: dict[tuple[str, float], list[float]] = {}
    for record in store.records(judge.key, curve.method):
        if record.rating is not None and record.rating.status == "rated":
            assert record.rating.concept is not None
            rated.setdefault((record.trial.concept_id, record.trial.strength), []).append(record.rating.concept)
    assert len(rated) == len(curve.concepts) * len(curve.strengths)
    for (concept, strength), values in rated.items():
        assert curve.concepts[concept][curve.strengths.index(strength)][1] == pytest.approx(fmean(values))
    for place, strength in enumerate(curve.strengths):
        own = [fmean(values) for (_, other), values in rated.items() if other == strength]
        assert curve.mean[place][1] == pytest.approx(fmean(own))
    assert sum(curve.counts["overall"]) + curve.n_unrated + curve.n_pending == sum(map(len, rated.values()))


def test_texts_stand_side_by_side_on_one_instruction(store: RunStore, found: RunDetails) -> None:
    texts = {generation.text for generation in store.generations().values()}
    instructions = {instruction.text for instruction in store.instructions()}
    assert found.n_concepts_with_texts == len(found.texts) > 0
    for one in found.texts:
        assert one.instruction in instructions
        for method, rows in one.methods.items():
            grid = next(m.grid for m in store.manifest.methods if m.id == method)
            assert [row.strength for row in rows] == list(grid)
            assert {row.text for row in rows} <= texts


def test_labels_have_their_evidence_and_the_choice_of_the_other_half(store: RunStore, found: RunDetails) -> None:
    (labels,) = found.labels
    stored = store.labelings(store.manifest.methods[0].labeler.key)  # type: ignore[union-attr]
    assert stored is not None
    answered = [answer for answer in stored if isinstance(answer, Labeling)]
    shown = [label for label in labels.labels if label.features]
    assert [label.features[0].feature for label in shown] == [str(answer.features[0]) for answer in answered]
    assert any(label.reason for label in labels.labels), "zebra has no label"
    for label in shown:
        first = label.features[0]
        assert first.chosen_on["score"] == pytest.approx(label.score, abs=1e-5)
        assert len(first.snippets) == 3
        for snippet in first.snippets:
            values = [value for _, value in snippet.tokens if value is not None]
            assert max(values) == pytest.approx(snippet.maximum, rel=1e-3)
    same = [label.features[0].other_half == label.features[0].feature for label in shown]
    assert labels.n_compared == len(same)
    assert labels.agreement == pytest.approx(fmean(same))


def test_roc_curves_enclose_the_auroc_of_the_entry(folder: Path, found: RunDetails) -> None:
    (entry,), _ = load_entries(folder / "leaderboard" / "entries")
    rows = {row.subject.id: row for row in entry.rows_of("detection")}
    assert {one.method for one in found.detected} == set(rows)
    for one in found.detected:
        x, y = np.array(one.roc).T
        area = float(np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2))
        answered = [item.values["auroc"] for item in rows[one.method].items if item.answered]
        assert area == pytest.approx(fmean(value for value in answered if value is not None), abs=0.03)
        for concept in one.concepts.values():
            assert len(concept.edges) == len(concept.positives) + 1 == len(concept.negatives) + 1


def test_a_curve_of_a_perfect_detector_goes_through_the_corner() -> None:
    scores = np.concatenate([np.zeros(50), np.ones(50)])
    np.testing.assert_allclose(_roc(scores, scores > 0.5), np.ones(len(_RATES)))


def test_the_command_repeats_the_run(found: RunDetails, tiny_task: Path) -> None:
    words = shlex.split(found.command)
    assert words[:4] == ["harness", "eval", "--task", str(tiny_task)]
    assert " ".join(GIVEN[:6]) in found.command


def test_an_entry_finds_its_run_and_no_other(folder: Path, tmp_path: Path) -> None:
    (entry,), _ = load_entries(folder / "leaderboard" / "entries")
    runs = RunsAtHand(folder / "runs")
    found = runs.details(entry)
    assert found is not None
    assert found.n_texts > 0
    other = Entry.model_validate({**entry.as_json(), "id": "", "seal": "", "run_digest": "another"})
    assert runs.details(other) is None
    shutil.copytree(folder / "runs", tmp_path / "runs")
    (database,) = (tmp_path / "runs").glob("*/run.sqlite")
    database.write_bytes(database.read_bytes()[:5000])
    damaged = RunsAtHand(tmp_path / "runs")
    assert damaged.details(entry) is None
    assert len(damaged.problems) >= 1


def test_a_judge_that_has_not_rated_is_unknown(store: RunStore) -> None:
    with pytest.raises(HarnessError) as caught:
        report_of(store, "nobody")
    assert caught.value.given == "nobody"


def test_a_run_that_has_stopped_before_its_ratings_has_no_page_yet(store: RunStore, tmp_path: Path) -> None:
    with RunStore.create_or_open(tmp_path / "stopped", store.manifest) as stopped:
        with pytest.raises(StoreError):
            report_of(stopped)
        stopped.add_concepts(store.concepts())
        stopped.add_instructions(store.instructions())
        for labeler in store.manifest.labelers:
            stopped.add_labelings(labeler.key, store.labelings(labeler.key) or ())
        stopped.add_methods([*store.methods(), *store.detection_methods()])
        stopped.add_items(store.items())
        with pytest.raises(StoreError) as caught:
            report_of(stopped)
        assert caught.value.given == "stopped"
