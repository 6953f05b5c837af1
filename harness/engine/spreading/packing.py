"""Values on their way to a worker: pickled by value where it cannot import them, large tensors by themselves and once.

A chunk's edits share vectors and dictionaries. Within a chunk an object is sent once, however many requests refer to it; a tensor of
:data:`LARGE` bytes goes to each worker once for all chunks. Views are sent as what they show, not as all that they are a view of.
What belongs to the subject model is not sent at all (:mod:`harness.engine.spreading.model_parts`).
"""

from __future__ import annotations

import io
import itertools
import pickle
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle
import torch
from torch import Tensor

from harness.engine.spreading.model_parts import ModelParts, part_of
from harness.errors import EngineError

if TYPE_CHECKING:
    from harness.model.loading import SubjectModel

LARGE = 1 << 20
"""Bytes from which a tensor is sent by itself."""

_TENSOR, _DEVICE, _PART = "tensor", "device", "part of the model"
_keys = itertools.count()


@dataclass(frozen=True)
class Stored:
    """A tensor that is sent by itself.

    Attributes:
        where: what its worker finds it by: a file's path, or Ray's reference.
        dtype: its number format.
        shape: its shape.
    """

    where: Any
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Packed:
    """A packed value, and the large tensors in it, by key."""

    data: bytes
    tensors: Mapping[int, Stored]


class Packer:
    """Packs values for workers.

    Args:
        home: the driver's device, in whose place the worker's own will stand.
        keep: puts the bytes of a large tensor (uint8, one dimension, on the CPU) where workers find them, and returns where.
        model: the driver's, in the place of whose parts those of the worker's own will stand.
    """

    def __init__(self, home: torch.device, keep: Callable[[Tensor], Any], model: SubjectModel | None = None) -> None:
        self.home, self._keep, self.parts = home, keep, ModelParts(model)
        self._kept: dict[tuple[Any, ...], tuple[int, Stored, Tensor]] = {}

    def pack(self, value: object) -> Packed:
        """Return the value, packed.

        Raises:
            EngineError: it holds something that cannot be sent: an open file, a lock, a generator.
        """
        stream = io.BytesIO()
        pickler = _Pickler(stream, self)
        try:
            pickler.dump(value)
        except (TypeError, AttributeError, pickle.PicklingError, RecursionError) as error:
            message = f"what a chunk holds cannot be sent to workers ({' '.join(str(error).split())[:300]})"
            raise EngineError(message, given=type(value).__name__, hint="leave --executor out, or tell the plugin's author") from error
        return Packed(stream.getvalue(), pickler.tensors)

    def stored(self, tensor: Tensor) -> tuple[int, Stored]:
        """Return the key of a large tensor, and where it is kept; it is put there the first time."""
        place = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype, str(tensor.device))
        if place not in self._kept:
            # the tensor is held, so that no other one comes to lie at its address
            self._kept[place] = next(_keys), Stored(self._keep(_bytes(tensor)), tensor.dtype, tuple(tensor.shape)), tensor
        key, stored, _ = self._kept[place]
        return key, stored


class Unpacker:
    """Unpacks values in a worker.

    Args:
        device: the worker's.
        fetch: returns the bytes of a large tensor, uint8 on the CPU.
        model: returns the worker's model.
    """

    def __init__(self, device: torch.device, fetch: Callable[[Any], Tensor], model: Callable[[], SubjectModel] | None = None) -> None:
        self.device, self._fetch, self._model = device, fetch, model
        self._held: dict[tuple[int, bool], Tensor] = {}

    def unpack(self, packed: Packed) -> Any:
        """Return the value. Large tensors stay for the next one; those that this one does not hold are let go."""
        unpickler = _Unpickler(io.BytesIO(packed.data), self, packed.tensors)
        value = unpickler.load()
        self._held = {key: tensor for key, tensor in self._held.items() if key in unpickler.used}
        return value

    def part(self, name: tuple[str, str]) -> Any:
        """Return what the worker's model has by a name of :meth:`ModelParts.name_of`."""
        assert self._model is not None, "there is a model where one was packed"
        return part_of(self._model(), name)

    def tensor(self, key: int, at_home: bool, stored: Stored) -> Tensor:
        """Return a large tensor, on the worker's device where it was on the driver's."""
        if (key, at_home) not in self._held:
            found = self._fetch(stored.where).view(stored.dtype).reshape(stored.shape)
            self._held[key, at_home] = found.to(self.device) if at_home else found
        return self._held[key, at_home]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, stream: io.BytesIO, packer: Packer) -> None:
        super().__init__(stream)
        self.packer = packer
        self.tensors: dict[int, Stored] = {}

    def persistent_id(self, value: Any) -> Any:
        if (name := self.packer.parts.name_of(value)) is not None:
            return _PART, name
        if isinstance(value, torch.device) and value == self.packer.home:
            return (_DEVICE,)
        if not _is_plain(value) or value.numel() * value.element_size() < LARGE:
            return None
        key, stored = self.packer.stored(value)
        self.tensors[key] = stored
        return _TENSOR, key, value.device == self.packer.home, isinstance(value, torch.nn.Parameter)

    def reducer_override(self, value: Any) -> Any:
        if not _is_plain(value):
            module = sys.modules.get(getattr(value, "__module__", None) or "") if isinstance(value, type | FunctionType) else None
            if module is not None and module.__spec__ is None and module.__name__ != "__main__":  # a plugin's single file: no import finds it
                cloudpickle.register_pickle_by_value(module)
            return super().reducer_override(value)
        at_home, parameter = value.device == self.packer.home, isinstance(value, torch.nn.Parameter)
        place = value.device if at_home else torch.device("cpu")
        return _small, (_bytes(value).numpy().tobytes(), value.dtype, tuple(value.shape), place, parameter)


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, owner: Unpacker, tensors: Mapping[int, Stored]) -> None:
        super().__init__(stream)
        self._owner, self._tensors = owner, tensors
        self.used: set[tuple[int, bool]] = set()

    def persistent_load(self, name: Any) -> Any:
        if name[0] == _DEVICE:
            return self._owner.device
        if name[0] == _PART:
            return self._owner.part(name[1])
        _, key, at_home, parameter = name
        self.used.add((key, at_home))
        found = self._owner.tensor(key, at_home, self._tensors[key])
        return torch.nn.Parameter(found, requires_grad=False) if parameter else found


def refusal(value: object, home: torch.device, model: SubjectModel | None = None) -> str | None:
    """Return why a value cannot be sent to workers, one line; None where it can. Nothing is sent.

    Args:
        value: e.g. a piece of work.
        home: see :class:`Packer`, as the other.
        model: the same.
    """
    try:
        Packer(home, lambda data: None, model).pack(value)
    except EngineError as error:
        return error.message
    return None


def _is_plain(value: Any) -> bool:
    """Return whether a value is a tensor that its numbers describe."""
    return type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided and not value.is_quantized


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def _small(data: bytes, dtype: torch.dtype, shape: tuple[int, ...], device: torch.device, parameter: bool) -> Tensor:
    """Return a tensor of its bytes, in memory of its own."""
    found = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
    tensor = found.view(dtype).reshape(shape).to(device)
    return torch.nn.Parameter(tensor, requires_grad=False) if parameter else tensor
