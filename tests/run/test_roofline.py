"""The bound of a step of decoding, and what it is made of."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.model.footprint import footprint
from harness.model.limits import Limits, measure_limits
from harness.run.roofline import DEVICES, decoding_of

FACTS = {"weights": 2e9, "cache": 1e5, "parameters": 1e9}
RATES = st.floats(1e9, 1e16)


@given(RATES, RATES, st.integers(1, 4096), st.floats(0, 1e5))
def test_a_step_is_bound_by_memory_or_by_arithmetic(flops: float, bandwidth: float, rows: int, context: float) -> None:
    step, limits = decoding_of(FACTS, context), Limits(flops, bandwidth)
    memory, arithmetic = (2e9 + rows * context * 1e5) / bandwidth, 2e9 * rows / flops
    assert step.seconds(rows, limits) == pytest.approx(max(memory, arithmetic))
    assert step.bound_by(rows, limits) == ("memory" if memory >= arithmetic else "arithmetic")
    assert step.seconds(rows + 1, limits) >= step.seconds(rows, limits)
    assert (rows + 1) / step.seconds(rows + 1, limits) >= rows / step.seconds(rows, limits) * (1 - 1e-9), "a larger batch is never slower a token"


def test_a_model_of_two_billion_numbers_on_an_h100() -> None:
    """By hand: 2.6e9 parameters in bfloat16 are 5.2 GB, 1.55 ms at 3.35 TB/s; 128 rows compute 666 GFLOP, .67 ms at 989 TFLOP/s."""
    step = decoding_of({"weights": 5.2e9, "cache": 0, "parameters": 2.6e9}, 100)
    assert step.seconds(128, DEVICES["NVIDIA H100 SXM 80GB"]) == pytest.approx(1.552e-3, rel=1e-3)
    assert step.bound_by(128, DEVICES["NVIDIA H100 SXM 80GB"]) == "memory"
    assert step.bound_by(512, DEVICES["NVIDIA H100 SXM 80GB"]) == "arithmetic"


def test_weights_and_cache_of_a_real_model(tiny_model: Any) -> None:
    """stories260K ties its embeddings: 260,032 numbers are read; 5 layers of 4 key heads of 8 numbers are cached, keys and values."""
    found = footprint(tiny_model)
    assert (found["parameters"], found["weights"]) == (260_032, 4 * 260_032)
    assert found["cache"] == 2 * 5 * 4 * 8 * 4


def test_an_embedding_of_its_own_is_looked_up_not_read() -> None:
    import torch

    embedding, head = torch.nn.Embedding(10, 4), torch.nn.Linear(4, 10, bias=False)
    hf = SimpleNamespace(
        parameters=lambda: iter([embedding.weight, head.weight]),
        get_input_embeddings=lambda: embedding,
        get_output_embeddings=lambda: head,
        config=SimpleNamespace(),
    )
    found = footprint(SimpleNamespace(hf=hf, dtype=torch.bfloat16))  # type: ignore[arg-type]
    assert found == {"dtype": "bfloat16", "parameters": 40, "weights": 160, "cache": None}


def test_limits_of_this_machine_are_within_reason() -> None:
    import torch

    found = measure_limits(torch.device("cpu"), torch.float32, 0.0)
    assert 1e8 < found.flops < 1e16
    assert 1e8 < found.bandwidth < 1e14
