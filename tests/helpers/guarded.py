"""A plugin as the core calls it, and a weight that it may spoil."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch

from harness.plugin.calls import PluginName
from harness.plugin.guarded import guarded


def plugin(kind: str, **methods: Callable[..., Any]) -> Any:
    """A plugin with these methods, as the core calls it."""
    return guarded(PluginName(kind, "mine", "their-dist"), types.SimpleNamespace(**methods))


def first(bench: Any) -> torch.nn.Parameter:
    """A weight of the subject model."""
    weight: torch.nn.Parameter = bench.model.hf.model.layers[0].mlp.up_proj.weight
    return weight
