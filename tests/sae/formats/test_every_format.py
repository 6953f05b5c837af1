"""What holds for each published format: its formula, precisions, statements that may not be contradicted, damaged copies."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.dictionaries import (
    D_IN,
    D_SAE,
    FORMATS,
    GEMMA_3_CONFIG,
    agrees,
    each_format,
    named,
    refused,
    rewrite,
    save_npz,
    turned,
    weights,
    write_gemma_3,
    write_npz,
    write_sparsify,
)

from harness import sae as harness_sae
from harness.sae.checks import NOT_A_DICTIONARY
from harness.sae.formats.tensors import stored


@each_format
def test_a_format_is_its_formula(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    dictionary = harness_sae.load(folder, dtype="float64")
    assert (dictionary.architecture, dictionary.layer, dictionary.hook_name, dictionary.model_name) == form.says
    assert (dictionary.d_in, dictionary.d_sae) == (D_IN, D_SAE)
    agrees(dictionary, dictionary.architecture, weights())
    assert harness_sae.load(folder / form.file) == dictionary, "by its file"
    assert str(folder) == dictionary.source


@each_format
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_every_precision(name: str, dtype: str, tmp_path: Path) -> None:
    if name == "gemma scope" and dtype == "bfloat16":
        # NumPy has no bfloat16: such an array comes out as two bytes that mean nothing
        refused(write_npz(tmp_path, b_enc=weights()["b_enc"].astype("float16").view("V2")), "|V2", "b_enc", "float16, bfloat16")
        return
    own = dtype if name == "gemma scope" else getattr(torch, dtype)
    dictionary = harness_sae.load(FORMATS[name].write(tmp_path, dtype=own), dtype="float64")
    assert dictionary.dtype == torch.float64
    rounded = {key: torch.from_numpy(array).to(getattr(torch, dtype)).double().numpy() for key, array in weights().items()}
    agrees(dictionary, dictionary.architecture, rounded)
    single = harness_sae.load(dictionary.source)
    assert {tensor.dtype for tensor in single.sae.state_dict().values()} == {torch.float32}


@each_format
def test_what_is_given_may_not_contradict_the_files(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    _, layer, hook_name, model_name = form.says
    again = harness_sae.load(folder, layer=layer, hook_name=f"model.layers.{layer}", model_name=model_name.upper())
    assert (again.layer, again.hook_name, again.model_name) == (layer, hook_name, model_name), "the files' own words are kept"
    refused(folder, 2, f"allowed: {layer};", f"blocks.{layer}.hook_resid_post", layer=2)
    refused(folder, 2, f"allowed: {layer};", hook_name="blocks.2.hook_resid_post")
    refused(folder, "llama", f"allowed: {model_name};", model_name="llama")


def test_layers_and_models_of_folder_names(tmp_path: Path) -> None:
    for folder, layer, model in [
        ("models--google--gemma-scope-2b-pt-res/snapshots/0a1b/layer_5/width_16k/average_l0_71", 5, "gemma-2-2b"),
        ("gemma-scope-27b-pt-res/layer_22/width_131k/average_l0_82", 22, "gemma-2-27b"),
        ("layer_7", 7, ""),
    ]:
        dictionary = harness_sae.load(write_npz(tmp_path, folder))
        assert (dictionary.layer, dictionary.model_name) == (layer, model)
    for folder, layer, model in [
        ("models--google--gemma-scope-2-1b-pt/snapshots/0a1b/resid_post_all/layer_3_width_262k_l0_big", 3, "google/gemma-3-1b-pt"),
        ("gemma-scope-2-270m-pt/resid_post/layer_9_width_16k_l0_medium", 9, "google/gemma-3-270m"),
        ("other/layer_4_width_16k_l0_small", 4, ""),
    ]:
        dictionary = harness_sae.load(write_gemma_3(tmp_path, folder, config=None))
        assert (dictionary.layer, dictionary.model_name) == (layer, model)
    for folder, layer in [
        ("a/gpt_neox.layers.3", 3),
        ("a/transformer.h.11", 11),
        ("a/model.layers.2", 2),
        ("a/layers_6", 6),
        ("a/layers.8/seed1", 8),
    ]:
        assert harness_sae.load(write_sparsify(tmp_path, folder)).layer == layer
    assert harness_sae.load(write_sparsify(tmp_path, "a/renamed"), layer=1).layer == 1


@pytest.mark.parametrize(
    ("write", "folder", "given", "named"),
    [
        (write_npz, "gemma-scope-2b-pt-att/layer_5/width_16k/average_l0_71", "blocks.5.attn.hook_z", "heads"),
        (write_npz, "gemma-scope-2b-pt-mlp/layer_5/width_16k/average_l0_71", "blocks.5.hook_mlp_out", "MLP"),
        (write_npz, "gemma-scope-2b-pt-transcoders/layer_5/width_16k/average_l0_71", "transcoder", NOT_A_DICTIONARY["transcoder"]),
        (write_npz, "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", "hook_embed", "embeddings"),
        (write_sparsify, "run/layers.0.mlp", "blocks.0.hook_mlp_out", "MLP"),
        (write_sparsify, "run/layers.0.attention", "blocks.0.hook_attn_out", "attention block"),
        (write_sparsify, "run/embed_tokens", "hook_embed", "embeddings"),
    ],
)
def test_sites_that_are_not_a_layers_output(write: Callable[..., Path], folder: str, given: str, named: str, tmp_path: Path) -> None:
    refused(write(tmp_path, folder), given, named)


@each_format
def test_transposed_weights(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    for what in ("W_enc", "W_dec"):
        folder = form.write(tmp_path)
        rewrite(folder / form.file, turned(what))
        found = tuple(stored(folder / form.file)[named(stored(folder / form.file), what)].shape)
        refused(folder, found, what if name != "sparsify" else "", "transposed", f"allowed: {list(found[::-1])}")


@each_format
def test_square_weights_are_called_nothing(name: str, tmp_path: Path) -> None:
    """Where d_in = d_sae no shape tells whether a matrix is transposed, so a square one loads as the format has it."""
    form = FORMATS[name]
    folder = form.write(tmp_path)

    def cut(tensors: dict[str, Any]) -> None:
        for key, tensor in tensors.items():
            tensors[key] = tensor[tuple(slice(0, D_IN) for _ in tensor.shape)]

    rewrite(folder / form.file, cut)
    if (folder / "cfg.json").is_file():
        cfg = json.loads((folder / "cfg.json").read_text())
        (folder / "cfg.json").write_text(json.dumps(cfg | ({"d_sae": D_IN} if "d_sae" in cfg else {"num_latents": D_IN})))
    if (folder / "config.json").is_file():
        refused(folder, D_SAE, f"width {D_SAE}", f"allowed: {D_IN}")
        (folder / "config.json").write_text(json.dumps(GEMMA_3_CONFIG | {"width": D_IN}))
    assert harness_sae.load(folder).d_sae == D_IN


@each_format
def test_missing_and_strange_tensors(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.pop(named(t, "W_dec")))
    left = tuple(
        sorted({"w_enc": "W_enc"}.get(tensor, tensor) for tensor in stored(folder / form.file))
    )  # by SAELens' names where they differ
    refused(folder, left, "W_dec", str(folder / form.file))
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.update(extra=torch.ones(2)))
    refused(folder, str(folder) if name == "saelens" else ("extra",), "extra")
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.clear())
    refused(folder, (), str(folder / form.file), "nothing")


@each_format
def test_weights_that_are_no_numbers(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    for bad in (float("nan"), float("inf")):
        folder = form.write(tmp_path)

        def spoil(tensors: dict[str, Any], bad: float = bad) -> None:
            tensors[named(tensors, "W_dec")][3, 4] = bad

        rewrite(folder / form.file, spoil)
        refused(folder, "W_dec", str(folder), "NaN")
    folder = form.write(tmp_path)
    rewrite(folder / form.file, lambda t: t.update({named(t, "W_enc"): (t[named(t, "W_enc")] * 9).to(torch.int8)}))
    refused(folder, "int8" if form.file.endswith(".npz") else "I8", "float64, float32, float16, bfloat16")


@each_format
def test_truncated_files(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    data = (folder / form.file).read_bytes()
    for length in (0, 5, len(data) // 2, len(data) - 40):
        (folder / form.file).write_bytes(data[:length])
        refused(folder, folder / form.file, "empty" if length == 0 else "cut off", "fetch it again")


@each_format
def test_missing_files(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    (folder / form.file).unlink()
    others = [item for item in ("cfg.json", "config.json") if (folder / item).is_file()] or ["cfg.json"]
    refused(folder, folder, form.file, *others)
    folder = form.write(tmp_path, "again")
    if (folder / "cfg.json").is_file():
        (folder / "cfg.json").unlink()
        refused(folder, folder, "cfg.json", form.file)
    folder = form.write(tmp_path, "link")
    (folder / form.file).unlink()
    (folder / form.file).symlink_to(tmp_path / "gone")
    refused(folder, folder / form.file, f"a link to {tmp_path / 'gone'}")


def test_a_release_of_several_dictionaries(tmp_path: Path) -> None:
    for layer in (9, 10, 2):
        write_sparsify(tmp_path, f"run/layers.{layer}")
    refused(tmp_path / "run", tmp_path / "run", "3 dictionaries", "layers.2, layers.9, layers.10")
    for layer in range(6):
        write_npz(tmp_path, f"scope/layer_{layer}/width_16k/average_l0_{layer}1")
    refused(tmp_path / "scope", tmp_path / "scope", "6 dictionaries", "layer_0/width_16k/average_l0_01, ", ", …")
    refused(tmp_path / "scope" / "layer_3", tmp_path / "scope" / "layer_3", "width_16k/average_l0_31")
    (tmp_path / "scope" / ".cache").mkdir()
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", tmp_path / "empty", "cfg.json", "params.npz", "sae.safetensors")


@each_format
def test_info_on_the_command_line(name: str, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from harness.cli.sae import command

    form = FORMATS[name]
    done = CliRunner().invoke(command, ["info", str(form.write(tmp_path)), "--json"])
    assert done.exit_code == 0, done.output
    info = json.loads(done.stdout)
    assert (info["architecture"], info["layer"], info["hook_name"], info["model_name"]) == form.says


@each_format
def test_what_contradicts_the_headers_is_found_before_the_weights_are_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    for reader in (
        "harness.sae.formats.gemma_scope.read",
        "harness.sae.formats.sparsify.read",
        "sae_lens.loading.pretrained_sae_loaders.sae_lens_disk_loader",
    ):
        monkeypatch.setattr(reader, lambda *_: pytest.fail("weights were read"))
    refused(folder, 2, f"allowed: {form.says[1]};", layer=2)
    rewrite(folder / form.file, turned("W_enc"))
    refused(folder, tuple(stored(folder / form.file)[named(stored(folder / form.file), "W_enc")].shape), "transposed")


MEMORY = """
import json, resource, sys
import harness.sae
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
harness.sae.load(sys.argv[1])
before = peak()
harness.sae.load(sys.argv[2])
print(json.dumps(peak() - before))
"""


def test_one_copy_of_the_weights(tmp_path: Path) -> None:
    small = write_npz(tmp_path)
    big, (d_in, d_sae) = tmp_path / "layer_1", (512, 16_384)
    big.mkdir()
    zeros = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,), "threshold": (d_sae,)}
    save_npz(big / "params.npz", {name: np.ones(shape, np.float32) for name, shape in zeros.items()})
    size = (big / "params.npz").stat().st_size
    assert size > 60e6
    done = subprocess.run([sys.executable, "-c", MEMORY, str(small), str(big)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) < 1.35 * size
