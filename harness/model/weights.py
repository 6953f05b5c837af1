"""All weights of a model, trained anew and kept in a folder: the model computes with them within a context, and with its own outside of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import EngineError
from harness.files.inputs import Input
from harness.files.json_text import read_json
from harness.files.shards import replace_file

if TYPE_CHECKING:
    import torch

    from harness.model.loading import SubjectModel

DESCRIPTION, TENSORS = "weights.json", "weights.safetensors"
KIND, VERSION = "all weights of a model", 1
_AGAIN = "train the weights again on this model"
_SHOWN = 3

Weights = Mapping[str, "torch.Tensor"]
"""Tensors by the names of the model's parameters."""


def own_weights(model: SubjectModel) -> dict[str, torch.nn.Parameter]:
    """Return a model's parameters by name; one that several modules share comes once, under the first of its names."""
    return dict(model.hf.named_parameters())


def bytes_of(model: SubjectModel) -> int:
    """Return how many bytes a model's weights take."""
    return sum(weight.numel() * weight.itemsize for weight in own_weights(model).values())


@contextmanager
def computing_with(model: SubjectModel, weights: Weights) -> Iterator[None]:
    """Within the context modules compute with these tensors, through which gradients flow; their own parameters stand in their places afterwards.

    Args:
        model: the subject model.
        weights: for all of :func:`own_weights`, of their shapes.
    """
    by_place = {id(parameter): weights[name] for name, parameter in own_weights(model).items()}
    places = [
        (module._parameters, name, parameter)
        for module in model.hf.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    try:
        for members, name, parameter in places:
            members[name] = by_place[id(parameter)]
        yield
    finally:
        for members, name, parameter in places:
            members[name] = parameter


def save_weights(model: SubjectModel, folder: Path, weights: Weights) -> None:
    """Write weights to ``folder``, each in the number format of the model's own, with a description beside them.

    Args:
        model: whose weights they stand for.
        folder: made where it is not there.
        weights: for all of :func:`own_weights`.

    Raises:
        StoreError: the disk is full or cannot be written.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: weights[name].detach().to("cpu", own.dtype).contiguous() for name, own in own_weights(model).items()}
    replace_file(folder / TENSORS, save(tensors))
    description = {"kind": KIND, "version": VERSION, "model": model.name, "tensors": len(tensors), "bytes": bytes_of(model)}
    replace_file(folder / DESCRIPTION, json.dumps(description, indent=1).encode())


def holds_weights(folder: str) -> bool:
    """Return whether a folder is one of :func:`save_weights`."""
    return (Path(folder) / DESCRIPTION).exists()


def check_weights(folder: str) -> None:
    """Raise EngineError for a folder whose description is not one of weights. The weights are not read."""
    path = Path(folder) / DESCRIPTION
    found = read_json(path, Input("description of weights", EngineError, "train them again"))
    stated = (found.get("kind"), found.get("version")) if isinstance(found, dict) else (None, None)
    if stated != (KIND, VERSION):
        message = f"{path} describes {stated[0]!r} of version {stated[1]!r}"
        raise EngineError(message, given=str(path), allowed=f"{KIND!r} of version {VERSION}", hint="train them again")
    if not (Path(folder) / TENSORS).is_file():
        raise EngineError(f"the folder of weights {folder} has no {TENSORS}", given=folder, hint="train them again")


class WholeWeights:
    """Weights of :func:`save_weights` in memory, for one model; see :class:`harness.model.adapters.Adapter`.

    Args:
        model: whose parameters get other values within :meth:`worn`.
        folder: of the weights.

    Raises:
        EngineError: the folder holds none, or those of another model.
    """

    def __init__(self, model: SubjectModel, folder: str) -> None:
        check_weights(folder)
        own = own_weights(model)
        found = _read(folder)
        if set(found) != set(own):
            names = sorted(set(found) ^ set(own))
            what = f"{', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}: in one of the two only"
            raise EngineError(f"the weights in {folder} do not fit {model.name} ({what})", given=folder, hint=_AGAIN)
        for name, parameter in own.items():
            if found[name].shape != parameter.shape or found[name].dtype != parameter.dtype:
                given, wanted = _shown(found[name]), _shown(parameter)
                message = f"the weights in {folder} do not fit {model.name} ({name} is {given} in place of {wanted})"
                raise EngineError(message, given=given, allowed=wanted, hint=_AGAIN)
        self._pairs = [(parameter, found[name].to(parameter.device)) for name, parameter in own.items()]

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Within the context the model's parameters have these values; they have their own afterwards, whatever happened."""
        own = [parameter.data for parameter, _ in self._pairs]
        try:
            for parameter, value in self._pairs:
                parameter.data = value
            yield
        finally:
            for (parameter, _), value in zip(self._pairs, own, strict=True):
                parameter.data = value


def _read(folder: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    try:
        found: dict[str, torch.Tensor] = load_file(Path(folder) / TENSORS)
    except Exception as error:  # safetensors' own error has no common root with the system's
        detail = " ".join(str(error).split())[:300]
        raise EngineError(f"the weights in {folder} cannot be read ({detail})", given=folder, hint="train them again") from error
    return found


def _shown(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
