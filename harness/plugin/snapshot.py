"""Copies of what a plugin returns, so that nothing it does later changes an answer that was given: a buffer used again, a list that grows on.

Copied are containers, tensors, arrays, and the objects that hold them where their class is the core's own value or the plugin's. Everything else,
a model or a dictionary among it, is shared, as it was. A tensor that many answers hold is copied once for each content.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
import weakref
from collections.abc import Callable
from types import FunctionType, MappingProxyType
from typing import Any

import numpy as np

from harness.interventions import Positions, Site
from harness.types import Concept, FeatureRef

_SHARED = (str, bytes, int, float, complex, bool, type(None), type, FunctionType, np.generic, Concept, FeatureRef, Site, Positions)


class Snapshots:
    """Copies the answers of one plugin.

    Args:
        module: of the plugin; classes of its package are copied, too.
    """

    def __init__(self, module: str = "") -> None:
        self._package = module.partition(".")[0]
        self._made: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def of(self, value: Any) -> Any:
        """Return the value as it is now. Raises RecursionError for one that is nested without end."""
        return self._of(value, {})

    def _of(self, value: Any, memo: dict[int, Any]) -> Any:
        if isinstance(value, _SHARED):
            return value
        if id(value) in memo:
            return memo[id(value)]
        made = self._copied(value, memo)
        memo[id(value)] = made
        memo[-id(made)] = value  # kept alive, so that its id names nothing else
        return made

    def _copied(self, value: Any, memo: dict[int, Any]) -> Any:
        torch: Any = sys.modules.get("torch")
        is_tensor: bool = torch is not None and isinstance(value, getattr(torch, "Tensor", ()))
        if is_tensor:
            return self._once(
                value,
                lambda: value.detach().clone().requires_grad_(value.requires_grad),
                lambda made: made.device == value.device and made.layout == value.layout == torch.strided and torch.equal(made, value),
            )
        if isinstance(value, np.ndarray):
            return self._once(value, value.copy, lambda made: np.array_equal(made, value))
        if isinstance(value, tuple):
            items = [self._of(item, memo) for item in value]
            return value if type(value) is not tuple or all(one is other for one, other in zip(items, value, strict=True)) else tuple(items)
        if isinstance(value, MappingProxyType):
            return MappingProxyType(self._of(dict(value), memo))
        if isinstance(value, dict | list):
            return self._filled(value, memo)
        if isinstance(value, set | bytearray):
            return copy.copy(value)
        return self._object(value, memo)

    def _filled(self, value: Any, memo: dict[int, Any]) -> Any:
        made = memo[id(value)] = copy.copy(value)  # an item may hold its container
        for place, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
            made[place] = self._of(item, memo)
        return made

    def _object(self, value: Any, memo: dict[int, Any]) -> Any:
        package = type(value).__module__.partition(".")[0]
        if not (package == self._package or (package == "harness" and dataclasses.is_dataclass(value))) or not hasattr(value, "__dict__"):
            return value
        try:
            made = copy.copy(value)
        except Exception:  # it can't be copied, e.g. a client with an open connection
            return value
        if made is value or type(made) is not type(value):
            return value
        memo[id(value)] = made
        for name, part in list(vars(value).items()):
            vars(made)[name] = self._of(part, memo)
        return made

    def _once(self, value: Any, clone: Callable[[], Any], same: Callable[[Any], bool]) -> Any:
        """Return the copy that was made of it before where that still holds its values."""
        known = self._made.get(id(value))
        is_known = known is not None and known[0]() is value
        if known is not None and is_known and known[1].shape == value.shape and known[1].dtype == value.dtype and same(known[1]):
            return known[1]
        made = clone()
        self._made[id(value)] = (weakref.ref(value), made)
        if len(self._made) > 1000:
            self._made = {key: kept for key, kept in self._made.items() if kept[0]() is not None}
        return made
