"""The training loop behind :func:`harness.sae.training.train.train`: what is held out, the order, SAELens' trainer stepped by us, the log."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from harness.errors import DataError, DictionaryError
from harness.files.json_output import json_text
from harness.sae.training.activations import Harvest
from harness.sae.training.checkpoint import CHECKPOINT_FILE, Checkpoint
from harness.sae.training.config import TrainProgress
from harness.types import Json, rng

if TYPE_CHECKING:
    from harness.sae.dictionary import Dictionary
    from harness.sae.training.config import TrainConfig

_LOGS = 100
_AUX_STRIDE = 8
_HELD_OUT = 32_768
_SLICE = 65_536


@dataclass(frozen=True, eq=False)
class Split:
    """Tokens to train on and tokens held out (indices), and the mean vector of the former."""

    training: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.int64]
    mean: Tensor


def tokens_of_training(config: TrainConfig, n: int) -> int:
    """Return how many tokens, in whole batches, a training goes through that has ``n``, some of which are held out."""
    return max(config.batch_size, round(config.epochs * (n - _n_held_out(n)))) // config.batch_size * config.batch_size


def _n_held_out(n: int) -> int:
    return min(_HELD_OUT, max(2, n // 10))


def with_held_out(n: int) -> int:
    """Return how many tokens there must be for ``n`` to be left to train on."""
    return n + min(_HELD_OUT, -(-n // 9))


def split_tokens(activations: Harvest, config: TrainConfig) -> Split:
    """Hold some tokens out, for a BatchTopK dictionary's threshold and for what the export reports."""
    n_held_out = _n_held_out(activations.n)
    if activations.n - n_held_out < config.batch_size:
        raise DataError(
            f"there are {activations.n} tokens to train on",
            given=activations.n,
            allowed=f"at least one batch of {config.batch_size} and {n_held_out} held out",
            hint="give more texts, or a smaller batch_size",
        )
    order = rng(config.seed, "sae-held-out").permutation(activations.n)
    training, held_out = np.sort(order[n_held_out:]), np.sort(order[:n_held_out])
    total = torch.zeros(activations.d, dtype=torch.float64)
    for start in range(0, len(training), _SLICE):
        total += activations.take(training[start : start + _SLICE]).sum(dim=0, dtype=torch.float64)
    return Split(training, held_out, (total / len(training)).float())


def batches(activations: Harvest, split: Split, scale: float, config: TrainConfig, done: int = 0) -> Iterator[Tensor]:
    """Yield batches without end, in an order of its own in each epoch; what an epoch leaves over begins the next one's first batch.

    The first ``done`` are left out, unread.
    """
    left = np.empty(0, dtype=np.int64)
    epoch = 0
    while True:
        order = np.concatenate([left, rng(config.seed, "sae-order", str(epoch)).permutation(split.training)])
        full_batches = len(order) - len(order) % config.batch_size
        for start in range(0, full_batches, config.batch_size):
            if done:
                done -= 1
                continue
            # sorted within the batch, where order means nothing, to read the disk forwards
            yield activations.take(np.sort(order[start : start + config.batch_size]), scale)
        left = order[full_batches:]
        epoch += 1


def covariance(activations: Harvest, split: Split) -> Tensor:
    """Return the covariance of the training tokens, ``[d_in, d_in]`` float64."""
    total = torch.zeros(activations.d, activations.d, dtype=torch.float64)
    for start in range(0, len(split.training), _SLICE):
        x = activations.take(split.training[start : start + _SLICE]) - split.mean
        total += (x.T @ x).double()
    return total / len(split.training)


def initial_sae(d_in: int, mean: Tensor, config: TrainConfig, metadata: Mapping[str, Json], device: torch.device) -> Any:
    """Return a fresh SAELens training SAE: weights from the seed, the decoder's bias at the data's mean."""
    from sae_lens import registry
    from sae_lens.saes.sae import SAEMetadata

    from harness.sae.training.sparse_batchtopk import reviving_class, sparse_batchtopk_class

    options: dict[str, Any] = {
        "d_in": d_in,
        "d_sae": config.width,
        "decoder_init_norm": config.decoder_init_norm,
        "dtype": "float32",
        "device": str(device),
        "metadata": SAEMetadata(**metadata),
    }
    if config.is_topk:
        # a frozen encoder stays as it was drawn: rescaled, its columns would have the decoder's norms as trained factors
        rescale = config.control != "frozen-encoder"
        options |= {"k": config.k, "aux_loss_coefficient": config.aux_coefficient, "rescale_acts_by_decoder_norm": rescale}
        if config.architecture == "matryoshka":
            options["matryoshka_widths"] = list(config.levels)
    elif config.architecture == "jumprelu":
        options |= {"jumprelu_sparsity_loss_mode": "quadratic", "target_l0": float(config.k), "l0_coefficient": config.sparsity}
    else:
        options |= {"l1_coefficient": config.sparsity}
    name = "matryoshka_batchtopk" if config.architecture == "matryoshka" else config.architecture
    sae_class, config_class = registry.get_sae_training_class(name)
    if config.is_topk:
        sparse = config.architecture == "batchtopk" and device.type == "cpu"
        sae_class = sparse_batchtopk_class() if sparse else reviving_class(sae_class)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):  # SAELens draws from the global generator
        torch.manual_seed(int(rng(config.seed, "sae-weights").integers(2**31)))
        sae = sae_class(config_class(**options))
    with torch.no_grad():
        sae.b_dec.copy_(mean)
    return sae


def _random_part(sae: Any, activations: Harvest, split: Split, config: TrainConfig) -> Callable[[], None]:
    """Give a control its random part; returns what is to be done after each step."""
    from harness.sae.training.frozen import impose, random_part

    if config.control == "none":
        return lambda: None
    spread = covariance(activations, split) if config.random_rows == "covariance" else None
    return impose(sae, config, random_part(config, activations.d, spread))


