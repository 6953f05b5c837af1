"""The subject model: getting it, chat prompts, activations up to a layer, steered generation.

The names below are loaded when first used, so that importing this package costs nothing (most of it needs torch).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.model.activations import ResidualBatch, residuals
    from harness.model.devices import choose_device, choose_dtype
    from harness.model.embedded import describe, embedded_names, ensure
    from harness.model.loading import SubjectModel, load_model
    from harness.model.prompts import PromptFormat
    from harness.model.structure import hidden_of, with_hidden

_HOME = {
    "PromptFormat": "prompts",
    "ResidualBatch": "activations",
    "SubjectModel": "loading",
    "choose_device": "devices",
    "choose_dtype": "devices",
    "describe": "embedded",
    "embedded_names": "embedded",
    "ensure": "embedded",
    "hidden_of": "structure",
    "load_model": "loading",
    "residuals": "activations",
    "with_hidden": "structure",
}

__all__ = [
    "PromptFormat",
    "ResidualBatch",
    "SubjectModel",
    "choose_device",
    "choose_dtype",
    "describe",
    "embedded_names",
    "ensure",
    "hidden_of",
    "load_model",
    "residuals",
    "with_hidden",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
