"""Random dictionaries: what they are made of, that L0 is matched, and that a trained dictionary beats one by real numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DictionaryError, UnknownNameError
from harness.interventions import Site
from harness.model import SubjectModel
from harness.sae.controls import CONTROLS, control, fit_random, random_dictionary, random_rows
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
    fitted = fit_random(dictionary, x, 3)
    made = random_dictionary(dictionary, 3, fitted)
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
    fitted = fit_random(dictionary, x, seed)
    made = random_dictionary(dictionary, seed, fitted)
    sums = reconstruct(made, x) - made.sae.b_dec
    errors = [float((x - made.sae.b_dec - scale * sums).square().sum()) for scale in (1.0, factor)]
    assert errors[0] <= errors[1] * (1 + 1e-6)


def test_the_trained_dictionary_beats_random_ones_at_equal_l0(dictionary: Dictionary, x: torch.Tensor) -> None:
    """On the tiny model: .93 of the variance against about .45."""
    half = len(x) // 2
    trained = Meter(dictionary)
    trained.count(x[half:])
    for seed in range(3):
        made = random_dictionary(dictionary, seed, fit_random(dictionary, x[:half], seed))
        drawn = Meter(made)
        drawn.count(x[half:])
        assert drawn.l0 == pytest.approx(trained.l0, rel=0.1)
        assert 0 < drawn.explained_variance < trained.explained_variance - 0.2


def test_making_a_control_moves_nobody_elses_draws(dictionary: Dictionary, x: torch.Tensor) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random_dictionary(dictionary, 0, fit_random(dictionary, x, 0))
    assert torch.equal(torch.rand(3), expected)


def test_what_cannot_be_matched_is_refused(dictionary: Dictionary) -> None:
    with pytest.raises(DictionaryError) as silent:
        fit_random(dictionary, torch.zeros(0, 64), 0)
    assert silent.value.given == 0
    assert silent.value.hint
    with pytest.raises(UnknownNameError) as error:
        control("randon")
    assert error.value.known == tuple(CONTROLS)
    assert error.value.near == "random"
