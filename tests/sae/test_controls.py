"""Random dictionaries: what they are made of, that L0 is matched, and that a trained dictionary beats one by real numbers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DictionaryError, UnknownNameError
from harness.interventions import Site
from harness.model import SubjectModel
from harness.sae.controls import CONTROLS, Fitted, control, neuron_rows, principal_rows, random_rows, untrained_rows
from harness.sae.corpus.counts import Meter
from harness.sae.corpus.sweep import activations
from harness.sae.dictionary import Dictionary
from harness.sae.splicing import reconstruct


@pytest.fixture(scope="module")
def x(tiny_model: SubjectModel) -> torch.Tensor:
    """Real residual vectors of layer 2: the tiny model reading what it writes."""
    from helpers.generation import generate

    from harness.engine.base import GenerationRequest
    from harness.types import Decoding

    start = list(tiny_model.encode(""))
    written = generate(tiny_model, [GenerationRequest(str(i), start, 0) for i in range(40)], Decoding(70, 1.0))
    rows = [[*start, *done.token_ids] for done in sorted(written, key=lambda done: int(done.id))]
    return torch.cat([vectors for _, vectors in activations(tiny_model, rows, Site(2))])


def test_rows_are_unit_vectors_of_no_direction_in_particular(dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(dictionary, 0)
    assert rows.shape == (512, 64)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(512))
    # the mean of 512 isotropic unit vectors in 64 dimensions has a length near 1/√512; its square is within 5 standard errors
    assert float(rows.mean(dim=0).square().sum()) == pytest.approx(1 / 512, rel=5 * (2 / 64) ** 0.5)
    covariance = rows.T @ rows / 512
    assert float((covariance - torch.eye(64) / 64).abs().max()) < 0.006
    assert torch.equal(rows, random_rows(dictionary, 0))
    assert not torch.equal(rows, random_rows(dictionary, 1))
    monkeypatch.setattr("harness.sae.drawn.ROWS_AT_ONCE", 100)
    assert random_rows(dictionary, 0).shape == (512, 64)


def test_a_control_is_tied_random_and_has_the_dictionarys_l0(dictionary: Dictionary, x: torch.Tensor) -> None:
    fitted = CONTROLS["random"].fit(dictionary, x, 3)
    made = CONTROLS["random"].make(dictionary, 3, fitted)
    assert (made.d_in, made.d_sae, made.layer, made.hook_name) == (64, 512, 2, dictionary.hook_name)
    assert made.architecture == "jumprelu"
    torch.testing.assert_close(made.sae.W_enc, fitted.scale * made.sae.W_dec.T)
    torch.testing.assert_close(made.sae.W_dec.norm(dim=-1), torch.ones(512))
    torch.testing.assert_close(made.sae.b_dec, x.mean(dim=0))
    theirs, ours = Meter(dictionary), Meter(made)
    theirs.count(x)
    ours.count(x)
    assert ours.l0 == pytest.approx(theirs.l0, rel=2e-3)  # texts begin alike, so vectors repeat, and equal activations stand at the border
    assert fitted.l0 == theirs.l0
    # by the definition, in float64
    hidden = (x - fitted.mean).double() @ random_rows(dictionary, 3).double().T
    f = torch.where(hidden > fitted.threshold, fitted.scale * hidden, 0)
    away = (hidden - fitted.threshold).abs() > 1e-4
    torch.testing.assert_close(made.encode(x).double()[away], f[away], rtol=1e-3, atol=1e-3)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 100), st.floats(0.5, 1.5))
def test_no_other_factor_reconstructs_better(dictionary: Dictionary, x: torch.Tensor, seed: int, factor: float) -> None:
    fitted = CONTROLS["random"].fit(dictionary, x, seed)
    made = CONTROLS["random"].make(dictionary, seed, fitted)
    sums = reconstruct(made, x) - made.sae.b_dec
    errors = [float((x - made.sae.b_dec - scale * sums).square().sum()) for scale in (1.0, factor)]
    assert errors[0] <= errors[1] * (1 + 1e-6)


def test_the_trained_dictionary_beats_random_ones_at_equal_l0(dictionary: Dictionary, x: torch.Tensor) -> None:
    """On the tiny model: .93 of the variance against about .45."""
    half = len(x) // 2
    trained = Meter(dictionary)
    trained.count(x[half:])
    for seed in range(3):
        made = CONTROLS["random"].make(dictionary, seed, CONTROLS["random"].fit(dictionary, x[:half], seed))
        drawn = Meter(made)
        drawn.count(x[half:])
        assert drawn.l0 == pytest.approx(trained.l0, rel=0.1)
        assert 0 < drawn.explained_variance < trained.explained_variance - 0.2


def test_making_a_control_moves_nobody_elses_draws(dictionary: Dictionary, x: torch.Tensor) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CONTROLS["random"].make(dictionary, 0, CONTROLS["random"].fit(dictionary, x, 0))
    assert torch.equal(torch.rand(3), expected)


def test_what_cannot_be_matched_is_refused(dictionary: Dictionary) -> None:
    with pytest.raises(DictionaryError) as silent:
        CONTROLS["random"].fit(dictionary, torch.zeros(0, 64), 0)
    assert silent.value.given == 0
    assert silent.value.hint
    with pytest.raises(UnknownNameError) as error:
        control("randon")
    assert error.value.known == tuple(CONTROLS)
    assert error.value.near == "random"


def test_untrained_is_where_training_begins(dictionary: Dictionary, tmp_path: Path) -> None:
    from helpers.activations import stored_activations

    from harness import sae as harness_sae
    from harness.sae.training import fit as fitting
    from harness.sae.training.config import TrainConfig
    from harness.sae.training.train import train_on

    rows = untrained_rows(dictionary, 0)
    torch.testing.assert_close(rows.norm(dim=-1), torch.ones(512))
    assert torch.equal(rows, untrained_rows(dictionary, 0))
    assert not torch.equal(rows, untrained_rows(dictionary, 1))
    begun: list[torch.Tensor] = []
    real = fitting._trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "_trainer", lambda sae, *rest: begun.append(sae.W_dec.detach().clone()) or real(sae, *rest))
        config = TrainConfig(width=64, k=4, batch_size=256, epochs=0.2, seed=3, fast=False, architecture="topk")
        metadata: dict[str, Any] = {"hook_name": "model.layers.1", "harness_training": asdict(config)}
        train_on(stored_activations(tmp_path / "x"), config, tmp_path / "sae", metadata, torch.device("cpu"), lambda _: None)
    other = harness_sae.load(tmp_path / "sae")
    torch.testing.assert_close(untrained_rows(other, 3), begun[0] / begun[0].norm(dim=-1, keepdim=True))


def test_components_and_neurons_of_vectors_made_by_hand(dictionary: Dictionary) -> None:
    x = torch.zeros(200, 64)
    generator = torch.Generator().manual_seed(0)
    for place, spread in ((5, 9.0), (40, 4.0), (0, 1.0)):
        x[:, place] = spread * torch.randn(200, generator=generator)
    x[:, 7] = 100.0  # constant: large, and without variance
    found = neuron_rows(dictionary, x)
    assert found.shape == (128, 64), "2 · d_in is all there is, although the dictionary has 512 features"
    assert [int(row.abs().argmax()) for row in found[:6]] == [5, 5, 40, 40, 0, 0]
    assert found[:6].sum(dim=-1).tolist() == [1, -1, 1, -1, 1, -1]
    turned = torch.linalg.qr(torch.randn(64, 64, generator=generator))[0]
    components = principal_rows(dictionary, x @ turned)
    assert components.shape == (128, 64)
    torch.testing.assert_close(components[0::2], -components[1::2])
    torch.testing.assert_close(components[::2] @ components[::2].T, torch.eye(64), atol=1e-5, rtol=0)
    for place, own in ((0, 5), (2, 40), (4, 0)):
        assert abs(float(components[place] @ turned[own])) > 0.98
    variances = (x @ turned @ components[::2].T).var(dim=0)
    assert torch.equal(variances[:3], variances[:3].sort(descending=True).values)


@pytest.mark.parametrize("name", ["untrained", "pca", "neurons"])
def test_each_control_is_matched_in_l0(name: str, dictionary: Dictionary, x: torch.Tensor) -> None:
    kind = control(name)
    fitted = kind.fit(dictionary, x, 1)
    made = kind.make(dictionary, 1, fitted)
    meter, theirs = Meter(made), Meter(dictionary)
    meter.count(x)
    theirs.count(x)
    assert meter.l0 == pytest.approx(theirs.l0, rel=0.01)
    assert 0 < meter.explained_variance < theirs.explained_variance
    assert (made.d_sae, "128 of 512" in made.source) == ((512, False) if name == "untrained" else (128, True))
    assert name in made.source
    assert kind.make(dictionary, 1, fitted).digest == made.digest


def test_a_basis_reconstructs_as_in_the_book(dictionary: Dictionary) -> None:
    """With every component on its side active, components and their opposites are a basis: x̂ = x."""
    x = torch.randn(300, 64, generator=torch.Generator().manual_seed(1))
    for name in ("pca", "neurons"):
        kind = control(name)
        rows = kind.found(dictionary, x) if kind.found is not None else None
        made = kind.make(dictionary, 0, Fitted(x.mean(dim=0), 0.0, 1.0, 64.0, rows))
        torch.testing.assert_close(made.decode(made.encode(x)), x, rtol=1e-4, atol=1e-4)


def test_a_control_that_cannot_have_so_many_active_features_is_refused(dictionary: Dictionary) -> None:
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Meter, "l0", property(lambda self: 80.0 if self.dictionary is dictionary else 64.0))
        with pytest.raises(DictionaryError) as error:
            control("pca").fit(dictionary, x, 0)
    assert error.value.given == 80.0
    assert error.value.hint
