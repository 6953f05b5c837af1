"""Logits of given texts: transformers' own without an edit, the reference's with one, in the order of the texts whatever fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.edits import vector

from harness.engine import forward
from harness.engine.reference import ReferenceEngine
from harness.engine.torch_loop import TorchEngine
from harness.errors import DataError, EngineError
from harness.interventions import Positions, Site
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector

TEXTS = [[1, *range(20 + i, 20 + i + n)] for i, n in enumerate((3, 11, 0, 7, 5, 12, 1))]


def test_without_an_edit_they_are_transformers_own(random_model: SubjectModel) -> None:
    found = list(TorchEngine(random_model).logits(TEXTS))
    assert len(found) == len(TEXTS)
    for ids, logits in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            expected = random_model.hf(torch.tensor([ids])).logits[0]
        assert logits.dtype == torch.float32
        torch.testing.assert_close(logits, expected.float(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stream", ["residual", "attention", "mlp"])
@pytest.mark.parametrize("positions", [Positions(), Positions(prompt=False, first=2, last=1), Positions(prompt=False)])
def test_with_an_edit_they_are_the_references(random_model: SubjectModel, stream: Any, positions: Positions) -> None:
    """A text is a prompt: an edit of generated tokens touches none of it."""
    edits = (AddVector(Site(1, stream), vector(random_model, "v"), positions), AddVector(Site(0), vector(random_model, "w", 0.5), positions))
    reference = ReferenceEngine(random_model)
    found = list(TorchEngine(random_model).logits(TEXTS, edits))
    for ids, logits in zip(TEXTS, found, strict=True):
        expected = reference.text_logits(ids, len(ids), edits)
        assert float((logits - expected).abs().max() / expected.std()) < 2e-5
    plain = torch.cat(list(TorchEngine(random_model).logits(TEXTS)))
    assert torch.equal(torch.cat(found), plain) == (not positions.in_prompt)


def test_texts_keep_their_order_whatever_fits(make_model: Callable[[str], SubjectModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("llama")
    expected = list(TorchEngine(model).logits(TEXTS))
    sizes: list[tuple[int, ...]] = []

    def limited(module: Any, arguments: Any, options: Any) -> None:
        sizes.append(tuple(options["input_ids"].shape))
        if options["input_ids"].numel() > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = model.hf.register_forward_pre_hook(limited, with_kwargs=True)
    monkeypatch.setattr(forward, "_LOGITS", 60 * model.vocab_size)
    try:
        found = list(TorchEngine(model).logits([np.array(ids) for ids in TEXTS]))
    finally:
        handle.remove()
    assert all(rows * width <= 60 for rows, width in sizes)
    assert any(rows * width > 30 for rows, width in sizes)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_a_text_that_does_not_fit_is_an_error(make_model: Callable[[str], SubjectModel]) -> None:
    model = make_model("llama")

    def never(module: Any, arguments: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    handle = model.hf.register_forward_pre_hook(never)
    try:
        with pytest.raises(EngineError) as error:
            list(TorchEngine(model).logits(TEXTS))
    finally:
        handle.remove()
    assert error.value.given == 4
    assert error.value.hint
    assert "cpu" in str(error.value)


def test_what_cannot_be_is_refused_at_once(tiny_model: SubjectModel, tmp_path: Path) -> None:
    engine = TorchEngine(tiny_model)
    with pytest.raises(DataError) as empty:
        engine.logits([[1], []])
    assert empty.value.given == 1
    assert empty.value.hint
    with pytest.raises(DataError) as long:
        engine.logits([[5] * 600])
    assert long.value.given == 600
    assert "512" in str(long.value.allowed)
    assert "stories260K" in str(long.value)
    edit = AddVector(Site(9), torch.zeros(64))
    with pytest.raises(EngineError) as misplaced:
        engine.logits([[1]], [edit])
    assert misplaced.value.given is edit
    assert "layer 9" in str(misplaced.value)
    with pytest.raises(EngineError) as bare:
        engine.logits([[1]], adapter=str(tmp_path))
    assert bare.value.given == str(tmp_path)
    assert "adapter_config.json" in str(bare.value)
    assert list(engine.logits([])) == []
