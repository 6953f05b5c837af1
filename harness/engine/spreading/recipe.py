"""What a worker builds its engine from: the driver's model and engine by their sources, not by their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from harness.engine.base import Engine
from harness.errors import EngineError, ModelError
from harness.types import Json

if TYPE_CHECKING:
    import torch

    from harness.model.loading import SubjectModel

_EMBEDDED = "embedded "


@runtime_checkable
class Portable(Engine, Protocol):
    """An engine that can be opened again in another process, with the same model."""

    model: SubjectModel

    @property
    def settings(self) -> Mapping[str, Json]:
        """Return what :func:`harness.engine.choice.open_engine` is given beside the model and the name."""
        ...


@dataclass(frozen=True)
class NoModel:
    """What stands in an engine's place where there is no language model, as on a task of synthetic activations; driver and workers have it.

    Attributes:
        device: where vectors are.
    """

    device: torch.device
    model: None = None
    name: str = "none"


@dataclass(frozen=True)
class Recipe:
    """An engine, as another process opens it.

    Attributes:
        source: the model's folder, embedded name or hub name.
        revision: of a hub name the commit that the driver has.
        dtype: of its weights.
        digest: of its weights: what a worker has loaded must have the same.
        home: the driver's device. Tensors that lie there lie on the worker's own device afterwards.
        engine: the engine's name; that of :class:`NoModel` for none.
        settings: see :class:`Portable`.
        devices: over how many devices its layers are spread.
    """

    source: str
    revision: str | None
    dtype: str
    digest: str
    home: str
    engine: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    devices: int = 1

    def load(self, device: torch.device | str) -> SubjectModel:
        """Return the model, on the worker's device.

        Raises:
            ModelError: it cannot be loaded, or its weights are not those of the driver.
        """
        from harness.model.loading import load_model

        model = load_model(self.source, device=device, dtype=self.dtype, revision=self.revision)
        if model.digest != self.digest:
            message = f"a worker has loaded {self.source} with other weights than the driver: {model.digest}"
            raise ModelError(message, given=model.digest, allowed=self.digest, hint="give all machines the same files")
        return model

    def open(self, device: torch.device | str) -> Engine | NoModel:
        """Return the engine. Raises ModelError as :meth:`load`."""
        from harness.engine.choice import open_engine

        if self.engine == NoModel.name:
            from harness.model.devices import choose_device

            return NoModel(choose_device(str(device)))
        return open_engine(self.load(device), self.engine, **self.settings)


Opener = Callable[[Recipe, str], "Engine | NoModel"]
"""Opens a recipe on a device; defined in a module, since workers are told its name."""


def open_plainly(recipe: Recipe, device: str) -> Engine | NoModel:
    """Return the recipe's engine."""
    return recipe.open(device)


def recipe_of(engine: Engine | NoModel) -> Recipe:
    """Return how another process opens an engine like this one.

    Raises:
        EngineError: it cannot: the engine works elsewhere, or its model was not loaded from files.
    """
    hint = "leave --executor out"
    if isinstance(engine, NoModel):
        return Recipe("", None, "float32", "", str(engine.device), engine.name)
    if not isinstance(engine, Portable):
        raise EngineError(f"the engine {engine.name} cannot be spread over workers", given=engine.name, hint=hint)
    model = engine.model
    if not model.digest or not model.source:
        raise EngineError(f"{model.name} was not loaded from files, so workers cannot load it", given=model.name, hint=hint)
    source, revision = model.source, None
    if source.startswith(_EMBEDDED):
        source = source.removeprefix(_EMBEDDED)
    elif "@" in source and source.rpartition("@")[0] == model.name:
        source, _, revision = source.rpartition("@")
    dtype = str(model.dtype).removeprefix("torch.")
    return Recipe(source, revision, dtype, model.digest, str(model.device), engine.name, dict(engine.settings), len(model.devices))
