"""Training a dictionary: SAELens' training classes, activations of ours, exported as a folder that SAELens loads.

The steps: collect the residual stream once (:mod:`harness.sae.training.activations`), shuffle it anew in each epoch,
train on inputs scaled to a common norm, fold the scale into the weights, export.
A BatchTopK dictionary is exported as JumpReLU with one threshold for all features. SAELens
takes a slow moving average of the batches' thresholds for it, which after a short training is far off; here the threshold is the exact one
at which held-out tokens have k active features on average, and it is checked on other held-out tokens.
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import DataError, DictionaryError, HarnessError, StoreError
from harness.files.folders import locked
from harness.files.version import own_version
from harness.interventions import Site
from harness.sae.formats.saelens import CFG_FILE
from harness.sae.training.activations import Harvest, harvest, harvest_name
from harness.sae.training.checkpoint import CHECKPOINT_FILE
from harness.sae.training.config import Progress, TrainConfig, TrainProgress
from harness.sae.training.fit import fit, split_tokens, tokens_of_training
from harness.types import Json

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel


LOG_FILE = "metrics.jsonl"
L0_TOLERANCE = 0.10
"""A BatchTopK dictionary whose L0 on held-out tokens is further than this from k is not handed out."""


UNFINISHED = "unfinished"


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
        DictionaryError: ``out`` holds something else; the loss is not finite; the L0 on held-out tokens is not within 10 % of k
            (and twice its standard error).
        DataError: too few tokens.
        StoreError: the disk is full or cannot be written.

    A dictionary of these settings and texts that is there already is left as it is. A call that is interrupted leaves ``.NAME.unfinished`` beside
    ``out``, and the same call goes on from there.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DictionaryError(f"{out} is not a folder", given=out, hint="choose another one")
    work = out.parent / f".{out.name}.{UNFINISHED}"
    _train_each(model, token_rows, site, {out: config}, work, progress, cache, dataset)
    return out


def train_all(
    model: SubjectModel,
    token_rows: Iterable[Sequence[int]],
    site: Site,
    configs: Mapping[str, TrainConfig],
    out: Path,
    progress: Progress | None = None,
    *,
    cache: Path | None = None,
    dataset: str = "",
) -> dict[str, Path]:
    """Train several dictionaries on one collection of activations, each in a folder of its own below ``out``.

    Those that are there are not trained again. An interrupted call leaves ``.unfinished`` in ``out``, and the same call goes on from there.

    Args:
        configs: settings by the folder's name; they differ in anything but which tokens count.
        out: folder of the folders.

    The other arguments and the errors are those of :func:`train`.

    Raises:
        DictionaryError: also where a folder holds a dictionary of other settings or other texts.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise DictionaryError(f"{out} is not a folder", given=out, hint="choose another one")
    targets = {out / name: config for name, config in configs.items()}
    _train_each(model, token_rows, site, targets, out / f".{UNFINISHED}", progress, cache, dataset)
    return dict(zip(configs, targets, strict=True))


def _train_each(
    model: SubjectModel,
    token_rows: Iterable[Sequence[int]],
    site: Site,
    targets: Mapping[Path, TrainConfig],
    work: Path,
    progress: Progress | None,
    cache: Path | None,
    dataset: str,
) -> None:
    """Train what is not there, on one collection of activations; ``work`` holds what is unfinished, and is removed when all is done."""
    rows = [list(row) for row in token_rows]
    report = progress or (lambda _: None)
    first = next(iter(targets.values()))
    name = harvest_name(model, rows, site, first.skip, first.outlier)
    missing = {folder: config for folder, config in targets.items() if not _is_there(folder, config, name)}
    if not missing:
        return
    try:
        work.mkdir(parents=True, exist_ok=True)
        with locked(work / "lock", f"dictionaries in {work.parent}"):
            activations = harvest(
                model,
                rows,
                site,
                cache or work / "activations",
                skip=first.skip,
                outlier=first.outlier,
                token_budget=first.token_budget,
                advance=lambda done, total: report(TrainProgress("collect", done, total)),
            )
            device = torch.device("cuda" if model.device.type == "cuda" else "cpu")
            for folder, config in missing.items():
                metadata = describe_training(model, site, config, activations, dataset)
                train_on(activations, config, work / folder.name, metadata, device, report)
                os.replace(work / folder.name, folder)
    except OSError as error:
        message = f"cannot write the dictionary to {next(iter(missing))}: {error.strerror or error}"
        raise StoreError(message, given=next(iter(missing)), hint="free some space, or choose another folder") from error
    except StoreError:
        raise
    except HarnessError:  # it would come again, so nothing of it is kept
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)


