"""Learning one vector for each concept, which acts on a stream at one site."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.fitting.learner import Learner, Parameters
from harness.interventions import Site

if TYPE_CHECKING:
    import numpy as np
    import torch

    from harness.fitting.batches import Batch
    from harness.model.loading import SubjectModel

VECTOR = "vector"
"""Name of the parameter."""


class VectorLearner(Learner):
    """Base of methods that learn a vector for each concept, ``[d_model]``. A subclass says in :meth:`edited` how it acts on the stream.

    The vector begins as a random direction of length ``length``, by (seed, concept).

    Args:
        model: the subject model.
        site: where the vector acts.
        length: of the first vector.

    Raises:
        ModelError: the model has no such site.
    """

    def __init__(self, model: SubjectModel, site: Site, length: float = 1.0) -> None:
        from harness.engine.shared import last_common_layer

        model.stream_module(site)
        self.site, self.length, self.d_model = site, length, model.d_model
        self.after = last_common_layer(model, [site])

    def start(self, concept: str, draw: np.random.Generator) -> dict[str, torch.Tensor]:
        import numpy as np
        import torch

        direction = draw.standard_normal(self.d_model)
        return {VECTOR: torch.from_numpy(self.length * direction / np.linalg.norm(direction)).float()}

    @abstractmethod
    def edited(self, x: torch.Tensor, rows: Mapping[str, torch.Tensor], batch: Batch, seen: dict[str, Any]) -> torch.Tensor:
        """Return the stream with the vectors at work; only counted tokens (behind what all prompts share) get the new values.

        Args:
            x: ``[rows, tokens, d_model]``, float32 or more.
            rows: each row's own parameters, ``[rows, …]``.
            batch: the rows.
            seen: what is put there, :meth:`losses` gets.
        """

    @contextmanager
    def worn(self, model: SubjectModel, parameters: Sequence[Parameters], batch: Batch) -> Iterator[dict[str, Any]]:
        import torch

        from harness.model.streams import stream_of, with_stream

        rows = {name: torch.stack([one[name] for one in parameters])[batch.owner] for name in parameters[0]}
        seen: dict[str, Any] = {}

        def hook(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
            x = stream_of(output, len(batch.tokens))
            found = self.edited(x.to(torch.promote_types(x.dtype, torch.float32)), rows, batch, seen)
            return with_stream(output, torch.where(batch.counted[..., None], found.to(x.dtype), x))

        handle = model.stream_module(self.site).register_forward_hook(hook)
        try:
            yield seen
        finally:
            handle.remove()
