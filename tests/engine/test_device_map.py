"""A model whose parts transformers and accelerate have placed: edits act on it as on any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.edits import vector

from harness.engine.base import GenerationRequest
from harness.engine.torch_loop import TorchEngine
from harness.interventions import Site
from harness.model.loading import SubjectModel, load_model
from harness.steering.add_vector import AddVector
from harness.types import Decoding


def test_edits_act_on_a_model_that_was_loaded_by_a_device_map(
    tiny_model: SubjectModel, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one CPU accelerate would leave its hooks out, by which a layer's inputs come to its device."""
    accelerate = pytest.importorskip("accelerate")
    monkeypatch.setattr("harness.model.loading._placed", lambda devices: {"device_map": {"": "cpu"}})
    mapped = load_model(tiny_model_path, device="cpu", dtype="float32")
    accelerate.dispatch_model(mapped.hf, {"": "cpu"}, force_hooks=True)
    assert [str(device) for device in mapped.devices] == ["cpu"]
    edit = AddVector(Site(2), vector(tiny_model, "v", 0.4))
    requests = [GenerationRequest(text, tiny_model.encode(text), 0, (edit,)) for text in ("Once upon a time", "The")]
    decoding = Decoding(max_new_tokens=8, temperature=0.9)
    found, expected = ({text.id: text for text in TorchEngine(model).run(requests, decoding)} for model in (mapped, tiny_model))
    assert found == expected
