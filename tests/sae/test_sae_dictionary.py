"""Dictionaries: SAELens' own arithmetic as the reference, for every architecture and option that we load."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import sae as harness_sae
from harness.errors import DictionaryError
from harness.sae.dictionary import Dictionary

D_IN, D_SAE = 12, 40
ARCHITECTURES = ["standard", "jumprelu", "gated", "topk", "abstopk", "matching_pursuit"]


def random_sae(
    architecture: str, seed: int, *, normalize: str = "none", bias: bool = True, rescale: bool = False, dtype: str = "float64"
) -> Any:
    """A SAELens SAE with random weights of uneven decoder norms."""
    from sae_lens.registry import get_sae_class

    sae_class, config_class = get_sae_class(architecture)
    options: dict[str, Any] = {"k": 7, "rescale_acts_by_decoder_norm": rescale} if architecture in ("topk", "abstopk") else {}
    config = config_class(d_in=D_IN, d_sae=D_SAE, dtype=dtype, apply_b_dec_to_input=bias, normalize_activations=normalize, **options)
    config.metadata.hook_name, config.metadata.model_name = "model.layers.3", "random"
    sae = sae_class(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sae.named_parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter.dtype) * 0.5
        if name == "threshold":
            parameter.data = parameter.data.abs()
        if name == "W_dec":
            # a matching pursuit's dictionary has unit rows; the others' are made uneven, which is where effective rows matter
            norms = 1.0 if architecture == "matching_pursuit" else torch.rand(D_SAE, 1, generator=generator) * 3 + 0.2
            parameter.data = parameter.data / parameter.data.norm(dim=-1, keepdim=True) * norms
    return sae


def saelens_clamp(sae: Any, x: torch.Tensor, indices: list[int], targets: list[float]) -> torch.Tensor:
    """Encode, set, decode, add the error; by SAELens alone, which forgets a token's scale with each decode."""
    f = sae.encode(x)
    error = x - sae.decode(f)
    changed = sae.encode(x)
    changed[..., indices] = torch.tensor(targets, dtype=x.dtype)
    return sae.decode(changed) + error


configurations = st.fixed_dictionaries(
    {
        "architecture": st.sampled_from(ARCHITECTURES),
        "normalize": st.sampled_from(["none", "layer_norm", "constant_norm_rescale"]),
        "bias": st.booleans(),
        "rescale": st.booleans(),
    }
)


