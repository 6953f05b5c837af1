"""Training a dictionary: SAELens' training classes, activations of ours, exported as a folder that SAELens loads.

The road: collect the residual stream once (:mod:`harness.sae.harvest`), shuffle it anew in each epoch, train on inputs scaled to a common
norm, fold the scale into the weights, export. A BatchTopK dictionary is exported as JumpReLU with one threshold for all features. SAELens
takes a slow moving average of the batches' thresholds for it, which after a short training is far off; here the threshold is the exact one at
which held-out tokens have k active features on average, and it is checked on other held-out tokens.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness import __version__
from harness.contracts import Site
from harness.errors import DataError, DictionaryError, OptionError, StoreError
from harness.sae.harvest import Harvest, harvest
from harness.types import Json, rng

if TYPE_CHECKING:
    from harness.lm.model import SubjectModel

Architecture = Literal["batchtopk", "topk", "jumprelu", "standard"]
SaveDtype = Literal["float32", "bfloat16", "float16"]

LOG_FILE = "metrics.jsonl"
L0_TOLERANCE = 0.10
"""A BatchTopK dictionary whose L0 on held-out tokens is further than this from k is not handed out."""

_LOGS = 100
_HELD_OUT = 32_768


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. The defaults gave explained variance .82 at L0 32 and no dead feature on SmolLM2-135M, layer 15.

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
        outlier: tokens whose norm exceeds the mean by this factor are left out (a few tokens with enormous norms would own the squared error);
            0 keeps all.
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
    batch_size: int = 4096
    lr: float = 1e-3
    warm_up: float = 0.05
    decay: float = 0.25
    skip: int = 1
    outlier: float = 10.0
    input_norm: Literal["unit", "sqrt_d"] | None = None
    sparsity: float = 1.0
    aux_coefficient: float = 1 / 32
    dead_tokens: int = 400_000
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
        if self.k >= self.width:
            raise OptionError(f"k must be below the width {self.width}, got {self.k}")

    @property
    def is_topk(self) -> bool:
        return self.architecture in ("batchtopk", "topk")


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
        cache: where collected activations are kept for other runs on the same texts (2 bytes × width × tokens); by default they are deleted.
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
            token_budget=config.token_budget,
            advance=lambda done, total: report(TrainProgress("collect", done, total)),
        )
        metadata = {
            "model_name": model.name,
            "hook_name": model.layer_path(site.layer),
            "model_class_name": type(model.hf).__name__,
            "context_size": activations.longest,
            "dataset_path": dataset or f"{activations.n_texts} texts",
            "harness_version": __version__,
            "harness_training": {"layer": site.layer, "distinct_tokens": activations.n, "texts": activations.n_texts, **asdict(config)},
        }
        device = torch.device("cuda" if model.device.type == "cuda" else "cpu")
        train_on(activations, config, partial / "dictionary", metadata, device, report)
        out.parent.mkdir(parents=True, exist_ok=True)
        os.replace(partial / "dictionary", out)
    except OSError as error:
        raise StoreError(f"cannot write the dictionary to {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def train_on(
    activations: Harvest, config: TrainConfig, folder: Path, metadata: Mapping[str, Json], device: torch.device, progress: Progress
) -> None:
    """Train on collected activations and export to ``folder``. Arguments and errors as in :func:`train`."""
    from harness.sae.export import export

    folder.mkdir(parents=True, exist_ok=True)
    split = _split(activations, config)
    scale = (1.0 if _input_norm(config) == "unit" else activations.d**0.5) / split.mean_norm
    sae = _fit(activations, split, scale, config, metadata, folder / LOG_FILE, device, progress)
    progress(TrainProgress("export", 0, 1))
    calibration, check = np.array_split(split.held_out, 2)
    export(sae, folder, scale, config, activations.take(calibration), activations.take(check), L0_TOLERANCE)
    progress(TrainProgress("export", 1, 1))


# --------------------------------------------------------------------------------------------------------------------------------- data


@dataclass(frozen=True, eq=False)
class _Split:
    """Tokens to train on and tokens held out (indices), and the mean norm of the former."""

    training: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    mean_norm: float
    mean: Tensor


def _split(activations: Harvest, config: TrainConfig) -> _Split:
    """Leave outliers out, and hold some of the rest out for the threshold and its check."""
    norms = np.empty(activations.n, dtype=np.float32)
    total = torch.zeros(activations.d, dtype=torch.float64)
    step = 65_536
    for start in range(0, activations.n, step):
        index = np.arange(start, min(start + step, activations.n))
        norms[index] = activations.take(index).norm(dim=-1).numpy()
    # the median, because outliers can multiply the mean
    limit = config.outlier * float(np.median(norms)) if config.outlier else np.inf
    usual = np.flatnonzero(norms <= limit)
    n_held_out = min(_HELD_OUT, max(2, len(usual) // 20))
    if len(usual) - n_held_out < config.batch_size:
        raise DataError(
            f"{len(usual)} tokens to train on are fewer than one batch of {config.batch_size} and {n_held_out} held out: give more texts, "
            "or a smaller batch_size"
        )
    order = rng(config.seed, "sae-held-out").permutation(usual)
    training, held_out = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
    for start in range(0, len(training), step):
        total += activations.take(training[start : start + step]).sum(dim=0, dtype=torch.float64)
    return _Split(training, held_out, float(norms[training].mean(dtype=np.float64)), (total / len(training)).float())


def _batches(activations: Harvest, split: _Split, scale: float, config: TrainConfig) -> Iterator[Tensor]:
    """Batches without end, in an order of its own in each epoch; what an epoch leaves over begins the next one's first batch."""
    left = np.empty(0, dtype=np.int64)
    epoch = 0
    while True:
        order = np.concatenate([left, rng(config.seed, "sae-order", str(epoch)).permutation(split.training)])
        whole = len(order) - len(order) % config.batch_size
        for start in range(0, whole, config.batch_size):
            # sorted within the batch, where order means nothing, to read the disk forwards
            yield activations.take(np.sort(order[start : start + config.batch_size]), scale)
        left = order[whole:]
        epoch += 1


