"""Sparsify's folders: signed ones, what their configuration and their names say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.dictionaries import (
    D_IN,
    D_SAE,
    agrees,
    refused,
    weights,
    write_sparsify,
)
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.sae.checks import NOT_A_DICTIONARY


def test_signed_sparsify_keeps_the_sign(tmp_path: Path) -> None:
    dictionary = harness_sae.load(write_sparsify(tmp_path, signed=True), dtype="float64")
    assert dictionary.architecture == "abstopk"
    agrees(dictionary, "abstopk", weights())
    assert (dictionary.encode(torch.randn(20, D_IN, generator=torch.Generator().manual_seed(0))) < 0).any()


def test_sparsify_by_its_expansion_factor(tmp_path: Path) -> None:
    folder = write_sparsify(tmp_path, num_latents=0, expansion_factor=3)
    tensors = load_file(folder / "sae.safetensors")
    save_file({n: t[:36].contiguous() if len(t) == D_SAE else t for n, t in tensors.items()}, folder / "sae.safetensors")
    assert harness_sae.load(folder).d_sae == 36


def test_a_renamed_folder_names_no_site(tmp_path: Path) -> None:
    folder = write_sparsify(tmp_path, "run/renamed")
    refused(folder, str(folder), "layers.15")


@pytest.mark.parametrize(
    ("changes", "given", "named"),
    [
        ({"transcode": True}, "transcoder", NOT_A_DICTIONARY["transcoder"]),
        ({"skip_connection": True}, None, "linear map of its input"),
        ({"gram_lookup": True}, None, "n-grams"),
        ({"activation": "groupmax"}, "groupmax", "allowed: topk"),
        ({"k": 0}, 0, "k = 0"),
        ({"k": D_SAE + 1}, D_SAE + 1, f"at most {D_SAE},"),
        ({"d_in": "x"}, "x", "d_in = 'x'"),
    ],
)
def test_what_sparsifys_configuration_says(changes: dict[str, Any], given: str | int | None, named: str, tmp_path: Path) -> None:
    folder = write_sparsify(tmp_path, **changes)
    refused(folder, folder if given is None else given, named, str(folder))


def test_a_number_that_sparsifys_configuration_lacks(tmp_path: Path) -> None:
    refused(write_sparsify(tmp_path, d_in=None), None, "d_in = None", "a positive whole number")