def _trainer(sae: Any, batches: Iterator[Tensor], n_tokens: int, config: TrainConfig, device: torch.device) -> Any:
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    from harness.model.devices import choose_dtype

    low = config.fast and choose_dtype(None, device) == torch.bfloat16
    sparse = hasattr(sae, "product_dtype")
    if sparse:
        sae.product_dtype = torch.bfloat16 if low else torch.float32
        sae.aux_stride = _AUX_STRIDE if config.fast else 1
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


def fit(
    activations: Harvest,
    split: Split,
    scale: float,
    config: TrainConfig,
    metadata: Mapping[str, Json],
    log: Path,
    device: torch.device,
    begin: Callable[[Any], None] | None = None,
    after: Callable[[int, Any], None] | None = None,
) -> Generator[TrainProgress, None, Any]:
    """Return the trained SAE: SAELens' trainer, stepped by us, since its own loop logs to a terminal and its statistics cost more than the step.

    Yields the progress whenever the log gets a line. Now and then its state is kept beside ``log``; a training that finds one there goes on from
    it, to the same weights. ``begin`` is called with the fresh SAE and may change its weights; ``after`` is called after each step with the tokens
    so far and the SAE.
    """
    sae = initial_sae(activations.d, split.mean * scale, config, metadata, device)
    after_step = _random_part(sae, activations, split, config)
    if begin is not None:
        begin(sae)
    trainer = _trainer(sae, iter(()), tokens_of_training(config, activations.n), config, device)
    checkpoint = Checkpoint(log.with_name(CHECKPOINT_FILE), trainer, {"activations": activations.folder.name, **config.identity})
    seconds = checkpoint.restore()
    done = trainer.n_training_steps
    trainer.data_provider = batches(activations, split, scale, config, done)
    sparse = hasattr(sae, "product_dtype")
    total, every, began = trainer.cfg.total_training_steps, max(1, trainer.cfg.total_training_steps // _LOGS), time.monotonic() - seconds
    _cut_log(log, done)
    sae.train()
    with log.open("a", encoding="utf-8") as lines, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support|Sparse invariant checks")
        for step in range(done + 1, total + 1):
            batch = next(trainer.data_provider)
            output = _sparse_step(trainer, batch) if sparse else trainer.step(batch)
            trainer.n_training_steps += 1
            after_step()
            if after is not None:
                after(step * config.batch_size, sae)
            if step % every == 0 or step == total:
                metrics = _metrics(trainer, output, step, time.monotonic() - began)
                lines.write(json_text(metrics) + "\n")
                lines.flush()
                yield TrainProgress("train", step * config.batch_size, total * config.batch_size, metrics)
                if not np.isfinite(metrics["loss"]):
                    checkpoint.remove()
                    hint = f"try a learning rate below {config.lr}"
                    raise DictionaryError(f"the loss is not finite after {step} steps", given=step, hint=hint)
                checkpoint.save_if_due(time.monotonic() - began)
    sae.cfg.metadata.num_dead_features = int(trainer.dead_neurons.sum())
    return sae.eval()


def _cut_log(log: Path, step: int) -> None:
    """Leave the lines up to a step in the log."""
    lines = log.read_text(encoding="utf-8").splitlines() if step and log.is_file() else []
    kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= step]
    log.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def _sparse_step(trainer: Any, batch: Tensor) -> Any:
    """Return SAELens' training step for a SAE whose ``feature_acts`` are :class:`~harness.sae.training.sparse_batchtopk.Kept`."""
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


# ------------------------------------------------------------------------------------------------------- trainings beside a finished one


def config_of(recipe: Mapping[str, Json]) -> TrainConfig | None:
    """Return the settings that a dictionary's recipe holds; None for one of another kind (a control's, another program's)."""
    from dataclasses import fields

    from harness.sae.training.config import TrainConfig

    known = {field.name for field in fields(TrainConfig)}
    if not {"width", "architecture", "lr"} <= recipe.keys():
        return None
    return TrainConfig(**{name: value for name, value in recipe.items() if name in known})


def initial_rows(d_in: int, config: TrainConfig, seed: int) -> Tensor:
    """Return the decoder rows that a training with this seed would begin with, at unit length, float32 ``[width, d_in]``."""
    from dataclasses import replace

    rows: Tensor = initial_sae(d_in, torch.zeros(d_in), replace(config, seed=seed), {}, torch.device("cpu")).W_dec.detach()
    scaled: Tensor = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return scaled


@torch.no_grad()
def take_over(dictionary: Dictionary, sae: Any, scale: float) -> None:
    """Give the first latents of a training SAE, whose inputs are multiplied by ``scale``, the weights of an exported dictionary.

    Exporting folds the scale, and in the TopK family the decoder's norms, into the weights; here both are taken out again.
    """
    own, n = dictionary.sae, dictionary.d_sae
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        norm, length = float(sae.W_dec.norm(dim=-1).mean()), own.W_dec.norm(dim=-1)
        sae.W_enc[:, :n] = own.W_enc * length / norm
        sae.b_enc[:n] = own.b_enc * length * scale / norm
        sae.W_dec[:n] = own.W_dec / length.unsqueeze(-1) * norm
    else:
        sae.W_enc[:, :n] = own.W_enc / scale
        sae.b_enc[:n] = own.b_enc
        sae.W_dec[:n] = own.W_dec * scale
        if hasattr(own, "threshold") and hasattr(sae, "threshold"):
            sae.threshold[:n] = own.threshold
    sae.b_dec.copy_(own.b_dec * scale)
