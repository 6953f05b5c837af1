"""Low-rank edits: their formula, which tokens they touch, and in batches that mix them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.edits import low_rank_edit, vector
from helpers.generation import generate
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.engine.base import GenerationRequest
from harness.engine.reference import ReferenceEngine
from harness.errors import EngineError
from harness.fitting.rotating import rotation
from harness.interventions import Edit, Positions, Site
from harness.model.loading import SubjectModel
from harness.steering.add_vector import AddVector
from harness.steering.low_rank import LowRank, low_rank
from harness.types import Decoding, rng

GREEDY = Decoding(max_new_tokens=8, temperature=0.0, min_new_tokens=8)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), width=st.integers(1, 12), tokens=st.integers(1, 5), data=st.data())
def test_it_has_its_formula(seed: int, width: int, tokens: int, data: st.DataObject) -> None:
    draw, rank = rng(seed, "low rank"), data.draw(st.integers(1, width))
    r = rotation(torch.from_numpy(draw.standard_normal((rank, width)))).float()
    w, b = (torch.from_numpy(draw.standard_normal(shape)).float() for shape in ((rank, width), (rank,)))
    x = torch.from_numpy(draw.standard_normal((tokens, width)))
    edit = LowRank(Site(1), r, w, b)
    rotate, weigh, offset = (part.double().numpy() for part in (r, w, b))
    expected = np.stack([row + rotate.T @ (weigh @ row + offset - rotate @ row) for row in x.numpy()])
    np.testing.assert_allclose(edit.exact(x).numpy(), expected, atol=1e-12)
    stacked = edit.stack([edit, edit], torch.device("cpu"))
    for row in stacked.apply(x.float()[None].expand(2, -1, -1), None):  # type: ignore[arg-type]
        np.testing.assert_allclose(row.numpy(), expected, atol=2e-5)


def test_it_is_pyrefts() -> None:
    """Output and gradients of ``pyreft.LoreftIntervention`` (0.1.0, float64) for the same R, W, b, as it was run in an environment of its own."""
    recorded = json.loads((Path(__file__).parent / "data" / "loreft_pyreft.json").read_text(encoding="utf-8"))
    base, r, w, b, grown = (torch.tensor(recorded[name], dtype=torch.float64) for name in ("base", "R", "W", "b", "G"))
    learnt = [tensor.requires_grad_() for tensor in (base, w, b)]
    rows = [tensor.expand(len(base), *tensor.shape) for tensor in (r, w, b)]
    found = low_rank(base, *rows)
    np.testing.assert_allclose(found.detach().numpy(), recorded["output"], atol=1e-10)
    (found * grown).sum().backward()  # type: ignore[no-untyped-call]
    for tensor, name in zip(learnt, ("grad_base", "grad_W", "grad_b"), strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad.numpy(), recorded[name], atol=1e-10)
    assert torch.allclose(rotation(r), r, atol=1e-10)  # its rows are orthonormal, and stay as they are


def test_what_is_none_is_refused() -> None:
    r, w, b = torch.eye(8)[:2], torch.zeros(2, 8), torch.zeros(2)
    for wrong in ((2 * r, w, b), (r, w[:, :3], b), (r, w, b[:1]), (r[0], w[0], b)):
        with pytest.raises(EngineError):
            LowRank(Site(1), *wrong)
    edit = LowRank(Site(1), r, w, b)
    with pytest.raises(EngineError) as error:
        edit.stack([edit], torch.device("cpu")).apply(torch.zeros(1, 2, 9), None)  # type: ignore[arg-type]
    assert error.value.given == 8


def test_what_is_within_the_directions_gives_way(tiny_model: SubjectModel) -> None:
    """With W = 0 the stream's part along R is b, and the rest is as it was."""
    edit = low_rank_edit(tiny_model, Site(1), 3)
    plain = replace(edit, weight=torch.zeros_like(edit.weight))
    x = torch.from_numpy(rng(0, "stream").standard_normal((4, tiny_model.d_model)))
    found, r = plain.exact(x), edit.rotation.double()
    torch.testing.assert_close(found @ r.T, edit.bias.double().expand(4, -1), atol=1e-5, rtol=0)
    rest = torch.eye(tiny_model.d_model).double() - r.T @ r
    torch.testing.assert_close(found @ rest, x @ rest, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_mixed_batch_is_its_rows_alone(make_model: Callable[[str], SubjectModel], name: str) -> None:
    """Of several ranks, sites and positions, beside vectors and none; and as the float64 reference has it."""
    model = make_model(name)
    ends = Positions(prompt=False, generated=False, first=2, last=2)
    programs: list[tuple[Edit, ...]] = [
        (low_rank_edit(model, Site(1)),),
        (),
        (low_rank_edit(model, Site(1), seed=1),),
        (low_rank_edit(model, Site(1), 3, ends), low_rank_edit(model, Site(2), 1, ends)),
        (AddVector(Site(1), vector(model, "v")), low_rank_edit(model, Site(1), 3, ends)),
        (low_rank_edit(model, Site(1), 3, ends), AddVector(Site(1), vector(model, "v"))),
    ]
    requests = [
        GenerationRequest(str(i), [1, *range(20 + 3 * i, 19 + 3 * i + n)], 0, edits)
        for i, (n, edits) in enumerate(zip([4, 7, 2, 5, 5, 5], programs, strict=True))
    ]
    together = {text.id: text.token_ids for text in generate(model, requests, GREEDY)}
    assert together == {request.id: next(generate(model, [request], GREEDY)).token_ids for request in requests}
    assert together == {text.id: text.token_ids for text in generate(model, requests[::-1], GREEDY, use_cache=False, batch_size=4)}
    assert together == {text.id: text.token_ids for text in ReferenceEngine(model).run(requests, GREEDY)}
    plain = {text.id: text.token_ids for text in generate(model, [replace(request, edits=()) for request in requests], GREEDY)}
    assert sum(plain[key] != together[key] for key in plain) >= 3, "the edits must do something"
