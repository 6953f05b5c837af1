"""The functions that all plugins share, so that it shows when one has put another in their place: torch's, numpy's, those of models and dictionaries.

They are told apart by identity alone, which costs a fraction of a millisecond.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

_NAMESPACES = (
    "torch", "torch.nn.functional", "torch.linalg", "torch.special", "torch.fft", "torch._C._nn",
    "numpy", "numpy.linalg", "numpy.random",
)  # fmt: skip
_CLASSES = ("torch.Tensor", "torch.nn.Module")
_DESCRIPTORS = (property, staticmethod, classmethod)


class SharedCode:
    """Functions of modules and classes as they were when each was added; torch's and numpy's are added when this is made."""

    def __init__(self) -> None:
        self._owners: dict[int, tuple[Any, dict[str, Any], frozenset[str]]] = {}
        for name in _NAMESPACES:
            if name in sys.modules:
                self._add(sys.modules[name])
        for name in _CLASSES:
            module, _, cls = name.rpartition(".")
            if hasattr(sys.modules.get(module), cls):
                self._add(getattr(sys.modules[module], cls))

    def add(self, module: nn.Module, others: Iterable[object] = ()) -> None:
        """Add the classes of a model's parts and of ``others``, the modules of Python that define them, and ``others`` themselves."""
        for one in others:
            if hasattr(one, "__dict__"):
                self._add(one)
        for kind in {type(part): None for part in (*module.modules(), *others)}:
            for base in kind.__mro__[:-1]:
                self._add(base)
            if (defined := sys.modules.get(kind.__module__)) is not None:
                self._add(defined)

    def _add(self, owner: Any) -> None:
        if id(owner) not in self._owners:
            self._owners[id(owner)] = (owner, _functions(vars(owner)), frozenset(vars(owner)))

    def changes(self) -> list[str]:
        """Return what has been replaced, a phrase each. Empty where nothing has."""
        return [f"{name} of {_title_of_owner(owner)} is replaced" for owner, name, _ in self._replaced()]

    def put_back(self) -> None:
        """Give each function its place again."""
        for owner, name, before in list(self._replaced()):
            if isinstance(owner, type | ModuleType):
                delattr(owner, name) if before is None else setattr(owner, name, before)
            elif before is None:
                del vars(owner)[name]
            else:
                vars(owner)[name] = before

    def _replaced(self) -> Iterator[tuple[Any, str, Any]]:
        """Yield owner, name and what stood there; None for what came before a function of the owner's class or base classes."""
        for owner, functions, names in self._owners.values():
            now = vars(owner)
            for name, function in functions.items():
                if (present := now.get(name)) is not function and not _of_same_package(present, owner):
                    yield owner, name, function
            if isinstance(owner, ModuleType) or now.keys() <= names:
                continue
            bases = owner.__mro__[1:] if isinstance(owner, type) else type(owner).__mro__
            for name in now.keys() - names:
                if callable(now[name]) and any(callable(vars(base).get(name)) for base in bases):
                    yield owner, name, None


def _functions(names: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is called by its name: functions, methods and classes, no submodules and no values."""
    return {name: value for name, value in names.items() if callable(value) or isinstance(value, _DESCRIPTORS)}


def _of_same_package(function: Any, owner: Any) -> bool:
    """Return whether a library has replaced its own function, as torch does when its compiler is imported."""
    name = (owner.__name__ if isinstance(owner, ModuleType) else str(owner.__module__)).partition(".")[0]
    place = Path(str(getattr(sys.modules.get(name), "__file__", "")))
    file = str(getattr(getattr(function, "__code__", None), "co_filename", ""))
    return place.name == "__init__.py" and file.startswith(str(place.parent) + os.sep)


def _title_of_owner(owner: Any) -> str:
    if isinstance(owner, ModuleType):
        return f"module {owner.__name__}"
    return f"class {owner.__name__}" if isinstance(owner, type) else f"the {type(owner).__name__} that all share"
