"""Splicing and ablation as edits: which tokens they touch, what they put there, and that rows do not touch each other."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from helpers.benches import whole_text

from harness.errors import DictionaryError
from harness.interventions import Positions, Site
from harness.sae.corpus.outliers import usual_tokens
from harness.sae.dictionary import Dictionary
from harness.sae.splicing import COUNTED, Ablate, Splice, reconstruct


def stream(rows: int = 3, tokens: int = 7) -> torch.Tensor:
    return torch.randn(rows, tokens, 64, generator=torch.Generator().manual_seed(1))


def apply(edits: list[Splice] | list[Ablate], x: torch.Tensor) -> torch.Tensor:
    return edits[0].stack(edits, x.device).apply(x, whole_text(x))  # type: ignore[arg-type]


def test_a_reconstruction_is_encode_then_decode_whatever_the_slices(dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch) -> None:
    x = stream().flatten(0, 1)
    expected = dictionary.decode(dictionary.encode(x))
    torch.testing.assert_close(reconstruct(dictionary, x), expected)
    monkeypatch.setattr("harness.sae.corpus.counts.CHUNK_ELEMENTS", 4 * 512)
    torch.testing.assert_close(reconstruct(dictionary, x), expected)
    assert reconstruct(dictionary, x[:0]).shape == (0, 64)


def test_splicing_replaces_all_but_the_first_token(dictionary: Dictionary) -> None:
    x = stream()
    before = x.clone()
    found = apply([Splice(dictionary)] * 3, x)
    assert torch.equal(x, before)
    assert torch.equal(found[:, 0], x[:, 0])
    torch.testing.assert_close(found[:, 1:], dictionary.decode(dictionary.encode(x[:, 1:])), rtol=1e-4, atol=1e-5)
    everywhere = apply([Splice(dictionary, Positions())], x[:1])
    torch.testing.assert_close(everywhere, dictionary.decode(dictionary.encode(x[:1])), rtol=1e-4, atol=1e-5)


def test_ablation_puts_one_vector_in_place_of_all_but_the_first_token() -> None:
    x, vector = stream(), torch.arange(64.0)
    found = apply([Ablate(Site(2), vector)] * 3, x)
    assert torch.equal(found[:, 0], x[:, 0])
    assert torch.equal(found[:, 1:], vector.expand(3, 6, 64))


@pytest.mark.parametrize("kind", ["splice", "ablate"])
def test_outliers_stay_and_each_row_is_its_own_measure(dictionary: Dictionary, kind: str) -> None:
    x = stream()
    x[1, 4] *= 100
    x[2] *= 100  # a text of large vectors has no outlier
    edit = Splice(dictionary) if kind == "splice" else Ablate(Site(2), torch.zeros(64))
    together = apply([edit] * 3, x)
    touched = whole_text(x).touched(COUNTED)
    assert torch.equal((together != x).any(dim=-1), usual_tokens(x, touched))
    assert torch.equal(together[1, 4], x[1, 4])
    assert (together[2, 1:] != x[2, 1:]).any(dim=-1).all()
    for row in range(3):
        torch.testing.assert_close(apply([edit], x[row : row + 1])[0], together[row], rtol=1e-4, atol=1e-3)
    all_of_them = apply([dataclasses.replace(edit, outlier=0)] * 3, x)
    assert torch.equal((all_of_them != x).any(dim=-1), touched)


def test_edits_share_a_batch_only_where_they_do_the_same(dictionary: Dictionary) -> None:
    edits = [
        Splice(dictionary), Splice(dictionary, Positions()), Splice(dictionary, outlier=0), Ablate(Site(2), torch.zeros(64)),
        Ablate(Site(1), torch.zeros(64)), Ablate(Site(2), torch.ones(64)), Ablate(Site(2), torch.zeros(64), Positions()),
    ]  # fmt: skip
    assert len({edit.batch_key for edit in edits}) == len(edits)
    assert Splice(dictionary).batch_key == edits[0].batch_key
    assert Ablate(Site(2), torch.zeros(64)).batch_key == edits[3].batch_key
    assert Splice(dictionary).sites == (Site(2),)


def test_a_dictionary_on_another_device_is_refused(dictionary: Dictionary) -> None:
    with pytest.raises(DictionaryError) as error:
        Splice(dictionary).stack([Splice(dictionary)], torch.device("meta"))
    assert (error.value.given, error.value.allowed) == ("cpu", "meta")
    assert "device='meta'" in error.value.hint
