"""How many rows are decoded together: on a CPU 256 or 128, on a GPU what its memory takes (memory is made up here)."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from helpers.models import VOCABULARY, byte_tokenizer, hf_of

from harness.engine.base import Batching
from harness.engine.plan import token_bytes
from harness.engine.sizing import CHUNK, MANY, USUAL, row_bytes, rows_of, usual_rows
from harness.engine.torch_loop import TorchEngine
from harness.errors import EngineError
from harness.model.loading import SubjectModel


def memory(total: float) -> Any:
    return mock.patch("harness.engine.sizing.psutil.virtual_memory", return_value=mock.Mock(total=total))


def test_a_cpu_has_many_rows_where_their_cache_is_a_small_part_of_its_memory(tiny_model: SubjectModel) -> None:
    config = tiny_model.hf.config
    token = tiny_model.n_layers * 2 * config.num_key_value_heads * config.head_dim * 4
    assert token_bytes(tiny_model) == token
    row = 512 * token
    with memory(4 * MANY * row):
        assert usual_rows(tiny_model) == TorchEngine(tiny_model).batch_size == MANY
    with memory(4 * MANY * row - 1):
        assert usual_rows(tiny_model) == USUAL


def test_a_model_without_keys_and_values_has_the_usual_number() -> None:
    hf = hf_of("MambaConfig", vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, pad_token_id=0)
    model = SubjectModel(hf, byte_tokenizer(), name="mamba")
    assert token_bytes(model) == float("inf")
    with memory(1e15):
        assert usual_rows(model) == USUAL


def test_a_number_of_rows_is_found_once_or_told(tiny_model: SubjectModel) -> None:
    engine = TorchEngine(tiny_model)
    assert isinstance(engine, Batching)
    with memory(1e15):
        assert engine.batch_size == MANY
    with memory(0):
        assert engine.batch_size == MANY
    engine.batch_size = 7
    assert engine.batch_size == 7
    with pytest.raises(EngineError) as error:
        engine.batch_size = 0
    assert error.value.allowed == "at least 1"


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [(512, 256, 256), (513, 256, 255), (700, 256, 187), (1024, 256, 128), (5000, 256, 128), (2048, 512, 128), (5000, 128, 128), (5000, 3, 3)],
)
def test_of_long_texts_there_are_fewer_but_not_fewer_than_usual(columns: int, rows: int, expected: int) -> None:
    assert rows_of(columns, rows) == expected


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
