"""What torch modules are made of, so that it shows when something has changed them in memory: weights, buffers, submodules, hooks.

A change through ``.data`` moves no version counter, and a sample of the values misses a row; so all of them are added up, which takes one pass over
the memory. Weights that were changed and put back are as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks",
)  # fmt: skip
GLOBAL_HOOKS = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks",
    "_global_module_registration_hooks", "_global_parameter_registration_hooks", "_global_buffer_registration_hooks",
)  # fmt: skip
COLUMNS = 4093
"""Words of 8 bytes that are added up apart from each other in a checksum; a prime, so that rows of a matrix that change places are seen."""


class Fingerprint:
    """A module as it is when this is made.

    Args:
        root: the module; kept, with all its parts.
    """

    def __init__(self, root: nn.Module) -> None:
        self._root = root
        self._modules = list(root.named_modules())
        self._types = [type(module) for _, module in self._modules]
        self._methods = [_methods_of(module) for _, module in self._modules]
        self._hooks = [_hooks_of(module) for _, module in self._modules]
        self._global_hooks = global_hooks()
        self._tensors = _tensors(root)
        self._sums = dict(zip(self._tensors, _checksums(list(self._tensors.values())), strict=True))
        self._facts = {name: _facts(tensor) for name, tensor in self._tensors.items()}
        self._gradients = {name: tensor.requires_grad for name, tensor in self._tensors.items()}
        self._writes = {name: _writes(tensor) for name, tensor in self._tensors.items()}

    def structure(self) -> list[str]:
        """Return what has changed of modules and hooks, a phrase each; no value is read. Empty where nothing has."""
        now = list(self._root.modules())
        found = []
        if len(now) != len(self._modules) or any(one is not other for one, (_, other) in zip(now, self._modules, strict=True)):
            found += _replaced(dict(self._modules), dict(self._root.named_modules()))
        for (name, module), kind, methods, hooks in zip(self._modules, self._types, self._methods, self._hooks, strict=True):
            if type(module) is not kind:
                found.append(f"{_title_of(name)} is a {type(module).__name__} in place of a {kind.__name__}")
            if (present := _methods_of(module)) != methods:
                found += [f"{method} of {_title_of(name)} is replaced" for method in _unequal(present, methods)]
            if (own := _hooks_of(module)) != hooks:
                kinds = [kind for kind in {**own, **hooks} if own.get(kind) != hooks.get(kind)]
                gone = all(len(own.get(kind, ())) < len(hooks.get(kind, ())) for kind in kinds)
                named = " and ".join(kind.strip("_").replace("_hooks", "").replace("_", " ") for kind in kinds)
                found.append(f"a {named} hook {'is gone from' if gone else 'is left on'} {_title_of(name)}")
        if global_hooks() != self._global_hooks:
            found.append("a hook is left on all modules of torch")
        return found

    def weights(self, values: bool = True) -> list[str]:
        """What has changed of parameters and buffers, a phrase each.

        Args:
            values: compare all values, in one pass over the memory; else those of tensors that torch knows to have been written or replaced, which a
                change through ``.data`` is not.
        """
        now = _tensors(self._root)
        for name in _tables(self._root):  # of another size: a longer text has been read, which no plugin can be blamed for
            if name in now and (name not in self._facts or now[name].shape != self._facts[name][0]):
                del now[name]
                self._tensors.pop(name, None)
        found = [f"{name} is gone" for name in self._tensors if name not in now] + [f"{name} is new" for name in now if name not in self._tensors]
        same = [name for name in now if name in self._tensors]
        found += [f"{name} {_other(self._facts[name], facts)}" for name in same if (facts := _facts(now[name])) != self._facts[name]]
        found += [f"a gradient hook is left on {name}" for name in same if now[name]._backward_hooks]
        if found:
            return found
        read = [name for name in now if values or _writes(now[name]) != self._writes[name]]
        sums = _checksums([now[name] for name in read])
        changed = [name for name, value in zip(read, sums, strict=True) if value != self._sums[name]]
        if not changed:
            self._writes |= {name: _writes(now[name]) for name in read}
        return [f"values of {name} have changed" for name in changed]

    def remove_hooks(self) -> None:
        """Take away hooks and replaced methods that came since; what is then left of a change is in the weights or the modules."""
        for (_, module), methods, hooks in zip(self._modules, self._methods, self._hooks, strict=True):
            for kind in HOOKS:
                registered: Any = vars(module).get(kind)
                for key in [key for key in registered or () if key not in hooks.get(kind, ())]:
                    del registered[key]
            for method in _unequal(_methods_of(module), methods):
                vars(module).pop(method, None)
            vars(module).update(methods)
        for name, kept in self._global_hooks.items():
            everywhere: Any = getattr(torch_module, name)
            for key in [key for key in everywhere if key not in kept]:
                del everywhere[key]

    def drop_gradients(self) -> None:
        """Forget gradients that were left on parameters (they would be added to those of the next fit), and whether they are wanted."""
        for name, tensor in self._tensors.items():
            if tensor.grad is not None:
                tensor.grad = None
            if tensor.is_leaf and tensor.requires_grad != self._gradients[name]:
                tensor.requires_grad_(self._gradients[name])


def global_hooks() -> dict[str, dict[int, Any]]:
    """Return the hooks that act on all modules of torch, by the name of their register."""
    return {name: dict(getattr(torch_module, name)) for name in GLOBAL_HOOKS if hasattr(torch_module, name)}


def _hooks_of(module: nn.Module) -> dict[str, dict[int, Any]]:
    own = vars(module)
    return {name: dict(registered) for name in HOOKS if (registered := own.get(name))}


def _methods_of(module: nn.Module) -> dict[str, Any]:
    """Return what a module itself has in place of methods of its class."""
    kind = type(module)
    return {name: value for name, value in vars(module).items() if name[0] != "_" and callable(value) and hasattr(kind, name)}


def _unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [name for name in {**one, **other} if one.get(name) is not other.get(name)]


def changes_by_itself(module: nn.Module) -> bool:
    """Return whether a forward pass over a long text may replace a module's buffers: rotary embeddings that stretch with the text."""
    kind = str(getattr(module, "rope_type", ""))
    return "dynamic" in kind or "longrope" in kind


