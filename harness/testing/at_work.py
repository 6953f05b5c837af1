"""A plugin at work: what it leaves of process, model and dictionaries, also where its work is broken off; and made anew, does it do the same?"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from harness.files.artifacts import ArtifactCache
from harness.plugin import torch_state
from harness.plugin.calls import PluginName
from harness.plugin.guarded import Guarded
from harness.plugin.process_state import ProcessState
from harness.plugin.registry import Registered
from harness.run.bench import TaskBench
from harness.run.guard import ChangedModelError
from harness.testing.require import ContractError

P = TypeVar("P")
Factory = Callable[[], P] | Registered
"""What makes a plugin anew: a function without arguments, or a registered plugin, made with its defaults."""
_STATE = ("folder", "recursion_limit", "python_draws", "numpy_draws", "numpy_errors")
_GENERATORS = ("draws", "cuda", "python_draws", "numpy_draws")
_NAMES = {
    "draws": "torch's global generator", "cuda": "CUDA's generators", "python_draws": "random's generator", "numpy_draws": "numpy's generator",
    "dtype": "torch's default dtype", "grad": "torch's grad mode", "threads": "torch's number of threads", "folder": "the working folder",
}  # fmt: skip


def made(factory: Factory[P]) -> P:
    """Return the plugin itself: what the core puts around it would put back what it leaves behind."""
    plugin: Any = factory.factory(factory.build_options({})) if isinstance(factory, Registered) else factory()
    return plugin._plugin if isinstance(plugin, Guarded) else plugin  # type: ignore[no-any-return]


def settled(bench: TaskBench) -> TaskBench:
    """Return the bench with model, dictionaries and corpus in memory: what loading changes is not the plugin's doing."""
    _ = bench.model, [bench.dictionaries[name] for name in bench.dictionaries]
    if bench.has_corpus:
        _ = bench.corpus_tokens, bench.labels
    return bench


@contextmanager
def watched(bench: TaskBench, kind: str, plugin: object, call: str, *, first: bool = False) -> Iterator[None]:
    """Within the context a plugin is at work on ``bench``.

    Args:
        bench: that it works on.
        kind: of plugin.
        plugin: itself, for messages.
        call: its name, for messages.
        first: it works for the first time, and may import libraries that draw random numbers; their generators are put back.

    Raises:
        ContractError: process, model or dictionaries are not as before afterwards.
    """
    before, state = _state(), ProcessState.capture(signals=False)
    entered = bench.guard.enter(_name(kind, plugin), call)
    try:
        yield
    except BaseException:
        bench.guard.leave(entered, failed=True)
        raise
    changed = _changes({name: value for name, value in before.items() if not (first and name in _GENERATORS)}, _state())
    state.restore()
    try:
        bench.guard.leave(entered)
    except ChangedModelError as error:
        raise ContractError("model-unchanged", str(error)) from error
    if changed:
        raise ContractError("process-unchanged", f"the {kind} changes {', '.join(changed)} in {call}; put back what you set, and draw from bench.rng")


@contextmanager
def anew(bench: TaskBench) -> Iterator[None]:
    """Within the context nothing that was kept as an artifact is found, and global generators begin elsewhere; both are put back."""
    inner: Any = bench.artifact.__self__  # type: ignore[attr-defined]  # of a bench that stands before another one
    kept, state = inner.artifacts, ProcessState.capture(signals=False)
    with tempfile.TemporaryDirectory(prefix="harness-kit-") as folder:
        inner.artifacts = ArtifactCache(Path(folder))
        try:
            _draw_elsewhere()
            yield
        finally:
            inner.artifacts = kept
            state.restore()


class Interruption(Exception):
    """What the kit raises in the middle of a plugin's work."""


def check_interrupted(bench: TaskBench, kind: str, make: Callable[[], P], call: str, work: Callable[[P], object]) -> None:
    """Break a plugin's work off at its first, a middle and its last operation of torch, and look at what is left on the model each time.

    Args:
        bench: that it works on.
        kind: of plugin.
        make: returns a plugin that is ready for the call.
        call: its name, for the message.
        work: makes the call.

    Raises:
        ContractError: a hook, a replaced method or changed weights are left on the model or a dictionary.
    """
    with anew(bench):
        plugin = make()
        operations = _Operations()
        with operations:
            work(plugin)
    for at in sorted({1, (operations.count + 1) // 2, operations.count} - {0}):
        with anew(bench):
            plugin = make()
            entered = bench.guard.enter(_name(kind, plugin), call)
            with suppress(Exception), _Operations(at):  # a plugin may make an error of its own of it
                work(plugin)
            try:
                bench.guard.leave(entered)
            except ChangedModelError as error:
                raise ContractError("hooks-removed", f"where an error breaks it off: {error}") from error


class _Operations:
    """A context that counts torch's operations, and raises :class:`Interruption` in the place of one of them."""

    def __init__(self, at: int | None = None) -> None:
        from torch.utils._python_dispatch import TorchDispatchMode

        self.count, outer = 0, self

        class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                outer.count += 1
                if outer.count == at:
                    raise Interruption(f"broken off at operation {at}")
                return func(*args, **(kwargs or {}))

        self._mode: Any = Counting()  # type: ignore[no-untyped-call]

    def __enter__(self) -> None:
        self._mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)


def _name(kind: str, plugin: object) -> PluginName:
    return PluginName(kind, type(plugin).__name__, type(plugin).__module__)


def _state() -> dict[str, Any]:
    found = ProcessState.capture(signals=False)
    return {**{name: getattr(found, name) for name in _STATE}, **(found.torch or {})}


def _changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [_NAMES.get(name, name.replace("_", " ")) for name, value in before.items() if not _equal_values(value, after.get(name))]


def _equal_values(one: Any, other: Any) -> bool:
    if isinstance(one, tuple | list) and isinstance(other, tuple | list):
        return len(one) == len(other) and all(map(_equal_values, one, other))
    if hasattr(one, "shape"):  # a tensor or an array
        return bool((one == other).all())
    return bool(one == other)


def _draw_elsewhere() -> None:
    random.seed(random.random())
    np.random.seed(np.random.randint(1 << 30))
    if torch_state.capture() is not None:
        import torch

        torch.manual_seed(int(torch.randint(1 << 30, ()).item()))
