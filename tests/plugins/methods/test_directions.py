"""Methods that are one direction: what each fits, against its definition and scikit-learn, and that its two faces share the fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.methods import probe
from harness_plugins.methods.caa import CaaDetector, CaaSteerer
from harness_plugins.methods.diff_mean import DiffMeanDetectOptions, DiffMeanDetector, DiffMeanSteerer, DiffMeanSteerOptions
from harness_plugins.methods.lat import LatDetector, LatSteerer
from harness_plugins.methods.pca import PcaDetector, PcaSteerer
from harness_plugins.methods.probe import ProbeDetectOptions, ProbeDetector, ProbeSteerer, ProbeSteerOptions
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from harness.data.texts import TextSet
from harness.errors import DataError, OptionError
from harness.evaluations.detection.texts import corpus_texts
from harness.fitting.components import first_component
from harness.fitting.directions import FALLBACK, FitDetectOptions, FitSteerOptions
from harness.fitting.texts import ConceptTexts, concept_texts
from harness.fitting.tokens import token_activations
from harness.labelling.pooling import mean_residuals
from harness.run.bench import TaskBench
from harness.testing import toy_bench
from harness.types import Concept, Labeling, rng

STEPS = 2
"""Steps of an epoch of a probe on the toy corpus."""
FACES = {
    "diff-mean": (DiffMeanSteerer, DiffMeanSteerOptions, DiffMeanDetector, DiffMeanDetectOptions),
    "caa": (CaaSteerer, FitSteerOptions, CaaDetector, FitDetectOptions),
    "pca": (PcaSteerer, FitSteerOptions, PcaDetector, FitDetectOptions),
    "lat": (LatSteerer, FitSteerOptions, LatDetector, FitDetectOptions),
    "probe": (ProbeSteerer, ProbeSteerOptions, ProbeDetector, ProbeDetectOptions),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TaskBench:
    return toy_bench(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def report(bench: TaskBench) -> TextSet:
    return corpus_texts(bench, "report")


@pytest.fixture(scope="module")
def labelings(bench: TaskBench) -> list[Labeling]:
    return [Labeling(concept) for concept in bench.concepts]


@pytest.fixture(scope="module")
def texts(bench: TaskBench, labelings: list[Labeling]) -> list[ConceptTexts]:
    return concept_texts(bench, labelings, "a test")


def prepared(method: Any, bench: TaskBench, labelings: list[Labeling]) -> Any:
    method.prepare(bench, labelings)
    return method


def tokens(bench: TaskBench, texts: list[ConceptTexts], of: ConceptTexts) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The activations of one concept's positive and negative tokens, float64, read here by themselves."""
    sides = []
    for places in (of.positive, of.negative):
        rows = [bench.corpus_tokens[int(place)] for place in places]
        with torch.no_grad():
            states = [bench.model.hf(input_ids=torch.tensor(row)[None], output_hidden_states=True).hidden_states for row in rows]
        sides.append(np.concatenate([state[bench.site.layer + 1][0, 1:].double().numpy() for state in states]))
    return sides[0], sides[1]


def unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return vector / np.linalg.norm(vector)


def directions(method: Any, bench: TaskBench, labelings: list[Labeling]) -> list[np.ndarray[Any, Any]]:
    found = prepared(method, bench, labelings)
    return [unit(found.intervene(labeling, 1.0).edits[0].vector.double().numpy()) for labeling in labelings]


def test_training_texts_are_balanced_disjoint_and_of_the_train_part(bench: TaskBench, texts: list[ConceptTexts]) -> None:
    for one in texts:
        assert len(one.positive) == len(one.negative) > 0
        assert set(one.places.tolist()) <= set(bench.split.train.tolist())
        assert set(one.positive.tolist()) == set(bench.split.train.tolist()) & set(bench.labels.of(one.concept.label).tolist())
        assert not set(one.positive.tolist()) & set(one.negative.tolist())


def test_kept_activations_are_the_models(bench: TaskBench, texts: list[ConceptTexts]) -> None:
    kept = token_activations(bench, bench.site, texts)
    for one in texts:
        x, owner = kept.of(one.positive)
        expected = tokens(bench, texts, one)[0]
        np.testing.assert_allclose(x.numpy(), expected, rtol=1e-4, atol=1e-5)
        lengths = [len(bench.corpus_tokens[int(place)]) - 1 for place in one.positive]
        assert owner.tolist() == np.repeat(np.arange(len(lengths)), lengths).tolist()


