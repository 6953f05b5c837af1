"""What is added to the registries of ``sae_lens.synthetic``: log-uniform firing probabilities and log-normal magnitudes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.errors import OptionError, UnknownNameError
from harness.types import Json

PER = ("firing", "feature")


@cache
def register() -> None:
    """Enter ours beside SAELens' own, once (a function, since importing SAELens takes seconds)."""
    import torch
    from sae_lens.synthetic import FiringProbabilityConfig, MagnitudeConfig, register_firing_probability, register_magnitude

    @dataclass
    class LogUniformFiringProbabilityConfig(FiringProbabilityConfig):  # type: ignore[misc]
        """Probabilities whose logarithm is uniform between those of ``min_prob`` and ``max_prob``."""

        min_prob: float = 10**-5.5
        max_prob: float = 10**-1.2

        def __post_init__(self) -> None:
            if not 0 < self.min_prob <= self.max_prob <= 1:
                raise ValueError("0 < min_prob <= max_prob <= 1 must hold")

        @classmethod
        def generator_name(cls) -> str:
            return "log_uniform"

        def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
            low, high = math.log(self.min_prob), math.log(self.max_prob)
            drawn = torch.rand(num_features, generator=_generator(seed))
            return (low + (high - low) * drawn).exp()

    @dataclass
    class LogNormalMagnitudeConfig(MagnitudeConfig):  # type: ignore[misc]
        """Magnitudes whose logarithm is normal with mean ``mu`` and standard deviation ``sigma``."""

        mu: float = 0.0
        sigma: float = 0.25

        def __post_init__(self) -> None:
            if self.sigma < 0:
                raise ValueError("sigma must be at least 0")

        @classmethod
        def generator_name(cls) -> str:
            return "lognormal"

        def generate(self, num_features: int, seed: int | None = None) -> torch.Tensor:
            return (self.mu + self.sigma * torch.randn(num_features, generator=_generator(seed))).exp()

    def _generator(seed: int | None) -> torch.Generator:
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generator

    register_firing_probability("log_uniform", LogUniformFiringProbabilityConfig)
    register_magnitude("lognormal", LogNormalMagnitudeConfig)


def firing_of(given: Mapping[str, Json]) -> Any:
    """Return SAELens' configuration of firing probabilities. Raises UnknownNameError, OptionError."""
    register()
    from sae_lens.synthetic.registry import FIRING_PROB_REGISTRY

    return _made(FIRING_PROB_REGISTRY, given, "firing")


def magnitude_of(given: Json, what: str) -> Any:
    """Return a number, or SAELens' configuration of magnitudes that differ by feature. Raises UnknownNameError, OptionError."""
    register()
    from sae_lens.synthetic.registry import MAGNITUDE_REGISTRY

    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    if not isinstance(given, Mapping):
        raise OptionError(f"magnitudes.{what} is {given!r}", given=given, allowed="a number, or a table with a kind")
    return _made(MAGNITUDE_REGISTRY, given, f"magnitudes.{what}")


def settings(given: Mapping[str, Json], allowed: Mapping[str, Json], what: str) -> dict[str, Json]:
    """Return settings with defaults for those that are missing. Raises UnknownNameError for one that does not exist."""
    for name in given:
        if name not in allowed:
            raise UnknownNameError(f"setting of {what}", name, allowed)
    return {**allowed, **given}


def made(factory: Any, given: Mapping[str, Json], what: str) -> Any:
    """Return SAELens' configuration of ``given``. Raises OptionError with SAELens' reason."""
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        return factory(**values)
    except (TypeError, ValueError) as error:
        raise OptionError(f"{what} of [synthetic]: {error}", given=dict(given), hint="see docs/synthetic.md") from error


def _made(registry: Mapping[str, Any], given: Mapping[str, Json], what: str) -> Any:
    kind = given.get("kind")
    if kind not in registry:
        raise UnknownNameError(f"kind of {what}", str(kind), registry)
    return made(registry[str(kind)], {name: value for name, value in given.items() if name != "kind"}, what)
