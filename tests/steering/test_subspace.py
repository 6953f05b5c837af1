"""Replacing what the stream has along a direction: the fast way and the definition, row by row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import EngineError
from harness.interventions import EditContext, Site
from harness.steering.subspace import ReplaceAlong

D = 6


def edit(draw: np.random.Generator, offset: float) -> ReplaceAlong:
    direction = torch.from_numpy(draw.standard_normal(D)).float()
    return ReplaceAlong(Site(1), direction / direction.norm(), torch.from_numpy(draw.standard_normal(D)).float(), offset=offset)


@given(seed=st.integers(0, 2**16), offsets=st.lists(st.floats(-3, 3), min_size=1, max_size=4))
@settings(max_examples=40)
def test_rows_are_their_definition(seed: int, offsets: list[float]) -> None:
    draw = np.random.default_rng(seed)
    edits = [edit(draw, offset) for offset in offsets]
    x = torch.from_numpy(draw.standard_normal((len(edits), 5, D))).float()
    every = torch.ones(x.shape[:2], dtype=torch.bool)
    found = edits[0].stack(edits, torch.device("cpu")).apply(x, EditContext.of(every, ~every))
    assert len({one.batch_key for one in edits}) == 1
    for row, one in enumerate(edits):
        torch.testing.assert_close(found[row].double(), one.exact(x[row]), rtol=1e-4, atol=1e-5)
        w, v = one.direction.double().numpy(), one.vector.double().numpy()
        token = x[row, 0].double().numpy()
        np.testing.assert_allclose(one.exact(x[row])[0].numpy(), token - max(0.0, token @ w + one.offset) * w + v, atol=1e-9)


def test_what_is_not_a_direction_is_refused() -> None:
    with pytest.raises(EngineError) as error:
        ReplaceAlong(Site(0), 2 * torch.eye(D)[0], torch.zeros(D))
    assert error.value.given == 2
    with pytest.raises(EngineError):
        ReplaceAlong(Site(0), torch.eye(D)[0], torch.zeros(D + 1))
