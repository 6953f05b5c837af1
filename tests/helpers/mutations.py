"""Mutated copies of dictionaries of every format, and what may come of one: it works, or it is refused in one line.

The suite tries some of them. ``python tests/helpers/mutations.py 4000 [first seed]`` (with ``tests`` on ``PYTHONPATH``) tries many, and prints
each that fails with its seed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from helpers.dictionaries import D_IN, D_SAE, FORMATS, K, weights, write_saelens

VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, K, D_IN, D_SAE, D_SAE + 1, 10**9, 10**30, 1.5, 40.0, 1e300, float("nan"), float("inf"), "", "0", "40", "topk",
    "relu", "none", "layer_norm", "constant_norm_rescale", "hook_z", "false", "gpt2", "pythia-70m", "model.layers.2", "blocks.3.hook_resid_post",
    "blocks.0.hook_resid_pre", "model.layers.99999999999", "blocks.٣.hook_resid_post", "x" * 5000, "\u2028\n\x1b[31m", [], [[[]]], [1], {}, {"k": 3},
    {"k": None}, {"hook_name": "model.layers.1"}, {"self": 1, "get": 2, "__class__": 3}, "standard", "jumprelu", "gated", "abstopk", "batchtopk",
    "matching_pursuit", "tanh-relu", "crosscoder", "transcoder",
)  # fmt: skip
"""What a configuration's key may be set to."""

KEYS = (
    "architecture", "d_in", "d_sae", "k", "dtype", "device", "metadata", "hook_name", "hook_point", "hook_layer", "hf_hook_name", "model_name",
    "sae_lens_version", "apply_b_dec_to_input", "normalize_activations", "reshape_activations", "activation_fn", "activation_fn_str",
    "activation_fn_kwargs", "rescale_acts_by_decoder_norm", "residual_threshold", "max_iterations", "stop_on_duplicate_support", "cfg",
    "expansion_factor", "num_latents", "signed", "activation", "transcode", "normalize_decoder", "hf_hook_point_in", "hf_hook_point_out", "width",
    "type", "affine_connection", "model_from_pretrained_kwargs", "hook_name_out", "ключ",
)  # fmt: skip


def write(root: Path, draw: random.Random) -> Path:
    """A good dictionary of a format, or of one of SAELens' architectures."""
    kind = draw.choice([*FORMATS, "standard", "topk", "abstopk", "gated", "matching_pursuit", "batchtopk", "old", "nested"])
    if kind in FORMATS:
        return FORMATS[kind].write(root)
    folder = write_saelens(root)
    cfg, tensors = json.loads((folder / "cfg.json").read_text()), load_file(folder / "sae_weights.safetensors")
    threshold = tensors.pop("threshold")
    if kind in ("topk", "abstopk", "batchtopk"):
        cfg["k"], cfg["rescale_acts_by_decoder_norm"] = K, draw.random() < 0.5
    if kind == "batchtopk":
        tensors["topk_threshold"] = torch.tensor(0.7)
    if kind == "gated":
        bias = tensors.pop("b_enc")
        tensors |= {"b_gate": bias, "b_mag": threshold, "r_mag": threshold.clone()}
    if kind == "matching_pursuit":
        tensors = {"W_dec": torch.nn.functional.normalize(tensors["W_dec"]), "b_dec": tensors["b_dec"]}
    cfg["architecture"] = "standard" if kind in ("old", "nested") else kind
    if kind == "old":
        metadata = cfg.pop("metadata")
        cfg |= {"hook_point": metadata["hook_name"], "model_name": metadata["model_name"], "activation_fn_str": "relu"}
    if kind == "nested":
        cfg = {"cfg": cfg}
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def mutate(folder: Path, draw: random.Random) -> list[str]:
    """Change a folder in one to three ways; returns their names."""
    done = []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        kind = draw.choice([_key, _key, _key, _text, _tensor, _tensor, _tensor, _header, _bytes, _file])
        try:
            done.append(kind(folder, draw))
        except Exception:
            if not done:  # only what was damaged before may withstand
                raise
    return done


