"""Learning a LoRA adapter for each concept (Hu et al. 2021, arXiv 2106.09685; rsLoRA: Kalajdzievski 2023, arXiv 2312.03732).

The adapters of many concepts are trained in one batch: each row of a forward pass has its own concept's. What is learnt is written in peft's format.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.fitting.learner import Learner, Parameters

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel

A, B = "A", "B"
"""What a concept learns at each module: y + scale · B A x; A is ``[rank, in]``, B ``[out, rank]``."""


class LoraLearner(Learner):
    """Adapters at some modules of the model. As peft's: A begins uniform in ±1/√in, B at 0, so the model begins as it is; dropout is on A's input.

    Args:
        model: the subject model.
        modules: names of linear modules by layer.
        rank: of an adapter.
        alpha: the scale is alpha / √rank (rank-stabilised), or alpha / rank.
        stabilised: which of the two.
        dropout: share of A's inputs that are dropped in training, by (seed, concept, step, example).
    """

    def __init__(self, model: SubjectModel, modules: Mapping[int, str], rank: int, alpha: float, stabilised: bool, dropout: float) -> None:
        self.modules, self.rank, self.dropout = dict(modules), rank, dropout
        self.scale = alpha / (math.sqrt(rank) if stabilised else rank)
        self._shapes = {layer: _in_and_out(model.hf.get_submodule(name)) for layer, name in modules.items()}
        self.after = min(modules) - 1  # an adapter acts within its layer: what comes before that layer is the model's own

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        import torch

        found = {}
        for layer, (n_in, n_out) in self._shapes.items():
            bound = 1 / math.sqrt(n_in)
            found[f"{A}{layer}"] = torch.from_numpy(draw.uniform(-bound, bound, (self.rank, n_in))).float()
            found[f"{B}{layer}"] = torch.zeros(n_out, self.rank)
        return found

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[None]:
        import torch

        rows = {name: torch.stack([one[name] for one in parameters])[batch.owner] for name in parameters[0]}
        handles = []

        def adapted(layer: int) -> Any:
            def hook(module: torch.nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
                a, b = rows[f"{A}{layer}"], rows[f"{B}{layer}"]
                x = self._dropped(arguments[0].to(a.dtype), batch, layer)
                added = torch.einsum("btr,bor->bto", torch.einsum("bti,bri->btr", x, a), b)
                found: torch.Tensor = output + (self.scale * added).to(output.dtype)
                return found

            return hook

        try:
            for layer, name in self.modules.items():
                handles.append(model.hf.get_submodule(name).register_forward_hook(adapted(layer)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _dropped(self, x: torch.Tensor, batch: Batch, layer: int) -> torch.Tensor:
        """Return A's input with some of it dropped, in training: each example by draws of its own, whatever stands beside it."""
        import torch

        if not self.dropout or not batch.training:
            return x
        kept = torch.ones_like(x)
        lengths = batch.real.sum(dim=1).tolist()
        for example in range(len(batch.asked)):
            draw = batch.rng(example, f"dropout {layer}")
            for row in range(example * batch.rows_each, (example + 1) * batch.rows_each):
                keep = draw.random((lengths[row], x.shape[-1]), dtype="float32") >= self.dropout
                kept[row, : lengths[row]] = torch.from_numpy(keep).to(x.device, x.dtype)
        return x * kept / (1 - self.dropout)

    def save(self, folder: Path, parameters: Mapping[str, np.ndarray[Any, Any]], alpha: float, stabilised: bool, model: SubjectModel) -> None:
        """Write one concept's adapter to ``folder`` in peft's format."""
        import numpy as np
        from peft import LoraConfig
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = LoraConfig(
            r=self.rank, lora_alpha=alpha, lora_dropout=self.dropout, use_rslora=stabilised, target_modules=sorted(self.modules.values()),
            bias="none", task_type="CAUSAL_LM", base_model_name_or_path=model.name, inference_mode=True,
        )  # fmt: skip
        config.save_pretrained(str(folder))
        tensors = {}
        for layer, name in self.modules.items():
            for part, weight in ((A, "lora_A"), (B, "lora_B")):
                tensors[f"base_model.model.{name}.{weight}.weight"] = np.ascontiguousarray(parameters[f"{part}{layer}"], dtype=np.float32)
        save_file(tensors, str(folder / "adapter_model.safetensors"))


def _in_and_out(module: Any) -> tuple[int, int]:
    """Return the width of a linear module's input and output; transformers' Conv1D keeps them the other way round."""
    shape = tuple(module.weight.shape)
    return (shape[0], shape[1]) if type(module).__name__ == "Conv1D" else (shape[1], shape[0])
