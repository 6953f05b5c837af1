"""What a SAELens configuration states of site and model counts in every form, and what contradicts it is an error with both values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.dictionaries import D_IN, D_SAE, refused, write_saelens

from harness import sae as harness_sae
from harness.errors import DictionaryError

SETTINGS = {"architecture": "jumprelu", "d_in": D_IN, "d_sae": D_SAE, "apply_b_dec_to_input": False}
SITE, MODEL = "blocks.2.hook_resid_post", "gpt2-small"

FORMS: dict[str, dict[str, Any]] = {
    "of SAELens 6": SETTINGS | {"metadata": {"sae_lens_version": "6.20.0", "hook_name": SITE, "model_name": MODEL}},
    "without a version": SETTINGS | {"metadata": {"hook_name": SITE, "model_name": MODEL}},
    "of a version that is none": SETTINGS | {"metadata": {"sae_lens_version": "dev", "hook_name": SITE, "model_name": MODEL}},
    "of a version that is a number": SETTINGS | {"sae_lens_version": 6, "metadata": {"hook_name": SITE, "model_name": MODEL}},
    "of an old version, nested": SETTINGS | {"metadata": {"sae_lens_version": "5.1.0", "hook_name": SITE, "model_name": MODEL}},
    "of a version to come": SETTINGS | {"unknown": 1, "metadata": {"sae_lens_version": "99.0.0", "hook_name": SITE, "model_name": MODEL}},
    "flat": SETTINGS | {"hook_name": SITE, "model_name": MODEL},
    "flat, of a new version": SETTINGS | {"sae_lens_version": "6.20.0", "hook_name": SITE, "model_name": MODEL},
    "of the first versions": SETTINGS | {"hook_point": SITE, "hook_point_layer": 2, "model_name": MODEL, "normalize_activations": False},
    "with its layer in braces": SETTINGS | {"hook_point": "blocks.{layer}.hook_resid_post", "hook_point_layer": 2, "model_name": MODEL},
    "site at the top, model in metadata": SETTINGS | {"hook_name": SITE, "metadata": {"model_name": MODEL}},
    "nested in cfg": {"cfg": SETTINGS | {"hook_name": SITE, "model_name": MODEL}},
    "nested in cfg, with metadata of its own": {"cfg": SETTINGS | {"metadata": {"hook_name": SITE}}, "metadata": {"model_name": MODEL}},
    "stated twice": SETTINGS
    | {"hook_name": "model.layers.2", "metadata": {"hook_name": "model.layers.2", "model_name": MODEL, "hook_layer": 2}},
    "by the module's name": SETTINGS | {"metadata": {"hf_hook_name": "model.layers.2.output", "model_name": MODEL}},
    "with the widths as numbers with a point": SETTINGS | {"d_in": float(D_IN), "metadata": {"hook_name": SITE, "model_name": MODEL}},
    "with nulls": SETTINGS
    | {"metadata": {"hook_name": SITE, "model_name": MODEL, "hook_head_index": None}, "hook_name": None, "reshape_activations": None},
}


def write(root: Path, cfg: dict[str, Any]) -> Path:
    folder = write_saelens(root)
    (folder / "cfg.json").write_text(json.dumps(cfg))
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_site_and_model(form: str, tmp_path: Path) -> None:
    folder = write(tmp_path, FORMS[form])
    dictionary = harness_sae.load(folder)
    assert (dictionary.layer, dictionary.model_name, dictionary.architecture) == (2, MODEL, "jumprelu")
    assert (dictionary.sae.cfg.normalize_activations, dictionary.sae.cfg.apply_b_dec_to_input) == ("none", False)
    refused(folder, 1, "allowed: 2;", "correct them", layer=1)
    refused(folder, "pythia-70m", f"allowed: {MODEL};", "trained_on", layer=2, model_name="pythia-70m")
    assert harness_sae.load(folder, layer=2, model_name="openai-community/gpt2").layer == 2


def test_the_form_does_not_change_what_a_dictionary_is(tmp_path: Path) -> None:
    same = [form for form in FORMS if SITE in str(FORMS[form])]
    assert len(same) > 10
    assert len({harness_sae.load(write(tmp_path, FORMS[form])).digest for form in same}) == 1


@pytest.mark.parametrize(
    ("changes", "given", "allowed"),
    [
        ({"hook_name": "blocks.1.hook_resid_post"}, SITE, "blocks.1.hook_resid_post"),
        ({"hook_point": "blocks.3.hook_resid_post"}, SITE, "blocks.3.hook_resid_post"),
        ({"cfg": {"hook_name": "blocks.1.hook_resid_post"}}, "blocks.1.hook_resid_post", SITE),
        ({"hook_layer": 1}, 1, SITE),
        ({"hook_layer": "2"}, "2", "a whole number from 0 up"),
        ({"hook_layer": 2, "hook_point_layer": 1}, 1, 2),
        ({"hook_layer": [2]}, [2], "a whole number from 0 up"),
        ({"hook_name": "blocks.2.hook_mlp_out"}, SITE, "blocks.2.hook_mlp_out"),
        ({"hf_hook_name": "model.layers.7"}, "model.layers.7", SITE),
        ({"model_name": "pythia-70m"}, MODEL, "pythia-70m"),
        ({"model_name": ["gpt2"]}, ["gpt2"], "a name of up to 300 letters, on one line"),
        ({"metadata": [1]}, [1], "an object"),
        ({"cfg": {"d_in": 13}}, 13, str(D_IN)),
        ({"activation_fn_str": "tanh-relu"}, "tanh-relu", "relu, or topk with architecture standard"),
        ({"architecture": "topk", "k": 3, "activation_fn_kwargs": {"k": 4}}, None, "it gives k = 3 and activation_fn_kwargs.k = 4"),
        ({"architecture": "topk"}, None, "a positive whole number"),
        ({"architecture": "topk", "k": D_SAE + 1}, D_SAE + 1, f"at most {D_SAE}, the number of its features"),
        ({"architecture": "topk", "k": 0}, 0, "a positive whole number"),
        ({"apply_b_dec_to_input": "false"}, "false", "true or false"),
        ({"d_in": str(D_IN)}, str(D_IN), "a positive whole number"),
        ({"d_sae": True}, True, "a positive whole number"),
        ({"normalize_activations": True}, "expected_average_only_in", ("constant_norm_rescale", "layer_norm", "none")),
    ],
)
def test_a_configuration_that_contradicts_itself(changes: dict[str, Any], given: Any, allowed: Any, tmp_path: Path) -> None:
    folder = write(tmp_path, FORMS["without a version"] | changes)
    for layer in (None, 1, 2):
        with pytest.raises(DictionaryError) as caught:
            harness_sae.load(folder, layer=layer)
        assert (caught.value.given, caught.value.allowed) == (given, allowed), "whatever layer is given"
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_one_key_with_two_values(tmp_path: Path) -> None:
    folder = write(tmp_path, FORMS["flat"])
    text = (folder / "cfg.json").read_text()
    (folder / "cfg.json").write_text(text.replace("{", '{"hook_name": "blocks.1.hook_resid_post", ', 1))
    refused(folder, SITE, "hook_name twice", "blocks.1.hook_resid_post")


def test_a_block_s_number_without_its_hook(tmp_path: Path) -> None:
    """Block 2 may mean its input (the output of layer 1) or its output: the caller says which, and no other layer will do."""
    folder = write(tmp_path, SETTINGS | {"hook_layer": 2, "model_name": MODEL})
    refused(folder, str(folder), "hook_layer 2, and no hook_name")
    assert [harness_sae.load(folder, layer=layer).layer for layer in (1, 2)] == [1, 2]
    refused(folder, 3, "hook_layer 2", "allowed: 2;", layer=3)


def test_metadata_do_not_break_what_keeps_them(tmp_path: Path) -> None:
    odd = {"self": 1, "get": 2, "to_dict": 3, "__class__": 4, "_x": 5, "hook_name": SITE, "own note": "kept", "data": [1]}
    dictionary = harness_sae.load(write(tmp_path, SETTINGS | {"metadata": odd}))
    assert dictionary.layer == 2
    assert dictionary.cfg["metadata"]["own note"] == "kept"
    refused(write(tmp_path, SETTINGS | {"metadata": {"hook_name": SITE, "model_from_pretrained_kwargs": "x"}}), "x", "an object")


@pytest.mark.parametrize("hook", ["vision_model.encoder.layers.2", "model.visual.blocks.2", "audio_tower.layers.2"])
def test_another_tower_s_layer_is_not_the_language_model_s(hook: str, tmp_path: Path) -> None:
    refused(write(tmp_path, SETTINGS | {"metadata": {"hook_name": hook}}), hook, "not the language model")
