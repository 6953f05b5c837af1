"""Weights under other names, in parts, as pointers or pages: what is there is named, with what to do; parts with their index are read."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.dictionaries import D_IN, FORMATS, each_format, refused, weights, write_npz, write_saelens
from safetensors.torch import load_file, save_file

from harness import sae as harness_sae
from harness.errors import DictionaryError

WEIGHTS = "sae_weights.safetensors"
INDEX = "sae_weights.safetensors.index.json"
PARTS = ("sae_weights-00001-of-00002.safetensors", "sae_weights-00002-of-00002.safetensors")


def in_parts(folder: Path, names: tuple[str, ...] = PARTS, index: str = INDEX) -> Path:
    """The folder's weights in two parts, with an index."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    where = {name: names[place % 2] for place, name in enumerate(sorted(tensors))}
    for part in names:
        save_file({name: tensors[name] for name in tensors if where[name] == part}, folder / part)
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": where}))
    return folder


# ------------------------------------------------------------------------------------------------------------------------- other names


@pytest.mark.parametrize(
    "name", ["model.safetensors", "sae.safetensors", "weights.safetensors", "params.safetensors", "adapter.safetensors"]
)
def test_another_name(name: str, tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    (folder / WEIGHTS).rename(folder / name)
    refused(folder, folder, name, f"rename {name} to {WEIGHTS}")
    refused(folder / name, folder, name, f"rename {name} to {WEIGHTS}")
    (folder / name).rename(folder / WEIGHTS)
    assert harness_sae.load(folder).layer == 3, "what the message says helps"


def test_sparsify_under_another_name(tmp_path: Path) -> None:
    folder = FORMATS["sparsify"].write(tmp_path)
    (folder / "sae.safetensors").rename(folder / WEIGHTS)
    refused(folder, folder, WEIGHTS, f"rename {WEIGHTS} to sae.safetensors")
    (folder / WEIGHTS).rename(folder / "sae.safetensors")
    assert harness_sae.load(folder).layer == 10


def test_a_configuration_under_another_name(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    (folder / "cfg.json").rename(folder / "config.json")
    refused(folder, folder, "no cfg.json", "rename config.json to cfg.json")
    (folder / "config.json").rename(folder / "cfg.json")
    assert harness_sae.load(folder).layer == 3


def test_a_configuration_beside_an_archive_is_not_passed_over(tmp_path: Path) -> None:
    """A converted folder whose configuration would go unread: its site would be lost."""
    folder = write_saelens(tmp_path)
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    np.savez(folder / "params.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    refused(folder, folder, "params.npz", f"write its tensors into {WEIGHTS}", layer=1)


@pytest.mark.parametrize("name", ["ae.pt", "sae_weights.bin", "checkpoint.ckpt"])
def test_a_pickle_beside_a_configuration(name: str, tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(b"\x80\x04K\x01.")
    refused(folder, folder, name, "pickle", "metadata", "hook_name")


def test_no_weights_at_all(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / "sparsity.safetensors").touch()
    refused(folder, folder, "cfg.json but no weights", f"fetch {WEIGHTS}")
    (folder / f"{WEIGHTS}.incomplete").touch()
    refused(folder, folder, f"{WEIGHTS}.incomplete", "has not ended")


# ------------------------------------------------------------------------------------------------------------------------------- parts


def test_parts_with_their_index_are_read(tmp_path: Path) -> None:
    whole = harness_sae.load(write_saelens(tmp_path, "whole"))
    assert harness_sae.load(in_parts(write_saelens(tmp_path, "parts"))) == whole
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    assert harness_sae.load(in_parts(write_saelens(tmp_path, "model"), names, "model.safetensors.index.json")) == whole


def test_parts_without_their_index(tmp_path: Path) -> None:
    folder = in_parts(write_saelens(tmp_path))
    (folder / INDEX).unlink()
    refused(folder, folder, "in 2 parts", PARTS[0], INDEX)
    tensors = {name: tensor for part in PARTS for name, tensor in load_file(folder / part).items()}
    save_file(tensors, folder / WEIGHTS)
    assert harness_sae.load(folder).layer == 3, "joined as the message says"
    (folder / WEIGHTS).unlink()
    (folder / PARTS[1]).unlink()
    refused(folder, folder, "part 2 of 2 is not there", "fetch the missing parts")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "weight_map"),
        ({"weight_map": {"W_enc": "../../etc/passwd"}}, "'../../etc/passwd'"),
        ({"weight_map": {"W_enc": "/dev/zero"}}, "'/dev/zero'"),
        ({"weight_map": {"W_enc": 3}}, "weight_map"),
        (
            {"weight_map": {"W_enc": PARTS[0], "W_dec": "sae_weights-00003-of-00003.safetensors"}},
            "sae_weights-00003-of-00003.safetensors is not there",
        ),
        ({"weight_map": {"W_enc": PARTS[0]}}, "no tensor"),
    ],
)
def test_an_index_that_does_not_hold(content: Any, named: str, tmp_path: Path) -> None:
    folder = in_parts(write_saelens(tmp_path))
    (folder / INDEX).write_text(json.dumps(content))
    with pytest.raises(DictionaryError) as caught:
        harness_sae.load(folder)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tensor_in_two_parts(tmp_path: Path) -> None:
    folder = in_parts(write_saelens(tmp_path))
    save_file(load_file(folder / PARTS[1]) | load_file(folder / PARTS[0]), folder / PARTS[1])
    refused(folder, folder / PARTS[1], "so does another part")


# ------------------------------------------------------------------------------------------------------- not what their names say


SUBSTITUTES: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "LFS": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n",
        "Git LFS",
        "git lfs pull",
    ),
    "annex": (lambda _: b"/annex/objects/SHA256E-s12--abc.safetensors\n", "git-annex", "git annex get"),
    "empty": (lambda _: b"", "0 bytes", "fetch it again"),
    "half": (lambda data: data[: len(data) // 2], "cut off", "broke off"),
    "a few bytes": (lambda data: data[:7], "cut off", "broke off"),
    "page": (lambda _: b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "HTML page", "fetch"),
    "reply": (lambda _: b"Entry not found", "'Entry not found'", "fetch it again"),
    "json": (lambda _: b'{"error": "Repository not found"}', "Repository not found", "fetch it again"),
    "gzip": (gzip.compress, "gzip", "gunzip"),
    "pickle": (lambda _: b"\x80\x04K\x01.", "pickle", "docs/labelling.md"),
}


@each_format
@pytest.mark.parametrize("kind", SUBSTITUTES)
def test_a_file_that_is_something_else(kind: str, name: str, tmp_path: Path) -> None:
    make, what, hint = SUBSTITUTES[kind]
    form = FORMATS[name]
    folder = form.write(tmp_path)
    path = folder / form.file
    path.write_bytes(make(path.read_bytes()))
    refused(folder, path, what, hint)


def test_an_archive_under_a_safetensors_name_and_the_other_way_round(tmp_path: Path) -> None:
    folder, archive = write_saelens(tmp_path), write_npz(tmp_path) / "params.npz"
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(archive.read_bytes())
    refused(folder, folder / WEIGHTS, "NumPy archive")
    archive.write_bytes(data)
    refused(archive, archive, "safetensors file under another name")
    torch.save({"a": 1}, folder / WEIGHTS)
    refused(folder, folder / WEIGHTS, "torch.save")


@each_format
def test_what_is_not_a_file(name: str, tmp_path: Path) -> None:
    form = FORMATS[name]
    folder = form.write(tmp_path)
    path = folder / form.file
    path.unlink()
    path.mkdir()
    refused(folder, path, "folder")
    path.rmdir()
    path.symlink_to(path.name)
    refused(folder, path, "link")
    path.unlink()
    os.mkfifo(path)
    refused(folder, path, "pipe")
    path.unlink()
    path.symlink_to("/dev/zero")
    refused(folder, path, "device")


def test_an_archive_that_unpacks_to_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros pack 1,000 times; shapes and sizes are looked at before anything is unpacked."""
    monkeypatch.setattr("harness.files.packed.SMALLEST_BOUND", 1 << 16)
    monkeypatch.setattr("harness.sae.formats.npz.arrays", lambda *_: pytest.fail("an array was read"))
    folder = tmp_path / "layer_1"
    folder.mkdir()
    shapes = {"W_enc": (D_IN, 20_000), "W_dec": (20_000, D_IN), "b_enc": (20_000,), "b_dec": (D_IN,), "threshold": (20_000,)}
    np.savez_compressed(folder / "params.npz", **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    refused(folder, folder / "params.npz", "times its own size")


@pytest.mark.parametrize("shape", ["(1000000000, 1000000000)", "(99, 99)", "(-12, -40)", "(12.0, 40)"])
def test_a_header_that_states_another_size(shape: str, tmp_path: Path) -> None:
    path = write_npz(tmp_path) / "params.npz"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    members["W_enc.npy"] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + weights()["W_enc"].tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    refused(path, path, "fetch it again")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs users with and without rights")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_what_may_not_be_read(mode: int, open_folder: Path) -> None:
    """A file without rights, a folder that may not be entered."""
    folder = write_saelens(open_folder, f"rights-{mode}")
    locked = folder / WEIGHTS if not mode else folder
    root = os.geteuid() == 0
    harness_sae.load(folder)
    locked.chmod(mode)
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(DictionaryError) as caught:
            harness_sae.load(folder)
    finally:
        if root:
            os.seteuid(0)
        locked.chmod(0o755)
    assert "ermission denied" in str(caught.value)
    assert "permissions" in caught.value.hint