def _tensors(root: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers by name, each once."""
    return dict(_walk(root))


def _walk(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for prefix, module in root.named_modules():
        registers: Sequence[Mapping[str, Tensor | None]] = (module._parameters, module._buffers)
        for register in registers[: 1 if changes_by_itself(module) else 2]:
            for name, tensor in register.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{prefix}.{name}" if prefix else name, tensor


def _tables(root: nn.Module) -> list[str]:
    """Return the names of buffers that are no part of a model's state: tables that it makes by itself, and that may grow with a text."""
    return [f"{prefix}.{name}" if prefix else name for prefix, module in root.named_modules() for name in module._non_persistent_buffers_set]


def _facts(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.dtype, tensor.device


def _writes(tensor: Tensor) -> tuple[int, ...]:
    """Return which tensor it is, where its values lie, and how often torch has written them."""
    version = -1 if tensor.is_inference() else tensor._version
    try:
        place = tensor.data_ptr()
    except RuntimeError:  # a subclass without memory of its own
        place = -1
    return id(tensor), place, version


def _other(before: tuple[Any, ...], now: tuple[Any, ...]) -> str:
    names = ("shape", "type", "device")
    place = next(place for place, (one, other) in enumerate(zip(before, now, strict=True)) if one != other)
    return f"has {names[place]} {now[place]} in place of {before[place]}"


def _replaced(before: Mapping[str, nn.Module], now: Mapping[str, nn.Module]) -> list[str]:
    """Return the outermost modules that came, went or were replaced."""
    names = [name for name in {**before, **now} if before.get(name) is not now.get(name)]
    outer = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    verbs = {(True, False): "is gone", (False, True): "is new", (True, True): "is replaced"}
    return [f"module {_title_of(name)} {verbs[name in before, name in now]}" for name in outer] or ["modules have another order"]


def _title_of(name: str) -> str:
    return name or "the whole model"


@torch.no_grad()
def _checksums(tensors: Sequence[Tensor]) -> list[int]:
    """Return a checksum of each tensor's bytes, equal for equal bytes."""
    sums = [_checksum(tensor) for tensor in tensors]
    by_device: dict[torch.device, list[int]] = {}
    for place, value in enumerate(sums):
        by_device.setdefault(value.device, []).append(place)
    found = [0] * len(sums)
    for places in by_device.values():  # one wait for a device
        for place, number in zip(places, torch.stack([sums[place] for place in places]).tolist(), strict=True):
            found[place] = number
    return found


def _checksum(tensor: Tensor) -> Tensor:
    if tensor.device.type == "meta" or not tensor.numel():
        return torch.zeros((), dtype=torch.int64)
    try:
        words = _words(tensor)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):  # a subclass whose bytes cannot be read so: its facts are compared
        return torch.zeros((), dtype=torch.int64)
    whole = len(words) // COLUMNS * COLUMNS
    columns = words[:whole].view(-1, COLUMNS).sum(0, dtype=torch.int64) if whole else words.new_zeros(COLUMNS, dtype=torch.int64)
    rest = words[whole:].to(torch.int64)
    columns[: len(rest)] += rest
    return (columns * _factors(tensor.device)).sum()


def _words(tensor: Tensor) -> Tensor:
    """Return the bytes of a tensor as a vector of the widest whole numbers that they can be read as."""
    flat = tensor.detach().contiguous().view(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat).view(-1)
    size = flat.element_size()
    for width, kind in ((8, torch.int64), (4, torch.int32), (2, torch.int16), (1, torch.int8)):
        if width <= size or (len(flat) * size % width == 0 and flat.storage_offset() * size % width == 0):
            return flat.view(kind) if flat.dtype != torch.bool else flat.to(torch.int8)
    raise AssertionError("a byte is a byte")


_FACTORS: dict[torch.device, Tensor] = {}


def _factors(device: torch.device) -> Tensor:
    """Return an odd number for each column, the same each time."""
    if device not in _FACTORS:
        _FACTORS[device] = (torch.arange(COLUMNS, dtype=torch.int64) * 0x9E3779B97F4A7C1 | 1).to(device)
    return _FACTORS[device]
