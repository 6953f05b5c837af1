"""nnsight, imported late, and a model's modules as it wraps them: in the model while it is read, and out of it otherwise.

Importing nnsight puts a method of its own in the place of ``Tensor.backward`` and mounts ``save`` on every object of the process. Neither is needed
here, and the first would look like a plugin that tampers with torch, so both are taken back where nobody else has imported nnsight before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from harness.errors import EngineError

_ABSENT = object()


def load_nnsight() -> Any:
    """Return the package nnsight.

    Raises:
        EngineError: it is not installed, or cannot be imported.
    """
    if "nnsight" in sys.modules:
        return sys.modules["nnsight"]
    backward = vars(Tensor)["backward"]
    try:
        import nnsight
        from nnsight._c import unmount
    except ImportError as error:
        detail = " ".join(str(error).split())[:200]
        raise EngineError(f"nnsight cannot be imported ({detail})", given="nnsight", hint="install it with pip install 'nnsight>=0.8'") from error
    Tensor.backward = backward  # type: ignore[method-assign]
    if unmount is not None and "save" in vars(object):
        unmount("save")
    return nnsight


class Wrapped:
    """A model's modules, each with nnsight's envoy; within :meth:`at_work` nnsight sees what they return.

    nnsight replaces the ``forward`` of every module for good. Here each has its own again outside of the context, so that nothing else that uses the
    model passes through nnsight.

    Args:
        hf: the model as it is now; with an adapter that it wears, others of its modules are wrapped.
    """

    def __init__(self, hf: nn.Module) -> None:
        modules = list(hf.modules())
        before = [dict(vars(module)) for module in modules]
        self.root: Any = load_nnsight().NNsight(hf)
        self._modules = modules
        self._theirs = [
            (module, {name: value for name, value in vars(module).items() if own.get(name, _ABSENT) is not value}, own)
            for module, own in zip(modules, before, strict=True)
        ]
        self._take_out()

    def fits(self, hf: nn.Module) -> bool:
        """Return whether the model is made of the modules that were wrapped."""
        now = list(hf.modules())
        return len(now) == len(self._modules) and all(one is other for one, other in zip(now, self._modules, strict=True))

    def envoy(self, module: nn.Module) -> Any:
        """Return nnsight's envoy of a module."""
        return self.root.interleaver.envoys[id(module)]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Within the context the modules pass what they return to nnsight."""
        try:
            for module, theirs, _ in self._theirs:
                vars(module).update(theirs)
            yield
        finally:
            self._take_out()

    def _take_out(self) -> None:
        for module, theirs, own in self._theirs:
            for name in theirs:
                if name in own:
                    vars(module)[name] = own[name]
                else:
                    vars(module).pop(name, None)
