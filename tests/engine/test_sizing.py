"""How many rows are decoded together: a fixed number on a CPU, on a GPU what its memory takes (memory is made up here)."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch

from harness.engine.base import Batching
from harness.engine.sizing import CHUNK, USUAL, row_bytes, usual_rows
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.model.loading import SubjectModel


def test_a_cpu_has_its_fixed_number(tiny_model: SubjectModel) -> None:
    engine = TorchEngine(tiny_model)
    assert isinstance(engine, Batching)
    assert engine.batch_size == USUAL == usual_rows(tiny_model)
    engine.batch_size = 7
    assert engine.batch_size == 7
    with pytest.raises(EngineError) as error:
        engine.batch_size = 0
    assert error.value.allowed == "at least 1"


def test_a_row_takes_its_share_of_a_passs_peak(tiny_model: SubjectModel) -> None:
    def peak(device: torch.device, work: Any) -> tuple[Any, int]:
        return work(), 4 * 128 * (1000 + tiny_model.vocab_size * 4)  # of 4 rows of 128 tokens; the logits at each token are no part of decoding

    with mock.patch("harness.engine.sizing.with_peak", peak):
        assert row_bytes(tiny_model) == 512 * 1000 + 16 * tiny_model.vocab_size


def test_where_a_few_rows_do_not_fit_each_is_alone() -> None:
    gpu = mock.Mock(device=torch.device("cuda"), max_tokens=512, pad_id=0, vocab_size=10)
    full = mock.patch("harness.engine.sizing.with_peak", side_effect=torch.OutOfMemoryError("CUDA out of memory"))
    ids = mock.patch("harness.engine.sizing.torch.full", return_value=torch.zeros(1, dtype=torch.long))
    with full, ids, mock.patch("harness.engine.sizing.free_bytes", return_value=1e6), mock.patch("torch.cuda.empty_cache"):
        assert row_bytes(gpu) == float("inf")
        assert usual_rows(gpu) == 1


@pytest.mark.parametrize(("fit", "rows"), [(0.5, 1), (1.3, 1), (100, 64), (128.1, 128), (1e6, CHUNK)])
def test_a_gpu_takes_a_power_of_two(tiny_model: SubjectModel, fit: float, rows: int) -> None:
    gpu = mock.Mock(device=torch.device("cuda"))
    free = mock.patch("harness.engine.sizing.free_bytes", return_value=fit * 1000 / 0.8)
    with free, mock.patch("harness.engine.sizing.row_bytes", return_value=1000):
        assert usual_rows(gpu) == rows
