"""A dictionary found on disk, before its weights are read: what every reader of a format returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.errors import DictionaryError
from harness.sae.formats.tensors import line
from harness.types import Json

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Published:
    """A dictionary on disk in SAELens' terms.

    Attributes:
        cfg: SAELens' configuration of an inference architecture, metadata included; what the format lacks (the site, the model) is missing.
        weights: reads the weights: (device, dtype) → SAELens' state dict.
    """

    cfg: dict[str, Any]
    weights: Callable[[str, torch.dtype], Weights]


def read_json(path: Path) -> dict[str, Json]:
    """A file that holds one JSON object.

    Raises:
        DictionaryError: it cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DictionaryError(f"{path} cannot be read: {line(error)}", given=path, hint="fetch it again") from error
    if not isinstance(content, dict):
        message = f"{path} is not an SAE's configuration, as it holds a {type(content).__name__}"
        raise DictionaryError(message, given=path, allowed="a JSON object")
    return content


def positive_integer(cfg: dict[str, Json], key: str, path: Path) -> int:
    """A positive whole number of a configuration.

    Raises:
        DictionaryError: it is missing, or something else.
    """
    value = cfg.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DictionaryError(f"{path} gives {key} = {value!r}", given=value, allowed="a positive whole number")
    return value


def configuration(architecture: str, d_in: int, d_sae: int, *, bias: bool, hook_name: str, model_name: str) -> dict[str, Any]:
    """SAELens' configuration of a published dictionary; an empty name is one that is not known."""
    metadata = {"hook_name": hook_name, "model_name": model_name}
    return {
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "apply_b_dec_to_input": bias,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {key: value for key, value in metadata.items() if value},
    }
