"""A small task of synthetic activations, its bench, and dictionaries made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.files.artifacts import ArtifactCache
from harness.files.progress import Progress
from harness.run.bench import Choices, TaskBench
from harness.sae.dictionary import Dictionary
from harness.tasks.find import load_task

FEATURES, DIMS = 24, 16
TASK = f"""schema = 3
name = "known"
version = 1
summary = "known features"

[synthetic]
features = {FEATURES}
dims = {DIMS}
samples = 4096
firing = {{kind = "log_uniform", min_prob = 0.02, max_prob = 0.2}}
magnitudes = {{kind = "lognormal", mu = 0.0, sigma = 0.25}}
"""
TRAIN = f"""
[[train]]
name = "mini"
architecture = "topk"
layer = 0
width = {FEATURES}
k = 3
epochs = 1
batch_size = 256
seeds = [0, 1]
snapshots = [1024]
fast = false
"""
METRICS = '\n[[metrics]]\nmetric = "recovery"\noptions = {samples = 2048}\ncontrol_seeds = 1\n'


def write_task(folder: Path, text: str = TASK + TRAIN + METRICS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return folder


def open_known(folder: Path, text: str = TASK + TRAIN + METRICS) -> TaskBench:
    """The task's bench, with a cache of its own."""
    task = load_task(write_task(folder / "known", text))
    return TaskBench(task, Choices(device="cpu"), ArtifactCache(folder / "artifacts"), Progress(quiet=True))


def by_hand(rows: Tensor, threshold: float = 0.3, layer: int = 0) -> Dictionary:
    """A dictionary of these decoder rows, its encoder tied to them: f_j(x) = d_j·x where that exceeds the threshold."""
    from sae_lens import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    metadata = SAEMetadata(model_name="by hand", hook_name=f"blocks.{layer}.hook_resid_post")
    config: Any = JumpReLUSAEConfig(d_in=rows.shape[1], d_sae=len(rows), dtype="float32", device="cpu", metadata=metadata)
    with torch.random.fork_rng(devices=[]):
        sae: Any = JumpReLUSAE(config)
    with torch.no_grad():
        sae.W_dec.copy_(rows)
        sae.W_enc.copy_((rows / rows.norm(dim=-1, keepdim=True)).T)
        sae.b_enc.zero_()
        sae.b_dec.zero_()
        sae.threshold.fill_(threshold)
    return Dictionary(sae, layer, "made by hand")
