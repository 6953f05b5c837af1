"""Activations of many texts on disk, for training: collected once, read in any order."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import DataError, DictionaryError, StoreError
from harness.files.folders import make_folder
from harness.files.shards import ShardedFiles, replace_file
from harness.interventions import Site
from harness.model.activations import Row, row_lengths
from harness.model.memory import TokenBudget
from harness.sae.corpus.outliers import OUTLIER
from harness.sae.corpus.sweep import SHARD_TOKENS, n_past, sweep, sweep_shards
from harness.types import digest

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

META, DATA = "meta.json", "activations.f16"


@dataclass(frozen=True)
class Harvest:
    """Residual vectors of ``n`` counted tokens, as float16 on disk.

    Attributes:
        folder: where they are.
        n: number of tokens.
        d: width.
        unit: what the stored numbers are multiplied by; a power of two that brings typical entries near 1, so float16 keeps their digits.
        mean_norm: mean Euclidean norm of the vectors.
        n_texts: number of texts they come from.
        longest: tokens of the longest text.
    """

    folder: Path
    n: int
    d: int
    unit: float
    mean_norm: float
    n_texts: int
    longest: int

    def take(self, index: npt.NDArray[np.int64], scale: float = 1.0) -> Tensor:
        """Return vectors ``index`` times ``scale``, ``[len(index), d]`` float32."""
        return torch.from_numpy(self._stored()[index]).float().mul_(self.unit * scale)

    def _stored(self) -> npt.NDArray[np.float16]:
        return np.memmap(self.folder / DATA, dtype=np.float16, mode="r", shape=(self.n, self.d))


def harvest(
    model: SubjectModel,
    rows: Sequence[Row],
    site: Site,
    parent: Path,
    *,
    skip: int = 1,
    outlier: float = OUTLIER,
    token_budget: int = 1024,
    advance: Callable[[int, int], None] | None = None,
) -> Harvest:
    """Return the residual stream of the counted tokens of ``rows`` at ``site``, in a folder below ``parent`` named by its content.

    A finished folder is used again; an unfinished one never carries the name, and is gone on with by the same call.

    Args:
        skip: leading tokens of each text that are left out.
        outlier: as in :func:`~harness.sae.corpus.outliers.usual_tokens`.
        token_budget: tokens per forward pass; about 1,024 is fastest on CPUs.
        advance: called with (tokens done, tokens in all), first with those that an earlier call has done.

    Raises:
        DataError: no token counts.
        ModelError: a counted token's vector is not finite.
        StoreError: the disk is full or cannot be written.
    """
    total = n_past(rows, skip)
    if not total:
        message = f"none of {len(rows)} texts has more than {skip} tokens, so there is nothing to train on"
        raise DataError(message, given=len(rows), hint="give longer texts")
    folder = parent / harvest_name(model, rows, site, skip, outlier)

    def find() -> Harvest | None:
        return open_harvest(folder) if (folder / META).is_file() else None

    def fill(partial: Path) -> None:
        made = _collect(model, rows, site, partial, skip, outlier, token_budget, total, advance)
        meta = {key: value for key, value in asdict(made).items() if key != "folder"}
        replace_file(partial / META, json.dumps(meta).encode())

    def refused(error: OSError) -> StoreError:
        message = f"cannot write the activations to {parent} ({error.strerror or error})"
        return StoreError(message, given=parent, hint=f"free some space: {total * model.d_model * 2 / 1e9:.1f} GB are needed")

    return make_folder(folder, find, fill, what="the activations", resumable=True, explain=refused) or open_harvest(folder)


def open_harvest(folder: Path) -> Harvest:
    """Return the activations that a folder holds."""
    return Harvest(folder, **json.loads((folder / META).read_text(encoding="utf-8")))


def _collect(
    model: SubjectModel,
    rows: Sequence[Row],
    site: Site,
    folder: Path,
    skip: int,
    outlier: float,
    token_budget: int,
    total: int,
    advance: Callable[[int, int], None] | None,
) -> Harvest:
    files = ShardedFiles(folder, [DATA], {"token_budget": token_budget, "shard_tokens": SHARD_TOKENS})
    shards, budget = list(sweep_shards(rows, skip=skip, token_budget=token_budget)), TokenBudget(token_budget)
    so_far: Any = files.notes[-1] if files.notes else {"unit": 0.0, "norms": 0.0, "done": 0, "kept": 0, "texts": 0}
    unit, norms, done, kept, texts = (so_far[name] for name in ("unit", "norms", "done", "kept", "texts"))
    if advance is not None:
        advance(done, total)
    for shard in shards[len(files.notes) :]:
        found = []
        for batch in sweep(model, rows, site, texts=shard, skip=skip, outlier=outlier, token_budget=budget):
            x = batch.x[batch.counted].float()
            norm = float(x.norm(dim=-1).mean())
            # a power of two changes no digit of what is stored
            unit = unit or 2.0 ** round(math.log2(max(norm, 1e-30) / math.sqrt(model.d_model)))
            stored = (x / unit).half()
            if not bool(torch.isfinite(stored).all()):
                message = f"activations at {site} of {model.name} are not finite, or some exceed the others 10,000-fold"
                raise DictionaryError(message, given=site, hint="use --dtype float32, or leave outliers out")
            found.append(stored.cpu().numpy())
            norms += norm * len(x)
            kept += len(x)
            done += int(batch.real.sum()) - skip * len(batch.rows)
            texts += len(batch.rows)
            if advance is not None:
                advance(done, total)
        files.append({DATA: np.concatenate(found)}, {"unit": unit, "norms": norms, "done": done, "kept": kept, "texts": texts})
    return Harvest(folder, kept, model.d_model, unit, norms / kept, texts, int(row_lengths(rows).max()))


def harvest_name(model: SubjectModel, rows: Sequence[Row], site: Site, skip: int, outlier: float = OUTLIER) -> str:
    """Return the name of the folder that :func:`harvest` makes: the identity of the vectors; nothing is collected."""
    sha = hashlib.sha256()
    for row in rows:
        sha.update(np.asarray([len(row), *row], dtype=np.int64).tobytes())
    return "activations-" + digest([model.name, model.digest, str(model.dtype), site, skip, outlier, sha.hexdigest()])