def _is_there(folder: Path, config: TrainConfig, activations: str) -> bool:
    """Return whether a folder holds the dictionary of these settings and vectors. Raises DictionaryError where it holds another."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    try:
        stated = json.loads((folder / CFG_FILE).read_text(encoding="utf-8"))["metadata"]["harness_training"]
        if stated["activations"] == activations and all(stated.get(name) == value for name, value in asdict(config).items()):
            return True
    except (OSError, ValueError, KeyError, TypeError):
        pass
    message = f"{folder} holds something else than these settings and texts give"
    raise DictionaryError(message, given=folder, hint="remove it, or choose another folder")


def describe_training(model: SubjectModel, site: Site, config: TrainConfig, activations: Harvest, dataset: str) -> dict[str, Json]:
    """Returns how a dictionary was made, as metadata for :func:`train_on`; the first names are SAELens' own."""
    return {
        "model_name": model.name,
        "hook_name": model.layer_path(site.layer),
        "model_class_name": type(model.hf).__name__,
        "context_size": activations.longest,
        "dataset_path": dataset or f"{activations.n_texts} texts",
        "harness_version": own_version(),
        "harness_training": {
            "layer": site.layer, "distinct_tokens": activations.n, "texts": activations.n_texts, "activations": activations.folder.name,
            **asdict(config),
        },
    }  # fmt: skip


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
    """As :func:`training_on`, at once; ``progress`` is called now and then."""
    with contextlib.closing(
        training_on(activations, config, folder, metadata, device, snapshots=snapshots, begin=begin, tolerance=tolerance)
    ) as steps:
        for state in steps:
            progress(state)


def training_on(
    activations: Harvest,
    config: TrainConfig,
    folder: Path,
    metadata: Mapping[str, Json],
    device: torch.device,
    *,
    snapshots: Sequence[int] = (),
    begin: Callable[[Any, float], None] | None = None,
    tolerance: float = L0_TOLERANCE,
) -> Generator[TrainProgress, None, None]:
    """Train on collected activations and export to ``folder``, where a training that was stopped is gone on with; yields how far it is.

    Args:
        activations, config, folder, metadata, device: see :func:`train`, and for its errors.
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

    total = tokens_of_training(config, activations.n)
    if snapshots and snapshots[-1] > total:
        message = f"a snapshot is wanted after {snapshots[-1]} tokens, and the training has {total}"
        raise DataError(message, given=snapshots[-1], allowed=f"up to {total}", hint="correct snapshots, or train on more")
    # alternately, since neighbours on disk come from one text and from texts of one length
    calibration, check = (activations.take(split.held_out[part::2]) for part in (0, 1))
    pending = [tokens for tokens in snapshots if not snapshot_folder(folder, tokens).exists()]  # those of a training that was stopped are there

    def after(done: int, sae: Any) -> None:
        while pending and done >= pending[0]:
            tokens = pending.pop(0)
            made = snapshot_folder(folder, tokens)
            partial = made.with_name(f".{made.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            export(_copied(sae, tokens), partial, scale, config, calibration, check, math.inf)
            os.replace(partial, made)

    start = None if begin is None else lambda sae: begin(sae, scale)
    sae = yield from fit(activations, split, scale, config, metadata, folder / LOG_FILE, device, start, after if pending else None)
    yield TrainProgress("export", 0, 1)
    export(sae, folder, scale, config, calibration, check, tolerance)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    yield TrainProgress("export", 1, 1)


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