# ------------------------------------------------------------------------------------------------------------------------------ fitting


def _input_norm(config: TrainConfig) -> str:
    return config.input_norm or ("unit" if config.is_topk else "sqrt_d")


def _training_sae(d_in: int, mean: Tensor, config: TrainConfig, metadata: Mapping[str, Json], device: torch.device) -> Any:
    """A fresh SAELens training SAE: weights from the seed, the decoder's bias at the data's mean."""
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    from harness.sae.sparse_batchtopk import sparse_batchtopk_class

    options: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": config.width,
        "dtype": "float32",
        "device": str(device),
        "metadata": SAEMetadata(**metadata),
    }
    if config.is_topk:
        options |= {"k": config.k, "aux_loss_coefficient": config.aux_coefficient}
    elif config.architecture == "jumprelu":
        options |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": float(config.k), "l0_coefficient": config.sparsity}
    else:
        options |= {"l1_coefficient": config.sparsity}
    sae_class, config_class = registry.get_sae_training_class(config.architecture)
    if config.architecture == "batchtopk" and device.type == "cpu":
        sae_class = sparse_batchtopk_class()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # SAELens draws from the global generator
        torch.manual_seed(int(rng(config.seed, "sae-weights").integers(2**31)))
        sae = sae_class(config_class(**options))
    with torch.no_grad():
        sae.b_dec.copy_(mean)
    return sae