def fault(path: Path) -> str:
    """What is wrong with how a folder is taken; empty where it works by its definition, or is refused in one line."""
    from harness import sae
    from harness.errors import HarnessError

    try:
        try:
            dictionary = sae.load(path, dtype="float64")
        except HarnessError:
            dictionary = sae.load(path, dtype="float64", layer=3)  # formats that name no site need one
    except HarnessError as error:
        line = str(error)
        line.encode()
        return "" if line.isprintable() and len(line) < 3000 else f"not one short line: {line[:300]!r}"
    except Exception as error:
        return f"load: {type(error).__name__}: {error}"
    try:
        return _misbehaves(dictionary) or _overflows(path, dictionary.layer)
    except Exception as error:
        return f"use: {type(error).__name__}: {error}"


def trial(seed: int) -> str:
    """One mutated dictionary; returns what was done and what is wrong, or nothing."""
    draw = random.Random(seed)
    root = Path(tempfile.mkdtemp(prefix="harness-mutations-"))
    try:
        folder = write(root, draw)
        done = mutate(folder, draw)
        wrong = fault(folder)
        return f"seed {seed}: {', '.join(done)}: {wrong}" if wrong else ""
    finally:
        shutil.rmtree(root, ignore_errors=True)


# ------------------------------------------------------------------------------------------------------------------------------- inside


def _misbehaves(dictionary: Any) -> str:
    from harness import sae

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, dictionary.d_in, generator=generator, dtype=torch.float64) * 10
    f = dictionary.encode(x)
    decoded = dictionary.decode(f, like=x)
    if f.shape != (6, dictionary.d_sae) or decoded.shape != x.shape:
        return f"shapes {tuple(f.shape)} and {tuple(decoded.shape)}"
    if not bool(torch.isfinite(f).all()) or not bool(torch.isfinite(decoded).all()):
        return "activations or reconstruction are not finite"
    if bool((f < 0).any()) and not dictionary.signed:
        return "negative activations in an unsigned dictionary"
    j = dictionary.d_sae // 2
    wanted = f.clone()
    wanted[:, j] = 2.5
    expected = dictionary.decode(wanted, like=x) + x - decoded
    size = float(expected.abs().max() + decoded.abs().max() + x.abs().max()) + 1
    if float((dictionary.clamp(x, j, 2.5) - expected).abs().max()) > 1e-6 * size:
        return "a clamp is not encode, set, decode, add the error"
    described = sae.describe(dictionary)
    json.dumps([dictionary.digest, described.hook_name, described.model_name], allow_nan=False).encode()
    return ""


def _overflows(path: Path, layer: int) -> str:
    from harness import sae
    from harness.errors import HarnessError

    try:
        dictionary = sae.load(path, layer=layer)
    except HarnessError:  # norms that float64 has and float32 has not
        return ""
    x = torch.randn(6, dictionary.d_in, generator=torch.Generator().manual_seed(1)) * 100
    f = dictionary.encode(x)
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in (f, dictionary.decode(f, like=x), dictionary.clamp(x, 0, 3.0)))
    return "" if finite else "not finite in float32"


def _configuration(folder: Path, draw: random.Random) -> Path | None:
    files = sorted(path for path in folder.glob("*.json") if path.is_file())
    return draw.choice(files) if files else None


def _key(folder: Path, draw: random.Random) -> str:
    """A key of a configuration set, removed or moved."""
    path = _configuration(folder, draw)
    if path is None:
        return "no configuration"
    try:
        cfg = json.loads(path.read_text())
    except (OSError, ValueError):
        return "no readable configuration"
    if not isinstance(cfg, dict):
        return "no object"
    inner = draw.choice([cfg, *(value for value in cfg.values() if isinstance(value, dict))])
    key = draw.choice([*inner, *inner, *KEYS] or list(KEYS))
    if draw.random() < 0.15:
        inner.pop(key, None)
        what = f"without {key}"
    else:
        inner[key] = draw.choice(VALUES)
        what = f"{key} = {inner[key]!r:.40}"
    path.write_text(json.dumps(cfg))
    return what


