"""Training a dictionary: SAELens' training classes, activations of ours, exported as a folder that SAELens loads.

The steps: collect the residual stream once (:mod:`harness.sae.training.activations`), shuffle it anew in each epoch,
train on inputs scaled to a common norm, fold the scale into the weights, export.
A BatchTopK dictionary is exported as JumpReLU with one threshold for all features. SAELens
takes a slow moving average of the batches' thresholds for it, which after a short training is far off; here the threshold is the exact one
at which held-out tokens have k active features on average, and it is checked on other held-out tokens.
"""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import DataError, DictionaryError, StoreError
from harness.files.version import own_version
from harness.interventions import Site
from harness.sae.training.activations import Harvest, harvest
from harness.sae.training.config import Progress, TrainConfig, TrainProgress
from harness.sae.training.fit import fit, split_tokens
from harness.types import Json

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel


LOG_FILE = "metrics.jsonl"
L0_TOLERANCE = 0.10
"""A BatchTopK dictionary whose L0 on held-out tokens is further than this from k is not handed out."""


def train(
    model: SubjectModel,
    token_rows: Iterable[Sequence[int]],
    site: Site,
    config: TrainConfig,
    out: Path,
    progress: Progress | None = None,
    *,
    cache: Path | None = None,
    dataset: str = "",
) -> Path:
    """Train a dictionary of ``model`` at ``site`` and write it as a SAELens folder.

    Args:
        model: the subject model.
        token_rows: texts as token ids, as the model shall see them.
        site: the layer whose output is reconstructed.
        config: the settings.
        out: the folder to make; it appears when all is done, with ``cfg.json``, ``sae_weights.safetensors`` and ``metrics.jsonl``.
        progress: called with the progress now and then.
        cache: where collected activations are kept for other runs on the same texts (2 bytes × d_model × tokens); else they are deleted.
        dataset: what the texts are, for the dictionary's metadata.

    Raises:
        DictionaryError: ``out`` holds something already; the loss is not finite; the L0 on held-out tokens is not within 10 % of k.
        DataError: too few tokens.
        StoreError: the disk is full or cannot be written.
    """
    rows = [list(row) for row in token_rows]
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DictionaryError(f"{out} holds something already", given=out, hint="remove it, or choose another folder")
    partial = out.parent / f".{out.name}.{os.getpid()}"
    report = progress or (lambda _: None)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        activations = harvest(
            model,
            rows,
            site,
            cache or partial / "activations",
            skip=config.skip,
            outlier=config.outlier,
            token_budget=config.token_budget,
            advance=lambda done, total: report(TrainProgress("collect", done, total)),
        )
        metadata = describe_training(model, site, config, activations, dataset)
        device = torch.device("cuda" if model.device.type == "cuda" else "cpu")
        train_on(activations, config, partial / "dictionary", metadata, device, report)
        out.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial / "dictionary", out)
    except OSError as error:
        message = f"cannot write the dictionary to {out}: {error.strerror or error}"
        raise StoreError(message, given=out, hint="free some space, or choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def describe_training(model: SubjectModel, site: Site, config: TrainConfig, activations: Harvest, dataset: str) -> dict[str, Json]:
    """Returns how a dictionary was made, as metadata for :func:`train_on`; the first names are SAELens' own."""
    return {
        "model_name": model.name,
        "hook_name": model.layer_path(site.layer),
        "model_class_name": type(model.hf).__name__,
        "context_size": activations.longest,
        "dataset_path": dataset or f"{activations.n_texts} texts",
        "harness_version": own_version(),
        "harness_training": {"layer": site.layer, "distinct_tokens": activations.n, "texts": activations.n_texts, **asdict(config)},
    }


def train_on(
    activations: Harvest,
    config: TrainConfig,
    folder: Path,
    metadata: Mapping[str, Json],
    device: torch.device,
    progress: Progress,
    *,
    snapshots: Sequence[int] = (),
    begin: Callable[[Any, float], None] | None = None,
    tolerance: float = L0_TOLERANCE,
) -> None:
    """Train on collected activations and export to ``folder``. Arguments and errors as in :func:`train`.

    Args:
        activations, config, folder, metadata, device, progress: see there.
        snapshots: numbers of tokens, ascending; after so many the SAE is also exported as it is, to :func:`snapshot_folder`.
        tolerance: how far a BatchTopK dictionary's L0 may be from k, as a share of k.
        begin: called with SAELens' fresh training SAE and the inputs' scale; may give it other weights than random ones.

    Raises:
        DataError: the training ends before a snapshot.
    """
    from harness.sae.training.export import export

    folder.mkdir(parents=True, exist_ok=True)
    split = split_tokens(activations, config)
    scale = (1.0 if config.scales_to_unit else math.sqrt(activations.d)) / activations.mean_norm

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress(TrainProgress("train", done, total, metrics))

    total = max(config.batch_size, round(config.epochs * len(split.training))) // config.batch_size * config.batch_size
    if snapshots and snapshots[-1] > total:
        message = f"a snapshot is wanted after {snapshots[-1]} tokens, and the training has {total}"
        raise DataError(message, given=snapshots[-1], allowed=f"up to {total}", hint="correct snapshots, or train on more")
    # alternately, since neighbours on disk come from one text and from texts of one length
    calibration, check = (activations.take(split.held_out[part::2]) for part in (0, 1))
    pending = list(snapshots)

    def after(done: int, sae: Any) -> None:
        while pending and done >= pending[0]:
            tokens = pending.pop(0)
            made = snapshot_folder(folder, tokens)
            made.mkdir(parents=True, exist_ok=True)
            export(_copied(sae, tokens), made, scale, config, calibration, check, math.inf)

    start = None if begin is None else lambda sae: begin(sae, scale)
    sae = fit(activations, split, scale, config, metadata, folder / LOG_FILE, device, report, start, after if pending else None)
    progress(TrainProgress("export", 0, 1))
    export(sae, folder, scale, config, calibration, check, tolerance)
    progress(TrainProgress("export", 1, 1))


def snapshot_folder(folder: Path, tokens: int) -> Path:
    """Return where below a training's folder its snapshot after so many tokens is."""
    return folder / "snapshots" / str(tokens)


def _copied(sae: Any, tokens: int) -> Any:
    """Return SAELens' SAE as it is now, apart from the one that is trained on; exporting changes weights and configuration."""
    cfg = copy.deepcopy(sae.cfg)
    recipe = dict(getattr(cfg.metadata, "harness_training", None) or {})
    cfg.metadata.harness_training = {**recipe, "snapshot": tokens}
    with torch.random.fork_rng(devices=[sae.W_dec.device] if sae.W_dec.device.type == "cuda" else []):  # its random weights are replaced
        other = type(sae)(cfg)
    other.load_state_dict(sae.state_dict())
    return other.eval()
