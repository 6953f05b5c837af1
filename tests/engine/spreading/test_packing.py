"""Values on their way to workers: shared objects stay shared, large tensors go once, and views are sent as what they show."""

from __future__ import annotations

import sys
import threading
import types
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import harness.sae
from harness.engine.base import GenerationRequest
from harness.engine.spreading.packing import LARGE, Packer, Unpacker
from harness.engine.spreading.work import Generate
from harness.errors import EngineError
from harness.interventions import Site
from harness.steering.add_vector import AddVector
from harness.steering.clamp import ClampFeature
from harness.types import Decoding

CPU = torch.device("cpu")


class Shelf:
    """Where large tensors lie in tests."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []
        self.packer, self.unpacker = Packer(CPU, self.keep), Unpacker(CPU, self.kept.__getitem__)

    def keep(self, data: Tensor) -> int:
        self.kept.append(data.clone())
        return len(self.kept) - 1

    def round_trip(self, value: Any) -> Any:
        return self.unpacker.unpack(self.packer.pack(value))


DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool)


@given(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3), st.booleans())
def test_tensors_keep_values_types_and_shapes(dtype: torch.dtype, shape: list[int], turned: bool) -> None:
    tensor = (torch.arange(torch.Size(shape).numel()).reshape(shape) % 3).to(dtype)
    tensor = tensor.mT if turned and tensor.dim() > 1 else tensor
    found = Shelf().round_trip(tensor)
    assert found.dtype == dtype
    assert torch.equal(found, tensor)


def test_what_requests_share_is_sent_once_and_stays_shared() -> None:
    edit, prompt = AddVector(Site(1), torch.arange(50_000.0)), [1, 2, 3]
    requests = [GenerationRequest(f"r{n}", prompt, 0, (edit,)) for n in range(100)]
    shelf = Shelf()
    packed = shelf.packer.pack(Generate(requests, Decoding()))
    assert len(packed.data) < 50_000 * 4 + 20_000
    found = shelf.unpacker.unpack(packed)
    assert found.names == [f"r{n}" for n in range(100)]
    assert all(request.edits[0] is found.requests[0].edits[0] for request in found.requests)
    assert torch.equal(found.requests[0].edits[0].vector, edit.vector)


def test_a_large_tensor_goes_once_for_all_chunks_and_a_view_alone() -> None:
    shelf, matrix = Shelf(), torch.randn(LARGE // 64, 32)
    one, other = shelf.round_trip({"m": matrix}), shelf.round_trip([matrix, matrix[3]])
    assert len(shelf.kept) == 1
    assert one["m"] is other[0]
    assert torch.equal(other[1], matrix[3])
    assert len(shelf.packer.pack(matrix[3]).data) < 1000
    shelf.round_trip("something else")
    assert not shelf.unpacker._held  # it is let go when a chunk does without


def test_dictionaries_travel_with_their_edits(tiny_sae_path: Any) -> None:
    dictionary = harness.sae.load(str(tiny_sae_path), device="cpu")
    edit = ClampFeature(Site(2), dictionary, 3, 2.0)
    found = Shelf().round_trip(edit)
    assert found.batch_key == edit.batch_key
    x = torch.randn(2, 3, dictionary.d_in)
    assert torch.equal(found.exact(x), edit.exact(x))
    assert found.dictionary.digest == dictionary.digest


def test_classes_that_a_worker_cannot_import_travel_too() -> None:
    @dataclass
    class Local:
        weight: torch.nn.Parameter

        def twice(self) -> Tensor:
            return 2 * self.weight

    found = Shelf().round_trip(Local(torch.nn.Parameter(torch.ones(2))))
    assert isinstance(found.weight, torch.nn.Parameter)
    assert found.twice().tolist() == [2.0, 2.0]


def test_classes_of_a_plugin_file_travel_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("plugin_file_of_the_tests")
    exec("SIZE = 3\nclass Edit:\n    def size(self):\n        return SIZE", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    shelf = Shelf()
    packed = shelf.packer.pack(module.Edit())
    monkeypatch.delitem(sys.modules, module.__name__)
    assert shelf.unpacker.unpack(packed).size() == 3


def test_what_cannot_travel_is_said() -> None:
    with pytest.raises(EngineError, match="lock"):
        Shelf().packer.pack({"held": threading.Lock()})