@given(
    configurations,
    st.integers(0, 10_000),
    st.lists(st.integers(0, D_SAE - 1), min_size=1, max_size=4, unique=True),
    st.sampled_from([0.01, 1.0, 300.0]),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_clamp_is_encode_set_decode_and_add_the_error(
    configuration: dict[str, Any], seed: int, indices: list[int], size: float, data: st.DataObject
) -> None:
    sae = random_sae(seed=seed, **configuration)
    dictionary = Dictionary(sae, 3, "random")
    x = torch.randn(2, 5, D_IN, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) * size + 0.3 * size
    targets = data.draw(st.lists(st.floats(-20, 20), min_size=len(indices), max_size=len(indices)))
    expected = saelens_clamp(sae, x, indices, targets)
    torch.testing.assert_close(dictionary.clamp(x, indices, targets), expected, rtol=1e-8, atol=1e-8 * size)
    torch.testing.assert_close(dictionary.feature(x, indices), sae.encode(x)[..., indices], rtol=1e-8, atol=1e-8)
    # by our own encode and decode, twice in a row
    f = dictionary.encode(x)
    error = x - dictionary.decode(f)
    f[..., indices] = torch.tensor(targets, dtype=f.dtype)
    torch.testing.assert_close(dictionary.decode(f) + error, expected, rtol=1e-8, atol=1e-8 * size)
    torch.testing.assert_close(dictionary.decode(f, like=x), dictionary.decode(f), rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("normalize", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize("bias", [True, False])
def test_clamp_in_float32(architecture: str, normalize: str, bias: bool) -> None:
    sae = random_sae(architecture, 5, normalize=normalize, bias=bias, rescale=True, dtype="float32")
    dictionary = Dictionary(sae, 3, "random")
    x = torch.randn(4, D_IN, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(dictionary.clamp(x, 4, 2.5), saelens_clamp(sae, x, [4], [2.5]), rtol=1e-4, atol=1e-4)
    half = dictionary.clamp(x.bfloat16(), 4, 2.5)
    assert half.dtype == torch.float32, "arithmetic stays in float32 whatever the residual stream's dtype"
    torch.testing.assert_close(half, saelens_clamp(sae, x.bfloat16().float(), [4], [2.5]), rtol=1e-4, atol=1e-4)


def test_effective_rows_have_unit_norm_where_activations_are_rescaled() -> None:
    plain = Dictionary(random_sae("topk", 3, rescale=False), 3, "random")
    rescaled = Dictionary(random_sae("topk", 3, rescale=True), 3, "random")
    assert rescaled.decoder_row(2).norm().item() == pytest.approx(1)
    assert plain.decoder_row(2).norm().item() != pytest.approx(1, rel=0.05)
    torch.testing.assert_close(plain.decoder_norms()[2], plain.decoder_row(2).norm())
    torch.testing.assert_close(rescaled.decoder_norms()[2], rescaled.decoder_row(2).norm())


def test_padding_of_zeros_gives_no_nan() -> None:
    for architecture in ARCHITECTURES:
        dictionary = Dictionary(random_sae(architecture, 3, normalize="constant_norm_rescale"), 3, "random")
        x = torch.zeros(1, 2, D_IN)
        assert dictionary.encode(x).isfinite().all()
        assert dictionary.clamp(x, 1, 2.0).isfinite().all()


def test_decode_without_the_token_it_belongs_to_is_refused() -> None:
    dictionary = Dictionary(random_sae("standard", 3, normalize="layer_norm"), 3, "random")
    f = torch.ones(2, D_SAE)
    with pytest.raises(DictionaryError) as error:
        dictionary.decode(f)
    assert error.value.given is None
    assert "(2, 12)" in str(error.value.allowed)
    assert "like=x" in error.value.hint
    dictionary.encode(torch.ones(3, D_IN))
    with pytest.raises(DictionaryError) as error:
        dictionary.decode(f)
    assert error.value.given == (3, 12)
    assert "(2, 12)" in str(error.value.allowed)


def test_wrong_shapes_and_indices_are_refused() -> None:
    dictionary = Dictionary(random_sae("standard", 3), 3, "random")
    x = torch.ones(2, D_IN)
    for call, refused, allowed in [
        (lambda: dictionary.encode(torch.ones(2, D_IN + 1)), (2, D_IN + 1), "[..., 12]"),
        (lambda: dictionary.decode(torch.ones(2, 3)), (2, 3), "[..., 40]"),
        (lambda: dictionary.feature(x, D_SAE), D_SAE, "0 to 39"),
        (lambda: dictionary.feature(x, -1), -1, "0 to 39"),
        (lambda: dictionary.clamp(x, [1, 1], 2.0), (1, 1), "once"),
        (lambda: dictionary.clamp(x, [1, 2], [1.0]), 1, "one for all"),
    ]:
        with pytest.raises(DictionaryError) as error:
            call()
        assert error.value.given == refused
        assert allowed in str(error.value.allowed)


def test_numpy_indices_and_targets_are_numbers_too() -> None:
    dictionary = Dictionary(random_sae("standard", 3), 3, "random")
    x = torch.randn(2, D_IN, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(dictionary.clamp(x, np.int64(4), np.float32(1.5)), dictionary.clamp(x, 4, 1.5))  # type: ignore[arg-type]
    assert dictionary.feature(x, np.int32(4)).shape == (2,)  # type: ignore[arg-type]


def test_large_batches_are_encoded_in_slices_with_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary = Dictionary(random_sae("topk", 3), 3, "random")
    x = torch.randn(3, 4, D_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = dictionary.feature(x, [3, 5])
    monkeypatch.setattr("harness.sae.dictionary.CHUNK_ELEMENTS", 2 * D_SAE)
    torch.testing.assert_close(dictionary.feature(x, [3, 5]), whole)


class TestRealDictionary:
    """The SAE of layer 2 of stories260K."""

    def test_what_it_says_of_itself(self, dictionary: Dictionary) -> None:
        assert (dictionary.architecture, dictionary.d_in, dictionary.d_sae, dictionary.layer) == ("jumprelu", 64, 512, 2)
        assert (dictionary.hook_name, dictionary.model_name) == ("model.layers.2", "stories260K")
        assert not dictionary.needs_full_encoding
        assert dictionary.cfg["metadata"]["training_architecture"] == "batchtopk"
        assert json.dumps(dict(dictionary.cfg))

    def test_it_is_saelens_own(self, dictionary: Dictionary, tiny_sae_path: Path) -> None:
        from sae_lens import SAE

        reference = SAE.load_from_disk(tiny_sae_path)
        x = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) * 3
        torch.testing.assert_close(dictionary.encode(x), reference.encode(x))
        torch.testing.assert_close(dictionary.decode(dictionary.encode(x)), reference(x), rtol=1e-5, atol=1e-5)

    def test_content_decides_identity(self, dictionary: Dictionary, tiny_sae_path: Path) -> None:
        again = harness_sae.load(str(tiny_sae_path), dtype="float64")
        assert again == dictionary
        assert hash(again) == hash(dictionary)
        assert again.dtype == torch.float64
        with torch.no_grad():
            again.sae.W_enc[0, 0] += 1
        del again.digest
        assert again != dictionary


def test_weights_in_bfloat16_are_widened(tmp_path: Path) -> None:
    sae = random_sae("jumprelu", 7, dtype="float32")
    exact = {name: tensor.bfloat16().float() for name, tensor in sae.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sae.to(dtype=torch.bfloat16).save_model(tmp_path)
    dictionary = harness_sae.load(tmp_path)
    assert dictionary.dtype == torch.float32
    for name, tensor in dictionary.sae.state_dict().items():
        assert torch.equal(tensor, exact[name])
