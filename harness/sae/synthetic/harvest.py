"""A source's training samples on disk, in the form of collected activations: drawn once for all trainings on them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from harness.files.shards import ShardedFiles, replace_file
from harness.sae.synthetic.source import BLOCK, Samples, SyntheticSource
from harness.sae.training.activations import DATA, META, Harvest, open_harvest

SHARD = 64 * BLOCK
"""Samples that are committed together."""


def harvest_samples(source: SyntheticSource, n: int, folder: Path, advance: Callable[[int, int], None] | None = None) -> Harvest:
    """Draw the first ``n`` samples of the part ``train`` into ``folder``, 2 bytes × dims each; what an earlier call left there is gone on with.

    Raises StoreError where the disk is full or cannot be written.
    """
    files = ShardedFiles(folder, [DATA], [source.digest, n, SHARD])
    unit = 1.0
    norms = sum(files.notes, 0.0)
    if files.notes:
        unit = json.loads((folder / _UNIT).read_text(encoding="utf-8"))
    for start in range(len(files.notes) * SHARD, n, SHARD):
        if advance is not None:
            advance(start, n)
        x = np.concatenate([x.cpu().numpy() for _, x in source.vectors(Samples("train", start, min(start + SHARD, n)))])
        lengths = np.linalg.norm(x, axis=1)
        if not start:
            # a power of two changes no digit of what is stored
            unit = 2.0 ** round(math.log2(max(float(lengths.mean()), 1e-30) / math.sqrt(x.shape[1])))
            replace_file(folder / _UNIT, json.dumps(unit).encode())
        files.append({DATA: (x / unit).astype(np.float16)}, float(lengths.sum()))
        norms += float(lengths.sum())
    made = Harvest(folder, n, source.config.dims, unit, norms / n, n, 1)
    replace_file(folder / META, json.dumps({key: value for key, value in asdict(made).items() if key != "folder"}).encode())
    return open_harvest(folder)


_UNIT = "unit.json"
