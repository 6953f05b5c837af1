"""What the shipped tasks of the hub name, in miniature: models of the right architectures and depths, dictionaries of the right forms."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from harness.sae.registry import source_of
from harness.tasks.find import load_task
from harness.tasks.schema import Task
from helpers.axbench import evaluation_rows, table_bytes, train_rows
from helpers.hub import Hub, folder_files
from helpers.models import byte_tokenizer, hf_of

TASKS = Path(__file__).resolve().parents[2] / "tasks"
LOCAL = {"aspects", "axbench-mini", "beer", "demo", "label-paper", "label-paper-mini", "sanity", "sanity-mini"}
LOCAL |= {"synthetic", "synthetic-mini", "traits-mini"}
NAMES = tuple(sorted(path.parent.name for path in TASKS.glob("*/task.toml") if path.parent.name not in LOCAL))
AXBENCH = tuple(name for name in NAMES if name.startswith("axbench-"))
"""Those whose concepts and texts lie on the hub, too."""
D_IN, D_SAE = 16, 48
_SIZE: dict[str, Any] = {
    "vocab_size": 320, "hidden_size": D_IN, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_KINDS = {"gemma-2": "Gemma2Config", "gemma-3": "Gemma3TextConfig", "Llama-3": "LlamaConfig"}
INSTRUCTIONS = [{"instruction": f"Write about number {number}.", "output": "", "dataset": "x"} for number in range(20)]


def shipped() -> dict[str, Task]:
    """The shipped tasks whose model, dictionary and instructions lie on the hub, by name."""
    return {name: load_task(TASKS / name) for name in NAMES}


def fill(hub: Hub) -> None:
    """Put everything that the shipped tasks name on the hub."""
    tasks = shipped().values()
    depths: dict[str, int] = {}
    for task in tasks:
        name = task.file.model.name
        depths[name] = max(depths.get(name, 0), task.file.dictionaries[0].layer + 2)
    for name, depth in depths.items():
        hub.add(name, model_files(name, depth))
    folders: dict[str, dict[str, bytes]] = {}
    for task in tasks:
        table = task.file.dictionaries[0]
        where, inside = source_of(table.source)
        made = dictionary_files(where.repo, table.layer, table.trained_on or task.file.model.name)
        folders.setdefault(where.repo, {}).update({f"{inside}/{file}": content for file, content in made.items()})
    for repo, files in folders.items():
        hub.add(repo, files)
    hub.add("tatsu-lab/alpaca_eval", {"alpaca_eval.json": json.dumps(INSTRUCTIONS).encode()}, kind="datasets")
    hub.add("pyvene/axbench-concept500", concept_files(), kind="datasets")


def concept_files() -> dict[str, bytes]:
    """Concept500 in miniature: for each of AxBench's tasks both tables, whose concepts name features of its dictionary."""
    found: dict[str, bytes] = {}
    for name in AXBENCH:
        task = load_task(TASKS / name)
        layer, variant = task.file.dictionaries[0].layer, str(task.file.corpus.source).removeprefix("hub:pyvene/axbench-concept500/")
        source = f"gemma-2-2b/{layer}-gemmascope-res-16k" if variant.startswith("2b") else f"gemma-2-9b-it/{layer}-gemmascope-res-131k"
        with tempfile.TemporaryDirectory() as folder:
            found[f"{variant}/train/data.parquet"] = table_bytes(train_rows(6), Path(folder))
            found[f"{variant}/test/data.parquet"] = table_bytes(evaluation_rows(6, source), Path(folder))
    return found


def model_files(name: str, depth: int) -> dict[str, bytes]:
    """A tiny model of the architecture that a hub name tells, as ``save_pretrained`` writes it."""
    kind = next(kind for part, kind in _KINDS.items() if part in name)
    with tempfile.TemporaryDirectory() as folder:
        hf_of(kind, **_SIZE, num_hidden_layers=depth).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        return folder_files(Path(folder))


def dictionary_files(repo: str, layer: int, model: str) -> dict[str, bytes]:
    """A tiny dictionary in the form in which a repository publishes its own."""
    random = np.random.default_rng(layer)
    w_enc, w_dec = (random.normal(size=shape).astype(np.float32) for shape in ((D_IN, D_SAE), (D_SAE, D_IN)))
    vectors = {"b_enc": np.zeros(D_SAE, np.float32), "b_dec": np.zeros(D_IN, np.float32), "threshold": np.full(D_SAE, 0.5, np.float32)}
    file = io.BytesIO()
    if repo.startswith("google/gemma-scope-2-"):
        site = f"model.layers.{layer}.output"
        config = {
            "hf_hook_point_in": site, "hf_hook_point_out": site, "width": D_SAE, "model_name": model, "architecture": "jump_relu", "l0": 8,
            "affine_connection": False, "type": "sae",
        }  # fmt: skip
        tensors = {name: torch.from_numpy(array) for name, array in {"w_enc": w_enc, "w_dec": w_dec, **vectors}.items()}
        return {"config.json": json.dumps(config).encode(), "params.safetensors": save(tensors)}
    if repo.startswith("google/gemma-scope-"):
        np.savez(file, W_enc=w_enc, W_dec=w_dec, **vectors)
        return {"params.npz": file.getvalue()}
    trainer = {"layer": layer, "dict_class": "BatchTopKSAE", "k": 8, "activation_dim": D_IN, "dict_size": D_SAE, "lm_name": model}
    state = {
        "encoder.weight": torch.from_numpy(w_enc.T.copy()), "encoder.bias": torch.zeros(D_SAE), "decoder.weight": torch.from_numpy(w_dec.T.copy()),
        "b_dec": torch.zeros(D_IN), "k": torch.tensor(8), "threshold": torch.tensor(0.5),
    }  # fmt: skip
    torch.save(state, file)
    return {"config.json": json.dumps({"trainer": trainer, "buffer": {"ctx_len": 128}}).encode(), "ae.pt": file.getvalue()}