def _text(folder: Path, draw: random.Random) -> str:
    """A configuration's text replaced."""
    path = _configuration(folder, draw)
    if path is None or not path.is_file():
        return "no configuration"
    text = path.read_text(errors="replace")
    kinds: dict[str, bytes] = {
        "empty": b"", "bom": b"\xef\xbb\xbf" + text.encode(), "utf-16": text.encode("utf-16"), "null": b"null", "list": b"[]",
        "html": b"<!DOCTYPE html><html><body>Sign in</body></html>", "deep": b"[" * 100_000, "deep object": b'{"metadata":' * 5000,
        "half": text.encode()[: len(text) // 2], "surrogate": text.replace("hook", "\\ud800", 1).encode(),
        "digits": b'{"d_in": ' + b"9" * 6000 + b"}",
        "twice": text.replace("{", '{"d_in": 7, "architecture": "topk",', 1).encode(),
        "latin-1": text.replace("a", "\xe9").encode("latin-1", "replace"),
    }  # fmt: skip
    name = draw.choice(list(kinds))
    path.write_bytes(kinds[name])
    return f"{path.name}: {name}"


def _weights(folder: Path) -> Path | None:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".safetensors", ".npz") and path.is_file())
    return files[0] if files else None


def _tensor(folder: Path, draw: random.Random) -> str:
    """A tensor changed, renamed, removed or added."""
    path = _weights(folder)
    if path is None:
        return "no weights"
    try:
        tensors = dict(np.load(path)) if path.suffix == ".npz" else {name: t.float().numpy() for name, t in load_file(path).items()}
    except Exception:
        return "no readable weights"
    name = draw.choice(list(tensors) or ["W_dec"])
    own = np.atleast_1d(tensors.get(name, np.zeros((3, 2), np.float32)))
    changes: dict[str, Callable[[], Any]] = {
        "nan": lambda: _with(own, np.nan), "inf": lambda: _with(own, np.inf), "huge": lambda: _with(own, 3e38), "all huge": lambda: own * 0 + 1e30,
        "tiny": lambda: own * 1e-30, "zero": lambda: own * 0, "zero row": lambda: _with(own, 0.0), "negative": lambda: -np.abs(own),
        "large": lambda: own * 300, "transposed": lambda: own.T, "flat": lambda: own.reshape(-1), "scalar": lambda: own.reshape(-1)[:1].reshape(()),
        "empty": lambda: own[:0], "cut": lambda: own[:-1], "more": lambda: np.concatenate([own, own]), "deeper": lambda: own[None],
        "int8": lambda: own.astype(np.int8), "bool": lambda: own > 0, "float16": lambda: own.astype(np.float16),
        "float64": lambda: own.astype(np.float64), "int64": lambda: own.astype(np.int64),
    }  # fmt: skip
    action = draw.choice([*changes, *changes, "removed", "renamed", "added", "none left"])
    if action == "removed":
        tensors.pop(name, None)
    elif action == "renamed":
        tensors[draw.choice(["W_enc", "w_dec", "ключ", "threshold", "log_threshold", "scaling_factor", "b_enc "])] = tensors.pop(name, own)
    elif action == "added":
        tensors[draw.choice(["extra", "W_ENC", "scaling_factor", "topk_threshold", "log_threshold", "b_enc"])] = own
    elif action == "none left":
        tensors = {}
    else:
        tensors[name] = changes[action]()
    with np.errstate(all="ignore"):
        kept = {key: np.array(array, order="C") for key, array in tensors.items()}
        if path.suffix == ".npz":
            np.savez(path, **kept)
        else:
            save_file({key: torch.from_numpy(array) for key, array in kept.items() if array.dtype.kind in "fib"}, path)
    return f"{name} {action}"


def _with(array: Any, value: float) -> Any:
    changed = np.array(array)
    if changed.size and changed.ndim:
        changed[0] = value
    return changed


