"""Trained adapters (LoRA and its like, in peft's format), or all weights: a model wears one within a context, and is as it was outside of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from harness.errors import EngineError
from harness.files.inputs import Input
from harness.files.json_text import read_json
from harness.model.loading import SubjectModel
from harness.model.weights import WholeWeights, check_weights, holds_weights

CONFIG = "adapter_config.json"
_WRITTEN = "give a folder that peft's save_pretrained wrote"
_REBASING = ("pissa", "olora", "corda", "loftq")
"""Initialisations of peft's that take from the model's own weights what the adapter begins with."""


@dataclass(frozen=True, eq=False)
class _Place:
    """Where another module stands while an adapter is worn."""

    parent: nn.Module
    name: str
    own: nn.Module
    adapted: nn.Module


class Adapter(Protocol):
    """What was loaded for one model to be worn. Made by :class:`Adapters`."""

    def worn(self) -> AbstractContextManager[None]:
        """Return a context within which the model computes with it; the model is as it was afterwards, whatever happened."""
        ...


class _Modules:
    """An adapter whose modules stand in the places of the model's own."""

    def __init__(self, places: list[_Place]) -> None:
        self._places = places

    @contextmanager
    def worn(self) -> Iterator[None]:
        """Within the context the model computes with the adapter; its own modules stand in their places afterwards, whatever happened."""
        try:
            for place in self._places:
                place.parent._modules[place.name] = place.adapted
            yield
        finally:
            for place in self._places:
                place.parent._modules[place.name] = place.own


class Adapters:
    """The adapters of one model, the last one kept: requests come adapter by adapter.

    Args:
        model: is changed within :meth:`Adapter.worn` alone.
    """

    def __init__(self, model: SubjectModel) -> None:
        self._model = model
        self._last: tuple[str, Adapter] | None = None

    def check(self, folder: str) -> None:
        """Raise EngineError for a folder that holds no adapter, or one that cannot be used. Only its configuration is read."""
        if holds_weights(folder):
            check_weights(folder)
            return
        path = Path(folder) / CONFIG
        if not path.exists():
            raise EngineError(f"the adapter folder {folder} has no {CONFIG}", given=folder, hint=_WRITTEN)
        settings = read_json(path, Input("adapter's configuration", EngineError, "write the adapter again"))
        if not isinstance(settings, dict) or "peft_type" not in settings:
            raise EngineError(f"{path} names no peft_type", given=path, hint=_WRITTEN)
        initialisation = settings.get("init_lora_weights")
        rebased = isinstance(initialisation, str) and initialisation.lower().startswith(_REBASING)
        if settings.get("bias", "none") != "none" or rebased:
            option = f"init_lora_weights={initialisation!r}" if rebased else f"bias={settings['bias']!r}"
            message = f"the adapter {folder} was made with {option}, which changes the model's own weights"
            raise EngineError(message, given=option, hint="train one that does not")

    def get(self, folder: str) -> Adapter:
        """Return the adapter in a folder.

        Raises:
            EngineError: the folder holds no adapter, one that does not fit the model, or one that does more than replace modules within the layers.
        """
        if self._last is None or self._last[0] != folder:
            self._last = None  # its memory first
            self.check(folder)
            self._last = folder, WholeWeights(self._model, folder) if holds_weights(folder) else _load(self._model, folder)
        return self._last[1]


def _load(model: SubjectModel, folder: str) -> _Modules:
    """Have peft put its modules into the model, note where they stand, and take them out again."""
    hf: Any = model.hf
    modules = list(hf.modules())
    before = [dict(module._modules) for module in modules]
    weights = [(weight, weight.data_ptr(), weight._version) for weight in hf.parameters()]
    attributes, tensor_parallel = set(vars(hf)), getattr(hf.config, "pretraining_tp", None)
    try:
        kind = _by_peft(model, folder)
        places = [
            _Place(parent, name, own, adapted)
            for parent, members in zip(modules, before, strict=True)
            for name, own in members.items()
            if own is not None and (adapted := parent._modules.get(name)) is not None and adapted is not own
        ]
    finally:
        for module, members in zip(modules, before, strict=True):
            module._modules.clear()
            module._modules.update(members)
        for name in set(vars(hf)) - attributes:
            delattr(hf, name)
        if tensor_parallel is not None:
            hf.config.pretraining_tp = tensor_parallel
    if any((weight.data_ptr(), weight._version) != (place, version) for weight, place, version in weights):
        message = f"the adapter {folder} ({kind}) has changed weights of {model.name} itself"
        raise EngineError(message, given=folder, hint="load the model again, and leave the adapter out")
    replaced = {id(place.own) for place in places}
    if not places or replaced & {id(model.layers), *map(id, model.layers)}:
        message = f"the adapter {folder} ({kind}) does not act through modules within the layers"
        raise EngineError(message, given=folder, hint="give a LoRA or one of its like")
    for place in places:
        place.adapted.eval().requires_grad_(False)
    return _Modules(places)


def _by_peft(model: SubjectModel, folder: str) -> str:
    """Puts the adapter into the model and returns its kind. Missing weights, of which peft would only warn, are an error here."""
    from peft import PeftModel

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore")
            warnings.filterwarnings("error", message="Found missing adapter keys")
            wrapped = PeftModel.from_pretrained(model.hf, folder, torch_device=str(model.device))
    except Exception as error:  # peft, safetensors and torch have no common root
        detail = " ".join(str(error).split())[:300]
        message = f"the adapter {folder} does not fit {model.name} ({type(error).__name__}: {detail})"
        raise EngineError(message, given=folder, hint="give an adapter that was trained on this model") from error
    return str(wrapped.peft_type).removeprefix("PeftType.")
