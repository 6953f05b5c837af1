"""Learning a low-rank edit of several layers for each concept (LoReFT; Wu et al. 2024, arXiv 2404.03592)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from harness.fitting.learner import Learner, Parameters
from harness.interventions import Site

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel


class LoreftLearner(Learner):
    """h + Rᵀ(W h + b − R h) after some layers, at the first and last tokens of the prompt; R's rows are kept orthonormal by a QR decomposition.

    R begins as a random rotation, W and b as a linear module does (uniform in ±1/√d_model).

    Args:
        model: the subject model.
        layers: whose outputs are edited.
        rank: of an edit.
        first: the first so many tokens of the prompt are edited.
        last: the last so many tokens of the prompt are edited.
    """

    def __init__(self, model: SubjectModel, layers: Sequence[int], rank: int, first: int, last: int) -> None:
        self.layers, self.rank, self.first, self.last, self.d_model = tuple(layers), rank, first, last, model.d_model
        self.after = min(layers)

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        import torch

        bound, found = 1 / math.sqrt(self.d_model), {}
        for layer in self.layers:
            found[f"R{layer}"] = rotation(torch.from_numpy(draw.standard_normal((self.rank, self.d_model))).float())
            found[f"W{layer}"] = torch.from_numpy(draw.uniform(-bound, bound, (self.rank, self.d_model))).float()
            found[f"b{layer}"] = torch.from_numpy(draw.uniform(-bound, bound, self.rank)).float()
        return found

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[None]:
        import torch

        from harness.model.streams import stream_of, with_stream
        from harness.steering.low_rank import low_rank

        place = torch.arange(batch.tokens.shape[1], device=batch.tokens.device)
        prompt = (batch.real & ~batch.answer).sum(dim=1, keepdim=True)
        touched = batch.real & ~batch.answer & ((place < self.first) | (place >= prompt - self.last))

        def edited(layer: int) -> Any:
            own = [torch.stack([one[f"{name}{layer}"] for one in parameters]) for name in "RWb"]
            r, w, b = rotation(own[0])[batch.owner], own[1][batch.owner], own[2][batch.owner]

            def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
                x = stream_of(output, len(batch.tokens))
                found = low_rank(x.to(r.dtype), r, w, b)
                return with_stream(output, torch.where(touched[..., None], found.to(x.dtype), x))

            return hook

        with ExitStack() as stack:
            for layer in self.layers:
                stack.callback(model.stream_module(Site(layer)).register_forward_hook(edited(layer)).remove)
            yield

    def settle(self, parameters: Parameters) -> None:
        """Keep what R is made of near to R itself, so that no direction of it runs away."""
        for layer in self.layers:
            parameters[f"R{layer}"].copy_(rotation(parameters[f"R{layer}"]))


def rotation(x: torch.Tensor) -> torch.Tensor:
    """Return rows of the same span that are orthonormal, ``[…, rank, d_model]``; rows that are orthonormal stay as they are."""
    import torch

    q, r = torch.linalg.qr(x.mT)
    found: torch.Tensor = (q * torch.diagonal(r, dim1=-2, dim2=-1).sign()[..., None, :]).mT
    return found