def test_diff_mean_is_the_difference_of_token_means(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    for direction, one in zip(directions(DiffMeanSteerer(DiffMeanSteerOptions()), bench, labelings), texts, strict=True):
        positive, negative = tokens(bench, texts, one)
        np.testing.assert_allclose(direction, unit(positive.mean(axis=0) - negative.mean(axis=0)), atol=1e-4)


def test_diff_mean_of_texts_is_that_of_all_training_texts(bench: TaskBench, report: TextSet, labelings: list[Labeling]) -> None:
    found = prepared(DiffMeanDetector(DiffMeanDetectOptions(level="text")), bench, labelings).scores(labelings, report)
    statistics, train = bench.statistics(), bench.split.train
    for row, labeling in zip(found, labelings, strict=True):
        has = np.isin(train, bench.labels.of(labeling.concept.label))
        weighted = statistics.document_means[train].astype(float) * statistics.n_tokens[train, None]
        direction = weighted[has].sum(0) / statistics.n_tokens[train][has].sum() - weighted[~has].sum(0) / statistics.n_tokens[train][~has].sum()
        np.testing.assert_allclose(row, mean_residuals(bench, report) @ unit(direction), rtol=1e-6)
    with pytest.raises(OptionError) as error:
        DiffMeanSteerer(DiffMeanSteerOptions(level="text", layer=0)).prepare(bench, labelings)
    assert error.value.given == "layer 0"


def test_caa_is_the_difference_at_last_tokens(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    for direction, one in zip(directions(CaaSteerer(FitSteerOptions()), bench, labelings), texts, strict=True):
        sides = []
        for places in (one.positive, one.negative):
            rows = [bench.corpus_tokens[int(place)] for place in places]
            with torch.no_grad():
                states = [bench.model.hf(input_ids=torch.tensor(row)[None], output_hidden_states=True).hidden_states for row in rows]
            sides.append(np.stack([state[bench.site.layer + 1][0, -1].double().numpy() for state in states]))
        np.testing.assert_allclose(direction, unit(sides[0].mean(axis=0) - sides[1].mean(axis=0)), atol=1e-4)


def test_pca_is_scikit_learns_with_the_sign_of_the_concept(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    for direction, one in zip(directions(PcaSteerer(FitSteerOptions()), bench, labelings), texts, strict=True):
        positive, negative = tokens(bench, texts, one)
        expected = PCA(n_components=1, svd_solver="full").fit(positive).components_[0]
        assert abs(expected @ direction) == pytest.approx(1, abs=1e-5)
        assert (positive @ direction).mean() >= (negative @ direction).mean()


def test_lat_is_the_component_of_normalised_differences(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    for direction, one in zip(directions(LatSteerer(FitSteerOptions()), bench, labelings), texts, strict=True):
        positive, negative = tokens(bench, texts, one)
        order = bench.rng("lat", one.concept.id).permutation(len(positive))
        half = len(order) // 2
        differences = positive[order[:half]] - positive[order[half : 2 * half]]
        differences = differences[np.linalg.norm(differences, axis=1) > 0]
        expected = PCA(n_components=1, svd_solver="full").fit(differences / np.linalg.norm(differences, axis=1, keepdims=True)).components_[0]
        assert abs(expected @ direction) == pytest.approx(1, abs=1e-4)
        assert (positive @ direction).mean() >= (negative @ direction).mean()


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_first_component_has_the_largest_variance(n: int, width: int, seed: int) -> None:
    x = rng(seed, "component").standard_normal((n, width)) * rng(seed, "widths").uniform(0.1, 3, width)
    found = first_component(torch.from_numpy(x))
    largest = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)[0]
    assert np.linalg.norm((x - x.mean(axis=0)) @ found) == pytest.approx(largest, abs=1e-8)
    assert np.linalg.norm(found) == pytest.approx(1 if largest > 1e-12 else np.linalg.norm(found))


def test_a_free_probe_trained_to_the_end_is_scikit_learns_regression(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    """All texts in one step, so that nothing but the loss decides; the tokens of two concepts cannot be told apart by a plane."""
    options = {"epochs": 600, "batch": 1000, "lr": 0.3, "weight_decay": 0.0, "unit_norm": False, "held_out": 0.0}
    fit = prepared(ProbeDetector(ProbeDetectOptions(**options)), bench, labelings)._fit  # type: ignore[arg-type]
    for place, one in enumerate(texts):
        positive, negative = tokens(bench, texts, one)
        x, y = np.concatenate([positive, negative]), np.repeat([1, 0], [len(positive), len(negative)])
        expected = LogisticRegression(C=np.inf, max_iter=20_000, tol=1e-8).fit(x, y)
        assert unit(expected.coef_[0]) @ fit.directions[place] > 0.98
        assert expected.intercept_[0] / np.linalg.norm(expected.coef_[0]) == pytest.approx(fit.offsets[place], abs=0.1)


def test_probes_do_not_depend_on_who_is_trained_beside_them(bench: TaskBench, labelings: list[Labeling]) -> None:
    together = prepared(ProbeSteerer(ProbeSteerOptions()), bench, labelings)._fit
    alone = prepared(ProbeSteerer(ProbeSteerOptions()), bench, labelings[1:2])._fit
    np.testing.assert_allclose(alone.directions[0], together.directions[1], atol=1e-5)
    for name in ("loss", "held_out"):
        mine, theirs = (fit.curves[labelings[1].concept.id][name] for fit in (alone, together))
        assert len(mine) == 25  # before the training, where there is no training loss, and after each epoch
        assert (mine[0] is None) == (theirs[0] is None) == (name == "loss")
        np.testing.assert_allclose(mine[1:], theirs[1:], rtol=1e-5)
    curve = together.curves[labelings[0].concept.id]
    assert curve["loss"][-1] < curve["loss"][1]
    assert curve["steps"] == curve["step"][-1]


def test_a_training_that_diverges_at_once_is_refused(bench: TaskBench, labelings: list[Labeling]) -> None:
    with pytest.raises(OptionError) as error:
        ProbeSteerer(ProbeSteerOptions(lr=100, unit_norm=False, decay="constant")).prepare(bench, labelings)
    assert error.value.given == 100
    assert error.value.hint


def test_a_training_that_diverges_later_keeps_its_last_good_state(
    tmp_path: Path, labelings: list[Labeling], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = toy_bench(tmp_path)
    short = prepared(ProbeSteerer(ProbeSteerOptions(epochs=2, decay="constant")), bench, labelings[:1])._fit
    monkeypatch.setattr(probe, "_DIVERGED", 1e9)
    real, steps = probe._losses, []

    def losses(*arguments: Any) -> torch.Tensor:
        steps.append(torch.is_grad_enabled())
        return real(*arguments) * (float("nan") if sum(steps) > 2 * STEPS and steps[-1] else 1)

    monkeypatch.setattr(probe, "_losses", losses)
    fit = prepared(ProbeSteerer(ProbeSteerOptions(epochs=4, decay="constant")), bench, labelings[:1])._fit
    np.testing.assert_allclose(fit.directions, short.directions, atol=1e-6)
    (curve,) = (fit.curves or {}).values()
    assert (curve["step"], curve["stopped"], curve["kept"]) == ([0, STEPS, 2 * STEPS], 3 * STEPS, 2 * STEPS)
    assert sum("diverged after epoch 2" in line for line in bench.warnings.messages) == 1


@pytest.mark.parametrize("name", FACES)
def test_both_faces_share_one_fit_and_score_by_it(name: str, bench: TaskBench, report: TextSet, labelings: list[Labeling]) -> None:
    steerer, steer_options, detector, detect_options = FACES[name]
    steers = prepared(steerer(steer_options()), bench, labelings)
    before = sum(1 for _ in bench.artifacts.root.iterdir())
    detects = prepared(detector(detect_options()), bench, labelings)
    assert sum(1 for _ in bench.artifacts.root.iterdir()) == before
    np.testing.assert_array_equal(steers._fit.directions, detects._fit.directions)
    np.testing.assert_allclose(np.linalg.norm(steers._fit.directions, axis=1), 1)
    largest = detects.scores(labelings, report)
    mean = prepared(detector(detect_options(pool="mean")), bench, labelings).scores(labelings, report)
    found = dict(bench.activations(bench.site, report))
    for place in range(len(report)):
        values = found[place].double().numpy() @ detects._fit.directions.T + detects._fit.offsets
        np.testing.assert_allclose(largest[:, place], values.max(axis=0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(mean[:, place], values.mean(axis=0), rtol=1e-4, atol=1e-4)


def test_a_strength_is_a_multiple_of_the_largest_training_score(bench: TaskBench, labelings: list[Labeling], texts: list[ConceptTexts]) -> None:
    steerer = prepared(DiffMeanSteerer(DiffMeanSteerOptions()), bench, labelings)
    for place, (labeling, one) in enumerate(zip(labelings, texts, strict=True)):
        both = np.concatenate(tokens(bench, texts, one)) @ steerer._fit.directions[place]
        expected = 0.5 * (both.max() if both.max() > 0 else FALLBACK)
        assert float(steerer.intervene(labeling, 0.5).edits[0].vector.norm()) == pytest.approx(expected, rel=1e-4)
    by_norm = prepared(DiffMeanSteerer(DiffMeanSteerOptions(unit="residual-norm")), bench, labelings)
    length = float(by_norm.intervene(labelings[0], 0.5).edits[0].vector.norm())
    assert length == pytest.approx(0.5 * bench.residual_means().mean_norm, rel=1e-5)
    assert (by_norm.traits.unit, by_norm.traits.neutral, steerer.traits.unit) == ("residual-norm", 0.0, "max-detection")


def test_evaluated_texts_set_a_scale_under_axbenchs_protocol_alone(tmp_path: Path, bench: TaskBench, labelings: list[Labeling]) -> None:
    from dataclasses import replace

    options = DiffMeanSteerOptions(unit="max-evaluation")
    with pytest.raises(OptionError) as error:
        DiffMeanSteerer(options).prepare(bench, labelings)
    assert error.value.given == "max-evaluation"
    axbench = toy_bench(tmp_path)
    axbench.choices = replace(axbench.choices, protocol="axbench")
    steerer = prepared(DiffMeanSteerer(options), axbench, labelings)
    evaluated = np.concatenate([axbench.split.threshold, axbench.split.report])
    for place, labeling in enumerate(labelings):
        own = np.intersect1d(evaluated, axbench.labels.of(labeling.concept.label))
        rows = [axbench.corpus_tokens[int(at)] for at in own]
        with torch.no_grad():
            states = [axbench.model.hf(input_ids=torch.tensor(row)[None], output_hidden_states=True).hidden_states for row in rows]
        scores = np.concatenate([state[axbench.site.layer + 1][0, 1:].double().numpy() for state in states]) @ steerer._fit.directions[place]
        expected = scores.max() if scores.max() > 0 else FALLBACK
        assert float(steerer.intervene(labeling, 1.0).edits[0].vector.norm()) == pytest.approx(expected, rel=1e-4)


def test_the_subspace_setting_takes_out_what_is_there(bench: TaskBench, labelings: list[Labeling]) -> None:
    steerer = prepared(DiffMeanSteerer(DiffMeanSteerOptions(subspace=True, unit="residual-norm")), bench, labelings)
    edit = steerer.intervene(labelings[0], 0.0).edits[0]
    w = edit.direction.double()
    x = torch.from_numpy(rng(0, "stream").standard_normal((5, len(w))))
    along = edit.exact(x) @ w
    np.testing.assert_allclose(along.numpy(), np.minimum((x @ w).numpy(), 0), atol=1e-6)
    assert steerer.traits.neutral is None


@pytest.mark.parametrize("concept", [Concept("bare", "a bare name"), Concept("gone", "gone", "gone")])
@pytest.mark.parametrize("name", FACES)
def test_a_concept_without_texts_is_one_error(name: str, concept: Concept, bench: TaskBench) -> None:
    steerer, options, _, _ = FACES[name]
    with pytest.raises(DataError) as error:
        steerer(options()).prepare(bench, [Labeling(concept)])
    assert error.value.given == concept.id
    assert error.value.hint
    assert name in str(error.value)


def test_a_layer_that_is_not_there_is_refused_before_anything_is_read(bench: TaskBench, labelings: list[Labeling]) -> None:
    from harness.errors import ModelError

    with pytest.raises(ModelError) as error:
        DiffMeanSteerer(DiffMeanSteerOptions(layer=77)).prepare(bench, labelings)
    assert error.value.given == 77
