"""Draws from a synthetic source: SAELens' generator, called for blocks of samples, so that a sample depends on its number and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from harness.errors import OptionError, UnknownNameError
from harness.sae.synthetic.config import SyntheticConfig
from harness.sae.synthetic.registered import PER, firing_of, made, magnitude_of, settings
from harness.types import Json, rng

BLOCK = 1024
"""Samples that the generator draws together. All of a block are drawn where one is asked for."""


@dataclass(frozen=True)
class Samples:
    """Some samples of a source: what texts are to a language model.

    Attributes:
        part: ``train``, or another name; each part has draws of its own.
        start: number of the first.
        stop: number after the last.
    """

    part: str
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


class SyntheticSource:
    """A source of activations with known features.

    Args:
        config: what it is.
        n_samples: of the part ``train``, so many are trained on.
        device: where vectors are handed out; they are drawn on the CPU, so that they are the same everywhere.

    Raises:
        UnknownNameError, OptionError: a kind of firing or magnitudes that does not exist, or settings that it does not have.
    """

    def __init__(self, config: SyntheticConfig, n_samples: int = 2_000_000, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.n_samples = n_samples
        self.device = torch.device(device)
        self._sigma: tuple[float, float] | None = None
        with torch.random.fork_rng(devices=[]):
            self._model = self._made()

    @property
    def digest(self) -> str:
        """Identifies the samples."""
        return self.config.digest

    @property
    def title(self) -> str:
        """For people, in the place of a model's name."""
        return self.config.title

    @cached_property
    def truth(self) -> Tensor:
        """Return the true features, unit vectors, float32 ``[features, dims]``."""
        found: Tensor = self._model.feature_dict.feature_vectors.detach().float().clone()
        return found.to(self.device)

    @cached_property
    def probabilities(self) -> Tensor:
        """Return how often each feature is drawn to fire, float32 ``[features]``; a hierarchy lets children fire less often than that."""
        found: Tensor = self._model.activation_generator.firing_probabilities
        return found.float().clone()

    def draw(self, samples: Samples) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the number of a first sample, vectors ``[n, dims]`` and feature activations ``[n, features]``, float32, a block or less at a time."""
        for block in range(samples.start // BLOCK, -(-samples.stop // BLOCK)):
            first = block * BLOCK
            kept = slice(max(0, samples.start - first), min(BLOCK, samples.stop - first))
            acts = self._block(samples.part, block)[kept]
            with torch.no_grad():
                x: Tensor = self._model.feature_dict(acts)
            yield first + kept.start, x.to(self.device), acts.to(self.device)

    def vectors(self, samples: Samples) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of a first sample and vectors ``[n, dims]``, float32, a block or less at a time."""
        for first, x, _ in self.draw(samples):
            yield first, x

    # -- inside

    def _block(self, part: str, number: int) -> Tensor:
        """Return activations ``[BLOCK, features]``, drawn from SAELens' generator with a seed of the block's own."""
        seed = int(rng(self.config.seed, f"synthetic {part}", str(number)).integers(2**62))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            acts: Tensor = self._model.activation_generator.sample(BLOCK)
        return acts

    def _made(self) -> Any:
        """Return SAELens' model of the settings."""
        from sae_lens.synthetic import (
            ActivationGenerator,
            HierarchyConfig,
            LowRankCorrelationConfig,
            OrthogonalizationConfig,
            SyntheticModel,
            SyntheticModelConfig,
        )

        given = self.config
        mean, std = self._magnitudes(given.magnitudes)
        config = SyntheticModelConfig(
            num_features=given.features,
            hidden_dim=given.dims,
            firing_probability=firing_of(given.firing),
            hierarchy=None if given.hierarchy is None else made(HierarchyConfig, given.hierarchy, "hierarchy"),
            orthogonalization=OrthogonalizationConfig(num_steps=given.orthogonalize) if given.orthogonalize else None,
            correlation=None if given.correlation is None else made(LowRankCorrelationConfig, given.correlation, "correlation"),
            mean_firing_magnitudes=mean,
            std_firing_magnitudes=std,
            bias=given.bias if given.bias else False,
            seed=int(rng(given.seed, "synthetic-features").integers(2**31)),
        )
        model = SyntheticModel(config)
        if self._sigma is not None:  # each firing is scaled, and then gated by a hierarchy as SAELens' own magnitudes are
            plain: ActivationGenerator = model.activation_generator
            gate = plain.modify_activations
            model.activation_generator = ActivationGenerator(
                num_features=given.features,
                firing_probabilities=plain.firing_probabilities,
                std_firing_magnitudes=0.0,
                mean_firing_magnitudes=plain.mean_firing_magnitudes,
                modify_activations=[self._scaled, *([gate] if gate is not None else [])],
                correlation_matrix=model.correlation_matrix,
            )
        return model

    def _magnitudes(self, given: Mapping[str, Json]) -> tuple[Any, Any]:
        """Return SAELens' mean and standard deviation of magnitudes; log-normal ones of each firing are made from firings of 1."""
        kind = given.get("kind")
        own = {name: value for name, value in given.items() if name != "kind"}
        if kind == "normal":
            found = settings(own, {"mean": 1.0, "std": 0.0}, "normal magnitudes")
            return magnitude_of(found["mean"], "mean"), magnitude_of(found["std"], "std")
        if kind != "lognormal":
            raise UnknownNameError("kind of magnitudes", str(kind), ("lognormal", "normal"))
        found = settings(own, {"mu": 0.0, "sigma": 0.25, "per": "firing"}, "lognormal magnitudes")
        if found["per"] not in PER:
            raise OptionError(f"magnitudes.per is {found['per']!r}", given=found["per"], allowed=PER)
        checked = magnitude_of({"kind": "lognormal", "mu": found["mu"], "sigma": found["sigma"]}, "lognormal")
        if found["per"] == "feature":
            return checked, 0.0
        self._sigma = (float(checked.mu), float(checked.sigma))
        return 1.0, 0.0

    def _scaled(self, acts: Tensor) -> Tensor:
        """Return activations with a log-normal factor at each firing."""
        assert self._sigma is not None
        mu, sigma = self._sigma
        fired = acts.nonzero(as_tuple=True)
        acts[fired] *= (mu + sigma * torch.randn(len(fired[0]))).exp()
        return acts
