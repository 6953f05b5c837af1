"""Loading: what is found, what is refused and with which fields, and what a hook name means."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.errors import DictionaryError
from harness.model.loading import SubjectModel
from harness.sae.checks import NOT_A_DICTIONARY, residual_layer
from harness.sae.dictionary import ARCHITECTURES

CFG, WEIGHTS = "cfg.json", "sae_weights.safetensors"


@pytest.fixture
def folder(tiny_sae_path: Path, tmp_path: Path) -> Path:
    """A copy of the real SAE, to be damaged."""
    copy = tmp_path / "sae"
    copy.mkdir()
    for name in (CFG, WEIGHTS):
        shutil.copyfile(tiny_sae_path / name, copy / name)
    return copy


def refused(path: Path | str, given: Any, *parts: str) -> None:
    """The dictionary at ``path`` is refused in one line that names ``parts``, with the offending value and advice as fields."""
    with pytest.raises(DictionaryError) as caught:
        harness_sae.load(path)
    assert "\n" not in str(caught.value), "an error is one line"
    assert caught.value.given == given
    assert caught.value.allowed is not None or caught.value.hint
    assert [part for part in parts if part not in str(caught.value)] == []


def edit_cfg(folder: Path, **changes: Any) -> None:
    cfg = json.loads((folder / CFG).read_text())
    metadata = changes.pop("metadata", {})
    cfg |= changes
    cfg["metadata"] |= metadata
    (folder / CFG).write_text(json.dumps(cfg))


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


# ------------------------------------------------------------------------------------------------------------------------------- found


def test_a_folder_may_be_given_by_one_of_its_files(folder: Path) -> None:
    assert harness_sae.load(folder / CFG) == harness_sae.load(folder)


def test_a_configuration_from_before_saelens_6(folder: Path) -> None:
    """The hook at the top level, the old names, no version."""
    old = json.loads((folder / CFG).read_text())
    flat = {key: value for key, value in old.items() if key not in ("metadata", "reshape_activations", "normalize_activations")}
    flat |= {"hook_point": "blocks.2.hook_resid_post", "model_name": "stories260K", "normalize_activations": False}
    (folder / CFG).write_text(json.dumps(flat))
    dictionary = harness_sae.load(folder)
    assert (dictionary.layer, dictionary.hook_name, dictionary.model_name) == (2, "blocks.2.hook_resid_post", "stories260K")


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.12.hook_resid_post", 12),
        ("blocks.12.hook_resid_pre", 11),
        ("model.layers.15", 15),
        ("model.language_model.layers.3", 3),
        ("transformer.h.0", 0),
        ("gpt_neox.layers.7", 7),
        ("layers.7", 7),
    ],
)
def test_hooks_that_are_outputs_of_layers(hook: str, layer: int) -> None:
    assert residual_layer(hook) == layer


@pytest.mark.parametrize(
    ("hook", "reason"),
    [
        ("blocks.0.hook_resid_pre", "first layer"),
        ("blocks.3.hook_resid_mid", "attention and MLP"),
        ("blocks.3.hook_mlp_out", "MLP"),
        ("blocks.3.attn.hook_z", "heads"),
        ("blocks.3.hook_attn_out", "attention block"),
        ("hook_embed", "embeddings"),
        ("model.layers.3.mlp", ""),
        ("model.norm", ""),
        ("", ""),
    ],
)
def test_hooks_that_are_not(hook: str, reason: str) -> None:
    with pytest.raises(DictionaryError) as error:
        residual_layer(hook)
    assert error.value.given == hook
    assert error.value.allowed == ("blocks.N.hook_resid_post", "blocks.N.hook_resid_pre", "model.layers.N")
    assert reason in error.value.message


def test_the_hook_is_checked_when_a_dictionary_is_loaded(folder: Path) -> None:
    edit_cfg(folder, metadata={"hook_name": "blocks.3.hook_mlp_out"})
    refused(folder, "blocks.3.hook_mlp_out", str(folder), "MLP", "hook_resid_post")
    edit_cfg(folder, metadata={"hook_name": None})
    refused(folder, str(folder), "layer=15", "metadata.hook_name")


# ----------------------------------------------------------------------------------------------------------------------------- refused


def test_incomplete_download(shared_data: Path) -> None:
    folder = shared_data / "sae" / "saelens_cfg_mamba130m"
    refused(folder, folder, CFG, WEIGHTS)


def test_pickles_are_never_opened(shared_data: Path, tmp_path: Path) -> None:
    toy = shared_data / "sae" / "listcomp_toy"
    refused(toy / "sae.pt", toy / "sae.pt", "pickle", "safetensors")
    refused(toy, toy, "sae.pt", "pickle", "safetensors")
    # a file that would do something when unpickled is refused unread
    (tmp_path / "sae.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    refused(tmp_path / "sae.pkl", tmp_path / "sae.pkl", "pickle")


def test_paths_that_are_no_dictionary(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", tmp_path / "nowhere", CFG, "release/sae_id")
    refused("./nowhere/at/all", "./nowhere/at/all", CFG, "release/sae_id")
    refused(tmp_path, tmp_path, CFG, WEIGHTS)
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", tmp_path / "notes.txt", CFG, "release/sae_id")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("gemma-scope-2b-pt-res-canonica/layer_20/width_16k/canonical", "gemma-scope-2b-pt-res-canonical"),
        ("gemma-scope-2b-pt-res-canonical/layer_20/width_16/canonical", "layer_20/width_16k/canonical"),
        ("gemma-scope-2b-pt-res-canonical", "gemma-scope-2b-pt-res-canonical/layer_"),
        ("gemma-scope-2b-pt-res-canonical:nothing", "'nothing'"),
        ("qqqqqqqqqqqqq", "registry"),
    ],
)
def test_unknown_registry_names(name: str, named: str) -> None:
    refused(name, name, named, "release/sae_id")


def test_names_are_checked_without_fetching() -> None:
    for name in (
        "gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical",
        "gemma-scope-9b-it-res-canonical:layer_20/width_16k/canonical",
        "someone/their-saes:layer_3",
    ):
        harness_sae.check_registered(name)
    for name, given, named in [
        ("gemma-scope-2b-pt-res-canonical/layer_20/width_17k/canonical", None, "'layer_20/width_17k/canonical'"),
        ("gemma-scope-2b-pt-transcoders/layer_0/width_16k/average_l0_76", "gemma-scope-2b-pt-transcoders", "transcoder"),
        ("nobody-knows/this", None, "registry"),
    ]:
        with pytest.raises(DictionaryError) as error:
            harness_sae.check_registered(name)
        assert error.value.given == (given or name)
        assert named in error.value.message
        assert error.value.allowed or error.value.hint


def test_a_registered_name_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    name = "gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical"
    refused(name, name, "not in the hub cache", "HF_HUB_OFFLINE")


@pytest.mark.parametrize(
    ("architecture", "reason"),
    [
        ("transcoder", NOT_A_DICTIONARY["transcoder"]),
        ("skip_transcoder", NOT_A_DICTIONARY["transcoder"]),
        ("jumprelu_skip_transcoder", NOT_A_DICTIONARY["transcoder"]),
        ("crosscoder", NOT_A_DICTIONARY["crosscoder"]),
        ("temporal", NOT_A_DICTIONARY["temporal"]),
        ("batchtopk", NOT_A_DICTIONARY["batchtopk"]),
        ("matryoshka_batchtopk", NOT_A_DICTIONARY["batchtopk"]),
        ("mystery", ""),
    ],
)
def test_architectures_whose_features_cannot_be_set(folder: Path, architecture: str, reason: str) -> None:
    edit_cfg(folder, architecture=architecture)
    refused(folder, architecture, str(folder), reason, *ARCHITECTURES)


@pytest.mark.parametrize("normalization", ["expected_average_only_in", "covariance_whitening"])
def test_normalisation_that_was_not_folded_in(folder: Path, normalization: str) -> None:
    edit_cfg(folder, normalize_activations=normalization)
    refused(folder, normalization, str(folder), "layer_norm", "weights")


def test_attention_heads(folder: Path) -> None:
    edit_cfg(folder, reshape_activations="hook_z", metadata={"hook_name": "blocks.2.attn.hook_z"})
    refused(folder, "hook_z", str(folder), "heads")


def test_weights_that_do_not_fit_the_configuration(folder: Path) -> None:
    edit_cfg(folder, d_in=65)
    refused(folder, (512, 64), "W_dec", CFG, "[512, 65]")


def test_transposed_weights(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update(W_enc=tensors["W_enc"].T))
    refused(folder, (512, 64), "W_enc", "transposed", CFG, "[64, 512]")


def test_missing_tensor(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.pop("threshold"))
    refused(folder, ("W_dec", "W_enc", "b_dec", "b_enc"), "threshold", "'jumprelu'", "W_dec, W_enc, b_dec, b_enc")


def test_unexpected_tensor(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update(extra=torch.ones(2)))
    refused(folder, str(folder), "SAELens", "extra")


def test_weights_that_are_not_finite(folder: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["W_dec"][3, 4] = float("nan")

    edit_weights(folder, spoil)
    refused(folder, "W_dec", str(folder), "NaN")


@pytest.mark.parametrize("name", ["W_dec", "W_enc", "threshold"])
def test_weights_of_which_no_feature_can_do_anything(folder: Path, name: str) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].fill_(-1.0 if name == "threshold" else 0.0)

    edit_weights(folder, change)
    refused(folder, -1.0 if name == "threshold" else name, name if name != "threshold" else "thresholds are negative")


def test_a_few_features_that_can_do_nothing_are_noted(folder: Path, tiny_sae_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["W_dec"][[3, 5]] = 0.0
        tensors["threshold"][7] = -0.5

    edit_weights(folder, change)
    notes = harness_sae.describe(harness_sae.load(folder)).notes
    assert [note.partition(":")[0] for note in notes] == ["2 of 512 decoder rows (W_dec) are all 0", "1 of 512 thresholds are negative"]
    assert harness_sae.describe(harness_sae.load(tiny_sae_path)).notes == ()


def test_damaged_files(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    refused(folder, folder / WEIGHTS)
    (folder / CFG).write_text("{not json")
    refused(folder, folder / CFG)
    (folder / CFG).write_text("[1, 2]")
    refused(folder, folder / CFG, "list", "a JSON object")
    (folder / CFG).write_text("{}")
    refused(folder, folder / CFG, "d_in")


def test_arithmetic_in_fewer_bits_is_refused(tiny_sae_path: Path) -> None:
    for dtype in ("bfloat16", torch.float16, "nonsense"):
        with pytest.raises(DictionaryError) as error:
            harness_sae.load(tiny_sae_path, dtype=dtype)  # type: ignore[arg-type]
        assert error.value.given == dtype
        assert error.value.allowed == ("float32", "float64")


# ----------------------------------------------------------------------------------------------------------------------- whose it is


def test_a_dictionary_fits_its_model(tiny_sae_path: Path, model: SubjectModel) -> None:
    assert harness_sae.check_fits(harness_sae.load(tiny_sae_path), model) == "made for stories260K"


@pytest.mark.parametrize(
    ("made_for", "used_on", "same"),
    [
        ("google/gemma-2-2b", "gemma-2-2b", True),
        ("gemma-2-2b", "/models/Gemma-2-2B/", True),
        ("gemma-2-2b", "google/gemma-2-2b-it", False),
        ("gpt2-small", "openai-community/gpt2", True),
        ("meta-llama/Llama-3.1-8B", "Meta-Llama-3.1-8B", True),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", False),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct", True),
    ],
)
def test_model_names_are_compared_sensibly(folder: Path, model: SubjectModel, made_for: str, used_on: str, same: bool) -> None:
    edit_cfg(folder, metadata={"model_name": made_for})
    dictionary = harness_sae.load(folder)
    named = SubjectModel(model.hf, model.tokenizer, name=used_on)
    if same:
        assert harness_sae.check_fits(dictionary, named) == f"made for {made_for}"
        return
    with pytest.raises(DictionaryError) as error:
        harness_sae.check_fits(dictionary, named)
    assert (error.value.given, error.value.allowed) == (made_for, used_on)
    assert error.value.hint
    assert "another model of the same width" in harness_sae.check_fits(dictionary, named, allow_other_model=True)


def test_width_and_layer_must_fit_whatever_the_task_allows(folder: Path, model: SubjectModel) -> None:
    edit_cfg(folder, metadata={"hook_name": "model.layers.5"})
    with pytest.raises(DictionaryError) as error:
        harness_sae.check_fits(harness_sae.load(folder), model, allow_other_model=True)
    assert error.value.given == 5
    assert "0 to 4" in str(error.value.allowed)
    edit_cfg(folder, d_in=32, metadata={"hook_name": "model.layers.2"})
    edit_weights(
        folder, lambda tensors: tensors.update(W_enc=tensors["W_enc"][:32], W_dec=tensors["W_dec"][:, :32], b_dec=tensors["b_dec"][:32])
    )
    with pytest.raises(DictionaryError) as error:
        harness_sae.check_fits(harness_sae.load(folder), model, allow_other_model=True)
    assert error.value.given == 32
    assert all(part in str(error.value.allowed) for part in ("64", "stories260K"))


def test_activations_that_were_centred_are_noted(folder: Path, model: SubjectModel) -> None:
    edit_cfg(folder, metadata={"model_from_pretrained_kwargs": {"center_writing_weights": True}})
    assert "with their mean removed" in harness_sae.check_fits(harness_sae.load(folder), model)


def test_a_dictionary_that_names_no_model(folder: Path, model: SubjectModel) -> None:
    edit_cfg(folder, metadata={"model_name": None})
    assert "does not say which model" in harness_sae.check_fits(harness_sae.load(folder), model)


def test_importing_the_package_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, harness.sae; print({'torch', 'sae_lens', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        harness_sae.nonsense  # noqa: B018
    for name in harness_sae.__all__:
        assert getattr(harness_sae, name) is not None