def _header(folder: Path, draw: random.Random) -> str:
    """The header of an archive or of a safetensors file, odd or false."""
    path = _weights(folder)
    if path is None:
        return "no weights"
    if path.suffix == ".npz":
        return _array_header(path, draw)
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8 : 8 + length])
        name = draw.choice([key for key in header if key != "__metadata__"])
    except (ValueError, IndexError):
        return "no readable header"
    entry = header[name]
    change = draw.choice(["shape", "dtype", "offsets", "text", "length", "metadata"])
    if change == "shape":
        entry["shape"] = draw.choice([[10**9, 10**9], [-1], [1.5], "x", [], [2**63, 2]])
    elif change == "dtype":
        entry["dtype"] = draw.choice(["BF16", "F8_E4M3", "I64", "X", 3, None])
    elif change == "offsets":
        entry["data_offsets"] = draw.choice([[0, 10**12], [5, 1], [-1, 4], "x"])
    elif change == "metadata":
        header["__metadata__"] = draw.choice([{}, {"a": "b"}, {"a": 1}, [], "x"])
    text = b"[" * 50_000 if change == "text" else json.dumps(header).encode()
    path.write_bytes((2**62 if change == "length" else len(text)).to_bytes(8, "little") + text + data[8 + length :])
    return f"{name}: {change} of the header"


def _array_header(path: Path, draw: random.Random) -> str:
    arrays: dict[str, Any] = dict(weights())
    name = draw.choice(list(arrays))
    own = arrays[name]
    odd: dict[str, Any] = {
        "object": np.array([{}], dtype=object), "complex": own.astype(np.complex64), "big-endian": own.astype(">f4"),
        "fortran": np.asfortranarray(own),
        "half": own.astype("f2"), "void": own.astype("f2").view("V2"), "text": own.astype("U4"), "date": np.zeros(3, "M8[s]"),
        "record": np.zeros(3, [("a", "f4"), ("b", "i4")]), "long double": own.astype(np.longdouble),
    }  # fmt: skip
    change = draw.choice([*odd, "shape", "negative", "dtype", "garbage", "version", "twice", "encrypted", "no shape"])
    if change in odd:
        np.savez(path, **(arrays | {name: odd[change]}))
        return f"{name} as {change}"
    headers = {
        "shape": "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000000), }",
        "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, -4), }",
        "dtype": "{'descr': '<f3', 'fortran_order': False, 'shape': (3,), }",
        "garbage": "{" * 3000,
        "no shape": "{'descr': '<f4', 'fortran_order': 7, 'shape': 'x', }",
    }
    text = headers.get(change, "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }").encode() + b"\n"
    version = b"\x09\x00" if change == "version" else b"\x01\x00"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"{name if change == 'twice' else 'extra'}.npy", b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + b"0" * 12)
    return f"header of an array: {change}"


def _bytes(folder: Path, draw: random.Random) -> str:
    """Bytes of the weights changed or lost."""
    path = _weights(folder)
    if path is None:
        return "no weights"
    data = bytearray(path.read_bytes())
    kind = draw.choice(["cut", "cut", "flipped", "flipped", "head", "doubled"])
    if kind == "cut":
        data = data[: draw.randrange(len(data) + 1)]
    elif kind == "doubled":
        data = data + data
    else:
        for _ in range(draw.choice([1, 4])):
            if data:
                data[draw.randrange(min(300, len(data)) if kind == "head" else len(data))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(data))
    return f"bytes {kind}"


def _file(folder: Path, draw: random.Random) -> str:
    """A file replaced by something else."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    if not files:
        return "no files"
    path = draw.choice(files)
    kind = draw.choice(["gone", "folder", "loop", "dangling", "pipe", "renamed", "lfs", "html", "pickle", "gzip", "device"])
    target = path.with_name(draw.choice(["model.safetensors", "weights.npz", "ae.pt", "config.json", "sae.safetensors", "params.npz"]))
    if kind == "renamed" and not target.exists():
        path.rename(target)
        return f"{path.name} renamed to {target.name}"
    path.unlink()
    texts = {
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "html": b"<html>",
        "pickle": b"\x80\x04K\x01.", "gzip": b"\x1f\x8b\x08",
    }  # fmt: skip
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in texts:
        path.write_bytes(texts[kind])
    return f"{path.name}: {kind}"


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    faults = [wrong for seed in range(first, first + count) if (wrong := trial(seed))]
    print("\n".join(faults))
    print(f"{len(faults)} of {count} mutated dictionaries are taken wrongly (seeds {first} to {first + count - 1})")
