"""ClampFeature: batches that mix features, numbers of features and targets, against the arithmetic of one row."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness import sae as harness_sae
from harness.errors import DictionaryError
from harness.interventions import EditContext, Positions, Site
from harness.model.activations import residuals
from harness.model.loading import load_model
from harness.sae.dictionary import Dictionary
from harness.steering.clamp import ClampFeature
from harness.types import rng

CPU = torch.device("cpu")
SITE = Site(2)


@pytest.fixture(scope="module")
def dictionary(tiny_sae_path: Path) -> Dictionary:
    return harness_sae.load(tiny_sae_path)


@pytest.fixture(scope="module")
def x(tiny_model_path: Path) -> torch.Tensor:
    """Real residual vectors of four texts, ``[4, tokens, 64]``."""
    model = load_model(tiny_model_path, device="cpu", dtype="float32")
    texts = ["Once upon a time, there was a dog.", "The cat sat on the mat and", "Lily went to the park.", "Tom was sad. He lost his toy"]
    batches = list(residuals(model, [model.encode(text)[:8] for text in texts], SITE))
    assert len(batches) == 1
    return batches[0].x


def context(x: torch.Tensor) -> EditContext:
    real = torch.ones(x.shape[:2], dtype=torch.bool)
    return EditContext.of(real, ~real)


def active_feature(dictionary: Dictionary, x: torch.Tensor) -> int:
    return int(dictionary.encode(x).flatten(0, -2).sum(dim=0).argmax())


def test_one_batch_mixes_features_targets_and_their_number(dictionary: Dictionary, x: torch.Tensor) -> None:
    j = active_feature(dictionary, x)
    others = [int(i) for i in rng(0, "test-edits").choice(512, 3, replace=False)]
    rows = [
        ClampFeature(SITE, dictionary, j, 0.0),
        ClampFeature(SITE, dictionary, others[0], 7.5),
        ClampFeature(SITE, dictionary, (j, others[1], others[2]), (1.0, -2.0, 3.0)),
        ClampFeature(SITE, dictionary, (others[0],), (20.0,)),
    ]
    assert len({row.batch_key for row in rows}) == 1
    edited = rows[1].stack(rows, CPU).apply(x, context(x))
    for b, row in enumerate(rows):
        torch.testing.assert_close(edited[b], dictionary.clamp(x[b], row.features, row.targets), rtol=1e-5, atol=1e-5)
        alone = row.stack([row], CPU).apply(x[b : b + 1], context(x[b : b + 1]))
        torch.testing.assert_close(edited[b], alone[0], rtol=1e-5, atol=1e-5)


def test_the_feature_has_the_target_and_the_error_is_kept(dictionary: Dictionary, x: torch.Tensor) -> None:
    from sae_lens import SAE

    reference: SAE = dictionary.sae
    j = active_feature(dictionary, x)
    f = reference.encode(x)
    error = x - reference.decode(f)
    f[..., j] = 4.0
    expected = reference.decode(f) + error
    edit = ClampFeature(SITE, dictionary, j, 4.0)
    torch.testing.assert_close(edit.stack([edit] * 4, CPU).apply(x, context(x)), expected, rtol=1e-5, atol=1e-5)


def test_a_clamp_to_zero_where_the_feature_is_silent_changes_nothing(dictionary: Dictionary, x: torch.Tensor) -> None:
    silent = int((dictionary.encode(x).flatten(0, -2).amax(dim=0) == 0).nonzero()[0])
    edit = ClampFeature(SITE, dictionary, silent, 0.0)
    assert torch.equal(edit.stack([edit] * 4, CPU).apply(x, context(x)), x)


def test_what_may_share_a_batch(dictionary: Dictionary, tiny_sae_path: Path) -> None:
    edit = ClampFeature(SITE, dictionary, 3, 1.0)
    again = ClampFeature(SITE, harness_sae.load(tiny_sae_path), 3, 1.0)
    assert edit == again, "a dictionary is compared by content"
    assert hash(edit) == hash(again)
    assert edit.batch_key == again.batch_key == ClampFeature(SITE, dictionary, (4, 5), (1.0, 2.0)).batch_key
    assert edit.batch_key != ClampFeature(Site(1), dictionary, 3, 1.0).batch_key
    assert edit.batch_key != ClampFeature(SITE, dictionary, 3, 1.0, Positions(first_token=False)).batch_key
    assert edit.sites == (SITE,)


def test_edits_that_cannot_be(dictionary: Dictionary) -> None:
    for index, target, given, allowed in [
        (512, 1.0, (512,), "0 to 511"),
        (-1, 1.0, (-1,), "0 to 511"),
        ((), (), (), "at least one"),
        ((1, 2), (1.0,), (1.0,), "one target for each"),
        ((1, 1), (1.0, 2.0), (1, 1), "each feature once"),
    ]:
        with pytest.raises(DictionaryError) as error:
            ClampFeature(SITE, dictionary, index, target)
        assert error.value.given == given
        assert allowed in str(error.value.allowed)


def test_the_dictionary_must_be_where_the_model_is(dictionary: Dictionary) -> None:
    edit = ClampFeature(SITE, dictionary, 3, 1.0)
    with pytest.raises(DictionaryError) as error:
        edit.stack([edit], torch.device("meta"))
    assert (error.value.given, error.value.allowed) == ("cpu", "meta")
    assert "device='meta'" in error.value.hint