def _trainer(sae: Any, batches: Iterator[Tensor], n_tokens: int, config: TrainConfig, device: torch.device) -> Any:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    from harness.lm.devices import choose_dtype

    low = config.fast and choose_dtype(None, device) == torch.bfloat16
    sparse = hasattr(sae, "product_dtype")
    if sparse:
        sae.product_dtype = torch.bfloat16 if low else torch.float32
    steps = n_tokens // config.batch_size
    settings = SAETrainerConfig(
        total_training_samples=steps * config.batch_size,
        train_batch_size_samples=config.batch_size,
        lr=config.lr,
        lr_end=config.lr,
        lr_scheduler_name="constant",
        lr_warm_up_steps=min(steps - 1, max(2, round(config.warm_up * steps))) if config.warm_up and steps > 2 else 0,
        lr_decay_steps=round(config.decay * steps),
        device=str(device),
        autocast=low and not sparse,
        dead_feature_window=max(1, config.dead_tokens // config.batch_size),
        feature_sampling_window=steps + 1,
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(cfg=settings, sae=sae, data_provider=batches)
    for group in trainer.optimizer.param_groups:
        group["fused"] = True  # one pass over the weights instead of eight
    return trainer


def _fit(
    activations: Harvest,
    split: _Split,
    scale: float,
    config: TrainConfig,
    metadata: Mapping[str, Json],
    log: Path,
    device: torch.device,
    progress: Progress,
) -> Any:
    """SAELens' trainer, stepped by us: its own loop logs to a terminal, and its statistics of every step cost more than the step."""
    sae = _training_sae(activations.d, split.mean * scale, config, metadata, device)
    n_tokens = max(config.batch_size, round(config.epochs * len(split.training)))
    trainer = _trainer(sae, _batches(activations, split, scale, config), n_tokens, config, device)
    sparse = hasattr(sae, "product_dtype")
    total, every, began = trainer.cfg.total_training_steps, max(1, trainer.cfg.total_training_steps // _LOGS), time.monotonic()
    sae.train()
    with log.open("w", encoding="utf-8") as lines, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support|Sparse invariant checks")
        for step in range(1, total + 1):
            batch = next(trainer.data_provider)
            output = _sparse_step(trainer, batch) if sparse else trainer.step(batch)
            trainer.n_training_steps += 1
            if step % every == 0 or step == total:
                metrics = _metrics(trainer, output, step, time.monotonic() - began)
                lines.write(json.dumps(metrics) + "\n")
                lines.flush()
                progress(TrainProgress("train", step * config.batch_size, total * config.batch_size, metrics))
                if not np.isfinite(metrics["loss"]):
                    raise DictionaryError(f"the loss is not finite after {step} steps: try a learning rate below {config.lr}")
    sae.cfg.metadata.num_dead_features = int(trainer.dead_neurons.sum())
    return sae.eval()


def _sparse_step(trainer: Any, batch: Tensor) -> Any:
    """SAELens' training step for a SAE whose ``feature_acts`` are :class:`~harness.sae.sparse_batchtopk.Kept`."""
    from sae_lens.saes.sae import TrainStepInput

    trainer.n_training_samples += len(batch)
    step = TrainStepInput(
        sae_in=batch,
        coefficients=trainer.get_coefficients(),
        dead_neuron_mask=trainer.dead_neurons,
        n_training_steps=trainer.n_training_steps,
        is_logging_step=False,
    )
    output = trainer.sae.training_forward_pass(step_input=step)
    trainer.n_forward_passes_since_fired += 1
    trainer.n_forward_passes_since_fired[output.feature_acts.features] = 0
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(trainer.sae.parameters(), 1.0)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    trainer.lr_scheduler.step()
    return output


@torch.no_grad()
def _metrics(trainer: Any, output: Any, step: int, seconds: float) -> dict[str, float]:
    x, reconstruction = output.sae_in.float(), output.sae_out.float()
    acts = output.feature_acts
    active = (acts > 0).sum() if isinstance(acts, Tensor) else (acts.values > 0).sum()
    tokens = step * len(x)
    return {
        "step": step,
        "tokens": tokens,
        "loss": output.loss.item(),
        **{name: float(value) for name, value in output.losses.items()},
        "explained_variance": 1 - float((x - reconstruction).square().sum() / (x - x.mean(dim=0)).square().sum()),
        "l0": float(active) / len(x),
        "dead": int(trainer.dead_neurons.sum()),
        "lr": trainer.optimizer.param_groups[0]["lr"],
        "tokens_per_second": round(tokens / max(seconds, 1e-9)),
    }
