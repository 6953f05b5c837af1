"""Training a dictionary: SAELens' training classes, activations of ours, exported as a folder that SAELens loads.

The road: collect the residual stream once (:mod:`harness.sae.harvest`), shuffle it anew in each epoch, train on inputs scaled to a common
norm, fold the scale into the weights, export. A BatchTopK dictionary is exported as JumpReLU with one threshold for all features. SAELens
takes a slow moving average of the batches' thresholds for it, which after a short training is far off; here the threshold is the exact one
at which held-out tokens have k active features on average, and it is checked on other held-out tokens.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import torch

from harness import __version__
from harness.contracts import Site
from harness.errors import DictionaryError, OptionError, StoreError
from harness.sae.fitting import fit, split_tokens
from harness.sae.harvest import Harvest, harvest
from harness.sae.outliers import OUTLIER
from harness.types import Json

if TYPE_CHECKING:
    from harness.lm.model import SubjectModel

Architecture = Literal["batchtopk", "topk", "jumprelu", "standard"]
SaveDtype = Literal["float32", "bfloat16", "float16"]

LOG_FILE = "metrics.jsonl"
L0_TOLERANCE = 0.10
"""A BatchTopK dictionary whose L0 on held-out tokens is further than this from k is not handed out."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    On SmolLM2-135M, layer 15, width 4,096, k 32, a learning rate of 1e-3 explained .79 of the variance of held-out tokens after 1.2 million
    tokens, 2e-3 .81 and 4e-3 (at batches of 4,096) .82; but 4e-3 broke out again and again after 2 million, so the default is the calm one.

    Attributes:
        width: number of features (d_sae).
        k: active features a token (batchtopk: on average); for jumprelu the L0 that its penalty aims at; unused by standard.
        architecture: what is trained. batchtopk and jumprelu are saved as jumprelu.
        epochs: passes over the distinct token positions.
        batch_size: tokens a step.
        lr: Adam's learning rate, for inputs scaled as ``input_norm`` says.
        warm_up: share of the steps over which the learning rate rises from 0.
        decay: share of the steps over which it falls to 0 at the end.
        skip: leading tokens of each text that are left out (the first token's norm is a hundredfold; a chat template's prefix is constant).
        outlier: tokens whose norm is more than this many times their text's median are left out; 0 keeps all.
        input_norm: ``unit`` scales inputs to a mean norm of 1, ``sqrt_d`` to √d_in; None is unit for the TopK family, sqrt_d otherwise.
        sparsity: coefficient of jumprelu's L0 or standard's L1 penalty.
        aux_coefficient: weight of the TopK family's loss that revives dead features (Gao et al. 2024, arXiv 2406.04093).
        dead_tokens: a feature that was not active on so many tokens in a row is dead.
        fast: bfloat16 products where the hardware has them; False for float32 throughout.
        token_budget: tokens a forward pass of the model while collecting.
        save_dtype: of the weights on disk.
        seed: of initial weights, order and held-out tokens.
    """

    width: int = 4096
    k: int = 32
    architecture: Architecture = "batchtopk"
    epochs: float = 3.6
    batch_size: int = 2048
    lr: float = 1e-3
    warm_up: float = 0.05
    decay: float = 0.25
    skip: int = 1
    outlier: float = OUTLIER
    input_norm: Literal["unit", "sqrt_d"] | None = None
    sparsity: float = 1.0
    aux_coefficient: float = 1.0
    dead_tokens: int = 200_000
    fast: bool = True
    token_budget: int = 1024
    save_dtype: SaveDtype = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (("architecture", get_args(Architecture)), ("save_dtype", get_args(SaveDtype))):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} {getattr(self, name)!r} is not known; allowed: {', '.join(allowed)}")
        for name in ("width", "k", "epochs", "batch_size", "lr", "dead_tokens", "token_budget"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warm_up", "decay", "skip", "outlier", "sparsity", "aux_coefficient"):
            if getattr(self, name) < 0:
                raise OptionError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.warm_up + self.decay > 1:
            raise OptionError(
                f"warm_up and decay are shares of the steps and may not exceed 1 together, got {self.warm_up} and {self.decay}"
            )
        if self.input_norm not in (None, "unit", "sqrt_d"):
            raise OptionError(f"input_norm {self.input_norm!r} is not known; allowed: unit, sqrt_d")
        if self.k >= self.width:
            raise OptionError(f"k must be below the width {self.width}, got {self.k}")

    @property
    def is_topk(self) -> bool:
        return self.architecture in ("batchtopk", "topk")

    @property
    def scales_to_unit(self) -> bool:
        """Whether inputs are scaled to a mean norm of 1 (else √d_in)."""
        return self.is_topk if self.input_norm is None else self.input_norm == "unit"


@dataclass(frozen=True)
class TrainProgress:
    """Where a training run is. ``stage`` is collect (tokens), train (tokens) or export; ``metrics`` is what the log's last line says."""

    stage: Literal["collect", "train", "export"]
    done: int
    total: int
    metrics: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[TrainProgress], None]


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
        progress: called as the run goes on.
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
        raise DictionaryError(f"{out} holds something already: remove it, or choose another folder")
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
        metadata = _metadata(model, site, config, activations, dataset)
        device = torch.device("cuda" if model.device.type == "cuda" else "cpu")
        train_on(activations, config, partial / "dictionary", metadata, device, report)
        out.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial / "dictionary", out)
    except OSError as error:
        raise StoreError(f"cannot write the dictionary to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _metadata(model: SubjectModel, site: Site, config: TrainConfig, activations: Harvest, dataset: str) -> dict[str, Json]:
    """What the dictionary's configuration says of its making; the first names are SAELens' own."""
    return {
        "model_name": model.name,
        "hook_name": model.layer_path(site.layer),
        "model_class_name": type(model.hf).__name__,
        "context_size": activations.longest,
        "dataset_path": dataset or f"{activations.n_texts} texts",
        "harness_version": __version__,
        "harness_training": {"layer": site.layer, "distinct_tokens": activations.n, "texts": activations.n_texts, **asdict(config)},
    }


def train_on(
    activations: Harvest, config: TrainConfig, folder: Path, metadata: Mapping[str, Json], device: torch.device, progress: Progress
) -> None:
    """Train on collected activations and export to ``folder``. Arguments and errors as in :func:`train`."""
    from harness.sae.export import export

    folder.mkdir(parents=True, exist_ok=True)
    split = split_tokens(activations, config)
    scale = (1.0 if config.scales_to_unit else math.sqrt(activations.d)) / activations.mean_norm

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress(TrainProgress("train", done, total, metrics))

    sae = fit(activations, split, scale, config, metadata, folder / LOG_FILE, device, report)
    progress(TrainProgress("export", 0, 1))
    # alternately, since neighbours on disk come from one text and from texts of one length
    calibration, check = (activations.take(split.held_out[part::2]) for part in (0, 1))
    export(sae, folder, scale, config, calibration, check, L0_TOLERANCE)
    progress(TrainProgress("export", 1, 1))
